"""A residual convolutional encoder and decoder in Flax linen: copy it, and change the layers."""

import flax.linen as nn
import jax.numpy as jnp


def conv(features, stride=1):
  dtype = jnp.result_type(float)  # of the parameters; it follows JAX_ENABLE_X64
  return nn.Conv(features, (3, 3), strides=(stride, stride), param_dtype=dtype)


class Block(nn.Module):
  """Adds two convolutions of an image to the image."""

  @nn.compact
  def __call__(self, h):
    inner = conv(h.shape[-1])(nn.relu(h))
    return h + conv(h.shape[-1])(nn.relu(inner))


class Encoder(nn.Module):
  """Maps an image (H, W, C) to features (H/4, W/4, 2·width), rounded up."""

  width: int

  @nn.compact
  def __call__(self, image):
    h = Block()(conv(self.width, stride=2)(image))
    return nn.relu(Block()(conv(2 * self.width, stride=2)(h)))


class Decoder(nn.Module):
  """Maps z (J,) to features of every pixel (H, W, width)."""

  image_shape: tuple[int, int, int]
  width: int

  @nn.compact
  def __call__(self, z):
    height, width, _ = self.image_shape
    start = -(-height // 4), -(-width // 4), 2 * self.width
    h = nn.Dense(start[0] * start[1] * start[2], param_dtype=jnp.result_type(float))(z)
    h = conv(self.width)(twice(Block()(h.reshape(start))))
    return nn.relu(Block()(twice(h)))[:height, :width]


def twice(h):
  """Doubles the height and width of an image."""
  return h.repeat(2, axis=0).repeat(2, axis=1)


def residual(image_shape, latent_dim, width=32):
  """Makes the encoder and the decoder.

  Args:
    image_shape: (H, W, C).
    latent_dim: J; linen finds it out from z.
    width: the channels at half of the height and width; there are twice as many at a quarter.

  Returns:
    The two networks, as `aevb_jax.models.network_vae` takes them.
  """
  return Encoder(width), Decoder(tuple(image_shape), width)
