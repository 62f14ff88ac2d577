"""Damage to each file of the newest checkpoint: it is named and set aside, or has no effect."""

import pathlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator

from tortures import compare, contract, runs
from tortures.kills import newest
from tortures.runs import Case, Lab, Outcome

SET_ASIDE = re.compile(r"warning: the checkpoint of step (\d+) is damaged \(.+\); it is now (.+)")


def cut(file: pathlib.Path) -> None:
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: pathlib.Path) -> None:
  contents = bytearray(file.read_bytes())
  contents[len(contents) // 2] ^= 4
  file.write_bytes(contents)


DAMAGES = {"cut": cut, "flipped": flip, "gone": pathlib.Path.unlink}


def cases(lab: Lab) -> Iterator[Case]:
  stopped = contract.stopped(lab)
  checkpoint = stopped / "checkpoints" / str(newest(stopped))
  # The names of orbax's own files of data are drawn at random.
  files = sorted(path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file())
  of_data = [file for file in files if file.parent.name == "d"]
  for file in files:
    name = f"{file.parent}/{of_data.index(file)}" if file in of_data else str(file)
    for damage, make in DAMAGES.items():
      if (checkpoint / file).stat().st_size or damage == "gone":
        case = f"files/{name} {damage}"
        there = pathlib.Path("checkpoints", checkpoint.name, file)
        yield Case(case, lambda c=case, t=there, m=make: _damaged(lab, c, stopped, t, m))


def _damaged(
  lab: Lab, name: str, stopped: pathlib.Path, file: pathlib.Path, make: Callable
) -> Outcome:
  workdir = lab.new(name)
  shutil.copytree(stopped, workdir)
  *_, before, damaged = runs.steps(workdir)
  make(workdir / file)
  ended = runs.run(lab, lab.flags_of("short"), workdir)
  problems = [] if ended.status == 0 else [f"status {ended.status}: {runs.in_words(ended)}"]
  if noticed := SET_ASIDE.fullmatch(ended.err.strip()):
    if int(noticed[1]) != damaged or not pathlib.Path(noticed[2]).is_dir():
      problems.append(f"it names another checkpoint than {damaged}: {noticed[0]}")
  elif ended.err:
    problems.append(f"more than a warning on standard error: {ended.err[:2000]}")
  start = before if noticed else damaged
  if f"resuming after {start * 100:,} training samples" not in ended.out:
    problems.append(f"it does not resume from step {start}: {ended.out[:300]!r}")
  problems += compare.differences(workdir, runs.uninterrupted(lab, "short"))
  if not problems:
    shutil.rmtree(workdir)
  return Outcome(1, problems, Counter([f"{'set aside' if noticed else 'of no effect'}"]))
