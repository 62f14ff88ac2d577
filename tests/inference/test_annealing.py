"""Annealing: unbiased weights in both directions, the sandwich of bounds, and the error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import log_mean_exp, log_weight, simulate
from aevb_jax.errors import UnsupportedError
from aevb_jax.inference import hmc
from aevb_jax.inference.annealing import (
  anneal,
  annealed_importance_sampling,
  bidirectional_monte_carlo,
  make_path,
  sandwich_in_words,
  sigmoid_temperatures,
)
from aevb_jax.inference.exact import exact_log_marginal
from aevb_jax.models import linear_gaussian as lg
from tests.support import oracles
from tests.support.statistics import assert_errors_are_right, assert_greater, assert_unbiased

AFFINE = oracles.affine_world()
LOG_P = lg.log_marginal(AFFINE.params.theta, AFFINE.x)
NETWORK = oracles.bernoulli_world()


def repeated(world, n, seed=0, **kwargs):
  estimate = lambda key: annealed_importance_sampling(key, *world, **kwargs)
  return over(estimate, jax.random.split(jax.random.key(seed), n))


log_marginals = jax.jit(jax.vmap(lg.log_marginal, (None, 0)))


def over(estimate, *arguments):
  return jax.jit(lambda *a: jax.lax.map(lambda a: estimate(*a), a, batch_size=50))(*arguments)


def sandwiches(world, n, **kwargs):
  """Draws n data points x from the model and returns their sandwiches, and x."""
  z, x = jax.jit(jax.vmap(lambda key: simulate(key, world.model, world.params)))(
    jax.random.split(jax.random.key(1), n)
  )
  estimate = lambda key, x, z: bidirectional_monte_carlo(
    key, world.model, world.params, x, z, **kwargs
  )
  keys = jax.random.split(jax.random.key(2), n)
  return over(estimate, keys, x, z), x


@pytest.mark.parametrize("num_temperatures", [1, pytest.param(2, marks=pytest.mark.long), 10])
@pytest.mark.parametrize(
  "world, log_p",
  [(AFFINE, LOG_P), (NETWORK, exact_log_marginal(*NETWORK))],
  ids=["affine", "network"],
)
def test_the_likelihood_itself_is_unbiased(world, log_p, num_temperatures):
  num_chains = 40 if num_temperatures == 1 else 10
  how = dict(num_temperatures=num_temperatures, num_leapfrogs=3, num_chains=num_chains)
  estimates = repeated(world, 2000, **how)
  assert_unbiased(np.exp(estimates.value - log_p), 1.0, detects=0.2)


def test_one_temperature_is_importance_sampling_from_the_start():
  how = dict(num_temperatures=1, num_chains=3, start=oracles_encoder(AFFINE))
  ais = lambda key: annealed_importance_sampling(key, *AFFINE, **how)
  estimate = jax.jit(ais)(jax.random.key(0))
  log_w = lambda z: log_weight(AFFINE.model, AFFINE.params, oracles_encoder(AFFINE), AFFINE.x, z)
  start_key = jax.random.split(jax.random.split(jax.random.key(0))[1])[0]
  z = jax.vmap(oracles_encoder(AFFINE).sample)(jax.random.split(start_key, 3))
  np.testing.assert_allclose(estimate.value, log_mean_exp(jax.jit(jax.vmap(log_w))(z)), rtol=1e-9)


def oracles_encoder(world):
  return world.model.encoder.given(world.params.phi, world.x)


@pytest.mark.parametrize("num_temperatures", [1, 5])
def test_exact_from_the_posterior(num_temperatures):
  world = oracles.exact_posterior_world()
  how = dict(num_temperatures=num_temperatures, num_chains=3, num_leapfrogs=3)
  ais = lambda key: annealed_importance_sampling(key, *world, start=oracles_encoder(world), **how)
  estimate = jax.jit(ais)(jax.random.key(0))
  expected = oracles.affine_log_marginal(world.params, world.x)
  np.testing.assert_allclose(estimate.value, expected, rtol=1e-12)
  np.testing.assert_allclose(estimate.standard_error, 0, atol=1e-12)
  (z, x), key = simulate(jax.random.key(1), world.model, world.params), jax.random.key(2)
  q = world.model.encoder.given(world.params.phi, x)
  bdmc = lambda key: bidirectional_monte_carlo(key, world.model, world.params, x, z, start=q, **how)
  both = jax.jit(bdmc)(key)
  expected = oracles.affine_log_marginal(world.params, x)
  np.testing.assert_allclose([both.lower.value, both.upper.value], expected, rtol=1e-12)


def test_the_sandwich():
  (lower, upper), x = sandwiches(AFFINE, 2000, num_temperatures=8, num_leapfrogs=3, num_chains=8)
  log_p = log_marginals(AFFINE.params.theta, x)
  assert_greater(log_p, lower.value)
  assert_greater(upper.value, log_p)
  # Both have mean one: forward weights over p(x), and backward (inverse) weights times p(x).
  assert_unbiased(np.exp(lower.value - log_p), 1.0, detects=0.1)
  assert_unbiased(np.exp(log_p - upper.value), 1.0, detects=0.15)


def test_more_temperatures_tighten_the_bound():
  few, many = (repeated(AFFINE, 1000, num_temperatures=t, num_chains=2) for t in (3, 30))
  assert_greater(many.value, few.value)
  assert_greater(np.full(1000, LOG_P), few.value)


@pytest.mark.long
def test_the_standard_error_is_right():
  (lower, upper), x = sandwiches(AFFINE, 400, num_temperatures=100, num_leapfrogs=5)
  log_p = log_marginals(AFFINE.params.theta, x)
  for side in (lower, upper):
    assert_errors_are_right(side.value - log_p, side.standard_error)
    assert 0.88 < np.mean(side.diagnostics["acceptance"]) < 0.93


@pytest.mark.long
def test_many_latents():
  model = lg.linear_gaussian_vae(60, 50)
  w = jax.random.normal(jax.random.key(0), (50, 60)) / np.sqrt(50)
  params = oracles.affine_params(
    w, np.zeros(60), np.zeros(60), np.zeros((60, 50)), np.zeros(50), np.zeros(50)
  )
  params = jax.tree.map(jnp.asarray, params)
  world = oracles.World(model, params, None)
  (lower, upper), x = sandwiches(world, 10, num_temperatures=1000, num_chains=16)
  log_p = log_marginals(params.theta, x)
  for side in (lower, upper):  # scripts/calibrate.py measures smaller errors
    error = np.asarray(side.value - log_p)
    assert abs(error.mean()) < 5 * error.std() / np.sqrt(10) and error.std() < 0.3


@pytest.mark.parametrize("forward", [True, False])
def test_weighs_at_the_old_temperature_and_moves_at_the_new_at_its_own_step_size(forward):
  theta, num_chains = AFFINE.params.theta, 3
  prior = AFFINE.model.prior(AFFINE.params)
  path = make_path(AFFINE.model, AFFINE.params, AFFINE.x, None, "this")
  betas = sigmoid_temperatures(4)[:: 1 if forward else -1]
  step_sizes = jnp.asarray([0.1, 0.3, 0.2, 0.25])
  z = jax.random.normal(jax.random.key(1), (num_chains, 3))
  start = lambda key: anneal(key, path, z, betas, 2, step_sizes=step_sizes)
  annealed = jax.jit(start)(jax.random.key(0))
  np.testing.assert_array_equal(annealed.step_sizes, step_sizes)

  def log_f(beta):
    return lambda z: (
      prior.log_prob(z) + beta * AFFINE.model.decoder.given(theta, z).log_prob(AFFINE.x)
    )

  @jax.jit
  def weighed(z, old, new):
    return jax.vmap(log_f(new))(z) - jax.vmap(log_f(old))(z)

  @jax.jit
  def moved(key, z, beta, step_size):
    target = log_f(beta)
    states, _ = hmc.transitions(key, hmc.init(target, z), target, step_size, num_leapfrogs=2)
    return states.position

  log_w = jnp.zeros(num_chains)
  for t in range(1, 5):
    log_w += weighed(z, betas[t - 1], betas[t])
    z = moved(jax.random.fold_in(jax.random.key(0), t), z, betas[t], step_sizes[t - 1])
  np.testing.assert_allclose(annealed.log_w, log_w, rtol=1e-9)
  np.testing.assert_allclose(annealed.z, z, rtol=1e-9)


@pytest.mark.parametrize("outside", [-np.inf, np.nan])
def test_chains_without_a_density_weigh_nothing_or_show(outside):
  given = AFFINE.model.decoder.given

  def with_a_wall(theta, z):
    p = given(theta, z)
    return p._replace(log_prob=lambda x: jnp.where(z[0] > 1.5, outside, p.log_prob(x)))

  model = AFFINE.model._replace(decoder=AFFINE.model.decoder._replace(given=with_a_wall))
  how = dict(num_temperatures=5, num_leapfrogs=2, num_chains=50)
  ais = lambda key: annealed_importance_sampling(key, model, AFFINE.params, AFFINE.x, **how)
  estimate = jax.jit(ais)(jax.random.key(0))
  if np.isnan(outside):
    assert np.isnan(estimate.value)
  else:
    assert LOG_P - 1 < estimate.value < LOG_P + 0.5


def test_temperatures_run_from_nought_to_one():
  for num_temperatures in (1, 2, 100):
    betas = sigmoid_temperatures(num_temperatures)
    assert betas[0] == 0 and betas[-1] == 1 and len(betas) == num_temperatures + 1
    assert np.all(np.diff(betas) > 0)
  assert np.diff(betas)[0] < np.diff(betas)[50] / 5


def test_memory_does_not_grow_with_the_temperatures():
  def memory(num_temperatures):
    function = lambda key: annealed_importance_sampling(
      key, *AFFINE, num_temperatures=num_temperatures
    )
    return jax.jit(function).lower(jax.random.key(0)).compile().memory_analysis()

  more = memory(2000).temp_size_in_bytes - memory(1000).temp_size_in_bytes
  assert 0 <= more <= 1000 * 6 * 8  # a few numbers per temperature


@pytest.mark.parametrize("what", ["num_temperatures", "num_leapfrogs", "num_chains"])
def test_refuses_nothing_to_do(what):
  for value in (0, -3):
    with pytest.raises(ValueError, match=f"{what} is {value}, expected at least 1"):
      annealed_importance_sampling(jax.random.key(0), *AFFINE, **{what: value})
    with pytest.raises(ValueError, match=f"{what} is {value}, expected at least 1"):
      bidirectional_monte_carlo(jax.random.key(0), *AFFINE, jnp.zeros(3), **{what: value})


def test_refuses_binary_latents():
  with pytest.raises(UnsupportedError, match="continuous z; that of this model is Bernoulli"):
    annealed_importance_sampling(jax.random.key(0), *oracles.binary_world())


def test_a_sandwich_reads_like_one():
  text = sandwich_in_words((-97.314, 0.041), (-97.18, 0.0499))
  assert text == "−97.31 ± 0.04 ≤ log p ≤ −97.18 ± 0.05"
