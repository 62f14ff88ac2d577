"""Flags that take one or several values, over which experiments.train sweeps."""

from absl import flags

from aevb_jax.runs.config import values_of

flags.disclaim_key_flags()  # flags defined here belong to the module that defines them


class _OneOrMore(flags.ArgumentParser):
  """A number, or a tuple of the numbers between commas."""

  def __init__(self, number: flags.ArgumentParser):
    self.number = number
    self.syntactic_help = f"{number.syntactic_help}, or several between commas"

  def parse(self, argument):
    if not isinstance(argument, str):
      return argument
    try:
      values = tuple(self.number.parse(value.strip()) for value in argument.split(","))
    except ValueError as error:
      raise ValueError(f"takes {self.syntactic_help}") from error
    if len(set(values)) < len(values):
      raise ValueError("names a value twice")
    return values[0] if len(values) == 1 else values

  def flag_type(self) -> str:
    return f"{self.number.flag_type()}s"


class _Serializer(flags.ArgumentSerializer):
  def serialize(self, value) -> str:
    return ",".join(map(str, values_of(value)))


def define(name: str, default: float, help: str, number: flags.ArgumentParser) -> None:
  """Defines a flag of one or several numbers; its value is a number, or a tuple of them."""
  flags.DEFINE(_OneOrMore(number), name, default, help, serializer=_Serializer())
