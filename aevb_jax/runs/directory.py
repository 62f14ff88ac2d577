"""The directory of a run: its lock, the configuration that made it, and whether it is finished."""

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

CHECKPOINTS = "checkpoints"  # the directory of the checkpoints of a run
PARAMS = "params.npz"  # the parameters of a run whose checkpoints are not kept
HISTORY = "history"  # the directory of the parameters of every row
RUNS = "runs"  # the directory of the training runs of a figure
CONFIG, FLAG_FILE, LOCK, SUMMARY = "config.json", "flags.txt", "lock", "summary.json"
MOVED = 5  # attempts to lock a directory that other processes move away


class Held(NamedTuple):
  """A directory that this process has locked, and its lock."""

  path: pathlib.Path
  file: IO[str]
  status: os.stat_result  # distinguishes the directory from another of the same name


LOCKS_HELD: list[Held] = []  # until the process ends or leaves `locked`


class RunDirectory(NamedTuple):
  """A directory of a run that this process has locked."""

  path: pathlib.Path
  finished: bool  # whether an earlier run of this configuration finished; it is left as it is


def open_run(
  workdir: pathlib.Path,
  configs: Sequence[Any],
  *,
  resume: bool = True,
  overwrite: bool = False,
  only: Collection[str] | None = None,
) -> RunDirectory:
  """Makes or reopens the directory of a run, locks it, and writes flags.txt there.

  flags.txt has the flags of the run in the form that `--flagfile` reads, without the flags for the
  directory and the machine. A run that is repeated from flags.txt goes to another directory.

  Args:
    workdir: the directory.
    configs: everything that decides what is computed; for a run of `train` its `Config`.
    resume: whether a run of the same configuration is resumed; otherwise it is set aside.
    overwrite: whether a run with another configuration is set aside: it is moved to a directory
      beside this one, with the same name and a number.
    only: the names of the fields that flags.txt has; None for all.

  Returns:
    The directory, and whether its run is finished.

  Raises:
    ConfigError: if the directory holds a run with another configuration, a run that another
      process is training, or anything that is not a run, or if it cannot be written.
  """
  with _refusing(workdir):
    differences = _lock_unless_other(workdir, configs, overwrite, only)
    if (workdir / FLAG_FILE).exists() and (differences or not resume):
      print(f"the run that was in {workdir} is now in {_set_aside(workdir)}")
      lock(workdir)
    # Existing files stay: the checkpoint may still refuse to be resumed with these flags.
    begun = (workdir / FLAG_FILE).exists() and (workdir / CHECKPOINTS).exists()
    finished = (workdir / SUMMARY).exists()
    if not (begun or finished):
      write_config(workdir, configs, only)
  return RunDirectory(workdir, finished)


def open_figure(
  workdir: pathlib.Path, configs: Sequence[Any], *, overwrite: bool = False
) -> pathlib.Path:
  """Makes the directory of a figure, which is redrawn from the runs that it is made of.

  Args:
    workdir: the directory.
    configs: everything that decides what is drawn.
    overwrite: whether a figure with another configuration is set aside: it is moved to a directory
      beside this one. The training runs below it, which have their own flags, stay.

  Returns:
    The directory.

  Raises:
    ConfigError: if the directory holds a figure with another configuration, a figure that another
      process is making, or anything else, or if it cannot be written.
  """
  with _refusing(workdir):
    if _lock_unless_other(workdir, configs, overwrite):
      place = _set_aside(workdir)
      lock(workdir)
      if (place / RUNS).exists():
        (place / RUNS).rename(workdir / RUNS)
      print(f"the figure that was in {workdir} is now in {place}; its runs stay here")
    write_config(workdir, configs)
  return workdir


def write_config(
  directory: pathlib.Path, configs: Sequence[Any], only: Collection[str] | None = None
) -> None:
  """Writes flags.txt, and for a run of `train` also config.json."""
  write_text(directory / FLAG_FILE, texts.flags_text(*configs, only=only))
  if isinstance(configs[0], Config):
    write_text(directory / CONFIG, texts.to_json(configs[0]))


@contextlib.contextmanager
def _refusing(workdir: pathlib.Path) -> Iterator[None]:
  """Turns errors about the directory of a run into a ConfigError of --workdir."""
  try:
    yield
  except locks.Held as held:
    message = f"is in use by {held}; wait for it or name another directory"
    raise ConfigError("workdir", workdir, message) from held
  except UnicodeDecodeError as error:
    raise ConfigError("workdir", workdir, "holds a flags.txt that is not text") from error
  except OSError as error:
    message = f"cannot be used ({error.strerror}: {error.filename})"
    raise ConfigError("workdir", workdir, message) from error


def lock(directory: pathlib.Path) -> None:
  """Makes the directory of a run, and locks it until this process ends or releases it.

  Raises:
    ConfigError: if another process holds the lock, or the directory cannot be made.
  """
  with _refusing(directory):
    for attempts_left in reversed(range(MOVED)):
      try:
        directory.mkdir(parents=True, exist_ok=True)
        file = locks.hold(directory / LOCK)
        LOCKS_HELD.append(Held(directory, file, directory.stat()))
        return
      except FileNotFoundError:  # another process sets it aside at this moment
        if not attempts_left:
          raise


def refuse_if_gone(directory: pathlib.Path) -> None:
  """Raises if a run's directory is no longer where it was locked, so that nothing recreates it.

  Raises:
    GoneError: if the directory was moved or removed.
  """
  for held in LOCKS_HELD:
    if held.path != directory:
      continue
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
      if os.path.samestat(directory.stat(), held.status):
        continue
    message = f"{directory} was moved or removed during its run"
    raise GoneError(f"{message}{_where_now(held.file)}")


def _where_now(file: IO[str]) -> str:
  """Describes where the directory of an open file is now; "" if the system does not say."""
  try:
    path = os.readlink(f"/proc/self/fd/{file.fileno()}")
  except OSError:  # not every system has such files
    return ""
  if path.endswith(" (deleted)"):
    return ", with all that it held"
  return f"; it is now {pathlib.Path(path).parent}, where the run can be resumed"


@contextlib.contextmanager
def locked() -> Iterator[None]:
  """Releases, at the end of the context, the directories that were locked inside it."""
  before = len(LOCKS_HELD)
  try:
    yield
  finally:
    while len(LOCKS_HELD) > before:
      LOCKS_HELD.pop().file.close()


def _set_aside(workdir: pathlib.Path) -> pathlib.Path:
  """Moves the directory that was locked last, releases its lock, and returns its new path."""
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


def _lock_unless_other(
  workdir: pathlib.Path,
  configs: Sequence[Any],
  overwrite: bool,
  only: Collection[str] | None = None,
) -> str:
  """Locks a directory unless `refuse_others` refuses it, and returns the differences in words."""
  refuse_others(workdir, configs, overwrite, only)
  lock(workdir)
  return refuse_others(workdir, configs, overwrite, only)  # another process may have started


def refuse_others(
  workdir: pathlib.Path,
  configs: Sequence[Any],
  overwrite: bool,
  only: Collection[str] | None = None,
) -> str:
  """Compares a configuration with the one of the run in a directory, and refuses a different one.

  Args:
    workdir: the directory, which may be missing.
    configs: everything that decides what is computed.
    overwrite: whether a run with another configuration may be set aside.
    only: the names of the fields that are compared; None for all.

  Returns:
    The differences in words; "" if there are none.

  Raises:
    ConfigError: if there are differences and `overwrite` is False, or the directory has files but
      no run that can be read.
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
  """Returns how the configuration of the run in a directory differs; "" if it does not."""
  file = workdir / FLAG_FILE
  if file.exists():
    return texts.differences(disk.read_text(file), configs, only)
  # A process that is killed during its start leaves these two files.
  if workdir.exists() and {p.name for p in workdir.iterdir()} - {LOCK, f"{FLAG_FILE}.partial"}:
    message = "is not empty and holds no run; name another directory"
    raise ConfigError("workdir", workdir, message)
  return ""
