"""The directory of a run: which flags made it, its metrics, its summary."""

import contextlib
import csv
import io
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from absl import flags

from experiments.command import UsageError
from experiments.sweeps import SWEPT

FLAGS = flags.FLAGS

# These say where things are and how they are read, not what is computed.
NOT_WRITTEN = (
  "workdir",
  "compilation_cache_dir",
  "array_cache_dir",
  "num_devices",
  "coordinator_address",
  "num_processes",
  "process_id",
  "init_timeout",
  "host_timeout",
)
CHECKPOINTS = "checkpoints"  # the directory of them in that of a run
NOT_COMPARED = ("data_dir", "manual_dir", "mirror", "max_resident_mb")
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
)
OUTPUTS = (
  "summary.json",
  "metrics.csv",
  "sweep.csv",
  "gradients.csv",
  "events.out.tfevents.*",
  "*.partial",
  *(f"{name}.png" for name in PICTURES),
)


def open_workdir(key_flags: Sequence[flags.Flag], *, keep_unfinished: bool = False) -> pathlib.Path:
  """Makes --workdir and writes flags.txt there, unless it holds something else.

  flags.txt has the flags of the run as `--flagfile` reads them, but for the
  directory itself, so that a repeated run goes somewhere else. A directory that
  holds the same run is emptied first: its pictures and numbers always belong
  together.

  Args:
    key_flags: those of the main.
    keep_unfinished: leaves what the same run has left if it has no summary.json, for a main
      that goes on where it was.

  Raises:
    UsageError: if the directory holds a run with other flags, or anything that
      is not a run, or cannot be written.
  """
  workdir = pathlib.Path(FLAGS.workdir).expanduser()
  text = flags_text(key_flags)
  file = workdir / "flags.txt"
  try:
    if file.exists():
      if differences := _differences(file.read_text(), text):
        raise UsageError(
          "workdir", f"holds a run with other flags ({differences}); name another directory"
        )
    elif workdir.exists() and any(workdir.iterdir()):
      raise UsageError("workdir", "is not empty and holds no run; name another directory")
    workdir.mkdir(parents=True, exist_ok=True)
    if not keep_unfinished or (workdir / "summary.json").exists():
      _empty(workdir)
    write_text(file, text)
  except OSError as error:
    raise UsageError("workdir", f"cannot be used ({error.strerror}: {error.filename})") from error
  return workdir


def _empty(workdir: pathlib.Path) -> None:
  """Removes what a run and the members of a sweep have written."""
  for old in (path for pattern in OUTPUTS for path in workdir.glob(pattern)):
    old.unlink()
  members = (file.parent for name in SWEPT for file in workdir.glob(f"{name}_*/flags.txt"))
  for directory in (workdir / CHECKPOINTS, *members):
    shutil.rmtree(directory, ignore_errors=True)


def flags_text(key_flags: Sequence[flags.Flag]) -> str:
  """What flags.txt holds."""
  lines = [flag.serialize() for flag in key_flags if flag.name not in NOT_WRITTEN]
  return "".join(f"{line}\n" for line in sorted(lines) if line)


def load_flags(workdir: pathlib.Path) -> None:
  """Gives the flags of the run in `workdir` their values, but for those on the command line."""
  lines = (workdir / "flags.txt").read_text().splitlines()
  FLAGS.unparse_flags()
  unknown = FLAGS([sys.argv[0], *lines, *sys.argv[1:]], known_only=True)[1:]
  of_train = tuple(f"--{name}=" for name in ("eval_every", "select_step_size"))
  if unknown := [line for line in unknown if not line.startswith(of_train)]:
    raise UsageError("workdir", f"is of a run with flags unknown here: {' '.join(unknown)}")


def _differences(there: str, here: str) -> str:
  ignored = tuple(f"--{name}=" for name in NOT_COMPARED)
  there, here = (
    {line for line in text.splitlines() if not line.startswith(ignored)} for text in (there, here)
  )
  return "; ".join(
    f"{side}: {' '.join(sorted(lines))}"
    for side, lines in (("there", there - here), ("here", here - there))
    if lines
  )


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a whole file or none."""
  partial = path.with_name(path.name + ".partial")
  with open(partial, "w", newline="") as file:
    file.write(text)
  os.replace(partial, path)


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
  partial = path.with_name(path.name + ".partial")
  try:
    figure.savefig(partial, format="png", bbox_inches="tight")
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


def read_metrics(workdir: pathlib.Path, last_step: int) -> list[dict]:
  """The rows of metrics.csv up to a step, as they were written; of a missing file, none."""
  if not (workdir / "metrics.csv").exists():
    return []
  with open(workdir / "metrics.csv", newline="") as file:
    rows = [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]
  return [row for row in rows if row["step"] <= last_step]


def _number(text: str) -> int | float:
  return int(text) if text.lstrip("-").isdigit() else float(text)


@contextlib.contextmanager
def metrics_writer(
  workdir: pathlib.Path, columns: Sequence[str], rows: Sequence[dict] = ()
) -> Iterator[Callable[[dict], None]]:
  """A function that appends a row to metrics.csv and to TensorBoard's events.

  Every row is on disk before the function returns. TensorBoard shows it against
  examples_seen. `rows` are those that are there already; others are removed.
  """
  from tensorboardX import SummaryWriter

  text = io.StringIO()
  table = csv.DictWriter(text, columns)
  table.writeheader()
  table.writerows(rows)
  write_text(workdir / "metrics.csv", text.getvalue())
  for old in workdir.glob("events.out.tfevents.*"):
    old.unlink()
  with (
    open(workdir / "metrics.csv", "a", newline="") as file,
    SummaryWriter(str(workdir)) as events,
  ):
    table = csv.DictWriter(file, columns)

    def show(row: dict) -> None:
      for name in columns:
        events.add_scalar(name, row[name], row["examples_seen"])
      events.flush()

    def write(row: dict) -> None:
      table.writerow(row)
      file.flush()
      show(row)

    for row in rows:
      show(row)
    yield write


def git_commit() -> str | None:
  """The commit of this code, with "-dirty" where files differ from it; None outside git."""
  here = pathlib.Path(__file__).parent
  try:
    git = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None
