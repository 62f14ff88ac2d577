"""Families of independent dimensions, made of functions of one number.

Links take a network's unconstrained heads to parameters; each has the units of the parameter
that it makes. They are written for arrays of any shape, as all functions here are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aevb_jax.families.base import check_shape
from aevb_jax.types import Array, Eta, Family, Key, Support

SMALLEST = 1e-6  # of what `positive` gives

REAL, POSITIVE, UNIT = Support(), Support(low=0.0), Support(0.0, 1.0)


def real(head: Array) -> Array:
  """The head itself: a location, in units of z."""
  return head


def positive(head: Array) -> Array:
  """softplus(head) + 1e-6: a scale, in units of z; a rate, in their inverse; or a shape."""
  return jax.nn.softplus(head) + SMALLEST


def uniform_noise(key: Key, shape: Sequence[int]) -> Array:
  """ε ~ U(0, 1), strictly between: odd multiples of half a step of the generator.

  In float32 from 6e-8 to 1 − 6e-8, which is as far as tails reach in a draw of an inverse CDF.
  """
  noise = jax.random.uniform(key, shape)
  return noise + jnp.finfo(noise.dtype).eps / 2


def independent(
  size: int,
  eta: Any,
  links: Sequence[Callable[[Array], Array]],
  *,
  noise: Callable[[Key, tuple[int, ...]], Array],
  transform: Callable[[Eta, Array], Array],
  log_prob: Callable[[Eta, Array], Array],
  mean: Callable[[Eta], Array],
  support: Callable[[Eta], Support] | Support = REAL,
  widest: Support | None = None,
  variance: Callable[[Eta], Array] | None = None,
  entropy: Callable[[Eta], Array] | None = None,
) -> Family:
  """The family of `size` independent dimensions, each with parameters of its own.

  Args:
    size: number of dimensions.
    eta: NamedTuple of parameters.
    links: one for each parameter, from its head.
    noise: (key, shape) -> ε of that shape.
    transform: (eta, ε) -> z, number by number.
    log_prob: (eta, z) -> log-densities number by number, where the density is positive;
      elsewhere they are −inf whatever it says.
    mean: eta -> means.
    support: eta -> where the density is positive, or that itself if it is the same for all eta.
    widest: in which all supports lie; needed if `support` is a function.
    variance, entropy: eta -> those of each dimension; None without closed form.
  """
  if isinstance(support, Support):
    fixed, widest = support, widest or support
    support = lambda eta: fixed

  def from_heads(*heads: Array) -> Eta:
    for name, head in zip(eta._fields, heads, strict=True):
      check_shape(f"the head for the {name}", head, size)
    return eta(*(link(head) for link, head in zip(links, heads, strict=True)))

  def total_log_prob(eta: Eta, z: Array) -> Array:
    check_shape("z", z, size)
    low, high, _ = support(eta)
    inside = (z >= low) & (z <= high)
    # A point inside in the place of those outside, so that their gradients are zero, not NaN.
    return jnp.sum(
      jnp.where(inside, log_prob(eta, jnp.where(inside, z, _within(low, high))), -jnp.inf)
    )

  return Family(
    sizes=(size,) * len(links),
    from_heads=from_heads,
    noise=lambda key: noise(key, (size,)),
    transform=transform,
    log_prob=total_log_prob,
    mean=mean,
    support=support,
    widest=widest,  # type: ignore[arg-type]
    variance=variance,
    entropy=None if entropy is None else lambda eta: jnp.sum(entropy(eta)),
  )


def with_ordered_ends(family: Family) -> Family:
  """The same family of intervals, whose second head makes their length and not their end."""

  def from_heads(low: Array, length: Array) -> Eta:
    eta = family.from_heads(low, length)
    return type(eta)(eta.low, eta.low + eta.high)

  return family._replace(from_heads=from_heads)


def _within(low: Array | float, high: Array | float) -> Array:
  middle = jnp.where(jnp.isinf(high), low + 1.0, 0.5 * (low + high))
  return jnp.where(jnp.isinf(low), 0.0, middle)
