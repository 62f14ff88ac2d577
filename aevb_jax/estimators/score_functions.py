"""Estimators that need no reparameterization: the score function, and control variates for it.

Section 2.2 of the paper: ∇φ E_q[f(z)] ≈ (1/L) Σ_l f(z_l) ∇φ log q(z_l|x). It needs only samples and
a density of q, so z may be discrete. Its variance is very high. Control variates lower it: anything
of known mean that is subtracted from f(z_l) ∇φ log q(z_l|x). A baseline b is one: b ∇φ log q(z_l|x)
has mean zero as long as b does not depend on z_l.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.estimators.bounds import Bound, log_mean_exp
from aevb_jax.estimators.sgvb import draw, map_samples
from aevb_jax.estimators.surrogate import replace_gradient
from aevb_jax.models.joint import log_joint
from aevb_jax.models.networks import MLP
from aevb_jax.models.vae import init_params
from aevb_jax.types import Array, Distribution, Key, Model, Params, PyTree

NEEDS_OTHERS = "num_samples is 1, expected at least 2: each sample is compared with the others"


class Baseline(NamedTuple):
  """A baseline b_l, to be subtracted from each of the L learning signals f_l of one data point."""

  init: Callable[[Key], PyTree]  # key -> psi
  # (psi, x, f) -> b, of shape (L,) or (); b_l must not depend on f_l
  predict: Callable[[PyTree, Array, Array], Array]


def _leave_one_out(psi: PyTree, x: Array, f: Array) -> Array:
  del psi, x
  return jnp.mean(others(f), axis=1)


def others(f: Array) -> Array:
  """Returns the other entries of f (L,) for each of them: row l lacks the l-th; shape (L, L − 1).

  Raises:
    ValueError: if L is 1.
  """
  if len(f) < 2:
    raise ValueError(NEEDS_OTHERS)
  indices = jnp.arange(len(f) - 1)
  return jax.vmap(lambda l: f[indices + (indices >= l)])(jnp.arange(len(f)))


no_baseline = Baseline(init=lambda key: (), predict=lambda psi, x, f: jnp.zeros(()))

# The mean of the other samples' signals (Mnih & Rezende 2016; Kool, van Hoof & Welling 2019).
leave_one_out = Baseline(init=lambda key: (), predict=_leave_one_out)

# One number ψ for all data points, which the optimizer moves towards the signal. With
# `optimizers.moving_average` it is the moving average of past minibatches' signals.
constant_baseline = Baseline(init=lambda key: jnp.zeros(()), predict=lambda psi, x, f: psi)


def learned_baseline(data_dim: int, hidden_dim: int = 100) -> Baseline:
  """Makes a baseline that is a network's prediction of the signal from x.

  The network's output is in units of D nats, in which f is of order one for images, so Adam or
  Adagrad learn it in some hundred steps. Plain SGD does not: for it, give ψ its own optimizer with
  `optimizers.with_psi`.

  Source: Mnih & Gregor (2014), section 2.3.

  Args:
    data_dim: D.
    hidden_dim: units of the network's hidden layer.

  Returns:
    A baseline whose ψ are the parameters of the network.
  """
  network = MLP((hidden_dim,), (1,))

  def predict(psi: PyTree, x: Array, f: Array) -> Array:
    del f
    return data_dim * network.apply({"params": psi}, x)[0][0]

  return Baseline(
    init=lambda key: network.init(key, jnp.zeros(data_dim))["params"], predict=predict
  )


def with_baseline(baseline: Baseline) -> Callable[[Key, Model], Params]:
  """Makes an initializer of θ, φ and the baseline's ψ, for `aevb(..., init=...)`.

  Args:
    baseline: any baseline.

  Returns:
    (key, model) -> Params with initial θ, φ and ψ.
  """

  def init(key: Key, model: Model) -> Params:
    model_key, baseline_key = jax.random.split(key)
    return init_params(model_key, model)._replace(psi=baseline.init(baseline_key))

  return init


def score_function(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int = 1,
  baseline: Baseline = no_baseline,
) -> Array:
  """Estimates the bound of equation 3, with the score-function gradient of section 2.2.

  Let f_l = log p(x, z_l) − log q(z_l|x), z_l ~ q(z|x). The gradient with respect to φ is (1/L) Σ_l
  (f_l − b_l) ∇φ log q(z_l|x), and with respect to θ it is (1/L) Σ_l ∇θ log p(x, z_l). With respect
  to ψ it is ∇ψ of −(1/2L) Σ_l (f_l − b_l)², which makes a learned baseline follow the signal.

  Source: section 2.2; Paisley, Blei & Jordan (2012); for learned baselines Mnih & Gregor (2014).

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), of any family.
    params: θ, φ, and the baseline's ψ.
    x: one data point, shape (D,).
    num_samples: L.
    baseline: `no_baseline`, `leave_one_out`, `constant_baseline`, `learned_baseline(D)` or your
      own. `aevb(..., init=with_baseline(baseline))` starts its ψ.

  Returns:
    The value of `elbo_a` on the same key in nats, shape (), with an unbiased gradient of the bound
    of equation 3. Costs one pass through the encoder and L through the decoder, whose backward pass
    ends at its weights.

  Raises:
    ValueError: if num_samples is not positive, or 1 with `leave_one_out`.
  """
  samples = _samples(key, model, params, x, num_samples)
  f = jax.lax.stop_gradient(samples.log_p - samples.log_q)
  b = baseline.predict(params.psi, x, f)
  signal = jax.lax.stop_gradient(f - b)
  surrogate = samples.log_p + signal * samples.log_q - 0.5 * (f - b) ** 2
  return replace_gradient(jnp.mean(f), jnp.mean(surrogate))


def score_function_optimal_scale(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int
) -> Array:
  """Estimates the bound by `score_function`, with the score as an optimally scaled control variate.

  For each coordinate d of the parameters η of q(z|x), with the score h_ld = ∂ log q(z_l; η)/∂η_d,
  the gradient is (1/L) Σ_l (f_l − a_ld) h_ld. The a_d of least variance is Cov(f h_d,
  h_d)/Var(h_d), which is E[f h_d²]/E[h_d²], since h_d has mean zero. Here a_ld is the ratio of the
  means over the other L − 1 samples, which keeps the gradient unbiased. The sources estimate a_d
  from all L samples, which makes the gradient biased. The encoder's chain rule then carries the
  gradient from η to φ.

  Source: Paisley, Blei & Jordan (2012); Ranganath, Gerrish & Blei (2014), section 3.2.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), of any family.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L, at least 2.

  Returns:
    The value of `elbo_a` on the same key in nats, shape (), with an unbiased gradient of the bound
    of equation 3. Costs one pass through the encoder and L through the decoder, whose backward pass
    ends at its weights.

  Raises:
    ValueError: if num_samples is less than 2.
  """
  if num_samples == 1:
    raise ValueError(NEEDS_OTHERS)
  samples = _samples(key, model, params, x, num_samples)
  f = jax.lax.stop_gradient(samples.log_p - samples.log_q)
  eta = jax.lax.stop_gradient(samples.q.eta)
  scores = jax.vmap(lambda z: jax.grad(lambda eta: samples.q.at(eta).log_prob(z))(eta))(samples.z)

  without_own = 1 - jnp.eye(num_samples)  # row l sums over the other samples

  def surrogate_of(eta: Array, h: Array) -> Array:
    h = h.reshape(num_samples, -1)
    weight = without_own @ h**2
    scale = (without_own @ (f[:, None] * h**2)) / jnp.where(weight == 0, 1, weight)
    return jnp.vdot(jnp.mean((f[:, None] - scale) * h, axis=0), eta.ravel())

  surrogate = sum(jax.tree.leaves(jax.tree.map(surrogate_of, samples.q.eta, scores)))
  return replace_gradient(jnp.mean(f), jnp.mean(samples.log_p) + surrogate)


def vimco(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int,
  bound: Bound = log_mean_exp,
) -> Array:
  """Estimates any bound of log-weights by a score function that compares samples with each other.

  Let B = bound(log w_1 … log w_K), b_k = ∂B/∂log w_k, and B_−k the bound with log w_k replaced by
  the mean of the other log-weights. The gradient with respect to φ is Σ_k (B − B_−k − b_k) ∇φ log
  q(z_k|x), and with respect to θ it is Σ_k b_k ∇θ log p(x, z_k). For `log_mean_exp` this is VIMCO.
  For the mean it is `score_function` with `leave_one_out`, except for a score of mean zero.

  Weights of 0 are left out of the mean of the others. If all others are 0, or B_−k is −∞ for
  another reason, 0 stands for B_−k; this keeps the gradient unbiased. If B is −∞, then 0 stands for
  B − B_−k.

  Source: Mnih & Rezende (2016), equations 9 and 10, with the geometric mean.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), of any family.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: K, at least 2.
    bound: `log_mean_exp`, or another function of K log-weights.

  Returns:
    The bound in nats, shape (), with an unbiased gradient of its expectation. Costs one pass
    through the encoder and K through the decoder, whose backward pass ends at its weights; and
    O(K²) numbers for the bounds that leave one out.

  Raises:
    ValueError: if num_samples is less than 2.
  """
  samples = _samples(key, model, params, x, num_samples)
  log_w = samples.log_p - samples.log_q
  value, without = bound(log_w), without_each(bound, log_w)
  # Of a bound of -inf no sample is the cause more than another.
  signal = jnp.where(value == -jnp.inf, 0, value - jnp.where(without == -jnp.inf, 0, without))
  signal = jax.lax.stop_gradient(signal)
  return replace_gradient(value, value + jnp.vdot(signal, samples.log_q))


def without_each(bound: Bound, log_w: Array) -> Array:
  """Computes K bounds, each with one log-weight replaced by the mean of the others; shape (K,).

  Weights of 0 do not count in that mean, which would be −∞. It is −∞ if no other is above 0.
  """
  rest = others(log_w)
  above_0 = rest != -jnp.inf
  count = jnp.sum(above_0, axis=1)
  means = jnp.sum(jnp.where(above_0, rest, 0), axis=1) / jnp.maximum(count, 1)
  means = jnp.where(count == 0, -jnp.inf, means)
  return jax.vmap(lambda k, mean: bound(log_w.at[k].set(mean)))(jnp.arange(len(log_w)), means)


class _Samples(NamedTuple):
  q: Distribution
  z: Array  # (L, J), without a gradient to φ
  log_p: Array  # log p(x, z_l), (L,)
  log_q: Array  # log q(z_l|x), (L,)


def _samples(key: Key, model: Model, params: Params, x: Array, num_samples: int) -> _Samples:
  q = model.encoder.given(params.phi, x)
  z = jax.lax.stop_gradient(draw(key, q, num_samples))
  log_p = map_samples(lambda z: log_joint(model, params, x, z), z)
  return _Samples(q, z, log_p, map_samples(q.log_prob, z))
