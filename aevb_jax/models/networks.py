"""The networks of appendix C and convolutional ones, as Flax modules, and their conditionals.

If a module has a `dtype`, such as `jnp.bfloat16`, the operands of its products are rounded to it,
forwards and backwards. Parameters, the sums of the products, biases, heads, log-densities and their
sums keep their own precision. (On accelerators, XLA's convolutions sum without rounding and then
round the result.)
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from aevb_jax.families.base import distribution
from aevb_jax.models.adapters import as_network, described, output_shape
from aevb_jax.ops.convolutions import conv, conv_transpose
from aevb_jax.ops.products import product
from aevb_jax.types import Array, Conditional, Distribution, Family, Key, Network, PyTree

Initializer = nn.initializers.Initializer


class Conv(nn.Module):
  """A convolution or transposed convolution of one image (H, W, C) with a 3×3 kernel, and a bias.

  The parameters are the same as in `flax.linen.Conv` and `ConvTranspose`.
  """

  features: int
  layer: Callable[[Array, Array], Array]  # (image, kernel) -> image
  kernel_init: Initializer = nn.initializers.lecun_normal()
  bias_init: Initializer = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, image: Array) -> Array:
    dtype, shape = jnp.result_type(float), (3, 3, image.shape[2], self.features)
    kernel = self.param("kernel", self.kernel_init, shape, dtype)
    bias = self.param("bias", self.bias_init, (self.features,), dtype)
    return self.layer(image.astype(dtype), kernel) + bias[None, None]


class MLP(nn.Module):
  """Hidden layers shared by several linear heads.

  Maps one input of shape (D,) to a tuple of heads, shapes (size,) for size in `sizes`. The
  initializers default to Flax's: LeCun normal, zero bias.

  Source: appendix C, equations 11 and 12.
  """

  hidden: Sequence[int]
  sizes: Sequence[int]
  activation: Callable[[Array], Array] = nn.tanh
  kernel_init: Initializer = nn.initializers.lecun_normal()
  bias_init: Initializer = nn.initializers.zeros_init()
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: Any) -> tuple[Array, ...]:
    apply, h = self.first, x
    for i, width in enumerate(self.hidden):
      h = self.activation(*apply(h, {f"hidden_{i}": width}))
      apply = functools.partial(linear, self)
    return tuple(apply(h, heads(self.sizes)))

  def first(self, x: Any, sizes: dict[str, int]) -> list[Array]:
    """Applies the linear layers that get the input; networks of other inputs replace this."""
    return linear(self, x, sizes)


class ConvEncoder(nn.Module):
  """Convolutions of stride 2 without padding, and linear heads.

  Maps one flattened image, shape (H·W·C,), to a tuple of heads, shapes (size,) for size in `sizes`.
  With the default widths it is the encoder of TensorFlow's tutorial "Convolutional Variational
  Autoencoder".
  """

  image_shape: tuple[int, int, int]  # (H, W, C)
  sizes: Sequence[int]
  widths: Sequence[int] = (32, 64)
  activation: Callable[[Array], Array] = nn.relu
  kernel_init: Initializer = nn.initializers.lecun_normal()
  bias_init: Initializer = nn.initializers.zeros_init()
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, ...]:
    h = x.reshape(self.image_shape)
    for i, features in enumerate(self.widths):
      layer = functools.partial(conv, stride=2, padding="VALID")
      h = self.activation(_conv(self, layer, features, f"conv_{i}")(h))
    h = h.reshape(-1)
    return tuple(linear(self, h, heads(self.sizes)))


class ConvDecoder(nn.Module):
  """A linear layer, transposed convolutions of stride 2, and heads that are images.

  Maps one latent (J,) to `num_heads` flattened images, each of shape (H·W·C,). The linear layer
  makes an image of H/2ⁿ × W/2ⁿ pixels, rounded up, for n widths, with as many channels as the last
  width. Pixels beyond H × W are cut off before the heads. With the default widths it is the decoder
  of TensorFlow's tutorial "Convolutional Variational Autoencoder".
  """

  image_shape: tuple[int, int, int]  # (H, W, C)
  num_heads: int
  widths: Sequence[int] = (64, 32)
  activation: Callable[[Array], Array] = nn.relu
  kernel_init: Initializer = nn.initializers.lecun_normal()
  bias_init: Initializer = nn.initializers.zeros_init()
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, z: Array) -> tuple[Array, ...]:
    height, width, channels = self.image_shape
    scale = 2 ** len(self.widths)
    start = -(-height // scale), -(-width // scale), self.widths[-1]
    h = self.activation(*linear(self, z, {"hidden": math.prod(start)})).reshape(start)
    for i, features in enumerate(self.widths):
      layer = functools.partial(conv_transpose, stride=2)
      h = self.activation(_conv(self, layer, features, f"conv_{i}")(h))
    h = h[:height, :width]
    # XLA's own convolution would round the heads themselves.
    layer = functools.partial(conv_transpose, as_products=True if self.dtype else None)
    layers = [_conv(self, layer, channels, f"head_{i}") for i in range(self.num_heads)]
    return tuple(layer(h).reshape(-1) for layer in layers)


def check_room(image_shape: tuple[int, int, int], num_layers: int) -> None:
  """Raises ValueError if an image is too small for `num_layers` layers of `ConvEncoder`."""
  size, room = min(image_shape[:2]), 0
  while size >= 3:
    size, room = (size - 1) // 2, room + 1
  if num_layers > room:
    raise ValueError(
      f"images of {image_shape[0]}×{image_shape[1]} pixels have room for {room} convolutions of "
      f"stride 2, not for {num_layers}"
    )


class Linear(nn.Module):
  """The kernel and the bias of a linear layer of an input, the same as in `flax.linen.Dense`.

  The bias is of shape (..., size) for an input (..., K). Local reparameterization adds its noise
  there.
  """

  size: int
  kernel_init: Initializer
  bias_init: Initializer

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    dtype = jnp.result_type(float)
    kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.size), dtype)
    bias = self.param("bias", self.bias_init, (self.size,), dtype)
    return kernel, jnp.broadcast_to(bias, (*x.shape[:-1], self.size))


def linear(module: nn.Module, x: Array, sizes: dict[str, int]) -> list[Array]:
  """Applies linear layers with the initializers and the dtype of `module`, all to the same input.

  They are computed by one product, whose gradients are one product each.

  Args:
    module: the module whose layers they are.
    x: shape (..., K).
    sizes: the number of outputs of each layer, by its name.

  Returns:
    An array of shape (..., size) for each of the layers.
  """
  make = lambda name, size: Linear(size, module.kernel_init, module.bias_init, name=name)
  layers = [make(name, size)(x) for name, size in sizes.items()]
  kernel, bias = (jnp.concatenate(parts, axis=-1) for parts in zip(*layers))
  x, kernel, bias = promote_dtype(x, kernel, bias)
  rows = product(x.reshape(-1, x.shape[-1]), kernel, dtype=module.dtype)
  ends = list(itertools.accumulate(sizes.values()))
  return jnp.split(rows.reshape(bias.shape) + bias, ends[:-1], axis=-1)


def heads(sizes: Sequence[int]) -> dict[str, int]:
  """Names linear layers head_0, head_1, ..., for `linear`."""
  return {f"head_{i}": size for i, size in enumerate(sizes)}


def _conv(module: nn.Module, layer: Callable[..., Array], features: int, name: str) -> Conv:
  """Makes a convolution with the initializers and the dtype of `module`."""
  layer = functools.partial(layer, dtype=module.dtype)
  return Conv(features, layer, module.kernel_init, module.bias_init, name=name)


def conditional(network: nn.Module | Network, family: Family, input_size: int) -> Conditional:
  """Makes the conditional distribution whose eta a network computes from its input.

  Args:
    network: a Flax linen module or a `Network`, which maps an input of shape (input_size,) to a
      tuple of as many heads as `family.sizes` has entries, of those sizes.
    family: the family of the conditioned variable. If it has parameters that are the same for every
      input, the parameters are {"network": the network's, "shared": the family's}.
    input_size: length of the conditioning variable (D for an encoder, J for a decoder).

  Returns:
    A `Conditional`: `init(key)` makes the parameters, and `given(params, x)` the distribution.

  Raises:
    ValueError: if a `Network` cannot be applied to such an input or does not return such heads;
      and on `init`, if a linen module keeps other state than its parameters, such as batch
      statistics: the distribution for one data point would depend on others.
  """
  pure = as_network(network, (input_size,))
  if not isinstance(network, nn.Module):
    pure = _with_checked_heads(pure, family.sizes, input_size)

  def init(key: Key) -> PyTree:
    if family.init_shared:
      key, shared_key = jax.random.split(key)
      return {"network": pure.init(key), "shared": family.init_shared(shared_key)}
    return pure.init(key)

  def given(params: PyTree, x: Array) -> Distribution:
    if family.init_shared:
      heads = pure.apply(params["network"], x)
      return distribution(family, family.from_heads(*heads, params["shared"]))
    return distribution(family, family.from_heads(*pure.apply(params, x)))

  return Conditional(init, given)


def _with_checked_heads(network: Network, sizes: Sequence[int], input_size: int) -> Network:
  """Refuses a network of other heads; returns it with heads in the precision of densities."""
  heads = output_shape(network, (input_size,))
  shapes = [head.shape for head in heads] if _are_floats(heads) else None
  if shapes != [(size,) for size in sizes]:
    raise ValueError(
      f"a network of heads returns a tuple of {len(sizes)} arrays, one for each head of the "
      f"family, of shapes {', '.join(f'({n},)' for n in sizes)}; this returns {described(heads)}"
    )
  dtype = jnp.result_type(float)
  return network._replace(
    apply=lambda params, x: tuple(head.astype(dtype) for head in network.apply(params, x))
  )


def _are_floats(heads: PyTree) -> bool:
  arrays = heads if isinstance(heads, tuple | list) else (None,)
  return all(hasattr(h, "dtype") and jnp.issubdtype(h.dtype, jnp.floating) for h in arrays)
