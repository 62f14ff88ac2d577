"""SIGKILL at random moments of a run; in the end it has to equal the run that was not killed."""

import contextlib
import os
import pathlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator

from tortures import compare, runs
from tortures.runs import Case, Lab, Outcome, Started

KILLS_PER_RUN = 5
# The events that kills are aimed at, and their weights.
AIMS = {"checkpoint": 8, "steps": 4, "row": 3, "torn row": 1, "start": 2, "end": 2}
# The tolerance for sums over several devices instead of one, after some hundred steps.
ROUNDING = 1e-3


def kills(lab: Lab, number: int) -> Iterator[Case]:
  """Yields this number of kills, in turn for every kind of run."""
  kinds = [kind for kind in runs.KINDS if kind != "short"] + ["frey_face"] * bool(lab.data)
  for i, kind in enumerate(kinds):
    share = number // len(kinds) + (i < number % len(kinds))
    for first in range(0, share, KILLS_PER_RUN):
      name, here = f"kills/{kind}.{first // KILLS_PER_RUN}", min(KILLS_PER_RUN, share - first)
      yield Case(name, lambda kind=kind, name=name, here=here: _killed(lab, name, kind, here))


def devices(lab: Lab) -> Iterator[Case]:
  """Yields kills after each of which the run resumes with another number of devices."""
  for counts in ((1, 2), (2, 1)):
    name = f"devices/{counts[0]} to {counts[1]}"
    yield Case(name, lambda counts=counts, name=name: _moved(lab, name, counts))


def _killed(lab: Lab, name: str, kind: str, number: int) -> Outcome:
  """Kills a run `number` times, or several runs if it ends before; all resume and end."""
  draw, done, hits, problems = lab.random(name), 0, Counter(), []
  expected, end = runs.uninterrupted(lab, kind), runs.last_step(lab, kind)
  while (left := number - done) > 0:
    workdir, saved, wrong = lab.new(name), 0, []
    aims = draw.choices(list(AIMS), AIMS.values(), k=left)
    places = sorted((dict(start=0.0, end=1.0).get(aim, draw.uniform(0, 0.95)), aim) for aim in aims)
    for place, aim in [*places, (None, "nothing")]:
      started = runs.start(lab, lab.flags_of(kind), workdir)
      killed = aim != "nothing" and _kill_at(
        started, aim, step=round(place * end), saved=saved, end=end, draw=draw
      )
      if not killed and (status := runs.end(started).status):
        wrong.append(f"status {status}")
      wrong += _wrong_with_start(lab, kind, started, saved)
      if not killed:
        break  # it has ended
      hits.update(_hit(workdir, end, aim))
      done += 1
      saved = newest(workdir)
    wrong += compare.differences(workdir, expected)
    problems += wrong
    if not wrong:
      shutil.rmtree(workdir)
  return Outcome(number, problems, hits)


def newest(workdir: pathlib.Path) -> int:
  return max(runs.steps(workdir), default=0)


def _kill_at(
  started: Started, aim: str, *, step: int, saved: int, end: int, draw: random.Random
) -> bool:
  """Kills a run after it has trained past a step, at the event that is aimed at.

  Returns:
    False if the run ended before.
  """
  workdir = started.workdir
  if aim == "start":
    time.sleep(draw.uniform(0, 6))  # while it imports, reads, compiles and restores
  elif aim == "end":
    trained = lambda: (
      newest(workdir) == end and (saved < end or "resuming after" in started.printed)
    )
    runs.until(trained, started)
    time.sleep(draw.uniform(0, 4))  # while it evaluates, draws and sums up
  else:
    runs.until(lambda: newest(workdir) >= max(step, saved + 1), started)
  if aim == "checkpoint":
    runs.until(lambda: being_written(workdir), started)
    time.sleep(draw.choice([0, 1e-3, 0.02]) * draw.random())
  elif aim == "steps":
    time.sleep(draw.uniform(0, 0.3))
  elif aim in ("row", "torn row"):
    size = _size_of_tables(workdir)
    runs.until(lambda: _size_of_tables(workdir) > size, started)
  started.process.kill()
  killed = started.process.wait() < 0
  if killed and aim == "torn row":
    for table in _tables(workdir):
      _tear(table, draw)
  return killed


def _tear(file: pathlib.Path, draw: random.Random) -> None:
  """Cuts the last row short, as a crash of the machine can."""
  contents = file.read_bytes()
  start = contents.rstrip().rfind(b"\n") + 1
  os.truncate(file, draw.randint(start + 1, len(contents) - 1))


def _hit(workdir: pathlib.Path, end: int, aim: str) -> list[str]:
  """Names what a kill hit, judged by the files; it can be a checkpoint and a row."""
  saved, tables = newest(workdir), _tables(workdir)
  if aim == "torn row":
    return ["row cut short"]
  of_runs = compare.record(workdir, saved)["record"]["runs"] if saved else {"": dict(rows=[])}
  in_record = max(len(run["rows"]) for run in of_runs.values())
  written = max((len(compare.rows(table)) for table in tables), default=0)
  hit = ["checkpoint being written"] * being_written(workdir)
  hit += ["row not in a checkpoint yet"] * (written > in_record)
  if saved == end:
    return hit or ["after training"]
  return hit or ["start" if not tables or aim == "start" else "steps"]


def _wrong_with_start(lab: Lab, kind: str, started: Started, saved: int) -> list[str]:
  """Checks that a run that trains reports that it resumes from the newest checkpoint."""
  if started.complained:
    return [f"on standard error: {started.complained.strip()}"]
  (size,) = [f.split("=")[1] for f in lab.flags_of(kind) if "batch_size" in f] or ["100"]
  expected = f"resuming after {saved * int(size):,} training samples"
  trains = "resuming after" in started.printed or "samples   " in started.printed
  if saved and trains and expected not in started.printed:
    return [f"a checkpoint of step {saved} was there, and the run said {started.printed[:300]!r}"]
  return []


def being_written(workdir: pathlib.Path) -> bool:
  return any(runs.BEING_WRITTEN in name for name in runs.checkpoint_names(workdir))


def _tables(workdir: pathlib.Path) -> list[pathlib.Path]:
  """Returns metrics.csv of a run, or of the members of a sweep."""
  return [*workdir.glob("metrics.csv"), *workdir.glob("*/metrics.csv")]


def _size_of_tables(workdir: pathlib.Path) -> int:
  with contextlib.suppress(FileNotFoundError):  # a table that is being replaced
    return sum(table.stat().st_size for table in _tables(workdir))
  return 0


def _moved(lab: Lab, name: str, counts: tuple[int, int]) -> Outcome:
  expected, workdir = runs.uninterrupted(lab, "short"), lab.new(name)
  flags = lab.flags_of("short")  # two devices share a minibatch of 100 evenly
  env = [dict(JAX_NUM_CPU_DEVICES=str(count)) for count in counts]
  started = runs.start(lab, flags, workdir, env=env[0])
  half = runs.last_step(lab, "short") // 2
  problems = []
  if not runs.until(lambda: max(runs.steps(workdir), default=0) >= half, started):
    problems.append("it ended before it was killed")
  runs.kill(started)
  ended = runs.run(lab, flags, workdir, env=env[1])
  if f", on {counts[1]} × ".replace("1 × ", "") not in ended.out:
    problems.append(f"it does not report its devices: {ended.out[:200]!r}")
  if ended.status or ended.err or "resuming after" not in ended.out:
    problems.append(f"status {ended.status}: {ended.out[:200]!r} {runs.in_words(ended)}")
  problems += compare.differences(workdir, expected, rtol=ROUNDING)
  if not problems:
    shutil.rmtree(workdir)
  return Outcome(1, problems)
