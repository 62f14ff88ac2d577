"""Heads added to a network of one's own, and the variational auto-encoder that they make."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aevb_jax.families.gaussians import gaussian
from aevb_jax.models.adapters import as_network, described, from_linen, output_shape
from aevb_jax.models.networks import Initializer, conditional, heads, linear
from aevb_jax.models.priors import standard_normal
from aevb_jax.types import Array, Conditional, Distribution, Family, Key, Model, Network, PyTree


class Heads(nn.Module):
  """Linear heads, the same layers as the heads of `MLP`.

  Maps features to a tuple of heads, shapes (size,) for size in `sizes`. With `channels`, the
  features are an image (H, W, F), and a head has `channels` numbers for each pixel, a linear map of
  the F features of that pixel. Otherwise a head is a linear map of all features.
  """

  sizes: Sequence[int]
  channels: int | None = None
  kernel_init: Initializer = nn.initializers.lecun_normal()
  bias_init: Initializer = nn.initializers.zeros_init()
  dtype: jnp.dtype | None = None
  network: nn.Module | None = None  # a linen network of the features; the input is then its input

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, ...]:
    features = x if self.network is None else self.network(x)
    h = features.astype(jnp.result_type(float))
    h = h.reshape(-1) if self.channels is None else h
    widths = [size if self.channels is None else self.channels for size in self.sizes]
    return tuple(head.reshape(-1) for head in linear(self, h, heads(widths)))


def with_heads(
  network: nn.Module | Network,
  sizes: Sequence[int],
  *,
  input_shape: tuple[int, ...],
  image_shape: tuple[int, int, int] | None = None,
  kernel_init: Initializer = nn.initializers.lecun_normal(),
  bias_init: Initializer = nn.initializers.zeros_init(),
  dtype: jnp.dtype | None = None,
) -> Network:
  """Returns a network of heads, made of a network of features and a linear layer for each head.

  If the features are an image (H, W, F) with the height and width of `image_shape`, and every head
  has H·W·C numbers, a head is a linear map of the F features of each pixel to C channels. Otherwise
  it is a linear map of all features.

  Args:
    network: a Flax linen module or a `Network`, which maps one input to an array of features of any
      shape.
    sizes: the sizes of the heads, as `Family.sizes` has them.
    input_shape: the shape of one input of the network.
    image_shape: (H, W, C) of the heads, if they are images.
    kernel_init: initializer of the heads' weight matrices.
    bias_init: initializer of the heads' biases.
    dtype: the dtype that operands of the heads' products are rounded to; None for no rounding.

  Returns:
    A network with the parameters {"network": the network's, "head_0": ..., "head_1": ...}.

  Raises:
    ValueError: if the network cannot be applied to one input, does not return one array, or keeps
      other state than its parameters; the message is one line.
  """
  own = as_network(network, input_shape)
  features = output_shape(own, input_shape)
  if not hasattr(features, "shape") or not jnp.issubdtype(features.dtype, jnp.floating):
    raise ValueError(
      "a network of features returns one floating-point array for an input of shape "
      f"{input_shape}; this one returns {described(features)}"
    )
  layers: dict[str, Any] = dict(kernel_init=kernel_init, bias_init=bias_init, dtype=dtype)
  if image_shape and _is_by_pixel(features.shape, sizes, image_shape):
    layers["channels"] = image_shape[2]
  if isinstance(network, nn.Module):  # one module, so that its layers have whole paths
    return from_linen(Heads(tuple(sizes), network=network.clone(name=None), **layers), input_shape)
  heads = from_linen(Heads(tuple(sizes), **layers), features.shape)

  def init(key: Key) -> PyTree:
    network_key, heads_key = jax.random.split(key)
    return {"network": own.init(network_key), **heads.init(heads_key)}

  def apply(params: PyTree, x: Array) -> tuple[Array, ...]:
    of_heads = {name: value for name, value in params.items() if name != "network"}
    return heads.apply(of_heads, own.apply(params["network"], x))

  return Network(init, apply)


def _is_by_pixel(
  features: tuple[int, ...], sizes: Sequence[int], image_shape: tuple[int, int, int]
) -> bool:
  is_image = len(features) == 3 and features[:2] == tuple(image_shape[:2])
  return is_image and all(size == math.prod(image_shape) for size in sizes)


def network_vae(
  likelihood: Family,
  *,
  encoder: nn.Module | Network,
  decoder: nn.Module | Network,
  image_shape: tuple[int, int, int],
  latent_dim: int,
  posterior: Callable[[int], Family] = gaussian,
  prior: Callable[[int], Distribution] = standard_normal,
  kernel_init: Initializer = nn.initializers.lecun_normal(),
  bias_init: Initializer = nn.initializers.zeros_init(),
  dtype: jnp.dtype | None = None,
) -> Model:
  """Makes a variational auto-encoder of two networks of one's own, which return features.

  It differs from `mlp_vae` only in its networks. x is one flattened image, shape (H·W·C,); the
  encoder is given it as an image. The heads of p(x|z) and q(z|x) are added by `with_heads`.

  Args:
    likelihood: family of x, such as `bernoulli(H·W·C)`.
    encoder: a Flax linen module or a `Network`: an image (H, W, C) -> features of any shape.
    decoder: the same for z (J,) -> features. If they are an image (H, W, F), its heads are linear
      maps of each pixel.
    image_shape: (H, W, C).
    latent_dim: J.
    posterior: J -> family of z given x.
    prior: J -> p(z).
    kernel_init: initializer of the heads' weight matrices.
    bias_init: initializer of the heads' biases.
    dtype: the dtype that operands of the heads' products are rounded to; None for no rounding.

  Returns:
    A model of x (H·W·C,) and z (J,). θ and φ are {"network": the network's parameters, "head_0":
    ...}.

  Raises:
    ValueError: if a network cannot be used; the message is one line that says which, and has the
      place in the user's code.
  """
  family = posterior(latent_dim)
  layers: dict[str, Any] = dict(kernel_init=kernel_init, bias_init=bias_init, dtype=dtype)
  with _named("encoder"):
    of_image = with_heads(encoder, family.sizes, input_shape=tuple(image_shape), **layers)
  with _named("decoder"):
    shapes: dict[str, Any] = dict(input_shape=(latent_dim,), image_shape=tuple(image_shape))
    of_latents = with_heads(decoder, likelihood.sizes, **shapes, **layers)
  of_pixels = of_image._replace(
    apply=lambda params, x: of_image.apply(params, x.reshape(image_shape))
  )
  of_x = conditional(of_latents, likelihood, latent_dim)
  _check_size(of_x, latent_dim, tuple(image_shape))
  return Model(
    prior=lambda params: prior(latent_dim),
    decoder=of_x,
    encoder=conditional(of_pixels, family, math.prod(image_shape)),
  )


def _check_size(decoder: Conditional, latent_dim: int, image_shape: tuple[int, ...]) -> None:
  def draw(key: Key) -> Array:
    theta_key, x_key = jax.random.split(key)
    return decoder.given(decoder.init(theta_key), jnp.zeros(latent_dim)).sample(x_key)

  x = jax.eval_shape(draw, jax.random.key(0))
  if x.shape != (math.prod(image_shape),):
    raise ValueError(
      f"the likelihood is of {x.size} numbers; an image {image_shape} has {math.prod(image_shape)}"
    )


@contextlib.contextmanager
def _named(which: str) -> Iterator[None]:
  """Adds to an error the network that it is of."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"the {which}: {error}") from error
