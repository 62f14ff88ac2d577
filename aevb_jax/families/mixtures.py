"""The mixture of Gaussians, which serves as a reparameterized posterior and as a prior."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import ndtr

from aevb_jax.families.base import LOG_2PI, check_shape
from aevb_jax.ops.weights import log_sum_exp, normalized_weights
from aevb_jax.types import Array, Family, Key


class GaussianMixture(NamedTuple):
  """Parameters of Σ_k π_k N(mean_k, diag(exp(log_var_k))): shapes (K,), (K, J) and (K, J)."""

  log_weights: Array  # log π, normalized
  mean: Array
  log_var: Array


class MixtureNoise(NamedTuple):
  gumbel: Array  # (K,), which chooses the component
  normal: Array  # (J,)


def gaussian_mixture(size: int, num_components: int) -> Family:
  """Makes the family of mixtures Σ_k π_k N(mean_k, diag(exp(log_var_k))) of K Gaussians.

  The index of the component that z is drawn from jumps with π, but the distribution of z does not.
  `transform` therefore has the implicit derivative dz/dη = −(∂F/∂z)⁻¹ ∂F/∂η, where F has J
  entries, the CDF of each z_j given z_1 … z_{j−1}. Any estimator may differentiate through z. The
  derivative costs J² K operations more than the draw. `estimators.stratified` does not need the
  derivative: it takes samples of every component.

  Source: Graves (2016); Figurnov, Mohamed & Mnih (2018).

  Args:
    size: J.
    num_components: K.

  Returns:
    A family with three heads: K logits of π, K·J means and K·J log-variances.

  Raises:
    ValueError: if num_components is not positive.
  """
  if num_components < 1:
    raise ValueError(f"num_components is {num_components}, expected at least 1")
  shape = num_components, size

  def from_heads(logits: Array, mean: Array, log_var: Array) -> GaussianMixture:
    check_shape("the head for the logits", logits, num_components)
    check_shape("the head for the means", mean, num_components * size)
    check_shape("the head for the log-variances", log_var, num_components * size)
    log_weights = jax.nn.log_softmax(logits)
    return GaussianMixture(log_weights, mean.reshape(shape), log_var.reshape(shape))

  def log_prob(eta: GaussianMixture, z: Array) -> Array:
    check_shape("z", z, size)
    return log_sum_exp(eta.log_weights + jnp.sum(_log_probs(eta, z), axis=1))

  def noise(key: Key) -> MixtureNoise:
    gumbel_key, normal_key = jax.random.split(key)
    gumbel = jax.random.gumbel(gumbel_key, (num_components,))
    return MixtureNoise(gumbel, jax.random.normal(normal_key, (size,)))

  def transform(eta: GaussianMixture, noise: MixtureNoise) -> Array:
    fixed = jax.lax.stop_gradient(eta)
    k = jnp.argmax(fixed.log_weights + noise.gumbel)
    z = fixed.mean[k] + jnp.exp(0.5 * fixed.log_var[k]) * noise.normal
    slopes = jax.jacfwd(functools.partial(_conditional_cdfs, fixed))(z)
    moved = _conditional_cdfs(eta, z)
    # Zero in value; only its derivative counts.
    change = moved - jax.lax.stop_gradient(moved)
    return z - solve_triangular(slopes, change, lower=True)

  def mean(eta: GaussianMixture) -> Array:
    return jnp.exp(eta.log_weights) @ eta.mean

  def variance(eta: GaussianMixture) -> Array:
    squares = jnp.exp(eta.log_var) + (eta.mean - mean(eta)[None]) ** 2
    return jnp.exp(eta.log_weights) @ squares

  return Family(
    sizes=(num_components, num_components * size, num_components * size),
    from_heads=from_heads,
    noise=noise,
    transform=transform,
    log_prob=log_prob,
    mean=mean,
    variance=variance,
  )


def _log_probs(eta: GaussianMixture, z: Array) -> Array:
  """Computes log N(z_j; mean_kj, var_kj), shape (K, J)."""
  t = (z[None] - eta.mean) * jnp.exp(-0.5 * eta.log_var)
  return -0.5 * (LOG_2PI + eta.log_var + t**2)


def _conditional_cdfs(eta: GaussianMixture, z: Array) -> Array:
  """Computes F(z_j | z_1 … z_{j−1}) for each j; shape (J,)."""
  log_probs = _log_probs(eta, z)
  # Sums and no differences of sums, because a term may be large or -inf.
  before = jnp.pad(jnp.cumsum(log_probs[:, :-1], axis=1), ((0, 0), (1, 0)))
  weights = normalized_weights(eta.log_weights[:, None] + before, 0)
  t = (z[None] - eta.mean) * jnp.exp(-0.5 * eta.log_var)
  return jnp.sum(weights * ndtr(t), axis=0)
