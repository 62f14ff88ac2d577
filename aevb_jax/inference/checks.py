"""Checks of arguments, each with a message of one sentence."""

from aevb_jax.errors import UnsupportedError
from aevb_jax.types import Distribution


def check_positive(**numbers: int) -> None:
  """Raises ValueError if one of the named numbers is below 1."""
  for name, number in numbers.items():
    if number < 1:
      raise ValueError(f"{name} is {number}, expected at least 1")


def check_continuous(what: str, prior: Distribution) -> None:
  """Raises UnsupportedError if z is not continuous, because HMC cannot move such a z."""
  if prior.support.kind != "box":  # in a simplex no number can move by itself
    raise UnsupportedError(
      f"{what} moves z by Hamiltonian Monte Carlo, which takes a continuous z; "
      f"that of this model is {type(prior.eta).__name__}"
    )
