"""Means over seeds, beside the standard error over images and the spread over seeds."""

from collections.abc import Sequence

import numpy as np


def spread(values: Sequence[float] | np.ndarray) -> float | None:
  """Returns the standard deviation of numbers over seeds; None for a single seed."""
  return float(np.std(values, ddof=1)) if len(values) > 1 else None


def average(name: str, values: np.ndarray, errors: np.ndarray) -> dict[str, float | None]:
  """Averages a number over seeds.

  Args:
    name: the name of the number.
    values: the number of each seed.
    errors: its standard error over images, of each seed.

  Returns:
    The mean as `name`, the standard error of a single seed as `name`_se, and the spread over
    seeds as `name`_sd.
  """
  error, deviation = float(errors.mean()), spread(values)
  return {name: float(values.mean()), f"{name}_se": error, f"{name}_sd": deviation}


def with_spread(text: str, deviation: float | None, digits: int) -> str:
  """Adds the spread over seeds to a mean in words; a single seed has none."""
  return text if deviation is None else f"{text} ({deviation:.{digits}f})"
