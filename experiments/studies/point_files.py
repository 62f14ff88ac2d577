"""The files of an evaluation: its settings, and a row for each point as soon as it is known."""

import json
import pathlib
from collections.abc import Collection, Iterator, Sequence

from aevb_jax import disk
from aevb_jax.errors import RunError
from aevb_jax.inference.marginal import LogLikelihood
from aevb_jax.runs import directory, files
from experiments.studies import reports

SETTINGS, POINTS = "settings.json", "points.csv"


def open_directory(run_directory: pathlib.Path, name: str, settings: dict) -> pathlib.Path:
  """Makes the directory of an evaluation, and locks it until this process ends.

  Args:
    run_directory: the directory of the run.
    name: the name of the evaluation.
    settings: everything that its points depend on. An existing evaluation must have equal ones.

  Raises:
    ConfigError: if another process holds the lock, or the directory cannot be made.
    RunError: if the settings differ, or cannot be read.
  """
  place = run_directory / name
  directory.lock(place)
  if (place / SETTINGS).exists():
    there = read_settings(place)
    differences = [
      f"{name} is {there.get(name)} there and {value} here"
      for name, value in settings.items()
      if there.get(name) != value
    ]
    if differences:
      what = f"has an evaluation with other settings ({'; '.join(differences)})"
      raise RunError(run_directory, f"{what}; move or delete {place}")
    return place
  (place / POINTS).unlink(missing_ok=True)  # their settings are unknown
  files.write_text(place / SETTINGS, json.dumps(settings, indent=2) + "\n")
  return place


def read_settings(place: pathlib.Path) -> dict:
  """Reads the settings of an evaluation; there are none if the file is missing.

  Raises:
    RunError: if the file was cut off or edited.
  """
  file = place / SETTINGS
  return files.read_json(file) if file.exists() else {}


def columns_of(estimates: dict[str, LogLikelihood]) -> dict:
  """Returns the results of points by the columns of points.csv, without their numbers."""
  columns = {}
  for name, (value, standard_error, diagnostics) in estimates.items():
    prefix = "" if name == "log_p" else f"{name}_"
    columns |= {name: value, f"{name}_se": standard_error}
    columns |= {f"{prefix}{key}": diagnostic for key, diagnostic in diagnostics.items()}
  return columns


def to_rows(estimates: dict[str, LogLikelihood], first: int) -> Iterator[dict]:
  """Yields flat rows of numbers, a row for each point."""
  columns = columns_of(estimates)
  num_points = len(next(iter(columns.values())))
  for i in range(num_points):
    yield {"point": first + i} | {name: float(values[i]) for name, values in columns.items()}


def read_points(path: pathlib.Path, needed: Collection[str] = ()) -> list[dict]:
  """Reads the complete rows of points.csv; a last row that was cut off is left out.

  Args:
    path: the file; there are no rows if it is missing.
    needed: columns that it must have in addition to `point`.

  Raises:
    RunError: if a cell is not a number, or the points are not 0, 1, 2, ...
  """
  if not path.exists() or not (text := _whole_rows(files.read_text(path))):
    return []
  rows = files.parse_table(path, text, ("point", *needed))
  try:
    points = [
      {name: int(v) if name == "point" else float(v) for name, v in row.items()} for row in rows
    ]
  except ValueError as error:
    raise files.damaged(path, str(error)) from error
  for i, row in enumerate(points):
    if row["point"] != i:
      raise files.damaged(path, f"where point {i} should be, it has point {row['point']}")
  return points


def _whole_rows(text: str) -> str:
  return text[: text.rfind("\n") + 1]


def begin_points(path: pathlib.Path, columns: Sequence[str]) -> list[dict]:
  """Reads the rows of points.csv before others are added, and removes an incomplete last row.

  Args:
    path: the file.
    columns: the columns of the rows that will be added.

  Raises:
    RunError: if a cell is not a number, the points are not 0, 1, 2, ..., or the columns differ.
  """
  rows = read_points(path)
  if not rows:
    path.unlink(missing_ok=True)  # a header, at most
    return []
  if list(rows[0]) != list(columns):
    raise files.damaged(path, f"its columns are {', '.join(rows[0])}, not {', '.join(columns)}")
  text = files.read_text(path)
  if (whole := _whole_rows(text)) != text:
    files.write_text(path, whole)
  return rows


def add_points(path: pathlib.Path, rows: Sequence[dict]) -> None:
  """Adds rows to points.csv, with a header if there is none yet."""
  lines = [",".join(f"{value:.9g}" for value in row.values()) for row in rows]
  with files.naming(path), disk.extend(path) as file:
    if file.tell() == 0:
      lines.insert(0, ",".join(rows[0]))
    file.write("".join(f"{line}\n" for line in lines))


def others_of(place: pathlib.Path, kind: str) -> dict[str, tuple[dict, list[dict]]]:
  """Reads the evaluations by other methods, of the same points of the same run.

  Args:
    place: the directory of this evaluation.
    kind: the ending of the names of the others.

  Returns:
    The settings and the rows of each method, by its name.

  Raises:
    RunError: if one of them cannot be read.
  """
  mine, found = read_settings(place), {}
  for other in sorted(place.parent.glob(f"*-{kind}")):
    theirs = read_settings(other)
    same = all(mine[name] == theirs.get(name) for name in ("parameters", "binarization"))
    if other == place or not same:
      continue
    if theirs.get("method") not in reports.METHODS:
      raise files.damaged(other / SETTINGS, "it names no method")
    if rows := read_points(other / POINTS, ("log_p", "log_p_se")):
      found[other.name.removesuffix(f"-{kind}")] = theirs, rows
  return found


def compare(place: pathlib.Path, kind: str, rows: list[dict], method: str) -> list[str]:
  """Compares the rows with other methods' rows, a line for each; raises as `others_of`."""
  lines = []
  for name, (theirs, of_other) in others_of(place, kind).items():
    if line := reports.difference_in_words(list(zip(rows, of_other)), f"minus {name}"):
      text, is_large = line
      lines.append(text + is_large * f" {reports.why_methods_differ(method, theirs['method'])}")
  return lines
