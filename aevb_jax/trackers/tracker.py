"""A tracker of one run, and the file in which a run remembers what it needs to be resumed."""

import contextlib
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from aevb_jax import disk

NOTE = "tracked.json"  # in the directory of the run


class Tracker(NamedTuple):
  """The functions that follow one run, after it was started.

  Attributes:
    log: (step, row) -> None; tracks the numbers of a row at a step, in training samples.
    finish: summary -> None; ends with the entries of summary.json, or with None if the run was
      interrupted or did not complete. Nothing is called after it.
    last: the step of the last row that is tracked already, of a run that is resumed; None if the
      tracker cannot say, and then `NOTE` has it.
  """

  log: Callable[[int, dict[str, float]], None]
  finish: Callable[[dict[str, Any] | None], None]
  last: int | None = None


def note(workdir: pathlib.Path, name: str, **entries: Any) -> dict[str, Any]:
  """Reads what a run remembers of a tracked run, such as its id, and adds to it.

  Args:
    workdir: the directory of the run.
    name: the tracker.
    **entries: what is added or replaced, as JSON holds it.

  Returns:
    All entries; none if the file is missing or damaged.
  """
  path, notes = workdir / NOTE, {}
  with contextlib.suppress(OSError, ValueError, TypeError):
    notes = {key: dict(value) for key, value in json.loads(disk.read_text(path)).items()}
  if entries:
    notes[name] = notes.get(name, {}) | entries
    with disk.whole(path) as file:
      file.write(json.dumps(notes, indent=2).encode() + b"\n")
  return notes.get(name, {})
