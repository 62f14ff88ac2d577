"""The oracles compared with each other: quadrature, enumeration, and bounds below log p."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import init_params, mlp_vae
from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.bounds import log_mean_exp
from aevb_jax.families.binary import bernoulli
from aevb_jax.inference.exact import (
  binary_vectors,
  exact_elbo,
  exact_log_marginal,
  gaussian_expectation,
)
from tests.support import oracles


def test_quadrature_converged():
  f = lambda noise: jnp.tanh(3 * noise + 0.5) ** 2
  np.testing.assert_allclose(
    gaussian_expectation(f), gaussian_expectation(f, step=0.01), rtol=1e-13
  )
  np.testing.assert_allclose(gaussian_expectation(lambda noise: noise**4), 3, rtol=1e-12)
  world = oracles.bernoulli_world()
  coarse, fine = (
    oracles.exact_bound_of_two(log_mean_exp, *world, step=step) for step in (0.05, 0.025)
  )
  np.testing.assert_allclose(coarse, fine, rtol=1e-9)


@pytest.mark.parametrize("world", [oracles.bernoulli_world(), oracles.binary_world()])
def test_the_bounds_are_in_order(world):
  elbo, log_p = exact_elbo(*world), exact_log_marginal(*world)
  of_two = oracles.exact_bound_of_two(log_mean_exp, *world)
  np.testing.assert_allclose(oracles.exact_bound_of_two(jnp.mean, *world), elbo, rtol=1e-9)
  assert elbo + 1e-3 < of_two < log_p - 1e-3


def test_enumeration_is_log_p_less_the_divergence_from_the_posterior():
  model, params, x = oracles.binary_world()
  q = model.encoder.given(params.phi, x)
  log_p_x, gap = exact_log_marginal(model, params, x), 0.0
  for z in np.ndindex(2, 2, 2):
    z = np.asarray(z, float)
    y = 1 / (1 + np.exp(-model.decoder.given(params.theta, jnp.asarray(z)).eta.logits))
    log_joint = np.sum(np.log(np.where(x == 1, y, 1 - y))) + 3 * np.log(0.5)
    on = 1 / (1 + np.exp(-q.eta.logits))
    q_z = np.prod(np.where(z == 1, on, 1 - on))
    gap += q_z * (np.log(q_z) - (log_joint - log_p_x))
  np.testing.assert_allclose(exact_elbo(model, params, x), log_p_x - gap, rtol=1e-12)


def test_log_marginal_far_below_the_smallest_float():
  with jax.enable_x64(False):
    model = mlp_vae(bernoulli(784), data_dim=784, latent_dim=1, hidden_dim=4)
    params = init_params(jax.random.key(0), model)
    log_p = exact_log_marginal(model, params, jnp.ones(784))
    assert log_p.dtype == jnp.float32 and -700 < log_p < -400
    assert exact_elbo(model, params, jnp.ones(784)) < log_p


def test_all_binary_vectors():
  assert sorted(map(tuple, np.asarray(binary_vectors(3)))) == sorted(np.ndindex(2, 2, 2))


def test_the_affine_bound_is_tight_exactly_at_the_posterior():
  exact = oracles.exact_posterior_world()
  marginal = oracles.affine_log_marginal(exact.params, exact.x)
  np.testing.assert_allclose(oracles.affine_bound(exact.params, exact.x), marginal, rtol=1e-12)
  loose = exact.params.phi | {"log_var": exact.params.phi["log_var"] + 0.1}
  assert oracles.affine_bound(exact.params._replace(phi=loose), exact.x) < marginal - 1e-3


def test_refuses_what_is_too_large():
  model = mlp_vae(bernoulli(3), data_dim=3, latent_dim=2, hidden_dim=4)
  params = init_params(jax.random.key(0), model)
  for exact in (exact_elbo, exact_log_marginal):
    with pytest.raises(UnsupportedError, match=r"one Gaussian latent.*\(2,\)"):
      exact(model, params, jnp.ones(3))
