"""Bounds on log p(x) as functions of K log-weights log w_k = log p(x, z_k) − log q(z_k|x)."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aevb_jax.types import Array

# Log-weights (K,) -> (): symmetric in groups of samples, not necessarily in all K.
Bound = Callable[[Array], Array]


def log_mean_exp(log_w: Array) -> Array:
  """log (1/K) Σ_k w_k from log-weights (K,), without overflow or underflow; shape ()."""
  return jax.nn.logsumexp(log_w) - math.log(len(log_w))


def power_mean(alpha: float) -> Bound:
  """The Rényi bound 1/(1−α) log (1/K) Σ_k w_k^(1−α) and its limits.

  α = 1 is the mean of the log-weights, α = 0 `log_mean_exp`, α = −∞ the largest and
  α = ∞ the smallest of them. Accurate however close α is to 1.

  Raises:
    ValueError: if alpha is not a number.
  """
  if math.isnan(alpha):
    raise ValueError("alpha is not a number; it takes any real number, inf or -inf")
  if alpha == 1:
    return jnp.mean
  if math.isinf(alpha):
    return jnp.max if alpha < 0 else jnp.min

  def bound(log_w: Array) -> Array:
    scaled = (1 - alpha) * log_w
    largest = jax.lax.stop_gradient(jnp.max(scaled))
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)  # a weight may be 0
    # With expm1 and log1p, small differences survive the division by a small 1 - alpha.
    return (largest + jnp.log1p(jnp.mean(jnp.expm1(scaled - largest)))) / (1 - alpha)

  return bound


def mean_over_groups(bound: Bound, num_groups: int) -> Bound:
  """The mean of `bound` over groups of K / num_groups log-weights.

  Raises:
    ValueError: when called, if num_groups does not divide K.
  """

  def of_groups(log_w: Array) -> Array:
    if num_groups < 1 or len(log_w) % num_groups:
      raise ValueError(
        f"num_groups is {num_groups}, expected a divisor of num_samples, {len(log_w)}"
      )
    return jnp.mean(jax.vmap(bound)(log_w.reshape(num_groups, -1)))

  return of_groups


def interpolate(beta: float, first: Bound, second: Bound) -> Bound:
  """β first + (1 − β) second.

  Raises:
    ValueError: if beta is not a finite number.
  """
  if not math.isfinite(beta):
    raise ValueError(f"beta is {beta}, expected a finite number")
  return lambda log_w: beta * first(log_w) + (1 - beta) * second(log_w)
