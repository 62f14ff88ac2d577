"""SIGKILL while a checkpoint replaces the one of the same step.

A run that is stopped where a row is due saves this step without the row. The same command then
evaluates, and saves the step again with another record. The run has no other checkpoint.
"""

import functools
import time
from collections.abc import Iterator
from pathlib import Path

from tortures import compare, contract, kills, runs
from tortures.runs import Case, Lab, Outcome

RARELY = ("--checkpoint_every=3600",)
LONGEST = 0.5  # seconds after the first change of the directory


def cases(lab: Lab, number: int) -> Iterator[Case]:
  """Yields this number of kills, each of a run of its own."""
  for i in range(number):
    name = f"replacing/{i}"
    yield Case(name, functools.partial(_killed, lab, name))


def _killed(lab: Lab, name: str) -> Outcome:
  source, draw = contract.stopped(lab, "short", RARELY), lab.random(name)
  step = _only_step(source)
  workdir = contract.copied(lab, name, source)
  before = set(runs.checkpoint_names(workdir))
  started = runs.start(lab, (*lab.flags_of("short"), *RARELY), workdir)
  if runs.until(lambda: set(runs.checkpoint_names(workdir)) != before, started):
    time.sleep(draw.uniform(0, LONGEST))
  started.process.kill()
  killed = started.process.wait() < 0
  note = _hit(workdir, step) if killed else "ended before"
  problems = contract.unreadable(workdir, step)
  problems += contract.resumes(lab, workdir, "short", step, RARELY)
  return contract.outcome(problems, note, workdir)


def _only_step(source: Path) -> int:
  """Returns the step of the only checkpoint, whose record has no row of that step.

  Raises:
    RuntimeError: if it is another kind of checkpoint, so that nothing would be replaced.
  """
  saved = runs.steps(source)
  rows = compare.record(source, saved[-1])["record"]["runs"][""]["rows"]
  if len(saved) > 1 or rows[-1]["step"] >= saved[-1]:
    raise RuntimeError(f"{source} has checkpoints {saved} and rows to {rows[-1]['step']}")
  return saved[-1]


def _hit(workdir: Path, step: int) -> str:
  """Names what a kill hit, judged by the files."""
  if kills.being_written(workdir):
    return "while it was written"
  saved = runs.steps(workdir)
  if step not in saved:
    return "between the two"
  return "later" if saved[-1] > step else "replaced"
