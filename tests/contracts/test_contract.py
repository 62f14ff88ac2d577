"""The properties that every estimator promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators import sgvb
from tests.support import oracles
from tests.support.estimator_table import ALL, TIGHT_AT_THE_POSTERIOR, WITHOUT_REPARAMETERIZATION

# Left out of most tests below; their values at the exact posterior are tested.
OTHER_ALPHAS = ("renyi -1", "renyi 1", "renyi 3", "renyi inf")
EACH = {name: estimator for name, estimator in ALL.items() if name not in OTHER_ALPHAS}
every_estimator = pytest.mark.parametrize("estimator", EACH.values(), ids=EACH)


@every_estimator
def test_a_scalar_the_same_jitted_and_eager(estimator):
  world = oracles.bernoulli_world()
  eager = estimator(jax.random.key(0), *world, num_samples=4)
  jitted = jax.jit(lambda key: estimator(key, *world, num_samples=4))(jax.random.key(0))
  assert eager.shape == () and eager.dtype == jnp.float64
  differentiated, _ = oracles.value_and_grad(
    lambda p: estimator(jax.random.key(0), world.model, p, world.x, num_samples=4)
  )(world.params)
  np.testing.assert_allclose(eager, differentiated, rtol=1e-12)
  np.testing.assert_allclose(eager, jitted, rtol=1e-12)


@every_estimator
def test_vmapped_is_looped(estimator):
  # No value of one data point, such as its learning signal, may affect another.
  world = oracles.affine_world()
  xs = world.x[None] + jnp.arange(3.0)[:, None]

  def one(key, x):
    return jax.grad(lambda p: estimator(key, world.model, p, x, num_samples=4))(world.params)

  one = jax.jit(one)

  keys = lambda: jax.random.split(jax.random.key(0), 3)
  looped = [oracles.flat(one(key, x)) for key, x in zip(keys(), xs)]
  vmapped = oracles.rows(jax.jit(jax.vmap(one))(keys(), xs))
  np.testing.assert_allclose(vmapped, looped, rtol=1e-9, atol=1e-12)


@every_estimator
def test_many_samples_cost_one_pass_through_the_encoder(estimator):
  world = oracles.bernoulli_world()

  def estimate(key, params):
    return estimator(key, world.model, params, world.x, num_samples=4)

  program = str(jax.make_jaxpr(estimate)(jax.random.key(0), world.params))
  # Both networks have 7 hidden units. The encoder's are computed once, the decoder's for 4
  # samples. The encoder also runs on dreams, one for each of the 4 samples.
  assert program.count("f64[1,7] = product") == 1
  assert program.count("f64[4,7] = product") >= 1


@every_estimator
def test_samples_taken_in_blocks_are_samples_taken_at_once(estimator, monkeypatch):
  world = oracles.bernoulli_world()

  def value_and_gradient(at_once):
    monkeypatch.setattr(sgvb, "SAMPLES_AT_ONCE", at_once)
    estimate = lambda p: estimator(jax.random.key(0), world.model, p, world.x, num_samples=8)
    assert ("scan[" in str(jax.make_jaxpr(estimate)(world.params))) == (at_once < 8)
    value, gradient = oracles.value_and_grad(estimate)(world.params)
    return value, oracles.flat(gradient)

  for blocks, whole in zip(value_and_gradient(3), value_and_gradient(8), strict=True):
    np.testing.assert_allclose(blocks, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", TIGHT_AT_THE_POSTERIOR.values(), ids=TIGHT_AT_THE_POSTERIOR)
def test_every_bound_is_log_p_at_the_exact_posterior(estimator):
  world = oracles.exact_posterior_world()
  expected = oracles.affine_log_marginal(world.params, world.x)
  for seed, num_samples in ((0, 2), (1, 6)):
    value = estimator(jax.random.key(seed), *world, num_samples=num_samples)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@every_estimator
def test_differentiated_forwards_as_backwards(estimator):
  # Second-order optimizers need `jax.jvp` and Hessian-vector products.
  world = oracles.bernoulli_world()
  function = lambda p: estimator(jax.random.key(0), world.model, p, world.x, num_samples=2)
  ones = jax.tree.map(jnp.ones_like, world.params)
  _, forwards = jax.jit(lambda p, v: jax.jvp(function, (p,), (v,)))(world.params, ones)
  backwards = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(oracles.grad(function)(world.params)))
  np.testing.assert_allclose(forwards, backwards, rtol=1e-9)


needs_reparameterization = {n: e for n, e in ALL.items() if n not in WITHOUT_REPARAMETERIZATION}


@pytest.mark.parametrize(
  "estimator", needs_reparameterization.values(), ids=needs_reparameterization
)
def test_refuses_samples_that_carry_no_gradient(estimator):
  with pytest.raises(UnsupportedError, match="family Bernoulli has no reparameterization"):
    estimator(jax.random.key(0), *oracles.binary_world(), num_samples=2)


@pytest.mark.parametrize(
  "estimator", WITHOUT_REPARAMETERIZATION.values(), ids=WITHOUT_REPARAMETERIZATION
)
def test_takes_binary_latents(estimator):
  world = oracles.binary_world()
  world = world._replace(params=world.params._replace(psi=jnp.zeros(())))
  value, gradients = oracles.value_and_grad(
    lambda p: estimator(jax.random.key(0), world.model, p, world.x, num_samples=2)
  )(world.params)
  assert jnp.isfinite(value)
  assert np.abs(oracles.flat(gradients.phi)).max() > 1e-3
  assert np.abs(oracles.flat(gradients.theta)).max() > 1e-3


@every_estimator
def test_refuses_no_samples(estimator):
  with pytest.raises(ValueError, match="num_samples is 0"):
    estimator(jax.random.key(0), *oracles.affine_world(), num_samples=0)


def test_one_data_point_at_a_time():
  world = oracles.affine_world()
  with pytest.raises(ValueError, match="one event at a time"):
    ALL["iwae"](jax.random.key(0), world.model, world.params, world.x[None], num_samples=2)
