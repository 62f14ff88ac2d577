"""Classes as one-hot vectors: the family of a classifier q(y|x), and of labels y."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.families.base import check_shape
from aevb_jax.types import Array, Family, Support


class OneHot(NamedTuple):
  """Unnormalized log-probabilities of K classes; shape (K,)."""

  logits: Array


def one_hot(num_classes: int) -> Family:
  """Makes the family of one-hot vectors y of K classes, with P(y_k = 1) = softmax(logits)_k.

  Args:
    num_classes: K.

  Returns:
    A family with one head of K numbers, the logits. Its mean has the probabilities of the classes,
    and log_prob is −∞ at any y that is not one-hot. It is not reparameterized.

  Raises:
    ValueError: if there are fewer than two classes.
  """
  if num_classes < 2:
    raise ValueError(f"num_classes is {num_classes}, expected at least 2")

  def from_heads(logits: Array) -> OneHot:
    check_shape("the head for the logits", logits, num_classes)
    return OneHot(logits)

  def transform(eta: OneHot, noise: Array) -> Array:
    largest = jnp.argmax(eta.logits + noise)
    return jax.nn.one_hot(largest, num_classes, dtype=eta.logits.dtype)

  def log_prob(eta: OneHot, y: Array) -> Array:
    check_shape("y", y, num_classes)
    is_other = jnp.any((y != 0) & (y != 1)) | (jnp.sum(y) != 1)
    log_p = jnp.vdot(y, jax.nn.log_softmax(eta.logits))
    return jnp.where(is_other & ~jnp.isnan(log_p), -jnp.inf, log_p)

  def variance(eta: OneHot) -> Array:
    p = jax.nn.softmax(eta.logits)
    return p * (1 - p)

  def entropy(eta: OneHot) -> Array:
    return -jnp.vdot(jax.nn.softmax(eta.logits), jax.nn.log_softmax(eta.logits))

  return Family(
    sizes=(num_classes,),
    from_heads=from_heads,
    noise=lambda key: jax.random.gumbel(key, (num_classes,)),
    transform=transform,
    log_prob=log_prob,
    mean=lambda eta: jax.nn.softmax(eta.logits),
    reparameterized=False,
    support=lambda eta: Support(0, 1, "integers"),
    widest=Support(0, 1, "integers"),
    variance=variance,
    entropy=entropy,
  )
