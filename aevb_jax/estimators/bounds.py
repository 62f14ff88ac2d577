"""Bounds on log p(x) as functions of K log-weights log w_k = log p(x, z_k) − log q(z_k|x)."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aevb_jax.ops.weights import log_sum_exp, normalized_weights
from aevb_jax.types import Array

# Log-weights (K,) -> (): symmetric in groups of samples, not necessarily in all K.
Bound = Callable[[Array], Array]


def log_mean_exp(log_w: Array) -> Array:
  """Computes log (1/K) Σ_k w_k from K log-weights, without overflow or underflow.

  Its gradient is the normalized weights; if all weights are 0, it is −∞ and its gradient is 0.

  Args:
    log_w: log-weights in nats, shape (K,); −∞ for a weight of 0.

  Returns:
    The importance-weighted bound in nats, shape ().
  """
  return log_sum_exp(log_w) - math.log(len(log_w))


def power_mean(alpha: float) -> Bound:
  """Makes the Rényi bound 1/(1−α) log (1/K) Σ_k w_k^(1−α), or one of its limits.

  α = 1 is the mean of the log-weights, α = 0 `log_mean_exp`, α = −∞ the largest log-weight and α =
  ∞ the smallest. The bound is accurate however close α is to 1. For α ≥ 1 a weight of 0 makes it
  −∞; for α > 1 the weights that are 0 then share the gradient, as they would in the limit.

  Args:
    alpha: α, any number, inf or -inf.

  Returns:
    A function of log-weights (K,) in nats, with values of shape ().

  Raises:
    ValueError: if alpha is NaN.
  """
  if math.isnan(alpha):
    raise ValueError("alpha is not a number; it takes any real number, inf or -inf")
  if alpha == 1:
    return jnp.mean
  if math.isinf(alpha):
    return jnp.max if alpha < 0 else jnp.min

  def bound(log_w: Array) -> Array:
    return _log_mean_exp_near_0((1 - alpha) * log_w) / (1 - alpha)

  return bound


@jax.custom_jvp
def _log_mean_exp_near_0(scaled: Array) -> Array:
  """Computes `log_mean_exp` to a small relative error where all its arguments are near 0."""
  largest = jnp.max(scaled)
  largest = jnp.where(jnp.isinf(largest), 0, largest)
  # With expm1 and log1p, small differences survive the division by a small 1 - alpha.
  return largest + jnp.log1p(jnp.mean(jnp.expm1(scaled - largest)))


@_log_mean_exp_near_0.defjvp
def _log_mean_exp_near_0_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (scaled,), (change,) = primals, tangents
  # Arguments of +∞ share the gradient, the limit as they grow together.
  equal = jnp.where(scaled == jnp.inf, 0, -jnp.inf)
  shares = normalized_weights(jnp.where(jnp.max(scaled) == jnp.inf, equal, scaled))
  return _log_mean_exp_near_0(scaled), jnp.vdot(shares, change)


def mean_over_groups(bound: Bound, num_groups: int) -> Bound:
  """Makes the mean of `bound` over groups of K / num_groups log-weights.

  Args:
    bound: a function of the log-weights of one group.
    num_groups: the number of groups.

  Returns:
    A function of log-weights (K,) in nats, with values of shape ().

  Raises:
    ValueError: when the result is called, if num_groups is below 1 or does not divide K.
  """

  def of_groups(log_w: Array) -> Array:
    if num_groups < 1 or len(log_w) % num_groups:
      raise ValueError(
        f"num_groups is {num_groups}, expected a divisor of num_samples, {len(log_w)}"
      )
    return jnp.mean(jax.vmap(bound)(log_w.reshape(num_groups, -1)))

  return of_groups


def interpolate(beta: float, first: Bound, second: Bound) -> Bound:
  """Makes the bound β first + (1 − β) second.

  Args:
    beta: β, any finite number.
    first, second: functions of log-weights (K,).

  Returns:
    A function of log-weights (K,) in nats, with values of shape ().

  Raises:
    ValueError: if beta is not a finite number.
  """
  if not math.isfinite(beta):
    raise ValueError(f"beta is {beta}, expected a finite number")
  if beta in (0, 1):  # the other bound may be -inf, which 0 does not cancel
    return first if beta else second
  return lambda log_w: beta * first(log_w) + (1 - beta) * second(log_w)
