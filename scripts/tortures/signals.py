"""Runs that are asked to stop, before and while they train, and a second start."""

import contextlib
import functools
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tortures import compare, contract, runs
from tortures.kills import newest
from tortures.runs import Case, Lab, Outcome

SLOW = (
  "--hidden_dim=1500",
  "--batch_size=1400",
  "--num_examples=100000000",
  "--num_importance_samples=0",
)  # a chunk takes many seconds
NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Seconds after the start at which a run that has not trained yet gets a signal.
MOMENTS = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5)


def cases(lab: Lab) -> Iterator[Case]:
  """Yields signals to runs of several kinds while they train, and to one before it trains."""
  for number in NUMBERS:
    for kind in ("aevb", "mcem", "sweep"):
      name = f"signals/{number.name} {kind}"
      yield Case(name, functools.partial(_stopped, lab, name, kind, number, 128 + number))
    name = f"signals/{number.name} early"
    yield Case(name, functools.partial(_early, lab, name, number))
  yield Case("signals/twice", lambda: _twice(lab, "signals/twice"))
  yield Case("signals/second start", lambda: _second_start(lab, "signals/second start"))


def _stopped(lab: Lab, name: str, kind: str, number: signal.Signals, status: int) -> Outcome:
  """Sends a signal at a random time of the training loop."""
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
    rf"{re.escape(str(workdir))}/checkpoints/{newest(workdir)}; the same command resumes from there"
    "\n"
  )
  if ended.status != status or not re.fullmatch(words, ended.err):
    problems.append(f"status {ended.status}: {ended.err[:2000]}")
  problems += runs.complete(lab, flags, workdir)
  problems += compare.differences(workdir, runs.uninterrupted(lab, kind))
  if not problems:
    shutil.rmtree(workdir)
  return Outcome(1, problems, Counter([number.name]))


def _early(lab: Lab, name: str, number: signal.Signals) -> Outcome:
  """Sends a signal at many moments before training; then the same command trains to the end.

  In the first instants of Python there is no handler, and the system ends the process, which a
  shell reports with the same status.
  """
  workdir = lab.new(name)
  wrong = {moment: _ended_early(lab, workdir, number, moment) for moment in MOMENTS}
  problems = [
    f"after {moment} s: {'; '.join(faults)}" for moment, faults in wrong.items() if faults
  ]
  held = len(MOMENTS) - len(problems)
  if afterwards := contract.resumes(lab, workdir, "short"):
    problems, held = problems + afterwards, 0
  if not problems:
    shutil.rmtree(workdir)
  return Outcome(len(MOMENTS), problems, Counter({f"{number.name} early": len(MOMENTS)}), held=held)


def _ended_early(lab: Lab, workdir: Path, number: signal.Signals, moment: float) -> list[str]:
  """Lists what is wrong with the end of a run that gets a signal `moment` seconds after its start.

  Python itself handles SIGINT from the beginning, and would print a traceback, so SIGINT is sent
  as soon as the program has its own handlers.
  """
  if contract.finished(workdir):  # if the signal of the moment before had no handler
    shutil.rmtree(workdir)
  started = runs.start(lab, lab.flags_of("short"), workdir)
  began = time.monotonic()
  if number == signal.SIGINT:
    runs.until(lambda: _is_heard(started, signal.SIGTERM), started)
  time.sleep(max(0.0, began + moment - time.monotonic()))
  heard = _is_heard(started, number)
  started.process.send_signal(number)
  ended = runs.end(started, contract.SECONDS_TO_ANSWER)
  if heard or ended.status != -number or ended.err:
    return contract.faults(ended, 128 + number)
  return []


def _is_heard(started: runs.Started, number: signal.Signals) -> bool:
  """Reports whether a process has a handler for a signal."""
  with contextlib.suppress(OSError):
    with open(f"/proc/{started.process.pid}/status") as status:
      caught = next(line for line in status if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
  return False


def _twice(lab: Lab, name: str) -> Outcome:
  """Ends a run in the middle of a chunk by a second SIGINT."""
  workdir, problems = lab.new(name), []
  started = runs.start(lab, SLOW, workdir)
  runs.until(lambda: (workdir / "metrics.csv").exists(), started)
  time.sleep(3)  # it compiles, then trains
  started.process.send_signal(signal.SIGINT)
  runs.until(lambda: "again to stop at once" in started.complained, started)
  began = time.monotonic()
  started.process.send_signal(signal.SIGINT)
  ended = runs.end(started)
  if (seconds := time.monotonic() - began) > 3:
    problems.append(f"it took {seconds:.1f} s to end")
  *_, last = ended.err.splitlines() or [""]
  words = "error: ended before it was saved; the same command resumes from the last checkpoint"
  if ended.status != 130 or last != words:
    problems.append(f"status {ended.status}: {ended.err[:2000]}")
  if len(ended.err.splitlines()) != 2:
    problems.append(f"on standard error: {ended.err[:2000]}")
  return Outcome(1, problems, Counter(["SIGINT twice"]))


def _second_start(lab: Lab, name: str) -> Outcome:
  """Checks that a second start is refused as long as the first lives, and no longer."""
  workdir, flags, problems = lab.new(name), lab.flags_of("aevb"), []
  started = runs.start(lab, flags, workdir)
  runs.until(lambda: newest(workdir) > 0, started)
  started.process.send_signal(signal.SIGSTOP)  # so that it still runs when the second starts
  second = runs.run(lab, flags, workdir)
  words = rf"error: --workdir=\S+: is in use by process {started.process.pid} on .+; wait .+"
  if second.status != 2 or not re.fullmatch(words, second.err.strip()):
    problems.append(f"status {second.status}: {second.err[:2000]}")
  runs.kill(started)
  problems += runs.complete(lab, flags, workdir)
  problems += compare.differences(workdir, runs.uninterrupted(lab, "aevb"))
  if not problems:
    shutil.rmtree(workdir)
  return Outcome(1, problems, Counter(["second start refused"]))
