"""Tighter bounds and their gradients compared with exact expectations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import (
  Params,
  dreg,
  elbo_a,
  gaussian,
  iwae,
  log_mean_exp,
  log_weights,
  sticking_the_landing,
  vimco,
)
from aevb_jax.estimators import (
  ciwae,
  doubly_reparameterized,
  dreg_wake,
  interpolate,
  mean_over_groups,
  miwae,
  piwae,
  power_mean,
  renyi,
  reweighted_wake_sleep,
)
from aevb_jax.estimators.importance import own_derivatives
from aevb_jax.families.base import distribution
from aevb_jax.families.gaussians import DiagonalGaussian
from aevb_jax.inference.exact import exact_log_marginal
from aevb_jax.models import linear_gaussian
from tests.support import oracles
from tests.support.statistics import assert_greater, assert_unbiased

P = functools.partial
INF = float("inf")
N = 40_000
WORLD = oracles.bernoulli_world()


@functools.cache
def one_draw(estimator, num_samples):
  """Returns the value and gradient of a single estimate."""
  key, world = jax.random.key(0), WORLD
  return oracles.value_and_grad(
    lambda p: estimator(key, world.model, p, world.x, num_samples=num_samples)
  )(world.params)


def assert_same_draw(a, b, rtol=1e-9):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-11)


# Bounds of log-weights, by hand

LOG_W = np.asarray([-3.0, -1.0, -2.5, -1.7])


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 0.5, 0.999, 1.5, 4.0])
def test_power_mean_by_hand(alpha):
  expected = np.log(np.mean(np.exp(LOG_W) ** (1 - alpha))) / (1 - alpha)
  np.testing.assert_allclose(power_mean(alpha)(jnp.asarray(LOG_W)), expected, rtol=1e-11)


def test_limits_of_the_power_mean():
  log_w = jnp.asarray(LOG_W)
  assert power_mean(-INF)(log_w) == -1 and power_mean(INF)(log_w) == -3
  np.testing.assert_allclose(power_mean(-1e4)(log_w), -1 - np.log(4) / 1e4, rtol=1e-7)
  np.testing.assert_allclose(power_mean(0.0)(log_w), log_mean_exp(log_w), rtol=1e-12)
  assert power_mean(1.0)(log_w) == LOG_W.mean()


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-12])
def test_power_mean_is_accurate_near_one(distance):
  # The derivative of the bound in alpha at 1 is -Var(log w)/2.
  for alpha in (1 + distance, 1 - distance):
    value = power_mean(alpha)(jnp.asarray(LOG_W))
    expected = LOG_W.mean() + (1 - alpha) * LOG_W.var() / 2
    np.testing.assert_allclose(value, expected, rtol=2 * distance**2 + 1e-14)
    b, _ = own_derivatives(power_mean(alpha), jnp.asarray(LOG_W))
    np.testing.assert_allclose(b, 0.25, rtol=2 * distance)


def test_bounds_far_from_zero():
  for shift in (-1e4, 1e4):
    for bound in (log_mean_exp, power_mean(0.5), power_mean(-3.0), power_mean(2.0)):
      shifted = bound(jnp.asarray(LOG_W + shift))
      np.testing.assert_allclose(shifted, bound(jnp.asarray(LOG_W)) + shift, rtol=1e-9)


def test_a_weight_of_zero():
  log_w = jnp.asarray([-1.0, -jnp.inf])
  np.testing.assert_allclose(power_mean(0.5)(log_w), 2 * np.log(0.5 * np.exp(-0.5)), rtol=1e-12)
  assert power_mean(2.0)(log_w) == -jnp.inf
  for bound in (log_mean_exp, power_mean(0.5)):
    assert bound(jnp.full(2, -jnp.inf)) == -jnp.inf


PAIRS = mean_over_groups(log_mean_exp, 2)
ZERO_WEIGHTS = {
  # bound, log-weights -> its value, its gradient
  "mean of one": (log_mean_exp, [-INF, 0.0, -INF], -np.log(3), [0, 1, 0]),
  "mean of none": (log_mean_exp, [-INF, -INF, -INF], -INF, [0, 0, 0]),
  # The smallest weight decides for alpha > 1, and several that are 0 decide together.
  "alpha 2": (power_mean(2.0), [-INF, 0.0], -INF, [1, 0]),
  "alpha 2 of two": (power_mean(2.0), [-INF, 0.0, -INF], -INF, [0.5, 0, 0.5]),
  "alpha 0.5": (power_mean(0.5), [-INF, 0.0], -2 * np.log(2), [0, 1]),
  "alpha 0.5 of none": (power_mean(0.5), [-INF, -INF], -INF, [0, 0]),
  "alpha -1": (power_mean(-1.0), [-INF, 0.0], -0.5 * np.log(2), [0, 1]),
  "alpha inf": (power_mean(INF), [-INF, 0.0], -INF, [1, 0]),
  "alpha -inf": (power_mean(-INF), [-INF, 0.0], 0, [0, 1]),
  "groups": (PAIRS, [-INF, 0.0, 1.0, -INF], 0.5 - np.log(2), [0, 0.5, 0.5, 0]),
  "a group of none": (PAIRS, [-INF, -INF, 1.0, 1.0], -INF, [0, 0, 0.25, 0.25]),
  "only the second": (interpolate(0.0, jnp.mean, log_mean_exp), [-INF, 0.0], -np.log(2), [0, 1]),
  "only the first": (interpolate(1.0, log_mean_exp, jnp.mean), [-INF, 0.0], -np.log(2), [0, 1]),
}


@pytest.mark.parametrize("bound, log_w, value, slope", ZERO_WEIGHTS.values(), ids=ZERO_WEIGHTS)
def test_gradients_at_weights_of_zero(bound, log_w, value, slope):
  found, gradient = jax.value_and_grad(bound)(jnp.asarray(log_w))
  np.testing.assert_allclose(found, value, rtol=1e-14)
  np.testing.assert_allclose(gradient, slope, rtol=1e-14)
  b, own = own_derivatives(bound, jnp.asarray(log_w))
  assert np.isfinite(b).all() and np.isfinite(own).all()


def test_a_bound_of_nan_is_nan():
  for bound in (log_mean_exp, power_mean(0.5), power_mean(2.0)):
    value, gradient = jax.value_and_grad(bound)(jnp.asarray([-INF, jnp.nan]))
    assert np.isnan(value) and np.isnan(gradient).any()


def with_zero_weights(impossible):
  """One Gaussian latent, whose p(x|z) is 0 where `impossible(z)`, and the parameter b elsewhere."""
  family = gaussian(1)

  def likelihood(theta, z):
    log_prob = lambda x: jnp.where(impossible(z[0]), -jnp.inf, family.log_prob(theta, x))
    return distribution(family, theta)._replace(log_prob=log_prob)

  model = linear_gaussian.linear_gaussian_vae(1, 1)
  decoder = model.decoder._replace(given=likelihood)
  params = Params(
    DiagonalGaussian(jnp.asarray([0.3]), jnp.zeros(1)),
    {"mean": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}, "log_var": jnp.zeros(1)},
  )
  return model._replace(decoder=decoder), params


OF_WEIGHTS = {
  "iwae": iwae,
  "dreg": dreg,
  "dreg_wake": dreg_wake,
  "vimco": vimco,
  "doubly_reparameterized": doubly_reparameterized,
  "reweighted_wake_sleep": reweighted_wake_sleep,
  "renyi": P(renyi, alpha=0.5),
  "ciwae": P(ciwae, beta=0.0),
  "miwae": P(miwae, num_groups=1),
  "piwae": P(piwae, num_groups=1),
}


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_estimators_of_samples_some_or_all_of_weight_0(name):
  x, estimator = jnp.asarray([0.5]), OF_WEIGHTS[name]

  def estimate(impossible):
    model, params = with_zero_weights(impossible)
    return jax.value_and_grad(lambda p: estimator(jax.random.key(0), model, p, x, num_samples=6))(
      params
    )

  value, gradients = estimate(lambda z: z > 0.5)
  # The samples of these keys lie on both sides.
  model, params = with_zero_weights(lambda z: z > 0.5)
  log_w = log_weights(jax.random.key(0), model, params, x, num_samples=6)
  assert 0 < np.isfinite(log_w).sum() < 6
  w = np.exp(np.asarray(log_w))
  expected = 2 * np.log(np.mean(w**0.5)) if name == "renyi" else np.log(np.mean(w))
  np.testing.assert_allclose(value, expected, rtol=1e-12)
  for leaf in jax.tree.leaves(gradients):
    assert np.isfinite(leaf).all()
  # All possible samples have ∂log p(x|z)/∂mean = x − mean, and their normalized weights sum to 1.
  np.testing.assert_allclose(gradients.theta.mean, 0.2, rtol=1e-12)
  value, gradients = estimate(lambda z: z > -100)
  assert value == -INF
  for leaf in jax.tree.leaves(gradients):
    np.testing.assert_array_equal(leaf, 0)


def test_groups_and_mixtures_by_hand():
  log_w = jnp.asarray(LOG_W)
  pairs = [np.log(np.mean(np.exp(LOG_W[:2]))), np.log(np.mean(np.exp(LOG_W[2:])))]
  np.testing.assert_allclose(mean_over_groups(log_mean_exp, 2)(log_w), np.mean(pairs), rtol=1e-12)
  mixed = interpolate(0.25, jnp.mean, jnp.max)(log_w)
  np.testing.assert_allclose(mixed, 0.25 * LOG_W.mean() - 0.75, rtol=1e-12)


def test_own_derivatives_by_hand():
  w = np.exp(LOG_W) / np.exp(LOG_W).sum()
  b, own = own_derivatives(log_mean_exp, jnp.asarray(LOG_W))
  np.testing.assert_allclose(b, w, rtol=1e-12)
  np.testing.assert_allclose(own, w * (1 - w), rtol=1e-12)
  w = np.exp(0.3 * LOG_W) / np.exp(0.3 * LOG_W).sum()
  b, own = own_derivatives(power_mean(0.7), jnp.asarray(LOG_W))
  np.testing.assert_allclose(b, w, rtol=1e-12)
  np.testing.assert_allclose(b - own, 0.7 * w + 0.3 * w**2, rtol=1e-11)
  b, own = own_derivatives(jnp.mean, jnp.asarray(LOG_W))
  np.testing.assert_allclose(b - own, 0.25, rtol=1e-12)


# Identities for one key

LIKE_IWAE = {
  "renyi 0": P(renyi, alpha=0.0),
  "miwae of one group": P(miwae, num_groups=1),
  "ciwae 0": P(ciwae, beta=0.0),
  "piwae of one group": P(piwae, num_groups=1),
}
LIKE_A = {
  "renyi 1": P(renyi, alpha=1.0),
  "miwae of groups of one": P(miwae, num_groups=6),
  "ciwae 1": P(ciwae, beta=1.0),
}


@pytest.mark.parametrize("estimator", LIKE_IWAE.values(), ids=LIKE_IWAE)
def test_is_iwae(estimator):
  assert_same_draw(one_draw(estimator, 6), one_draw(iwae, 6))


@pytest.mark.parametrize("estimator", LIKE_A.values(), ids=LIKE_A)
def test_is_elbo_a(estimator):
  assert_same_draw(one_draw(estimator, 6), one_draw(elbo_a, 6))


def test_one_sample_is_elbo_a():
  assert_same_draw(one_draw(iwae, 1), one_draw(elbo_a, 1))
  assert_same_draw(one_draw(dreg, 1), one_draw(sticking_the_landing, 1))


def test_values_are_those_of_the_log_weights():
  log_w = np.asarray(log_weights(jax.random.key(0), *WORLD, num_samples=6))
  expected = np.log(np.mean(np.exp(log_w)))
  for estimator in (iwae, dreg, dreg_wake, vimco, reweighted_wake_sleep, P(piwae, num_groups=2)):
    np.testing.assert_allclose(one_draw(estimator, 6)[0], expected, rtol=1e-12)
  np.testing.assert_allclose(one_draw(P(renyi, alpha=-INF), 6)[0], log_w.max(), rtol=1e-12)
  np.testing.assert_allclose(one_draw(P(renyi, alpha=INF), 6)[0], log_w.min(), rtol=1e-12)
  ciwae_value = one_draw(P(ciwae, beta=0.3), 6)[0]
  np.testing.assert_allclose(ciwae_value, 0.3 * log_w.mean() + 0.7 * expected, rtol=1e-12)


def test_the_mean_doubly_reparameterized_is_sticking_the_landing():
  assert_same_draw(
    one_draw(P(doubly_reparameterized, bound=jnp.mean), 6), one_draw(sticking_the_landing, 6)
  )


def test_piwae_is_iwae_for_theta_and_miwae_for_phi():
  value, gradients = one_draw(P(piwae, num_groups=3), 6)
  iwae_value, of_iwae = one_draw(iwae, 6)
  _, of_miwae = one_draw(P(miwae, num_groups=3), 6)
  assert_same_draw((value, gradients.theta), (iwae_value, of_iwae.theta))
  assert_same_draw(gradients.phi, of_miwae.phi)
  assert np.abs(oracles.flat(of_miwae.phi) - oracles.flat(of_iwae.phi)).max() > 1e-3


@pytest.mark.parametrize("estimator", [dreg, dreg_wake, vimco])
def test_theta_follows_iwae(estimator):
  assert_same_draw(one_draw(estimator, 6)[1].theta, one_draw(iwae, 6)[1].theta)


def test_dreg_is_the_general_case():
  assert_same_draw(one_draw(doubly_reparameterized, 6), one_draw(dreg, 6))


def test_vr_max_trains_on_the_best_sample_alone():
  log_w = log_weights(jax.random.key(0), *WORLD, num_samples=6)
  best = lambda key, model, params, x, num_samples: log_weights(
    key, model, params, x, num_samples=num_samples
  )[jnp.argmax(log_w)]
  assert_same_draw(one_draw(P(renyi, alpha=-INF), 6), one_draw(best, 6))


# Gradients compared with exact expectations of two samples

OF_TWO = {
  "iwae": (iwae, log_mean_exp),
  "dreg": (dreg, log_mean_exp),
  "renyi -1": (P(renyi, alpha=-1.0), power_mean(-1.0)),
  "renyi 0.5": (P(renyi, alpha=0.5), power_mean(0.5)),
  "renyi 2": (P(renyi, alpha=2.0), power_mean(2.0)),
  "renyi 0.5 doubly": (P(doubly_reparameterized, bound=power_mean(0.5)), power_mean(0.5)),
  "renyi 2 doubly": (P(doubly_reparameterized, bound=power_mean(2.0)), power_mean(2.0)),
  "miwae": (P(miwae, num_groups=2), jnp.mean),
  "ciwae": (P(ciwae, beta=0.3), interpolate(0.3, jnp.mean, log_mean_exp)),
  "ciwae doubly": (
    P(doubly_reparameterized, bound=interpolate(0.3, jnp.mean, log_mean_exp)),
    interpolate(0.3, jnp.mean, log_mean_exp),
  ),
}


@pytest.mark.parametrize("estimator, bound", OF_TWO.values(), ids=OF_TWO)
def test_unbiased_for_the_bound_of_two_samples(estimator, bound):
  exact, exact_gradient = oracles.value_and_grad(
    lambda params: oracles.exact_bound_of_two(bound, WORLD.model, params, WORLD.x)
  )(WORLD.params)
  values, gradients = oracles.draws(estimator, WORLD, N, num_samples=2)
  assert_unbiased(values, exact, detects=0.02)
  for block in ("theta", "phi"):
    samples = oracles.rows(getattr(gradients, block))
    assert_unbiased(samples, oracles.flat(getattr(exact_gradient, block)), detects=0.08)


def test_wake_phi_of_two_samples():
  exact = oracles.flat(oracles.wake_phi_of_two(*WORLD))
  for estimator in (dreg_wake, reweighted_wake_sleep):
    _, gradients = oracles.draws(estimator, WORLD, N, num_samples=2)
    assert_unbiased(oracles.rows(gradients.phi), exact, detects=0.1)


PAIRS = {
  "dreg": (dreg, iwae),
  "vimco": (vimco, iwae),
  "dreg_wake": (dreg_wake, reweighted_wake_sleep),
  "renyi -1": (P(doubly_reparameterized, bound=power_mean(-1.0)), P(renyi, alpha=-1.0)),
  "miwae": (
    P(doubly_reparameterized, bound=mean_over_groups(log_mean_exp, 5)),
    P(miwae, num_groups=5),
  ),
}


@pytest.mark.parametrize("estimator, reference", PAIRS.values(), ids=PAIRS)
def test_same_expectation_with_ten_samples(estimator, reference):
  _, gradients = oracles.draws(estimator, WORLD, 20_000, num_samples=10)
  _, others = oracles.draws(reference, WORLD, 20_000, num_samples=10)
  difference = oracles.rows(gradients.phi) - oracles.rows(others.phi)
  # Power: an error of a quarter of the reference's mean would be detected.
  quarter = 0.25 * oracles.rows(others.phi).mean(0)
  assert_unbiased(difference, np.zeros(difference.shape[1]), detects_shift=quarter)


# Order and variance


def test_the_bound_grows_with_samples_and_stays_below_log_p():
  keys = jax.random.split(jax.random.key(1), 20_000)
  previous = jax.jit(jax.vmap(lambda key: elbo_a(key, *WORLD)))(keys)
  for seed, num_samples in enumerate((2, 5, 20)):
    keys = jax.random.split(jax.random.key(seed + 2), 20_000)
    estimate = P(iwae, num_samples=num_samples)
    values = jax.jit(jax.vmap(lambda key, estimate=estimate: estimate(key, *WORLD)))(keys)
    assert_greater(values, previous)
    previous = values
  assert_greater(np.broadcast_to(exact_log_marginal(*WORLD), previous.shape), previous)


def test_renyi_bounds_fall_with_alpha_on_every_draw():
  alphas = [-INF, -2.0, 0.0, 0.5, 1.0, 3.0, INF]
  values = [one_draw(P(renyi, alpha=alpha), 6)[0] for alpha in alphas]
  assert (np.diff(values) < 0).all()


def test_dreg_lands_at_the_posterior_and_iwae_does_not():
  world = oracles.exact_posterior_world()
  _, gradients = oracles.draws(dreg, world, 1000, num_samples=5)
  np.testing.assert_allclose(oracles.rows(gradients.phi), 0, atol=1e-12)
  _, gradients = oracles.draws(iwae, world, 1000, num_samples=5)
  assert oracles.rows(gradients.phi).std(0).min() > 0.01


def test_the_signal_for_phi_drowns_with_samples_but_not_doubly_reparameterized():
  def snr(estimator, num_samples):
    _, gradients = oracles.draws(estimator, WORLD, 10_000, num_samples=num_samples)
    samples = oracles.rows(gradients.phi)
    return np.sqrt(np.sum(samples.mean(0) ** 2) / np.sum(samples.var(0)))

  # Rainforth et al. (2018): it falls like 1/√K, so 16 times the samples cost a factor of 4.
  assert snr(iwae, 64) < snr(iwae, 4) / 2
  assert snr(dreg, 64) > 0.8 * snr(dreg, 4)


def test_bad_arguments():
  with pytest.raises(ValueError, match="num_groups is 4, expected a divisor of num_samples, 6"):
    one_draw(P(miwae, num_groups=4), 6)
  with pytest.raises(ValueError, match="num_groups is 0"):
    one_draw(P(piwae, num_groups=0), 6)
  with pytest.raises(ValueError, match="beta is nan"):
    one_draw(P(ciwae, beta=float("nan")), 6)
  with pytest.raises(ValueError, match="alpha is not a number"):
    one_draw(P(renyi, alpha=float("nan")), 6)
