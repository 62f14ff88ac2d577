"""Parses command lines as their mains would, without running them.

  echo '{"train": [["--seed=1"], ["--seed=x"]]}' | python -m tests.support.parsing

Prints a line for each command line that is refused. Every main has a fork of its own, and every
command line has a fork of that fork, because the flags of absl are global.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable


def in_a_fork(run: Callable[[], None]) -> None:
  """Runs a function in a fork of this process, and waits for it."""
  sys.stdout.flush()
  if (child := os.fork()) == 0:
    try:
      run()
    except BaseException as error:  # an import may fail, too
      print(f"{type(error).__name__}: {error}")
    finally:
      sys.stdout.flush()
      os._exit(0)
  os.waitpid(child, 0)


def parse_all(main: str, lines: list[list[str]]) -> None:
  importlib.import_module(f"experiments.{main}")
  for arguments in lines:
    in_a_fork(lambda arguments=arguments: parse(main, arguments))


def parse(main: str, arguments: list[str]) -> None:
  from absl import flags

  rest = flags.FLAGS([main, *arguments])[1:]
  if rest:
    print(f"{main}: no flags: {rest}")


if __name__ == "__main__":
  import jax  # noqa: F401  (once, for all the forks)

  import aevb_jax  # noqa: F401

  for main, lines in json.load(sys.stdin).items():
    in_a_fork(lambda main=main, lines=lines: parse_all(main, lines))
