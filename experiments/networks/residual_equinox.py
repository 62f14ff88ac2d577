"""A residual convolutional encoder and decoder in Equinox: copy it, and change the layers."""

import equinox as eqx
import jax

from aevb_jax.models import from_equinox


def conv(channels, features, key, stride=1):
  return eqx.nn.Conv2d(channels, features, 3, stride, padding="SAME", key=key)


class Block(eqx.Module):
  """Adds two convolutions of an image (F, H, W) to the image."""

  convs: list

  def __init__(self, width, key):
    self.convs = [conv(width, width, k) for k in jax.random.split(key)]

  def __call__(self, h):
    first, second = self.convs
    return h + second(jax.nn.relu(first(jax.nn.relu(h))))


class Encoder(eqx.Module):
  """Maps an image (H, W, C) to features (2·width, H/4, W/4), rounded up."""

  layers: list

  def __init__(self, channels, width, key):
    k = jax.random.split(key, 4)
    self.layers = [conv(channels, width, k[0], stride=2), Block(width, k[1])]
    self.layers += [conv(width, 2 * width, k[2], stride=2), Block(2 * width, k[3])]

  def __call__(self, image):
    h = image.transpose(2, 0, 1)  # Equinox has the channels first
    for layer in self.layers:
      h = layer(h)
    return jax.nn.relu(h)


class Decoder(eqx.Module):
  """Maps z (J,) to features of every pixel (H, W, width)."""

  dense: eqx.nn.Linear
  quarter_block: Block
  half: eqx.nn.Conv2d
  block: Block
  image_shape: tuple = eqx.field(static=True)

  def __init__(self, image_shape, latent_dim, width, key):
    k = jax.random.split(key, 4)
    size = 2 * width * -(-image_shape[0] // 4) * -(-image_shape[1] // 4)
    self.dense = eqx.nn.Linear(latent_dim, size, key=k[0])
    self.quarter_block, self.half = Block(2 * width, k[1]), conv(2 * width, width, k[2])
    self.block, self.image_shape = Block(width, k[3]), image_shape

  def __call__(self, z):
    height, width, _ = self.image_shape
    h = self.dense(z).reshape(-1, -(-height // 4), -(-width // 4))
    h = self.block(twice(self.half(twice(self.quarter_block(h)))))
    return jax.nn.relu(h)[:, :height, :width].transpose(1, 2, 0)


def twice(h):
  """Doubles the height and width of an image."""
  return h.repeat(2, axis=1).repeat(2, axis=2)


def residual(image_shape, latent_dim, width=32):
  """Makes the encoder and the decoder.

  Args:
    image_shape: (H, W, C).
    latent_dim: J.
    width: the channels at half of the height and width; there are twice as many at a quarter.

  Returns:
    The two networks, as `aevb_jax.models.network_vae` takes them.
  """
  encoder = from_equinox(lambda key: Encoder(image_shape[2], width, key))
  return encoder, from_equinox(lambda key: Decoder(image_shape, latent_dim, width, key))
