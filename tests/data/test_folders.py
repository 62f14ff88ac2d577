"""Data sets of a user's own folders of images."""

import os

import numpy as np
import pytest
from PIL import Image

from aevb_jax import data
from aevb_jax.data import folders, protocols
from aevb_jax.data.minibatches import read_rows
from aevb_jax.errors import DataError

RNG = np.random.default_rng(0)


def write(path, pixels=None, mode=None, **how):
  """Writes an image, by default of random pixels; returns the pixels that the file holds."""
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8) if pixels is None else pixels
  image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
  image = image.convert(mode) if mode else image
  kind = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"
  image.save(path, kind, **how)
  return np.asarray(Image.open(path))


@pytest.fixture
def folder(tmp_path):
  """A folder of 40 images of two classes; `.pixels` by their names."""
  root = tmp_path / "pictures"
  pixels = {}
  for i in range(40):
    name = f"{'cat' if i % 4 else 'ant'}/{i}{('.png', '.PNG', '.jpg', '.JPEG')[i % 4]}"
    pixels[name] = write(root / name)
  (root / "cat" / "notes.txt").write_text("not an image")
  (root / ".hidden").mkdir()
  return root, pixels


def of_rows(rows):
  return sorted(row.tobytes() for row in np.asarray(rows))


def test_a_folder_is_split_at_random(folder):
  root, pixels = folder
  images = data.load(f"images:{root}")
  assert [len(part) for part in images[:3]] == [32, 4, 4] and images.image_shape == (6, 4, 3)
  assert of_rows(np.concatenate(images[:3])) == sorted(p.tobytes() for p in pixels.values())
  labels = {p.tobytes(): int(name.startswith("cat")) for name, p in pixels.items()}
  for split in ("train", "validation", "test"):
    rows, own = getattr(images, split), getattr(images, f"{split}_labels")
    assert [labels[row.tobytes()] for row in rows] == own.tolist()
  assert 0 < images.train_labels[:16].mean() < 1  # the first images are of all classes
  assert "seed 0" in images.protocol and "test 0.1" in images.protocol


def test_the_split_depends_on_names_seed_and_fractions_only(folder, tmp_path):
  root, pixels = folder
  tests = lambda where, **how: of_rows(data.from_folder(where, **how).test)
  first = tests(root)
  copy = tmp_path / "copy"
  for name in sorted(pixels, reverse=True):  # written in another order, at another time
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes((root / name).read_bytes())
  assert tests(copy) == first != tests(root, seed=1)
  assert set(first) < set(tests(root, test=0.3)) and len(tests(root, test=0.3)) == 12
  assert data.from_folder(copy).version == data.from_folder(root, seed=1).version
  assert data.from_folder(root, validation=0).validation is None


def test_one_more_image_leaves_most_of_the_split(folder):
  root, _ = folder
  before = set(of_rows(data.from_folder(root, test=0.25).test))
  write(root / "cat" / "another.png")
  assert len(before & set(of_rows(data.from_folder(root, test=0.25).test))) >= 9  # of 10


def test_arguments_are_read_from_the_end(tmp_path):
  path = tmp_path / "a:b=c"
  path.mkdir()
  where = lambda text: protocols.path_of(f"images:{tmp_path}/{text}")
  assert where("a:b=c") == (path, {})
  assert where("a:b=c:seed=3:test=0.2:validation=0") == (
    path, dict(seed=3, test=0.2, validation=0),
  )  # fmt: skip
  assert protocols.path_of("images:some", str(tmp_path))[0] == tmp_path / "some"
  for text, words in {
    "a:sed=1": "has the argument sed as well; takes seed, test, validation",
    "a:seed=1:seed=2": "has the argument seed twice",
  }.items():
    with pytest.raises(DataError, match=words):
      where(text)


@pytest.mark.parametrize("cached", [True, False])
def test_a_folder_that_is_split_already(cached, tmp_path):
  names = ["train/a.png", "train/b.jpg", "train/c.png", "test/a.png", "validation/z.JPG"]
  pixels = {name: write(tmp_path / "set" / name) for name in names}
  how = dict(cache_dir=str(tmp_path / "cache") if cached else None)
  images = data.load(f"images:{tmp_path / 'set'}", **how)
  for split in ("train", "validation", "test"):
    own = sorted(p.tobytes() for name, p in pixels.items() if name.startswith(split))
    assert of_rows(getattr(images, split)) == own
    assert getattr(images, f"{split}_labels") is None
  with pytest.raises(DataError, match="is split by its folders"):
    data.load(f"images:{tmp_path / 'set'}:test=0.2", **how)


def test_classes_are_numbered_alike_in_all_splits(tmp_path):
  for name in ("train/b/1.png", "train/c/1.png", "test/a/1.png", "test/c/1.png"):
    write(tmp_path / name)
  images = data.from_folder(tmp_path)
  assert sorted(images.train_labels) == [1, 2] and sorted(images.test_labels) == [0, 2]


def test_decoded_cached_and_streamed_are_the_same(folder, tmp_path):
  root, _ = folder
  dataset, cache = f"images:{root}:seed=5", str(tmp_path / "cache")
  decoded, cached = data.load(dataset), data.load(dataset, cache_dir=cache)
  streamed = data.load(dataset, decode=False)
  assert isinstance(streamed.train, folders.Images) and isinstance(cached.train.base, np.ndarray)
  for split in ("train", "validation", "test"):
    rows = getattr(decoded, split)
    for other in (cached, streamed):
      source = getattr(other, split)
      assert source.shape == rows.shape and source.dtype == rows.dtype
      np.testing.assert_array_equal(read_rows(source, np.arange(len(rows))), rows)
      np.testing.assert_array_equal(source[3], rows[3])
      np.testing.assert_array_equal(read_rows(source[1:3], [1]), rows[2:3])
      labels = getattr(decoded, f"{split}_labels")
      np.testing.assert_array_equal(getattr(other, f"{split}_labels"), labels)
  assert decoded.version == cached.version == streamed.version


def test_the_cache_follows_the_files(folder, tmp_path, monkeypatch):
  root, _ = folder
  made = []
  monkeypatch.setattr(folders, "Images", lambda *args: made.append(1) or IMAGES(*args))
  load = lambda more="": data.load(f"images:{root}{more}", cache_dir=str(tmp_path / "cache"))
  load(), load()
  assert len(made) == 1
  load(":test=0.2:validation=0.3")  # other fractions are other slices of the same cache
  assert len(made) == 1
  pixels = write(root / "cat" / "1.PNG")
  assert pixels.tobytes() in of_rows(np.concatenate(load()[:3])) and len(made) == 2
  os.utime(root / "cat" / "2.jpg", ns=(5, 5))
  load()
  assert len(made) == 3
  load(":seed=1"), load()
  assert len(made) == 4


IMAGES = folders.Images


@pytest.mark.parametrize(
  "mode, channels",
  [("L", 1), ("1", 1), ("RGB", 3), ("RGBA", 4), ("P", 3), ("LA", 4)],
)
def test_modes(mode, channels, tmp_path):
  colours = {"P": "RGB", "LA": "RGBA", "1": "L"}.get(mode, mode)
  for i in range(10):
    write(tmp_path / f"{i}.png", mode=mode)
  images = data.from_folder(tmp_path)
  assert images.image_shape == (6, 4, channels)
  there = [np.asarray(Image.open(tmp_path / f"{i}.png").convert(colours)) for i in range(10)]
  assert of_rows(np.concatenate(images[:3])) == sorted(p.tobytes() for p in there)


def grey(path):
  write(path, mode="L")


def small(path):
  write(path, np.zeros((3, 4, 3), np.uint8))


def deep(path):
  write(path, Image.fromarray(np.zeros((6, 4), np.uint16)))


def damaged(path):
  write(path)
  path.write_bytes(path.read_bytes()[:-40])


def empty(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(b"")


def webp(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.with_suffix(".webp").write_bytes(b"")


def nested(path):
  write(path.parent / "below" / "below" / path.name)


CASES = {  # by what is put into a folder of ten images of two classes
  grey: r"(\S+.png) is RGB \(3 channels\) and \S+.png is grey \(1 channel\)|grey .* is RGB",
  small: r"\S+.png is (4×6|4×3) and \S+.png is (4×6|4×3) pixels; make all images of one size",
  deep: r"odd.png has pixels of mode I;16; save it with 8 bits",
  damaged: r"odd.png is not an intact PNG or JPEG file \(.+\)",
  empty: r"odd.png is not an intact PNG or JPEG file \(it begins like no PNG or JPEG\)",
  webp: r"odd.webp is neither PNG nor JPEG; convert it",
  nested: r"a has a folder below/; put its images above it",
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("how", ["decoded", "cached", "streamed"])
def test_what_cannot_be_used_is_named(kind, how, tmp_path):
  for i in range(10):
    write(tmp_path / "set" / "ab"[i % 2] / f"{i}.png")
  kind(tmp_path / "set" / "a" / "odd.png")
  cache = str(tmp_path / "cache") if how == "cached" else None
  with pytest.raises(DataError, match=CASES[kind]) as error:
    images = data.load(f"images:{tmp_path / 'set'}", cache_dir=cache, decode=how != "streamed")
    for source in images[:3]:  # a damaged image is seen only when it is read
      read_rows(source, np.arange(len(source)))
  assert "\n" not in str(error.value) and str(tmp_path / "set") in str(error.value)
  assert not [path for path in tmp_path.rglob("*.npy")]


@pytest.mark.parametrize(
  "names, words",
  [
    ([], "has no images; takes PNG and JPEG files"),
    (["train/a.png"], "has train/ and no test/"),
    (["test/a.png"], "has test/ and no train/"),
    (["train/a.png", "test/x/"], "set/test/x has no images|set/test has no images"),
    (["train/a.png", "test/a.png", "tests/a.png"], "has tests/ beside its splits; takes train"),
    (["train/a.png", "test/a.png", "b.png"], "has b.png beside its splits"),
    (["a.png", "cat/a.png"], "has the file a.png beside the folder cat/"),
    (["a.png", "b.png"], "has 2 images, and test=0.1, validation=0.1 leave none to validation"),
  ],
)
def test_folders_that_cannot_be_used(names, words, tmp_path):
  root = tmp_path / "set"
  root.mkdir()
  for name in names:
    (root / name).mkdir(parents=True) if name.endswith("/") else write(root / name)
  with pytest.raises(DataError, match=words) as error:
    data.load(f"images:{root}")
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "arguments, words",
  [
    (":test=0", "leave none to test"),
    (":test=0.001", "leave none to test"),
    (":validation=0.001", "leave none to validation"),
    (":test=0.5:validation=0.5", "leave none to train"),
    (":test=1", "test is 1; a fraction"),
    (":test=-0.1", "test is -0.1; a fraction"),
    (":test=nan", "test is nan; a fraction"),
    (":test=many", "test is many; a fraction"),
    (":seed=-1", "seed is -1; a whole number"),
    (":seed=1.5", "seed is 1.5; a whole number"),
  ],
)
def test_splits_that_cannot_be_made(arguments, words, folder):
  with pytest.raises(DataError, match=words):
    data.load(f"images:{folder[0]}{arguments}")


def test_places_that_are_no_folder(tmp_path):
  (tmp_path / "file").write_text("")
  for path, words in {
    "missing": "no such file or folder",
    "file": "cannot be read as a folder",
  }.items():
    with pytest.raises(DataError, match=f"{path}.*{words}"):
      data.load(f"images:{tmp_path / path}")
  with pytest.raises(DataError, match="images: takes a folder"):
    data.load("images:")
