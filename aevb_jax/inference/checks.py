"""What arguments must be, each in one sentence."""

from aevb_jax.errors import UnsupportedError
from aevb_jax.types import Distribution


def check_positive(**numbers: int) -> None:
  """Raises ValueError where one of the numbers, all named, is below 1."""
  for name, number in numbers.items():
    if number < 1:
      raise ValueError(f"{name} is {number}, expected at least 1")


def check_continuous(what: str, prior: Distribution) -> None:
  """Raises UnsupportedError where z is not continuous, so that HMC cannot move it."""
  if prior.support.kind != "box":  # a simplex has no room to move one number alone
    raise UnsupportedError(
      f"{what} moves z by Hamiltonian Monte Carlo, which takes a continuous z; "
      f"that of this model is {type(prior.eta).__name__}"
    )
