"""The score function, its control variates and VIMCO compared with exact gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import elbo_a, vimco
from aevb_jax.algorithms import optimizers
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.estimators import (
  Baseline,
  constant_baseline,
  learned_baseline,
  leave_one_out,
  score_function_optimal_scale,
  with_baseline,
)
from aevb_jax.estimators.bounds import log_mean_exp, power_mean
from aevb_jax.estimators.score_functions import others, score_function, without_each
from aevb_jax.inference.exact import exact_elbo
from tests.support import oracles
from tests.support.statistics import assert_unbiased

P = functools.partial
N = 40_000
GAUSSIAN, BINARY = oracles.bernoulli_world(), oracles.binary_world()
LEARNED = learned_baseline(6, hidden_dim=3)


def with_psi(world, psi):
  return world._replace(params=world.params._replace(psi=psi))


def phi_variance(estimator, world, num_samples):
  _, gradients = oracles.draws(estimator, world, 10_000, num_samples=num_samples)
  return oracles.rows(gradients.phi).var(0).sum()


CASES = {
  "no baseline, one sample": (score_function, 1, GAUSSIAN),
  "no baseline": (score_function, 3, GAUSSIAN),
  "leave one out": (P(score_function, baseline=leave_one_out), 3, GAUSSIAN),
  "moving average": (
    P(score_function, baseline=constant_baseline),
    2,
    with_psi(GAUSSIAN, jnp.asarray(-4.0)),
  ),
  "learned": (
    P(score_function, baseline=LEARNED),
    2,
    with_psi(GAUSSIAN, LEARNED.init(jax.random.key(9))),
  ),
  "optimal scale": (score_function_optimal_scale, 3, GAUSSIAN),
  "binary, no baseline": (score_function, 3, BINARY),
  "binary, leave one out": (P(score_function, baseline=leave_one_out), 3, BINARY),
  "binary, optimal scale": (score_function_optimal_scale, 3, BINARY),
}


def assert_draws_unbiased(draws, exact, exact_gradient, detects):
  values, gradients = draws
  assert_unbiased(values, exact, detects=0.05)
  for block in ("theta", "phi"):
    samples = oracles.rows(getattr(gradients, block))
    assert_unbiased(samples, oracles.flat(getattr(exact_gradient, block)), detects=detects)


@pytest.mark.parametrize("estimator, num_samples, world", CASES.values(), ids=CASES)
def test_unbiased_for_the_bound(estimator, num_samples, world):
  exact = oracles.value_and_grad(lambda params: exact_elbo(world.model, params, world.x))(
    world.params
  )
  draws = oracles.draws(estimator, world, N, num_samples=num_samples)
  # The naive estimator varies too much for a smaller error to be detected.
  assert_draws_unbiased(draws, *exact, detects=0.5 if estimator is score_function else 0.3)


@pytest.mark.parametrize("world", [GAUSSIAN, BINARY], ids=["gaussian", "binary"])
@pytest.mark.parametrize("bound", [log_mean_exp, power_mean(0.5)], ids=["iwae", "renyi 0.5"])
def test_vimco_is_unbiased_for_the_bound_of_two_samples(bound, world):
  exact = oracles.value_and_grad(
    lambda params: oracles.exact_bound_of_two(bound, world.model, params, world.x)
  )(world.params)
  draws = oracles.draws(P(vimco, bound=bound), world, N, num_samples=2)
  assert_draws_unbiased(draws, *exact, detects=0.3)


def looks_at_itself(psi, x, f):
  return jnp.mean(f)


def test_a_baseline_that_looks_at_its_own_sample_is_caught():
  invalid = P(score_function, baseline=Baseline(lambda key: (), looks_at_itself))
  exact = oracles.grad(lambda params: exact_elbo(BINARY.model, params, BINARY.x))(BINARY.params)
  _, gradients = oracles.draws(invalid, BINARY, N, num_samples=3)
  with pytest.raises(AssertionError, match="threshold"):
    assert_unbiased(oracles.rows(gradients.phi), oracles.flat(exact.phi))
  # Each sample is a third of its own baseline, so a third of the gradient is lost.
  assert_unbiased(oracles.rows(gradients.phi), oracles.flat(exact.phi) * 2 / 3, detects=0.3)


def test_control_variates_lower_the_variance():
  naive = phi_variance(score_function, GAUSSIAN, 4)
  held_against_others = phi_variance(P(score_function, baseline=leave_one_out), GAUSSIAN, 4)
  scaled = phi_variance(score_function_optimal_scale, GAUSSIAN, 4)
  pathwise = phi_variance(elbo_a, GAUSSIAN, 4)
  # Each variance is known to a few percent.
  assert held_against_others < 0.7 * naive
  assert scaled < 0.7 * naive
  assert 3 * pathwise < min(held_against_others, scaled)


def test_the_score_function_drowns_where_the_data_have_many_dimensions():
  # A constant added to log p(x|z), as more pixels do, affects only the score function.
  far = lambda z: -500.0

  def shifted(world):
    def given(theta, z):
      p = world.model.decoder.given(theta, z)
      return p._replace(log_prob=lambda x: p.log_prob(x) + far(z))

    decoder = world.model.decoder._replace(given=given)
    return world._replace(model=world.model._replace(decoder=decoder))

  world = shifted(GAUSSIAN)
  assert phi_variance(score_function, world, 2) > 1e3 * phi_variance(elbo_a, world, 2)
  held_against_others = phi_variance(P(score_function, baseline=leave_one_out), world, 2)
  before = phi_variance(P(score_function, baseline=leave_one_out), GAUSSIAN, 2)
  np.testing.assert_allclose(held_against_others, before, rtol=1e-6)


@pytest.mark.parametrize("world", [GAUSSIAN, BINARY], ids=["gaussian", "binary"])
def test_two_samples_scaled_optimally_are_held_against_each_other(world):
  # With one other sample, the ratio of the optimal scale is that sample's learning signal.
  gradient = lambda estimator: jax.jit(
    jax.grad(lambda p: estimator(jax.random.key(3), world.model, p, world.x, num_samples=2))
  )(world.params)
  np.testing.assert_allclose(
    oracles.flat(gradient(score_function_optimal_scale)),
    oracles.flat(gradient(P(score_function, baseline=leave_one_out))),
    rtol=1e-9,
  )


def test_vimco_of_the_mean_is_leave_one_out_and_the_score():
  world, num_samples = BINARY, 4
  gradient = lambda estimator: oracles.grad(
    lambda p: estimator(jax.random.key(3), world.model, p, world.x, num_samples=num_samples)
  )(world.params)
  of_vimco = gradient(P(vimco, bound=jnp.mean))
  of_leave_one_out = gradient(P(score_function, baseline=leave_one_out))

  def mean_log_q(phi):
    q = world.model.encoder.given(phi, world.x)
    z = jax.vmap(q.sample)(jax.random.split(jax.random.key(3), num_samples))
    return jnp.mean(jax.vmap(q.log_prob)(z))

  score = oracles.flat(oracles.grad(mean_log_q)(world.params.phi))
  difference = oracles.flat(of_vimco.phi) - oracles.flat(of_leave_one_out.phi)
  np.testing.assert_allclose(difference, -score, rtol=1e-9, atol=1e-12)


def test_leaving_one_out_by_hand():
  f = jnp.asarray([1.0, 5.0, 9.0])
  np.testing.assert_array_equal(others(f), [[5, 9], [1, 9], [1, 5]])
  np.testing.assert_allclose(leave_one_out.predict((), None, f), [7, 5, 3])
  expected = [np.log(np.mean(np.exp(w))) for w in ([7, 5, 9], [1, 5, 9], [1, 5, 3])]
  np.testing.assert_allclose(without_each(log_mean_exp, f), expected, rtol=1e-12)
  # Weights so far apart that subtracting from the sum would leave only rounding errors.
  far = without_each(log_mean_exp, jnp.asarray([0.0, -800.0, -801.0]))
  assert np.isfinite(far).all()
  np.testing.assert_allclose(far[0], -800 + np.log((np.exp(-0.5) + 1 + np.exp(-1)) / 3), rtol=1e-9)


def test_psi_follows_the_signal():
  world = with_psi(GAUSSIAN, jnp.asarray(-4.0))
  values, gradients = oracles.draws(
    P(score_function, baseline=constant_baseline), world, 100, num_samples=2
  )
  np.testing.assert_allclose(gradients.psi, values + 4.0, rtol=1e-12)


def test_the_moving_average_is_one():
  optimizer = optimizers.moving_average(optax.sgd(0.1), decay=0.9)
  params = GAUSSIAN.params._replace(psi=jnp.asarray(-2.0))
  state, expected = optimizer.init(params), -2.0
  signals = [-3.0, 1.0, -7.5]
  for f in signals:
    grads = jax.tree.map(jnp.ones_like, params)._replace(
      psi=-(f - params.psi)
    )  # gradient of minus the bound
    updates, state = optimizer.update(grads, state, params)
    moved = optax.apply_updates(params, updates)
    np.testing.assert_allclose(oracles.flat(params.phi) - oracles.flat(moved.phi), 0.1, rtol=1e-9)
    params, expected = moved, 0.9 * expected + 0.1 * f
    np.testing.assert_allclose(params.psi, expected, rtol=1e-12)


@pytest.mark.parametrize("baseline", [constant_baseline, LEARNED], ids=["constant", "learned"])
def test_baselines_are_learned_beside_the_model(baseline):
  estimator = P(score_function, baseline=baseline)
  optimizer = (
    optimizers.moving_average(optax.set_to_zero())
    if baseline is constant_baseline
    else optimizers.with_psi(optax.set_to_zero(), optax.adam(0.01))
  )
  algorithm = aevb(GAUSSIAN.model, estimator, optimizer, num_data=10, init=with_baseline(baseline))
  state = algorithm.init(jax.random.key(0))
  start = oracles.flat((state.params.theta, state.params.phi))
  batch = jnp.stack([GAUSSIAN.x, 1 - GAUSSIAN.x] * 20)
  update = jax.jit(algorithm.update)
  for _ in range(300):
    state, _ = update(state, batch)
  np.testing.assert_array_equal(oracles.flat((state.params.theta, state.params.phi)), start)
  for x in batch[:2] if baseline is LEARNED else []:
    exact = exact_elbo(GAUSSIAN.model, state.params, x)
    np.testing.assert_allclose(baseline.predict(state.params.psi, x, None), exact, rtol=0.2)
  if baseline is constant_baseline:
    both = [exact_elbo(GAUSSIAN.model, state.params, x) for x in batch[:2]]
    np.testing.assert_allclose(state.params.psi, np.mean(both), rtol=0.2)


@pytest.mark.parametrize(
  "estimator",
  [P(score_function, baseline=leave_one_out), score_function_optimal_scale, vimco],
)
def test_one_sample_has_no_others(estimator):
  with pytest.raises(ValueError, match="num_samples is 1, expected at least 2"):
    estimator(jax.random.key(0), *BINARY, num_samples=1)


def test_leaving_one_out_of_weights_of_zero():
  # Weights of 0 do not count in the mean of the others; where all others are 0, it is −∞.
  inf = float("inf")
  log_w = jnp.asarray([-inf, 0.0, 2.0])
  mean_of = lambda *log_w: np.log(np.mean(np.exp(log_w)))
  expected = [mean_of(1, 0, 2), mean_of(-inf, 2, 2), mean_of(-inf, 0, 0)]
  np.testing.assert_allclose(without_each(log_mean_exp, log_w), expected, rtol=1e-14)
  one = without_each(log_mean_exp, jnp.asarray([-inf, 0.0, -inf]))
  np.testing.assert_allclose(one, [mean_of(0, 0, -inf), -inf, mean_of(-inf, 0, 0)], rtol=1e-14)
  assert np.isnan(without_each(log_mean_exp, jnp.asarray([jnp.nan, 0.0, -inf]))).any()
