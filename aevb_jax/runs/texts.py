"""The two texts of a configuration: config.json, and flags.txt in the form of `--flagfile`."""

import dataclasses
import json
import types
import typing
from collections.abc import Collection, Sequence
from typing import Any

from aevb_jax.errors import ConfigError
from aevb_jax.runs.config import Config, definitions, leaves, objective_of, replace

# flags.txt has the values of a preset one by one; in older runs it also names the preset.
OF_PRESETS = "preset"
RENAMED = {"latents": "posterior"}  # names of flags in older runs -> their current names


def flag_lines(*configs: Any, only: Collection[str] | None = None) -> list[str]:
  """Formats the fields of configurations as sorted lines of a flag file; None has no line.

  Args:
    configs: dataclasses, also nested.
    only: the names of the fields to write; None for all.
  """
  values = {name: value for config in configs for name, value in leaves(config).items()}
  return sorted(
    flag_line(name, value)
    for name, value in values.items()
    if value is not None and (only is None or name in only)
  )


def flag_line(name: str, value: Any) -> str:
  """Formats a flag as a line of a flag file."""
  if isinstance(value, bool):
    return f"--{name}" if value else f"--no{name}"
  return f"--{name}={as_text(value)}"


def as_text(value: Any) -> str:
  """Formats a value in the form that a flag takes."""
  return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def flags_text(*configs: Any, only: Collection[str] | None = None) -> str:
  """Formats configurations as the contents of flags.txt; `only` limits the fields."""
  return "".join(f"{line}\n" for line in flag_lines(*configs, only=only))


def name_of(line: str, names: Collection[str]) -> str:
  """Returns the name of the flag that a line of a flag file sets."""
  name = line.removeprefix("--").partition("=")[0]
  return name if name in names else name.removeprefix("no")


def from_flags(text: str) -> Config:
  """Parses the configuration of a run from its flags.txt.

  Fields that the text does not name, such as newer fields, have their defaults.

  Raises:
    ConfigError: if a line names no field, or has a value that is not of the field's type.
  """
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  algorithm = next((l.partition("=")[2] for l in lines if l.startswith("--algorithm=")), "aevb")
  config = Config(objective=objective_of(algorithm)())
  hints, values = _hints(config), {}
  for line in lines:
    name = name_of(line, hints)
    name = RENAMED.get(name, name)
    if name == OF_PRESETS:
      continue
    if name not in hints:
      raise ConfigError(name, line.partition("=")[2], "is not a field of a configuration")
    if line in (f"--{name}", f"--no{name}"):
      values[name] = line == f"--{name}"
    else:
      values[name] = _parse(name, line.partition("=")[2], hints[name])
  return replace(config, **values)


def fields_of(algorithm: str) -> set[str]:
  """Returns the names of the fields of a configuration of an algorithm."""
  return set(_hints(Config(objective=objective_of(algorithm)())))


def _hints(config: Any) -> dict[str, Any]:
  """Returns the type of every field of a configuration and of its parts."""
  hints: dict[str, Any] = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    own = typing.get_type_hints(type(config))[field.name]
    hints |= _hints(value) if dataclasses.is_dataclass(value) else {field.name: own}
  return hints


def _parse(name: str, text: str, hint: Any) -> Any:
  """Parses a value in the form that a flag of this type takes."""
  kinds = _kinds(hint)
  for kind in kinds:
    try:
      if typing.get_origin(kind) is tuple:
        number = typing.get_args(kind)[0]
        if number in kinds and "," not in text:
          continue
        return tuple(number(part) for part in text.split(","))
      if kind is bool:
        return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
      if kind is not type(None):
        return kind(text)
    except (ValueError, KeyError):
      pass
  raise ConfigError(name, text, f"takes {_words(hint)}")


def _kinds(hint: Any) -> tuple:
  return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def to_json(config: Config) -> str:
  """Formats a configuration as the contents of config.json."""
  return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> Config:
  """Parses the configuration of a run from its config.json.

  Raises:
    ConfigError: if a field is unknown, or its value is not of its type.
    ValueError: if the text is not JSON.
  """
  try:
    read = json.loads(text)
  except RecursionError as error:
    raise ValueError("it is nested too deeply") from error
  if not isinstance(read, dict):
    raise ValueError("config.json holds no configuration")
  objective = read.get("objective", {})
  if not isinstance(objective, dict):
    raise ConfigError("objective", objective, "takes an object with fields of its own")
  algorithm = objective.get("algorithm", "aevb")
  if not isinstance(algorithm, str):
    raise ConfigError("algorithm", algorithm, "takes a text")
  return _from_dict(Config(objective=objective_of(algorithm)()), read, "")


def _from_dict(default: Any, read: dict, path: str) -> Any:
  """Replaces the fields of a configuration with the values that were read."""
  hints, values = typing.get_type_hints(type(default)), {}
  for name, value in read.items():
    if name not in hints:
      raise ConfigError(f"{path}{name}", value, "is not a field of a configuration; a newer one?")
    old = getattr(default, name)
    if dataclasses.is_dataclass(old):
      if not isinstance(value, dict):
        raise ConfigError(f"{path}{name}", value, "takes an object with fields of its own")
      values[name] = _from_dict(old, value, f"{path}{name}.")
    else:
      values[name] = _typed(f"{path}{name}", value, hints[name])
  return dataclasses.replace(default, **values)


def _typed(name: str, value: Any, hint: Any) -> Any:
  """Converts a value read from JSON to the type of its field."""
  for kind in _kinds(hint):
    if typing.get_origin(kind) is tuple and isinstance(value, list):
      number = typing.get_args(kind)[0]
      return tuple(_typed(name, item, number) for item in value)
    if kind is float and type(value) in (int, float):
      return float(value)
    if kind is type(None) and value is None or type(value) is kind:
      return value
  raise ConfigError(name, value, f"takes {_words(hint)}")


def _words(hint: Any) -> str:
  """Describes the values that a field takes."""
  words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
  named = [words.get(k, "several numbers") for k in _kinds(hint) if k is not type(None)]
  return " or ".join(named + ["nothing"] * (type(None) in _kinds(hint)))


def defaults(config: Any) -> dict[str, str | None]:
  """Returns the line of every field with its default value, by name; None for no line."""
  found = {}
  for name, field in definitions(config).items():
    found[name] = None if field.default is None else flag_line(name, field.default)
  return found


def not_compared(config: Any) -> set[str]:
  """Returns the names of the fields that may differ when a run is resumed."""
  fields = definitions(config).items()
  return {name for name, field in fields if not field.metadata.get("compared", True)}


def growing(config: Any) -> set[str]:
  """Returns the names of the lists that may have gained members when a figure is made again."""
  fields = definitions(config).items()
  return {name for name, field in fields if field.metadata.get("grows")}


def differences(text: str, configs: Sequence[Any], only: Collection[str] | None = None) -> str:
  """Describes how configurations differ from flags that were written before; "" if they do not.

  A list that may grow differs if it lacks a member that it had.

  Args:
    text: the contents of a flags.txt.
    configs: the configurations to compare with it.
    only: the names of the fields that are compared; None for all.
  """
  by_default = {k: v for config in configs for k, v in defaults(config).items()}
  ignored = {OF_PRESETS}.union(*map(not_compared, configs))
  name_of_line = lambda line: name_of(line, by_default)
  there = {_renamed(line) for line in text.splitlines() if line.strip()}
  there = {line for line in there if name_of_line(line) not in ignored}
  here = {line for line in flag_lines(*configs, only=only) if name_of_line(line) not in ignored}
  # A field that is newer than the run in the directory had its default value.
  known = {name_of_line(line) for line in there}
  here = {l for l in here if name_of_line(l) in known or by_default[name_of_line(l)] != l}
  grown = _grown(there, here, set().union(*map(growing, configs)))
  there, here = there - grown, here - grown
  return "; ".join(
    f"{side}: {' '.join(sorted(lines))}"
    for side, lines in (("there", there - here), ("here", here - there))
    if lines
  )


def _grown(there: set[str], here: set[str], names: Collection[str]) -> set[str]:
  """Returns the lines of lists that have gained members since they were written, and lost none.

  Args:
    there: the lines that were written.
    here: the lines now.
    names: the names of the lists that may grow.
  """
  members = lambda line: set(line.partition("=")[2].split(","))
  old, new = ({name_of(line, names): line for line in lines} for lines in (there, here))
  both = [(old[name], new[name]) for name in names if name in old and name in new]
  return {line for pair in both if members(pair[0]) <= members(pair[1]) for line in pair}


def _renamed(line: str) -> str:
  """Returns a line of a flag file with the current name of its flag."""
  name, equals, value = line.removeprefix("--").partition("=")
  return f"--{RENAMED.get(name, name)}{equals}{value}"
