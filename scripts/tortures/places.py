"""Directories whose names have a meaning in a shell, a pattern or a flag file."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from tortures import compare, contract, runs
from tortures.kills import newest
from tortures.runs import Case, Lab, Outcome

NAMES = {
  "brackets": "vae[beta=4]",
  "stars": "a*b?",
  "backslash": "back\\slash",
  "space": "with space",
  "letters": "ünïcode",
  "braces": "{x,y}",
}
EVALUATED = ("--num_points=20", "--importance_samples=20")


def cases(lab: Lab) -> Iterator[Case]:
  """Yields a whole run in every place, and one in a subdirectory that is stopped and resumed."""
  for word, directory in NAMES.items():
    for what, check in (("in", _ends), ("below", _resumes)):
      name = f"places/{word} {what}"
      yield Case(name, functools.partial(check, lab, name, directory))


def _ends(lab: Lab, name: str, directory: str) -> Outcome:
  """Trains to the end, and lets the mains that read a run read it."""
  place = lab.new(name)
  workdir = place / directory
  problems = contract.faults(contract.train(lab, lab.flags_of("short"), workdir), 0)
  problems += compare.differences(workdir, runs.uninterrupted(lab, "short"))
  return contract.outcome(problems + _read(lab, workdir), "trained", place)


def _resumes(lab: Lab, name: str, directory: str) -> Outcome:
  """Stops a run halfway, and lets the same command resume it."""
  place = lab.new(name)
  workdir = place / directory / "child"
  ended = contract.stop_halfway(lab, lab.flags_of("short"), workdir)
  saved = r"stopped by SIGTERM; the state after [\d,]+ training samples is in {}; .+ resumes .+"
  where = re.escape(str(workdir / "checkpoints" / str(newest(workdir))))
  problems = contract.faults(ended, 143, line=saved.format(where))
  problems += _read(lab, workdir, evaluate=False)
  problems += contract.resumes(lab, workdir, "short", newest(workdir))
  return contract.outcome(problems, "resumed", place)


def _read(lab: Lab, workdir: Path, *, evaluate: bool = True) -> list[str]:
  """Lists what is wrong with the output of status and evaluate for a run."""
  status = contract.train(lab, ("--check",), workdir, main="status")
  problems = [f"status: {fault}" for fault in contract.faults(status, 0)]
  if status.out.count(", intact") != len(runs.steps(workdir)):
    problems.append(f"status does not find its checkpoints intact: {status.out[-300:]!r}")
  if evaluate:
    ended = contract.train(lab, EVALUATED, workdir, main="evaluate")
    problems += [f"evaluate: {fault}" for fault in contract.faults(ended, 0)]
  return problems
