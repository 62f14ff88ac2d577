"""Links, pipes and devices in the places of a run's files: nothing outside is written, no hang."""

import functools
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tortures import contract, runs
from tortures.kills import newest
from tortures.runs import Case, Ended, Lab, Outcome

PRECIOUS = b"precious\n"
LINKED = (
  "lock",
  "flags.txt.partial",
  "metrics.csv.partial",
  "metrics.csv",
  "summary.json.partial",
  "bound.png.partial",
  "config.json.partial",
)
LINKS = {"symbolic link": Path.symlink_to, "hard link": Path.hardlink_to}
RECORD = "record.json"  # a file of the newest checkpoint
PIPES = ("flags.txt", "config.json", "metrics.csv", "lock", RECORD)
READERS = {"status": (), "evaluate": ("--num_points=20", "--importance_samples=20")}
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def cases(lab: Lab) -> Iterator[Case]:
  """Yields links in a run, pipes in a run, and what a contact sheet must not replace."""
  for file in LINKED:
    for kind in LINKS:
      name = f"links/{file} {kind}"
      yield Case(name, functools.partial(_linked, lab, name, file, kind))
  for file in PIPES:
    for main in ("train", *READERS):
      name = f"links/{file} pipe {main}"
      yield Case(name, functools.partial(_piped, lab, name, file, main))
  for what, make in SHEETS.items():
    if what != "device" or not os.geteuid():  # only root can make a device
      name = f"links/contact sheet {what}"
      yield Case(name, functools.partial(_sheet, lab, name, make))


def _linked(lab: Lab, name: str, file: str, kind: str) -> Outcome:
  """Resumes a run in which a name leads to a file outside."""
  workdir = contract.copied(lab, name, contract.stopped(lab))
  outside = lab.new(f"{name} outside")
  outside.write_bytes(PRECIOUS)
  place = workdir / file
  place.unlink(missing_ok=True)
  LINKS[kind](place, outside)
  ended = contract.train(lab, lab.flags_of("short"), workdir)
  problems = [] if outside.read_bytes() == PRECIOUS else ["the file outside has changed"]
  problems += contract.refused_or_equal(lab, ended, workdir, "short")
  if ended.status:
    problems += contract.lost(workdir, runs.steps(contract.stopped(lab)))
  return contract.outcome(problems, _note(ended), workdir)


def _piped(lab: Lab, name: str, file: str, main: str) -> Outcome:
  """Lets a main read a run in which a file is a pipe that nobody writes to."""
  source = contract.stopped(lab)
  workdir = contract.copied(lab, name, source)
  saved = newest(workdir)
  in_checkpoint = workdir / "checkpoints" / str(saved) / "record" / RECORD
  place = in_checkpoint if file == RECORD else workdir / file
  place.unlink()
  os.mkfifo(place)
  if main == "train":
    ended = contract.train(lab, lab.flags_of("short"), workdir)
    problems = contract.refused_or_equal(lab, ended, workdir, "short")
  else:
    ended = contract.train(lab, READERS[main], workdir, main=main)
    problems = contract.faults(ended, 0, 2, os.EX_IOERR)
  before = [step for step in runs.steps(source) if file != RECORD or step < saved]
  if file != RECORD:  # a pipe there makes the checkpoint a damaged one
    problems += contract.lost(workdir, before)
  return contract.outcome(problems, _note(ended), workdir)


def _note(ended: Ended) -> str:
  return "carried on" if ended.status == 0 else "refused"


def _text(path: Path) -> None:
  path.write_bytes(PRECIOUS)


def _picture(path: Path) -> None:
  path.write_bytes(SIGNATURE + PRECIOUS)


def _symbolic_link(path: Path) -> None:
  target = path.with_name(f"{path.name}-target")
  target.write_bytes(PRECIOUS)
  path.symlink_to(target)


def _device(path: Path) -> None:
  os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


SHEETS: dict[str, Callable[[Path], None]] = {
  "text": _text,
  "picture of others": _picture,
  "symbolic link": _symbolic_link,
  "device": _device,
  "directory": Path.mkdir,
}


def _sheet(lab: Lab, name: str, make: Callable[[Path], None]) -> Outcome:
  """Asks experiments.data to draw over something that is not its own."""
  path = lab.new(name)
  make(path)
  before = _seen(path)
  ended = contract.answer(lab, "data", ("--dataset=digits", f"--contact_sheet={path}"))
  problems = contract.faults(ended, 2)
  if (after := _seen(path)) != before:
    problems.append(f"it was {before}, and is {after}")
  return contract.outcome(problems, _note(ended))


def _seen(path: Path) -> str:
  """Says what a path is, where it leads and what is there."""
  status = path.lstat()
  contents = zlib.crc32(path.read_bytes()) if path.is_file() else "none"
  leads_to = f" to {os.readlink(path)}" if path.is_symlink() else ""
  return f"{stat.filemode(status.st_mode)} {status.st_rdev}{leads_to}, checksum {contents}"
