"""The directory of a run: which flags made it, its metrics, its summary."""

import contextlib
import csv
import io
import json
import math
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from absl import flags

from aevb_jax import errors, locks
from experiments.launch.command import UsageError
from experiments.runs import events

FLAGS = flags.FLAGS

# These say where things are and how they are read, not what is computed.
NOT_WRITTEN = (
  "workdir",
  "runs",
  "compilation_cache_dir",
  "array_cache_dir",
  "num_devices",
  "coordinator_address",
  "num_processes",
  "process_id",
  "init_timeout",
  "host_timeout",
  "checkpoint_every",
  "resume",
  "overwrite",
)
# These a run may be gone on with at other values.
NOT_COMPARED = ("data_dir", "manual_dir", "mirror", "max_resident_mb", "on_nonfinite")
CHECKPOINTS = "checkpoints"  # the directory of them in that of a run
HISTORY = "history"  # that of the parameters of every row
LOCK = "lock"
LOCKS_HELD = []  # by this process, until it ends
PICTURES = (
  "bound",
  "sweep",
  "samples",
  "reconstructions",
  "manifold",
  "latents",
  "gradients",
  "full_vb",
  "linear_gaussian",
  "lower_bound",
  "marginal_likelihood",
  "iwae_table",
  "conv_vae",
  "uses",
  "families",
)
OUTPUTS = (
  "summary.json",
  "metrics.csv",
  "sweep.csv",
  "gradients.csv",
  "families.csv",
  "events.out.tfevents.*",
  "*.partial",
  *(f"{name}.png" for name in PICTURES),
)


class RunDirectory(NamedTuple):
  path: pathlib.Path
  finished: bool  # by an earlier run of the same flags, which is left as it is


def open_workdir(key_flags: Sequence[flags.Flag], *, anew: bool = True) -> pathlib.Path:
  """Makes --workdir for a main, and writes flags.txt there.

  flags.txt has the flags of the run as `--flagfile` reads them, but for the
  directory itself, so that a repeated run goes somewhere else.

  Args:
    key_flags: those of the main.
    anew: empties a directory that holds the same run, for a main that starts from the
      beginning: its pictures and numbers always belong together.

  Raises:
    UsageError: if the directory holds a run with other flags, a run that is still
      going on, or anything that is not a run, or cannot be written.
  """
  with _refusing():
    workdir = pathlib.Path(FLAGS.workdir).expanduser()
    text = flags_text(key_flags)
    if differences := _differences_there(workdir, text):
      raise UsageError(
        "workdir", f"holds a run with other flags ({differences}); name another directory"
      )
    lock(workdir)
    for old in (path for pattern in OUTPUTS * anew for path in workdir.glob(pattern)):
      old.unlink()
    write_text(workdir / "flags.txt", text)
  return workdir


def open_run(key_flags: Sequence[flags.Flag], *, resume: bool, overwrite: bool) -> RunDirectory:
  """Makes --workdir for a main that goes on where it was, and writes flags.txt there.

  Args:
    key_flags: those of the main.
    resume: goes on with the same run; otherwise sets it aside.
    overwrite: sets a run with other flags aside. It is then beside the directory, and has its
      name with a number.

  Raises:
    UsageError: as `open_workdir`.
  """
  with _refusing():
    workdir = pathlib.Path(FLAGS.workdir).expanduser()
    text = flags_text(key_flags)
    _refuse_others(workdir, text, overwrite)
    lock(workdir)
    differences = _refuse_others(workdir, text, overwrite)  # that came in the meantime
    if (workdir / "flags.txt").exists() and (differences or not resume):
      print(f"the run that was in {workdir} is now in {_set_aside(workdir)}")
      lock(workdir)
    finished = (workdir / "summary.json").exists()
    if not finished:
      write_text(workdir / "flags.txt", text)
  return RunDirectory(workdir, finished)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
  try:
    yield
  except errors.Held as held:
    raise UsageError("workdir", f"is of a run that is going on ({held})") from held
  except UnicodeDecodeError as error:
    raise UsageError("workdir", "holds a flags.txt that is no text") from error
  except OSError as error:
    raise UsageError("workdir", f"cannot be used ({error.strerror}: {error.filename})") from error


def lock(directory: pathlib.Path) -> None:
  """Makes a directory of a run, for this process alone as long as it lives.

  Raises:
    UsageError: if another process has it.
  """
  with _refusing():
    directory.mkdir(parents=True, exist_ok=True)
    LOCKS_HELD.append(locks.hold(directory / LOCK))


def _set_aside(workdir: pathlib.Path) -> pathlib.Path:
  """Moves the directory that was locked last, and lets go of it."""
  real, number = workdir.resolve(), 1
  if pathlib.Path.cwd().is_relative_to(real):
    raise UsageError("workdir", "cannot be set aside from within; name it from elsewhere")
  while (place := real.with_name(f"{real.name}.{number}")).exists():
    number += 1
  real.rename(place)
  LOCKS_HELD.pop().close()
  real.mkdir()
  return place


def _refuse_others(workdir: pathlib.Path, text: str, overwrite: bool) -> str:
  """How the flags of the run that is there differ, if it may be set aside."""
  differences = _differences_there(workdir, text)
  if differences and not overwrite:
    raise UsageError(
      "workdir",
      f"holds a run with other flags ({differences}); name another directory, or let "
      "--overwrite set that run aside",
    )
  return differences


def _differences_there(workdir: pathlib.Path, text: str) -> str:
  """How the flags of the run that is in a directory differ; empty if they do not, or none is."""
  file = workdir / "flags.txt"
  if file.exists():
    return _differences(file.read_text(), text)
  # What a start leaves that was ended before it was through.
  if workdir.exists() and {path.name for path in workdir.iterdir()} - {LOCK, "flags.txt.partial"}:
    raise UsageError("workdir", "is not empty and holds no run; name another directory")
  return ""


def flags_text(key_flags: Sequence[flags.Flag]) -> str:
  """What flags.txt holds."""
  lines = [flag.serialize() for flag in key_flags if flag.name not in NOT_WRITTEN]
  return "".join(f"{line}\n" for line in sorted(lines) if line)


def load_flags(workdir: pathlib.Path, given: Sequence[str]) -> None:
  """Gives the flags of the run in `workdir` their values, but for those that are given."""
  lines = (workdir / "flags.txt").read_text().splitlines()
  FLAGS.unparse_flags()
  unknown = FLAGS([sys.argv[0], *lines, *given], known_only=True)[1:]
  of_train = ("eval_every", "evals_per_decade", "select_step_size", "on_nonfinite", "keep_history")
  if unknown := [line for line in unknown if _name(line) not in of_train]:
    raise UsageError("workdir", f"is of a run with flags unknown here: {' '.join(unknown)}")


def _differences(there: str, here: str) -> str:
  there, here = (
    {line for line in text.splitlines() if _name(line) not in NOT_COMPARED}
    for text in (there, here)
  )
  # What the run there did not know of yet was as it is by default.
  known = {_name(line) for line in there}
  here = {line for line in here if _name(line) in known or not _is_default(_name(line))}
  return "; ".join(
    f"{side}: {' '.join(sorted(lines))}"
    for side, lines in (("there", there - here), ("here", here - there))
    if lines
  )


def _name(line: str) -> str:
  """Of the flag that a line of flags.txt gives a value."""
  name = line.removeprefix("--").partition("=")[0]
  return name if name in FLAGS else name.removeprefix("no")


def _is_default(name: str) -> bool:
  return FLAGS[name].value == FLAGS[name].default


def describe_error(error: Exception) -> str:
  """Of what cannot be written, in a line."""
  if isinstance(error, OSError):
    where = f"{error.filename} " if error.filename else ""
    return f"{where}cannot be written or read ({error.strerror or error})"
  return str(error)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a whole file or none."""
  with _whole(path) as partial, open(partial, "w", newline="") as file:
    file.write(text)


def write_csv(path: pathlib.Path, columns: Sequence[str], rows: Sequence[dict]) -> None:
  """Writes a whole table or none; floats with six digits, what a row lacks left empty."""
  text = io.StringIO()
  table = csv.DictWriter(text, columns, lineterminator="\n")
  table.writeheader()
  table.writerows(
    {name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows
  )
  write_text(path, text.getvalue())


def write_figure(workdir: pathlib.Path, name: str, figure) -> None:
  """Writes a matplotlib figure as NAME.png, whole or not at all; a name of PICTURES."""
  if name not in PICTURES:
    raise ValueError(f"{name} is not among {PICTURES}, which a new run of the directory replaces")
  save_figure(workdir / f"{name}.png", figure)


def save_figure(path: pathlib.Path, figure) -> None:
  """Writes a matplotlib figure as a PNG file, whole or not at all."""
  with _whole(path) as partial:
    figure.savefig(partial, format="png", bbox_inches="tight")


@contextlib.contextmanager
def _whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Where to write a file that then takes its place, or of which nothing is left."""
  partial = path.with_name(path.name + ".partial")
  try:
    with naming(path):
      yield partial
      os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def write_summary(path: pathlib.Path, summary: dict) -> None:
  """Writes JSON; numbers that JSON cannot hold become null."""
  finite = {
    key: None if isinstance(value, float) and not math.isfinite(value) else value
    for key, value in summary.items()
  }
  write_text(path, json.dumps(finite, indent=2) + "\n")


def read_metrics(workdir: pathlib.Path) -> list[dict]:
  """The rows of metrics.csv, as they were written; of a missing file, none."""
  if not (workdir / "metrics.csv").exists():
    return []
  with open(workdir / "metrics.csv", newline="") as file:
    return [{name: number(text) for name, text in row.items()} for row in csv.DictReader(file)]


def number(text: str) -> int | float:
  """Of a CSV file."""
  return int(text) if text.lstrip("-").isdigit() else float(text)


@contextlib.contextmanager
def metrics_writer(
  workdir: pathlib.Path, columns: Sequence[str], rows: Sequence[dict] = ()
) -> Iterator[Callable[[dict], None]]:
  """A function that appends a row to metrics.csv and to TensorBoard's events.

  Every row is on disk before the function returns. TensorBoard shows it against
  examples_seen. `rows` are those that are there already; others are removed.
  """
  path, text = workdir / "metrics.csv", io.StringIO()
  table = csv.DictWriter(text, columns)
  table.writeheader()
  table.writerows(rows)
  write_text(path, text.getvalue())
  file = open(path, "a", newline="")
  with closing(file), events.event_writer(workdir, columns) as show:
    table = csv.DictWriter(file, columns)

    def write(row: dict) -> None:
      with naming(path):
        table.writerow(row)
        file.flush()
      show(row)

    for row in rows:
      show(row)
    yield write


@contextlib.contextmanager
def closing(file) -> Iterator[None]:
  """Closes a file at the end; of one that could not be written that has been told."""
  try:
    yield
  except BaseException:
    with contextlib.suppress(OSError):
      file.close()
    raise
  file.close()


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Names the file in what the system says of writing it, which it does of opening it alone."""
  try:
    yield
  except OSError as error:
    error.filename = error.filename or str(path)
    raise


def git_commit() -> str | None:
  """The commit of this code, with "-dirty" where files differ from it; None outside git."""
  here = pathlib.Path(__file__).parent
  try:
    git = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None
