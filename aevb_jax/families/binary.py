"""Binary variables: the Bernoulli of appendix C.1."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.families.base import check_shape
from aevb_jax.types import Array, Family, Support


class Bernoulli(NamedTuple):
  """Parameters of independent Bernoullis with P(x = 1) = sigmoid(logits), (D,)."""

  logits: Array


@jax.custom_jvp
def _softplus(logits: Array) -> Array:
  # Its derivative needs the logits alone, and that of jax.nn.softplus its value too.
  return jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


_softplus.defjvps(lambda tangent, value, logits: jax.nn.sigmoid(logits) * tangent)


@jax.checkpoint
def _bernoulli_log_prob(logits: Array, x: Array) -> Array:
  # x log y + (1 - x) log(1 - y) with y = sigmoid(logits), finite at any logit. The
  # checkpoint keeps the logits alone for the backward pass: of K samples and M
  # examples, K x M x D numbers.
  return jnp.sum(x * logits - _softplus(logits))


def bernoulli(size: int) -> Family:
  """Independent Bernoullis: appendix C.1, equation 11, computed from logits.

  log_prob takes x in [0, 1]. For x strictly between, as the paper's real-valued
  pixels are, it is the cross-entropy and not the log-density of anything. For x outside,
  such as pixels that were not scaled, it means nothing, and training climbs without end.
  `transform` compares the logits with logistic noise: right as a sampler, but
  with derivative zero everywhere, so the family is not reparameterized.
  """

  def from_heads(logits: Array) -> Bernoulli:
    check_shape("the head for the logits", logits, size)
    return Bernoulli(logits)

  def log_prob(eta: Bernoulli, x: Array) -> Array:
    check_shape("x", x, size)
    return _bernoulli_log_prob(eta.logits, x)

  return Family(
    sizes=(size,),
    from_heads=from_heads,
    noise=lambda key: jax.random.logistic(key, (size,)),
    transform=lambda eta, noise: (eta.logits + noise > 0).astype(eta.logits.dtype),
    log_prob=log_prob,
    mean=lambda eta: jax.nn.sigmoid(eta.logits),
    reparameterized=False,
    support=lambda eta: Support(0, 1, "integers"),
    widest=Support(0, 1, "integers"),
    variance=lambda eta: jax.nn.sigmoid(eta.logits) * jax.nn.sigmoid(-eta.logits),
    entropy=lambda eta: jnp.sum(_softplus(eta.logits) - eta.logits * jax.nn.sigmoid(eta.logits)),
  )
