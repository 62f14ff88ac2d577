"""Functions that turn the pixels of one image into a data point x.

Each is a function (key, pixels) -> x of shape (D,), for `fit` and `evaluate`,
which vectorize it and pass it a key: a fresh key at each use or, with their
`static_key`, the same key for an example every time. Pixels are uint8 in 0..255, or
floats already in the units of x. A data set stays pixels until a step uses it.
"""

import math

import jax
import jax.numpy as jnp

from aevb_jax.types import Array, Key, Preprocess


def scale(key: Key, pixels: Array, *, levels: int = 255) -> Array:
  """Returns x = pixels / levels for uint8 pixels, and floats as they are.

  Args:
    key: not used.
    pixels: shape (D,), uint8 or floats.
    levels: the uint8 value of a fully bright pixel.

  Returns:
    x, floats of shape (D,).
  """
  del key  # nothing is drawn
  x = pixels.astype(jnp.result_type(float))
  return x / levels if pixels.dtype == jnp.uint8 else x


def dequantize(key: Key, pixels: Array) -> Array:
  """Draws x = (pixels + u) / 256 with u ~ U[0, 1)^D, for uint8 pixels.

  The mean log-density of x, plus -D log 256, is a lower bound on the log
  probability of the 8-bit image (Uria, Murray & Larochelle 2013), so that a
  density cannot gain by spikes at the grey levels. u has 16 bits. Single precision
  holds them and the pixel's 8 bits exactly, so x never reaches the next level.

  Args:
    key: the key of u.
    pixels: shape (D,), uint8.

  Returns:
    x, floats in [0, 1) of shape (D,).

  Raises:
    TypeError: if the pixels are not uint8.
  """
  if pixels.dtype != jnp.uint8:
    raise TypeError(f"dequantization is of uint8 pixels, not {pixels.dtype}")
  dtype = jnp.result_type(float)
  u = _random_uint16(key, pixels.size).reshape(pixels.shape).astype(dtype) / 2**16
  return (pixels.astype(dtype) + u) / 256


def beside(preprocess: Preprocess, data_dim: int) -> Preprocess:
  """Makes a function of rows (pixels, c) that applies `preprocess` only to the pixels.

  Args:
    preprocess: (key, pixels of one image) -> x.
    data_dim: the number of pixels in a row; all other numbers are the condition c.

  Returns:
    A function (key, row) -> (x, c), floats; c has the numbers of the row, also if they are uint8.
  """

  def of_row(key: Key, row: Array) -> Array:
    x = preprocess(key, row[:data_dim])
    return jnp.concatenate([x, row[data_dim:].astype(x.dtype)])

  return of_row


def bits_per_dim(log_density: float, data_dim: int) -> float:
  """Converts the log-density of a dequantized x, in nats, to bits for each of its D pixels.

  The density is of x in [0, 1]^D; a level is 1/256 wide. For a lower bound on
  the log-density the result is an upper bound.

  Args:
    log_density: log p(x), in nats.
    data_dim: D.

  Returns:
    The bits for each pixel.
  """
  return 8 + bits_of_levels(log_density, data_dim)


def bits_of_levels(log_p: float, data_dim: int) -> float:
  """Converts the log-probability of an x of D discrete pixels, in nats, to bits for each pixel.

  Args:
    log_p: log p(x), in nats.
    data_dim: D.

  Returns:
    The bits for each pixel.
  """
  return -log_p / (data_dim * math.log(2))


def threshold(key: Key, pixels: Array, *, levels: int = 255) -> Array:
  """Returns x = 1 where pixels / levels > 1/2 (floats: pixels > 1/2), otherwise 0.

  Args:
    key: not used.
    pixels: shape (D,), uint8 or floats.
    levels: the uint8 value of a fully bright pixel.

  Returns:
    x, floats 0 or 1 of shape (D,).
  """
  return (scale(key, pixels, levels=levels) > 0.5).astype(jnp.result_type(float))


def binarize(key: Key, pixels: Array, *, levels: int = 255) -> Array:
  """Draws x ~ Bernoulli(pixels / levels) for uint8 pixels, Bernoulli(pixels) for floats.

  For uint8 pixels the draw compares 16 random bits with the pixel: 0 is always
  0, `levels` always 1, and in between P(x = 1) is within 1.6e-5 of
  pixel / levels, with half the random bits that a float would take.

  Args:
    key: the key of the draw.
    pixels: shape (D,), uint8 or floats in [0, 1].
    levels: the uint8 value that is always 1.

  Returns:
    x, floats 0 or 1 of shape (D,).
  """
  if pixels.dtype == jnp.uint8:
    bits = _random_uint16(key, pixels.size).reshape(pixels.shape).astype(jnp.uint32)
    ones = bits * levels < pixels.astype(jnp.uint32) << 16
  else:
    ones = jax.random.uniform(key, pixels.shape, pixels.dtype) < pixels
  return ones.astype(jnp.result_type(float))


def _random_uint16(key: Key, size: int) -> Array:
  # jax.random.bits spends a 32-bit word on every 16-bit number; this function spends half a word.
  words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
  return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size]
