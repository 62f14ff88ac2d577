"""Appendix D's estimator: exactness, new samples, the direction of its bias, and its error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aevb_jax import Model, gaussian, log_joint, standard_normal
from aevb_jax.errors import UnsupportedError
from aevb_jax.inference.exact import exact_log_marginal
from aevb_jax.inference.reciprocal import (
  fit_diagonal_gaussian,
  fit_gaussian,
  fit_kernel_density,
  reciprocal_importance_sampling,
)
from aevb_jax.models import conditional
from aevb_jax.models import linear_gaussian as lg
from aevb_jax.types import Params
from tests.support import oracles
from tests.support.statistics import assert_errors_are_right, assert_greater, assert_unbiased

SMALL = dict(num_samples=25, num_chains=8, num_temperatures=30, num_warmup=50)
FITS = [fit_diagonal_gaussian, fit_gaussian, fit_kernel_density]
AFFINE = oracles.affine_world()
LOG_P = lg.log_marginal(AFFINE.params.theta, AFFINE.x)


def repeated(world, n, **kwargs):
  estimate = lambda key: reciprocal_importance_sampling(key, *world, **kwargs)
  map_over = lambda keys: jax.lax.map(estimate, keys, batch_size=50)
  return jax.jit(map_over)(jax.random.split(jax.random.key(0), n))


def exact_fit(z):
  mean, covariance = lg.posterior(AFFINE.params.theta, AFFINE.x)
  return lambda z: jax.scipy.stats.multivariate_normal.logpdf(z, mean, covariance)


def test_exact_where_the_fit_is_the_posterior():
  estimates = repeated(AFFINE, 3, fit=exact_fit, num_samples=5, num_chains=4, num_warmup=5)
  np.testing.assert_allclose(estimates.value, LOG_P, rtol=1e-10)
  np.testing.assert_allclose(estimates.standard_error, 0, atol=1e-10)


def test_estimates_from_new_samples():
  # This fit is twice as high at its own samples; estimates from those would be log 2 too low.
  def remembering(z):
    log_q = exact_fit(z)
    return lambda y: log_q(y) + jnp.log(2.0) * jnp.any(jnp.all(y[None] == z, axis=1))

  estimates = repeated(AFFINE, 3, fit=remembering, num_samples=10, num_chains=4, num_warmup=5)
  np.testing.assert_allclose(estimates.value, LOG_P, rtol=1e-10)


@pytest.mark.parametrize("fit", [FITS[1], pytest.param(FITS[2], marks=pytest.mark.long)])
def test_one_over_the_likelihood_is_unbiased(fit):
  estimates = repeated(AFFINE, 600, fit=fit, **SMALL)
  assert_unbiased(np.exp(LOG_P - estimates.value), 1.0, detects=0.1)


@pytest.mark.long
def test_unbiased_through_a_network():
  world = oracles.bernoulli_world()
  log_p = exact_log_marginal(*world)
  estimates = repeated(world, 400, **SMALL)
  assert_unbiased(np.exp(log_p - estimates.value), 1.0, detects=0.05)


@pytest.mark.long
def test_the_log_likelihood_is_biased_upwards():
  estimates = repeated(
    AFFINE, 1000, fit=fit_diagonal_gaussian, **(SMALL | dict(num_samples=4, num_chains=2))
  )
  assert_greater(estimates.value, np.full(1000, LOG_P))


@pytest.mark.long
def test_the_standard_error_is_right_and_chains_accept_as_tuned():
  world = oracles.affine_world(4, 2)
  estimates = repeated(world, 300, num_samples=50, num_warmup=50)
  error = estimates.value - lg.log_marginal(world.params.theta, world.x)
  assert_errors_are_right(error, estimates.standard_error)
  assert np.max(np.abs(error)) < 0.1
  assert 0.88 < np.mean(estimates.diagnostics["acceptance"]) < 0.92
  assert np.median(estimates.diagnostics["r_hat"]) < 1.05
  assert not estimates.diagnostics["num_divergent"].any()


def squared_world(log_var):
  """Makes x = z² + noise: z has a mode on either side of zero, and HMC stays at one."""

  def given(theta, z):
    return squared.given(theta, z**2)

  squared = conditional(oracles.AffineHeads(1), gaussian(1), 1)
  encoder = conditional(oracles.AffineHeads(1), gaussian(1), 1)
  model = Model(lambda params: standard_normal(1), squared._replace(given=given), encoder)
  theta = {
    "mean": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
    "log_var": jnp.full(1, log_var),
  }
  return model, Params(theta, ()), jnp.asarray([4.0])


def test_chains_that_disagree_are_noticed():
  world = squared_world(log_var=-4.0)
  estimate = jax.jit(lambda key: reciprocal_importance_sampling(key, *world))(jax.random.key(0))
  assert estimate.diagnostics["r_hat"] > 1.2


@pytest.mark.long
def test_few_chains_are_never_far_off():
  # If two chains found different modes, the fit would be to one, the estimate from the other.
  world = squared_world(log_var=-10.0)
  few = dict(num_samples=20, num_chains=2, num_temperatures=60, num_warmup=20)
  value = np.asarray(repeated(world, 200, **few).value)
  z = jnp.linspace(1.5, 2.5, 100_001)
  log_p = jax.vmap(lambda z: log_joint(world[0], world[1], world[2], z[None]))(z)
  exact = float(jax.nn.logsumexp(log_p) + jnp.log(2 * (z[1] - z[0])))
  # An estimate that misses one of the modes is log 2 lower.
  assert np.all((exact - np.log(2) - 0.5 < value) & (value < exact + 0.5))


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("fit", FITS)
def test_fits_are_normalized(fit, latent_dim):
  z = jax.random.normal(jax.random.key(1), (40, latent_dim)) * 0.7 + 0.3
  axis = jnp.linspace(-5, 5, 201)
  grid = jnp.stack([a.ravel() for a in jnp.meshgrid(*[axis] * latent_dim)], axis=1)
  density = jnp.exp(jax.vmap(fit(z))(grid))
  np.testing.assert_allclose(density.sum() * 0.05**latent_dim, 1, rtol=1e-6)


def test_fits_are_scipys():
  z = jax.random.normal(jax.random.key(2), (30, 3)) @ jnp.asarray(
    [[1.0, 0.5, 0.0], [0.0, 0.3, 0.2], [0.1, 0.0, 2.0]]
  )
  kernel_density = scipy.stats.gaussian_kde(np.asarray(z).T)
  gaussian = scipy.stats.multivariate_normal(z.mean(0), np.cov(z, rowvar=False))
  np.testing.assert_allclose(jax.vmap(fit_gaussian(z))(z), gaussian.logpdf(z), rtol=1e-10)
  np.testing.assert_allclose(
    jax.vmap(fit_kernel_density(z))(z[:5]), kernel_density.logpdf(z[:5].T), rtol=1e-10
  )


def test_warns_above_four_latents():
  with pytest.warns(UserWarning, match="at most 4 latents .* has 5"):
    jax.eval_shape(
      lambda key: reciprocal_importance_sampling(key, *oracles.affine_world(6, 5)),
      jax.random.key(0),
    )


@pytest.mark.filterwarnings("ignore:the reciprocal estimator")
@pytest.mark.parametrize(
  "how, message",
  [
    (dict(num_samples=3), "10 chains of 3 samples are too few"),
    (dict(num_samples=4, num_chains=1, latent_dim=5), "1 chains of 4 samples are too few"),
    (dict(num_leapfrogs=0), "num_leapfrogs is 0"),
    (dict(num_chains=0), "num_chains is 0"),
    (dict(num_warmup=0), "num_warmup is 0"),
    (dict(num_temperatures=0), "num_temperatures is 0"),
  ],
)
def test_refuses_numbers_that_do_not_go(how, message):
  world = oracles.affine_world(6, how.pop("latent_dim", 3))
  with pytest.raises(ValueError, match=message):
    reciprocal_importance_sampling(jax.random.key(0), *world, **(dict(num_chains=10) | how))


def test_refuses_binary_latents():
  with pytest.raises(UnsupportedError, match="continuous z; that of this model is Bernoulli"):
    reciprocal_importance_sampling(jax.random.key(0), *oracles.binary_world())
