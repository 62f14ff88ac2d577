"""The first moments of a main, while Python imports the libraries, which takes seconds.

This module is imported before all others of `experiments`, so it imports next to nothing.
"""

import os
import signal
from types import FrameType

from experiments.launch import streams

ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


def begin() -> None:
  """Guards the standard streams, and ends with one line if a signal asks for it."""
  streams.open_missing()
  streams.guard()
  for number in ENDINGS:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
  """Ends the process at once: nothing has begun, and half-done imports cannot be undone."""
  try:
    os.write(2, f"error: {ENDINGS[signal.Signals(number)]}\n".encode())
  finally:
    os._exit(128 + number)  # as a shell reports it
