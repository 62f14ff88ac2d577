"""The files of a run: tables, summaries and pictures, each written whole or not at all."""

import contextlib
import csv
import io
import json
import math
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

import jax


def error_in_words(error: Exception) -> str:
  """Says in a line what could not be written or read."""
  if isinstance(error, OSError):
    where = f"{error.filename} " if error.filename else ""
    return f"{where}cannot be written or read ({error.strerror or error})"
  return str(error)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a whole file or none."""
  with whole(path) as partial, open(partial, "w", newline="") as file:
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


def save_figure(path: pathlib.Path, figure) -> None:
  """Writes a matplotlib figure as a PNG file, whole or not at all."""
  with whole(path) as partial:
    figure.savefig(partial, format="png", bbox_inches="tight")


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields where to write a file, which then takes its place; of a failure nothing is left."""
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
  """Reads the rows of metrics.csv; there are none where the file is missing."""
  if not (workdir / "metrics.csv").exists():
    return []
  with open(workdir / "metrics.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  if any(None in row or None in row.values() for row in rows):
    raise ValueError(f"{workdir / 'metrics.csv'} has a row that is cut off")
  return [{name: number(text) for name, text in row.items()} for row in rows]


def number(text: str) -> int | float:
  """Parses a CSV cell as an int if it is one, otherwise as a float."""
  return int(text) if text.lstrip("-").isdigit() else float(text)


@contextlib.contextmanager
def metrics_writer(
  workdir: pathlib.Path, columns: Sequence[str], rows: Sequence[dict] = ()
) -> Iterator[Callable[[dict], None]]:
  """Yields a function that appends a row to metrics.csv and to TensorBoard's events.

  Every row is on disk before the function returns. TensorBoard shows it against
  examples_seen. `rows` are those that are there already; other rows are removed.
  """
  path, text = workdir / "metrics.csv", io.StringIO()
  table = csv.DictWriter(text, columns)
  table.writeheader()
  table.writerows(rows)
  write_text(path, text.getvalue())
  file = open(path, "a", newline="")
  with closing(file), event_writer(workdir, columns) as show:
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
  """Closes a file at the end, without a second error where it could not be written."""
  try:
    yield
  except BaseException:
    with contextlib.suppress(OSError):
      file.close()
    raise
  file.close()


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Names the file in an error of writing it; the system does so only of opening it."""
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


def provenance(commit: str | None) -> dict:
  """Returns what summary.json says of the program, the commit of which is given."""
  return dict(device=jax.devices()[0].device_kind, jax_version=jax.__version__, git_commit=commit)


@contextlib.contextmanager
def event_writer(workdir: pathlib.Path, columns: Sequence[str]) -> Iterator[Callable[[dict], None]]:
  """Yields a function that appends a row to TensorBoard's events, by its examples_seen.

  The events of an earlier process are removed. tensorboardX's own SummaryWriter hands events to a
  thread, which dies of a full disk with a traceback, and whoever hands it more waits for ever.

  Raises:
    OSError: on entering, or by the function, if they cannot be written.
  """
  from tensorboardX.proto.event_pb2 import Event
  from tensorboardX.record_writer import RecordWriter
  from tensorboardX.summary import scalar

  for old in workdir.glob("events.out.tfevents.*"):
    old.unlink()
  path = workdir / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
  with naming(path):
    writer = RecordWriter(str(path))

  def write(*events: Event) -> None:
    with naming(path):
      for event in events:
        writer.write(event.SerializeToString())
      writer.flush()

  def show(row: dict) -> None:
    at = dict(wall_time=time.time(), step=row["examples_seen"])
    write(*(Event(summary=scalar(name, row[name]), **at) for name in columns))

  with closing(writer):
    write(Event(wall_time=time.time(), file_version="brain.Event:2"))
    yield show
