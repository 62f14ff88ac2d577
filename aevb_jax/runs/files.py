"""The files of a run: tables, summaries and pictures, each written whole or not at all."""

import contextlib
import csv
import io
import json
import math
import os
import pathlib
import socket
import struct
import subprocess
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import IO

import jax

from aevb_jax import disk
from aevb_jax.errors import RunError

EVENTS = "events.out.tfevents"  # the beginning of the names of TensorBoard's files
OURS = "aevb_jax"  # the source that pictures name, by which `is_our_picture` recognizes them


def error_in_words(error: Exception) -> str:
  """Describes an error of reading or writing in one line."""
  if isinstance(error, OSError):
    where = f"{error.filename} " if error.filename else ""
    return f"{where}cannot be written or read ({error.strerror or error})"
  return str(error)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file, whole or not at all."""
  with whole(path) as file:
    file.write(text.encode())


def write_csv(path: pathlib.Path, columns: Sequence[str], rows: Sequence[dict]) -> None:
  """Writes a table, whole or not at all: floats with six digits, missing values as empty cells."""
  text = io.StringIO()
  table = csv.DictWriter(text, columns, lineterminator="\n")
  table.writeheader()
  table.writerows(
    {name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows
  )
  write_text(path, text.getvalue())


def save_figure(path: pathlib.Path, figure) -> None:
  """Writes a matplotlib figure as a PNG file, whole or not at all."""
  with whole(path) as file:
    draw_into(file, figure)


def draw_into(file: IO[bytes], figure) -> None:
  """Writes a matplotlib figure into a file as a PNG picture that names aevb_jax as its source."""
  figure.savefig(file, format="png", bbox_inches="tight", metadata={"Source": OURS})


def is_our_picture(path: pathlib.Path) -> bool:
  """Reports whether a file is a picture that `save_figure` wrote; a symbolic link never is."""
  from PIL import Image

  if path.is_symlink():
    return False
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a very large picture would warn
    try:
      with disk.read(path, "rb") as file, Image.open(file, formats=("PNG",)) as picture:
        return picture.info.get("Source") == OURS  # in the first chunks; no pixel is decoded
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
      return False


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """Yields a file to write into, which replaces `path` at the end; a failure leaves nothing."""
  partial = path.with_name(path.name + ".partial")
  try:
    with naming(path):
      with disk.create(partial, "wb") as file:
        yield file
      os.replace(partial, path)
  finally:
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)


def write_summary(path: pathlib.Path, summary: dict) -> None:
  """Writes JSON; numbers that JSON cannot hold become null."""
  finite = {
    key: None if isinstance(value, float) and not math.isfinite(value) else value
    for key, value in summary.items()
  }
  write_text(path, json.dumps(finite, indent=2) + "\n")


def read_text(path: pathlib.Path) -> str:
  """Reads a text file of a run, with its line ends as they are.

  Raises:
    RunError: if the file is not text.
    OSError: if the file is missing, or is not a regular file.
  """
  try:
    with disk.read(path, newline="") as file:
      return file.read()
  except UnicodeDecodeError as error:
    raise damaged(path, str(error)) from error


def read_json(path: pathlib.Path) -> dict:
  """Reads a JSON object from a file, such as summary.json.

  Raises:
    RunError: if the file was cut off or edited.
    OSError: if the file is missing, or is not a regular file.
  """
  try:
    return dict(json.loads(disk.read_text(path)))
  except (ValueError, TypeError, RecursionError) as error:
    raise damaged(path, str(error)) from error


def read_metrics(workdir: pathlib.Path, needed: Collection[str] = ()) -> list[dict]:
  """Reads the rows of metrics.csv; returns none if the file is missing.

  Args:
    workdir: the directory of the run.
    needed: columns that the file must have in addition to the columns of every run.

  Returns:
    The rows, each with a number for every column.

  Raises:
    RunError: if the file was cut off or edited.
  """
  path = workdir / "metrics.csv"
  if not path.exists():
    return []
  rows = read_table(path, ("step", "examples_seen", "seconds", *needed))
  try:
    return [{name: number(text) for name, text in row.items()} for row in rows]
  except ValueError as error:
    raise damaged(path, str(error)) from error


def read_table(path: pathlib.Path, needed: Collection[str] = ()) -> list[dict[str, str]]:
  """Reads the rows of a table as texts by column.

  Args:
    path: the table, a CSV file.
    needed: columns that the table must have.

  Raises:
    RunError: if the table was cut off or edited, so that it cannot be read.
    OSError: if the file is missing, or is not a regular file.
  """
  return parse_table(path, read_text(path), needed)


def parse_table(path: pathlib.Path, text: str, needed: Collection[str] = ()) -> list[dict]:
  """Parses the rows of a table from the text of a file, as texts by column.

  Args:
    path: the file, for the error.
    text: its contents.
    needed: columns that the table must have.

  Raises:
    RunError: if the text is not such a table.
  """
  try:
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows, columns = list(table), table.fieldnames or ()
  except csv.Error as error:
    raise damaged(path, str(error)) from error
  if len(set(columns)) < len(columns):
    raise damaged(path, "it has two columns of one name")
  if missing := set(needed) - set(columns):
    raise damaged(path, f"it has no column {min(missing)}")
  for number_of_row, row in enumerate(rows, 1):
    if None in row or None in row.values():
      raise damaged(path, f"row {number_of_row} does not have one cell for each column")
  return rows


def damaged(path: pathlib.Path, why: str) -> RunError:
  """Makes the error for a file of a run that was cut off or edited."""
  why = " ".join(why.split())
  return RunError(path.parent, f"has a damaged {path.name} ({why}); restore or remove it")


def number(text: str) -> int | float:
  """Parses a CSV cell as an int if it is one, otherwise as a float."""
  return int(text) if text.lstrip("-").isdigit() else float(text)


@contextlib.contextmanager
def metrics_writer(
  workdir: pathlib.Path, columns: Sequence[str], rows: Sequence[dict] = ()
) -> Iterator[Callable[[dict], None]]:
  """Yields a function that appends a row to metrics.csv and to TensorBoard's events.

  Every row is on disk before the function returns. TensorBoard shows a row at its examples_seen.

  Args:
    workdir: the directory of the run.
    columns: the columns of every row.
    rows: the rows so far, which metrics.csv then begins with, and which TensorBoard shows; rows
      after them, which an earlier process wrote after its last checkpoint, are no longer shown.
  """
  path, text = workdir / "metrics.csv", io.StringIO()
  table = csv.DictWriter(text, columns)
  table.writeheader()
  table.writerows(rows)
  write_text(path, text.getvalue())
  file = disk.extend(path, newline="")
  with closing(file), event_writer(workdir, columns, rows) as show:
    table = csv.DictWriter(file, columns)

    def write(row: dict) -> None:
      with naming(path):
        table.writerow(row)
        file.flush()
      show(row)

    yield write


@contextlib.contextmanager
def closing(file) -> Iterator[None]:
  """Closes a file at the end; suppresses the error of closing after an earlier error."""
  try:
    yield
  except BaseException:
    with contextlib.suppress(OSError):
      file.close()
    raise
  file.close()


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Adds the path to errors of writing a file; the system names it only in errors of opening."""
  try:
    yield
  except OSError as error:
    error.filename = error.filename or str(path)
    raise


def git_commit() -> str | None:
  """Returns the commit of this code, with "-dirty" if files differ from it; None outside git."""
  here = pathlib.Path(__file__).parent
  try:
    # Git takes no lock on its index, because the lock would stay if this process were killed.
    git = ["git", "--no-optional-locks", "-C", str(here), "describe", "--always", "--abbrev=40"]
    git += ["--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None


def provenance(commit: str | None) -> dict:
  """Returns the entries of summary.json about the program, given its commit."""
  return dict(device=jax.devices()[0].device_kind, jax_version=jax.__version__, git_commit=commit)


@contextlib.contextmanager
def event_writer(
  workdir: pathlib.Path, columns: Sequence[str], rows: Sequence[dict] = ()
) -> Iterator[Callable[[dict], None]]:
  """Yields a function that appends a row to TensorBoard's events, by its examples_seen.

  The file of an earlier process keeps growing, so that a TensorBoard that has it open shows the new
  rows. An event that marks a restart tells TensorBoard to forget the points after the rows so far.
  If the file ends in a record that is cut off, nothing can be read after that record, so a later
  file is begun. tensorboardX's own SummaryWriter is not used: it passes events to a thread, which
  dies on a full disk, and the next call then waits forever.

  Args:
    workdir: the directory of the run.
    columns: the columns of every row.
    rows: the rows so far; those that the files lack are appended.

  Raises:
    OSError: if the events cannot be written or read, on entering or from the function.
  """
  from tensorboardX.proto.event_pb2 import Event, SessionLog
  from tensorboardX.summary import scalar

  earlier = _event_files(workdir)
  shown, may_grow = _shown(earlier, columns[-1])
  path = earlier[-1] if may_grow else workdir / _later_than(earlier)
  file = disk.extend(path, "ab")

  def write(*events: Event) -> None:
    with naming(path):
      file.write(b"".join(_framed(event.SerializeToString()) for event in events))
      file.flush()
      os.fsync(file.fileno())

  def show(row: dict) -> None:
    at = dict(wall_time=time.time(), step=row["examples_seen"])
    write(*(Event(summary=scalar(name, row[name]), **at) for name in columns))

  with closing(file):
    if not may_grow:
      write(Event(wall_time=time.time(), file_version="brain.Event:2"))
    lacking = [row["examples_seen"] for row in rows if row["examples_seen"] not in shown]
    after = rows[-1]["examples_seen"] + 1 if rows else 0
    first = min(lacking, default=after)
    if earlier:
      restart = SessionLog(status=SessionLog.START)
      event = Event(wall_time=time.time(), step=first, session_log=restart)
      write(event, event)  # TensorBoard takes the first one of a run for the start of the run
    for row in rows:
      if row["examples_seen"] >= first:
        show(row)
    yield show


def _event_files(workdir: pathlib.Path) -> list[pathlib.Path]:
  """Returns the event files of a run in the order in which TensorBoard reads them.

  Links and pipes in their place are removed.
  """
  found = sorted(workdir.glob(f"{EVENTS}.*"))
  for path in found:
    if path.is_symlink() or not path.is_file():
      path.unlink()
  return [path for path in found if path.is_file()]


def _later_than(earlier: Sequence[pathlib.Path]) -> str:
  """Returns the name of an event file that TensorBoard reads after the earlier ones."""
  seconds = [int(found) for path in earlier if (found := path.name.split(".")[3]).isdecimal()]
  return f"{EVENTS}.{max(int(time.time()), max(seconds, default=0) + 1)}.{socket.gethostname()}"


def _shown(paths: Sequence[pathlib.Path], column: str) -> tuple[set[int], bool]:
  """Reads event files as TensorBoard does.

  Args:
    paths: the files in their order.
    column: the column of a row that is written last.

  Returns:
    The steps of the rows that TensorBoard shows, and whether the last file may grow: it ends in a
    whole record, can be written, and has no other name, which a copy by hard links would be.
  """
  from tensorboardX.proto.event_pb2 import Event, SessionLog

  steps: set[int] = set()
  may_grow = False
  for path in paths:
    contents, whole = disk.read_bytes(path), False
    for data, end in _records(contents):
      whole = end == len(contents)
      event = Event.FromString(data)
      if event.session_log.status == SessionLog.START:
        steps = {step for step in steps if step < event.step}
      elif any(value.tag == column for value in event.summary.value):
        steps.add(event.step)
    may_grow = whole and os.access(path, os.W_OK) and path.stat().st_nlink == 1
  return steps, may_grow


def _records(contents: bytes) -> Iterator[tuple[bytes, int]]:
  """Yields the records of an event file and their ends, up to one that is cut off or damaged."""
  start = 0
  while start < len(contents):
    length = int.from_bytes(contents[start : start + 8], "little")
    data = contents[start + 12 : start + 12 + length]
    framed = _framed(data)
    end = start + len(framed)
    if contents[start:end] != framed:
      return
    yield data, end
    start = end


def _framed(data: bytes) -> bytes:
  """Returns a record as event files hold it: with its length, and checksums of both."""
  from tensorboardX.record_writer import masked_crc32c

  length = struct.pack("<Q", len(data))
  checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
  return length + checksums[0] + data + checksums[1]
