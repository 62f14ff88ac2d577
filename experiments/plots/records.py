"""The files that a run left, and titles of figures; nothing here reads absl flags."""

import csv
import json
import pathlib
from collections.abc import Collection

Cell = int | float | str


def read_rows(path: pathlib.Path) -> list[dict[str, Cell]]:
  """Reads a table; an empty cell is left out of its row.

  Raises:
    ValueError: if the table has no rows, as that of a run which has just begun.
  """
  with open(path, newline="") as file:
    rows = [
      {name: parse(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)
    ]
  if not rows:
    raise ValueError(f"{path.name} has no rows")
  return rows


def parse(cell: str) -> Cell:
  """Parses a cell as an int if it is one, otherwise as a float, otherwise as text."""
  for kind in (int, float):
    try:
      return kind(cell)
    except ValueError:
      pass
  return cell


def read_columns(path: pathlib.Path) -> list[str]:
  """Reads the names of the columns of a table."""
  with open(path, newline="") as file:
    return next(csv.reader(file), [])


def read_flags(directory: pathlib.Path) -> dict[str, str]:
  """Reads flags.txt: values by name. A boolean flag has none, and is noNAME where it is off."""
  lines = (directory / "flags.txt").read_text().splitlines()
  return {name: value for name, _, value in (line[2:].partition("=") for line in lines)}


def read_summary(directory: pathlib.Path) -> dict:
  """Reads summary.json, which a run writes when it has ended."""
  return json.loads((directory / "summary.json").read_text())


def with_budget(title: str, budget: str | None) -> str:
  """A title, and below it a warning if --budget=smoke was too short for the figure to show much.

  Args:
    title: the title; it may be empty.
    budget: the value of --budget; None where it was not given.
  """
  warning = "smoke: too short a run for a result" if budget == "smoke" else ""
  return "\n".join(filter(None, (title, warning)))


def count_latents(latent_dim: int | str) -> str:
  """J in words, such as "1 latent"."""
  return f"{latent_dim} latent{'' if int(latent_dim) == 1 else 's'}"


def rows_there(path: pathlib.Path, columns: Collection[str]) -> list[dict]:
  """Reads the rows of a table that have all of some columns; none where it cannot be read."""
  try:
    rows = read_rows(path)
  except (FileNotFoundError, ValueError):
    return []
  return [row for row in rows if set(columns) <= set(row)]
