"""The directory of a run: who has it, which configuration made it, and how far it is finished."""

import contextlib
import os
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import IO, Any, NamedTuple

from aevb_jax import disk, locks
from aevb_jax.errors import ConfigError, GoneError
from aevb_jax.runs import texts
from aevb_jax.runs.config import Config
from aevb_jax.runs.files import write_text

CHECKPOINTS = "checkpoints"  # the directory of them in that of a run
HISTORY = "history"  # that of the parameters of every row
RUNS = "runs"  # of a figure, that of the training runs it is made of
CONFIG, FLAG_FILE, LOCK, SUMMARY = "config.json", "flags.txt", "lock", "summary.json"
MOVED = 5  # attempts to lock a directory that others move away meanwhile


class Held(NamedTuple):
  """A directory that this process has locked, and its lock."""

  path: pathlib.Path
  file: IO[str]
  device_and_inode: tuple[int, int]


LOCKS_HELD: list[Held] = []  # until the process ends or leaves `locked`


class RunDirectory(NamedTuple):
  """A directory that this process has locked."""

  path: pathlib.Path
  finished: bool  # by an earlier run of the same configuration, which is left as it is


def open_run(
  workdir: pathlib.Path,
  configs: Sequence[Any],
  *,
  resume: bool = True,
  overwrite: bool = False,
  only: Collection[str] | None = None,
) -> RunDirectory:
  """Makes the directory of a run that resumes where it was, and writes flags.txt there.

  flags.txt has the flags of the run as `--flagfile` reads them, but not those that say where and
  with what it is carried out, so that a repeated run goes somewhere else.

  Args:
    workdir: the directory.
    configs: everything that decides what is computed; of a run of `train` its `Config`.
    resume: whether the same run is resumed; otherwise it is set aside.
    overwrite: whether a run with another configuration is set aside. It is then beside the
      directory, and has its name with a number.
    only: the names of the fields that flags.txt has; None for all.

  Raises:
    ConfigError: if the directory holds a run with another configuration, a run that is still
      going on, or anything that is not a run, or cannot be written.
  """
  with _refusing(workdir):
    refuse_others(workdir, configs, overwrite, only)
    lock(workdir)
    differences = refuse_others(workdir, configs, overwrite, only)  # that came in the meantime
    if (workdir / FLAG_FILE).exists() and (differences or not resume):
      print(f"the run that was in {workdir} is now in {_set_aside(workdir)}")
      lock(workdir)
    finished = (workdir / SUMMARY).exists()
    if not finished:
      write_config(workdir, configs, only)
  return RunDirectory(workdir, finished)


def open_figure(
  workdir: pathlib.Path, configs: Sequence[Any], *, overwrite: bool = False
) -> pathlib.Path:
  """Makes the directory of a figure, which is drawn anew from the runs that it is made of.

  Args:
    workdir: the directory.
    configs: everything that decides what is drawn.
    overwrite: whether a figure with another configuration is set aside, as by `open_run`. The
      training runs below it, which have flags of their own, stay.

  Raises:
    ConfigError: as `open_run`.
  """
  with _refusing(workdir):
    refuse_others(workdir, configs, overwrite)
    lock(workdir)
    if refuse_others(workdir, configs, overwrite):  # that came in the meantime
      place = _set_aside(workdir)
      lock(workdir)
      if (place / RUNS).exists():
        (place / RUNS).rename(workdir / RUNS)
      print(f"the figure that was in {workdir} is now in {place}, but for its runs")
    write_config(workdir, configs)
  return workdir


def write_config(
  directory: pathlib.Path, configs: Sequence[Any], only: Collection[str] | None = None
) -> None:
  """Writes flags.txt, and config.json of a run of `train`."""
  write_text(directory / FLAG_FILE, texts.flags_text(*configs, only=only))
  if isinstance(configs[0], Config):
    write_text(directory / CONFIG, texts.to_json(configs[0]))


@contextlib.contextmanager
def _refusing(workdir: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except locks.Held as held:
    message = f"is of a run that is going on ({held})"
    raise ConfigError("workdir", workdir, message) from held
  except UnicodeDecodeError as error:
    raise ConfigError("workdir", workdir, "holds a flags.txt that is no text") from error
  except OSError as error:
    message = f"cannot be used ({error.strerror}: {error.filename})"
    raise ConfigError("workdir", workdir, message) from error


def lock(directory: pathlib.Path) -> None:
  """Makes a directory of a run, for this process alone until it ends or lets go of it.

  Raises:
    ConfigError: if another process has it.
  """
  with _refusing(directory):
    for attempts_left in reversed(range(MOVED)):
      try:
        directory.mkdir(parents=True, exist_ok=True)
        file = locks.hold(directory / LOCK)
        LOCKS_HELD.append(Held(directory, file, _identity(directory)))
        return
      except FileNotFoundError:  # another start sets it aside at this moment
        if not attempts_left:
          raise


def _identity(directory: pathlib.Path) -> tuple[int, int]:
  found = directory.stat()
  return found.st_dev, found.st_ino


def refuse_if_gone(directory: pathlib.Path) -> None:
  """Stops a run whose directory is no longer where it was locked, before it is made anew.

  Raises:
    GoneError: if it was moved or removed.
  """
  for held in LOCKS_HELD:
    if held.path != directory:
      continue
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
      if _identity(directory) == held.device_and_inode:
        continue
    message = f"{directory} was moved or removed while its run was going on"
    raise GoneError(f"{message}{_where_now(held.file)}")


def _where_now(file: IO[str]) -> str:
  """Says where the directory of an open file is now, as far as the system tells."""
  try:
    path = os.readlink(f"/proc/self/fd/{file.fileno()}")
  except OSError:  # of a system that has no such files
    return ""
  if path.endswith(" (deleted)"):
    return ", with all that it held"
  return f"; it is now {pathlib.Path(path).parent}, where the run can be resumed"


@contextlib.contextmanager
def locked() -> Iterator[None]:
  """Lets go of the directories that are locked inside; for a process that lives on."""
  before = len(LOCKS_HELD)
  try:
    yield
  finally:
    while len(LOCKS_HELD) > before:
      LOCKS_HELD.pop().file.close()


def _set_aside(workdir: pathlib.Path) -> pathlib.Path:
  """Moves the directory that was locked last, and lets go of it."""
  real, number = workdir.resolve(), 1
  if pathlib.Path.cwd().is_relative_to(real):
    message = "cannot be set aside from within; name it from elsewhere"
    raise ConfigError("workdir", workdir, message)
  while (place := real.with_name(f"{real.name}.{number}")).exists():
    number += 1
  real.rename(place)
  LOCKS_HELD.pop().file.close()
  real.mkdir(exist_ok=True)
  return place


def refuse_others(
  workdir: pathlib.Path,
  configs: Sequence[Any],
  overwrite: bool,
  only: Collection[str] | None = None,
) -> str:
  """Returns how the configuration of the run that is there differs, if it may be set aside.

  Args:
    workdir: the directory, which may be missing.
    configs: everything that decides what is computed.
    overwrite: whether a run with another configuration may be set aside.
    only: the names of the fields that are compared; None for all.

  Raises:
    ConfigError: if it may not, or the directory holds no run that can be read.
  """
  with _refusing(workdir):
    differences = _differences_there(workdir, configs, only)
  if differences and not overwrite:
    message = (
      f"holds a run with other flags ({differences}); name another directory, or let "
      "--overwrite set that run aside"
    )
    raise ConfigError("workdir", workdir, message)
  return differences


def _differences_there(
  workdir: pathlib.Path, configs: Sequence[Any], only: Collection[str] | None = None
) -> str:
  """Returns how the configuration of the run that is in a directory differs; "" if it does not."""
  file = workdir / FLAG_FILE
  if file.exists():
    return texts.differences(disk.read_text(file), configs, only)
  # What a start leaves that was ended before it was through.
  if workdir.exists() and {p.name for p in workdir.iterdir()} - {LOCK, f"{FLAG_FILE}.partial"}:
    message = "is not empty and holds no run; name another directory"
    raise ConfigError("workdir", workdir, message)
  return ""
