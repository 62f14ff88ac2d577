"""Data sets by name: protocols, prepared directories, the array cache."""

import shutil

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn import datasets

from aevb_jax.data import datasets as data
from aevb_jax.data.builders import BUILDERS, BinarizedMnist
from aevb_jax.data.minibatches import read_rows
from aevb_jax.data.prepare import prepare
from aevb_jax.data.preprocess import scale
from aevb_jax.data.tfds_images import TfdsImages
from aevb_jax.errors import DataError, NotPreparedError
from tests.data.test_builders import REAL, needs_real_data
from tests.support import tiny

TFDS_DIR = REAL / "tfds"


@pytest.fixture(scope="module")
def real_dir(tmp_path_factory):
  """Makes a directory with MNIST prepared by TFDS and Frey Face prepared by our builder."""
  directory = tmp_path_factory.mktemp("tfds")
  shutil.copytree(TFDS_DIR / "mnist", directory / "mnist")
  builder = BUILDERS["frey_face"](data_dir=str(directory), file_format="array_record")
  prepare(builder, manual_dir=str(REAL / "frey_face"))
  return directory


@pytest.fixture
def no_network(monkeypatch):
  """Fails a test that downloads anything."""

  def refuse(*args, **kwargs):
    raise AssertionError("asked for the network")

  monkeypatch.setattr("requests.get", refuse)


def same(ours, theirs):
  for field, a, b in zip(data.ImageData._fields, ours, theirs, strict=True):
    if isinstance(a, np.ndarray):
      np.testing.assert_array_equal(a, b)
    else:
      assert a == b, field


def test_digits_are_those_of_scikit_learn():
  digits = data.load("digits")
  theirs = datasets.load_digits()
  rows = lambda images, labels: sorted(map(tuple, np.column_stack([images, labels])))
  pixels = np.concatenate([digits.train, digits.test])
  labels = np.concatenate([digits.train_labels, digits.test_labels])
  assert rows(np.round(theirs.data * (255 / 16)), theirs.target) == rows(pixels, labels)


def test_digits():
  digits = data.load("digits")
  assert digits.train.shape == (1437, 64) and digits.test.shape == (360, 64)
  assert digits.train.dtype == np.uint8 and digits.image_shape == (8, 8, 1)
  assert digits.train.min() == 0 and digits.train.max() == 255 and digits.validation is None
  assert np.bincount(digits.train_labels).min() > 120 and len(np.unique(digits.test_labels)) == 10
  # Zeros have an empty centre, so the labels belong to their images.
  zeros = digits.test[digits.test_labels == 0].mean(0).reshape(8, 8)
  ones = digits.test[digits.test_labels == 1].mean(0).reshape(8, 8)
  assert zeros[3:5, 3:5].mean() < 0.2 * ones[3:5, 3:5].mean()


@needs_real_data
def test_the_protocols_of_mnist(real_dir, tmp_path, no_network):
  mnist = data.load("mnist", str(real_dir), cache_dir=str(tmp_path))
  assert mnist.image_shape == (28, 28, 1) and mnist.train.dtype == np.uint8
  sizes = len(mnist.train), len(mnist.validation), len(mnist.test)
  assert sizes == (50_000, 10_000, 10_000) and mnist.levels == 255 and mnist.version == "3.0.1"
  # The well-known mean and standard deviation of MNIST's 60000 training images.
  whole = data.load("mnist:60k", str(real_dir), cache_dir=str(tmp_path))
  assert len(whole.train) == 60_000 and whole.validation is None
  np.testing.assert_allclose(whole.train.mean() / 255, 0.1307, atol=5e-5)
  np.testing.assert_allclose(whole.train.std() / 255, 0.3081, atol=5e-5)
  np.testing.assert_array_equal(np.concatenate([mnist.train, mnist.validation]), whole.train)
  labels = np.concatenate([mnist.train_labels, mnist.validation_labels])
  np.testing.assert_array_equal(labels, whole.train_labels)
  np.testing.assert_array_equal(mnist.test, whole.test)
  assert np.bincount(whole.train_labels)[[0, 1, 5]].tolist() == [5923, 6742, 5421]
  assert len(list(tmp_path.rglob("index.json"))) == 1  # one cache serves both


@needs_real_data
def test_from_the_cache_or_decoded_or_not_it_is_the_same(real_dir, tmp_path, no_network):
  name = "frey_face:random"
  decoded = data.load(name, str(real_dir))
  same(data.load(name, str(real_dir), cache_dir=str(tmp_path)), decoded)  # fills the cache
  same(data.load(name, str(real_dir), cache_dir=str(tmp_path)), decoded)  # reads it
  sources = data.load(name, str(real_dir), decode=False)
  for split in ("train", "validation", "test"):
    source, rows = getattr(sources, split), getattr(decoded, split)
    assert isinstance(source, TfdsImages)
    assert source.shape == rows.shape and source.dtype == rows.dtype
    np.testing.assert_array_equal(read_rows(source, np.arange(len(rows))), rows)


@needs_real_data
def test_the_protocols_of_frey_face(real_dir):
  video = data.load("frey_face:contiguous", str(real_dir))
  shuffled = data.load("frey_face:random", str(real_dir))
  for images in (video, shuffled):
    assert [len(part) for part in images[:3]] == [1565, 200, 200]
    assert images.image_shape == (28, 20, 1) and images.levels == 256
    frames = np.concatenate(images[:3])
    assert frames.dtype == np.uint8 and (frames.min(), frames.max()) == (8, 238)
  frames, others = np.concatenate(video[:3]), np.concatenate(shuffled[:3])
  assert sorted(map(bytes, frames)) == sorted(map(bytes, others))

  def nearest(images):  # the mean distance from a test image to the closest training image
    x, y = images.test.astype(float), images.train.astype(float)
    return np.mean([np.abs(y - row).mean(axis=1).min() for row in x])

  assert nearest(shuffled) < 0.7 * nearest(video)  # a random split leaks frames


@needs_real_data
def test_a_cache_follows_the_prepared_set(real_dir, tmp_path, monkeypatch):
  prepared = tmp_path / "tfds"
  shutil.copytree(real_dir / "frey_face", prepared / "frey_face")
  cache = str(tmp_path / "cache")
  name = "frey_face:contiguous"
  opened, sources = [], data._sources
  monkeypatch.setattr(data, "_sources", lambda *args: opened.append(args) or sources(*args))
  data.load(name, str(prepared), cache_dir=cache)
  data.load(name, str(prepared), cache_dir=cache)
  assert len(opened) == 1
  (record,) = prepared.rglob("*.array_record*")
  record.touch()  # as if it had been prepared again
  data.load(name, str(prepared), cache_dir=cache)
  assert len(opened) == 2


@pytest.mark.parametrize("decode", [True, False])
def test_a_split_without_images_is_named(tmp_path, decode):
  with tiny.server(tiny.files()) as (address, _):
    prepare(tiny.builder(tmp_path, address))
  shutil.move(tmp_path / "tiny", tmp_path / "mnist")  # MNIST validates on the last 10000 of 60000
  with pytest.raises(DataError, match=r"no images in the split 'validation' .*'train' holds 40"):
    data.load("mnist", str(tmp_path), decode=decode)
  assert len(data.load("mnist:60k", str(tmp_path), decode=decode).train) == 40


def test_a_split_must_be_named_where_there_is_more_than_one(tmp_path):
  with pytest.raises(DataError, match="name frey_face:random or frey_face:contiguous"):
    data.load("frey_face", str(tmp_path))


def test_unknown_data_set(tmp_path):
  with pytest.raises(DataError, match="no data set 'no_such_set'.*digits, mnist") as caught:
    data.load("no_such_set", str(tmp_path))
  assert f" in {tmp_path}, " in str(caught.value) and "--data_dir" in str(caught.value)
  assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
  "typed, meant", [("fashon_mnist", "fashion_mnist"), ("digit", "digits"), ("kmnst", "kmnist")]
)
def test_a_name_like_a_known_one(typed, meant, tmp_path):
  with pytest.raises(DataError, match=f"did you mean [^?]*{meant}"):
    data.load(typed, str(tmp_path))


def test_a_set_of_tfds_is_not_prepared_unasked(tmp_path):
  with pytest.raises(NotPreparedError, match="'cifar10' is not prepared in .*experiments.data"):
    data.load("cifar10", str(tmp_path))
  assert not any(tmp_path.iterdir())


def test_a_set_of_our_own_is_prepared(tmp_path):
  with tiny.server({}) as (address, asked):
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz could not be downloaded"):
      data.load("kmnist", str(tmp_path), mirror=address)
  assert asked == ["train-images-idx3-ubyte.gz"]


@needs_real_data
def test_unknown_version():
  with pytest.raises(DataError, match="'mnist:9.9.9'.*only: 3.0.1"):
    data.load("mnist:9.9.9", str(TFDS_DIR))


@needs_real_data
def test_a_version_of_tfds_is_tfds_own_protocol():
  mnist = data.load("mnist:3.0.1", str(TFDS_DIR), decode=False)
  assert len(mnist.train) == 60_000 and mnist.validation is None
  # Labels are read though images are not decoded. The counts of the test set are well known.
  assert mnist.train_labels is None
  assert np.bincount(mnist.test_labels)[[0, 1, 5]].tolist() == [980, 1135, 892]


@needs_real_data
def test_reading_mnist_is_what_tfds_decodes():
  builder = tfds.builder_from_directory(TFDS_DIR / "mnist" / "3.0.1")
  source, images = builder.as_data_source("test"), TfdsImages(builder, "test")
  for i in (0, 1, 9999):
    np.testing.assert_array_equal(images[i].reshape(28, 28, 1), source[i]["image"])
  some = images[np.asarray([7, 3])]
  np.testing.assert_array_equal(some[1], images[3])
  np.testing.assert_array_equal(images[5:9][2], images[7])
  with pytest.raises(DataError, match="no split 'validation'; it has train, test"):
    TfdsImages(builder, "validation")


def test_a_prepared_set_of_float_images(float_images_dir, tmp_path):
  for cache_dir in (None, str(tmp_path), str(tmp_path)):
    images = data.load("float_images", float_images_dir, cache_dir=cache_dir)
    assert images.train.shape == (30, 16) and images.test.shape == (10, 16)
    assert images.train.dtype == np.float32 and images.image_shape == (4, 4, 1)
    assert images.train.max() > 1 and images.train_labels is None


def test_images_of_different_shapes(tmp_path):
  class Sizes(tiny.builder(tmp_path).__class__, skip_registration=True):
    name = "sizes"
    image_shape = (None, None, 1)

    def _split_generators(self, dl_manager):
      del dl_manager
      images = [np.zeros((4, 4, 1), np.uint8), np.zeros((4, 5, 1), np.uint8)]
      return {"train": self._images(images), "test": self._images(images[:1])}

    def _images(self, images):
      from aevb_jax.data.image_builders import _png

      for i, image in enumerate(images):
        yield i, {"image": _png(image), "label": 0}

  builder = Sizes(data_dir=str(tmp_path), file_format="array_record")
  prepare(builder)
  images = TfdsImages(builder, "train")
  with pytest.raises(DataError, match="'sizes' has images of different shapes"):
    read_rows(images, np.arange(2))
  assert TfdsImages(builder, "test").shape == (1, 16)


@needs_real_data
def test_a_prepared_set_that_lost_its_files(real_dir, tmp_path):
  directory = tmp_path / "frey_face" / "1.0.0"
  shutil.copytree(real_dir / "frey_face" / "1.0.0", directory)
  (record,) = directory.glob("*.array_record*")
  record.write_bytes(record.read_bytes()[:1000])
  with pytest.raises(DataError, match="frey_face/1.0.0.*remove it"):
    data.load("frey_face:random", str(tmp_path))
  record.unlink()
  with pytest.raises(DataError, match="frey_face/1.0.0.*remove it"):
    data.load("frey_face:random", str(tmp_path))
  (directory / "dataset_info.json").unlink()
  with pytest.raises(DataError, match="frey_face/1.0.0.*remove it"):
    data.load("frey_face:random", str(tmp_path))


def test_static_binarized_mnist_is_zeros_and_ones(tmp_path):
  class TinyBinarized(BinarizedMnist, skip_registration=True):
    name = "binarized_mnist"
    files = tuple(file._replace(digest=None) for file in BinarizedMnist.files)

  (tmp_path / "manual").mkdir()
  for name, size in (("train", 5), ("valid", 3), ("test", 4)):
    bits = np.random.default_rng(size).integers(0, 2, size=(size, 784))
    np.savetxt(tmp_path / "manual" / f"binarized_mnist_{name}.amat", bits, fmt="%d")
  builder = TinyBinarized(data_dir=str(tmp_path), file_format="array_record")
  prepare(builder, manual_dir=str(tmp_path / "manual"))
  images = data.load("binarized_mnist", str(tmp_path))
  assert [len(part) for part in images[:3]] == [5, 3, 4]
  x = scale(jax.random.key(0), jax.numpy.asarray(images.train[0]), levels=images.levels)
  assert set(np.unique(x)) == {0.0, 1.0}
