"""The importance-sampled log-likelihood: exactness, bias, error and order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import elbo_a, importance_sampling, standard_normal
from aevb_jax.inference.exact import exact_elbo, exact_log_marginal
from aevb_jax.inference.marginal import from_log_weights
from tests.support import oracles
from tests.support.statistics import assert_greater, assert_unbiased


def repeated(world, n, num_samples, chunk_size=50, seed=0):
  estimate = lambda key: importance_sampling(
    key, *world, num_samples=num_samples, chunk_size=chunk_size
  )
  return jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(seed), n))


@pytest.mark.parametrize("num_samples", [2, 7, 120])
def test_exact_at_the_posterior_for_any_noise(num_samples):
  world = oracles.exact_posterior_world()
  for seed in range(3):
    estimate = importance_sampling(jax.random.key(seed), *world, num_samples=num_samples)
    expected = oracles.affine_log_marginal(world.params, world.x)
    np.testing.assert_allclose(estimate.value, expected, rtol=1e-12)
    np.testing.assert_allclose(estimate.standard_error, 0, atol=1e-7)


@pytest.mark.parametrize("num_samples", [1, 10, 23])
def test_the_likelihood_itself_is_unbiased(num_samples):
  # 23 in chunks of 10 ends with a chunk of 3.
  affine, network = oracles.affine_world(), oracles.bernoulli_world()
  for world, log_p in (
    (affine, oracles.affine_log_marginal(affine.params, affine.x)),
    (network, exact_log_marginal(*network)),
  ):
    log_values = repeated(world, 40_000, num_samples, chunk_size=10).value
    assert_unbiased(np.exp(log_values - log_p), 1.0, detects=0.1)


def test_one_sample_is_estimator_a():
  values = repeated(oracles.bernoulli_world(), 40_000, 1)
  expected = exact_elbo(*oracles.bernoulli_world())
  assert_unbiased(values.value, expected, detects=0.02)
  assert np.isnan(values.standard_error).all()


def test_more_samples_tighten_the_bound():
  world = oracles.bernoulli_world()
  log_p = exact_log_marginal(*world)
  keys = jax.random.split(jax.random.key(1), 40_000)
  previous = jax.jit(jax.vmap(lambda key: elbo_a(key, *world)))(keys)
  for seed, num_samples in enumerate((2, 10, 50)):
    values = repeated(world, 40_000, num_samples, seed=seed + 2).value
    assert_greater(values, previous)
    previous = values
  assert_greater(np.broadcast_to(log_p, previous.shape), previous)


@pytest.mark.long
def test_the_standard_error_is_the_standard_deviation_of_the_estimate():
  estimates = repeated(oracles.bernoulli_world(), 20_000, 1000)
  claimed = np.sqrt(np.mean(estimates.standard_error**2))
  np.testing.assert_allclose(claimed, np.std(estimates.value), rtol=0.03)


def test_intervals_cover_the_truth():
  world = oracles.bernoulli_world()
  value, error, _ = repeated(world, 4000, 1000)
  covered = np.abs(value - exact_log_marginal(*world)) < 1.96 * error
  assert 0.93 < covered.mean() < 0.97


def test_weights_far_below_the_smallest_float():
  # log p(x) is far below -745, whose exponential is 0 even in double precision.
  world = oracles.affine_world()
  x = world.x + 300.0
  value, error, _ = importance_sampling(
    jax.random.key(0), world.model, world.params, x, num_samples=100
  )
  assert np.isfinite(value) and value < -1000 and np.isfinite(error)


def test_memory_grows_by_one_number_a_sample():
  world = oracles.bernoulli_world()

  def memory(num_samples):
    function = lambda key: importance_sampling(key, *world, num_samples=num_samples)
    compiled = jax.jit(function).lower(jax.random.key(0)).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  # The log-weights, and their sorted and exponentiated copies.
  assert (memory(101_000) - memory(1000)) / 100_000 <= 6 * 8


def test_the_effective_sample_size_of_known_weights():
  log_w = jnp.log(jnp.asarray([1.0, 1.0, 1.0, 0.0])) - 2000.0
  estimate = from_log_weights(log_w)
  np.testing.assert_allclose(estimate.diagnostics["ess"], 3, rtol=1e-12)
  np.testing.assert_allclose(estimate.value, np.log(0.75) - 2000, rtol=1e-12)
  np.testing.assert_allclose(estimate.standard_error, 0.5 / 2 / 0.75, rtol=1e-12)
  assert from_log_weights(jnp.full(3, -jnp.inf)).value == -jnp.inf


@pytest.mark.parametrize("variance_ratio", [0.2, 0.5, 0.8])
def test_pareto_k_is_the_shape_of_the_tail(variance_ratio):
  # q has this share of the posterior's variance σ²; then log w grows like
  # (1/ratio - 1) z² / 2σ² while -log q grows like z² / 2 ratio σ²: k = 1 - ratio.
  world = oracles.exact_posterior_world(latent_dim=1)
  log_var = world.params.phi["log_var"] + np.log(variance_ratio)
  world = world._replace(params=world.params._replace(phi=world.params.phi | {"log_var": log_var}))
  k = repeated(world, 200, 20_000).diagnostics["pareto_k"].mean()
  assert abs(k - (1 - variance_ratio)) < 0.12


def test_a_weight_that_is_no_number_shows():
  log_w = jnp.asarray([0.0, jnp.nan, 0.0])
  assert np.isnan(from_log_weights(log_w).value)


def test_refuses_no_samples():
  world = oracles.affine_world()
  with pytest.raises(ValueError, match="num_samples is 0"):
    importance_sampling(jax.random.key(0), *world, num_samples=0)


def test_weights_of_zero():
  nothing = from_log_weights(jnp.full(40, -jnp.inf))
  assert nothing.value == -np.inf and nothing.diagnostics["ess"] == 0
  assert np.isnan(nothing.standard_error)
  half = from_log_weights(jnp.where(jnp.arange(40) < 20, -jnp.inf, -700.0))
  np.testing.assert_allclose(half.value, -700 - np.log(2), rtol=1e-14)
  np.testing.assert_allclose(half.diagnostics["ess"], 20, rtol=1e-14)
  # Of w in {0, 1}: std/sqrt(K)/mean = sqrt(10/39)/sqrt(40)/0.5.
  np.testing.assert_allclose(half.standard_error, np.sqrt(10 / 39 / 40) / 0.5, rtol=1e-12)
  lost = from_log_weights(jnp.asarray([jnp.nan, 0.0]))
  assert np.isnan(lost.value) and np.isnan(lost.diagnostics["ess"])


@pytest.mark.parametrize("possible", [True, False])
def test_too_few_weights_above_zero_have_an_infinite_pareto_k(possible):
  # Of 60 samples z ~ N(0, 1), few or none lie above the least z that p(x|z) allows.
  world = oracles.bernoulli_world()
  least = 1.5 if possible else 50.0

  def given(theta, z):
    p = world.model.decoder.given(theta, z)
    return p._replace(log_prob=lambda x: jnp.where(z[0] < least, -jnp.inf, p.log_prob(x)))

  decoder = world.model.decoder._replace(given=given)
  q = lambda phi, x: standard_normal(1)
  encoder = world.model.encoder._replace(given=q)
  model = world.model._replace(decoder=decoder, encoder=encoder)
  key = jax.random.key(0)
  estimate = importance_sampling(key, model, world.params, world.x, num_samples=60)
  assert np.isfinite(estimate.value) == possible
  assert estimate.diagnostics["pareto_k"] == np.inf
  assert 0 < estimate.diagnostics["ess"] < 12 if possible else estimate.diagnostics["ess"] == 0
