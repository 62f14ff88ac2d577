"""A full disk under the other mains: one line, and with room the same command completes."""

import functools
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tortures import contract, disk, runs
from tortures.runs import Case, Lab, Outcome

FULL = re.escape(disk.REASONS["full"])
ROOM = "remount,size=64m,nr_inodes=100000"


class Main(NamedTuple):
  """A main that writes: the flag of its directory, its arguments, and the room it gets."""

  name: str
  flags: Sequence[str]
  pages: Sequence[int]  # numbers of free pages
  most: int = 1  # lines of errors; a main that it starts prints one too
  where: str = "workdir"
  place: str = "run"


MAINS = {
  "evaluate": Main("evaluate", ("--num_points=100", "--importance_samples=20"), (0, 1, 2, 3, 4)),
  "full_vb": Main(
    "full_vb",
    ("--hidden_dim=10", "--num_examples=2000", "--eval_every=1000", "--num_importance_samples=0"),
    (1, 12, 80),
  ),
  "families": Main("families", ("--num_draws=400",), (100,)),
  "lower_bound": Main(
    "lower_bound",
    ("--budget=smoke", "--panels=digits/2", "--num_examples=12000", "--select_after=11000"),
    (8, 100, 800),
    most=2,
  ),
  "data": Main("data", ("--dataset=digits",), (0, 2), where="contact_sheet", place="sheet.png"),
}


def cases(lab: Lab) -> Iterator[Case]:
  """Yields a full disk for every main; only root can mount one."""
  if os.geteuid():
    return
  for what, main in MAINS.items():
    for pages in main.pages:
      name = f"disk/{what} with {pages} pages"
      yield Case(name, functools.partial(_full, lab, name, main, pages))


def _full(lab: Lab, name: str, main: Main, pages: int) -> Outcome:
  with disk.mounted(lab, name, "size=64m") as room:
    place = room / main.place
    if main.name == "evaluate":
      shutil.copytree(runs.uninterrupted(lab, "short"), place)
    _leave(room, pages)
    run = functools.partial(
      contract.answer, lab, main.name, (*main.flags, f"--{main.where}={place}")
    )
    problems, note = _fills(run, main)
    subprocess.run(["mount", "-o", ROOM, str(room)], check=True)
    problems += [f"with room: {fault}" for fault in contract.faults(run(), 0)]
  return contract.outcome(problems, note)


def _fills(run: Callable[[], runs.Ended], main: Main) -> tuple[list[str], str]:
  """Runs a main that may fill the disk; returns what is wrong with its end, and what it met."""
  ended = run()
  if ended.status == 0:
    return contract.faults(ended, 0), "had room"
  problems = contract.faults(ended, os.EX_IOERR, 2, most=main.most)
  if not re.search(FULL, ended.err):
    problems.append(f"it does not say that the disk is full: {ended.err[:500]!r}")
  return problems, f"{main.name} had none"


def _leave(mounted: pathlib.Path, pages: int) -> None:
  """Shrinks a file system in memory to this number of free pages; to at least two pages in all."""
  there = os.statvfs(mounted)
  used = (there.f_blocks - there.f_bfree) * there.f_frsize // disk.PAGE
  size = max(used + pages, 2) * disk.PAGE
  subprocess.run(["mount", "-o", f"remount,size={size}", str(mounted)], check=True)
