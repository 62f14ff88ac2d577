"""Pixels, their binarization, and data sets read from disk."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import data
from tests.statistical import assert_unbiased

TFDS_DIR = pathlib.Path(os.environ.get("AEVB_JAX_TEST_DATA", "nowhere"), "tfds")
needs_mnist = pytest.mark.skipif(
  not TFDS_DIR.exists(), reason="real MNIST: AEVB_JAX_TEST_DATA names no directory with tfds/mnist"
)


def test_scale():
  pixels = jnp.asarray([0, 51, 255], jnp.uint8)
  np.testing.assert_allclose(data.scale(jax.random.key(0), pixels), [0, 0.2, 1], rtol=1e-15)
  floats = jnp.asarray([0.25, -3.0])
  np.testing.assert_array_equal(data.scale(jax.random.key(0), floats), floats)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_binarize_has_the_pixels_as_probabilities(dtype):
  levels = np.arange(0, 256, 5)
  pixels = jnp.asarray(levels.astype(np.uint8) if dtype == np.uint8 else levels / 255)
  keys = jax.random.split(jax.random.key(0), 200_000)
  x = np.asarray(jax.jit(jax.vmap(data.binarize, in_axes=(0, None)))(keys, pixels))
  assert set(np.unique(x)) == {0.0, 1.0}
  assert not x[:, 0].any() and x[:, -1].all()  # black is 0 and white is 1, always
  assert_unbiased(x, levels / 255, detects=0.02)


def test_binarized_pixels_are_independent():
  # Two 16-bit draws share a 32-bit word: neighbours must not be correlated.
  pixels = jnp.full(8, 100, jnp.uint8)
  keys = jax.random.split(jax.random.key(0), 100_000)
  x = np.asarray(jax.vmap(data.binarize, in_axes=(0, None))(keys, pixels), np.float64)
  centered = x - 100 / 255
  products = centered[:, :, None] * centered[:, None, :]
  variance = 100 / 255 * 155 / 255
  assert_unbiased(products, np.diag(np.full(8, variance)), detects_shift=0.01)  # of 0.24


def test_threshold_is_above_a_half():
  np.testing.assert_array_equal(
    data.threshold(np.asarray([0, 127, 128, 255], np.uint8)), [0, 0, 255, 255]
  )
  np.testing.assert_array_equal(data.threshold(np.asarray([0.0, 0.5, 0.51])), [0, 0, 255])


def test_static_binarization_is_one_draw_of_the_dynamic_one():
  pixels = np.random.default_rng(0).integers(0, 256, size=(5, 7), dtype=np.uint8)
  once = data.binarize_once(jax.random.key(3), pixels)
  np.testing.assert_array_equal(once, data.binarize_once(jax.random.key(3), pixels))
  assert once.dtype == np.uint8
  for i, key in enumerate(jax.random.split(jax.random.key(3), 5)):
    np.testing.assert_array_equal(once[i], 255 * data.binarize(key, jnp.asarray(pixels[i])))
  assert not np.array_equal(once, data.binarize_once(jax.random.key(4), pixels))


def test_digits():
  digits = data.load_digits()
  assert digits.train.shape == (1437, 64) and digits.test.shape == (360, 64)
  assert digits.train.dtype == np.uint8 and digits.image_shape == (8, 8, 1)
  assert digits.train.min() == 0 and digits.train.max() == 255
  assert np.bincount(digits.train_labels).min() > 120 and len(np.unique(digits.test_labels)) == 10
  # The ink of zeros leaves the centre empty: labels belong to their images.
  zeros = digits.test[digits.test_labels == 0].mean(0).reshape(8, 8)
  ones = digits.test[digits.test_labels == 1].mean(0).reshape(8, 8)
  assert zeros[3:5, 3:5].mean() < 0.2 * ones[3:5, 3:5].mean()


@needs_mnist
def test_real_mnist_through_tfds():
  mnist = data.load_tfds(
    "mnist", str(TFDS_DIR), train_split="train[59000:]", test_split="test[:500]"
  )
  assert mnist.train.shape == (1000, 784) and mnist.test.shape == (500, 784)
  assert mnist.train.dtype == np.uint8 and mnist.image_shape == (28, 28, 1)
  # The well-known mean of MNIST's pixels is 0.1307.
  np.testing.assert_allclose(mnist.train.mean() / 255, 0.1307, atol=0.01)
  corner = mnist.train.reshape(-1, 28, 28)[:, :3, :3]
  assert corner.max() == 0 and len(np.unique(mnist.train_labels)) == 10


@needs_mnist
def test_reading_mnist_is_what_tfds_decodes():
  import tensorflow_datasets as tfds

  mnist = data.load_tfds("mnist", str(TFDS_DIR), train_split="train[:3]", test_split="test[:3]")
  source = tfds.builder("mnist", data_dir=str(TFDS_DIR)).as_data_source(split="test")
  for i in range(3):
    np.testing.assert_array_equal(mnist.test[i].reshape(28, 28, 1), source[i]["image"])
    assert mnist.test_labels[i] == source[i]["label"]


def test_unknown_data_set(tmp_path):
  with pytest.raises(data.DataError, match="knows no data set 'no_such_set'"):
    data.load_tfds("no_such_set", str(tmp_path))


def test_data_set_that_is_not_prepared(tmp_path):
  with pytest.raises(data.DataError, match="'mnist' is not prepared in .*download_and_prepare"):
    data.load_tfds("mnist", str(tmp_path))
  assert not any(tmp_path.iterdir())


@needs_mnist
def test_unknown_split_or_version():
  with pytest.raises(data.DataError, match="no split 'validation'; it has train, test"):
    data.load_tfds("mnist", str(TFDS_DIR), test_split="validation")
  with pytest.raises(data.DataError, match="'mnist:9.9.9'.*only: 3.0.1"):
    data.load_tfds("mnist:9.9.9", str(TFDS_DIR))


def test_a_prepared_set_of_float_images(float_images_dir):
  images = data.load_tfds("float_images", float_images_dir)
  assert images.train.shape == (30, 16) and images.test.shape == (10, 16)
  assert images.train.dtype == np.float32 and images.image_shape == (4, 4, 1)
  assert images.train.max() > 1 and images.train_labels is None
