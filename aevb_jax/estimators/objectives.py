"""Other objectives than the bound, as wrappers over any estimator of it.

Each adds a closed-form term of KL(q(z|x) ‖ p(z)) to what it wraps. An estimate of the
bound that is unbiased stays unbiased, now for the new objective. The value is the new
objective's and no longer a bound: evaluate with the estimator itself.
"""

from collections.abc import Callable

import jax.numpy as jnp

from aevb_jax.families.kl import kl_divergence, kl_per_latent
from aevb_jax.types import Array, Distribution, Estimator, Key, Model, Params, PyTree, Scheduled

KL = Callable[[Distribution, Distribution], Array]


def beta_weighted(
  estimator: Estimator, beta: float | Array, *, kl: KL = kl_divergence
) -> Estimator:
  """E_q[log p(x|z)] − β KL(q ‖ p), for an estimator of equation 3, as its value plus (1 − β) KL.

  Over an estimator of another bound it adds the same term.

  Source: Higgins et al. (2017), equation 4.

  Args:
    estimator: any.
    beta: β, of any size; shape ().
    kl: (q, p) -> KL(q ‖ p) in nats, exact.

  Returns:
    An estimator; it raises UnsupportedError where `kl` knows no closed form. Costs
    nothing beyond the estimator: the encoder runs once for both.
  """

  def weighted(key: Key, model: Model, params: Params, x: Array, **kwargs) -> Array:
    q, model = _share_posterior(model, params, x)
    bound = estimator(key, model, params, x, **kwargs)
    return bound + (1 - beta) * kl(q, model.prior(params))

  return weighted


def kl_warmup(
  estimator: Estimator, num_steps: int, *, beta: float = 1.0, kl: KL = kl_divergence
) -> Scheduled:
  """`beta_weighted` with a weight that grows linearly from 0 to β in the first `num_steps` updates.

  Source: Sønderby et al. (2016), section 2.3; Bowman et al. (2016) had a sigmoid of the
  step in place of the line.

  Raises:
    ValueError: if num_steps is not positive.
  """
  if num_steps < 1:
    raise ValueError(f"num_steps is {num_steps}, expected at least 1")

  def at(step: Array) -> Estimator:
    return beta_weighted(estimator, beta * jnp.minimum(step / num_steps, 1.0), kl=kl)

  return Scheduled(at)


def free_bits(estimator: Estimator, nats: float, *, kl: KL = kl_per_latent) -> Estimator:
  """KL_j below λ costs λ: Σ_j max(λ, KL_j) in place of Σ_j KL_j, for each data point.

  A latent then has no reason to give up its last λ nats. The source takes the
  maximum after averaging over the minibatch; here, as everywhere, it is taken of one
  data point.

  Source: Kingma et al. (2016), section 3 and appendix C.8.

  To weigh the result by β, give `beta_weighted` or `kl_warmup` the same term:
  `beta_weighted(free_bits(estimator, λ), β, kl=floored_kl(λ))`.

  Args:
    estimator: any.
    nats: λ, for each latent.
    kl: (q, p) -> (J,) terms of KL(q ‖ p) in nats, exact.

  Returns:
    An estimator; it raises UnsupportedError where `kl` knows no closed form. Costs
    nothing beyond the estimator.

  Raises:
    ValueError: if λ is negative.
  """
  floored = floored_kl(nats, kl=kl)

  def with_free_bits(key: Key, model: Model, params: Params, x: Array, **kwargs) -> Array:
    q, model = _share_posterior(model, params, x)
    bound = estimator(key, model, params, x, **kwargs)
    p = model.prior(params)
    return bound + jnp.sum(kl(q, p)) - floored(q, p)

  return with_free_bits


def floored_kl(nats: float, *, kl: KL = kl_per_latent) -> KL:
  """(q, p) -> Σ_j max(λ, KL_j) in nats, shape ().

  Raises:
    ValueError: if λ is negative.
  """
  if not nats >= 0:
    raise ValueError(f"nats is {nats}, expected at least 0")
  return lambda q, p: jnp.sum(jnp.maximum(nats, kl(q, p)))


def _share_posterior(model: Model, params: Params, x: Array) -> tuple[Distribution, Model]:
  """q(z|x), and a model whose encoder gives that very q to an estimator that asks for it again.

  Compilers merge two identical forward passes but not their backward passes. The one question
  that has the same answer is told by `is`: an estimator that asks at the φ and the x that it was
  given hands on the same objects, and two names of one object have one value. Whatever else it
  asks at, such as dreams, or a φ without gradients, is another object, and runs the encoder.
  """
  q = model.encoder.given(params.phi, x)

  def given(phi: PyTree, other_x: Array) -> Distribution:
    asked_again = phi is params.phi and other_x is x
    return q if asked_again else model.encoder.given(phi, other_x)

  return q, model._replace(encoder=model.encoder._replace(given=given))
