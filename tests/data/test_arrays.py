"""Data sets of a user's own arrays: in Python, in an .npz file, and from a function."""

import pathlib
import zipfile

import numpy as np
import pytest

from aevb_jax import data
from aevb_jax.data import array_cache, npz, protocols
from aevb_jax.data.minibatches import release_pages
from aevb_jax.errors import DataError

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)
TEST = RNG.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(50) % 7


def saved(path, *, save=np.savez, **entries):
  save(path, **dict(train=TRAIN, test=TEST) | entries)
  return f"arrays:{path}"


def is_mapped(array):
  while isinstance(array, np.ndarray):
    found, array = isinstance(array, np.memmap), array.base
  return found


def on_one_line(error):
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "shape, image_shape",
  [
    ((9, 49), (7, 7, 1)),
    ((9, 50), (1, 50, 1)),
    ((9, 4, 6), (4, 6, 1)),
    ((9, 4, 6, 3), (4, 6, 3)),
    ((9, 1), (1, 1, 1)),
  ],
)
def test_shapes(shape, image_shape):
  train = RNG.integers(0, 256, shape, dtype=np.uint8)
  images = data.from_arrays(train, train[:4], validation=train[:2])
  assert images.image_shape == image_shape
  np.testing.assert_array_equal(images.train, train.reshape(9, -1))
  assert [len(part) for part in images[:3]] == [9, 2, 4] and images.levels == 255


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f8", ">f4"])
def test_floats_are_single(dtype):
  x = RNG.random((10, 4)).astype(dtype)
  images = data.from_arrays(x, x)
  assert images.train.dtype == np.float32 == images.test.dtype
  np.testing.assert_array_equal(images.train, x.astype(np.float32))


def test_labels_stay_with_their_images():
  images = data.from_arrays(
    TRAIN, TEST, validation=TRAIN[:9], train_labels=LABELS, validation_labels=LABELS[:9],
    test_labels=list(range(20)),
  )  # fmt: skip
  np.testing.assert_array_equal(images.train_labels, LABELS)
  np.testing.assert_array_equal(images.validation_labels, LABELS[:9])
  np.testing.assert_array_equal(images.test_labels, np.arange(20))
  assert images.train_labels.dtype == np.int32


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("cached", [True, False])
def test_a_file_is_read_as_it_was_saved(save, cached, tmp_path):
  x = RNG.random((30, 16)) - 3
  cases = {
    "bytes": dict(validation=TRAIN[:7], train_labels=LABELS, levels=256),
    "floats": dict(train=x, test=x[:5].astype(np.float16)),
    "single": dict(train=x.astype(np.float32), test=x[:5].astype(">f4")),
    "by columns": dict(train=np.asfortranarray(TRAIN)),
  }
  cache_dir = str(tmp_path / "cache") if cached else None
  for name, entries in cases.items():
    dataset = saved(tmp_path / f"{name}.npz", save=save, **entries)
    for decode in (True, False):
      images = data.load(dataset, cache_dir=cache_dir, decode=decode)
      whole = dict(train=TRAIN, test=TEST) | entries
      for split in ("train", "validation", "test"):
        if split in whole:
          rows = whole[split].reshape(len(whole[split]), -1)
          dtype = np.uint8 if rows.dtype == np.uint8 else np.float32
          np.testing.assert_array_equal(getattr(images, split), rows.astype(dtype))
          assert getattr(images, split).dtype == dtype
      assert images.levels == whole.get("levels", 255)
      assert is_mapped(images.train) == (cached or save is np.savez and name in ("bytes", "single"))


def test_what_is_mapped_needs_no_cache_and_gives_its_pages_back(tmp_path):
  images = data.load(saved(tmp_path / "a.npz"), cache_dir=str(tmp_path / "cache"))
  assert not (tmp_path / "cache").exists()
  before = images.train.copy()
  release_pages(images.train)
  np.testing.assert_array_equal(images.train, before)
  with pytest.raises(ValueError):
    images.train[0] = 1


def test_large_arrays_are_decoded_in_blocks(tmp_path, monkeypatch):
  """The blocks join without a gap, and the memory of each goes back before the next."""
  monkeypatch.setattr("aevb_jax.data.minibatches.BLOCK_BYTES", 7 * 90)
  given, give_back = [], array_cache.give_back
  monkeypatch.setattr(npz, "give_back", lambda array: given.append(give_back(array)))
  dataset = saved(tmp_path / "a.npz", save=np.savez_compressed)
  images = data.load(dataset, cache_dir=str(tmp_path / "cache"))
  np.testing.assert_array_equal(images.train, TRAIN.reshape(50, -1))
  assert len(given) == 8 + 3  # of 7 images each


def test_the_cache_follows_the_file(tmp_path, monkeypatch):
  decoded, decode = [], npz.decode
  monkeypatch.setattr(npz, "decode", lambda *args: decoded.append(1) or decode(*args))
  path, cache_dir = tmp_path / "a.npz", str(tmp_path / "cache")
  load = lambda: data.load(f"arrays:{path}", cache_dir=cache_dir)
  saved(path, save=np.savez_compressed)
  first = load()
  assert load().version == first.version and len(decoded) == 2  # train and test, once
  saved(path, save=np.savez_compressed, train=255 - TRAIN)
  second = load()
  assert len(decoded) == 4 and second.version != first.version
  np.testing.assert_array_equal(second.train, 255 - TRAIN.reshape(50, -1))
  saved(path, train=255 - TRAIN)  # the same arrays, packed in another way
  assert load().version == second.version


def flipped(path, at):
  contents = bytearray(path.read_bytes())
  contents[at] ^= 255
  path.write_bytes(bytes(contents))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("at", [700, -30, 2000, -300])
def test_a_damaged_file_is_refused(save, at, tmp_path):
  path = tmp_path / "a.npz"
  dataset = saved(path, save=save)
  flipped(path, at)
  with pytest.raises(DataError, match="a.npz.*(np.savez|is a damaged|has )") as error:
    data.load(dataset)
  on_one_line(error)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_that_is_cut_short_is_refused(save, tmp_path):
  path = tmp_path / "a.npz"
  dataset = saved(path, save=save)
  whole = path.read_bytes()
  for length in (0, 10, 1000, len(whole) - 1):
    path.write_bytes(whole[:length])
    with pytest.raises(DataError, match="a.npz is (not an intact|a damaged) .npz file") as error:
      data.load(dataset)
    on_one_line(error)


FLOATS = np.full((5, 4), 0.5)
BAD = [
  (dict(tests=TEST), "has an entry 'tests'; takes train, validation, test, train_labels"),
  (dict(test=None), "has no entry 'test'; it has train"),
  (dict(train=None), "has no entry 'train'"),
  (dict(train=TRAIN[0, 0, 0]), r": train is of shape \(3,\); \(N, D\), \(N, H, W\) or"),
  (dict(train=TRAIN[None]), r": train is of shape \(1, 50, 6, 5, 3\)"),
  (dict(test=TEST[:0]), ": test has no images"),
  (dict(train=TRAIN[:, :0], test=TEST[:, :0]), ": train has images without pixels"),
  (dict(test=TEST[:, :5]), ": train has images of 6×5×3 and test of 5×5×3; all images need one"),
  (dict(train=TRAIN.astype(int)), r"type int64; save .astype\(np.uint8\)"),
  (dict(train=TRAIN.astype(np.int8)), r"type int8; save .astype\(np.uint8\)"),
  (dict(train=TRAIN > 100), r"type bool; save .astype\(np.uint8\) with levels=1"),
  (dict(train=TRAIN.astype(complex)), "type complex128; save uint8, or floats"),
  (dict(train=TRAIN.astype(str)), "type <U3; save uint8, or floats"),
  (dict(train=np.asarray([[1], [2, 3]], object)), "'train' of Python objects; save an array"),
  (dict(train=TRAIN / 255), "train has pixels of type float64 and test of type uint8; make them"),
  (dict(train_labels=LABELS[:9]), ": train has 50 images and 9 labels"),
  (dict(train_labels=LABELS / 2), "train_labels is of type float64 and shape"),
  (dict(train_labels=LABELS[None]), r"train_labels is of type int64 and shape \(1, 50\)"),
  (dict(train_labels=LABELS + 2**31), "train_labels has numbers beyond 2147483647"),
  (dict(validation_labels=LABELS), "validation_labels has no images; validation is missing"),
  (dict(train=TRAIN // 128, test=TEST // 128), "only the pixels 0 and 1, .* give levels=1 .*float"),
  (dict(levels=1), "train has a pixel 255, and levels is 1"),
  (dict(train=TRAIN // 16, levels=15), "test has a pixel 255, and levels is 15"),
  (dict(levels=0), "levels is 0"),
  (dict(levels=255.0), "levels is 255.0"),
  (dict(levels=[255]), r"levels is \[255\]"),
  (dict(train=FLOATS, test=FLOATS, levels=1), "levels is 1, which divides uint8 pixels, and these"),
]  # fmt: skip


@pytest.mark.parametrize("entries, words", BAD)
def test_what_cannot_be_used_is_named(entries, words, tmp_path):
  path = tmp_path / "mine.npz"
  whole = dict(train=TRAIN, test=TEST) | entries
  np.savez(path, **{name: array for name, array in whole.items() if array is not None})
  with pytest.raises(DataError, match=f"mine.npz.*{words}") as error:
    data.load(f"arrays:{path}", cache_dir=str(tmp_path / "cache"))
  on_one_line(error)
  assert not (tmp_path / "cache").exists()


def test_binary_pixels_of_one_level():
  bits = np.uint8(TRAIN > 100)
  assert data.from_arrays(bits, bits, levels=1).levels == 1
  data.from_arrays(bits.astype(np.float32), bits.astype(np.float32))
  data.from_arrays(bits * 2, bits)  # two levels are rare, and no mistake


def test_files_that_are_none(tmp_path):
  np.save(tmp_path / "one.npy", TRAIN)
  (tmp_path / "text.npz").write_text("pixels")
  with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
    archive.writestr("train.txt", "pixels")
  for name, words in {
    "missing.npz": ": no such file",
    "one.npy": r"is a single array; save np.savez\(",
    "text.npz": "is not an intact .npz file",
    "zip.npz": "has 'train.txt', which is no array",
    "": "cannot be read",
  }.items():
    with pytest.raises(DataError, match=words) as error:
      data.load(f"arrays:{tmp_path / name}")
    on_one_line(error)
  with pytest.raises(DataError, match="arrays: takes a file"):
    data.load("arrays:")


def test_nothing_is_unpickled(tmp_path):
  ran = tmp_path / "ran"

  class Bad:
    def __reduce__(self):
      return pathlib.Path.touch, (ran,)

  for entries in (dict(train=np.asarray([Bad()])), dict(train_labels=np.asarray([Bad()]))):
    with pytest.raises(DataError, match="of Python objects"):
      data.load(saved(tmp_path / "a.npz", **entries))
  assert not ran.exists()


MODULE = """
import numpy as np
from aevb_jax import data

calls = []

def load(number=20, **more):
  calls.append(more)
  x = np.random.default_rng(0).random((number, 3, 5))
  return data.from_arrays(x, x[:4], train_labels=range(number))

def rows():
  x = np.zeros((5, 15), np.float64)
  return data.ImageData(x, None, x, (3, 5, 1))

def wrong(how):
  good = rows()
  if how == "array":
    return good.train
  if how == "fails":
    return 1 / 0
  return good._replace(**{
    "shape": dict(image_shape=(3, 4, 1)),
    "list": dict(train=[[0.5]]),
    "ints": dict(test=np.zeros((5, 15), int)),
    "images": dict(test=np.zeros((5, 3, 5))),
    "labels": dict(test_labels=np.zeros(3, int)),
    "no test": dict(test=None),
    "flat": dict(image_shape=15),
  }[how])

table = {}
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
  (tmp_path / "my_own_images.py").write_text(MODULE)
  monkeypatch.syspath_prepend(str(tmp_path))
  yield "my_own_images"


def test_a_function_of_ones_own(own_module):
  images = data.load(f"{own_module}:load:number=30:word=a:half=0.5")
  assert images.train.shape == (30, 15) and images.image_shape == (3, 5, 1)
  assert images.train.dtype == np.float32 and images.version.endswith("(of its module)")
  import my_own_images

  assert my_own_images.calls[-1] == dict(word="a", half=0.5)
  assert data.load(f"{own_module}:rows").train.dtype == np.float32


@pytest.mark.parametrize(
  "name, words",
  [
    ("nowhere_at_all:load", "nowhere_at_all:load cannot be imported: .*No module named"),
    ("{}:no_such", "cannot be imported"),
    ("{}:table", "is dict, which cannot be called"),
    ("{}:rows:number=3", "is called with .*number.*, which it does not accept"),
    ("{}:load:number", "name=value, not 'number'"),
    ("{}:wrong:how=fails", "fails: ZeroDivisionError: division by zero .*my_own_images.py, line"),
    ("{}:wrong:how=array", "returns ndarray; ImageData is needed"),
    ("{}:wrong:how=shape", r"train is of shape \(5, 15\); rows \(N, 12\) go with its image_shape"),
    ("{}:wrong:how=list", "train is of type list; an array of rows"),
    ("{}:wrong:how=ints", "test has pixels of type int64"),
    ("{}:wrong:how=images", r"test is of shape \(5, 3, 5\); rows"),
    ("{}:wrong:how=labels", "test has 5 images and 3 labels"),
    ("{}:wrong:how=no test", "test is missing"),
    ("{}:wrong:how=flat", "image_shape is 15; three sizes"),
  ],
)
def test_a_function_that_cannot_be_used_is_named(name, words, own_module):
  name = name.format(own_module)
  with pytest.raises(DataError, match=words) as error:
    data.load(name)
  assert str(error.value).startswith(":".join(name.split(":")[:2]))
  on_one_line(error)


def test_kinds_of_names():
  kinds = {
    "digits": "digits",
    "mnist": "protocol",
    "mnist:60k": "protocol",
    "frey_face:random": "protocol",
    "arrays:x.npz": "arrays",
    "images:x:seed=1": "images",
    "my:f": "function",
    "my.package:f:n=1": "function",
    "mnist:60": "tfds",
    "mnist:3.0.1": "tfds",
    "mnist:sixty": "tfds",
    "frey_face": "tfds",
    "cifar10": "tfds",
    "cifar10:3.0.2": "tfds",
    "a/b:1.0.0": "tfds",
    ":": "tfds",
    "mnist:": "tfds",
  }
  assert {name: protocols.kind_of(name) for name in kinds} == kinds


def test_a_path_without_its_kind_gets_a_hint(tmp_path):
  saved(tmp_path / "a.npz")
  with pytest.raises(DataError, match=f"did you mean arrays:{tmp_path}/a.npz?"):
    data.load(f"{tmp_path}/a.npz", str(tmp_path))
