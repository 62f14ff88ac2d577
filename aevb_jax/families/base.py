"""The reparameterization trick (section 2.4), through which every family here is used.

The families of section 2.4 are in `inverse_cdf`, `location_scale` and `composition`, one module for
each of the paper's three constructions, and in `gaussians`. The families of appendix C are in
`binary` and `gaussians`.
"""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
from jax.tree_util import Partial

from aevb_jax.types import Array, Distribution, Eta, Family, Key, PyTree

LOG_2PI = math.log(2 * math.pi)


def reparameterize(key: Key, family: Family, eta: Eta) -> Array:
  """Draws z = g(eta, noise), noise ~ p(noise), by the reparameterization trick.

  All randomness comes from `key`. All dependence on the parameters goes through the deterministic
  `family.transform`. For a reparameterized family, `jax.grad` of a function of z with respect to
  eta is therefore the pathwise derivative.

  Source: section 2.4.

  Args:
    key: consumed.
    family: the family to draw from.
    eta: parameters of one member, as `family.from_heads` returns them.

  Returns:
    One draw z, shape (J,) for a family of J dimensions.
  """
  return family.transform(eta, family.noise(key))


def distribution(family: Family, eta: Eta) -> Distribution:
  """Makes the member of `family` that has the parameters `eta`.

  Args:
    family: any family.
    eta: parameters of one member, as `family.from_heads` returns them.

  Returns:
    A `Distribution`, closed over `eta`, so it must stay inside the trace that made `eta`.
  """

  def sample_with_log_prob(key: Key) -> tuple[Array, Array]:
    if family.transform_with_log_prob:
      return family.transform_with_log_prob(eta, family.noise(key))
    z = reparameterize(key, family, eta)
    return z, family.log_prob(eta, z)

  return Distribution(
    sample=lambda key: reparameterize(key, family, eta),
    sample_with_log_prob=sample_with_log_prob,
    log_prob=lambda z: family.log_prob(eta, z),
    mean=family.mean(eta),
    eta=eta,
    reparameterized=family.reparameterized,
    support=family.support(eta),
    at=functools.partial(distribution, family),
  )


def holding(function: Callable[..., Distribution], *arrays: PyTree) -> Callable[..., Distribution]:
  """Makes a conditional distribution that is a tree of arrays: its parameters.

  It stands in the eta of a distribution that is composed of conditionals, a chain. Gradients to the
  parameters then stop if that eta is taken as a constant, as an estimator does that sticks the
  landing.

  Args:
    function: (*arrays, conditions) -> the distribution.
    arrays: its parameters, any trees of arrays.

  Returns:
    The function (conditions) -> the distribution.
  """
  return Partial(function, *arrays)


def check_shape(what: str, array: Array, size: int) -> None:
  """Raises ValueError unless `array` is one event or head, of shape (size,)."""
  # Without this check a batch would broadcast against one event, and the sum over dimensions
  # would silently run over the batch as well.
  if jnp.shape(array) != (size,):
    raise ValueError(
      f"{what} has shape {jnp.shape(array)}, expected ({size},): "
      "families take one event at a time; use jax.vmap over many"
    )
