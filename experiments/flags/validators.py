"""Validators of flags, which check what the fields of a configuration take."""

from collections.abc import Iterable
from typing import Any

from absl import flags

from aevb_jax.runs.checks import MAX_COUNT, VALUES


def is_count(text: str, least: int = 1) -> bool:
  """Reports whether the text is a whole number from `least` to MAX_COUNT."""
  # The length first, because Python refuses to parse thousands of digits.
  return text.isdecimal() and len(text) <= len(str(MAX_COUNT)) and least <= int(text) <= MAX_COUNT


def validate(*names: str) -> None:
  """Registers the checks of the fields of these names for their flags."""
  for name in names:
    flags.register_validator(name, _validator(name))


def _validator(name: str):
  def holds(value: Any) -> bool:
    if value is not None:
      try:
        VALUES[name](value)
      except ValueError as error:
        raise flags.ValidationError(str(error)) from error
    return True

  return holds


def validate_counts(*names: str) -> None:
  """Registers a check that list flags take positive whole numbers."""
  for name in names:
    flags.register_validator(name, _are_counts, "takes positive whole numbers, separated by commas")


def _are_counts(values: Iterable[str] | None) -> bool:
  return values is None or (bool(values) and all(map(is_count, values)))
