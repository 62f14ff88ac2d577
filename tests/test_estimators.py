"""SGVB A and B against exact worlds: ladder 5, 7 and 12."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import (
  bernoulli,
  conditional,
  elbo_a,
  elbo_b,
  kl_divergence,
  log_joint,
  standard_normal,
)
from aevb_jax.networks import MLP
from aevb_jax.types import UnsupportedError
from tests import oracles
from tests.statistical import assert_unbiased

ESTIMATORS = [elbo_a, elbo_b]
N = 80_000


def draws(estimator, world, num_samples=1, n=N, seed=0):
  """Values and gradients of n independent estimates."""
  estimate = functools.partial(estimator, num_samples=num_samples)

  def value_and_grad(key):
    return jax.value_and_grad(lambda p: estimate(key, world.model, p, world.x))(world.params)

  return jax.jit(jax.vmap(value_and_grad))(jax.random.split(jax.random.key(seed), n))


def assert_gradients_unbiased(gradients, exact, detects):
  # Block by block: θ's low variance would hide an error in φ.
  for block in ("theta", "phi"):
    samples = np.concatenate(
      [np.reshape(g, (len(g), -1)) for g in jax.tree.leaves(getattr(gradients, block))], axis=1
    )
    expected = np.concatenate([np.ravel(g) for g in jax.tree.leaves(getattr(exact, block))])
    assert_unbiased(samples, expected, detects=detects)


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unbiased_in_the_affine_world(estimator, num_samples):
  world = oracles.affine_world()
  exact, exact_gradient = jax.value_and_grad(oracles.affine_bound)(world.params, world.x)
  values, gradients = draws(estimator, world, num_samples)
  assert_unbiased(values, exact, detects=0.02)
  assert_gradients_unbiased(gradients, exact_gradient, detects=0.05)


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unbiased_with_networks(estimator, num_samples):
  world = oracles.bernoulli_world()
  exact, exact_gradient = jax.value_and_grad(
    lambda params: oracles.quadrature_bound(world.model, params, world.x)
  )(world.params)
  values, gradients = draws(estimator, world, num_samples)
  assert_unbiased(values, exact, detects=0.02)
  assert_gradients_unbiased(gradients, exact_gradient, detects=0.05)


def test_the_oracles_agree_with_each_other():
  # The quadrature's bound lies under its log p(x), and both are converged.
  world = oracles.bernoulli_world()
  bounds = [oracles.quadrature_bound(*world, step=step) for step in (0.04, 0.02)]
  marginals = [oracles.quadrature_log_marginal(*world, step=step) for step in (0.04, 0.02)]
  np.testing.assert_allclose(*bounds, rtol=1e-12)
  np.testing.assert_allclose(*marginals, rtol=1e-12)
  assert bounds[0] < marginals[0] - 0.01
  # The affine bound is tight exactly at the posterior.
  exact = oracles.exact_posterior_world()
  marginal = oracles.affine_log_marginal(exact.params, exact.x)
  np.testing.assert_allclose(oracles.affine_bound(exact.params, exact.x), marginal, rtol=1e-12)
  loose = exact.params.phi | {"log_var": exact.params.phi["log_var"] + 0.1}
  assert oracles.affine_bound(exact.params._replace(phi=loose), exact.x) < marginal - 1e-3


@pytest.mark.parametrize("num_samples", [1, 2, 7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_is_exact_at_the_posterior_for_any_noise(num_samples, seed):
  world = oracles.exact_posterior_world()
  value = elbo_a(jax.random.key(seed), *world, num_samples=num_samples)
  expected = oracles.affine_log_marginal(world.params, world.x)
  np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_a_still_has_a_noisy_gradient_at_the_posterior():
  _, gradients = draws(elbo_a, oracles.exact_posterior_world(), n=1000)
  assert np.std(gradients.phi["log_var"], axis=0).min() > 0.1
  assert_unbiased(gradients.phi["log_var"], np.zeros(3), detects_shift=0.15)


def test_a_and_b_differ_by_the_noise_in_the_kl_alone():
  world = oracles.affine_world()
  make_key = lambda: jax.random.key(5)
  a = elbo_a(make_key(), *world, num_samples=4)
  b = elbo_b(make_key(), *world, num_samples=4)
  q = world.model.encoder.given(world.params.phi, world.x)
  p = world.model.prior(world.params.theta)
  z = jax.vmap(q.sample)(jax.random.split(make_key(), 4))
  sampled_kl = jnp.mean(jax.vmap(q.log_prob)(z) - jax.vmap(p.log_prob)(z))
  np.testing.assert_allclose(b - a, sampled_kl - kl_divergence(q, p), rtol=1e-10)


def test_more_samples_average_independent_ones():
  values_1, _ = draws(elbo_a, oracles.affine_world(), num_samples=1)
  values_4, _ = draws(elbo_a, oracles.affine_world(), num_samples=4)
  # The variance of a variance at n = 80000 is about 0.5 %; L shared noise would give 1.
  np.testing.assert_allclose(np.var(values_1) / np.var(values_4), 4, rtol=0.15)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_contract(estimator):
  world = oracles.bernoulli_world()
  eager = estimator(jax.random.key(0), *world, num_samples=2)
  jitted = jax.jit(lambda key: estimator(key, *world, num_samples=2))(jax.random.key(0))
  assert eager.shape == () and eager.dtype == jnp.float64
  np.testing.assert_allclose(eager, jitted, rtol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_vmapped_is_looped(estimator):
  world = oracles.affine_world()
  xs = world.x[None] + jnp.arange(4.0)[:, None]
  one = lambda key, x: estimator(key, world.model, world.params, x, num_samples=2)
  keys = lambda: jax.random.split(jax.random.key(0), 4)
  looped = [one(key, x) for key, x in zip(keys(), xs)]
  np.testing.assert_allclose(jax.vmap(one)(keys(), xs), jnp.stack(looped), rtol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_many_samples_cost_one_pass_through_the_encoder(estimator):
  world = oracles.bernoulli_world()

  def estimate(key, params):
    return estimator(key, world.model, params, world.x, num_samples=5)

  program = str(jax.make_jaxpr(estimate)(jax.random.key(0), world.params))
  # Both networks have 7 hidden units: the encoder's once, the decoder's for 5 samples.
  assert program.count("f64[7] = dot_general") == 1
  assert program.count("f64[5,7] = dot_general") == 1


def world_with_bernoulli_posterior():
  world = oracles.bernoulli_world()
  encoder = conditional(MLP((3,), (1,)), bernoulli(1), input_size=6)
  params = world.params._replace(phi=encoder.init(jax.random.key(0)))
  return world._replace(model=world.model._replace(encoder=encoder), params=params)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_refuses_samples_that_carry_no_gradient(estimator):
  with pytest.raises(UnsupportedError, match=f"{estimator.__name__}.*Bernoulli"):
    estimator(jax.random.key(0), *world_with_bernoulli_posterior())


def test_b_refuses_a_pair_without_closed_form_and_takes_one_given():
  class Learned:  # the eta of some prior that is not a diagonal Gaussian
    pass

  world = oracles.bernoulli_world()
  prior = standard_normal(1)._replace(eta=Learned())
  model = world.model._replace(prior=lambda theta: prior)
  with pytest.raises(UnsupportedError, match="DiagonalGaussian ‖ Learned.*elbo_a"):
    elbo_b(jax.random.key(0), model, *world[1:])
  assert jnp.isfinite(elbo_a(jax.random.key(0), model, *world[1:]))
  given = elbo_b(jax.random.key(0), model, *world[1:], kl=lambda q, p: jnp.float64(0.25))
  exact_kl = kl_divergence(world.model.encoder.given(world.params.phi, world.x), standard_normal(1))
  usual = elbo_b(jax.random.key(0), *world)
  np.testing.assert_allclose(given + 0.25, usual + exact_kl, rtol=1e-12)


def test_one_data_point_at_a_time():
  world = oracles.affine_world()
  with pytest.raises(ValueError, match="one event at a time"):
    elbo_a(jax.random.key(0), world.model, world.params, world.x[None])


def test_log_joint_is_prior_plus_likelihood():
  world = oracles.bernoulli_world()
  z = jnp.asarray([0.3])
  logits = world.model.decoder.given(world.params.theta, z).eta.logits
  y = 1 / (1 + np.exp(-logits))
  expected = np.sum(np.log(np.where(world.x == 1, y, 1 - y))) - 0.5 * np.log(2 * np.pi) - 0.5 * 0.09
  np.testing.assert_allclose(log_joint(world.model, world.params.theta, world.x, z), expected)
