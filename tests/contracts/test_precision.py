"""Products round their operands to bfloat16; nothing else is rounded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import (
  bernoulli,
  binarize,
  conv_vae,
  elbo_b,
  fit,
  gaussian,
  init_params,
  iwae,
  mlp_vae,
)
from aevb_jax.algorithms import minibatch_objective
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.optimizers import adam
from aevb_jax.ops.products import product

ULP = 2.0**-8  # of bfloat16, relative; rounding to nearest errs by at most half of it
MODELS = {
  "mlp": functools.partial(mlp_vae, data_dim=784, hidden_dim=50),
  "conv": functools.partial(conv_vae, image_shape=(28, 28, 1), widths=(4, 8)),
}


@pytest.fixture(autouse=True)
def single_precision():
  with jax.enable_x64(False):
    yield


def make(name, likelihood=bernoulli, dtype=jnp.bfloat16):
  model = MODELS[name](likelihood(784), latent_dim=3, dtype=dtype)
  return model, jax.jit(lambda key: init_params(key, model))(jax.random.key(0))


def images(n):
  """Makes discs of n sizes; for noise, gradients would cancel and leave only rounding errors."""
  row, column = np.mgrid[:28, :28] - 13.5
  radii = np.linspace(4, 11, n)[:, None, None]
  return jnp.asarray((row**2 + column**2 < radii**2).reshape(n, 784), jnp.float32)


def assert_single(tree):
  assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}


def test_a_product_rounds_its_operands_alone():
  rows, matrix, g = (
    jax.random.normal(key, shape)
    for key, shape in zip(jax.random.split(jax.random.key(0), 3), [(5, 300), (300, 4), (5, 4)])
  )
  rounded = lambda a: np.asarray(a.astype(jnp.bfloat16), np.float64)
  value, pull = jax.vjp(lambda r, m: product(r, m, dtype=jnp.bfloat16), rows, matrix)
  assert_single((value, pull(g)))
  np.testing.assert_allclose(value, rounded(rows) @ rounded(matrix), rtol=1e-4, atol=1e-4)
  for gradient, exact in zip(
    pull(g), (rounded(g) @ rounded(matrix).T, rounded(rows).T @ rounded(g))
  ):
    np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=1e-4)
  assert np.abs(value - rows @ matrix).max() > 0.01  # it does round


EITHER = ["mlp", pytest.param("conv", marks=pytest.mark.long)]


@pytest.mark.parametrize("likelihood", [bernoulli, gaussian])
@pytest.mark.parametrize("name", MODELS)
def test_bound_and_gradients_are_near_those_of_single_precision(name, likelihood):
  batch = images(10)

  def bound_and_gradients(dtype):
    model, params = make(name, likelihood, dtype)
    objective = lambda p: minibatch_objective(
      jax.random.split(jax.random.key(2), 10), elbo_b, model, p, batch, num_data=10
    )[0]
    return jax.jit(jax.value_and_grad(objective))(params)

  (bound, grads), (exact, exact_grads) = map(bound_and_gradients, (jnp.bfloat16, None))
  assert_single((bound, grads))
  assert 0 < abs(bound - exact) < ULP * abs(exact)
  flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
  # Rounding changes the sign of some ReLU inputs, and so their derivatives by 1.
  for block, ulps in dict(theta=2, phi=2 if name == "mlp" else 20).items():
    gradient, expected = (flat(getattr(g, block)) for g in (grads, exact_grads))
    assert np.linalg.norm(gradient - expected) < ulps * ULP * np.linalg.norm(expected)


@pytest.mark.parametrize("name", EITHER)
def test_heads_and_log_densities_are_not_rounded(name):
  model, params = make(name)
  (x,) = images(1)
  p = model.decoder.given(params.theta, jnp.asarray([0.5, -1.0, 2.0]))
  logits = p.eta.logits
  assert_single(logits)
  assert np.mean(logits == logits.astype(jnp.bfloat16).astype(jnp.float32)) < 0.05
  exact = np.asarray(logits, np.float64)
  exact = np.sum(np.asarray(x) * exact - np.logaddexp(0, exact))
  # About -540 nats, where neighboring bfloat16 numbers are 4 apart.
  assert exact < -300 and abs(p.log_prob(x) - exact) < 1e-3
  assert_single(iwae(jax.random.key(3), model, params, x, num_samples=5))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_biases_sum_in_single_precision(name):
  # The mean gradient of M = 600 equal examples is the gradient of one. In bfloat16, which
  # rounds 257 to 256, a sum of 600 terms would stop growing half-way.
  model, params = make(name)
  (x,) = images(1)

  def gradient(m):
    def bound(theta):
      z = jnp.zeros((m, 3))
      return jnp.sum(jax.vmap(lambda z: model.decoder.given(theta, z).log_prob(x))(z)) / m

    return jax.jit(jax.grad(bound))(params.theta)

  for many, one in zip(jax.tree.leaves(gradient(600)), jax.tree.leaves(gradient(1))):
    assert jnp.linalg.norm(many - one) <= 2 * ULP * jnp.linalg.norm(one)


@pytest.mark.parametrize("name", EITHER)
def test_training_keeps_its_state_in_single_precision(name):
  pixels = np.random.default_rng(0).integers(0, 256, size=(20, 784), dtype=np.uint8)
  model, _ = make(name)
  algorithm = aevb(model, elbo_b, adam(1e-3), num_data=20)
  state, metrics = fit(
    algorithm,
    algorithm.init(jax.random.key(0)),
    jax.random.key(1),
    pixels,
    batch_size=10,
    num_steps=30,
    preprocess=binarize,
  )
  assert_single((state.params, metrics))
  assert metrics["bound"][-1] > metrics["bound"][0] + 1
  dtypes = {leaf.dtype for leaf in jax.tree.leaves(state.opt_state)}
  assert dtypes == {jnp.dtype("float32"), jnp.dtype("int32")}


def test_double_precision_is_left_alone():
  with jax.enable_x64(True):
    for name in MODELS:
      model, params = make(name, dtype=None)
      bound = functools.partial(elbo_b, jax.random.key(0), model)
      value = jax.eval_shape(bound, params, jnp.ones(784))
      leaves = {leaf.dtype for leaf in jax.tree.leaves((params, value))}
      assert leaves == {jnp.dtype("float64")}
