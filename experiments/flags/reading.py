"""The conversion of flags to dataclasses whose fields have the same names."""

import dataclasses
import sys
import typing
from typing import Any, TypeVar

from absl import flags

FLAGS = flags.FLAGS
T = TypeVar("T")


def read(kind: type[T]) -> T:
  """Makes a dataclass from the flags with the names of its fields; other fields keep defaults."""
  hints = typing.get_type_hints(kind)
  fields = [field.name for field in dataclasses.fields(kind) if field.name in FLAGS]
  return kind(**{name: _value(FLAGS[name].value, hints[name]) for name in fields})


def _value(value: Any, hint: Any) -> Any:
  """Returns the value of a flag in the type of a field."""
  kinds = typing.get_args(hint) or (hint,)
  if isinstance(value, list):
    (kind,) = [k for k in (hint, *kinds) if typing.get_origin(k) is tuple]
    return tuple(typing.get_args(kind)[0](item) for item in value)
  if isinstance(value, str) and int in kinds and str not in kinds:
    return int(value)
  return value


def given_flags() -> set[str]:
  """Returns the names of the flags that are given on the command line."""
  return {name for name in FLAGS if FLAGS[name].present}


def key_flags() -> set[str]:
  """Returns the names of the flags of the main that runs."""
  return {flag.name for flag in FLAGS.get_key_flags_for_module(sys.modules["__main__"])}


def raw_value(name: str) -> Any:
  """Returns the value of a flag, as absl stores it."""
  return FLAGS[name].value
