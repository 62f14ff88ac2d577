"""The directory of a run: who has it, which configuration made it, and how far it is finished."""

import contextlib
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from aevb_jax import disk, locks
from aevb_jax.errors import ConfigError
from aevb_jax.runs import texts
from aevb_jax.runs.config import Config
from aevb_jax.runs.files import write_text

CHECKPOINTS = "checkpoints"  # the directory of them in that of a run
HISTORY = "history"  # that of the parameters of every row
RUNS = "runs"  # that of the training runs that a figure is made of
CONFIG, FLAG_FILE, LOCK, SUMMARY = "config.json", "flags.txt", "lock", "summary.json"
LOCKS_HELD = []  # by this process, until it ends or leaves `locked`


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
    _refuse_others(workdir, configs, overwrite, only)
    lock(workdir)
    differences = _refuse_others(workdir, configs, overwrite, only)  # that came in the meantime
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
    overwrite: whether a figure with other configurations is set aside. It is then beside the
      directory, and has its name with a number; the training runs in WORKDIR/runs stay.

  Raises:
    ConfigError: as `open_run`.
  """
  with _refusing(workdir):
    _refuse_others(workdir, configs, overwrite, None)
    lock(workdir)
    if _refuse_others(workdir, configs, overwrite, None):  # that came in the meantime, too
      print(f"the figure that was in {workdir} is now in {_set_figure_aside(workdir)}")
    write_config(workdir, configs)
  return workdir


def _set_figure_aside(workdir: pathlib.Path) -> pathlib.Path:
  """Moves everything out of a directory but for the lock and the runs; flags.txt is copied."""
  real, number = workdir.resolve(), 1
  while (place := real.with_name(f"{real.name}.{number}")).exists():
    number += 1
  place.mkdir()
  # It stays until another takes its place: without it the directory would hold no run.
  write_text(place / FLAG_FILE, disk.read_text(real / FLAG_FILE))
  for path in sorted(real.iterdir()):
    if path.name not in (LOCK, RUNS, FLAG_FILE):
      path.rename(place / path.name)
  return place


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
    directory.mkdir(parents=True, exist_ok=True)
    LOCKS_HELD.append(locks.hold(directory / LOCK))


@contextlib.contextmanager
def locked() -> Iterator[None]:
  """Lets go of the directories that are locked inside; for a process that lives on."""
  before = len(LOCKS_HELD)
  try:
    yield
  finally:
    while len(LOCKS_HELD) > before:
      LOCKS_HELD.pop().close()


def _set_aside(workdir: pathlib.Path) -> pathlib.Path:
  """Moves the directory that was locked last, and lets go of it."""
  real, number = workdir.resolve(), 1
  if pathlib.Path.cwd().is_relative_to(real):
    message = "cannot be set aside from within; name it from elsewhere"
    raise ConfigError("workdir", workdir, message)
  while (place := real.with_name(f"{real.name}.{number}")).exists():
    number += 1
  real.rename(place)
  LOCKS_HELD.pop().close()
  real.mkdir()
  return place


def _refuse_others(
  workdir: pathlib.Path,
  configs: Sequence[Any],
  overwrite: bool,
  only: Collection[str] | None,
) -> str:
  """Returns how the configuration of the run that is there differs, if it may be set aside."""
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
    return _differences(disk.read_text(file), configs, only)
  # What a start leaves that was ended before it was through.
  if workdir.exists() and {p.name for p in workdir.iterdir()} - {LOCK, f"{FLAG_FILE}.partial"}:
    message = "is not empty and holds no run; name another directory"
    raise ConfigError("workdir", workdir, message)
  return ""


def _differences(text: str, configs: Sequence[Any], only: Collection[str] | None) -> str:
  defaults = {k: v for config in configs for k, v in texts.defaults(config).items()}
  ignored = {texts.OF_PRESETS}.union(*map(texts.not_compared, configs))
  name_of = lambda line: texts.name_of(line, defaults)
  there = {line for line in text.splitlines() if name_of(line) not in ignored}
  here = {line for line in texts.flag_lines(*configs, only=only) if name_of(line) not in ignored}
  # What the run there did not know of yet was as it is by default.
  known = {name_of(line) for line in there}
  here = {line for line in here if name_of(line) in known or defaults[name_of(line)] != line}
  return "; ".join(
    f"{side}: {' '.join(sorted(lines))}"
    for side, lines in (("there", there - here), ("here", here - there))
    if lines
  )
