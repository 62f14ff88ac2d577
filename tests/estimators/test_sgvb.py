"""SGVB A, B and sticking the landing compared with exact bounds and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import (
  bernoulli,
  dreg,
  elbo_a,
  elbo_b,
  init_params,
  kl_divergence,
  log_joint,
  mlp_vae,
  standard_normal,
  sticking_the_landing,
)
from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators import piwae
from aevb_jax.estimators.score_functions import score_function
from aevb_jax.estimators.sgvb import SAMPLES_AT_ONCE, map_samples
from aevb_jax.estimators.wake_and_sleep import wake_sleep
from aevb_jax.inference.exact import exact_elbo
from tests.support import oracles
from tests.support.statistics import assert_unbiased

ESTIMATORS = [elbo_a, elbo_b, sticking_the_landing]
N = 80_000


def draws(estimator, world, num_samples=1, n=N, seed=0):
  return oracles.draws(estimator, world, n, seed, num_samples=num_samples)


def assert_gradients_unbiased(gradients, exact, detects):
  # Each block is tested separately, because θ's low variance would hide an error in φ.
  for block in ("theta", "phi"):
    samples = oracles.rows(getattr(gradients, block))
    assert_unbiased(samples, oracles.flat(getattr(exact, block)), detects=detects)


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unbiased_in_the_affine_world(estimator, num_samples):
  world = oracles.affine_world()
  exact, exact_gradient = oracles.value_and_grad(oracles.affine_bound)(world.params, world.x)
  values, gradients = draws(estimator, world, num_samples)
  assert_unbiased(values, exact, detects=0.02)
  assert_gradients_unbiased(gradients, exact_gradient, detects=0.05)


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unbiased_with_networks(estimator, num_samples):
  world = oracles.bernoulli_world()
  exact, exact_gradient = oracles.value_and_grad(
    lambda params: exact_elbo(world.model, params, world.x)
  )(world.params)
  values, gradients = draws(estimator, world, num_samples)
  assert_unbiased(values, exact, detects=0.02)
  assert_gradients_unbiased(gradients, exact_gradient, detects=0.05)


def test_a_still_has_a_noisy_gradient_at_the_posterior():
  _, gradients = draws(elbo_a, oracles.exact_posterior_world(), n=1000)
  assert np.std(gradients.phi["log_var"], axis=0).min() > 0.1
  assert_unbiased(gradients.phi["log_var"], np.zeros(3), detects_shift=0.15)


def test_sticking_the_landing_lands_at_the_posterior():
  _, gradients = draws(sticking_the_landing, oracles.exact_posterior_world(), n=1000)
  np.testing.assert_allclose(oracles.rows(gradients.phi), 0, atol=1e-12)


def test_sticking_the_landing_is_a_without_the_score():
  world = oracles.bernoulli_world()

  def estimate(estimator):
    key = jax.random.key(0)
    return jax.value_and_grad(lambda p: estimator(key, world.model, p, world.x, num_samples=3))(
      world.params
    )

  (value_a, a), (value, stl) = estimate(elbo_a), estimate(sticking_the_landing)
  assert value == value_a
  np.testing.assert_array_equal(oracles.flat(stl.theta), oracles.flat(a.theta))

  def mean_log_q(phi):  # for fixed samples
    q = world.model.encoder.given(world.params.phi, world.x)
    z = jax.vmap(q.sample)(jax.random.split(jax.random.key(0), 3))
    return jnp.mean(jax.vmap(world.model.encoder.given(phi, world.x).log_prob)(z))

  score = oracles.grad(mean_log_q)(world.params.phi)
  difference = oracles.flat(stl.phi) - oracles.flat(a.phi)
  np.testing.assert_allclose(difference, oracles.flat(score), rtol=1e-9)


def test_b_is_steadier_at_first_and_the_order_can_turn_at_the_optimum():
  start = oracles.affine_world()
  wide = start.params._replace(phi=jax.tree.map(jnp.zeros_like, start.params.phi))
  start = start._replace(params=wide)  # q(z|x) = N(0, I), as at initialization
  # Variances at n = 20000 are known to a few percent; the margin is a tenth.
  spread = lambda estimator, world: draws(estimator, world, n=20_000)
  variance = lambda tree: np.var(oracles.rows(tree), 0).sum()
  (_, a), (_, b) = spread(elbo_a, start), spread(elbo_b, start)
  assert variance(b.phi) < 0.9 * variance(a.phi)
  # At the posterior, log p(x, z) - log q(z|x) does not vary at all. A's gradient for log σ²
  # has variance 1/2 there; B's grows with the posterior mean.
  optimum = oracles.exact_posterior_world()
  optimum = optimum._replace(x=optimum.x + 8.0)
  (a_values, a), (b_values, b) = spread(elbo_a, optimum), spread(elbo_b, optimum)
  assert np.var(a_values) < 1e-20 < 0.1 < np.var(b_values)
  np.testing.assert_allclose(np.var(a.phi["log_var"], 0), 0.5, rtol=0.1)
  assert variance(a.phi["log_var"]) < 0.9 * variance(b.phi["log_var"])


def test_a_and_b_differ_by_the_noise_in_the_kl_alone():
  world = oracles.affine_world()
  make_key = lambda: jax.random.key(5)
  a = elbo_a(make_key(), *world, num_samples=4)
  b = elbo_b(make_key(), *world, num_samples=4)
  q = world.model.encoder.given(world.params.phi, world.x)
  p = world.model.prior(world.params)
  z = jax.vmap(q.sample)(jax.random.split(make_key(), 4))
  sampled_kl = jnp.mean(jax.vmap(q.log_prob)(z) - jax.vmap(p.log_prob)(z))
  np.testing.assert_allclose(b - a, sampled_kl - kl_divergence(q, p), rtol=1e-10)


def test_more_samples_average_independent_ones():
  values_1, _ = draws(elbo_a, oracles.affine_world(), num_samples=1)
  values_4, _ = draws(elbo_a, oracles.affine_world(), num_samples=4)
  # A variance at n = 80000 is known to about 0.5 %. Noise that L samples share would give 1.
  np.testing.assert_allclose(np.var(values_1) / np.var(values_4), 4, rtol=0.15)


def test_b_refuses_a_pair_without_closed_form_and_takes_one_given():
  class Learned:  # stands for the eta of a prior that is not a diagonal Gaussian
    pass

  world = oracles.bernoulli_world()
  prior = standard_normal(1)._replace(eta=Learned())
  model = world.model._replace(prior=lambda params: prior)
  with pytest.raises(UnsupportedError, match="DiagonalGaussian ‖ Learned.*elbo_a"):
    elbo_b(jax.random.key(0), model, *world[1:])
  assert jnp.isfinite(elbo_a(jax.random.key(0), model, *world[1:]))
  given = elbo_b(jax.random.key(0), model, *world[1:], kl=lambda q, p: jnp.float64(0.25))
  exact_kl = kl_divergence(world.model.encoder.given(world.params.phi, world.x), standard_normal(1))
  usual = elbo_b(jax.random.key(0), *world)
  np.testing.assert_allclose(given + 0.25, usual + exact_kl, rtol=1e-12)


def test_log_joint_is_prior_plus_likelihood():
  world = oracles.bernoulli_world()
  z = jnp.asarray([0.3])
  logits = world.model.decoder.given(world.params.theta, z).eta.logits
  y = 1 / (1 + np.exp(-logits))
  expected = np.sum(np.log(np.where(world.x == 1, y, 1 - y))) - 0.5 * np.log(2 * np.pi) - 0.5 * 0.09
  np.testing.assert_allclose(log_joint(world.model, world.params, world.x, z), expected)


@pytest.mark.parametrize("num_samples", [1, 3, SAMPLES_AT_ONCE, 2 * SAMPLES_AT_ONCE + 3])
def test_many_samples_are_taken_in_chunks_of_the_same_value_and_gradient(num_samples):
  rng = np.random.default_rng(0)
  w, z = jnp.asarray(rng.normal(size=(4, 5))), jnp.asarray(rng.normal(size=(num_samples, 4)))
  weights = jnp.asarray(rng.normal(size=num_samples))  # exchanged samples would show

  def value_and_gradient(each):
    def total(w, z):
      return jnp.vdot(weights, each(lambda z: jnp.sum(jnp.tanh(z @ w) ** 2), z))

    return oracles.value_and_grad(total, (0, 1))(w, z)

  results = map(value_and_gradient, (map_samples, lambda function, z: jax.vmap(function)(z)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), *results)


@pytest.mark.parametrize(
  "estimator",
  [elbo_b, dreg, functools.partial(piwae, num_groups=2), score_function, wake_sleep],
)
def test_the_memory_of_a_gradient_does_not_grow_with_the_samples(estimator):
  model = mlp_vae(bernoulli(50), data_dim=50, latent_dim=2, hidden_dim=100)
  params = init_params(jax.random.key(0), model)

  def memory(num_samples):
    bound = lambda p: estimator(jax.random.key(1), model, p, x, num_samples=num_samples)
    x = jnp.ones(50)
    return jax.jit(jax.grad(bound)).lower(params).compile().memory_analysis().temp_size_in_bytes

  few, many = memory(2 * SAMPLES_AT_ONCE), memory(20 * SAMPLES_AT_ONCE)
  held = 8 * 100 * 18 * SAMPLES_AT_ONCE  # bytes of one array of hidden units for the extra samples
  assert many - few < held / 2
