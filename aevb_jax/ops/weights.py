"""Sums and shares of weights that are given by their logarithms, some or all of which may be 0.

`jax.nn.logsumexp` and `jax.nn.softmax` have NaN gradients or values where all weights are 0. Here
the derivative of the sum is the normalized weights, and those of a sum of 0 are 0. A NaN stays NaN.
"""

import functools

import jax
import jax.numpy as jnp

from aevb_jax.types import Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_sum_exp(log_w: Array, axis: int = -1) -> Array:
  """Computes log Σ_k w_k along one axis, without overflow or underflow.

  Its gradient is `normalized_weights`. If all weights are 0, the sum is −∞ and its gradient 0.

  Args:
    log_w: log-weights in nats, −∞ for a weight of 0.
    axis: the axis to sum over.

  Returns:
    The logarithm of the sum, in the shape of `log_w` without that axis.
  """
  largest = _largest(log_w, axis)
  return jnp.log(jnp.sum(jnp.exp(log_w - largest), axis=axis)) + jnp.squeeze(largest, axis)


@log_sum_exp.defjvp
def _log_sum_exp_jvp(axis: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (log_w,), (change,) = primals, tangents
  return log_sum_exp(log_w, axis), jnp.sum(normalized_weights(log_w, axis) * change, axis=axis)


def normalized_weights(log_w: Array, axis: int = -1) -> Array:
  """Computes w_k / Σ_k w_k along one axis, without overflow or underflow.

  Args:
    log_w: log-weights in nats, −∞ for a weight of 0.
    axis: the axis along which the weights sum to 1.

  Returns:
    The normalized weights, in the shape of `log_w`; all are 0 if all weights are.
  """
  w = jnp.exp(log_w - _largest(log_w, axis))
  total = jnp.sum(w, axis=axis, keepdims=True)
  return w / jnp.where(total == 0, 1, total)


def _largest(log_w: Array, axis: int) -> Array:
  """Returns the largest log-weight with its axis kept, 0 instead of −∞, without a gradient."""
  largest = jax.lax.stop_gradient(jnp.max(log_w, axis=axis, keepdims=True))
  return jnp.where(largest == -jnp.inf, 0, largest)
