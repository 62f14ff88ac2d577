"""The rows that the table of a figure has from an earlier call, whose runs need not be there."""

from collections.abc import Collection
from typing import Any, NamedTuple

from aevb_jax.errors import RunError
from aevb_jax.runs import files
from aevb_jax.runs.directory import SUMMARY
from experiments.flags.figures import Figure, may_continue
from experiments.plots import records

RUN = "run"  # the column that names the run of a row


class Kept(NamedTuple):
  """The finished part of a figure."""

  rows: dict[str, list[dict]]  # by the name of their run
  runs: dict[str, dict]  # by name: command, git_commit, seconds and rows, as summary.json has them
  evaluation_seconds: float


NOTHING = Kept({}, {}, 0.0)


def find(figure: Figure, config: Any, table: str, columns: Collection[str]) -> Kept:
  """Reads what a figure with these flags has finished, before anything is trained for it.

  Args:
    figure: the directories of the figure.
    config: what is drawn.
    table: the name of its table.
    columns: the columns that have a number in every row.

  Raises:
    ConfigError: if the directory holds a figure with other flags, unless --overwrite sets that
      one aside.
  """
  return read(figure, table, columns) if may_continue(figure, config) else NOTHING


def read(figure: Figure, table: str, columns: Collection[str]) -> Kept:
  """Reads the rows of a figure's table, and how their runs were made.

  Args:
    figure: the directory of the figure.
    table: the name of the table.
    columns: the columns that have a number in every row.

  Returns:
    The rows of the runs that summary.json describes and that have as many rows as it says;
    nothing if one of the two files is not there or cannot be read.
  """
  try:
    summary = files.read_json(figure.workdir / SUMMARY)
    runs = {name: run for name, run in summary["runs"].items() if _is_complete(run)}
    seconds = float(summary["evaluation_seconds"])
  except (OSError, RunError, LookupError, AttributeError, TypeError, ValueError):
    return NOTHING
  rows: dict[str, list[dict]] = {}
  for row in records.rows_there(figure.workdir / table, columns):
    rows.setdefault(str(row.get(RUN)), []).append(row)
  whole = {name: run for name, run in runs.items() if run["rows"] == len(rows.get(name, ()))}
  return Kept(rows, whole, seconds)


def _is_complete(run: Any) -> bool:
  """Reports whether summary.json says how a run was made, and how many rows it has."""
  needed = {"command", "git_commit", "seconds", "rows"}
  if not isinstance(run, dict) or not needed <= run.keys():
    return False
  return records.is_number(run["seconds"]) and records.is_number(run["rows"])
