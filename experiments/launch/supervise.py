"""Supervision of a process, because JAX's distributed runtime can end it without running Python.

When another process of the cluster dies, or does not come, the C++ client of
jax.distributed writes a stack trace and aborts, without notice to Python. So
the program runs in a child, and its parent prints in one line what happened.
"""

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from experiments.launch import streams
from experiments.launch.starting import ENDINGS

# The beginning of lines of Google's log, and the files of the distributed runtime.
LOG_LINE = re.compile(rb"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ (\w+)\.(?:cc|h):\d+\] ")
RUNTIME = re.compile(rb"coordination_service\w*|client|preemption_sync_manager|add_port")
CHATTER = b"[Gloo] Rank "  # printed at each connection
FATAL = b"the JAX distributed service detected fatal errors"
# Errors of a closed connection name these: collectives of CPUs and GPUs, and barriers.
CONNECTIONS = ("Gloo", "NCCL", "CoordinationService", "coordination service")
LEFT_ALONE = os.EX_TEMPFAIL  # status of `body` if it finds another process gone
FORK = multiprocessing.get_context("fork")


class Ending(NamedTuple):
  status: int  # the exit status: the child's, or 128 + the signal that killed it
  alone: bool  # whether it ended because other processes did not come, or are gone


def is_lost(error: BaseException) -> bool:
  """Reports whether an error, or its cause, says that another process is gone."""
  trace = "".join(traceback.format_exception(error))
  return any(name in trace for name in CONNECTIONS)


def run_watched(body: Callable[[], int]) -> Ending:
  """Runs `body` in a child of this process, in a group of its own, and waits for it.

  The child must be made before JAX has a backend, and with it threads. It has the
  standard streams of this process. Output that does not come from Python goes through
  a pipe to standard error, without the log of the distributed runtime, unless the
  child crashes for another reason. SIGINT, SIGTERM and SIGHUP are passed on.
  A child whose parent is gone ends at once.

  Args:
    body: returns the status to exit with; the child leaves without atexit handlers.

  Returns:
    The ending of the child; if a signal killed the child, a line says so first.
  """
  reading, writing = os.pipe()
  child = FORK.Process(target=_child, args=(body, reading, writing))
  child.start()
  os.close(writing)
  heard = [number for number in ENDINGS if signal.getsignal(number) != signal.SIG_IGN]
  for number in heard:
    signal.signal(number, lambda number, frame: os.kill(child.pid, number))
  withheld = []
  pump = threading.Thread(target=_pass_on, args=(open(reading, "rb"), withheld), daemon=True)
  pump.start()
  child.join()
  pump.join(timeout=2)  # a grandchild may still hold the pipe
  aborted = child.exitcode < 0 and any(FATAL in line for line in withheld)
  if aborted or child.exitcode == LEFT_ALONE:
    return Ending(LEFT_ALONE, True)
  if child.exitcode < 0:
    _write(b"".join(withheld))
    print(f"error: ended by {signal.Signals(-child.exitcode).name}", file=sys.stderr)
    return Ending(128 - child.exitcode, False)
  return Ending(child.exitcode, False)


def _child(body: Callable[[], int], reading: int, writing: int) -> None:
  os.close(reading)
  os.setpgid(0, 0)  # a terminal's interrupt comes once, from the parent
  for number in ENDINGS:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, signal.SIG_DFL)
  sys.stdout, sys.stderr = (streams.lasting(os.dup(n)) for n in (1, 2))
  os.dup2(writing, 1)
  os.dup2(writing, 2)
  os.close(writing)
  threading.Thread(target=_end_with_parent, daemon=True).start()
  status = 1
  try:
    status = body()
  finally:
    # Without atexit handlers, in which JAX would wait for the other processes.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


def _pass_on(pipe: BinaryIO, withheld: list[bytes]) -> None:
  """Copies output to standard error, but keeps back what the distributed runtime logs."""
  of_runtime = False
  for line in pipe:
    if start := LOG_LINE.match(line):
      of_runtime = bool(RUNTIME.fullmatch(start[1]))
    if of_runtime:
      withheld.append(line)
    elif not line.startswith(CHATTER):
      _write(line)


def _write(text: bytes) -> None:
  with contextlib.suppress(OSError):  # nobody reads it
    sys.stderr.buffer.write(text)
    sys.stderr.buffer.flush()
