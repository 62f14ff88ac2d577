"""Rounds of four processes that open the directory of one unfinished run at the same moment.

  python -m tortures.rounds DIRECTORY NUMBER SEED      # writes DIRECTORY/rounds.json

The processes are forked, so this one uses no device and has no threads. Each keeps what it opened
until all have answered.
"""

import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import sys
from typing import NamedTuple

from aevb_jax import locks
from aevb_jax.errors import ConfigError
from aevb_jax.runs import directory, texts
from aevb_jax.runs.checks import resolve
from aevb_jax.runs.config import Config, replace

FORK = multiprocessing.get_context("fork")
TOGETHER, SECONDS = 4, 15
MINE = resolve(Config())
OTHER = replace(MINE, latent_dim=3)
PRECIOUS = "metrics.csv"  # a file of the run that no start writes


class Asked(NamedTuple):
  """The arguments with which one of the processes calls `open_run`."""

  name: str
  config: Config
  resume: bool
  overwrite: bool


WAYS = (
  Asked("plain", MINE, True, False),
  Asked("noresume", MINE, False, False),
  Asked("overwrite", OTHER, True, True),
)


def main() -> None:
  place, number, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
  draw = random.Random(seed)
  with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    results = [attempt(place / str(i), draw.choices(WAYS, k=TOGETHER)) for i in range(number)]
  (place / "rounds.json").write_text(json.dumps(results))


def attempt(place: pathlib.Path, ways: list[Asked]) -> dict[str, str]:
  """Makes an unfinished run, and lets all open it; returns the winner, and what was wrong."""
  workdir = place / "run"
  with directory.locked():
    directory.open_run(workdir, [MINE])
  (workdir / PRECIOUS).write_text("precious\n")
  barrier, answers, release = FORK.Barrier(TOGETHER), FORK.SimpleQueue(), FORK.Event()
  children = [
    FORK.Process(target=_open, args=(workdir, way, (barrier, answers, release))) for way in ways
  ]
  for child in children:
    child.start()
  answered = [answers.get() for _ in children]
  winners = [(ways[i], pid) for pid, i, error in _indexed(answered, children) if error is None]
  wrong = _wrong(workdir, winners, [error for *_, error in answered])
  release.set()
  for child in children:
    child.join(SECONDS)
    if child.is_alive():
      child.kill()
      wrong.append("a process hung")
  if not wrong:
    shutil.rmtree(place)
  names = " ".join(way.name for way in ways)
  problem = f"{names} in {place}: {', '.join(wrong)}" if wrong else ""
  return dict(winner=winners[0][0].name if len(winners) == 1 else "none or several", wrong=problem)


def _indexed(answered: list, children: list) -> list[tuple[int, int, str | None]]:
  """Joins the answers with the numbers of the processes that gave them."""
  numbers = {child.pid: i for i, child in enumerate(children)}
  return [(pid, numbers[pid], error) for pid, error in answered]


def _open(workdir: pathlib.Path, way: Asked, shared: tuple) -> None:
  """Opens the directory at the same moment as the others, and keeps it until it is released."""
  barrier, answers, release = shared
  try:
    barrier.wait(SECONDS)
    how = dict(resume=way.resume, overwrite=way.overwrite)
    opened = directory.open_run(workdir, [way.config], **how)  # noqa: F841 (to keep it)
    error = None
  except ConfigError as refused:
    error = f"refused {refused}"
  except BaseException as other:
    error = f"{type(other).__name__} {other}"
  answers.put((os.getpid(), error))
  release.wait(SECONDS)
  os._exit(0)


def _wrong(workdir: pathlib.Path, winners: list, errors: list[str | None]) -> list[str]:
  """Lists what is wrong while the winner still has the directory."""
  wrong = [error for error in errors if error and not error.startswith("refused")]
  if len(winners) != 1:
    return [*wrong, f"{len(winners)} have it ({errors})"]
  ((way, pid),) = winners
  flags_file = workdir / directory.FLAG_FILE
  if not flags_file.exists() or flags_file.read_text() != texts.flags_text(way.config):
    wrong.append("flags.txt is not that of the one that has it")
  if not _has_open(pid, workdir / directory.LOCK):
    wrong.append("the lock at the path is not the one that was locked")
  if f"process {pid} " not in (locks.holder(workdir / directory.LOCK) or ""):
    wrong.append("the lock at the path is not held")
  places = [workdir, *workdir.parent.glob(f"{workdir.name}.*")]
  kept = [p for p in places if (p / PRECIOUS).exists() and (p / directory.FLAG_FILE).exists()]
  if len(kept) != 1 or (way.config != MINE and kept == [workdir]):
    wrong.append(f"the run that was there is in {[p.name for p in kept]}")
  elif (kept[0] / directory.FLAG_FILE).read_text() != texts.flags_text(MINE):
    wrong.append("the run that was there has other flags")
  return wrong


def _has_open(pid: int, path: pathlib.Path) -> bool:
  """Reports whether a process has this very file open."""
  for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
    with contextlib.suppress(OSError):
      if os.path.samestat(descriptor.stat(), path.stat()):
        return True
  return False


if __name__ == "__main__":
  main()
