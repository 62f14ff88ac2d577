"""The directory of a run that is moved away or removed while it trains."""

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

from tortures import contract, runs
from tortures.kills import newest
from tortures.runs import Case, Lab, Outcome


def cases(lab: Lab) -> Iterator[Case]:
  """Yields each attack for a run that saves often and for a run that seldom saves."""
  for often, flags in (("", ()), (" saved seldom", ("--checkpoint_every=3600",))):
    for what, check in (("renamed", _renamed), ("removed", _removed)):
      name = f"moved/{what}{often}"
      yield Case(name, functools.partial(check, lab, name, flags))


def _trained(lab: Lab, workdir: Path, flags: tuple[str, ...]) -> runs.Started:
  """Starts a run, and waits until it has made rows."""
  started = runs.start(lab, (*lab.flags_of("aevb"), *flags), workdir)
  saves = not flags
  runs.until(lambda: contract.num_rows(workdir) > 3 and newest(workdir) >= saves, started)
  return started


def _renamed(lab: Lab, name: str, flags: tuple[str, ...]) -> Outcome:
  """Moves the directory away and back."""
  workdir = lab.new(name)
  away = workdir.with_name(f"{workdir.name}-away")
  started = _trained(lab, workdir, flags)
  workdir.rename(away)
  problems = _ended(started, workdir)
  if workdir.exists():
    shutil.rmtree(workdir)
  away.rename(workdir)
  problems += contract.resumes(lab, workdir, "aevb", newest(workdir), flags)
  return contract.outcome(problems, "renamed", workdir)


def _removed(lab: Lab, name: str, flags: tuple[str, ...]) -> Outcome:
  """Removes the directory, and again if a file was just written into it."""
  workdir = lab.new(name)
  started = _trained(lab, workdir, flags)
  for _ in range(100):
    try:
      shutil.rmtree(workdir)
      break
    except FileNotFoundError:
      break
    except OSError:
      continue
  problems = _ended(started, workdir)
  shutil.rmtree(workdir, ignore_errors=True)
  return contract.outcome(problems, "removed", workdir)


def _ended(started: runs.Started, workdir: Path) -> list[str]:
  """Lists what is wrong with the end of a run that has lost its directory."""
  ended = runs.end(started, contract.SECONDS_TO_ANSWER)
  problems = ["status 0"] if ended.status == 0 else contract.faults(ended, 1, 2, 74)
  if found := sorted(str(path.relative_to(workdir)) for path in workdir.rglob("*")):
    problems.append(f"it made the directory again, with {found[:5]}")
  return problems
