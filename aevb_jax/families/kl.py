"""Closed forms of KL(q ‖ p), chosen by the types of the two etas."""

import functools
from collections.abc import Callable
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import betaln, digamma, gammaln

from aevb_jax.errors import UnsupportedError
from aevb_jax.families.binary import Bernoulli
from aevb_jax.families.composition import (
  Beta,
  ChiSquared,
  Dirichlet,
  Gamma,
  LogNormal,
  chi_squared_as_gamma,
)
from aevb_jax.families.gaussians import (
  DiagonalGaussian,
  Gaussian,
  LowRankGaussian,
  covariance,
  log_det,
)
from aevb_jax.families.inverse_cdf import EULER, Exponential, Weibull
from aevb_jax.families.location_scale import Laplace, Uniform
from aevb_jax.families.support import mismatch_in_words
from aevb_jax.types import Array, Distribution, Eta


def kl_divergence(q: Distribution, p: Distribution) -> Array:
  """Computes KL(q ‖ p) in closed form.

  The types of the two etas choose the formula. These pairs have a formula for each dimension:
  diagonal Gaussians (appendix B is the case p = N(0, I)); Bernoullis; Laplace; Gamma, Exponential
  and Chi-Squared with each other; Beta; Log-Normal; Weibull with Weibull, Gamma, Exponential or
  Chi-Squared; Uniform inside Uniform (otherwise infinite). These pairs have a formula for all
  dimensions together: Gaussians of any two covariances, diagonal, low-rank or full; Dirichlet.

  Args:
    q: a distribution over J dimensions.
    p: another one over the same dimensions.

  Returns:
    KL(q ‖ p) in nats, shape ().

  Raises:
    UnsupportedError: if the pair has no closed form here.

  Source: appendix B; for Weibull and Gamma, Zhang et al. (2018).
  """
  pair = type(q.eta), type(p.eta)
  if pair in _JOINT and pair not in _PER_LATENT:
    return _JOINT[pair](q.eta, p.eta)
  return jnp.sum(kl_per_latent(q, p))


def kl_per_latent(q: Distribution, p: Distribution) -> Array:
  """Computes the terms of `kl_divergence`, one for each of J independent latents.

  Args:
    q: a distribution over J independent dimensions.
    p: another one over the same dimensions.

  Returns:
    The terms in nats, shape (J,); their sum is KL(q ‖ p).

  Raises:
    UnsupportedError: if the pair has no closed form here, or its latents are not independent.
  """
  pair = type(q.eta), type(p.eta)
  if pair in _PER_LATENT:
    return _PER_LATENT[pair](q.eta, p.eta)
  names = " ‖ ".join(eta.__name__ for eta in pair)
  if pair in _JOINT:
    raise UnsupportedError(f"KL({names}) has no terms for single latents: they are not independent")
  where = mismatch_in_words(q.support, p.support)
  raise UnsupportedError(
    f"no closed form is known for KL({names}){f', and {where}' if where else ''}; estimate it from "
    "samples, as elbo_a does, or give a function (q, p) -> KL as `kl`"
  )


def _diagonal_gaussians(q: DiagonalGaussian, p: DiagonalGaussian) -> Array:
  # With p = N(0, I) this is appendix B: -KL_j = (1 + log_var_j - mean_j² - var_j) / 2.
  variance_ratio = jnp.exp(q.log_var - p.log_var)
  squared_distance = ((q.mean - p.mean) * jnp.exp(-0.5 * p.log_var)) ** 2
  return 0.5 * (variance_ratio + squared_distance - 1 + p.log_var - q.log_var)


def _bernoullis(q: Bernoulli, p: Bernoulli) -> Array:
  # E_q of log q - log p, where log P(z = 1) = -softplus(-logit), log P(z = 0) = -softplus(logit).
  on = jax.nn.softplus(-p.logits) - jax.nn.softplus(-q.logits)
  off = jax.nn.softplus(p.logits) - jax.nn.softplus(q.logits)
  return jax.nn.sigmoid(q.logits) * on + jax.nn.sigmoid(-q.logits) * off


def _laplaces(q: Laplace, p: Laplace) -> Array:
  distance, ratio = jnp.abs(q.location - p.location), q.scale / p.scale
  return distance / p.scale + ratio * jnp.exp(-distance / q.scale) - jnp.log(ratio) - 1


def _gammas(q: Gamma, p: Gamma) -> Array:
  difference = (q.shape - p.shape) * digamma(q.shape) - gammaln(q.shape) + gammaln(p.shape)
  ratio = p.rate / q.rate
  return difference - p.shape * jnp.log(ratio) + q.shape * (ratio - 1)


def _betas(q: Beta, p: Beta) -> Array:
  total = q.a + q.b
  return (
    betaln(p.a, p.b)
    - betaln(q.a, q.b)
    + (q.a - p.a) * digamma(q.a)
    + (q.b - p.b) * digamma(q.b)
    + (p.a - q.a + p.b - q.b) * digamma(total)
  )


def _log_normals(q: LogNormal, p: LogNormal) -> Array:
  # A change of variables does not change a KL divergence.
  as_gaussian = lambda eta: DiagonalGaussian(eta.location, 2 * jnp.log(eta.scale))
  return _diagonal_gaussians(as_gaussian(q), as_gaussian(p))


def _weibull_and_gamma(q: Weibull, p: Gamma) -> Array:
  # E_q[log z] = log s - γ/k, E_q[z] = s Γ(1 + 1/k). Zhang et al. (2018).
  mean_log = jnp.log(q.scale) - EULER / q.shape
  mean = q.scale * jnp.exp(gammaln(1 + 1 / q.shape))
  entropy = EULER * (1 - 1 / q.shape) + jnp.log(q.scale / q.shape) + 1
  cross = p.shape * jnp.log(p.rate) - gammaln(p.shape) + (p.shape - 1) * mean_log - p.rate * mean
  return -entropy - cross


def _weibulls(q: Weibull, p: Weibull) -> Array:
  # E_q[(z / s_p)^k_p] = (s_q / s_p)^k_p Γ(1 + k_p / k_q).
  ratio = p.shape / q.shape
  power = jnp.exp(p.shape * jnp.log(q.scale / p.scale) + gammaln(1 + ratio))
  return (
    -jnp.log(ratio)
    + p.shape * jnp.log(p.scale)
    - q.shape * jnp.log(q.scale)
    + (q.shape - p.shape) * (jnp.log(q.scale) - EULER / q.shape)
    + power
    - 1
  )


def _uniforms(q: Uniform, p: Uniform) -> Array:
  inside = (p.low <= q.low) & (q.high <= p.high)
  return jnp.where(inside, jnp.log((p.high - p.low) / (q.high - q.low)), jnp.inf)


def _as_gamma(eta: Gamma | Exponential | ChiSquared) -> Gamma:
  if isinstance(eta, Exponential):
    return Gamma(jnp.ones_like(eta.rate), eta.rate)
  if isinstance(eta, ChiSquared):
    return chi_squared_as_gamma(eta)
  return eta


def _dirichlets(q: Dirichlet, p: Dirichlet) -> Array:
  a, b = q.concentration, p.concentration
  mean_log = digamma(a) - digamma(jnp.sum(a))
  return (
    gammaln(jnp.sum(a))
    - jnp.sum(gammaln(a))
    - gammaln(jnp.sum(b))
    + jnp.sum(gammaln(b))
    + jnp.sum((a - b) * mean_log)
  )


def _as_gaussian(eta: Gaussian | LowRankGaussian | DiagonalGaussian) -> Gaussian:
  if isinstance(eta, DiagonalGaussian):
    return Gaussian(eta.mean, jnp.diag(jnp.exp(0.5 * eta.log_var)))
  if isinstance(eta, LowRankGaussian):
    return Gaussian(eta.mean, jnp.linalg.cholesky(covariance(eta)))
  return eta


def _gaussians(q: Eta, p: Eta) -> Array:
  """Computes (tr(Σp⁻¹ Σq) + |Lp⁻¹(μq − μp)|² − J + log |Σp| − log |Σq|) / 2 for any Σq, Σp."""
  q, p = _as_gaussian(q), _as_gaussian(p)
  of_p = functools.partial(solve_triangular, p.scale_tril, lower=True)
  squares = jnp.sum(of_p(q.scale_tril) ** 2) + jnp.sum(of_p(q.mean - p.mean) ** 2)
  return 0.5 * (squares - len(q.mean)) + log_det(p.scale_tril) - log_det(q.scale_tril)


KL = Callable[[Eta, Eta], Array]
_GAMMAS = (Gamma, Exponential, ChiSquared)
_GAUSSIANS = (Gaussian, LowRankGaussian, DiagonalGaussian)

_PER_LATENT: MappingProxyType[tuple[type, type], KL] = MappingProxyType(
  {  # type: ignore[arg-type]
    (DiagonalGaussian, DiagonalGaussian): _diagonal_gaussians,
    (Bernoulli, Bernoulli): _bernoullis,
    (Laplace, Laplace): _laplaces,
    (Beta, Beta): _betas,
    (LogNormal, LogNormal): _log_normals,
    (Weibull, Weibull): _weibulls,
    (Uniform, Uniform): _uniforms,
  }
  | {(a, b): lambda q, p: _gammas(_as_gamma(q), _as_gamma(p)) for a in _GAMMAS for b in _GAMMAS}
  | {(Weibull, b): lambda q, p: _weibull_and_gamma(q, _as_gamma(p)) for b in _GAMMAS}
)
_JOINT: MappingProxyType[tuple[type, type], KL] = MappingProxyType(
  {(Dirichlet, Dirichlet): _dirichlets}
  | {(a, b): _gaussians for a in _GAUSSIANS for b in _GAUSSIANS}
)
