"""Signals that ask a run to stop: SIGINT and SIGTERM are heard between two chunks of training.

What is computed when the first arrives is finished and saved. A second SIGINT ends the process
at once, whatever it is doing.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

ASKED = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
  """A run that was asked to stop, and did."""

  def __init__(self, number: int):
    super().__init__(signal.Signals(number).name)
    self.status = 128 + number  # as a shell reports it


@contextlib.contextmanager
def heard() -> Iterator[Callable[[], int]]:
  """A function that tells which signal asked the process to stop; 0 if none has.

  A thread hears of them, as the interpreter's own handlers have to wait until a compiled
  program returns. Signals that the process ignores it goes on to ignore.
  """
  reading, writing = socket.socketpair()
  writing.setblocking(False)
  received = []
  before = {n: signal.getsignal(n) for n in ASKED if signal.getsignal(n) != signal.SIG_IGN}

  def watch() -> None:
    while number := int.from_bytes(reading.recv(1)):
      if received and number == signal.SIGINT:
        _end_at_once(number)
      if number in before and not received:
        received.append(number)
        name = signal.Signals(number).name
        hint = "; again to stop at once" if number == signal.SIGINT else ""
        print(f"{name}: stops as soon as it has saved its state{hint}", file=sys.stderr)

  watcher = threading.Thread(target=watch, daemon=True)
  watcher.start()
  for number in before:
    signal.signal(number, lambda number, frame: None)
  old_fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
  try:
    yield lambda: received[0] if received else 0
  finally:
    signal.set_wakeup_fd(old_fd)
    for number, handler in before.items():
      signal.signal(number, handler)
    writing.close()  # which ends the watcher
    watcher.join()
    reading.close()


def _end_at_once(number: int) -> None:
  print("error: ended before it was saved; the same command goes on from the last checkpoint",
        file=sys.stderr, flush=True)  # fmt: skip
  os._exit(128 + number)
