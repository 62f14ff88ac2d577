"""This package, as the suite asks it."""

import jax.numpy as jnp
from conformances import jax_engine
from conformances.jax_engine import Member

from aevb_jax.errors import UnsupportedError
from aevb_jax.families import table
from aevb_jax.families.base import distribution
from aevb_jax.families.kl import kl_divergence


def member(family: str, options: dict, eta: dict) -> Member:
  if family in table.PIXELS:
    make = table.PIXELS[family]
  else:
    make = table.FIXED_PRIORS[family].make
  of = dict(options)
  if "levels_per_unit" in of:
    of = dict(step=1 / of["levels_per_unit"])
  if family == "low_rank_gaussian":
    of = dict(rank=eta["factor"].shape[1])
  made = make(next(iter(eta.values())).shape[0], **of)
  eta_type = type(made.from_heads(*(jnp.zeros(size) for size in made.sizes)))
  values = eta_type(**eta)

  def there(function):
    if function is None:
      raise NotImplementedError
    return function(values)

  return Member(
    log_prob=lambda z: made.log_prob(values, z),
    mean=lambda: there(made.mean),
    variance=lambda: there(made.variance),
    entropy=lambda: there(made.entropy),
    distribution=distribution(made, values),
  )


def evaluate(points: list[dict], precision: str) -> list[dict]:
  """Computes the quantities of points; see `jax_engine.evaluate`."""
  return jax_engine.evaluate(points, precision, member, kl_divergence, (UnsupportedError,))
