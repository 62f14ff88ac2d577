"""The functions that turn pixels into data points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax.data.preprocess import binarize, bits_per_dim, dequantize, scale, threshold
from tests.support.statistics import assert_unbiased


@pytest.mark.parametrize("levels", [1, 255, 256])
def test_scale(levels):
  pixels = jnp.asarray([0, 51, 255], jnp.uint8)
  expected = np.asarray([0, 51, 255]) / levels
  np.testing.assert_allclose(scale(jax.random.key(0), pixels, levels=levels), expected, rtol=1e-15)
  floats = jnp.asarray([0.25, -3.0])
  np.testing.assert_array_equal(scale(jax.random.key(0), floats, levels=levels), floats)


@pytest.mark.parametrize("levels", [255, 256])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_binarize_has_the_pixels_as_probabilities(dtype, levels):
  values = np.arange(0, 256, 5)
  pixels = jnp.asarray(values.astype(np.uint8) if dtype == np.uint8 else values / levels)
  keys = jax.random.split(jax.random.key(0), 200_000)
  draw = jax.jit(jax.vmap(lambda key: binarize(key, pixels, levels=levels)))
  x = np.asarray(draw(keys))
  assert set(np.unique(x)) == {0.0, 1.0}
  assert not x[:, 0].any()  # black is always 0
  assert x[:, -1].all() == (levels == 255)  # white is always 1, unless levels=256 makes it 255/256
  assert_unbiased(x, values / levels, detects=0.02)


def test_binary_pixels_stay_what_they_are():
  pixels = jnp.asarray([0, 1, 1, 0, 1], jnp.uint8)
  np.testing.assert_array_equal(binarize(jax.random.key(0), pixels, levels=1), pixels)
  np.testing.assert_array_equal(threshold(jax.random.key(0), pixels, levels=1), pixels)


def test_binarized_pixels_are_independent():
  # Two 16-bit draws share a 32-bit word: neighbours must not be correlated.
  pixels = jnp.full(8, 100, jnp.uint8)
  keys = jax.random.split(jax.random.key(0), 100_000)
  x = np.asarray(jax.vmap(binarize, in_axes=(0, None))(keys, pixels), np.float64)
  centered = x - 100 / 255
  products = centered[:, :, None] * centered[:, None, :]
  variance = 100 / 255 * 155 / 255
  assert_unbiased(products, np.diag(np.full(8, variance)), detects_shift=0.01)  # compared with 0.24


def test_threshold_is_above_a_half():
  pixels = jnp.asarray([0, 127, 128, 255], jnp.uint8)
  np.testing.assert_array_equal(threshold(jax.random.key(0), pixels), [0, 0, 1, 1])
  np.testing.assert_array_equal(threshold(jax.random.key(0), pixels, levels=256), [0, 0, 0, 1])
  np.testing.assert_array_equal(
    threshold(jax.random.key(0), jnp.asarray([0.0, 0.5, 0.51])), [0, 0, 1]
  )


def test_dequantized_pixels_are_uniform_within_their_level():
  pixels = jnp.asarray([0, 100, 255], jnp.uint8)
  x = np.asarray(
    jax.vmap(dequantize, in_axes=(0, None))(jax.random.split(jax.random.key(0), 200_000), pixels)
  )
  np.testing.assert_array_equal(np.floor(x * 256), np.tile(pixels, (len(x), 1)))
  assert x.max() < 1
  u = x * 256 - np.asarray(pixels)
  assert_unbiased(u, np.full(3, 1 / 2), detects=0.01)
  assert_unbiased((u - 1 / 2) ** 2, np.full(3, 1 / 12), detects=0.02)


def test_dequantization_is_of_bytes():
  with pytest.raises(TypeError, match="uint8"):
    dequantize(jax.random.key(0), jnp.zeros(3))


def test_bits_per_dim():
  assert bits_per_dim(0.0, 560) == 8  # the uniform density over all 256 levels
  # As published for Frey Face: 4.53 bits are 1346.9 nats.
  np.testing.assert_allclose(bits_per_dim(1346.9, 560), 4.53, atol=1e-3)
