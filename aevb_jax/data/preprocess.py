"""What turns the pixels of one image into a data point x.

Each is a function (key, pixels) -> x of shape (D,), for `fit` and `evaluate`,
which vectorize it and hand it a key: a fresh one at each use or, with their
`static_key`, the same for an example every time. Pixels are uint8 in 0..255, or
floats already in the units of x. A data set stays pixels until a step sees it.
"""

import math

import jax
import jax.numpy as jnp

from aevb_jax.types import Array, Key


def scale(key: Key, pixels: Array, *, levels: int = 255) -> Array:
  """x = pixels / levels for uint8, pixels as they are for floats; shape (D,)."""
  del key  # nothing is drawn
  x = pixels.astype(jnp.result_type(float))
  return x / levels if pixels.dtype == jnp.uint8 else x


def dequantize(key: Key, pixels: Array) -> Array:
  """x = (pixels + u) / 256 with u ~ U[0, 1)^D, for uint8 pixels; shape (D,).

  The mean log-density of x, plus -D log 256, is a lower bound on the log
  probability of the 8-bit image (Uria, Murray & Larochelle 2013), so that a
  density cannot gain by spikes at the grey levels. u has 16 bits, which with the
  pixel's 8 are what single precision holds exactly: x never reaches the next level.

  Raises:
    TypeError: for pixels that are not uint8.
  """
  if pixels.dtype != jnp.uint8:
    raise TypeError(f"dequantization is of uint8 pixels, not {pixels.dtype}")
  dtype = jnp.result_type(float)
  u = _random_uint16(key, pixels.size).reshape(pixels.shape).astype(dtype) / 2**16
  return (pixels.astype(dtype) + u) / 256


def bits_per_dim(log_density: float, data_dim: int) -> float:
  """The log-density of a dequantized x, in nats, as bits for each of its D pixels.

  The density is of x in [0, 1]^D; a level is 1/256 wide. Of a lower bound on
  the log-density it is an upper bound.
  """
  return 8 + bits_of_levels(log_density, data_dim)


def bits_of_levels(log_p: float, data_dim: int) -> float:
  """The log-probability of an x of D discrete pixels, in nats, as bits for each of them."""
  return -log_p / (data_dim * math.log(2))


def threshold(key: Key, pixels: Array, *, levels: int = 255) -> Array:
  """x = 1 where pixels / levels > 1/2, else 0; for floats where pixels > 1/2; shape (D,)."""
  return (scale(key, pixels, levels=levels) > 0.5).astype(jnp.result_type(float))


def binarize(key: Key, pixels: Array, *, levels: int = 255) -> Array:
  """x ~ Bernoulli(pixels / levels), for floats Bernoulli(pixels); shape (D,).

  For uint8 pixels the draw compares 16 random bits with the pixel: 0 is always
  0, `levels` always 1, and in between P(x = 1) is within 1.6e-5 of
  pixel / levels, at half the random bits that a float would take.
  """
  if pixels.dtype == jnp.uint8:
    bits = _random_uint16(key, pixels.size).reshape(pixels.shape).astype(jnp.uint32)
    ones = bits * levels < pixels.astype(jnp.uint32) << 16
  else:
    ones = jax.random.uniform(key, pixels.shape, pixels.dtype) < pixels
  return ones.astype(jnp.result_type(float))


def _random_uint16(key: Key, size: int) -> Array:
  # jax.random.bits spends a 32-bit word on every 16-bit number; this spends half.
  words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
  return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size]
