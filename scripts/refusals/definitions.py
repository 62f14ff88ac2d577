"""The mains, the definitions of their flags, and command lines that must be refused.

python scripts/refusals/definitions.py train    # prints the flags of a main, as JSON
"""

import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
MAINS = (
  "train",
  "data",
  "gradients",
  "full_vb",
  "evaluate",
  "linear_gaussian",
  "families",
  "status",
  "semi_supervised",
)


@dataclasses.dataclass(frozen=True)
class Definition:
  """A flag as its main defines it."""

  name: str
  kind: str  # int, float, boolean, enum, list or text
  several: bool = False  # whether it takes numbers between commas
  lower: float | None = None
  upper: float | None = None
  choices: tuple[str, ...] = ()


class Bad(NamedTuple):
  """A command line that must be refused."""

  main: str
  kind: str  # the kind of mistake
  arguments: tuple[str, ...]
  num_devices: int = 1


def definitions(main) -> dict:
  """Returns the definitions of the key flags of a main's module, and the names of all flags."""
  from absl import flags

  key_flags = flags.FLAGS.get_key_flags_for_module(main)
  return dict(
    flags=[dataclasses.asdict(define(flag)) for flag in key_flags], names=sorted(flags.FLAGS)
  )


def define(flag) -> Definition:
  from absl import flags

  number = getattr(flag.parser, "number", flag.parser)
  kinds = {
    flags.IntegerParser: "int",
    flags.FloatParser: "float",
    flags.BooleanParser: "boolean",
    flags.EnumParser: "enum",
    flags.ListParser: "list",
  }
  kind = next((kind for parser, kind in kinds.items() if isinstance(number, parser)), "text")
  return Definition(
    flag.name,
    kind,
    number is not flag.parser,
    getattr(number, "lower_bound", None),
    getattr(number, "upper_bound", None),
    tuple(getattr(flag.parser, "enum_values", ())),
  )


def read_definitions(main: str) -> dict:
  """Reads the flags of `experiments.MAIN` in its own process, because mains share flag names."""
  command = [sys.executable, __file__, main]
  return json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout)


if __name__ == "__main__":
  sys.path.insert(0, str(ROOT))
  print(json.dumps(definitions(importlib.import_module(f"experiments.{sys.argv[1]}"))))
