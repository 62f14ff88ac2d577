"""The cache of decoded arrays is used only when it is intact."""

import json
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from aevb_jax import errors
from aevb_jax.data import array_cache

ARRAY = np.arange(600, dtype=np.uint8).reshape(100, 3, 2)
SOURCE = {"version": "1.0.0", "files": {"a": [1, 2]}}
ROOT = pathlib.Path(__file__).parents[2]


class Decoder:
  """Counts how often arrays are decoded."""

  def __init__(self, array=ARRAY):
    self.array, self.calls = array, 0

  def __call__(self, create):
    self.calls += 1
    create("images", self.array.shape, self.array.dtype)[:] = self.array
    create("labels", (3,), np.dtype(np.int32))[:] = [1, 2, 3]


@pytest.fixture
def filled(tmp_path):
  directory = tmp_path / "some" / "cache"
  decoder = Decoder()
  array_cache.fetch(directory, SOURCE, decoder)
  assert decoder.calls == 1
  return directory


def left_behind(parent):
  return [path.name for path in parent.iterdir() if path.suffix != ".lock"]


def fetch_again(directory, source=SOURCE, array=ARRAY):
  """Fetches arrays, checks them, and returns whether they were decoded again."""
  decoder = Decoder(array)
  arrays = array_cache.fetch(directory, source, decoder)
  np.testing.assert_array_equal(arrays["images"], array)
  np.testing.assert_array_equal(arrays["labels"], [1, 2, 3])
  assert arrays["images"].dtype == np.uint8 and arrays["labels"].dtype == np.int32
  assert left_behind(directory.parent) == [directory.name]
  return decoder.calls == 1


def test_an_intact_cache_is_used(filled):
  assert not fetch_again(filled)
  arrays = array_cache.fetch(filled, SOURCE, Decoder())
  assert isinstance(arrays["images"], np.memmap) and not arrays["images"].flags.writeable


def test_the_index_says_what_is_there(filled):
  index = json.loads((filled / "index.json").read_text())
  assert index["source"] == SOURCE
  assert index["arrays"]["images"]["shape"] == [100, 3, 2]
  assert len(index["arrays"]["images"]["sha256"]) == 64


def edit(path, change):
  contents = bytearray(path.read_bytes())
  change(contents)
  path.write_bytes(bytes(contents))


def flip_a_pixel(contents):
  contents[-5] ^= 1


def cut(contents):
  del contents[-100:]


def empty(contents):
  contents.clear()


@pytest.mark.parametrize(
  "name, change",
  [
    *[(name, change) for name in ("images.npy", "labels.npy") for change in (flip_a_pixel, cut)],
    *[(name, empty) for name in ("images.npy", "labels.npy", "index.json")],
    ("index.json", cut),
  ],
)
def test_a_damaged_cache_is_noticed_and_made_again(filled, name, change, caplog):
  edit(filled / name, change)
  assert fetch_again(filled)
  assert "rebuilt" in caplog.text and str(filled) in caplog.text
  assert not fetch_again(filled)


@pytest.mark.parametrize(
  "change",
  [
    lambda index: index.update(format=99),
    lambda index: index["source"].update(version="2.0.0"),
    lambda index: index["arrays"]["images"].update(shape=[100, 2, 3]),
    lambda index: index["arrays"]["images"].update(dtype="int8"),
    lambda index: index["arrays"]["images"].update(sha256="0" * 64),
    lambda index: index["arrays"].update(other={"sha256": "", "shape": [], "dtype": "uint8"}),
    lambda index: index["arrays"].pop("labels"),
    lambda index: index.update(arrays={}),
    lambda index: index.pop("arrays"),
    lambda index: index.update(arrays=7),
  ],
)
def test_an_index_that_says_something_else(filled, change):
  path = filled / "index.json"
  index = json.loads(path.read_text())
  change(index)
  path.write_text(json.dumps(index))
  assert fetch_again(filled)


def test_a_missing_array(filled):
  (filled / "labels.npy").unlink()
  assert fetch_again(filled)


def test_another_source_replaces_the_cache(filled, caplog):
  assert fetch_again(filled, {**SOURCE, "version": "1.0.1"}, ARRAY + 1)
  assert caplog.text == ""  # nothing was damaged


def test_a_replaced_cache_stays_readable_for_who_has_it_open(filled):
  before = array_cache.fetch(filled, SOURCE, Decoder())["images"]
  fetch_again(filled, {"version": "2"}, ARRAY + 1)
  np.testing.assert_array_equal(before, ARRAY)


def test_what_a_killed_process_left_is_removed(filled):
  leftover = filled.with_name(f"{filled.name}.partial-abc")
  leftover.mkdir()
  (leftover / "images.npy").write_bytes(b"half")
  assert fetch_again(filled, {"version": "2"})
  assert not leftover.exists()


def test_decoding_that_fails_leaves_nothing(tmp_path):
  def write(create):
    create("images", (10,), np.dtype(np.uint8))
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    array_cache.fetch(tmp_path / "cache", SOURCE, write)
  assert left_behind(tmp_path) == []


def test_many_processes_replace_an_old_cache_at_once(filled):
  program = f"""
    import pathlib
    from aevb_jax.data import array_cache
    from tests.data.test_array_cache import Decoder
    for version in range(30):
      decoder = Decoder()
      arrays = array_cache.fetch(pathlib.Path({str(filled)!r}), {{"version": version}}, decoder)
      assert (arrays["images"] == decoder.array).all()
    print("done")
  """
  command = [sys.executable, "-c", textwrap.dedent(program)]
  pipes = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
  for process in processes:
    out, errors = process.communicate(timeout=120)
    assert out == "done\n", errors
  assert left_behind(filled.parent) == [filled.name]


def test_a_directory_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.CacheError, match="file/cache cannot be written"):
    array_cache.fetch(tmp_path / "file" / "cache", SOURCE, Decoder())


def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path):
  program = f"""
    import pathlib, resource
    from aevb_jax.data import array_cache
    from aevb_jax.errors import CacheError
    from tests.data.test_array_cache import Decoder
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
    try:
      array_cache.fetch(pathlib.Path({str(tmp_path)!r}) / "cache", {{}}, Decoder())
    except CacheError as error:
      print(error)
  """
  result = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr
  assert "cannot be written (File too large)" in result.stdout
  assert left_behind(tmp_path) == []


def resident_mib():
  (line,) = [
    line
    for line in pathlib.Path("/proc/self/status").read_text().splitlines()
    if line.startswith("VmRSS")
  ]
  return int(line.split()[1]) / 1024


def test_what_is_given_back_is_written_and_takes_no_memory(tmp_path):
  """64 MiB are written by blocks of 1 MiB; without the call the process would hold them all."""

  def grown(directory, give_back):
    before, most = resident_mib(), []

    def write(create):
      array = create("images", (64, 2**20), np.dtype(np.uint8))
      for i in range(64):
        array[i] = i + 1
        give_back(array)
        most.append(resident_mib() - before)

    arrays = array_cache.fetch(directory, SOURCE, write)
    np.testing.assert_array_equal(arrays["images"][:, ::4096].min(axis=1), np.arange(1, 65))
    return max(most)

  assert grown(tmp_path / "a", array_cache.give_back) < 16
  assert grown(tmp_path / "b", lambda array: None) > 48
  array = np.ones(3)
  array_cache.give_back(array[1:])  # an array in memory is left as it is
  assert array.sum() == 3
