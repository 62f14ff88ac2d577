"""The preparation of a data set from the command line: its card, its picture, every mistake."""

import os
import stat

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from aevb_jax.runs import files
from tests.data.test_builders import REAL, needs_real_data
from tests.support import processes, tiny


def data(tmp_path, *arguments):
  flags = [f"--array_cache_dir={tmp_path / 'cache'}", f"--contact_sheet={tmp_path / 'sheet.png'}"]
  return processes.run("data", *flags, *arguments)


def one_clear_line(result):
  assert result.returncode == 2 and result.stdout == ""
  line = result.stderr.splitlines()[-1]
  assert line.startswith("error: ") and "Traceback" not in result.stderr
  return line


def test_the_card_of_the_digits(tmp_path):
  result = data(tmp_path)
  assert result.returncode == 0 and result.stderr == ""
  for words in ("digits, version", "licence   Creative Commons", "@misc{alpaydin1998optical"):
    assert words in result.stdout
  (train,) = [line for line in result.stdout.splitlines() if line.startswith("train")]
  assert train.split()[:6] == ["train", "1437", "8×8×1", "uint8", "0", "255"]
  assert "10 classes of 130 to 155" in train
  sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
  assert min(sheet.shape) > 400 and sheet.std() > 30


@pytest.mark.long
@needs_real_data
def test_mnist_from_its_server_to_its_card(tmp_path):
  bodies = {path.name: path.read_bytes() for path in (REAL / "mnist").iterdir()}
  flags = ["--dataset=mnist", f"--data_dir={tmp_path / 'tfds'}"]
  with tiny.server(bodies) as (address, asked):
    result = data(tmp_path, *flags, f"--mirror={address}")
  assert result.returncode == 0, result.stderr
  assert sorted(asked) == sorted(tiny.NAMES)
  assert result.stderr.splitlines() == [
    f"preparing mnist in {tmp_path / 'tfds' / 'mnist'}; this is done once"
  ]
  rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
  assert [rows[split][1] for split in ("train", "validation", "test")] == [
    "50000",
    "10000",
    "10000",
  ]
  assert rows["test"][6:8] == ["0.1325", "0.3105"]  # the known mean and std of MNIST's test images
  again = data(tmp_path, *flags)  # the server is gone
  assert again.returncode == 0 and again.stderr == ""


@needs_real_data
def test_a_damaged_cache_is_said_and_mended(tmp_path):
  flags = [
    "--dataset=frey_face:random",
    f"--data_dir={tmp_path / 'tfds'}",
    f"--manual_dir={REAL / 'frey_face'}",
  ]
  first = data(tmp_path, *flags)
  assert first.returncode == 0, first.stderr
  (array,) = (tmp_path / "cache").rglob("*.npy")
  contents = bytearray(array.read_bytes())
  contents[5000] ^= 255
  array.write_bytes(contents)
  again = data(tmp_path, *flags)
  assert again.returncode == 0 and "rebuilt" in again.stderr
  same = [[line for line in r.stdout.splitlines() if "read in" not in line] for r in (first, again)]
  assert same[0] == same[1]


@pytest.mark.parametrize(
  "behaviour, words",
  [(404, "404 Not Found"), ("cut", "cut before the end"), ("serve", "sha256")],
)
def test_a_server_that_fails(tmp_path, behaviour, words):
  with tiny.server(tiny.files(), behaviour) as (address, _):  # these are not the files of MNIST
    result = data(
      tmp_path, "--dataset=mnist", f"--data_dir={tmp_path / 'tfds'}", f"--mirror={address}"
    )
  line = one_clear_line(result)
  for word in ("--dataset=mnist", "train-images-idx3-ubyte.gz", words, "downloads/manual"):
    assert word in line
  assert not list(tmp_path.rglob("dataset_info.json")) and not (tmp_path / "sheet.png").exists()


def test_a_file_of_the_user_that_is_another(tmp_path):
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "frey_rawface.mat").write_bytes(b"MATLAB 5.0")
  result = data(
    tmp_path,
    "--dataset=frey_face:random",
    f"--data_dir={tmp_path / 'tfds'}",
    f"--manual_dir={tmp_path / 'mine'}",
  )
  line = one_clear_line(result)
  assert f"{tmp_path / 'mine' / 'frey_rawface.mat'} has sha256" in line and "or remove it" in line


def test_places_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  line = one_clear_line(data(tmp_path, f"--contact_sheet={tmp_path / 'file' / 'sheet.png'}"))
  assert "--contact_sheet=" in line and "cannot be written" in line


def test_nothing_is_made_for_a_data_set_that_is_not_there(tmp_path):
  sheet = tmp_path / "new" / "sheet.png"
  one_clear_line(data(tmp_path, "--dataset=no_such_set", f"--contact_sheet={sheet}"))
  assert not sheet.parent.exists()


def test_a_contact_sheet_that_is_a_directory(tmp_path):
  (tmp_path / "sheet.png").mkdir()
  result = data(tmp_path)
  assert result.returncode == 2 and "--contact_sheet=" in result.stderr.splitlines()[-1]
  assert not list(tmp_path.glob("*.partial"))


def pictures_of_others(path):
  """Returns functions, by kind, that put something else at the path of a picture."""
  other, ours = path.with_name("other.png"), path.with_name("ours.png")
  Image.new("L", (9, 9)).save(other)
  known = PngImagePlugin.PngInfo()
  known.add_text("Source", "aevb_jax")
  Image.new("L", (9, 9)).save(ours, pnginfo=known)
  return {
    "text": lambda: path.write_text("thesis"),
    "empty": lambda: path.write_text(""),
    "picture": lambda: other.rename(path),
    "cut": lambda: path.write_bytes(ours.read_bytes()[:20]),
    "link": lambda: path.symlink_to(ours),
    "broken link": lambda: path.symlink_to(path.with_name("nowhere")),
    "pipe": lambda: os.mkfifo(path),
    "device": lambda: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3)),
  }


KINDS = ("text", "empty", "picture", "cut", "link", "broken link", "pipe", "device")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_contact_sheet_is_not_replaced(kind, tmp_path):
  path = tmp_path / "sheet.png"
  try:
    pictures_of_others(path)[kind]()
  except PermissionError:
    pytest.skip("devices are made by root")
  state = lambda: (path.lstat().st_ino, path.lstat().st_mode, path.lstat().st_mtime_ns)
  before = state()
  line = one_clear_line(data(tmp_path, "--dataset=no_such_set"))  # before any data lookup
  assert f"--contact_sheet={path}: exists and is not a picture that aevb_jax drew" in line
  assert "name another file, or remove it" in line
  assert state() == before


def test_a_contact_sheet_is_drawn_anew(tmp_path):
  assert data(tmp_path).returncode == 0
  first = (tmp_path / "sheet.png").stat().st_ino
  assert files.is_our_picture(tmp_path / "sheet.png")
  assert data(tmp_path).returncode == 0
  assert (tmp_path / "sheet.png").stat().st_ino != first


def test_a_cache_that_cannot_be_written(tmp_path, float_images_dir):
  line = one_clear_line(
    data(
      tmp_path,
      "--dataset=float_images",
      f"--data_dir={float_images_dir}",
      "--array_cache_dir=/proc/nothing",
    )
  )
  assert "--array_cache_dir=/proc/nothing" in line
  assert "name another directory, or --array_cache_dir= for none" in line


def test_a_home_that_cannot_be_written_stops_nobody(tmp_path, float_images_dir, monkeypatch):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  flags = ["--dataset=float_images", f"--data_dir={float_images_dir}", "--batch_size=10"]
  flags += ["--likelihood=gaussian", "--nosigmoid_mean", "--num_importance_samples=0"]
  flags += ["--num_examples=20", "--hidden_dim=5", f"--workdir={tmp_path / 'run'}"]
  _, errors = (process := processes.start("train", *flags)).communicate(timeout=200)
  assert process.returncode == 0 and (tmp_path / "run" / "summary.json").exists(), errors
  programs, arrays = errors.splitlines()
  for line, name in ((programs, "compilation_cache_dir"), (arrays, "array_cache_dir")):
    assert line.startswith(f"warning: --{name}={tmp_path / 'file'}/aevb_jax/")
    assert "Not a directory" in line and "unless another directory is named" in line


def test_a_cache_of_programs_that_was_named_must_be_writable(tmp_path):
  result = processes.run("train", "--compilation_cache_dir=/proc/x", f"--workdir={tmp_path / 'a'}")
  line = one_clear_line(result)
  assert line.startswith("error: --compilation_cache_dir=/proc/x: cannot be made (")
  assert "name another directory, or --compilation_cache_dir= for none" in line
  assert not (tmp_path / "a").exists()


def test_no_cache(tmp_path, float_images_dir):
  result = data(
    tmp_path, "--dataset=float_images", f"--data_dir={float_images_dir}", "--array_cache_dir="
  )
  assert result.returncode == 0, result.stderr
  assert not (tmp_path / "cache").exists() and "float32" in result.stdout
