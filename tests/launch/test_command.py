"""A main that ends early prints one line, and its status says whose fault it was."""

import errno
import os
import signal
import sys
import time

import pytest

from aevb_jax.errors import ConfigError, GoneError, RunError, SaveError
from experiments.launch import command

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/points.csv")


@pytest.fixture(autouse=True)
def handlers():
  numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
  # Tests that run in the background of a shell ignore interrupts.
  before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize(
  "error, status, words",
  [
    (FULL, os.EX_IOERR, "/runs/points.csv cannot be written or read (No space left on device)"),
    (SaveError("/runs/1 cannot be written (x)"), os.EX_IOERR, "/runs/1 cannot be written (x)"),
    (GoneError("/runs/1 was moved"), os.EX_IOERR, "/runs/1 was moved"),
    (ConfigError("seed", 1, "is odd"), 2, "--seed=1: is odd"),
    (RunError("/runs/1", "holds none"), 2, "--workdir=/runs/1: holds none"),
    (MemoryError(), 1, "out of memory; a smaller model, --batch_size or number of samples"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (command.Terminated(signal.SIGTERM), 143, "terminated"),
    (command.Terminated(signal.SIGHUP), 129, "hung up"),
    (SystemExit(0), 1, "ended the program by sys.exit(0)"),
  ],
)
def test_an_error_is_a_line(error, status, words, capsys):
  def main():
    raise error

  assert command.status_of(main) == status
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ") and words in line


def test_a_mistake_of_ours_keeps_its_traceback():
  def main():
    raise KeyError("a bug")

  with pytest.raises(KeyError):
    command.status_of(main)


def test_without_devices_it_says_so_and_not_what_broke(monkeypatch, capsys):
  def none():
    raise AssertionError

  def main():
    raise AssertionError

  monkeypatch.setattr("jax.devices", none)
  assert command.status_of(main) == 1
  assert "JAX has no devices to compute with" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_main_with_a_line(number, capsys):
  def main():
    os.kill(os.getpid(), number)
    signal.sigtimedwait([], 5)

  assert command.status_of(main) == 128 + number
  assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_signal_that_python_ignored_is_sent_again(monkeypatch, capsys):
  """Python prints an exception of a finalizer as ignored, so the exception ends nothing."""
  monkeypatch.setattr(command, "UNHEARD", 0.3)
  monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)

  class Finalized:
    def __del__(self):
      os.kill(os.getpid(), signal.SIGINT)
      time.sleep(0.05)

  def main():
    Finalized()
    time.sleep(30)

  began = time.monotonic()
  assert command.status_of(main) == 130
  assert time.monotonic() - began < 10 and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_an_exit_of_its_own_needs_no_words(capsys):
  def main():
    raise command.Exit(3)

  assert command.status_of(main) == 3
  assert capsys.readouterr() == ("", "")


def test_an_exit_with_a_status_is_that_of_the_program(capsys):
  def main():
    sys.exit(5)  # as a script does that has printed why

  assert command.status_of(main) == 5
  assert capsys.readouterr() == ("", "")
