"""Tells right values from wrong ones, with one tolerance for all libraries."""

import math
from collections.abc import Iterator
from typing import Any

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
AT_ZERO = {"float64": 1e-10, "float32": 1e-7}
RELATIVE = ("kl", "mean", "variance", "total_mass")


def numbers(value: Any) -> Iterator[float]:
  """Yields the numbers of nested lists or of an array."""
  value = value.tolist() if hasattr(value, "tolist") else value
  if isinstance(value, list):
    for v in value:
      yield from numbers(v)
  else:
    yield float(value)


def is_right(quantity: str, value: Any, right: Any, precision: str) -> bool:
  """Compares a value with the right one, number by number.

  A number may be off by the tolerance times 1 + |right|; a KL, a mean, a variance or a sum of
  probabilities by the tolerance times |right|. Infinities and NaN must match.

  Args:
    quantity: such as "log_prob" or "d kl/d q.scale".
    value: a number or nested lists of numbers.
    right: as the suite has it.
    precision: "float64" or "float32".
  """
  found, wanted = list(numbers(value)), list(numbers(right))
  if len(found) != len(wanted):
    return False
  return all(_close(quantity, a, b, precision) for a, b in zip(found, wanted, strict=True))


def _close(quantity: str, value: float, right: float, precision: str) -> bool:
  if not math.isfinite(right):
    return math.isnan(value) if math.isnan(right) else value == right
  if not math.isfinite(value):
    return False
  if quantity not in RELATIVE:
    return abs(value - right) <= TOLERANCE[precision] * (1 + abs(right))
  if right == 0:
    return abs(value) <= AT_ZERO[precision]
  return abs(value - right) <= TOLERANCE[precision] * abs(right)


def cases(point: dict, precision: str) -> list[str]:
  """Returns the quantities of a point that count in a precision."""
  only = point.get("float64_only", ())
  return [name for name in point["right"] if precision == "float64" or name not in only]


def loses_input(point: dict, precision: str) -> bool:
  """Tells whether a standard deviation cannot carry what a log-variance says, in a precision.

  The KL of two Gaussians of almost equal variances depends on the ratio of the variances beyond
  the rounding of the standard deviations to float32. A library that takes these is not asked.
  """
  if precision == "float64" or point["family"] != "gaussian" or "p" not in point:
    return False
  of_p = point["p"]["eta"].get("log_var", [])
  pairs = zip(numbers(point["eta"]["log_var"]), numbers(of_p))
  return any(0 < abs(a - b) < 0.1 for a, b in pairs)
