"""A main with absl flags, in which a mistake of the user ends with one line."""

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

import absl.logging
import jax
from absl import app, flags

from aevb_jax.errors import ConfigError, DataError, GoneError, RunError, SaveError
from aevb_jax.runs.checks import MAX_COUNT
from aevb_jax.runs.files import error_in_words
from experiments.launch import helping, streams, supervise
from experiments.launch.starting import ENDINGS

MAY_BE_EMPTY = ("array_cache_dir", "compilation_cache_dir", "contact_sheet", "tracker")
# Controls, line ends and bytes that are not UTF-8: flags.txt and an error are lines of text.
NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# How absl words what is wrong with a value, and how a line here does.
IN_WORDS = {
  re.compile(r"\('Non-boolean argument.*\)"): "takes true or false",
  re.compile(r"invalid literal for int\(\) .*"): "takes a whole number, such as 1000000",
  re.compile(r"could not convert string to float: .*"): "takes a number, such as 0.01",
  re.compile(r"\S+ is not (?:integer|number) >= (\S+)"): r"takes at least \1",
  re.compile(r"\S+ is not (?:integer|number) <= (\S+)"): r"takes at most \1",
}
LIST = re.compile(r"^flag --(\w+)=\[.*?\]: ")  # as absl shows the value of a list
INTERRUPTED = [128 + number for number in ENDINGS]  # as a shell reports it
PARENT = "AEVB_JAX_PARENT"  # the environment variable with the number of a pipe from the parent
UNHEARD = 5.0  # seconds after which a signal that ended nothing is sent again
OUT_OF_MEMORY = re.compile("out of memory[^\n.]*", re.IGNORECASE)


class UsageError(Exception):
  """Raised when a flag asks for something that cannot be done; printed as one line."""

  def __init__(self, flag: str, message: str):
    value = flags.FLAGS[flag].value
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    super().__init__(f"--{flag}={text}: {message}")


def run(main: Callable[[], None]) -> None:
  """Runs a main with its flags parsed; a mistake of the user prints one line and exits with 2."""

  streams.guard()

  def parse(argv: Sequence[str]) -> Sequence[str]:
    helping.define()
    for argument in argv[1:]:
      if NOT_TEXT.search(argument):
        fail(f"argument {ascii(argument)} has characters that are not text", 2)
    try:
      rest = flags.FLAGS(argv)
      check_values()
      return rest
    except UsageError as error:
      fail(str(error), 2)
    except SystemExit:  # for --helpfull, --helpxml, ...: absl prints them and exits with 1
      sys.exit(0)
    except UnicodeDecodeError:  # raised for a flag file; arguments are decoded before
      fail("--flagfile names a file that is not text", 2)
    except (flags.Error, ValueError) as error:  # for --noNAME=value absl raises a plain ValueError
      what = " ".join(str(error).removeprefix("ERROR:: ").split())
      for absl_words, ours in IN_WORDS.items():
        what = absl_words.sub(ours, what)
      what = LIST.sub(lambda found: f"{_as_given(found[1])}: ", what)
      fail(f"{what} (--help lists the flags)", 2)

  def checked(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      fail(f"unexpected argument {argv[1]!r}; flags are written --name=value", 2)
    show_log()
    end_with_parent()
    status = status_of(main)
    if (lost := streams.error_of_output()) and not status:
      status = os.EX_IOERR
      print(f"error: standard output could not be written ({lost.strerror})", file=sys.stderr)
    if status in INTERRUPTED:
      leave(status)
    sys.exit(status)

  app.run(checked, flags_parser=parse)


def _as_given(name: str) -> str:
  """Formats a list flag as on a command line."""
  return f"--{name}={','.join(flags.FLAGS[name].value)}"


def check_values() -> None:
  """Refuses values that have the type of a flag but that no flag can use.

  Raises:
    UsageError: for an empty value, such as that of an unset shell variable, for the home directory
      of a user who does not exist, and for a number beyond what devices count to, unless the flag
      has a bound.
  """
  for name in flags.FLAGS:
    flag = flags.FLAGS[name]
    if not flag.present:
      continue
    if flag.value == "" and name not in MAY_BE_EMPTY:
      raise UsageError(name, "takes a value; leave the flag out for its default")
    if isinstance(flag.value, str) and flag.value.startswith("~"):
      if os.path.expanduser(flag.value) == flag.value:
        raise UsageError(name, "is in a home directory that does not exist")
    if isinstance(flag.parser, flags.IntegerParser) and flag.parser.upper_bound is None:
      if flag.value > MAX_COUNT:
        raise UsageError(name, f"takes at most {MAX_COUNT}")


@contextlib.contextmanager
def child_that_ends_with_this(arguments: Sequence[str]) -> Iterator[subprocess.Popen]:
  """Starts a main that is asked to stop when this process ends, however this process ends.

  The child holds one end of a pipe. The system closes the other end when this process ends. The
  child is in a session of its own, so that a terminal's interrupt reaches it only once, from here.
  """
  reading, writing = os.pipe()
  environment = os.environ | {PARENT: str(reading)}
  try:
    yield subprocess.Popen(arguments, env=environment, pass_fds=[reading], start_new_session=True)
  finally:
    os.close(reading)
    os.close(writing)


def end_with_parent() -> None:
  """Sends this process SIGTERM when its parent ends, if the parent asked for that."""
  if not (descriptor := os.environ.pop(PARENT, None)):
    return

  def watch() -> None:
    os.read(int(descriptor), 1)  # returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=watch, daemon=True).start()


class Exit(SystemExit):
  """Raised to end the program after it has printed the reason."""


class Terminated(BaseException):
  """Raised for SIGTERM or SIGHUP while no other handler is installed."""

  def __init__(self, number: int):
    super().__init__(number)
    self.number = signal.Signals(number)


def raise_asked(number: int, frame: FrameType | None) -> None:
  """Raises for a signal; waits if JAX's garbage collector runs, in which exceptions are lost."""
  if frame and frame.f_code.co_name == "_xla_gc_callback":
    threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
    return
  # The system's timer, because a handler must not start threads, whose locks it may interrupt.
  signal.signal(signal.SIGALRM, lambda alarm, frame: os.kill(os.getpid(), number))
  signal.setitimer(signal.ITIMER_REAL, UNHEARD)
  raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def caught() -> None:
  """Cancels the second sending of a signal, because the exception of the first was caught.

  Python ignores exceptions in the finalizers of objects and in the callbacks of weak references.
  """
  signal.setitimer(signal.ITIMER_REAL, 0)


def status_of(main: Callable[[], None]) -> int:
  """Runs `main`, prints a mistake of the user in one line, and returns the exit status."""
  for number in ENDINGS:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, raise_asked)
  try:
    with _errors_as_lines():
      main()
  except Exit as stop:
    return stop.code
  finally:
    caught()
  return 0


@contextlib.contextmanager
def _errors_as_lines() -> Iterator[None]:
  """Turns early ends of a program into one line and an `Exit`, except errors in this program."""
  try:
    yield
  except UsageError as error:
    fail(str(error), 2)
  except (ConfigError, RunError) as error:
    of_run = isinstance(error, RunError)
    fail(f"--workdir={error}" if of_run else f"--{error}", 2)
  except DataError as error:  # raised from records that are decoded while they are read
    fail(f"--dataset={flags.FLAGS.dataset}: {error}", 2)
  except jax.errors.JaxRuntimeError as error:
    if not (what := OUT_OF_MEMORY.search(str(error))):
      raise
    fail(f"{what[0]}; a smaller model, --batch_size or number of samples takes less", 1)
  except (OSError, SaveError, GoneError) as error:
    if supervise.is_lost(error):
      raise
    fail(error_in_words(error), os.EX_IOERR)
  except MemoryError:
    fail("out of memory; a smaller model, --batch_size or number of samples takes less", 1)
  except KeyboardInterrupt:
    fail(ENDINGS[signal.SIGINT], 128 + signal.SIGINT)
  except Terminated as ended:
    fail(ENDINGS[ended.number], 128 + ended.number)
  except Exit:
    raise
  except SystemExit as stop:
    if isinstance(stop.code, int) and stop.code:
      raise Exit(stop.code) from stop
    # An estimator may call sys.exit(0), but the program that it is called in has not succeeded.
    fail(f"{_where(stop)} ended the program by sys.exit({stop.code!r})", 1)
  except Exception:
    if missing := _without_devices():
      fail(missing, 1)
    raise


def _where(error: BaseException) -> str:
  """Names the line of code that an error was raised in."""
  *_, (frame, line) = traceback.walk_tb(error.__traceback__)
  return f"{frame.f_code.co_filename}, line {line},"


def _without_devices() -> str:
  """Explains why JAX has no devices, the cause of many kinds of error; "" if it has some."""
  try:
    jax.devices()
    return ""
  except Exception as error:
    asked = f"JAX_PLATFORMS={jax.config.jax_platforms}: " if jax.config.jax_platforms else ""
    why = " ".join(str(error).split()) or "it is not installed, or there is no such device"
    return f"{asked}JAX has no devices to compute with ({why[:200]})"


def leave(status: int) -> NoReturn:
  """Ends the process without cleanup, because running computations can crash the interpreter."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def show_log() -> None:
  """Shows this library's log as plain lines on standard error; of other libraries only errors."""
  absl.logging.set_verbosity(absl.logging.ERROR)  # TFDS warns about what the library raises
  logger, handler = logging.getLogger("aevb_jax"), logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(message)s"))
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  logger.propagate = False


def fail(message: str, status: int) -> NoReturn:
  """Ends the program with one line on standard error."""
  print(f"error: {message}", file=sys.stderr)
  raise Exit(status)
