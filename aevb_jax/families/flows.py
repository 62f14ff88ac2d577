"""Posteriors made by a chain of invertible maps from a simpler one, as rich as one likes.

z = T(z₀; context, shared), z₀ ~ a base family whose parameters, with the context, come from the
encoder; `shared` are the parameters of T's own networks, the same for every x, which
`networks.conditional` keeps in φ. log q(z) = log q₀(z₀) − log |det ∂T/∂z₀|.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.families.base import check_shape
from aevb_jax.types import Array, Eta, Family, Key, PyTree


class Bijection(NamedTuple):
  """An invertible map of J numbers, which may depend on a context."""

  init: Callable[[Key], PyTree]  # key -> params
  # (params, context, x) -> (y, log |det ∂y/∂x|); shapes (J,) and ()
  forward: Callable[[PyTree, Array, Array], tuple[Array, Array]]
  # (params, context, y) -> (x, log |det ∂y/∂x|): of the map forwards, at x
  inverse: Callable[[PyTree, Array, Array], tuple[Array, Array]]


class Flow(NamedTuple):
  """Parameters of a flow: of its base, what the encoder tells T of x, and T's own."""

  base: Eta
  context: Array
  shared: PyTree


def flow(base: Family, bijection: Bijection, *, context_size: int = 0) -> Family:
  """The family of z = T(z₀), z₀ ~ `base`, T = `bijection`.

  Args:
    base: reparameterized, of J dimensions; all numbers are its support.
    bijection: of J numbers, and a context of `context_size`.
    context_size: width of one head more than `base` has; 0 for none.

  One pass through T gives a draw and its log-density together; the log-density of a z from
  elsewhere takes T's inverse. Where the mean is asked for, it is T(E[z₀]), which is not E[z].
  """

  def from_heads(*heads_and_shared: PyTree) -> Flow:
    *heads, shared = heads_and_shared
    context = heads.pop() if context_size else jnp.zeros(0)
    check_shape("the head for the context", context, context_size)
    return Flow(base.from_heads(*heads), context, shared)

  def log_prob(eta: Flow, z: Array) -> Array:
    z_0, log_det = bijection.inverse(eta.shared, eta.context, z)
    return base.log_prob(eta.base, z_0) - log_det

  def transform_with_log_prob(eta: Flow, noise: Array) -> tuple[Array, Array]:
    z_0 = base.transform(eta.base, noise)
    z, log_det = bijection.forward(eta.shared, eta.context, z_0)
    return z, base.log_prob(eta.base, z_0) - log_det

  return Family(
    sizes=(*base.sizes, context_size) if context_size else base.sizes,
    from_heads=from_heads,
    noise=base.noise,
    transform=lambda eta, noise: transform_with_log_prob(eta, noise)[0],
    log_prob=log_prob,
    mean=lambda eta: bijection.forward(eta.shared, eta.context, base.mean(eta.base))[0],
    reparameterized=base.reparameterized,
    init_shared=bijection.init,
    transform_with_log_prob=transform_with_log_prob,
  )


def chain(*bijections: Bijection) -> Bijection:
  """One after the other, the first one first."""

  def init(key: Key) -> PyTree:
    keys = jax.random.split(key, len(bijections))
    return {f"step_{i}": b.init(key) for i, (b, key) in enumerate(zip(bijections, keys))}

  def forward(params: PyTree, context: Array, x: Array) -> tuple[Array, Array]:
    total = jnp.zeros((), x.dtype)
    for i, bijection in enumerate(bijections):
      x, log_det = bijection.forward(params[f"step_{i}"], context, x)
      total += log_det
    return x, total

  def inverse(params: PyTree, context: Array, y: Array) -> tuple[Array, Array]:
    total = jnp.zeros((), y.dtype)
    for i, bijection in reversed(list(enumerate(bijections))):
      y, log_det = bijection.inverse(params[f"step_{i}"], context, y)
      total += log_det
    return y, total

  return Bijection(init, forward, inverse)


def reverse() -> Bijection:
  """The numbers in the opposite order: between two maps that treat the first ones otherwise."""
  turn = lambda params, context, x: (x[::-1], jnp.zeros((), x.dtype))
  return Bijection(lambda key: {}, turn, turn)


def stack(bijection: Bijection, num_steps: int) -> Bijection:
  """`num_steps` of them with parameters of their own, the order reversed between two."""
  steps = [bijection] + [step for _ in range(num_steps - 1) for step in (reverse(), bijection)]
  return chain(*steps)
