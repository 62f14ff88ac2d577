"""Tables that a figure's main writes part by part, and takes up again after an interruption."""

import pathlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from aevb_jax.runs import files
from experiments.plots import records


def rows_there(path: pathlib.Path, columns: Collection[str]) -> list[dict]:
  """Reads the rows of a table that have all of some columns; none where it cannot be read."""
  try:
    rows = records.read_rows(path)
  except (FileNotFoundError, ValueError):
    return []
  return [row for row in rows if set(columns) <= set(row)]


class Table:
  """A table on disk that grows by whole groups of rows.

  Attributes:
    rows: those that were there, and those that were added.
  """

  def __init__(
    self,
    path: pathlib.Path,
    columns: Sequence[str],
    required: Collection[str],
    in_words: Callable[[dict], str],
  ):
    """Opens the table; rows that lack a required column are left out."""
    self.path, self.columns, self.in_words = path, columns, in_words
    self.rows = rows_there(path, required)

  def has(self, **about: Any) -> bool:
    """Tells whether there is a row with these cells, and so the whole group of it."""
    return any(about.items() <= row.items() for row in self.rows)

  def add(self, group: Iterable[dict]) -> None:
    """Adds a group of rows, all at once, and prints them."""
    group = list(group)
    self.rows += group
    files.write_csv(self.path, self.columns, self.rows)
    for row in group:
      print(self.in_words(row), flush=True)
