"""Fills the tables of experiments/flags/README.md with the flags of all mains.

  python scripts/flags_page.py           # fills the tables again
  python scripts/flags_page.py --check   # fails if the page says anything else

A row is a flag as one or more mains define it: its default and its help are what
`python -m experiments.MAIN --help` prints. A table stands between <!-- GROUP --> and <!-- end -->;
the rest of the page is written by hand.
"""

import dataclasses
import importlib
import json
import os
import re
import sys
from typing import Any, NamedTuple

from support.start import ROOT, fail

PAGE = ROOT / "experiments" / "flags" / "README.md"
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
FIGURES = (
  "lower_bound", "marginal_likelihood", "manifold", "samples", "conv_vae", "iwae_table", "uses",
  "analogies"
)  # fmt: skip
MAINS = (
  "train", "evaluate", "status", "data", "gradients", "full_vb", "linear_gaussian",
  "frey_face_video", "semi_supervised", "families"
) + FIGURES + ("plots.__main__",)  # fmt: skip
PLACES = ("workdir", "runs")  # every main has them; they are in the table of the machine
AMOUNTS = ("budget", "preset")  # values for other flags
HEADER = ("flag", "mains", "default", "help")


class Row(NamedTuple):
  """A flag, and the mains that define it so.

  Attributes:
    group: the table that the row stands in.
    name: the name without its dashes.
    default: the default in words; "" for none.
    help: the text of --help.
    mains: the mains, in the order of `MAINS`.
  """

  group: str
  name: str
  default: str
  help: str
  mains: list[str]


def main() -> None:
  match sys.argv[1:]:
    case arguments if "--help" in arguments:
      print(__doc__.strip())
    case []:
      PAGE.write_text(fill(PAGE.read_text(), rows()))
    case ["--check"]:
      text = PAGE.read_text()
      sys.exit(0 if fill(text, rows()) == text else "the page differs: run scripts/flags_page.py")
    case _:
      fail("scripts/flags_page.py takes nothing, or --check")


def rows() -> list[Row]:
  """Returns the flags of all mains; a flag that mains define in the same way is one row."""
  import jax  # noqa: F401  (once, for all the forks)

  import aevb_jax  # noqa: F401

  found: dict[tuple[str, str, str], list[str]] = {}
  for name in MAINS:
    for flag in in_a_fork(name):
      found.setdefault(tuple(flag), []).append(name)
  group_of = groups({name for (name, _, _), mains in found.items() if "train" in mains})
  return [
    Row(group_of.get(name, "own"), name, default, text, mains)
    for (name, default, text), mains in found.items()
  ]


def groups(of_train: set[str]) -> dict[str, str]:
  """Returns the table of each flag that several mains could have, from the parts of a Config.

  Args:
    of_train: the flags of experiments.train. Flags that no part has say where and with what a
      run is carried out.
  """
  from aevb_jax.runs.config import OBJECTIVES, Config, leaves

  found = dict.fromkeys((*of_train, *PLACES), "machine")
  for part in dataclasses.fields(Config):
    value = getattr(Config(), part.name)
    if dataclasses.is_dataclass(value):
      found |= dict.fromkeys(leaves(value), part.name)
  for objective in OBJECTIVES.values():
    found |= dict.fromkeys(leaves(objective()), "objective")
  return found | dict.fromkeys((*AMOUNTS, "seed"), "budget")


def in_a_fork(name: str) -> list[list[str]]:
  """Reads the flags of a main in a fork, because two mains may define flags of the same name."""
  read_end, write_end = os.pipe()
  if (child := os.fork()) == 0:
    try:
      with os.fdopen(write_end, "w") as pipe:
        json.dump(define(f"experiments.{name}"), pipe)
      os._exit(0)
    finally:
      os._exit(1)
  os.close(write_end)
  with os.fdopen(read_end) as pipe:
    text = pipe.read()
  if os.waitpid(child, 0)[1]:
    fail(f"experiments.{name} cannot be imported")
  return json.loads(text)


def define(module: str) -> list[tuple[str, str, str]]:
  """Imports a main and returns the name, the default and the help of each of its flags."""
  from absl import flags

  imported = importlib.import_module(module)
  key_flags = flags.FLAGS.get_key_flags_for_module(imported)
  return [(flag.name, in_words(flag.default), help_of(flag)) for flag in key_flags]


def in_words(value: Any) -> str:
  """Returns a default as a command line has it, and "" for None."""
  if isinstance(value, bool):
    return "on" if value else "off"
  if isinstance(value, (list, tuple)):
    return ",".join(map(in_words, value))
  if isinstance(value, str) and value.startswith(home := os.path.expanduser("~") + os.sep):
    return f"~/{value.removeprefix(home)}"
  return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def help_of(flag: Any) -> str:
  """Returns the help of a flag, and its choices in words."""
  if choices := getattr(flag.parser, "enum_values", ()):
    listed = ", ".join(f"`{choice}`" for choice in choices)
    return f"{listed}. {flag.help.partition('>: ')[2]}"
  return flag.help


def fill(text: str, made_of: list[Row]) -> str:
  """Returns the page with its tables as the flags are defined.

  Raises:
    SystemExit: if the page has no table for a group.
  """
  named = [found[2] for found in BLOCK.finditer(text)]
  if missing := {row.group for row in made_of} - set(named):
    fail(f"{PAGE.name} has no table for {', '.join(sorted(missing))}")

  def table(found: re.Match) -> str:
    lines = [line(HEADER), line(["---"] * len(HEADER))]
    lines += [line(cells(row)) for row in in_order(made_of) if row.group == found[2]]
    return found[1] + "\n".join(lines) + "\n" + found[3]

  return BLOCK.sub(table, text)


def in_order(made_of: list[Row]) -> list[Row]:
  """Sorts rows by name, and the rows of one name by their mains."""
  return sorted(made_of, key=lambda row: (row.name, [MAINS.index(main) for main in row.mains]))


def cells(row: Row) -> list[str]:
  mains = ", ".join(main.removesuffix(".__main__") for main in row.mains)
  return [f"`--{row.name}`", mains, f"`{row.default}`" if row.default else "", row.help]


def line(texts) -> str:
  return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"


if __name__ == "__main__":
  os.environ.pop("XDG_CACHE_HOME", None)  # defaults would name it
  sys.path.insert(0, str(ROOT))
  main()
