"""Families of independent dimensions, made from functions of one number.

Links map a network's unconstrained heads to parameters, in the units of the parameters. Links take
arrays of any shape.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aevb_jax.families.base import check_shape
from aevb_jax.types import Array, Eta, Family, Key, Support

SMALLEST = 1e-6  # the smallest number that `positive` returns

REAL, POSITIVE, UNIT = Support(), Support(low=0.0), Support(0.0, 1.0)


def real(head: Array) -> Array:
  """Returns the head itself, for a location in units of z.

  Args:
    head: any real numbers, of any shape.

  Returns:
    The same array.
  """
  return head


def positive(head: Array) -> Array:
  """Maps a head to a positive parameter, softplus(head) + 1e-6.

  The parameter is a scale in units of z, a rate in inverse units of z, or a shape.

  Args:
    head: any real numbers, of any shape.

  Returns:
    Numbers of at least 1e-6, in the shape of `head`.
  """
  return jax.nn.softplus(head) + SMALLEST


def uniform_noise(key: Key, shape: Sequence[int]) -> Array:
  """Draws ε ~ U(0, 1), never 0 and never 1: odd multiples of half a step of the generator.

  In float32, ε reaches from 6e-8 to 1 − 6e-8. Draws through an inverse CDF do not reach the tails
  beyond these quantiles.

  Args:
    key: consumed.
    shape: the shape of the noise.

  Returns:
    ε, an array of that shape.
  """
  noise = jax.random.uniform(key, shape)
  return noise + jnp.finfo(noise.dtype).eps / 2


def exponential_noise(u: Array) -> Array:
  """Makes noise of the standard exponential distribution, −log(1 − u), from uniform noise u."""
  return -jnp.log1p(-u)


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
  transform_with_log_prob: Callable[[Eta, Array], tuple[Array, Array]] | None = None,
) -> Family:
  """Makes a family of `size` independent dimensions, each with its own parameters.

  Args:
    size: J, the number of dimensions.
    eta: NamedTuple of parameters, each of shape (J,).
    links: one for each parameter; a link maps a head (J,) to the parameter (J,).
    noise: (key, shape) -> ε of that shape.
    transform: (eta, ε) -> z, number by number.
    log_prob: (eta, z) -> log-densities in nats, number by number. Only its values inside the
      support count: outside, the family's log-density is −inf.
    mean: eta -> the mean of each dimension.
    support: eta -> the set where the density is positive, or that set itself if it is the same
      for all eta.
    widest: contains the supports of all members; needed if `support` is a function.
    variance, entropy: eta -> the variance or the entropy in nats of each dimension; None if there
      is no closed form.
    transform_with_log_prob: (eta, ε) -> z and its log-density, number by number, if ε says more of
      the log-density than z does.

  Returns:
    A family with one head of J numbers for each parameter. Its `from_heads` and `log_prob` raise
    ValueError if a head or z is not of shape (J,).
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
    outside = _outside(z, low, high)
    # A point inside replaces each point outside, and parameters take no part there, so that the
    # gradient is zero and not NaN.
    eta = jax.tree.map(lambda leaf: jnp.where(outside, jax.lax.stop_gradient(leaf), leaf), eta)
    values = log_prob(eta, jnp.where(outside, _within(low, high), z))
    return jnp.sum(jnp.where(outside & ~jnp.isnan(values), -jnp.inf, values))

  def total_transform_with_log_prob(eta: Eta, noise: Array) -> tuple[Array, Array]:
    z, values = transform_with_log_prob(eta, noise)  # type: ignore[misc]
    return z, jnp.sum(values)

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
    transform_with_log_prob=total_transform_with_log_prob if transform_with_log_prob else None,
  )


def with_ordered_ends(family: Family) -> Family:
  """Returns the family with a second head for the length of its interval, not the upper end."""

  def from_heads(low: Array, length: Array) -> Eta:
    eta = family.from_heads(low, length)
    return type(eta)(eta.low, eta.low + eta.high)

  return family._replace(from_heads=from_heads)


def _within(low: Array | float, high: Array | float) -> Array:
  middle = jnp.where(jnp.isinf(high), low + 1.0, 0.5 * (low + high))
  return jnp.where(jnp.isinf(low), 0.0, middle)


def _outside(z: Array, low: Array | float, high: Array | float) -> Array:
  """Finds the numbers outside an interval; infinite ones are outside, and NaN is not."""
  if isinstance(low, float) and isinstance(high, float) and (low, high) == (-jnp.inf, jnp.inf):
    return jnp.isinf(z)
  open_end = isinstance(high, float) and high == jnp.inf
  return (z < low) | (z == high if open_end else z > high)
