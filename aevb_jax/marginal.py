"""Estimators of the marginal log-likelihood log p(x), each with its error."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.model import log_weight
from aevb_jax.types import Array, Key, Model, Params


class LogLikelihood(NamedTuple):
  """An estimate of log p(x) in nats, and the Monte Carlo standard error of it."""

  value: Array
  standard_error: Array


def importance_sampling(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int,
  chunk_size: int = 50,
) -> LogLikelihood:
  """log p(x) ≈ log (1/K) Σ_k w_k, with w_k = p(x, z_k) / q(z_k|x), z_k ~ q(z|x).

  In expectation a lower bound that tightens with K (Burda, Grosse &
  Salakhutdinov 2015, theorem 1); for large K its gap is Var(w/p(x)) / 2K (Domke
  & Sheldon 2018). The weights are accumulated in log space, `chunk_size` at a
  time, so memory does not grow with K.

  Args:
    key: consumed; chunk i draws from `fold_in(key, i)`.
    model: p(z), p(x|z) and q(z|x).
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: K.
    chunk_size: samples held in memory at once; it does not change the result's
      distribution, but which samples are drawn depends on it.

  Returns:
    The estimate, shape (), and its standard error by the delta method,
    sqrt(Var(w) / K) / mean(w), shape (): NaN for K = 1, an underestimate where
    few samples carry the weight. Costs one pass through the encoder and K
    through the decoder.

  Raises:
    ValueError: if num_samples or chunk_size is not positive.
  """
  if num_samples < 1 or chunk_size < 1:
    raise ValueError(
      f"num_samples is {num_samples} and chunk_size {chunk_size}, expected at least 1 of each"
    )
  chunk_size = min(chunk_size, num_samples)
  q = model.encoder.given(params.phi, x)

  def log_w_of(key: Key) -> Array:
    return log_weight(model, params.theta, q, x, q.sample(key))

  def add_chunk(i: Array, log_sums: tuple[Array, Array]) -> tuple[Array, Array]:
    log_w = jax.vmap(log_w_of)(jax.random.split(jax.random.fold_in(key, i), chunk_size))
    drawn = i * chunk_size + jnp.arange(chunk_size)
    log_w = jnp.where(drawn < num_samples, log_w, -jnp.inf)  # the last chunk may be partial
    log_sum, log_sum_of_squares = log_sums
    return (
      jnp.logaddexp(log_sum, jax.nn.logsumexp(log_w)),
      jnp.logaddexp(log_sum_of_squares, jax.nn.logsumexp(2 * log_w)),
    )

  nothing = jnp.full((), -jnp.inf)
  num_chunks = -(-num_samples // chunk_size)
  log_sum, log_sum_of_squares = jax.lax.fori_loop(0, num_chunks, add_chunk, (nothing, nothing))
  # K Σw² / (Σw)² - 1 is the relative variance of the weights.
  relative_variance = jnp.expm1(jnp.log(num_samples) + log_sum_of_squares - 2 * log_sum)
  return LogLikelihood(
    value=log_sum - jnp.log(num_samples),
    standard_error=jnp.sqrt(jnp.maximum(relative_variance, 0) / (num_samples - 1)),
  )
