"""A residual convolutional encoder and decoder in Flax NNX: copy it, and change the layers."""

import jax.numpy as jnp
from flax import nnx

from aevb_jax.models import from_nnx


def conv(channels, features, rngs, stride=1):
  dtype = jnp.result_type(float)  # of the parameters; it follows JAX_ENABLE_X64
  return nnx.Conv(channels, features, (3, 3), strides=stride, param_dtype=dtype, rngs=rngs)


class Block(nnx.Module):
  """Adds two convolutions of an image to the image."""

  def __init__(self, width, rngs):
    self.first, self.second = conv(width, width, rngs), conv(width, width, rngs)

  def __call__(self, h):
    return h + self.second(nnx.relu(self.first(nnx.relu(h))))


class Encoder(nnx.Module):
  """Maps an image (H, W, C) to features (H/4, W/4, 2·width), rounded up."""

  def __init__(self, channels, width, rngs):
    self.half, self.half_block = conv(channels, width, rngs, stride=2), Block(width, rngs)
    self.quarter = conv(width, 2 * width, rngs, stride=2)
    self.quarter_block = Block(2 * width, rngs)

  def __call__(self, image):
    h = self.half_block(self.half(image))
    return nnx.relu(self.quarter_block(self.quarter(h)))


class Decoder(nnx.Module):
  """Maps z (J,) to features of every pixel (H, W, width)."""

  def __init__(self, image_shape, latent_dim, width, rngs):
    self.height, self.width, _ = image_shape
    self.start = -(-self.height // 4), -(-self.width // 4), 2 * width
    size = self.start[0] * self.start[1] * self.start[2]
    self.dense = nnx.Linear(latent_dim, size, param_dtype=jnp.result_type(float), rngs=rngs)
    self.quarter_block, self.half = Block(2 * width, rngs), conv(2 * width, width, rngs)
    self.block = Block(width, rngs)

  def __call__(self, z):
    h = self.quarter_block(self.dense(z).reshape(self.start))
    h = self.block(twice(self.half(twice(h))))
    return nnx.relu(h)[: self.height, : self.width]


def twice(h):
  """Doubles the height and width of an image."""
  return h.repeat(2, axis=0).repeat(2, axis=1)


def residual(image_shape, latent_dim, width=32):
  """Makes the encoder and the decoder.

  Args:
    image_shape: (H, W, C).
    latent_dim: J.
    width: the channels at half of the height and width; there are twice as many at a quarter.

  Returns:
    The two networks, as `aevb_jax.models.network_vae` takes them.
  """
  encoder = from_nnx(lambda rngs: Encoder(image_shape[2], width, rngs))
  return encoder, from_nnx(lambda rngs: Decoder(image_shape, latent_dim, width, rngs))
