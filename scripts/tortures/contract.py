"""The contract of every attack: a run ends as without the attack, or is refused in one line.

An attack holds if the process ended in time, wrote no traceback, ended with an allowed status,
wrote exactly one line "error: ..." if that status is not 0, and lost nothing.
Lines that begin with "warning: ", and the answer to a signal, are allowed too.
"""

import re
import shutil
import signal
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from tortures import compare, runs
from tortures.kills import newest
from tortures.runs import Ended, Lab, Outcome

# A process has a minute to end once it can, and half a minute to start on a few busy cores.
SECONDS_TO_ANSWER = 90
PROGRESS = re.compile(r"warning: .*|SIG\w+: stops as soon as it has saved its state.*")
GOING_ON = re.compile(r"resuming after ([\d,]+) training samples")
ATTEMPTS = 15  # attempts at stopping a run that trains for a fraction of a second
BATCH_SIZE = 100


def answer(*arguments, **how) -> Ended:
  """Runs a main as `runs.launch` does, and kills it if it does not end in time."""
  return runs.end(runs.launch(*arguments, **how), SECONDS_TO_ANSWER)


def train(lab: Lab, flags: Sequence[str], workdir: Path, **how) -> Ended:
  """Runs a main with a --workdir as `runs.start` does, and kills it if it does not end in time."""
  return runs.end(runs.start(lab, flags, workdir, **how), SECONDS_TO_ANSWER)


def complaints(ended: Ended) -> list[str]:
  """Returns the lines of standard error that are neither warnings nor answers to a signal."""
  return [line for line in ended.err.splitlines() if not PROGRESS.fullmatch(line)]


def faults(ended: Ended, *statuses: int, line: str = ".+", most: int = 1) -> list[str]:
  """Lists how the end of a process breaks the contract.

  Args:
    ended: the process.
    statuses: the statuses that it may end with.
    line: a regular expression of what follows "error: " in its last line, if it failed.
    most: the largest number of lines of errors; two if a main started another that failed.
  """
  if ended.status is None:
    return [f"it had not ended after {SECONDS_TO_ANSWER} s: {ended.out[-200:]!r} {ended.err!r}"]
  lines, wrong = complaints(ended), []
  if ended.status not in statuses:
    wrong.append(f"status {ended.status}, not {' or '.join(map(str, statuses))}")
  if "Traceback" in ended.err:
    wrong.append("a traceback")
  elif ended.status == 0 and lines:
    wrong.append(f"{len(lines)} lines beside warnings")
  elif ended.status and not 1 <= len(lines) <= most:
    wrong.append(f"{len(lines)} lines and not one")
  elif ended.status and not all(text.startswith("error: ") for text in lines):
    wrong.append("a line that is no error")
  elif ended.status and not re.fullmatch(f"error: {line}", lines[-1]):
    wrong.append(f"no line {line!r}")
  said = ended.err.strip()
  said = said if len(said) < 900 else f"{said[:300]} ... {said[-600:]}"
  return [f"{', '.join(wrong)}: {said!r}"] if wrong else []


def outcome(problems: list[str], note: str, *rubbish: Path) -> Outcome:
  """Returns the outcome of one attack, and removes its directories if it held."""
  if not problems:
    for path in rubbish:
      shutil.rmtree(path, ignore_errors=True)
  return Outcome(1, ["; ".join(problems)] if problems else [], Counter([note]))


def resumes(
  lab: Lab, workdir: Path, kind: str, at_least: int = 0, flags: Sequence[str] = (), **how
) -> list[str]:
  """Lists what is wrong with a run that has to resume and end like the uninterrupted one.

  Args:
    lab: where the runs are.
    workdir: the directory of the run.
    kind: the kind of the run.
    at_least: the first step that it may resume from; 0 if it may start again from nothing.
    flags: flags in addition to the flags of the kind.
    how: other arguments of `runs.start`.
  """
  ended = train(lab, (*lab.flags_of(kind), *flags), workdir, **how)
  problems = faults(ended, 0)
  went_on = GOING_ON.search(ended.out)
  step = int(went_on[1].replace(",", "")) // BATCH_SIZE if went_on else 0
  if step < at_least and "finished before" not in ended.out:
    problems.append(f"it resumed from step {step}, and step {at_least} was saved")
  return problems + compare.differences(workdir, runs.uninterrupted(lab, kind))


def refused_or_equal(lab: Lab, ended: Ended, workdir: Path, kind: str, *statuses) -> list[str]:
  """Lists what is wrong with a run that may be refused with a given status, or ends equal."""
  if ended.status == 0:
    return faults(ended, 0) + compare.differences(workdir, runs.uninterrupted(lab, kind))
  return faults(ended, *(statuses or (2, 74)))


def lost(workdir: Path, before: Collection[int]) -> list[str]:
  """Lists the good checkpoints that are lost: moved away, deleted or damaged."""
  problems, now = [], runs.steps(workdir)
  if (workdir / "checkpoints-damaged").exists():
    problems.append("a good checkpoint is in checkpoints-damaged")
  later = [step for step in now if step > max(before)]
  if missing := sorted(set(before) - set(now))[len(later) :]:  # saving may remove the oldest
    problems.append(f"the checkpoints of steps {missing} are gone")
  return problems or unreadable(workdir, max(before))


def unreadable(workdir: Path, step: int) -> list[str]:
  """Lists why no checkpoint of this step or a later one can be read; empty if one can."""
  from aevb_jax.errors import CheckpointError
  from aevb_jax.training import checkpoint

  directory, reasons = workdir / "checkpoints", []
  with compare.READING, warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for found in reversed([n for n in checkpoint.steps(directory) if n >= step]):
      try:
        checkpoint.check(directory, found)
        return []
      except CheckpointError as error:
        reasons.append(f"step {found}: {error}")
  there = sorted(runs.checkpoint_names(workdir))
  return [f"no checkpoint of step {step} or later can be read ({reasons}); there are {there}"]


def num_rows(workdir: Path) -> int:
  """Returns the number of lines of metrics.csv."""
  try:
    return (workdir / "metrics.csv").read_bytes().count(b"\n")
  except OSError:
    return 0


def stop_halfway(
  lab: Lab, flags: Sequence[str], workdir: Path, number: int = signal.SIGTERM
) -> Ended:
  """Starts a run and stops it by a signal after two rows; tries again if it ended before."""
  for _ in range(ATTEMPTS):
    shutil.rmtree(workdir, ignore_errors=True)
    started = runs.start(lab, flags, workdir)
    runs.until(lambda: num_rows(workdir) > 2, started)
    if started.process.poll() is None:
      started.process.send_signal(number)
    ended = runs.end(started, SECONDS_TO_ANSWER)
    if ended.status == 128 + number and newest(workdir) and not finished(workdir):
      return ended
  raise RuntimeError(f"no run was stopped halfway: {ended}")


def finished(workdir: Path) -> bool:
  """Reports whether a run has its summary, which it writes last."""
  return (workdir / "summary.json").exists()


def stopped(lab: Lab, kind: str = "short", flags: Sequence[str] = ()) -> Path:
  """Returns the directory of a run of a kind that was stopped halfway, to be copied."""
  name = "-".join([kind, *(flag.strip("-").replace("=", "-") for flag in flags), "stopped"])
  workdir = lab.directory / name
  with runs.lock_of((lab.directory, name)):
    if not (workdir / "checkpoints").exists():
      stop_halfway(lab, (*lab.flags_of(kind), *flags), workdir)
  return workdir


def copied(lab: Lab, name: str, source: Path) -> Path:
  """Copies the directory of a run, for one attack."""
  workdir = lab.new(name)
  shutil.copytree(source, workdir, symlinks=True)
  return workdir
