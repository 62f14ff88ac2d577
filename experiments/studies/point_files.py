"""The files of an evaluation: its settings, and a row for each point as soon as it is known."""

import contextlib
import csv
import json
import pathlib
from collections.abc import Iterator

from aevb_jax.errors import RunError
from aevb_jax.inference.marginal import LogLikelihood
from aevb_jax.runs import files
from experiments.studies import reports

SETTINGS = "settings.json"


def open_directory(run_directory: pathlib.Path, name: str, settings: dict) -> pathlib.Path:
  """Makes the directory of an evaluation, or checks that its settings are those of what it holds.

  Raises:
    RunError: if they are not, or it cannot be made.
  """
  place = run_directory / name
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
  try:
    place.mkdir(exist_ok=True)
    (place / "points.csv").unlink(missing_ok=True)  # nobody knows their settings
    files.write_text(place / SETTINGS, json.dumps(settings, indent=2) + "\n")
  except OSError as error:
    message = f"cannot be used ({error.strerror}: {error.filename})"
    raise RunError(run_directory, message) from error
  return place


def read_settings(place: pathlib.Path) -> dict:
  """Reads the settings of an evaluation."""
  file = place / SETTINGS
  with reading(file):
    return dict(json.loads(file.read_text())) if file.exists() else {}


@contextlib.contextmanager
def reading(file: pathlib.Path) -> Iterator[None]:
  """Refuses a file of an earlier evaluation that cannot be read.

  Raises:
    RunError: in its place.
  """
  try:
    yield
  except (OSError, KeyError, TypeError, ValueError) as error:
    message = f"has a damaged {file.name}; move or delete {file.parent}"
    raise RunError(file.parent.parent, message) from error


def to_rows(estimates: dict[str, LogLikelihood], first: int) -> Iterator[dict]:
  """Yields flat rows of numbers, a row for each point."""
  columns = {}
  for name, (value, standard_error, diagnostics) in estimates.items():
    prefix = "" if name == "log_p" else f"{name}_"
    columns |= {name: value, f"{name}_se": standard_error}
    columns |= {f"{prefix}{key}": diagnostic for key, diagnostic in diagnostics.items()}
  num_points = len(next(iter(columns.values())))
  for i in range(num_points):
    yield {"point": first + i} | {name: float(values[i]) for name, values in columns.items()}


def read_points(path: pathlib.Path) -> list[dict]:
  """Reads the whole rows of points.csv, which may end in a part of one."""
  if not path.exists():
    return []
  with reading(path), open(path, newline="") as file:
    lines = file.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [
      {name: int(v) if name == "point" else float(v) for name, v in row.items()}
      for row in csv.DictReader(whole)
    ]


def write_points(path: pathlib.Path, rows: list[dict], mode: str) -> None:
  """Writes points.csv ("w"), or adds rows to it ("a"), with a header where it has none."""
  with open(path, mode) as file:
    if rows and file.tell() == 0:
      file.write(",".join(rows[0]) + "\n")
    file.writelines(",".join(f"{value:.9g}" for value in row.values()) + "\n" for row in rows)


def compare(place: pathlib.Path, kind: str, rows: list[dict], method: str) -> list[str]:
  """Compares the rows with those of other methods, of the same points of the same run."""
  mine, lines = read_settings(place), []
  for other in sorted(place.parent.glob(f"*-{kind}")):
    theirs = read_settings(other)
    same = all(mine[name] == theirs.get(name) for name in ("parameters", "binarization"))
    pairs = list(zip(rows, read_points(other / "points.csv")))
    if other == place or not same or not pairs:
      continue
    if line := reports.difference_in_words(pairs, f"minus {other.name.removesuffix(f'-{kind}')}"):
      text, is_large = line
      lines.append(text + is_large * f" {reports.why_methods_differ(method, theirs['method'])}")
  return lines
