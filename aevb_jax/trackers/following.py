"""Passes the rows of runs to trackers, each row once; a tracker that fails never ends a run."""

import contextlib
import logging
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from aevb_jax import names
from aevb_jax.trackers.event_files import tensorboard
from aevb_jax.trackers.libraries import LIBRARIES, mlflow, wandb
from aevb_jax.trackers.tracker import Tracker, note

LOGGER = logging.getLogger(__name__)
TAKES = "workdir, name, config"
OURS: dict[str, Callable[..., Tracker]] = dict(tensorboard=tensorboard, wandb=wandb, mlflow=mlflow)


class Start(NamedTuple):
  """A tracker that is named and can be started."""

  name: str  # as it was given
  begin: Callable[..., Tracker]  # (workdir, name, config, *, step) -> Tracker
  is_vital: bool = False  # whether its files are the run's own, so that a full disk ends the run


class Followed(NamedTuple):
  """A run that a tracker follows."""

  start: Start
  tracker: Tracker
  last: int  # the step of the last row that is tracked


class Tracking(NamedTuple):
  """The functions that pass several runs to several trackers; none of them fails.

  Attributes:
    begin: (workdir, name, config, rows so far) -> None; starts to follow the run in a directory.
    log: (workdir, rows) -> None.
    finish: (workdir, summary) -> None.
  """

  begin: Callable[[pathlib.Path, str, dict[str, Any], Sequence[dict]], None]
  log: Callable[[pathlib.Path, Sequence[dict]], None]
  finish: Callable[[pathlib.Path, dict[str, Any]], None]


def find(text: str) -> tuple[Start, ...]:
  """Finds the trackers that a text names, and imports their libraries.

  Args:
    text: names separated by commas, such as tensorboard,wandb:project=digits or my.module:tracker;
      "" for none.

  Returns:
    The trackers, each once.

  Raises:
    ValueError: if there is no such tracker, its library is not installed, or it does not take its
      arguments. The message is one line.
  """
  parts = [part.strip() for part in text.split(",")] if text.strip() else []
  return tuple(_find(part) for part in dict.fromkeys(parts))


def _find(text: str) -> Start:
  try:
    name, arguments = names.split(text, OURS)
    function = OURS[name] if name in OURS else names.load(name)
    names.check_call(function, "", "", {}, takes=TAKES, **arguments)
    if name in LIBRARIES:
      LIBRARIES[name]()
  except ValueError as error:
    raise ValueError(f"{text or 'a name between commas'}: {error}") from error
  if name == "tensorboard":
    return Start(text, tensorboard, is_vital=True)

  def begin(workdir: pathlib.Path, run: str, config: dict, *, step: int) -> Tracker:
    how: dict[str, Any] = dict(takes=TAKES, arguments=arguments, offered=dict(step=step))
    return names.call(function, workdir, run, config, **how)

  return Start(text, begin)


@contextlib.contextmanager
def tracking(starts: Sequence[Start]) -> Iterator[Tracking]:
  """Yields the functions that pass runs to trackers; at its end, it ends what did not finish.

  A tracker that fails is left out from then on, with one warning, and the run continues. Rows that
  are tracked already are not tracked again: a run that was killed makes the rows after its last
  checkpoint a second time, with the same numbers.

  Args:
    starts: the trackers, from `find`.
  """
  followed: dict[pathlib.Path, list[Followed]] = {}
  failed: set[str] = set()  # the names of the trackers that have failed, for any run

  def begin(workdir: pathlib.Path, name: str, config: dict, rows: Sequence[dict]) -> None:
    step = rows[-1]["examples_seen"] if rows else 0
    followed[workdir] = []
    for start in (start for start in starts if start.name not in failed):
      with _warning(start, failed):
        tracker = start.begin(workdir, name, config, step=step)
        last = note(workdir, start.name).get("step", -1) if tracker.last is None else tracker.last
        followed[workdir].append(Followed(start, tracker, last))
    log(workdir, rows)

  def log(workdir: pathlib.Path, rows: Sequence[dict]) -> None:
    for i, one in enumerate(followed.get(workdir, [])):
      with _warning(one.start, failed):
        for row in [] if one.start.name in failed else rows:
          followed[workdir][i] = one = _logged(one, workdir, row)

  def finish(workdir: pathlib.Path, summary: dict | None) -> None:
    for start, tracker, _ in followed.pop(workdir, []):
      with _warning(start, failed):
        tracker.finish(summary)

  def finish_all() -> None:
    for workdir in list(followed):
      finish(workdir, None)

  with contextlib.ExitStack() as stack:
    stack.callback(finish_all)
    yield Tracking(begin, log, finish)


def _logged(one: Followed, workdir: pathlib.Path, row: dict) -> Followed:
  """Logs a row, unless it is tracked already."""
  step = row["examples_seen"]
  if step <= one.last:
    return one
  one.tracker.log(step, row)
  if one.tracker.last is None:
    note(workdir, one.start.name, step=step)
  return one._replace(last=step)


@contextlib.contextmanager
def _warning(start: Start, failed: set[str]) -> Iterator[None]:
  """Turns the first error of a tracker into a warning, and suppresses its other errors."""
  try:
    yield
  except (Exception, SystemExit) as error:
    if start.is_vital and isinstance(error, OSError):
      raise
    if start.name not in failed:
      is_told = isinstance(error, ValueError) and error.__cause__  # by `names.call`
      what = str(error) if is_told else f"fails: {names.one_line(error)}"
      message = "warning: --tracker=%s: %s; the run continues without it"
      LOGGER.warning(message, start.name, what)
    failed.add(start.name)
