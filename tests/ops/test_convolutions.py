"""Convolutions as matrix products have the values and derivatives of XLA's convolutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from aevb_jax.ops import convolutions
from aevb_jax.ops.convolutions import conv, conv_transpose


def lax_conv(image, kernel, stride, padding):
  numbers = ("NHWC", "HWIO", "NHWC")
  return lax.conv_general_dilated(
    image[None], kernel, (stride, stride), padding, dimension_numbers=numbers
  )[0]


def lax_conv_transpose(image, kernel, stride, padding):
  return lax.conv_transpose(image[None], kernel, (stride, stride), padding)[0]


LAYERS = {"conv": (conv, lax_conv), "conv_transpose": (conv_transpose, lax_conv_transpose)}
# Height, width, kernel height and width, channels, features: odd and even, long and thin.
SHAPES = [(7, 6, 3, 3, 2, 3), (8, 5, 2, 4, 1, 2), (5, 5, 5, 1, 3, 1), (4, 9, 4, 5, 2, 2)]


def operands(height, width, kernel_height, kernel_width, channels, features, lead=()):
  rng = np.random.default_rng(0)
  image = jnp.asarray(rng.normal(size=(*lead, height, width, channels)))
  return image, jnp.asarray(rng.normal(size=(kernel_height, kernel_width, channels, features)))


def assert_close(actual, expected, tolerance=1e-12):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected
  )


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_and_gradients_are_those_of_lax(layer, padding, stride, shape):
  ours, its = LAYERS[layer]
  image, kernel = operands(*shape)
  its_ = lambda i, k: its(i, k, stride, padding)
  ours_ = lambda i, k: ours(i, k, stride=stride, padding=padding, as_products=True)
  out = jax.eval_shape(its_, image, kernel).shape
  assert jax.eval_shape(ours_, image, kernel).shape == out
  weights = jnp.asarray(np.random.default_rng(1).normal(size=out))

  def loss(layer, *args):
    value = layer(*args)
    return jnp.sum(weights * jnp.sin(value)), value

  each = lambda layer: jax.grad(lambda *args: loss(layer, *args), (0, 1), has_aux=True)
  assert_close(*jax.jit(lambda *args: (each(ours_)(*args), each(its_)(*args)))(image, kernel))


@pytest.mark.long
@pytest.mark.parametrize("layer", LAYERS)
def test_transformations_compose(layer):
  ours, its = LAYERS[layer]
  images, kernel = operands(6, 5, 3, 3, 2, 2, lead=(3,))
  kernels = jnp.stack([kernel, -2 * kernel])
  direction = jax.tree.map(jnp.cos, (kernel, images))

  def both(transform):
    ours_ = lambda kernel, image: jnp.sum(jnp.sin(ours(image, kernel, stride=2, as_products=True)))
    its_ = lambda kernel, image: jnp.sum(jnp.sin(its(image, kernel, 2, "SAME")))
    assert_close(transform(ours_), transform(its_))

  mean = lambda f: lambda kernel, images: jnp.mean(jax.vmap(f, (None, 0))(kernel, images))
  both(lambda f: jax.jit(jax.value_and_grad(mean(f), (0, 1)))(kernel, images))
  both(lambda f: jax.vmap(jax.grad(f), (None, 0))(kernel, images))  # a gradient per example
  both(lambda f: jax.vmap(jax.grad(mean(f)), (0, None))(kernels, images))  # a sweep
  both(lambda f: jax.vmap(jax.grad(mean(f)), (0, 0))(kernels, images[:2, None]))
  both(lambda f: jax.jvp(mean(f), (kernel, images), direction))
  both(lambda f: jax.grad(lambda k: jnp.sum(jax.grad(mean(f))(k, images) ** 2))(kernel))
  both(lambda f: jax.grad(jax.checkpoint(mean(f)))(kernel, images))
  # Samples within examples: two axes of a minibatch, one kernel.
  nested = lambda f: mean(lambda k, a: mean(lambda k, b: f(k, a * b))(k, images))
  both(lambda f: jax.grad(nested(f))(kernel, images))


@pytest.mark.parametrize("layer", LAYERS)
def test_the_gradient_of_a_minibatch_is_one_product(layer):
  # One product per example would hold M gradients in memory before their sum.
  images, kernel = operands(9, 8, 3, 3, 2, 4, lead=(7,))
  ours, _ = LAYERS[layer]
  one = lambda kernel, image: jnp.sum(jnp.sin(ours(image, kernel, stride=2, as_products=True)))
  loss = lambda kernel: jnp.mean(jax.vmap(one, (None, 0))(kernel, images))
  hlo = jax.jit(jax.grad(loss)).lower(kernel).as_text()
  products = [line for line in hlo.splitlines() if "dot_general" in line]
  assert len(products) == 2  # one forwards, one for the kernel's gradient
  assert all("batching_dims" not in line for line in products)


def test_patches_and_their_sum_are_transposes():
  # <patches(x), p> = <x, sum(p)>, for windows that overhang, overlap and leave gaps.
  rng = np.random.default_rng(0)
  for taps, stride, low, large in [(1, 3, 0, 8), (3, 2, 1, 8), (4, 3, 1, 5), (3, 1, 1, 4)]:
    small = (large + low - 1) // stride + 1
    axis = convolutions.Axis(taps, stride, low, large, small)
    window = axis, axis._replace(large=large + 1, low=0)
    x = jnp.asarray(rng.normal(size=(large, large + 1, 2)))
    patches = jax.jit(lambda x, w=window: convolutions._patches_of(x, window=w))(x)
    p = jnp.asarray(rng.normal(size=patches.shape))
    total = jax.jit(lambda p, w=window: convolutions._sum_of_patches(p, window=w))(p)
    np.testing.assert_allclose(np.sum(patches * p), np.sum(x * total), rtol=1e-12)


def test_the_backend_chooses(monkeypatch):
  image, kernel = operands(6, 5, 3, 3, 2, 2)
  for function in (conv, conv_transpose):
    jaxpr = lambda f=function, **how: str(
      jax.make_jaxpr(lambda i, k: f(i, k, **how))(image, kernel)
    )
    assert "patches" in jaxpr() and "conv_general_dilated" not in jaxpr()
    assert "conv_general_dilated" in jaxpr(as_products=False)
    with monkeypatch.context() as patch:
      patch.setattr(jax, "default_backend", lambda: "gpu")
      assert "conv_general_dilated" in jaxpr()
    assert_close(function(image, kernel), function(image, kernel, as_products=False))


@functools.partial(jax.jit, static_argnums=0)
def value_and_pull(function, image, kernel, cotangent=None):
  value, pull = jax.vjp(function, image, kernel)
  return value, pull(value if cotangent is None else cotangent)


@pytest.mark.parametrize("as_products", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_operands_are_rounded_and_sums_are_not(layer, as_products):
  with jax.enable_x64(False):
    ours, its = LAYERS[layer]
    image, kernel = (a.astype(jnp.float32) for a in operands(6, 5, 3, 3, 40, 2))
    how = dict(stride=2, dtype=jnp.bfloat16, as_products=as_products)
    value, gradients = value_and_pull(lambda i, k: ours(i, k, **how), image, kernel)
    assert value.dtype == jnp.float32 and {g.dtype for g in gradients} == {jnp.dtype("float32")}
    rounded = [a.astype(jnp.bfloat16).astype(jnp.float32) for a in (image, kernel)]
    its_ = lambda i, k: its(i, k, 2, "SAME")
    exact, exact_gradients = value_and_pull(its_, *rounded, value)
    ulp = 2.0**-8
    tolerance = 1e-5 if as_products else ulp  # XLA rounds the result to bfloat16
    assert_close(value, exact, tolerance * float(jnp.max(jnp.abs(exact))))
    for gradient, expected in zip(gradients, exact_gradients):
      assert_close(gradient, expected, 2 * ulp * float(jnp.max(jnp.abs(expected))))
    assert jnp.max(jnp.abs(value - its(image, kernel, 2, "SAME"))) > 1e-3  # operands are rounded


def test_what_does_not_fit_is_refused():
  image, kernel = operands(6, 5, 3, 3, 2, 2)
  for function in (conv, conv_transpose):
    with pytest.raises(ValueError, match="one image at a time"):
      function(image[None], kernel)
    with pytest.raises(ValueError, match="expected"):
      function(image[..., :1], kernel)
    with pytest.raises(ValueError, match="padding is 'FULL'"):
      function(image, kernel, padding="FULL")
  with pytest.raises(ValueError, match="smaller than the kernel"):
    conv(image[:2], kernel, padding="VALID")
  assert conv_transpose(image[:1], kernel, padding="VALID").shape == (3, 7, 2)


def test_a_kernel_of_another_dtype_is_refused():
  image, kernel = jnp.ones((4, 4, 1), jnp.uint8), jnp.ones((3, 3, 1, 2))
  with pytest.raises(TypeError, match="rows are uint8 and the matrix is float64"):
    conv(image, kernel, as_products=True)
