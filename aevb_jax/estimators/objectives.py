"""Objectives other than the bound, as wrappers over any estimator of it.

Each adds a closed-form term of KL(q(z|x) ‖ p(z)) to the estimate that it wraps. An unbiased
estimate of the bound becomes an unbiased estimate of the new objective. The new objective is no
longer a bound, so evaluate with the wrapped estimator itself.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from aevb_jax.families.chains import Chain, kl_given
from aevb_jax.families.kl import kl_divergence, kl_per_latent
from aevb_jax.families.markov import Markov
from aevb_jax.types import Array, Distribution, Estimator, Key, Model, Params, PyTree, Scheduled

KL = Callable[[Distribution, Distribution], Array]


def beta_weighted(
  estimator: Estimator, beta: float | Array, *, kl: KL = kl_divergence
) -> Estimator:
  """Makes an estimator of E_q[log p(x|z)] − β KL(q ‖ p) from an estimator of equation 3.

  Its value is the value of `estimator` plus (1 − β) KL. An estimator of another bound gets the same
  term.

  Source: Higgins et al. (2017), equation 4.

  Args:
    estimator: any estimator of a bound.
    beta: β, of any size; shape ().
    kl: (q, p) -> KL(q ‖ p) in nats, exact.

  Returns:
    An estimator in nats, shape (). It raises UnsupportedError if `kl` has no closed form for q and
    p. It costs nothing beyond the wrapped estimator, because the encoder runs once for both.
  """

  def weighted(key: Key, model: Model, params: Params, x: Array, **kwargs) -> Array:
    q, model = _share_posterior(model, params, x)
    key, kl_by = _kl_by(key, q, model.prior(params))
    return estimator(key, model, params, x, **kwargs) + (1 - beta) * kl_by(kl)

  return weighted


def kl_warmup(
  estimator: Estimator, num_steps: int, *, beta: float = 1.0, kl: KL = kl_divergence
) -> Scheduled:
  """Makes `beta_weighted` with a weight that grows linearly from 0 to β in `num_steps` updates.

  Source: Sønderby et al. (2016), section 2.3; Bowman et al. (2016) used a sigmoid of the step
  instead of the line.

  Args:
    estimator: any estimator of a bound.
    num_steps: updates until the weight is β.
    beta: β, the final weight.
    kl: (q, p) -> KL(q ‖ p) in nats, exact.

  Returns:
    A `Scheduled`, for `aevb`: its `at(step)` is the estimator of the update after `step` updates.

  Raises:
    ValueError: if num_steps is not positive.
  """
  if num_steps < 1:
    raise ValueError(f"num_steps is {num_steps}, expected at least 1")

  def at(step: Array) -> Estimator:
    return beta_weighted(estimator, beta * jnp.minimum(step / num_steps, 1.0), kl=kl)

  return Scheduled(at)


def free_bits(estimator: Estimator, nats: float, *, kl: KL = kl_per_latent) -> Estimator:
  """Makes an estimator with Σ_j max(λ, KL_j) instead of Σ_j KL_j: each latent's KL is at least λ.

  A latent then has no reason to give up its last λ nats. The source takes the maximum after
  averaging over the minibatch; here the maximum is taken for each data point.

  Source: Kingma et al. (2016), section 3 and appendix C.8.

  To weight the result by β, give `beta_weighted` or `kl_warmup` the same term:
  `beta_weighted(free_bits(estimator, λ), β, kl=floored_kl(λ))`.

  Args:
    estimator: any estimator of a bound.
    nats: λ, for each latent.
    kl: (q, p) -> (J,) terms of KL(q ‖ p) in nats, exact.

  Returns:
    An estimator in nats, shape (). It raises UnsupportedError if `kl` has no closed form for q and
    p. It costs nothing beyond the wrapped estimator.

  Raises:
    ValueError: if λ is negative.
  """
  floored = floored_kl(nats, kl=kl)

  def with_free_bits(key: Key, model: Model, params: Params, x: Array, **kwargs) -> Array:
    q, model = _share_posterior(model, params, x)
    key, kl_by = _kl_by(key, q, model.prior(params), draws=False)
    bound = estimator(key, model, params, x, **kwargs)
    return bound + kl_by(lambda q, p: jnp.sum(kl(q, p))) - kl_by(floored)

  return with_free_bits


def floored_kl(nats: float, *, kl: KL = kl_per_latent) -> KL:
  """Makes the function (q, p) -> Σ_j max(λ, KL_j).

  Args:
    nats: λ, for each latent.
    kl: (q, p) -> (J,) terms of KL(q ‖ p) in nats, exact.

  Returns:
    A function of q and p with values in nats, shape ().

  Raises:
    ValueError: if λ is negative or NaN.
  """
  if not nats >= 0:
    raise ValueError(f"nats is {nats}, expected at least 0")
  return lambda q, p: jnp.sum(jnp.maximum(nats, kl(q, p)))


def _kl_by(
  key: Key, q: Distribution, p: Distribution, *, draws: bool = True
) -> tuple[Key, Callable[[KL], Array]]:
  """Returns a key for the estimator, and the function kl -> kl(q, p) in nats, shape ().

  The KL of layers or steps of latents is known only given those before each. It is then taken at
  one draw of z, the same for every `kl`, so that it is unbiased; see `families.kl_given` for
  `draws`.
  """
  if not isinstance(q.eta, Chain | Markov):
    return key, lambda kl: kl(q, p)
  key, z_key = jax.random.split(key)
  z = q.sample(z_key)
  return key, lambda kl: kl_given(q, p, z, kl=kl, draws=draws)


def _share_posterior(model: Model, params: Params, x: Array) -> tuple[Distribution, Model]:
  """Returns q(z|x), and a model whose encoder returns that q again for the same φ and x.

  Compilers merge two identical forward passes but not their backward passes. `is` recognizes a
  repeated call, because an estimator passes on the very φ and x that it was given. A call with
  anything else, such as dreams or a φ without gradients, passes other objects and runs the encoder.
  """
  q = model.encoder.given(params.phi, x)

  def given(phi: PyTree, other_x: Array) -> Distribution:
    asked_again = phi is params.phi and other_x is x
    return q if asked_again else model.encoder.given(phi, other_x)

  return q, model._replace(encoder=model.encoder._replace(given=given))
