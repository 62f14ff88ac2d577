"""The texts of --help and --helpshort: the flags of a main, grouped by what they decide.

The texts come from the definitions of the flags. absl itself groups flags by the modules that
define them, which a reader of a command line does not know.
"""

import dataclasses
import re
import sys
import textwrap
from collections.abc import Callable, Iterator

from absl import flags

from aevb_jax.runs.config import OBJECTIVES, Config, Machine, leaves

OWN = "this main's"  # what a main decides itself
GROUPS = ("data", "model", "objective", "optimizer", "budget", "machine", OWN)
MODULES = {
  "experiments.flags.data": "data",
  "experiments.flags.paper": "budget",
  "experiments.flags.machine": "machine",
  "experiments.flags.resuming": "machine",
  "experiments.launch.cluster": "machine",
}
OTHERS = {"budget": "budget", "compilation_cache_dir": "machine", "workdir": OWN}
# The flags that --helpshort lists after the flags that a main defines itself.
MOST_USED = (
  "preset",
  "dataset",
  "model",
  "latent_dim",
  "likelihood",
  "estimator",
  "num_samples",
  "optimizer",
  "step_size",
  "batch_size",
  "num_examples",
  "seed",
)
NAME_WIDTH = 28


class _Help(flags.BooleanFlag):
  """A flag that prints a text and ends the program."""

  def __init__(self, name: str, text: Callable[[], str], help: str, short_name: str | None = None):
    self.text = text
    super().__init__(name, False, help, short_name=short_name, allow_override=True)

  def parse(self, argument) -> None:
    if self._parse(argument):
      print(self.text())
      sys.exit(0)


def define() -> None:
  """Replaces absl's --help and --helpshort, which `absl.app` defines when it starts."""
  flags.DEFINE_flag(_Help("help", whole, "Prints all flags of this main.", "h"))
  flags.DEFINE_flag(_Help("helpshort", short, "Prints the most used flags in one screen."))


def whole() -> str:
  """Returns the text of --help: the main's docstring and all its flags under their headings."""
  groups: dict[str, list[str]] = {}
  for flag in sorted(_key_flags(), key=lambda flag: flag.name):
    groups.setdefault(group(flag), []).append(_described(flag))
  texts = ["\n".join(_description()).rstrip()]
  for name in GROUPS:
    if name in groups:
      texts.append("\n".join([f"{name} flags:", *groups[name]]))
  texts.append(
    "--helpshort prints the most used flags in one screen, --helpfull those of libraries too."
  )
  return "\n\n".join(texts)


def short() -> str:
  """Returns the text of --helpshort: the main's first lines and its most used flags."""
  lines = _description()
  second = lines.index("", lines.index("") + 1) if lines.count("") > 1 else len(lines)
  flags_of_main = {flag.name: flag for flag in _key_flags()}
  own = [
    name for name, flag in flags_of_main.items() if group(flag) == OWN and name not in MOST_USED
  ]
  names = [name for name in ("workdir", "budget", *own, *MOST_USED) if name in flags_of_main]
  listed = [_in_a_line(flags_of_main[name]) for name in dict.fromkeys(names)]
  rest = len(flags_of_main) - len(listed)
  every = f"--help describes these flags in full{f' and {rest} more' * bool(rest)}."
  return "\n".join([*lines[:second], "", "flags, with their defaults:", *listed, "", every])


def group(flag: flags.Flag) -> str:
  """Names the group of a flag.

  It is the part of `Config` that has a field of the flag's name, otherwise the group of the module
  that defines the flag.
  """
  if flag.name in OTHERS:
    return OTHERS[flag.name]
  for name, fields in _fields():
    if flag.name in fields:
      return name
  return MODULES.get(flags.FLAGS.find_module_defining_flag(flag.name), OWN)


def _fields() -> Iterator[tuple[str, set[str]]]:
  """Yields the parts of a configuration with the names of their fields."""
  config = Config()
  for name in (field.name for field in dataclasses.fields(config)):
    if dataclasses.is_dataclass(part := getattr(config, name)):
      yield name, set(leaves(part))
  yield "objective", {name for kind in OBJECTIVES.values() for name in leaves(kind())}
  yield "machine", set(Machine._fields)


def _key_flags() -> list[flags.Flag]:
  return flags.FLAGS.get_key_flags_for_module(sys.modules["__main__"])


def _description() -> list[str]:
  """Returns the lines of the main's docstring, with commands broken where the source breaks them.

  A backslash at the end of a line joins two lines of a string, and leaves the second's indentation.
  """
  lines = (sys.modules["__main__"].__doc__ or "").splitlines()
  broken = [
    " \\\n      ".join(re.split(" {3,}", line)) if line.startswith("  python") else line
    for line in lines
  ]
  return "\n".join(broken).splitlines()


def _described(flag: flags.Flag) -> str:
  """Returns what a flag is for, its default and what it takes, in wrapped lines."""
  texts = [flag.help or ""]
  texts += [f"(default: {flag.default_as_str})"] * bool(flag.default_as_str)
  texts += [f"({flag.parser.syntactic_help})"] * bool(flag.parser.syntactic_help)
  name = f"--{'[no]' * flag.boolean}{flag.name}"
  return "\n".join(
    flags.text_wrap(text, indent="    ", firstline_indent=first)
    for text, first in zip([f"{name}: {texts[0]}", *texts[1:]], ["  "] + ["    "] * len(texts))
  )


def _in_a_line(flag: flags.Flag) -> str:
  """Returns a line with a flag, its default, and as much of its help as fits."""
  name = f"--{flag.name}"
  if flag.default_as_str:
    name += f"={flag.default_as_str[1:-1]}"  # without the quotes
  if len(name) > NAME_WIDTH:
    name = f"{name[: NAME_WIDTH - 3]}..."
  room = flags.get_help_width() - NAME_WIDTH - 4
  return f"  {name:{NAME_WIDTH}} {textwrap.shorten(flag.help or '', room, placeholder=' ...')}"
