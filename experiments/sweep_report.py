"""What a sweep leaves beside what each of its members does."""

import json
import math
import pathlib
from collections.abc import Sequence

from aevb_jax import figures
from experiments import data_options, rundir

JUDGED = ("test_log_likelihood", "test_log_likelihood_se")


def write(workdir: pathlib.Path, runs: Sequence, finished: Sequence) -> None:
  """Writes sweep.csv, a row for each member, sweep.png where there are bounds, and summary.json.

  Args:
    workdir: the directory of the sweep.
    runs: all members.
    finished: those that went on to the end, with a summary.json of their own.
  """
  names = {run.name for run in finished}
  rows = []
  for run in runs:
    row = dict(name=run.name, **run.member._asdict(), finished=run.name in names) | run.rows[-1]
    if run.name in names:
      summary = json.loads((run.directory / "summary.json").read_text())
      row |= {name: summary[name] for name in JUDGED if summary.get(name) is not None}
    rows.append(row)
  columns = list(max(rows, key=len))
  rundir.write_csv(workdir / "sweep.csv", columns, rows)
  results = dict(num_members=len(runs), finished=sorted(names))
  if "test_bound" in columns:
    curves = [(f"step size {run.member.step_size:g}", run.rows) for run in runs]
    title = f"{data_options.describe_pixels()}, {len(runs)} members"
    rundir.write_figure(workdir, "sweep", figures.draw_sweep(curves, title))
    of_numbers = [row for row in rows if math.isfinite(row["test_bound"]) and row["finished"]]
    if of_numbers:
      best = max(of_numbers, key=lambda row: row["test_bound"])
      results |= {f"best_{name}": best[name] for name in ("name", "test_bound", "test_bound_se")}
      value = f"{best['test_bound']:.2f} ± {best['test_bound_se']:.2f} nats"
      print(f"\nbest test bound      {value}, {best['name']}")
  rundir.write_summary(workdir / "summary.json", results)
  print(f"sweep                {workdir.resolve()}: sweep.csv, and a directory for each member")
