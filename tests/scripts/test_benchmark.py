"""The floor that the benchmark compares a step with consists of the step's matrix products."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive

sys.path.append(str(pathlib.Path(__file__).parents[2] / "scripts"))

from benchmarks.floor import UncountableError, flop, make_floor, products_of
from benchmarks.scaling import exponent

A, B = jnp.ones((2, 3)), jnp.ones((3, 5))
SQUARE = jnp.ones((3, 3))


def test_every_product_counts_once():
  products = products_of(lambda a, b: jnp.tanh(a @ b) + jnp.sin(a @ b), A, B)
  assert [flop(product) for product in products] == [2 * 2 * 3 * 5]


def test_a_gradient_has_the_products_of_both_passes():
  function = lambda b: jnp.sum(jnp.tanh(A @ b) @ jnp.ones((5, 7)))
  products = products_of(jax.value_and_grad(function), B)
  assert sum(map(flop, products)) == 2 * (2 * 3 * 5 + 2 * 5 * 7 + 2 * 7 * 5 + 3 * 2 * 5)


def test_products_of_a_batch():
  (product,) = products_of(jax.vmap(jnp.matmul), jnp.ones((4, 2, 3)), jnp.ones((4, 3, 5)))
  assert flop(product) == 4 * 2 * 2 * 3 * 5


def test_those_of_a_scan_count_once_a_round():
  def repeated(x):
    return jax.lax.scan(lambda x, _: (x @ SQUARE, None), x @ SQUARE, length=6)[0]

  assert len(products_of(repeated, SQUARE)) == 7


def test_the_gradient_of_a_scan_has_three_products_a_round():
  def last(w):
    step = lambda h, _: (jnp.tanh(h @ w), None)
    return jnp.sum(jax.lax.scan(step, A, length=6)[0])

  products = products_of(jax.value_and_grad(last), SQUARE)
  assert [flop(product) for product in products] == 18 * [2 * 2 * 3 * 3]


def test_products_inside_custom_derivatives():
  @jax.custom_vjp
  def product(a, b):
    return a @ b

  product.defvjp(lambda a, b: (a @ b, (a, b)), lambda ab, ct: (ct @ ab[1].T, ab[0].T @ ct))
  assert len(products_of(product, A, B)) == 1
  assert len(products_of(jax.grad(lambda a, b: jnp.sum(product(a, b) ** 2), (0, 1)), A, B)) == 3


def test_products_inside_a_primitive_of_its_own():
  primitive = Primitive("squared")
  primitive.def_impl(jax.jit(lambda x, *, power: x @ x @ x, static_argnames="power"))
  primitive.def_abstract_eval(lambda x, *, power: x)
  assert len(products_of(lambda x: primitive.bind(x, power=3), SQUARE)) == 2


def test_of_the_branches_for_devices_that_of_this_one():
  def by_platform(x):
    return jax.lax.platform_dependent(x, cpu=lambda x: x @ x, default=lambda x: x @ x @ x)

  assert len(products_of(by_platform, SQUARE)) == (1 if jax.default_backend() == "cpu" else 2)


@pytest.mark.parametrize(
  "function",
  [
    lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x),
    lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x, x),
    lambda x: jax.lax.conv(x[None, None], x[None, None], (1, 1), "SAME"),
  ],
  ids=["while", "cond", "convolution"],
)
def test_what_cannot_be_counted_is_refused(function):
  with pytest.raises(UncountableError, match="product"):
    products_of(function, SQUARE)


def test_a_loop_without_products_is_no_matter():
  assert not products_of(lambda x: jax.lax.while_loop(lambda x: x < 9, lambda x: x + 1, x), 0)


def test_the_floor_computes_them_all():
  def repeated(x):
    return jax.lax.scan(lambda x, _: (x @ SQUARE, None), x @ x.T, length=6)[0]

  total = float(make_floor(products_of(repeated, SQUARE), 5)())
  assert np.isfinite(total) and total != 0


def test_the_exponent_is_the_slope_of_the_upper_sizes():
  sizes = [1, 2, 4, 8, 16, 32]
  np.testing.assert_allclose(exponent(sizes, [5, 5, 5, 3 * 8**1.5, 3 * 16**1.5, 3 * 32**1.5]), 1.5)
