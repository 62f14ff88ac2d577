"""A main with absl flags, whose user's mistakes end in one line."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

import absl.logging
from absl import app, flags

from aevb_jax.types import DataError

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "aevb_jax")


class UsageError(Exception):
  """Something asked for by a flag that cannot be done; printed as one line."""

  def __init__(self, flag: str, message: str):
    value = flags.FLAGS[flag].value
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    super().__init__(f"--{flag}={text}: {message}")


def run(main: Callable[[], None]) -> None:
  """Runs a main with its flags parsed; what the user got wrong is one line, status 2."""

  def parse(argv: Sequence[str]) -> Sequence[str]:
    try:
      return flags.FLAGS(argv)
    except flags.Error as error:
      fail(f"{' '.join(str(error).split())} (--help lists the flags)", 2)

  def checked(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      fail(f"unexpected argument {argv[1]!r}; flags are written --name=value", 2)
    show_log()
    sys.stdout.reconfigure(line_buffering=True)  # whatever becomes of the process
    sys.exit(status_of(main))

  app.run(checked, flags_parser=parse)


class Terminated(BaseException):
  """SIGTERM, where nothing else hears of it."""


def status_of(main: Callable[[], None]) -> int:
  """Runs `main` and says in a line what the user got wrong; the status to exit with."""

  def terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated

  signal.signal(signal.SIGTERM, terminate)
  try:
    try:
      main()
    except UsageError as error:
      fail(str(error), 2)
    except DataError as error:  # of records that are decoded as they are read
      fail(f"--dataset={flags.FLAGS.dataset}: {error}", 2)
    except KeyboardInterrupt:
      fail("interrupted", 130)
    except Terminated:
      fail("terminated", 143)
  except SystemExit as stop:
    return stop.code or 0
  return 0


def show_log() -> None:
  """Shows what the library logs as plain lines on standard error, and of others errors alone."""
  absl.logging.set_verbosity(absl.logging.ERROR)  # TFDS warns where the library raises
  logger, handler = logging.getLogger("aevb_jax"), logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(message)s"))
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False


def fail(message: str, status: int) -> NoReturn:
  """Ends the program with one line on standard error."""
  print(f"error: {message}", file=sys.stderr)
  sys.exit(status)
