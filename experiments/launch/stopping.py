"""Early ends of a run: by signals, checked between two chunks of training, or by errors.

The computation that runs when the first signal arrives is finished and saved. A second SIGINT ends
the process at once, whatever it is doing.
"""

import contextlib
import os
import pathlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

from aevb_jax.runs import directory, files
from aevb_jax.runs.directory import CHECKPOINTS
from aevb_jax.runs.loop import Stopped
from aevb_jax.training import checkpoint
from experiments.launch import command, supervise
from experiments.launch.starting import ENDINGS


@contextlib.contextmanager
def heard() -> Iterator[Callable[[], int]]:
  """Yields a function that returns the signal that asked the process to stop; 0 if none has.

  A thread receives the signals, because the interpreter's own handlers have to wait until a
  compiled program returns. Signals that the process already ignores stay ignored.
  """
  reading, writing = socket.socketpair()
  writing.setblocking(False)
  received = []
  before = {n: signal.getsignal(n) for n in ENDINGS if signal.getsignal(n) != signal.SIG_IGN}

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
    writing.close()  # ends the watcher
    watcher.join()
    reading.close()


def _end_at_once(number: int) -> None:
  print("error: ended before it was saved; the same command resumes from the last checkpoint",
        file=sys.stderr, flush=True)  # fmt: skip
  os._exit(128 + number)


def _last_saved(workdir: pathlib.Path) -> tuple[pathlib.Path, int] | None:
  """Returns the newest checkpoint of a run, or of the runs below it, and its step."""
  own = workdir / CHECKPOINTS
  places = [own] if checkpoint.steps(own) else workdir.glob(f"**/{CHECKPOINTS}")
  last = [(place, steps[-1]) for place in places if (steps := checkpoint.steps(place))]
  found = [(checkpoint.place_of(*at), at[1]) for at in last]
  return max(found, key=lambda at: at[0].stat().st_mtime_ns, default=None)


@contextlib.contextmanager
def telling_what_is_safe(
  workdir: pathlib.Path,
  batch_size: int,
  *,
  is_named: bool = True,
  remedy: str = "a smaller --step_size may help",
) -> Iterator[None]:
  """Ends the program with one line if training, or the work after it, does not complete.

  Args:
    workdir: the directory that has checkpoints, in it or in the directories of its runs.
    batch_size: M, the samples of a step.
    is_named: whether the command names the directory.
    remedy: a possible remedy for numbers that are not finite.
  """

  def safe() -> str:
    if not (last := _last_saved(workdir)):
      return f"nothing is saved in {workdir} yet"
    path, step = last
    saved = f"the state after {step * batch_size:,} training samples is in {path}"
    named = "" if is_named else f" with --workdir={workdir}"
    return f"{saved}; the same command{named} resumes from there"

  try:
    yield
  except Stopped as stop:
    name = signal.Signals(stop.number).name
    command.fail(f"stopped by {name}; {safe()}", 128 + stop.number)  # as a shell reports it
  except KeyboardInterrupt:
    command.fail(f"{ENDINGS[signal.SIGINT]}; {safe()}", 128 + signal.SIGINT)
  except command.Terminated as ended:
    command.fail(f"{ENDINGS[ended.number]}; {safe()}", 128 + ended.number)
  except FloatingPointError as stop:
    command.fail(f"{stop}; {safe()}; {remedy}", 1)
  except (OSError, checkpoint.SaveError) as error:
    if supervise.is_lost(error):  # the error is that another process is gone
      raise
    directory.refuse_if_gone(workdir)
    command.fail(f"{files.error_in_words(error)}; {safe()}", os.EX_IOERR)
