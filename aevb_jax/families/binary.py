"""Binary variables: the Bernoulli family of appendix C.1."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from aevb_jax.families.base import check_shape
from aevb_jax.types import Array, Family, Support


class Bernoulli(NamedTuple):
  """Parameters of independent Bernoullis with P(x = 1) = sigmoid(logits); shape (D,)."""

  logits: Array


@jax.custom_jvp
def _softplus(logits: Array) -> Array:
  # The derivative below needs only the logits; the one of jax.nn.softplus also needs its value.
  return jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


_softplus.defjvps(lambda tangent, value, logits: jax.nn.sigmoid(logits) * tangent)


@jax.custom_jvp
def _bernoulli_log_prob(logits: Array, x: Array) -> Array:
  # This is x log y + (1 - x) log(1 - y) with y = sigmoid(logits), finite at any logit.
  return jnp.sum(x * logits - _softplus(logits))


@functools.partial(_bernoulli_log_prob.defjvp, symbolic_zeros=True)
def _bernoulli_slope(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  # A backward pass computes sigmoid(logits), and keeps K x M x D logits for K samples and M
  # examples. Without the barrier, XLA's CPU compiler would keep K copies of x, too.
  (logits, x), (along_logits, along_x) = primals, tangents
  slope = jnp.zeros((), logits.dtype)
  if not isinstance(along_logits, SymbolicZero):
    again = jax.lax.optimization_barrier(x)
    slope += jnp.sum(again * along_logits - jax.nn.sigmoid(logits) * along_logits)
  if not isinstance(along_x, SymbolicZero):
    slope += jnp.sum(logits * along_x)
  return _bernoulli_log_prob(logits, x), slope


def bernoulli(size: int) -> Family:
  """Makes the family of independent Bernoullis, whose log_prob is computed from logits.

  log_prob takes x in [0, 1]. For x strictly between 0 and 1, as the paper's real-valued pixels are,
  log_prob is the cross-entropy and not a log-density. For x outside [0, 1], such as pixels that
  were not scaled, log_prob has no meaning, and the bound grows without limit in training.

  `transform` compares the logits with logistic noise. That samples correctly, but its derivative is
  zero everywhere, so the family is not reparameterized.

  Source: appendix C.1, equation 11.

  Args:
    size: D, the number of dimensions (or J, for binary latents).

  Returns:
    A family with one head of D numbers, the logits. Its `from_heads` and `log_prob` raise
    ValueError if the head or x is not of shape (D,).
  """

  def from_heads(logits: Array) -> Bernoulli:
    check_shape("the head for the logits", logits, size)
    return Bernoulli(logits)

  def log_prob(eta: Bernoulli, x: Array) -> Array:
    check_shape("x", x, size)
    # JAX cannot lower an array of NumPy for a function with a rule of its own inside a loop, so x
    # is made a result of JAX. XLA leaves the factor out.
    return _bernoulli_log_prob(eta.logits, x * 1)

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
