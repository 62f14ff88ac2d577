"""The files that a run left, and titles of figures; nothing here reads absl flags."""

import pathlib
from collections.abc import Collection

from aevb_jax.errors import RunError
from aevb_jax.runs import files
from aevb_jax.runs.directory import FLAG_FILE, SUMMARY

Cell = int | float | str


def read_rows(path: pathlib.Path) -> list[dict[str, Cell]]:
  """Reads a table; an empty cell is left out of its row.

  Raises:
    ValueError: if the table has no rows, because its run has just begun.
    RunError: if the table was cut off or edited, so that it cannot be read.
    OSError: if the file is not there, or is not a regular file.
  """
  table = files.read_cells(path)
  if not table:
    raise ValueError(f"{path.name} has no rows")
  return [{name: parse(cell) for name, cell in row.items() if cell} for row in table]


def parse(cell: str) -> Cell:
  """Parses a cell as an int if it is one, otherwise as a float, otherwise as text."""
  for kind in (int, float):
    try:
      return kind(cell)
    except ValueError:
      pass
  return cell


def read_flags(directory: pathlib.Path) -> dict[str, str]:
  """Reads flags.txt: values by name. A boolean flag has no value, and is noNAME if it is off.

  Raises:
    RunError: if the file is not text.
    OSError: if the file is not there, or is not a regular file.
  """
  lines = files.read_text(directory / FLAG_FILE).splitlines()
  return {name: value for name, _, value in (line[2:].partition("=") for line in lines)}


def read_summary(directory: pathlib.Path) -> dict:
  """Reads summary.json, which a run writes when it has ended; raises as `files.read_json`."""
  return files.read_json(directory / SUMMARY)


def with_budget(title: str, budget: str | None) -> str:
  """Adds a warning below a title if --budget=smoke was too short for the figure to show much.

  Args:
    title: the title; it may be empty.
    budget: the value of --budget; None if it was not given.
  """
  warning = "smoke: too short a run for a result" if budget == "smoke" else ""
  return "\n".join(filter(None, (title, warning)))


def count_latents(latent_dim: int | str) -> str:
  """Returns J in words, such as "1 latent"."""
  return f"{latent_dim} latent{'' if int(latent_dim) == 1 else 's'}"


def rows_there(path: pathlib.Path, columns: Collection[str]) -> list[dict]:
  """Reads the rows of a table that have numbers in some columns; none if it cannot be read."""
  try:
    rows = read_rows(path)
  except (OSError, ValueError, RunError):
    return []
  return [row for row in rows if all(is_number(row.get(name)) for name in columns)]


def is_number(cell: Cell | None) -> bool:
  """Reports whether a cell was parsed as a number."""
  return isinstance(cell, int | float)
