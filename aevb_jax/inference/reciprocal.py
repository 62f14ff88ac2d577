"""Appendix D: log p(x) from samples of the posterior and a density fitted to other samples."""

import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.families.base import distribution
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.inference import hmc
from aevb_jax.inference.annealing import Path, anneal_from_start, make_path, sigmoid_temperatures
from aevb_jax.inference.checks import check_positive
from aevb_jax.inference.hmc import LogDensity, blackjax
from aevb_jax.inference.marginal import LogLikelihood, from_log_weights
from aevb_jax.ops.weights import log_sum_exp, normalized_weights
from aevb_jax.types import Array, Distribution, Key, Model, Params

Fit = Callable[[Array], LogDensity]  # samples (S, J) -> a normalized density near theirs

MAX_LATENTS = 4  # with more of them the fitted density is not close enough: appendix D
AT_ONCE = 50  # draws whose fitted density, a sum over all kernels, is computed at once


def fit_diagonal_gaussian(z: Array) -> LogDensity:
  """Fits N(mean, diag(variance)) to samples.

  Args:
    z: shape (S, J).

  Returns:
    z (J,) -> the log-density in nats, shape ().
  """
  eta = DiagonalGaussian(jnp.mean(z, axis=0), jnp.log(jnp.var(z, axis=0, ddof=1)))
  return distribution(gaussian(z.shape[1]), eta).log_prob


def fit_gaussian(z: Array) -> LogDensity:
  """Fits N(mean, covariance) to samples.

  Args:
    z: shape (S, J) with S > J.

  Returns:
    z (J,) -> the log-density in nats, shape ().
  """
  mean = jnp.mean(z, axis=0)
  covariance = jnp.atleast_2d(jnp.cov(z, rowvar=False))
  return lambda z: jax.scipy.stats.multivariate_normal.logpdf(z, mean, covariance)  # type: ignore[return-value]


def fit_kernel_density(z: Array) -> LogDensity:
  """Fits Gaussian kernels at the samples, each of covariance h²Σ̂.

  Σ̂ is the covariance of the samples and h = S^(−1/(J+4)), Scott's rule.

  Args:
    z: shape (S, J) with S > J.

  Returns:
    z (J,) -> the log-density in nats, shape ().
  """
  num_samples, latent_dim = z.shape
  factor = jnp.linalg.cholesky(jnp.atleast_2d(jnp.cov(z, rowvar=False)))
  factor = factor * num_samples ** (-1 / (latent_dim + 4))
  log_volume = jnp.sum(jnp.log(jnp.diagonal(factor)))
  whiten = lambda z: jax.scipy.linalg.solve_triangular(factor, z, lower=True)
  centres = jax.vmap(whiten)(z)
  kernel = gaussian(latent_dim)

  def log_q(z: Array) -> Array:
    white = whiten(z)
    at_z = lambda centre: kernel.log_prob(DiagonalGaussian(centre, jnp.zeros(latent_dim)), white)
    return log_sum_exp(jax.vmap(at_z)(centres)) - math.log(num_samples) - log_volume

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
  num_temperatures: int = 100,
  num_warmup: int = 100,
  start: Distribution | None = None,
) -> LogLikelihood:
  """Estimates p(x) ≈ ((1/L) Σ_l q(z_l) / p(x, z_l))⁻¹, z_l ~ p(z|x), as in appendix D.

  Two sets of HMC chains draw from the posterior at a fixed step size. The density q is fitted to
  the draws of one set, and the sum is over the draws of the other set. If the chains have found the
  posterior, the estimate of 1/p(x) is unbiased, so that of log p(x) is biased upwards. If q has
  heavier tails than the posterior, the variance may be infinite, and the error too small.

  Source: appendix D.

  Args:
    key: consumed.
    model: p(z) and p(x|z), with continuous z. Its encoder is not used.
    params: θ.
    x: one data point, shape (D,).
    fit: `fit_diagonal_gaussian`, `fit_gaussian`, `fit_kernel_density` or any other (S, J) -> log q,
      normalized.
    num_samples: draws of each chain; L is this times num_chains.
    num_chains: chains to estimate from, and as many more to fit to.
    num_leapfrogs: leapfrog steps in a transition; the paper has 4.
    num_temperatures: temperatures by which both sets together are annealed to the posterior.
      Without annealing, chains would stay in the modes that they find first, however poor. Annealed
      chains are chosen, with replacement, by their weights, which are large in the good modes. Both
      sets miss a mode that no chain found. Missed modes add log s ≤ 0 to the estimate, where s is
      the share of the posterior that the other modes have.
    num_warmup: transitions after the annealing, which tune the step size to 90 % acceptance.
    start: the distribution that chains are annealed from; the prior by default.

  Returns:
    The estimate of log p(x) in nats, shape (), and its standard error by the delta method, from the
    spread of the chains' own means. The error needs about 30 chains and holds as far as they are
    independent. Diagnostics: `acceptance` of the kept draws; `r_hat` of all chains, the largest
    over latents: above about 1.1 the chains disagree about the posterior; `annealing_ess`, the
    effective number of chains that both sets were chosen from: if it is small, the chains have
    common ancestors, which R̂ and the error do not show; `ess` of the sum's terms; `num_divergent`
    of the kept transitions.
    Costs at most 2 num_chains × (num_leapfrogs + 1) × (num_temperatures + num_warmup + num_samples)
    gradients of log p(x, z).

  Raises:
    UnsupportedError: if z is not continuous.
    ValueError: if a number is not positive, or there are too few samples for R̂ or a covariance.

  Warns:
    UserWarning: above four latents.
  """
  check_positive(
    num_samples=num_samples,
    num_chains=num_chains,
    num_leapfrogs=num_leapfrogs,
    num_temperatures=num_temperatures,
    num_warmup=num_warmup,
  )
  path = make_path(model, params, x, start, "the reciprocal estimator")
  latent_dim = path.start.mean.size
  _check_size(latent_dim, num_samples, num_chains)
  log_p = path.at(1.0)
  anneal_key, warmup_key, key = jax.random.split(key, 3)
  betas = sigmoid_temperatures(num_temperatures)
  z, step_size, annealing_ess = _chosen_by_annealing(
    anneal_key, path, betas, num_leapfrogs, 2 * num_chains
  )
  # Each set takes every other chain, so that descendants of one chain are in both sets. If each set
  # had its own modes, q would be almost 0 at z, and the estimate off by thousands of nats.
  z = jnp.concatenate([z[::2], z[1::2]])
  leapfrogs = dict(num_leapfrogs=num_leapfrogs)
  chains, step_size = hmc.warm_up(
    warmup_key, log_p, z, num_steps=num_warmup, step_size=step_size, **leapfrogs
  )
  _, draws = hmc.sample(key, log_p, chains, step_size, num_samples=num_samples, **leapfrogs)
  log_q = fit(draws.z[:num_chains].reshape(-1, latent_dim))

  # The terms 1 / w with log w = log p(x, z) - log q(z), of every chain: shape (C, S).
  log_term = lambda z: log_q(z) - log_p(z)
  z = draws.z[num_chains:].reshape(-1, latent_dim)
  log_terms = jax.lax.map(log_term, z, batch_size=AT_ONCE).reshape(num_chains, num_samples)
  estimate = _from_terms(log_terms)
  return estimate._replace(
    diagnostics={
      "acceptance": draws.acceptance,
      "r_hat": jnp.max(jax.vmap(blackjax().diagnostics.rhat, in_axes=2)(draws.z)),
      "annealing_ess": annealing_ess,
      **estimate.diagnostics,
      "num_divergent": draws.num_divergent,
    }
  )


def _from_terms(log_terms: Array) -> LogLikelihood:
  """Computes −log of the mean of terms 1 / w, (C, S); the error is from the means of C chains."""
  largest = jnp.max(log_terms)
  largest = jnp.where(largest == -jnp.inf, 0, largest)
  terms = jnp.exp(log_terms - largest)
  of_chains = jnp.mean(terms, axis=1)
  return LogLikelihood(
    value=-largest - jnp.log(jnp.mean(of_chains)),
    standard_error=jnp.std(of_chains, ddof=1) / math.sqrt(len(of_chains)) / jnp.mean(of_chains),
    diagnostics={"ess": blackjax().diagnostics.effective_sample_size(terms)},
  )


def _chosen_by_annealing(
  key: Key, path: Path, betas: np.ndarray, num_leapfrogs: int, num_chains: int
) -> tuple[Array, Array, Array]:
  """Draws C nearly independent z (C, J) of the posterior; also returns a step size and the ESS."""
  anneal_key, choose_key = jax.random.split(key)
  annealed = anneal_from_start(anneal_key, path, betas, num_leapfrogs, num_chains)
  log_w = jnp.where(jnp.isnan(annealed.log_w), -jnp.inf, annealed.log_w)
  # Systematic resampling chooses each chain in proportion to its weight, up to rounding. If no
  # chain has a weight, all stay as they are; the ESS is then 0.
  shares = jnp.cumsum(normalized_weights(jnp.where(jnp.max(log_w) == -jnp.inf, 0, log_w)))
  places = (jnp.arange(num_chains) + jax.random.uniform(choose_key)) / num_chains
  chosen = jnp.searchsorted(shares, places * shares[-1])
  ess = from_log_weights(log_w).diagnostics["ess"]
  return annealed.z[chosen], annealed.step_sizes[-1], ess


def _check_size(latent_dim: int, num_samples: int, num_chains: int) -> None:
  if latent_dim > MAX_LATENTS:
    warnings.warn(
      f"the reciprocal estimator is for at most {MAX_LATENTS} latents (appendix D), and this "
      f"model has {latent_dim}; annealed importance sampling has no such limit",
      stacklevel=3,
    )
  if num_samples < 4 or num_samples * num_chains <= latent_dim + 1:
    raise ValueError(
      f"{num_chains} chains of {num_samples} samples are too few: expected at least 4 samples "
      f"a chain, and more than {latent_dim + 1} in all to fit {latent_dim} latents"
    )
