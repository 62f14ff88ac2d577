"""Gaussians with diagonal (appendix C.2), full, or low-rank plus diagonal covariance."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from aevb_jax.families.base import LOG_2PI, check_shape
from aevb_jax.types import Array, Family


class DiagonalGaussian(NamedTuple):
  """Parameters of N(mean, diag(exp(log_var))); both have shape (J,)."""

  mean: Array
  log_var: Array


class Gaussian(NamedTuple):
  """Parameters of N(mean, L Lᵀ): shapes (J,) and (J, J), L lower triangular, diagonal positive."""

  mean: Array
  scale_tril: Array


class LowRankGaussian(NamedTuple):
  """Parameters of N(mean, diag(exp(log_var)) + F Fᵀ): shapes (J,), (J,) and (J, R)."""

  mean: Array
  log_var: Array
  factor: Array


def gaussian(
  size: int,
  *,
  mean_link: Callable[[Array], Array] = lambda head: head,
  min_std: float = 0.0,
) -> Family:
  """Makes the family of Gaussians with diagonal covariance.

  In float32 both z and log_prob are finite for |log_var| up to 160. log_prob of a z drawn from the
  same member is accurate as long as the standard deviation is above about 1e-6 of the mean.

  Source: appendix C.2, equations 9 and 12.

  Args:
    size: number of dimensions J (or D, as a likelihood).
    mean_link: maps the first head to the mean; `jax.nn.sigmoid` for pixels, as the paper does for
      Frey Face.
    min_std: floor on the standard deviation, in units of z: the variance is
      exp(second head) + min_std². Zero, the paper's choice, leaves the density of discrete data
      unbounded.

  Returns:
    A family with two heads of J numbers: the mean, and the log-*variance*. Its `from_heads` and
    `log_prob` raise ValueError if a head or z is not of shape (J,).
  """

  def from_heads(mean: Array, log_var: Array) -> DiagonalGaussian:
    check_shape("the head for the mean", mean, size)
    check_shape("the head for the log-variance", log_var, size)
    if min_std:
      log_var = jnp.logaddexp(log_var, 2 * math.log(min_std))
    return DiagonalGaussian(mean_link(mean), log_var)

  def log_prob(eta: DiagonalGaussian, z: Array) -> Array:
    check_shape("z", z, size)
    # Dividing before squaring keeps tiny and huge variances inside float32.
    standardized = (z - eta.mean) * jnp.exp(-0.5 * eta.log_var)
    return -0.5 * jnp.sum(LOG_2PI + eta.log_var + standardized**2)

  return Family(
    sizes=(size, size),
    from_heads=from_heads,
    noise=lambda key: jax.random.normal(key, (size,)),
    transform=lambda eta, noise: eta.mean + jnp.exp(0.5 * eta.log_var) * noise,
    log_prob=log_prob,
    mean=lambda eta: eta.mean,
    variance=lambda eta: jnp.exp(eta.log_var),
    entropy=lambda eta: 0.5 * jnp.sum(1 + LOG_2PI + eta.log_var),
  )


def tril_sizes(size: int) -> tuple[int, ...]:
  """Returns the sizes of the heads that `scale_tril` takes: J, and J(J − 1)/2 if that is not 0."""
  num_below = size * (size - 1) // 2
  return (size, num_below) if num_below else (size,)


def scale_tril(size: int, log_square: Array, below: Array | None = None) -> Array:
  """Makes L from two heads: log L_jj² (J,), and the numbers below the diagonal, row by row.

  With `below` at zero, L Lᵀ is the diagonal covariance of a `gaussian` whose log_var is
  `log_square`. For J = 1 there are no numbers below the diagonal, and no head for them.

  Raises:
    ValueError: if a head has another size.
  """
  check_shape("the head for the log-squares of the diagonal", log_square, size)
  diagonal = jnp.diag(jnp.exp(0.5 * log_square))
  if below is None and size == 1:
    return diagonal
  check_shape("the head for the numbers below the diagonal", below, tril_sizes(size)[-1])  # type: ignore[arg-type]
  rows, columns = np.tril_indices(size, -1)
  return diagonal.at[rows, columns].set(below)


def log_det(scale_tril: Array) -> Array:
  """Computes log |det L| of a lower triangular L (J, J) with a positive diagonal; shape ()."""
  return jnp.sum(jnp.log(jnp.diagonal(scale_tril)))


def full_gaussian(size: int) -> Family:
  """Makes the family of Gaussians with any covariance L Lᵀ: z = mean + L ε, ε ~ N(0, I).

  A draw costs J² products, and so does its log-density.

  Args:
    size: J.

  Returns:
    A family with three heads: the mean (J,), log L_jj² (J,), and L below its diagonal, J(J − 1)/2
    numbers in units of z. For J = 1 it has the first two heads only.
  """

  def from_heads(mean: Array, *of_tril: Array) -> Gaussian:
    check_shape("the head for the mean", mean, size)
    return Gaussian(mean, scale_tril(size, *of_tril))

  def log_prob(eta: Gaussian, z: Array) -> Array:
    check_shape("z", z, size)
    standardized = solve_triangular(eta.scale_tril, z - eta.mean, lower=True)
    return -0.5 * jnp.sum(LOG_2PI + standardized**2) - log_det(eta.scale_tril)

  def transform(eta: Gaussian, noise: Array) -> Array:
    return eta.mean + eta.scale_tril @ noise

  def transform_with_log_prob(eta: Gaussian, noise: Array) -> tuple[Array, Array]:
    return transform(eta, noise), -0.5 * jnp.sum(LOG_2PI + noise**2) - log_det(eta.scale_tril)

  return Family(
    sizes=(size, *tril_sizes(size)),
    from_heads=from_heads,
    noise=lambda key: jax.random.normal(key, (size,)),
    transform=transform,
    log_prob=log_prob,
    mean=lambda eta: eta.mean,
    variance=lambda eta: jnp.sum(eta.scale_tril**2, axis=1),
    entropy=lambda eta: 0.5 * size * (1 + LOG_2PI) + log_det(eta.scale_tril),
    transform_with_log_prob=transform_with_log_prob,
  )


def low_rank_gaussian(size: int, rank: int) -> Family:
  """Makes the family N(mean, diag(exp(log_var)) + F Fᵀ), where F has R columns.

  z = mean + exp(log_var / 2) ε₁ + F ε₂. A log-density costs J R² operations and needs no J × J
  matrix. In float32 the log-density of a draw is within 0.01 nats for log_var of at least −20 where
  the factor is about 1.

  Args:
    size: J.
    rank: R.

  Returns:
    A family with three heads: mean (J,), log_var (J,) as for a diagonal Gaussian, and F, J·R
    numbers in units of z.

  Raises:
    ValueError: unless 1 ≤ rank ≤ size.
  """
  if not 1 <= rank <= size:
    raise ValueError(f"rank is {rank}, expected from 1 to the {size} dimensions")

  def from_heads(mean: Array, log_var: Array, factor: Array) -> LowRankGaussian:
    check_shape("the head for the mean", mean, size)
    check_shape("the head for the log-variance", log_var, size)
    check_shape("the head for the factor", factor, size * rank)
    return LowRankGaussian(mean, log_var, factor.reshape(size, rank))

  def log_prob(eta: LowRankGaussian, z: Array) -> Array:
    check_shape("z", z, size)
    distance, half_log_det = low_rank_distance(eta, (z - eta.mean)[:, None])
    return -0.5 * (size * LOG_2PI + distance[0]) - half_log_det

  def transform(eta: LowRankGaussian, noise: Array) -> Array:
    own, common = noise[:size], noise[size:]
    return eta.mean + jnp.exp(0.5 * eta.log_var) * own + eta.factor @ common

  return Family(
    sizes=(size, size, size * rank),
    from_heads=from_heads,
    noise=lambda key: jax.random.normal(key, (size + rank,)),
    transform=transform,
    log_prob=log_prob,
    mean=lambda eta: eta.mean,
    variance=lambda eta: jnp.exp(eta.log_var) + jnp.sum(eta.factor**2, axis=1),
    entropy=lambda eta: 0.5 * size * (1 + LOG_2PI) + low_rank_half_log_det(eta),
  )


def low_rank_distance(eta: LowRankGaussian, x: Array) -> tuple[Array, Array]:
  """Computes |Σ^(−1/2) x|² for several x, and log det Σ / 2.

  The distance is the least |s − F' w|² + |w|² over w, with s and F' = x and F in units of the
  diagonal deviations. It is computed as a least-squares residual, by modified Gram–Schmidt. The
  difference of |s|² and what F' explains, as in Woodbury's formula, loses all digits where the
  diagonal is small.

  Args:
    eta: parameters of one member, of J dimensions and rank R.
    x: vectors, shape (J, N).

  Returns:
    The N distances, shape (N,), and log det Σ / 2, shape ().
  """
  size, rank = eta.factor.shape
  to_standard = jnp.exp(-0.5 * eta.log_var)[:, None]
  columns = jnp.concatenate([eta.factor * to_standard, jnp.eye(rank, dtype=eta.factor.dtype)])
  rest = jnp.concatenate([x * to_standard, jnp.zeros((rank, x.shape[1]), x.dtype)])
  half_log_det = 0.5 * jnp.sum(eta.log_var)
  for _ in range(rank):
    length = jnp.sqrt(jnp.sum(columns[:, 0] ** 2))
    direction, columns = columns[:, 0] / length, columns[:, 1:]
    half_log_det += jnp.log(length)
    columns -= jnp.outer(direction, direction @ columns)
    rest -= jnp.outer(direction, direction @ rest)
  return jnp.sum(rest**2, axis=0), half_log_det


def low_rank_half_log_det(eta: LowRankGaussian) -> Array:
  """Computes log det(diag(exp(log_var)) + F Fᵀ) / 2, shape ()."""
  return low_rank_distance(eta, jnp.zeros((len(eta.mean), 0), eta.mean.dtype))[1]


def covariance(eta: Gaussian | LowRankGaussian) -> Array:
  """Computes the covariance matrix of a Gaussian.

  Args:
    eta: parameters of a full or a low-rank Gaussian of J dimensions.

  Returns:
    The covariance, shape (J, J), in squared units of z.
  """
  if isinstance(eta, Gaussian):
    return eta.scale_tril @ eta.scale_tril.T
  return jnp.diag(jnp.exp(eta.log_var)) + eta.factor @ eta.factor.T
