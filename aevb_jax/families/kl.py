"""KL(q ‖ p) in closed form, found by the types of the two etas.

Each formula is a sum of terms that are never negative and 0 at q = p, such as u − log(1 + u), made
from differences of parameters. So no digits cancel where q is close to p. In float32 a divergence
is within 1e-5 of its value for parameters from 1e-2 to 1e3, and its gradient within 1e-5 of the
largest term of the gradient, unless a comment says otherwise.
"""

import functools
from collections.abc import Callable
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

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
  log_det,
  low_rank_distance,
  low_rank_half_log_det,
)
from aevb_jax.families.inverse_cdf import Exponential, Weibull
from aevb_jax.families.location_scale import Laplace, Uniform
from aevb_jax.families.special import (
  EULER,
  expm1_minus,
  log_gamma_bregman,
  log_gamma_tail,
  log_gamma_tail_bregman,
  log_ratio,
  relative_entropy,
  u_minus_log,
)
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
  squared_distance = ((q.mean - p.mean) * jnp.exp(-0.5 * p.log_var)) ** 2
  return 0.5 * (expm1_minus(q.log_var - p.log_var) + squared_distance)


def _bernoullis(q: Bernoulli, p: Bernoulli) -> Array:
  # E_q of log q - log p, where log P(z = 1) = -softplus(-logit), log P(z = 0) = -softplus(logit).
  on = jax.nn.softplus(-p.logits) - jax.nn.softplus(-q.logits)
  off = jax.nn.softplus(p.logits) - jax.nn.softplus(q.logits)
  apart = jax.nn.sigmoid(q.logits) * on + jax.nn.sigmoid(-q.logits) * off
  # With d the difference of the logits and s = P(z = 1) ≤ 1/2: log(1 + s (eᵈ − 1)) − s d.
  difference = p.logits - q.logits
  near = jnp.abs(difference) < 1
  d = jnp.where(near, jnp.where(q.logits > 0, -difference, difference), 0.0)
  s = jax.nn.sigmoid(-jnp.abs(q.logits))
  rise = s * jnp.expm1(d)
  return jnp.where(near, s * expm1_minus(d) - u_minus_log(rise, 1 + rise), apart)


def _laplaces(q: Laplace, p: Laplace) -> Array:
  distance, ratio = jnp.abs(q.location - p.location) / q.scale, q.scale / p.scale
  return ratio * expm1_minus(-distance) + u_minus_log((q.scale - p.scale) / p.scale, ratio)


def _gammas(q: Gamma, p: Gamma) -> Array:
  # Γ's part of the divergence of Gammas of one mean, and that of the means, a relative entropy of
  # p's shape and the expected p.rate z.
  expected = q.shape * (p.rate / q.rate)
  rise = (p.rate - q.rate) / q.rate
  close = (q.shape - p.shape) + q.shape * rise
  difference = jnp.where(jnp.abs(rise) < 0.5, close, expected - p.shape)
  between_means = relative_entropy(p.shape, expected, difference)
  return between_means + log_gamma_tail_bregman(p.shape, q.shape, p.shape - q.shape)


def _betas(q: Beta, p: Beta) -> Array:
  # Within 5e-5 in float32 where a small shape is beside a large one.
  as_dirichlet = lambda eta: Dirichlet(jnp.stack([eta.a, eta.b], axis=-1))
  return _dirichlets(as_dirichlet(q), as_dirichlet(p))


def _log_normals(q: LogNormal, p: LogNormal) -> Array:
  # A change of variables does not change a KL divergence, so this is one of Gaussians.
  u = (q.scale - p.scale) / p.scale
  squares = u**2 + ((q.location - p.location) / p.scale) ** 2
  return 0.5 * squares + u_minus_log(u, q.scale / p.scale)


def _weibull_and_gamma(q: Weibull, p: Gamma) -> Array:
  # E_q[log z] = log s - γ/k, E_q[z] = s Γ(1 + 1/k). Zhang et al. (2018). With x = 1/k and e the log
  # of E_q[z] / E_p[z] it is a (eᵉ − 1 − e) and a rest that is 0 for exponentials, a = x = 1.
  # In float32 it is within 5e-5 close to there.
  a, x = p.shape, 1 / q.shape
  below = (1 - q.shape) / q.shape  # x − 1
  one = jnp.ones_like(x)
  log_mean = log_gamma_bregman(1 + x, 2 * one, below) + (1 - EULER) * below  # log Γ(1 + x)
  e = log_ratio(q.scale * p.rate, a) + log_mean
  near = (jnp.abs(a - 1) < 0.5) & (jnp.abs(below) < 0.5)
  close = log_gamma_bregman(x, one, below) + log_gamma_tail_bregman(a, one, a - 1)
  close += (a - 1) * (log_mean + EULER * below)
  spread = 0.5 * jnp.log(2 * jnp.pi / a) + log_gamma_tail(a) - 1 - EULER + jnp.log(q.shape)
  apart = spread + a * log_gamma_bregman(1 + x, one, x)
  return a * expm1_minus(e) + jnp.where(near, close, apart)


def _weibulls(q: Weibull, p: Weibull) -> Array:
  # With ρ = k_p / k_q and e = log E_q[(z / s_p)^k_p]: eᵉ − 1 − e, and the divergence of log Γ at ρ
  # from 1, because ψ(1) = −γ.
  v = (p.shape - q.shape) / q.shape  # ρ − 1
  one = jnp.ones_like(v)
  log_moment = log_gamma_bregman(2 + v, 2 * one, v) + (1 - EULER) * v  # log Γ(1 + ρ)
  e = p.shape * log_ratio(q.scale, p.scale) + log_moment
  return expm1_minus(e) + log_gamma_bregman(p.shape / q.shape, one, v)


def _uniforms(q: Uniform, p: Uniform) -> Array:
  inside = (p.low <= q.low) & (q.high <= p.high)
  outside = (p.high - q.high) + (q.low - p.low)
  return jnp.where(inside, jnp.log1p(jnp.where(inside, outside / (q.high - q.low), 0.0)), jnp.inf)


def _as_gamma(eta: Gamma | Exponential | ChiSquared) -> Gamma:
  if isinstance(eta, Exponential):
    return Gamma(jnp.ones_like(eta.rate), eta.rate)
  if isinstance(eta, ChiSquared):
    return chi_squared_as_gamma(eta)
  return eta


def _dirichlets(q: Dirichlet, p: Dirichlet) -> Array:
  # log B is a sum of x log x, whose divergence is p's total times a relative entropy of the means,
  # and of the rests of log Γ.
  a, b = p.concentration, q.concentration
  n_a, n_b = jnp.sum(a, axis=-1, keepdims=True), jnp.sum(b, axis=-1, keepdims=True)
  difference = a - b
  total = jnp.sum(difference, axis=-1, keepdims=True)
  expected = n_a * b / n_b
  close = (b * total - n_b * difference) / n_b
  change = jnp.where(jnp.abs(difference) < 0.5 * b, close, expected - a)
  between_means = relative_entropy(a, expected, change)
  each = between_means + log_gamma_tail_bregman(a, b, difference)
  return jnp.sum(each, axis=-1) - log_gamma_tail_bregman(n_a, n_b, total)[..., 0]


def _as_gaussian(eta: Gaussian | DiagonalGaussian) -> Gaussian:
  if isinstance(eta, DiagonalGaussian):
    return Gaussian(eta.mean, jnp.diag(jnp.exp(0.5 * eta.log_var)))
  return eta


def _gaussians(q: Eta, p: Eta) -> Array:
  """Computes (tr(Σp⁻¹ Σq) + |Lp⁻¹(μq − μp)|² − J + log |Σp| − log |Σq|) / 2 for any Σq, Σp."""
  q, p = _as_gaussian(q), _as_gaussian(p)
  of_p = functools.partial(solve_triangular, p.scale_tril, lower=True)
  # Lp⁻¹ Lq is 1 + M. Its trace of squares, less J and the log-determinants, has no large terms.
  m = of_p(jnp.tril(q.scale_tril - p.scale_tril))
  u, ratio = jnp.diagonal(m), jnp.diagonal(q.scale_tril) / jnp.diagonal(p.scale_tril)
  squares = jnp.sum(m**2) + jnp.sum(of_p(q.mean - p.mean) ** 2)
  return 0.5 * squares + jnp.sum(u_minus_log(u, ratio))


def _low_rank_from_diagonal(q: LowRankGaussian, p: DiagonalGaussian) -> Array:
  # Within 1e-6 of the number of dimensions; close to p, of its value.
  squared_distance = ((q.mean - p.mean) * jnp.exp(-0.5 * p.log_var)) ** 2
  own = 0.5 * jnp.sum(expm1_minus(q.log_var - p.log_var) + squared_distance)
  common = 0.5 * jnp.sum(q.factor**2 * jnp.exp(-p.log_var)[:, None])
  return own + common + (0.5 * jnp.sum(q.log_var) - low_rank_half_log_det(q))


def _root(q: LowRankGaussian) -> Array:
  """Returns B, shape (J, J + R), with B Bᵀ the covariance."""
  return jnp.concatenate([jnp.diag(jnp.exp(0.5 * q.log_var)), q.factor], axis=1)


def _from_low_rank(q: Eta, p: LowRankGaussian) -> Array:
  # Within 1e-6 of the largest of its terms.
  size = len(q.mean)
  if isinstance(q, LowRankGaussian):
    root, half_log_det = _root(q), low_rank_half_log_det(q)
  else:
    root = _as_gaussian(q).scale_tril
    half_log_det = log_det(root)
  columns = jnp.concatenate([root, (q.mean - p.mean)[:, None]], axis=1)
  distances, of_p = low_rank_distance(p, columns)
  return 0.5 * (jnp.sum(distances) - size) + of_p - half_log_det


def _low_rank_from_full(q: LowRankGaussian, p: Gaussian) -> Array:
  of_p = functools.partial(solve_triangular, p.scale_tril, lower=True)
  squares = jnp.sum(of_p(_root(q)) ** 2) + jnp.sum(of_p(q.mean - p.mean) ** 2)
  return 0.5 * (squares - len(q.mean)) + log_det(p.scale_tril) - low_rank_half_log_det(q)


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
  | {(a, LowRankGaussian): _from_low_rank for a in _GAUSSIANS}
  | {
    (LowRankGaussian, DiagonalGaussian): _low_rank_from_diagonal,  # type: ignore[dict-item]
    (LowRankGaussian, Gaussian): _low_rank_from_full,  # type: ignore[dict-item]
  }
)
