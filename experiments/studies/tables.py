"""Tables that a figure's main writes row by row, and takes up again after an interruption."""

import pathlib
from collections.abc import Collection

from experiments.plots import records


def rows_there(path: pathlib.Path, columns: Collection[str]) -> list[dict]:
  """Reads the rows of a table that have all of some columns; none where it cannot be read."""
  try:
    rows = records.read_rows(path)
  except (FileNotFoundError, ValueError):
    return []
  return [row for row in rows if set(columns) <= set(row)]
