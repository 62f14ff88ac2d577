"""Appendix D: log p(x) from samples of the posterior and a density fitted to others of them."""

import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
from blackjax.diagnostics import effective_sample_size, rhat

from aevb_jax import hmc
from aevb_jax.annealing import anneal_adaptively, make_path, sigmoid_temperatures
from aevb_jax.families import DiagonalGaussian, diagonal_gaussian, distribution
from aevb_jax.marginal import LogLikelihood, check_positive
from aevb_jax.types import Array, Distribution, Key, Model, Params

LogDensity = Callable[[Array], Array]  # z (J,) -> (), in nats
Fit = Callable[[Array], LogDensity]  # samples (S, J) -> a normalized density near theirs

MAX_LATENTS = 4  # beyond which the fitted density is not close enough: appendix D
AT_ONCE = 50  # draws whose fitted density is computed at once, from that of every kernel


def fit_diagonal_gaussian(z: Array) -> LogDensity:
  """N(mean, diag(variance)) of the samples z, shape (S, J)."""
  eta = DiagonalGaussian(jnp.mean(z, axis=0), jnp.log(jnp.var(z, axis=0, ddof=1)))
  return distribution(diagonal_gaussian(z.shape[1]), eta).log_prob


def fit_gaussian(z: Array) -> LogDensity:
  """N(mean, covariance) of the samples z, shape (S, J) with S > J."""
  mean = jnp.mean(z, axis=0)
  covariance = jnp.atleast_2d(jnp.cov(z, rowvar=False))
  return lambda z: jax.scipy.stats.multivariate_normal.logpdf(z, mean, covariance)


def fit_kernel_density(z: Array) -> LogDensity:
  """Gaussian kernels at the samples z, shape (S, J) with S > J, each of covariance h²Σ̂.

  Σ̂ is the covariance of the samples and h = S^(−1/(J+4)), Scott's rule.
  """
  num_samples, latent_dim = z.shape
  factor = jnp.linalg.cholesky(jnp.atleast_2d(jnp.cov(z, rowvar=False)))
  factor = factor * num_samples ** (-1 / (latent_dim + 4))
  log_volume = jnp.sum(jnp.log(jnp.diagonal(factor)))
  whiten = lambda z: jax.scipy.linalg.solve_triangular(factor, z, lower=True)
  centres = jax.vmap(whiten)(z)
  kernel = diagonal_gaussian(latent_dim)

  def log_q(z: Array) -> Array:
    at_z = lambda centre: kernel.log_prob(DiagonalGaussian(centre, jnp.zeros(latent_dim)), white)
    white = whiten(z)
    return jax.nn.logsumexp(jax.vmap(at_z)(centres)) - math.log(num_samples) - log_volume

  return log_q


def reciprocal_importance_sampling(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  fit: Fit = fit_gaussian,
  num_samples: int = 100,
  num_chains: int = 32,
  num_leapfrogs: int = 4,
  num_warmup: int = 100,
  start: Distribution | None = None,
) -> LogLikelihood:
  """p(x) ≈ ((1/L) Σ_l q(z_l) / p(x, z_l))⁻¹, z_l ~ p(z|x): the estimator of appendix D.

  Two sets of HMC chains draw from the posterior at a fixed step size. The density q is
  fitted to the draws of one, the sum is over those of the other. 1/p(x) is unbiased, and so
  log p(x) biased upwards. Where q has heavier tails than the posterior the variance may be
  infinite, and the error too small.

  Args:
    key: consumed.
    model: p(z) and p(x|z), with continuous z. Its encoder is not used.
    params: θ.
    x: one data point, shape (D,).
    fit: `fit_diagonal_gaussian`, `fit_gaussian`, `fit_kernel_density` or any other
      (S, J) -> log q, normalized.
    num_samples: draws of each chain; L is this times num_chains.
    num_chains: chains to estimate from, and as many more to fit to.
    num_leapfrogs: leapfrog steps in a transition; the paper's 4.
    num_warmup: temperatures by which the chains are annealed to the posterior, and then
      transitions in which their step size is tuned to 90 % acceptance; all thrown away.
    start: the distribution that they are annealed from; the prior by default.

  Returns:
    The estimate, shape (), and its standard error by the delta method, from the spread of
    the chains' own means: right for 30 chains or so whatever they mix like. Diagnostics:
    `acceptance` of the kept draws, `r_hat` (of all chains, the largest over latents; above
    about 1.1 they have not found the posterior), `ess` of the sum's terms, `num_divergent`
    transitions. Costs 2 num_chains × num_leapfrogs × (2 num_warmup + num_samples) gradients
    of log p(x, z).

  Raises:
    UnsupportedError: if z is not continuous.
    ValueError: if a number is not positive, or there are too few samples for R̂ or for a
      covariance.

  Warns:
    UserWarning: above four latents.
  """
  check_positive(
    num_samples=num_samples,
    num_chains=num_chains,
    num_leapfrogs=num_leapfrogs,
    num_warmup=num_warmup,
  )
  path = make_path(model, params, x, start, "the reciprocal estimator")
  latent_dim = path.start.mean.size
  if latent_dim > MAX_LATENTS:
    warnings.warn(
      f"the reciprocal estimator is for at most {MAX_LATENTS} latents (appendix D), and this "
      f"model has {latent_dim}; annealed importance sampling has no such limit",
      stacklevel=2,
    )
  if num_samples < 4 or num_samples * num_chains <= latent_dim + 1:
    raise ValueError(
      f"{num_chains} chains of {num_samples} samples are too few: expected at least 4 samples "
      f"a chain, and more than {latent_dim + 1} in all to fit {latent_dim} latents"
    )
  log_p = path.at(1.0)
  anneal_key, choose_key, warmup_key, key = jax.random.split(key, 4)
  # Chains that started apart stay in the modes they find first, however poor. Annealed ones
  # find the good ones, and choosing among them by weight gives each mode its share.
  z, log_w, step_sizes = anneal_adaptively(
    anneal_key, path, sigmoid_temperatures(num_warmup), num_leapfrogs, 2 * num_chains
  )
  z = z[jax.random.categorical(choose_key, log_w, shape=(2 * num_chains,))]
  how = dict(num_leapfrogs=num_leapfrogs)
  chains, step_size = hmc.warm_up(
    warmup_key, log_p, z, num_steps=num_warmup, step_size=step_sizes[-1], **how
  )
  _, draws = hmc.sample(key, log_p, chains, step_size, num_samples=num_samples, **how)
  log_q = fit(draws.z[:num_chains].reshape(-1, latent_dim))

  # The terms 1 / w with log w = log p(x, z) - log q(z), of every chain: shape (C, S).
  log_term = lambda z: log_q(z) - log_p(z)
  z = draws.z[num_chains:].reshape(-1, latent_dim)
  log_terms = jax.lax.map(log_term, z, batch_size=AT_ONCE).reshape(num_chains, num_samples)
  largest = jnp.max(log_terms)
  terms = jnp.exp(log_terms - largest)
  of_chains = jnp.mean(terms, axis=1)
  return LogLikelihood(
    value=-largest - jnp.log(jnp.mean(of_chains)),
    standard_error=jnp.std(of_chains, ddof=1) / math.sqrt(num_chains) / jnp.mean(of_chains),
    diagnostics={
      "acceptance": draws.acceptance,
      "r_hat": jnp.max(jax.vmap(rhat, in_axes=2)(draws.z)),
      "ess": effective_sample_size(terms),
      "num_divergent": draws.num_divergent,
    },
  )
