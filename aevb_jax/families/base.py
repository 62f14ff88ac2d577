"""The reparameterization trick (section 2.4): what every family here is used through.

The families of section 2.4 are in `inverse_cdf`, `location_scale` and `composition`, after the
paper's three constructions, and in `gaussians`; those of appendix C in `binary` and `gaussians`.
"""

import functools
import math

import jax.numpy as jnp

from aevb_jax.types import Array, Distribution, Eta, Family, Key

LOG_2PI = math.log(2 * math.pi)


def reparameterize(key: Key, family: Family, eta: Eta) -> Array:
  """Draws z = g(eta, noise), noise ~ p(noise): section 2.4, the trick itself.

  All randomness comes from `key` and all dependence on the parameters goes
  through the deterministic `family.transform`, so that `jax.grad` of a function
  of z with respect to eta is the pathwise derivative.
  """
  return family.transform(eta, family.noise(key))


def distribution(family: Family, eta: Eta) -> Distribution:
  """The member of `family` that has parameters `eta`."""

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


def check_shape(what: str, array: Array, size: int) -> None:
  """Raises ValueError unless `array` is one event or head, of shape (size,)."""
  # Without this check a batch would broadcast against one event, and the sum
  # over dimensions would silently run over the batch as well.
  if jnp.shape(array) != (size,):
    raise ValueError(
      f"{what} has shape {jnp.shape(array)}, expected ({size},): "
      "families take one event at a time; use jax.vmap over many"
    )
