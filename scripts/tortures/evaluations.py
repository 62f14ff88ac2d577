"""Two evaluations at once, edited tables of points, and an evaluation that is killed."""

import functools
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tortures import compare, contract, runs
from tortures.runs import Case, Ended, Lab, Outcome, Started

NUM_POINTS, KILLS = 200, 5
LONG = (f"--num_points={NUM_POINTS}", "--importance_samples=20000")  # takes a few seconds
SHORT = (f"--num_points={NUM_POINTS}", "--importance_samples=20")
RESULTS = "importance-test"
DIGITS = 1e-8  # points.csv, which the same command reads again, has nine digits


def _doubled(lines: list[str]) -> list[str]:
  return [*lines[:1], *(line for line in lines[1:] for _ in range(2))]


def _one_missing(lines: list[str]) -> list[str]:
  return [*lines[: len(lines) // 2], *lines[len(lines) // 2 + 1 :]]


def _shuffled(lines: list[str]) -> list[str]:
  return [lines[0], *reversed(lines[1:])]


EDITS: dict[str, Callable[[list[str]], list[str]]] = {
  "doubled": _doubled,
  "one missing": _one_missing,
  "shuffled": _shuffled,
}


def cases(lab: Lab) -> Iterator[Case]:
  """Yields evaluations of copies of one finished run."""
  for what, check in (
    ("at once", _at_once),
    ("one after another", _one_waits),
    ("killed", _killed),
  ):
    name = f"evaluations/{what}"
    yield Case(name, functools.partial(check, lab, name))
  for what, edit in EDITS.items():
    name = f"evaluations/{what}"
    yield Case(name, functools.partial(_edited, lab, name, edit))


def _start(lab: Lab, workdir: Path) -> Started:
  return runs.start(lab, LONG, workdir, main="evaluate")


def _at_once(lab: Lab, name: str) -> Outcome:
  """Starts two evaluations at the same moment."""
  workdir = contract.copied(lab, name, runs.uninterrupted(lab, "short"))
  started = [_start(lab, workdir), _start(lab, workdir)]
  return _judged(lab, workdir, [runs.end(one, contract.SECONDS_TO_ANSWER) for one in started])


def _one_waits(lab: Lab, name: str) -> Outcome:
  """Starts a second evaluation while the first is held in the middle of its points."""
  workdir = contract.copied(lab, name, runs.uninterrupted(lab, "short"))
  first = _start(lab, workdir)
  runs.until(lambda: (workdir / RESULTS / "settings.json").exists(), first)
  first.process.send_signal(signal.SIGSTOP)  # so that it still runs when the second starts
  second = runs.end(_start(lab, workdir), contract.SECONDS_TO_ANSWER)
  first.process.send_signal(signal.SIGCONT)
  return _judged(lab, workdir, [runs.end(first, contract.SECONDS_TO_ANSWER), second])


def _judged(lab: Lab, workdir: Path, ended: list[Ended]) -> Outcome:
  """Checks that one of two has all points, the other was refused, and a third finds the same."""
  statuses = sorted(end.status if end.status is not None else -1 for end in ended)
  problems = [] if statuses == [0, 2] else [f"they ended with {statuses}, not 0 and 2"]
  problems += [fault for end in ended for fault in contract.faults(end, 0, 2)]
  problems += _wrong_points(workdir)
  mean = _mean(workdir)
  again = contract.train(lab, LONG, workdir, main="evaluate")
  problems += contract.faults(again, 0)
  if not math.isclose(mean, _mean(workdir), rel_tol=DIGITS):
    problems.append(f"the mean was {mean}, and is {_mean(workdir)} by the same command again")
  return contract.outcome(problems, "one of two", workdir)


def _wrong_points(workdir: Path) -> list[str]:
  points = [int(row["point"]) for row in compare.rows(workdir / RESULTS / "points.csv")]
  if points == list(range(NUM_POINTS)):
    return []
  return [f"points.csv has {len(points)} rows, and not 0 to {NUM_POINTS - 1}: {points[:12]}"]


def _mean(workdir: Path) -> float:
  file = workdir / RESULTS / "summary.json"
  return json.loads(file.read_text())["log_p"] if file.exists() else math.nan


def _edited(lab: Lab, name: str, edit: Callable[[list[str]], list[str]]) -> Outcome:
  """Edits the points of an evaluation, and repeats it."""
  workdir = contract.copied(lab, name, runs.uninterrupted(lab, "short"))
  problems = contract.faults(contract.train(lab, SHORT, workdir, main="evaluate"), 0)
  points = workdir / RESULTS / "points.csv"
  points.write_text("".join(edit(points.read_text().splitlines(keepends=True))))
  edited = points.read_bytes()
  problems += contract.faults(contract.train(lab, SHORT, workdir, main="evaluate"), 2)
  if points.read_bytes() != edited:
    problems.append("it changed the table that it was to refuse")
  return contract.outcome(problems, "refused", workdir)


def _killed(lab: Lab, name: str) -> Outcome:
  """Kills an evaluation at random moments after its settings; each start resumes the one before."""
  expected, workdir = (
    contract.copied(lab, f"{name} {what}", runs.uninterrupted(lab, "short"))
    for what in ("uninterrupted", "again and again")
  )
  problems = contract.faults(contract.train(lab, LONG, expected, main="evaluate"), 0)
  draw, killed = lab.random(name), 0
  for _ in range(KILLS):
    started = _start(lab, workdir)
    runs.until(lambda: (workdir / RESULTS).exists(), started)
    time.sleep(draw.uniform(0, 2.5))
    started.process.kill()
    killed += started.process.wait() < 0
  problems += contract.faults(contract.train(lab, LONG, workdir, main="evaluate"), 0)
  tables = [(place / RESULTS / "points.csv").read_bytes() for place in (workdir, expected)]
  if tables[0] != tables[1]:
    problems.append(f"points.csv differs from that of an uninterrupted one in {workdir}")
  return contract.outcome(problems, f"after {killed} kills", workdir, expected)
