"""The preparation of a data set from the command line: its card, its picture, every mistake."""

import os
import stat

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from aevb_jax import data as package_data
from aevb_jax import runs
from aevb_jax.errors import ConfigError, DataError
from aevb_jax.runs import files
from aevb_jax.runs import pixels as run_pixels
from tests.data import own_images
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


def test_a_contact_sheet_is_drawn_again(tmp_path):
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


RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (60, 6, 5), dtype=np.uint8)
SHORT = dict(
  hidden_dim=(5,), batch_size=10, num_examples=100, eval_every=100, num_importance_samples=0
)


@pytest.fixture
def own(tmp_path):
  """Names of data sets of one's own, by kind."""
  place = tmp_path / "own"
  place.mkdir()
  np.savez(place / "mine.npz", train=TRAIN, test=TRAIN[:20], train_labels=np.arange(60) % 4)
  for i in range(20):
    folder = place / "pictures" / "ab"[i % 2]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(TRAIN[i]).save(folder / f"{i}.png")
  (place / "not.npz").write_text("pixels")
  return {
    "arrays": f"arrays:{place / 'mine.npz'}",
    "images": f"images:{place / 'pictures'}:test=0.2",
    "function": "tests.data.own_images:load:number=50",
  }


@pytest.mark.parametrize(
  "kind, path, version, protocol, train",
  [
    ("arrays", "mine.npz", "(of the checksums in the file)", "the splits of the file", "60 6×5×1"),
    ("images", "pictures", "(of 20 names and sizes)", "seed 0, test 0.2, validat", "14 6×5×1"),
    ("function", own_images.__file__, "(of its module)", "the arrays that", "50 4×4×1"),
  ],
)
def test_the_card_of_ones_own(kind, path, version, protocol, train, own, tmp_path):
  result = data(tmp_path, f"--dataset={own[kind]}")
  assert result.returncode == 0 and result.stderr == ""
  lines = {line.split()[0]: line for line in result.stdout.splitlines()[1:] if line}
  assert version in result.stdout.splitlines()[0] and protocol in lines["protocol"]
  assert lines["licence"].split() == ["licence", "not", "stated"]
  assert lines["path"].split() == ["path", str(tmp_path / "own" / path)]
  assert lines["train"].split()[1:3] == train.split()
  assert "UCI" not in result.stdout and files.is_our_picture(tmp_path / "sheet.png")


def test_ones_own_is_trained_streamed_or_not_and_opened(own, tmp_path):
  config = runs.replace(runs.Config(), dataset=own["images"], **SHORT)
  resident, streamed = (
    runs.train(runs.replace(config, max_resident_mb=most), tmp_path / name, array_cache_dir=cache)
    for name, most, cache in (("a", 100.0, str(tmp_path / "cache")), ("b", 0.0, None))
  )
  assert not resident.summary["streamed"] and streamed.summary["streamed"]
  assert resident.metrics[-1]["train_bound"] == streamed.metrics[-1]["train_bound"]
  for name in ("test_bound", "dataset_version", "protocol"):
    assert resident.summary[name] and resident.summary[name] == streamed.summary[name], name
  assert resident.data.version == resident.summary["dataset_version"]


def test_a_function_is_called_once(own):
  for cache in (None, "unused"):
    before = len(own_images.calls)
    images = run_pixels.load_data(runs.config.DataConfig(own["function"]), cache)
    assert len(images.train) == 50 and len(own_images.calls) == before + 1


def test_a_relative_path_is_in_data_dir(own, tmp_path):
  load = lambda place: run_pixels.load_data(
    runs.config.DataConfig("arrays:mine.npz", data_dir=str(tmp_path / place)), None
  )
  assert len(load("own").train) == 60
  with pytest.raises(DataError, match="moved/mine.npz: no such file"):
    load("moved")


@pytest.mark.parametrize(
  "dataset, words",
  [
    ("arrays:{}/missing.npz", "{}/missing.npz: no such file"),
    ("arrays:{}/not.npz", "is not an intact .npz file"),
    ("images:{}/empty", "has no images; takes PNG and JPEG files"),
    ("images:{}/pictures:test=0.01", "leave none to test; change the fractions"),
    ("images:{}/pictures:tests=0.1", "has the argument tests as well; takes seed, test, valid"),
    ("tests.data.own_images:calls", "tests.data.own_images:calls is list, which cannot be called"),
    ("tests.data.own_images:load:number=0", "load fails: DataError: train has no images"),
    ("{}/mine.npz", "did you mean arrays:{}/mine.npz?"),
    ("mnist:60", "did you mean mnist:60k"),
    ("frey_face", "name frey_face:random or frey_face:contiguous"),
  ],
)
@pytest.mark.parametrize("main", ["data", "train"])
def test_a_mistake_in_ones_own_is_one_line(main, dataset, words, own, tmp_path):
  place = tmp_path / "own"
  flags = [f"--dataset={dataset.format(place)}", f"--array_cache_dir={tmp_path / 'cache'}"]
  flags += [f"--workdir={tmp_path / 'run'}" if main == "train" else "--contact_sheet="]
  (place / "empty").mkdir()
  result = processes.run(main, *flags, f"--data_dir={tmp_path / 'tfds'}")
  line = one_clear_line(result)
  assert line.startswith(f"error: {flags[0]}: ") and words.format(place) in line
  assert sorted(path.name for path in tmp_path.iterdir()) == ["own"]


def load_images(dataset, **values):
  config = runs.replace(runs.Config(), dataset=f"arrays:{dataset}", batch_size=5, **values)
  return run_pixels.load_images(config, None)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("value", [-0.001, 1.001])
def test_a_sigmoid_cannot_be_the_mean_of_pixels_beyond_it(split, value, tmp_path):
  x = {name: np.full((9, 4), 0.5) for name in ("train", "validation", "test")}
  x["train"][0, :2] = 0, 1  # the borders are allowed
  np.savez(tmp_path / "a.npz", **x)
  load_images(tmp_path / "a.npz", likelihood="gaussian")
  x[split][3, 1] = value
  np.savez(tmp_path / "a.npz", **x)
  with pytest.raises(ConfigError, match="^sigmoid_mean=True: .*use --nosigmoid_mean, or scale"):
    load_images(tmp_path / "a.npz", likelihood="gaussian")
  with pytest.raises(ConfigError, match="^likelihood=bernoulli: takes pixels in"):
    load_images(tmp_path / "a.npz")
  load_images(tmp_path / "a.npz", likelihood="gaussian", sigmoid_mean=False)
  load_images(tmp_path / "a.npz", likelihood="cauchy")


def test_pixels_of_two_levels_are_no_8_bits(tmp_path):
  bits = np.uint8(TRAIN > 100)
  np.savez(tmp_path / "a.npz", train=bits, test=bits, levels=1)
  assert load_images(tmp_path / "a.npz").levels == 1
  for name, value in dict(pixel_scale=255, dequantization=True).items():
    with pytest.raises(ConfigError, match=f"^{name}=.* are at most levels=1"):
      load_images(tmp_path / "a.npz", **{name: value})


def test_names_of_files_have_no_directories(own):
  name = lambda dataset: run_pixels.file_name(runs.config.DataConfig(dataset))
  assert [name(own[kind]) for kind in ("arrays", "images")] == ["arrays-mine", "images-pictures"]
  assert name("mnist:60k") == "mnist-60k" and len(name("a:" + "b" * 300)) == 100


def test_the_data_of_python_are_the_same(own):
  there = package_data.load(own["arrays"])
  here = package_data.from_arrays(TRAIN, TRAIN[:20], train_labels=np.arange(60) % 4)
  for name in ("train", "test", "train_labels"):
    np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
  assert here.image_shape == there.image_shape
