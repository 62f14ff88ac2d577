"""Runs that are asked to stop, and a second start of one that lives."""

import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator

from tortures import compare, runs
from tortures.kills import newest
from tortures.runs import Case, Lab, Outcome

SLOW = (
  "--hidden_dim=1500",
  "--batch_size=1400",
  "--num_examples=100000000",
  "--num_importance_samples=0",
)  # a chunk takes many seconds


def cases(lab: Lab) -> Iterator[Case]:
  for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
    for kind in ("aevb", "mcem", "sweep"):
      name = f"signals/{number.name} {kind}"
      yield Case(name, lambda n=name, k=kind, s=(number, status): _stopped(lab, n, k, *s))
  yield Case("signals/twice", lambda: _twice(lab, "signals/twice"))
  yield Case("signals/second start", lambda: _second_start(lab, "signals/second start"))


def _stopped(lab: Lab, name: str, kind: str, number: signal.Signals, status: int) -> Outcome:
  """At a random time of the loop."""
  draw, workdir, flags = lab.random(name), lab.new(name), lab.flags_of(kind)
  step = draw.uniform(0, 0.8) * runs.last_step(lab, kind)
  started = runs.start(lab, flags, workdir)
  runs.until(lambda: newest(workdir) >= max(1, step), started)
  time.sleep(draw.uniform(0, 0.2))
  started.process.send_signal(number)
  ended, problems = runs.end(started), []
  hint = "; again to stop at once" * (number == signal.SIGINT)
  words = (
    rf"{number.name}: stops as soon as it has saved its state{hint}\n"
    rf"error: stopped by {number.name}; the state after [\d,]+ training samples is in "
    rf"{re.escape(str(workdir))}/checkpoints/{newest(workdir)}; the same command goes on from there"
    "\n"
  )
  if ended.status != status or not re.fullmatch(words, ended.err):
    problems.append(f"status {ended.status}: {ended.err[:2000]}")
  problems += runs.complete(lab, flags, workdir)
  problems += compare.differences(workdir, runs.uninterrupted(lab, kind))
  if not problems:
    shutil.rmtree(workdir)
  return Outcome(1, problems, Counter([number.name]))


def _twice(lab: Lab, name: str) -> Outcome:
  """A second SIGINT ends a run in the middle of a chunk."""
  workdir, problems = lab.new(name), []
  started = runs.start(lab, SLOW, workdir)
  runs.until(lambda: (workdir / "metrics.csv").exists(), started)
  time.sleep(3)  # compiles, then trains
  started.process.send_signal(signal.SIGINT)
  runs.until(lambda: "again to stop at once" in started.complained, started)
  began = time.monotonic()
  started.process.send_signal(signal.SIGINT)
  ended = runs.end(started)
  if (seconds := time.monotonic() - began) > 3:
    problems.append(f"it took {seconds:.1f} s to end")
  *_, last = ended.err.splitlines() or [""]
  if ended.status != 130 or not last.startswith("error: interrupted twice; the same command"):
    problems.append(f"status {ended.status}: {ended.err[:2000]}")
  if len(ended.err.splitlines()) != 2:
    problems.append(f"on standard error: {ended.err[:2000]}")
  return Outcome(1, problems, Counter(["SIGINT twice"]))


def _second_start(lab: Lab, name: str) -> Outcome:
  """Refused as long as the first lives, and no longer."""
  workdir, flags, problems = lab.new(name), lab.flags_of("aevb"), []
  started = runs.start(lab, flags, workdir)
  runs.until(lambda: newest(workdir) > 0, started)
  started.process.send_signal(signal.SIGSTOP)  # so that it lives long enough
  second = runs.run(lab, flags, workdir)
  words = (
    rf"error: --workdir=\S+: is of a run that is going on \(process {started.process.pid} on .+\)"
  )
  if second.status != 2 or not re.fullmatch(words, second.err.strip()):
    problems.append(f"status {second.status}: {second.err[:2000]}")
  runs.kill(started)
  problems += runs.complete(lab, flags, workdir)
  problems += compare.differences(workdir, runs.uninterrupted(lab, "aevb"))
  if not problems:
    shutil.rmtree(workdir)
  return Outcome(1, problems, Counter(["second start refused"]))
