"""Wake-sleep and its reweighted form: the gradient that each phase follows."""

import functools

import jax
import numpy as np
import pytest

from aevb_jax import elbo_a, iwae
from aevb_jax.estimators import reweighted_wake_sleep
from aevb_jax.estimators.wake_and_sleep import wake_sleep
from aevb_jax.inference.exact import exact_elbo
from tests.support import oracles
from tests.support.statistics import assert_unbiased

P = functools.partial
N = 40_000
BINARY = oracles.binary_world()


def gradient(estimator, world, num_samples=3):
  return oracles.value_and_grad(
    lambda p: estimator(jax.random.key(0), world.model, p, world.x, num_samples=num_samples)
  )(world.params)


def test_the_wake_phase_climbs_the_bound_in_theta():
  exact = oracles.grad(lambda params: exact_elbo(BINARY.model, params, BINARY.x))(BINARY.params)
  values, gradients = oracles.draws(wake_sleep, BINARY, N, num_samples=2)
  assert_unbiased(values, exact_elbo(*BINARY), detects=0.02)
  assert_unbiased(oracles.rows(gradients.theta), oracles.flat(exact.theta), detects=0.05)


@pytest.mark.parametrize(
  "estimator", [wake_sleep, P(reweighted_wake_sleep, wake=0.0, sleep=1.0)], ids=["ws", "rws"]
)
def test_the_sleep_phase_learns_from_sampled_dreams(estimator):
  # If the dreams were the means of p(x|z), the expectation would be different.
  exact = oracles.flat(oracles.sleep_phi(BINARY.model, BINARY.params))
  _, gradients = oracles.draws(estimator, BINARY, N, num_samples=2)
  assert_unbiased(oracles.rows(gradients.phi), exact, detects=0.1)


def test_dreams_teach_nothing_to_an_exact_posterior():
  world = oracles.exact_posterior_world()
  _, gradients = oracles.draws(wake_sleep, world, N, num_samples=2)
  samples = oracles.rows(gradients.phi)
  assert_unbiased(samples, np.zeros(samples.shape[1]), detects_shift=0.2)


@pytest.mark.parametrize("world", [BINARY, oracles.affine_world()], ids=["binary", "gaussian"])
def test_sleep_leaves_theta_alone_and_wake_theta_leaves_phi_alone(world):
  only_wake_theta = P(reweighted_wake_sleep, wake=0.0)
  with_sleep = P(reweighted_wake_sleep, wake=0.0, sleep=1.0)
  (value, awake), (same_value, asleep) = (gradient(e, world) for e in (only_wake_theta, with_sleep))
  assert value == same_value
  np.testing.assert_array_equal(oracles.flat(awake.theta), oracles.flat(asleep.theta))
  np.testing.assert_array_equal(oracles.flat(awake.phi), 0)
  assert np.abs(oracles.flat(asleep.phi)).max() > 1e-3


def test_wake_sleep_moves_theta_by_log_p_and_phi_by_dreams_alone():
  world = oracles.affine_world()
  _, gradients = gradient(wake_sleep, world)
  _, of_a = gradient(elbo_a, world)
  np.testing.assert_allclose(oracles.flat(gradients.theta), oracles.flat(of_a.theta), rtol=1e-9)
  _, dreaming = gradient(P(reweighted_wake_sleep, wake=0.0, sleep=1.0), world)
  np.testing.assert_allclose(oracles.flat(gradients.phi), oracles.flat(dreaming.phi), rtol=1e-9)


def test_phases_add_up():
  parts = [
    gradient(P(reweighted_wake_sleep, wake=wake, sleep=sleep), BINARY)[1].phi
    for wake, sleep in ((1.0, 0.0), (0.0, 1.0), (0.25, 0.5))
  ]
  wake, sleep, both = map(oracles.flat, parts)
  np.testing.assert_allclose(both, 0.25 * wake + 0.5 * sleep, rtol=1e-9, atol=1e-12)


def test_values_are_the_bounds_on_the_same_key():
  world = oracles.bernoulli_world()
  value = lambda estimator: estimator(jax.random.key(1), *world, num_samples=3)
  np.testing.assert_allclose(value(wake_sleep), value(elbo_a), rtol=1e-12)
  np.testing.assert_allclose(value(P(reweighted_wake_sleep, sleep=1.0)), value(iwae), rtol=1e-12)


def test_reweighted_theta_follows_iwae():
  world = oracles.bernoulli_world()
  np.testing.assert_allclose(
    oracles.flat(gradient(reweighted_wake_sleep, world)[1].theta),
    oracles.flat(gradient(iwae, world)[1].theta),
    rtol=1e-9,
    atol=1e-12,
  )
