"""Strided and transposed convolutions as matrix products, because XLA's own are slow on CPUs.

A convolution is a product of patches with its kernel. A transposed convolution is a product with
its kernel, whose patches are then added where they overlap. Taking patches and adding them are
linear maps, and each is the other's transpose. They are differentiated as such, so a gradient costs
as much as the layer.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from aevb_jax.ops.products import product
from aevb_jax.types import Array


def conv(
  image: Array,
  kernel: Array,
  *,
  stride: int = 1,
  padding: str = "SAME",
  dtype: jnp.dtype | None = None,
  as_products: bool | None = None,
) -> Array:
  """Computes the convolution (unflipped, as `flax.linen.Conv`) of one image.

  Args:
    image: shape (H, W, C).
    kernel: shape (kernel height, kernel width, C, features).
    stride: along both axes.
    padding: "SAME" for ⌈H/stride⌉ × ⌈W/stride⌉ pixels, or "VALID" for the pixels whose patches
      are inside the image.
    dtype: the dtype that operands are rounded to, None for no rounding; see `product`. XLA's own
      convolution sums in single precision, but then rounds the result, too.
    as_products: True for products, False for XLA's own convolution; None for products on a CPU and
      XLA's own on any other device.

  Returns:
    The convolution, shape (height, width, features).

  Raises:
    ValueError: if the shapes do not fit each other, or padding has another value.
  """
  _check(image, kernel, padding)
  if not _use_products(as_products):
    operands = _rounded(image, kernel, dtype)
    result = lax.conv_general_dilated(*operands, (stride, stride), padding, **_CHANNELS_LAST)
    return result[0].astype(image.dtype)
  window = _window(image, kernel, stride, padding)
  columns = kernel.reshape(-1, kernel.shape[-1])
  pixels = product(_take_patches.bind(image, window=window), columns, dtype=dtype)
  return pixels.reshape(*(axis.small for axis in window), -1)


def conv_transpose(
  image: Array,
  kernel: Array,
  *,
  stride: int = 1,
  padding: str = "SAME",
  dtype: jnp.dtype | None = None,
  as_products: bool | None = None,
) -> Array:
  """Computes the transposed convolution (as `flax.linen.ConvTranspose`) of one image.

  Args:
    image: shape (H, W, C).
    kernel: shape (kernel height, kernel width, C, features).
    stride: along both axes.
    padding: "SAME" or "VALID".
    dtype: the dtype that operands are rounded to, None for no rounding; see `product`. XLA's own
      convolution sums in single precision, but then rounds the result, too.
    as_products: True for products, False for XLA's own convolution; None for products on a CPU and
      XLA's own on any other device.

  Returns:
    Shape (height, width, features): stride·H × stride·W pixels for "SAME". For "VALID" each side is
    longer by the kernel's length minus the stride, if that is positive.

  Raises:
    ValueError: if the shapes do not fit each other, or padding has another value.
  """
  _check(image, kernel, padding, transposed=True)
  if not _use_products(as_products):
    operands = _rounded(image, kernel, dtype)
    result = lax.conv_transpose(*operands, (stride, stride), padding)
    return result[0].astype(image.dtype)
  window = _transposed_window(image, kernel, stride, padding)
  height, width, channels = image.shape
  rows = jnp.flip(kernel, (0, 1)).transpose(2, 0, 1, 3).reshape(channels, -1)
  patches = product(image.reshape(height * width, channels), rows, dtype=dtype)
  return _add_patches.bind(patches, window=window)


_CHANNELS_LAST: dict[str, Any] = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _use_products(as_products: bool | None) -> bool:
  return jax.default_backend() == "cpu" if as_products is None else as_products


def _rounded(image: Array, kernel: Array, dtype: jnp.dtype | None) -> tuple[Array, Array]:
  return image[None].astype(dtype or image.dtype), kernel.astype(dtype or kernel.dtype)


def _check(image: Array, kernel: Array, padding: str, *, transposed: bool = False) -> None:
  if image.ndim != 3 or kernel.ndim != 4 or image.shape[2] != kernel.shape[2]:
    raise ValueError(
      f"image {image.shape} and kernel {kernel.shape}: expected (H, W, C) and (height, width, C, "
      "features); convolutions take one image at a time, use jax.vmap over many"
    )
  if padding not in ("SAME", "VALID"):
    raise ValueError(f"padding is {padding!r}, expected 'SAME' or 'VALID'")
  small = any(pixels < size for pixels, size in zip(image.shape[:2], kernel.shape[:2]))
  if padding == "VALID" and small and not transposed:
    raise ValueError(f"an image {image.shape} is smaller than the kernel {kernel.shape}")


class Axis(NamedTuple):
  """One axis of a window: patch i has the large image's pixels stride·i − low + tap."""

  taps: int  # length of the kernel
  stride: int
  low: int  # pixels before the edge that the first patch includes
  large: int  # length of the image that patches are taken from, or added up to
  small: int  # number of patches


Window = tuple[Axis, Axis]  # height, width


def _window(image: Array, kernel: Array, stride: int, padding: str) -> Window:
  def axis(large: int, taps: int) -> Axis:
    if padding == "VALID":
      return Axis(taps, stride, 0, large, (large - taps) // stride + 1)
    small = -(-large // stride)
    return Axis(taps, stride, max((small - 1) * stride + taps - large, 0) // 2, large, small)

  height, width = (axis(*lengths) for lengths in zip(image.shape[:2], kernel.shape[:2]))
  return height, width


def _transposed_window(image: Array, kernel: Array, stride: int, padding: str) -> Window:
  def axis(small: int, taps: int) -> Axis:
    if padding == "VALID":
      return Axis(taps, stride, 0, stride * small + max(taps - stride, 0), small)
    # Half of the overhang is cut off before the image, the smaller half if they differ.
    return Axis(taps, stride, max(taps - stride, 0) // 2, stride * small, small)

  height, width = (axis(*lengths) for lengths in zip(image.shape[:2], kernel.shape[:2]))
  return height, width


def _patches_of(images: Array, *, window: Window) -> Array:
  """Takes patches of images (..., H, W, C); shape (..., patches, taps·taps·C)."""
  *lead, _, _, channels = images.shape
  # Padding with a negative number of pixels cuts off the pixels that are in no patch.
  high = [axis.stride * (axis.small - 1) + axis.taps - axis.low - axis.large for axis in window]
  images = _pad(images, [axis.low for axis in window], high, first=len(lead))

  def at(*taps: int) -> Array:
    start, stop, strides = [0] * len(lead), list(lead), [1] * len(lead)
    for axis, tap in zip(window, taps):
      start.append(tap)
      stop.append(tap + axis.stride * (axis.small - 1) + 1)
      strides.append(axis.stride)
    return lax.slice(images, (*start, 0), (*stop, channels), (*strides, 1))

  height, width = window
  rows = [jnp.stack([at(i, j) for j in range(width.taps)], -2) for i in range(height.taps)]
  patches = _one_loop(jnp.stack(rows, -3))
  return patches.reshape(*lead, height.small * width.small, -1)


def _sum_of_patches(patches: Array, *, window: Window) -> Array:
  """Adds patches (..., patches, taps·taps·C) up to images (..., H, W, C).

  Only every stride-th tap contributes to the pixels stride·n + phase. The taps are summed for each
  phase, and then the phases are interleaved.
  """
  height, width = window
  lead = patches.shape[:-2]
  shape = (height.small, width.small, height.taps, width.taps)
  patches = patches.reshape(*lead, *shape, -1)
  sizes = [-(-axis.large // axis.stride) for axis in window]  # pixels of a phase

  def phase(*phases: int) -> Array:
    total = jnp.zeros((*lead, *sizes, patches.shape[-1]), patches.dtype)
    first = [(phase + axis.low) % axis.stride for phase, axis in zip(phases, window)]
    for taps in itertools.product(*(range(t, a.taps, a.stride) for t, a in zip(first, window))):
      # Pixel n of the phase is in patch n − shift.
      shift = [(tap - axis.low - p) // axis.stride for tap, axis, p in zip(taps, window, phases)]
      high = [size - axis.small - s for size, axis, s in zip(sizes, window, shift)]
      seen = patches[..., taps[0], taps[1], :]
      total += _pad(seen, shift, high, first=len(lead))
    return total

  rows = [jnp.stack([phase(i, j) for j in range(width.stride)], -2) for i in range(height.stride)]
  images = jnp.stack(rows, -4)  # (..., H / stride, stride, W / stride, stride, C)
  images = images.reshape(
    *lead, *(size * axis.stride for size, axis in zip(sizes, window)), patches.shape[-1]
  )
  return images[..., : height.large, : width.large, :]


def _pad(images: Array, low: list[int], high: list[int], *, first: int) -> Array:
  """Pads axes `first` and `first + 1` with zeros; a negative number cuts pixels off."""
  padding = [(0, 0, 0)] * images.ndim
  padding[first : first + 2] = [(l, h, 0) for l, h in zip(low, high)]
  return lax.pad(images, jnp.zeros((), images.dtype), padding)


def _one_loop(stacked: Array) -> Array:
  # XLA's CPU compiler makes a stack that is multiplied by a number in one loop. It makes a bare
  # stack from a copy of each part, which takes three times as long. The barrier hides from it that
  # the number is 1.
  return stacked * lax.optimization_barrier(jnp.ones((), stacked.dtype))


def _linear_map(name: str, function) -> Primitive:
  """Makes a primitive of a linear `function`; `vmap` adds an axis to its leading axes."""

  def batch(args: tuple, axes: tuple, *, window: Window) -> tuple[Array, int]:
    return primitive.bind(jnp.moveaxis(args[0], axes[0], 0), window=window), 0

  def shape(argument: ShapedArray, *, window: Window) -> ShapedArray:
    result = jax.eval_shape(functools.partial(function, window=window), argument)
    return ShapedArray(result.shape, result.dtype)

  primitive = Primitive(name)
  primitive.def_impl(jax.jit(function, static_argnames="window"))
  primitive.def_abstract_eval(shape)
  mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))
  batching.primitive_batchers[primitive] = batch
  return primitive


_take_patches = _linear_map("take_patches", _patches_of)
_add_patches = _linear_map("add_patches", _sum_of_patches)
ad.deflinear2(_take_patches, lambda g, _, *, window: [_add_patches.bind(g, window=window)])
ad.deflinear2(_add_patches, lambda g, _, *, window: [_take_patches.bind(g, window=window)])
