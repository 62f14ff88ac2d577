"""Flows: posteriors that a chain of invertible maps makes from a simpler distribution.

z = T(z₀; context, shared), where z₀ follows a base family. The encoder gives the context and the
parameters of the base. `shared` holds the parameters of T's own networks, the same for every x;
`networks.conditional` keeps them in φ. log q(z) = log q₀(z₀) − log |det ∂T/∂z₀|.
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
  # (params, context, y) -> (x, log |det ∂y/∂x|), the log-determinant of `forward` at x
  inverse: Callable[[PyTree, Array, Array], tuple[Array, Array]]


class Flow(NamedTuple):
  """Parameters of a flow: of its base, the encoder's context for T, and of T's networks."""

  base: Eta
  context: Array
  shared: PyTree


def flow(base: Family, bijection: Bijection, *, context_size: int = 0) -> Family:
  """Makes the family of z = T(z₀) with z₀ ~ `base` and T = `bijection`.

  One pass through T gives a draw and its log-density together. The log-density of any other z needs
  T's inverse. The family's mean is T(E[z₀]), which is not E[z].

  Args:
    base: a reparameterized family of J dimensions whose support is all real numbers.
    bijection: a map of J numbers and a context of `context_size` numbers.
    context_size: width of the one head that is added to the heads of `base`; 0 for none.

  Returns:
    A family with the heads of `base`, then the head for the context. `from_heads` takes the
    parameters of the bijection as its last argument; `init_shared` makes them.
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
  """Composes bijections; the first one is applied first.

  Args:
    *bijections: maps of the same J numbers and the same context.

  Returns:
    A bijection whose parameters are a dict with an entry "step_i" for bijection i.
  """

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
  """Makes the bijection that reverses the order of the numbers.

  It is for use between two maps that treat the first numbers differently from the last ones.

  Returns:
    A bijection without parameters, whose log-determinant is 0.
  """
  turn = lambda params, context, x: (x[::-1], jnp.zeros((), x.dtype))
  return Bijection(lambda key: {}, turn, turn)


def stack(bijection: Bijection, num_steps: int) -> Bijection:
  """Chains `num_steps` copies of a bijection and reverses the order of the numbers between them.

  Args:
    bijection: the map of one step.
    num_steps: the number of steps, each with its own parameters.

  Returns:
    The bijection of all steps, as `chain` makes it.
  """
  steps = [bijection] + [step for _ in range(num_steps - 1) for step in (reverse(), bijection)]
  return chain(*steps)
