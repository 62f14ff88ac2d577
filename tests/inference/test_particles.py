"""The particle filter against the Kalman filter, and against importance sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import bernoulli, mlp_vae
from aevb_jax.errors import UnsupportedError
from aevb_jax.inference import importance_sampling, particle_filter
from aevb_jax.inference.particles import choose
from aevb_jax.models import init_params, state_space_vae
from aevb_jax.models.joint import simulate
from aevb_jax.models.linear_state_space import linear_state_space_vae, log_marginal
from aevb_jax.models.state_space import INFERENCE
from aevb_jax.types import Params
from tests.support.statistics import assert_unbiased

D, J = 3, 2


def world(num_steps):
  """Makes a stationary linear-Gaussian model whose q(z|x) takes x for noisier than it is.

  q(z_t|z_{t−1}, x) is then wider than the posterior, and the weights have a variance.
  """
  model = linear_state_space_vae(num_steps, D, J)
  flat, unravel = jax.flatten_util.ravel_pytree(model.decoder.init(jax.random.key(0)))
  theta = unravel(0.4 * jax.random.normal(jax.random.key(1), flat.shape))
  theta["prior"]["mean"]["kernel"] = 0.2 * theta["prior"]["mean"]["kernel"] - 0.4 * jnp.eye(J)
  phi = theta | {"decoder": theta["decoder"] | {"log_var": theta["decoder"]["log_var"] + 0.7}}
  params = Params(theta, phi)
  return model, params, simulate(jax.random.key(3), model, params)[1]


@pytest.mark.parametrize("num_steps", [1, 6])
def test_is_unbiased_for_the_likelihood_of_the_kalman_filter(num_steps):
  model, params, x = world(num_steps)
  exact = log_marginal(params.theta, x, num_steps)
  estimate = lambda key: particle_filter(key, model, params, x, num_particles=10, num_repeats=5)
  found = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(4), 2000))
  assert_unbiased(np.exp(found.value - exact), 1.0, detects_shift=0.15)
  assert np.std(found.value) > 0.003  # it is not exact
  # The error of each estimate is that of their scatter: both are squares of 2000 numbers.
  assert_unbiased(found.standard_error**2 / np.var(found.value), 1.0, detects=0.3)
  assert np.all((found.diagnostics["ess"] >= 1) & (found.diagnostics["ess"] <= 10))


def test_of_a_single_step_it_is_importance_sampling():
  model, params, x = world(1)
  how = dict(num_particles=1000, num_repeats=1)
  keys = jax.random.split(jax.random.key(5), 400)
  filters = jax.jit(jax.vmap(lambda key: particle_filter(key, model, params, x, **how)))(keys)
  sampled = jax.jit(
    jax.vmap(lambda key: importance_sampling(key, model, params, x, num_samples=1000))
  )(keys)
  ess = sampled.diagnostics["ess"]
  assert_unbiased(filters.diagnostics["ess"], np.mean(ess), detects=0.1)
  assert np.all(np.isnan(filters.standard_error))
  ratio = np.var(filters.value) / np.var(sampled.value)
  assert 0.7 < ratio < 1.4  # a ratio of variances of 400 draws: 5 standard errors


def test_its_variance_grows_more_slowly_with_the_steps():
  """Few of the draws of whole sequences count when there are 40 steps."""
  model, params, x = world(40)
  keys = jax.random.split(jax.random.key(6), 100)
  of_filter = lambda key: (
    particle_filter(key, model, params, x, num_particles=200, num_repeats=1).value
  )
  of_sequences = lambda key: importance_sampling(key, model, params, x, num_samples=200).value
  filters, sequences = (jax.jit(jax.vmap(f))(keys) for f in (of_filter, of_sequences))
  # Ratios of variances of 100 draws scatter by 20 %; here it was 1/8.
  assert np.var(filters) < 0.25 * np.var(sequences)


@pytest.mark.parametrize("inference", INFERENCE)
def test_networks_of_either_inference(inference):
  """Filters of any q(z|x) estimate the same p(x), that of θ."""
  sizes = dict(num_steps=3, data_dim=2, latent_dim=1, hidden_dim=3)
  model = state_space_vae(bernoulli(2), inference=inference, **sizes)
  params = init_params(jax.random.key(0), model)
  x = jnp.array([0.0, 1, 1, 1, 0, 1])
  prior = model.prior(params)
  log_p = lambda key: model.decoder.given(params.theta, prior.sample(key)).log_prob(x)
  p = np.exp(jax.jit(jax.vmap(log_p))(jax.random.split(jax.random.key(1), 100_000)))
  estimate = lambda key: particle_filter(key, model, params, x, num_particles=300, num_repeats=1)
  found = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(2), 1000)).value
  assert np.std(p) / np.mean(p) / np.sqrt(len(p)) < 0.005
  assert_unbiased(np.exp(found) / np.mean(p), 1.0, detects_shift=0.2)


def test_choices_are_the_shares_rounded_up_or_down():
  weights = jnp.array([0.0, 0.3, 0.05, 0.65, 0.0])
  chosen = jax.vmap(lambda key: choose(key, 7 * weights))(
    jax.random.split(jax.random.key(0), 20000)
  )
  counts = np.stack([np.bincount(row, minlength=5) for row in np.asarray(chosen)])
  expected = 5 * np.asarray(weights)
  assert_unbiased(counts[:, 1:4], expected[1:4], detects=0.05)
  assert np.all(counts[:, [0, 4]] == 0) and np.all(np.abs(counts - expected) < 1)
  assert not np.any(np.isnan(choose(jax.random.key(1), jnp.zeros(3))))


def test_other_models_and_numbers_are_refused():
  model, params, x = world(2)
  with pytest.raises(ValueError, match="num_particles is 0, expected at least 1"):
    particle_filter(jax.random.key(0), model, params, x, num_particles=0)
  other = mlp_vae(bernoulli(2), data_dim=2, latent_dim=1, hidden_dim=3)
  with pytest.raises(UnsupportedError, match="whose p.z. and q.z|x. are Markov chains"):
    particle_filter(
      jax.random.key(0), other, init_params(jax.random.key(1), other), jnp.ones(2), num_particles=2
    )
