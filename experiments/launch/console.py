"""The mains as commands of an installed package: aevb-train is `python -m experiments.train`."""

import contextlib
import importlib.util
import os
import runpy
import sys

from experiments.launch import starting

PREFIX = "aevb-"


def main() -> None:
  """Runs the main that the command is named after, as `python -m` would.

  Raises:
    SystemExit: at the end of the main.
  """
  starting.begin()
  command = os.path.basename(sys.argv[0])
  name = command.removeprefix(PREFIX).replace("-", "_")
  if not (command.startswith(PREFIX) and importlib.util.find_spec(f"experiments.{name}")):
    sys.exit(f"error: {command}: is not the name of a main with {PREFIX} before it")
  if not sys.flags.safe_path:  # then `python -m` does not look for modules here, either
    with contextlib.suppress(OSError):  # the directory may be gone
      sys.path.insert(0, os.getcwd())
  # Flags and help are those of sys.modules["__main__"], and absl names the program by sys.argv[0].
  runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
