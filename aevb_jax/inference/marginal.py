"""Importance sampling estimates of the marginal log-likelihood log p(x), with their errors.

`reciprocal.py` has appendix D's estimator, and `annealing.py` has estimators by annealing. All take
one x and return a `LogLikelihood`; `evaluate` maps them over many x in bounded memory.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.estimators.bounds import log_mean_exp
from aevb_jax.inference.checks import check_positive
from aevb_jax.inference.hmc import blackjax
from aevb_jax.models.joint import log_joint
from aevb_jax.ops.weights import normalized_weights
from aevb_jax.types import Array, Key, Model, Params


class LogLikelihood(NamedTuple):
  """An estimate of log p(x) in nats, its Monte Carlo standard error, and its diagnostics."""

  value: Array
  standard_error: Array
  diagnostics: dict[str, Array]


def importance_sampling(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int,
  chunk_size: int = 50,
) -> LogLikelihood:
  """Estimates log p(x) ≈ log (1/K) Σ_k w_k, with w_k = p(x, z_k) / q(z_k|x), z_k ~ q(z|x).

  The expectation is a lower bound that tightens with K. For large K its gap is Var(w/p(x)) / 2K.

  Source: Burda, Grosse & Salakhutdinov (2015), theorem 1; Domke & Sheldon (2018) for the gap.

  Args:
    key: consumed; chunk i draws from `fold_in(key, i)`.
    model: p(z), p(x|z) and q(z|x).
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: K.
    chunk_size: samples that pass through the decoder at once. Memory grows with K by only one
      number per sample. The samples drawn depend on chunk_size, but the distribution of the result
      does not.

  Returns:
    The estimate in nats, shape (), and its standard error, as `from_log_weights` computes it.
    Diagnostics: `ess`, the effective sample size, and `pareto_k`, the shape k̂ of the generalized
    Pareto distribution fitted to the largest weights, 3√K of them or a fifth (Vehtari, Simpson,
    Gelman, Yao & Gabry 2024). From about k̂ = 0.7 neither the estimate nor its error can be
    trusted. k̂ is infinite for K < 25, which is too few for a fit, and if too few weights are above
    0. Costs one pass through the encoder and K through the decoder.

  Raises:
    ValueError: if num_samples or chunk_size is not positive.
  """
  check_positive(num_samples=num_samples, chunk_size=chunk_size)
  chunk_size = min(chunk_size, num_samples)
  q = model.encoder.given(params.phi, x)

  def log_w_of(key: Key) -> Array:
    z, log_q = q.sample_with_log_prob(key)
    return log_joint(model, params, x, z) - log_q

  def chunk(i: Array) -> Array:
    return jax.vmap(log_w_of)(jax.random.split(jax.random.fold_in(key, i), chunk_size))

  num_chunks = -(-num_samples // chunk_size)
  log_w = jax.lax.map(chunk, jnp.arange(num_chunks)).reshape(-1)[:num_samples]
  estimate = from_log_weights(log_w)
  pareto_k = blackjax().diagnostics.psis_weights(log_w)[1]
  unknown = jnp.isnan(pareto_k) & ~jnp.isnan(estimate.value)  # weights of 0 among the largest
  pareto_k = jnp.where(unknown, jnp.inf, pareto_k)
  return estimate._replace(diagnostics=estimate.diagnostics | {"pareto_k": pareto_k})


def from_log_weights(log_w: Array) -> LogLikelihood:
  """Computes log (1/K) Σ_k w_k from independent log-weights (K,), with E[w_k] = p(x).

  Returns:
    The estimate in nats, shape (), and its standard error by the delta method,
    sqrt(Var(w) / K) / mean(w), shape (). The error is NaN for K = 1 and if all weights are 0, and
    an underestimate if few samples carry the weight. Diagnostics: `ess`, (Σw)² / Σw², between 1 and
    K, or 0 if all weights are 0.
  """
  w = normalized_weights(log_w)
  squares = jnp.sum(w**2)
  return LogLikelihood(
    value=log_mean_exp(log_w),
    standard_error=jnp.std(w, ddof=1) / jnp.sqrt(len(w)) / jnp.mean(w),
    diagnostics={"ess": jnp.sum(w) ** 2 / jnp.where(squares == 0, 1, squares)},
  )
