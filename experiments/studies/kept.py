"""The rows that the table of a figure has from an earlier call, whose runs need not be there."""

from collections.abc import Collection
from typing import NamedTuple

from aevb_jax.errors import RunError
from aevb_jax.runs import files
from aevb_jax.runs.directory import SUMMARY
from experiments.flags.figures import Figure
from experiments.plots import records

RUN = "run"  # the column that names the run of a row


class Kept(NamedTuple):
  """The finished part of a figure."""

  rows: dict[str, list[dict]]  # by the name of their run
  runs: dict[str, dict]  # by name: command, git_commit and seconds, as summary.json has them
  evaluation_seconds: float


NOTHING = Kept({}, {}, 0.0)


def read(figure: Figure, table: str, columns: Collection[str]) -> Kept:
  """Reads the rows of a figure's table, and how their runs were made.

  Args:
    figure: the directory of the figure.
    table: the name of the table.
    columns: the columns that have a number in every row.

  Returns:
    The rows of all runs that summary.json describes; nothing if one of the two files is not
    there or cannot be read.
  """
  try:
    summary = files.read_json(figure.workdir / SUMMARY)
    told = {name: run for name, run in summary["runs"].items() if isinstance(run, dict)}
    seconds = float(summary["evaluation_seconds"])
  except (OSError, RunError, LookupError, AttributeError, TypeError, ValueError):
    return NOTHING
  rows: dict[str, list[dict]] = {}
  for row in records.rows_there(figure.workdir / table, columns):
    rows.setdefault(str(row.get(RUN)), []).append(row)
  return Kept(rows, {name: run for name, run in told.items() if name in rows}, seconds)
