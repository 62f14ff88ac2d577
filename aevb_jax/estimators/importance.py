"""Tighter bounds: functions of K log-weights, and two ways to differentiate them.

Every estimator here is a `Bound` of log w_k = log p(x, z_k) − log q(z_k|x), z_k ~ q(z|x), with one
of two ways to differentiate it. *Pathwise* is automatic differentiation of the value through
z_k = g(ε_k, x). *Doubly reparameterized* is the same without the score of q. A third way needs no
reparameterization: `score_functions.vimco`. The value is an unbiased estimate of
E[bound(log w_1 … log w_K)], and the gradient is unbiased for the gradient of that expectation.
Neither is unbiased for log p(x) or its gradient.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aevb_jax.estimators.bounds import (
  Bound,
  interpolate,
  log_mean_exp,
  mean_over_groups,
  power_mean,
)
from aevb_jax.estimators.sgvb import log_weights, map_samples, posterior_samples
from aevb_jax.estimators.surrogate import freeze, replace_gradient, scale_gradient
from aevb_jax.models.joint import log_weight
from aevb_jax.ops.weights import normalized_weights
from aevb_jax.types import Array, Key, Model, Params


def pathwise(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int,
  bound: Bound,
  phi_bound: Bound | None = None,
) -> Array:
  """Computes bound(log w_1 … log w_K), differentiated through z_k = g(ε_k, x).

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), the latter reparameterized.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: K.
    bound: a function of the log-weights.
    phi_bound: another bound, whose gradient φ follows; θ follows the gradient of `bound`.

  Returns:
    The value of `bound` in nats, shape (). Its gradient with respect to θ is unbiased for the
    gradient of E[bound], and with respect to φ for that of E[phi_bound], if given. Costs one pass
    through the encoder and K through the decoder; `phi_bound` adds a second backward pass through
    the decoder down to z.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is not positive.
  """
  if phi_bound is None:
    return bound(log_weights(key, model, params, x, num_samples=num_samples))
  stop = jax.lax.stop_gradient
  q = model.encoder.given(params.phi, x)
  z = posterior_samples(key, q, num_samples)
  log_w_of_theta = map_samples(lambda z: log_weight(model, params, freeze(q), x, z), stop(z))
  log_w_of_phi = map_samples(lambda z: log_weight(model, stop(params), q, x, z), z)
  value = bound(log_w_of_theta)
  return replace_gradient(value, value + phi_bound(log_w_of_phi))


def iwae(key: Key, model: Model, params: Params, x: Array, *, num_samples: int) -> Array:
  """Estimates the importance-weighted bound log (1/K) Σ_k w_k; K = 1 is `elbo_a`.

  The bound is at least as tight as equation 3, and tighter with every sample. As K grows, the
  signal-to-noise ratio of its gradient grows like √K for θ and falls like 1/√K for φ (Rainforth et
  al. 2018); the ratio of `dreg` does not fall. Source: Burda, Grosse & Salakhutdinov (2015),
  equations 8 and 13.

  Args:
    key: consumed.
    model: with a reparameterized q(z|x).
    params: θ and φ.
    x: one data point (D,).
    num_samples: K.

  Returns:
    an unbiased estimate of E[bound] in nats, shape (), whose gradient is unbiased too. Costs one
    pass through the encoder and K through the decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is below 1.
  """
  return log_mean_exp(log_weights(key, model, params, x, num_samples=num_samples))


def renyi(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int, alpha: float
) -> Array:
  """Estimates the variational Rényi bound 1/(1−α) log (1/K) Σ_k w_k^(1−α), for any α.

  α = 1 is `elbo_a`, α = 0 `iwae`. α = −∞ is VR-max, the largest log-weight, which trains on the
  best sample only and is not a bound on log p(x) for K > 1. For α < 0 the bound of infinitely many
  samples lies above log p(x). The expectation of its estimate from K samples exceeds log p(x) by at
  most log K, at α = −∞. Source: Li & Turner (2016), section 3 for the bound and 4 for its estimates
  and VR-max.

  Args:
    key: consumed.
    model: with a reparameterized q(z|x).
    params: θ and φ.
    x: one data point (D,).
    num_samples: K.
    alpha: α.

  Returns:
    the value in nats, shape (), biased for the bound of infinitely many samples. Its gradient is
    unbiased for the gradient of the value's own expectation. Costs one pass through the encoder and
    K through the decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is below 1 or α is NaN.
  """
  log_w = log_weights(key, model, params, x, num_samples=num_samples)
  return power_mean(alpha)(log_w)


def miwae(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int, num_groups: int
) -> Array:
  """Estimates the mean of num_groups importance-weighted bounds of K / num_groups samples each.

  The bound lies between `elbo_a` (num_groups = K) and `iwae` (num_groups = 1). It is looser than
  `iwae` and has more signal for φ. Source: Rainforth et al. (2018), section 5.

  Args:
    key: consumed.
    model: with a reparameterized q(z|x).
    params: θ and φ.
    x: one data point (D,).
    num_samples: K.
    num_groups: a divisor of K.

  Returns:
    an unbiased estimate of E[bound] in nats, shape (), whose gradient is unbiased too. Costs one
    pass through the encoder and K through the decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is below 1 or not a multiple of num_groups.
  """
  bound = mean_over_groups(log_mean_exp, num_groups)
  return pathwise(key, model, params, x, num_samples=num_samples, bound=bound)


def ciwae(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int, beta: float
) -> Array:
  """Estimates β times the bound of equation 3 plus 1 − β times that of `iwae`, on the same samples.

  Source: Rainforth et al. (2018), section 5.

  Args:
    key: consumed.
    model: with a reparameterized q(z|x).
    params: θ and φ.
    x: one data point (D,).
    num_samples: K.
    beta: β.

  Returns:
    an unbiased estimate of E[bound] in nats, shape (), whose gradient is unbiased too. Costs one
    pass through the encoder and K through the decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is below 1 or β is not finite.
  """
  bound = interpolate(beta, jnp.mean, log_mean_exp)
  return pathwise(key, model, params, x, num_samples=num_samples, bound=bound)


def piwae(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int, num_groups: int
) -> Array:
  """Estimates `iwae` for θ and `miwae` for φ.

  Each of θ and φ follows the bound whose gradient has the better signal-to-noise ratio for it.
  Source: Rainforth et al. (2018), section 5.

  Args:
    key: consumed.
    model: with a reparameterized q(z|x).
    params: θ and φ.
    x: one data point (D,).
    num_samples: K.
    num_groups: a divisor of K.

  Returns:
    the value of `iwae` in nats, shape (). The gradient is unbiased for the gradient of E[iwae] in
    θ, and of E[miwae] in φ. Costs one pass through the encoder and K through the decoder, and a
    second backward pass through the decoder down to z.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is below 1 or not a multiple of num_groups.
  """
  return pathwise(
    key,
    model,
    params,
    x,
    num_samples=num_samples,
    bound=log_mean_exp,
    phi_bound=mean_over_groups(log_mean_exp, num_groups),
  )


def own_derivatives(bound: Bound, log_w: Array) -> tuple[Array, Array]:
  """Computes b_k = ∂bound/∂log w_k and ∂b_k/∂log w_k, both of shape (K,).

  For `log_mean_exp` they are the normalized weights w̃_k and w̃_k (1 − w̃_k).
  """
  hessian = jax.hessian(bound)(log_w)
  return jax.grad(bound)(log_w), jnp.sum(hessian * jnp.eye(len(log_w)), axis=0)


def doubly_reparameterized(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int,
  bound: Bound = log_mean_exp,
) -> Array:
  """Estimates any bound of log-weights, differentiated without the score of q.

  With b_k = ∂bound/∂log w_k, the pathwise gradient with respect to φ is Σ_k b_k (∂log w_k/∂z_k ·
  ∂z_k/∂φ − ∇φ log q(z_k|x)). Its last term does not have mean zero, since b_k depends on z_k.
  Reparameterized a second time, that term has the mean of −Σ_k ∂b_k/∂log w_k (∂log w_k/∂z_k ·
  ∂z_k/∂φ). The gradient is then

    Σ_k (b_k − ∂b_k/∂log w_k) ∂log w_k/∂z_k · ∂z_k/∂φ.

  For `log_mean_exp` the factor is w̃_k², which is `dreg`; for the mean it is 1/K, which is
  `sticking_the_landing`; for `power_mean(alpha)` it is α w̃_k + (1 − α) w̃_k² with the weights to
  the power 1 − α. The gradient with respect to θ is the pathwise one.

  Source: Tucker, Lawson, Gu & Maddison (2019), equation 8; this is the same step for any bound.

  Args:
    key: consumed.
    model: with a reparameterized q(z|x).
    params: θ and φ.
    x: one data point (D,).
    num_samples: K.
    bound: its first derivatives must be continuous; those of `power_mean(±∞)` are not.

  Returns:
    the value of `pathwise` on the same key in nats, shape (), with an unbiased gradient of
    E[bound]. Costs as much as `pathwise`, since one backward pass, scaled where it leaves the
    decoder, serves θ and φ; and O(K²) numbers for the second derivatives.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is below 1.
  """

  def coefficients(log_w: Array) -> tuple[Array, Array]:
    b, own = own_derivatives(bound, log_w)
    # A weight that underflowed to b = 0 passes no gradient, whatever the factor.
    return b, jnp.where(b == 0, 0, 1 - own / jnp.where(b == 0, 1, b))

  return _doubly_reparameterized(
    key, model, params, x, num_samples=num_samples, bound=bound, coefficients=coefficients
  )


def _doubly_reparameterized(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int,
  bound: Bound,
  coefficients: Callable[[Array], tuple[Array, Array]],
) -> Array:
  """Computes `bound`, whose gradients use `coefficients`: log_w -> (b, factor), both (K,).

  θ follows Σ_k b_k ∇θ log w_k, and φ follows Σ_k b_k factor_k ∂log w_k/∂z_k · ∂z_k/∂φ.
  """
  q = model.encoder.given(params.phi, x)
  z = posterior_samples(key, q, num_samples)
  log_w_of = functools.partial(map_samples, lambda z: log_weight(model, params, freeze(q), x, z))
  log_w = log_w_of(z)
  b, factor = coefficients(jax.lax.stop_gradient(log_w))
  # This repeats the forward pass at no cost: the compiler merges it with the first one, or, where
  # `map_samples` loops, omits it because its value is not used.
  surrogate = jnp.vdot(b, log_w_of(jax.vmap(scale_gradient)(z, factor)))
  return replace_gradient(bound(log_w), surrogate)


def dreg(key: Key, model: Model, params: Params, x: Array, *, num_samples: int) -> Array:
  """Estimates `iwae` with the gradient Σ_k w̃_k² ∂log w_k/∂z_k · ∂z_k/∂φ, doubly reparameterized.

  The gradient is unbiased for the same bound. Its signal-to-noise ratio for φ does not fall with K,
  and at the exact posterior the gradient for φ is zero for every ε. Source: Tucker, Lawson, Gu &
  Maddison (2019), equation 8.

  Args:
    key: consumed.
    model: with a reparameterized q(z|x).
    params: θ and φ.
    x: one data point (D,).
    num_samples: K.

  Returns:
    the value of `iwae` on the same key in nats, shape (). Costs one pass through the encoder and K
    through the decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is below 1.
  """

  def coefficients(log_w: Array) -> tuple[Array, Array]:
    w = normalized_weights(log_w)
    return w, w

  return _doubly_reparameterized(
    key, model, params, x, num_samples=num_samples, bound=log_mean_exp, coefficients=coefficients
  )


def dreg_wake(key: Key, model: Model, params: Params, x: Array, *, num_samples: int) -> Array:
  """Estimates `iwae`, with φ trained by doubly reparameterized reweighted wake-sleep (wake-φ).

  θ follows Σ_k w̃_k ∇θ log p(x, z_k), as in `iwae`. φ follows Σ_k (w̃_k − w̃_k²) ∂log w_k/∂z_k ·
  ∂z_k/∂φ, which has the mean of Σ_k w̃_k ∇φ log q(z_k|x), the wake-φ update of
  `reweighted_wake_sleep`. Source: Tucker, Lawson, Gu & Maddison (2019), section 5 (RWS-DReG).

  Args:
    key: consumed.
    model: with a reparameterized q(z|x).
    params: θ and φ.
    x: one data point (D,).
    num_samples: K.

  Returns:
    the value of `iwae` on the same key in nats, shape (). Its gradient in φ is not the gradient of
    that value's expectation; K = 1 leaves φ unchanged. Costs one pass through the encoder and K
    through the decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is below 1.
  """

  def coefficients(log_w: Array) -> tuple[Array, Array]:
    w = normalized_weights(log_w)
    return w, 1 - w

  return _doubly_reparameterized(
    key, model, params, x, num_samples=num_samples, bound=log_mean_exp, coefficients=coefficients
  )
