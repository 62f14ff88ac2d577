"""The files of a run: tables, summaries and pictures, each written whole or not at all."""

import contextlib
import csv
import io
import json
import math
import pathlib
import subprocess
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import IO, Any

import jax

from aevb_jax import disk
from aevb_jax.disk import closing, naming, whole
from aevb_jax.errors import RunError

Cell = int | float | bool | str | None
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
  rows = read_cells(path, ("step", "examples_seen", "seconds", *needed))
  try:
    return [{name: number(text) for name, text in row.items()} for row in rows]
  except ValueError as error:
    raise damaged(path, str(error)) from error


def read_table(path: str | pathlib.Path) -> list[dict[str, Cell]]:
  """Reads a table of a run, a sweep or a figure, such as metrics.csv, points.csv or sweep.csv.

  Args:
    path: the table, a CSV file.

  Returns:
    Its rows. A column whose cells are all whole numbers has ints, a column of numbers has floats, a
    column of True and False has bools, and any other column has texts. An empty cell is None in
    each of them.

  Raises:
    RunError: if the table was cut off or edited, so that it cannot be read, or `path` is a
      directory.
    OSError: if the file is missing, or is not a regular file.
  """
  path = pathlib.Path(path).expanduser()
  if path.is_dir():
    there = ", ".join(sorted(table.name for table in path.glob("*.csv"))) or "none"
    raise RunError(path, f"is a directory; name a table in it (there are: {there})")
  rows = read_cells(path)
  columns = {name: _parsed([row[name] for row in rows]) for name in (rows[0] if rows else ())}
  return [{name: columns[name][i] for name in columns} for i in range(len(rows))]


def _parsed(cells: list[str]) -> list[Cell]:
  """Parses the cells of a column, all as the same type."""
  truths = {"True": True, "False": False}
  for kind in (int, float, truths.__getitem__):
    with contextlib.suppress(ValueError, KeyError):
      return [None if cell == "" else kind(_digits(cell)) for cell in cells]
  return [cell or None for cell in cells]


def _digits(cell: str) -> str:
  """Returns a cell; underscores, which Python takes in numbers, are those of names."""
  return cell.replace("_", " ")


def read_cells(path: pathlib.Path, needed: Collection[str] = ()) -> list[dict[str, str]]:
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
  """Yields a function that appends a row to metrics.csv.

  Every row is on disk before the function returns.

  Args:
    workdir: the directory of the run.
    columns: the columns of every row.
    rows: the rows so far, which metrics.csv then begins with; rows after them, which an earlier
      process wrote after its last checkpoint, are removed.
  """
  path, text = workdir / "metrics.csv", io.StringIO()
  table = csv.DictWriter(text, columns)
  table.writeheader()
  table.writerows(rows)
  write_text(path, text.getvalue())
  file = disk.extend(path, newline="")
  with closing(file):
    table = csv.DictWriter(file, columns)

    def write(row: dict) -> None:
      with naming(path):
        table.writerow(row)
        file.flush()

    yield write


def git_commit() -> str | None:
  """Returns the commit of this code, with "-dirty" if files differ from it; None outside a clone.

  An installed package that lies in the repository of something else, as in the virtual environment
  of a project, has no commit.
  """
  clone = pathlib.Path(__file__).resolve().parents[2]
  if not (clone / ".git").exists():  # a directory, or a file in a worktree
    return None
  # Git takes no lock on its index, because the lock would stay if this process were killed.
  # `git describe --dirty` would take one in spite of the option.
  git = ["git", "--no-optional-locks", "-C", str(clone)]
  asked = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
  how: dict[str, Any] = dict(capture_output=True, text=True, check=True)
  try:
    commit, changes = (subprocess.run([*git, *what], **how).stdout.strip() for what in asked)
  except (OSError, subprocess.CalledProcessError):
    return None
  return f"{commit}-dirty" if changes else commit


def provenance(commit: str | None) -> dict:
  """Returns the entries of summary.json about the program, given its commit."""
  return dict(device=jax.devices()[0].device_kind, jax_version=jax.__version__, git_commit=commit)
