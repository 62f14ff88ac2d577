"""What a sweep leaves beside what each of its members does."""

import json
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from aevb_jax import figures
from aevb_jax.training.evaluation import mean_and_standard_error
from experiments.flags import data
from experiments.runs import directory

JUDGED = ("test_log_likelihood", "test_log_likelihood_se")
OVER_SEEDS = {
  "train_bound": "train bound",
  "validation_bound": "validation bound",
  "test_bound": "test bound",
  "test_log_likelihood": "test log-likelihood",
}


def over_seeds(rows: Sequence[dict]) -> list[dict]:
  """Means over the seeds of each step size that has several, with standard errors over them."""
  means = []
  for step_size in dict.fromkeys(row["step_size"] for row in rows):
    seeds = [row for row in rows if row["step_size"] == step_size]
    if len(seeds) > 1:
      mean = dict(step_size=step_size, num_seeds=len(seeds))
      for name in OVER_SEEDS:
        if name in seeds[0]:
          values = np.array([row[name] for row in seeds])
          mean[name], mean[f"{name}_se"] = mean_and_standard_error(values)
      means.append(mean)
  return means


def describe(mean: dict) -> str:
  """A row of `over_seeds` in words."""
  values = {label: (mean[n], mean[f"{n}_se"]) for n, label in OVER_SEEDS.items() if n in mean}
  return ", ".join(f"{label} {value:.2f} ± {error:.2f}" for label, (value, error) in values.items())


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
  directory.write_csv(workdir / "sweep.csv", columns, rows)
  results = dict(num_members=len(runs), finished=sorted(names))
  if "test_bound" in columns:
    curves = [(f"step size {run.member.step_size:g}", run.rows) for run in runs]
    title = f"{data.describe_pixels()}, {len(runs)} members"
    directory.write_figure(workdir, "sweep", figures.draw_sweep(curves, title))
    of_numbers = [row for row in rows if math.isfinite(row["test_bound"]) and row["finished"]]
    if of_numbers:
      best = max(of_numbers, key=lambda row: row["test_bound"])
      results |= {f"best_{name}": best[name] for name in ("name", "test_bound", "test_bound_se")}
      value = f"{best['test_bound']:.2f} ± {best['test_bound_se']:.2f} nats"
      print(f"\nbest test bound      {value}, {best['name']}")
    results["over_seeds"] = over_seeds(of_numbers)
    for row in results["over_seeds"]:
      print(f"step size {row['step_size']:<10g} {row['num_seeds']} seeds: {describe(row)}")
  directory.write_summary(workdir / "summary.json", results)
  print(f"sweep                {workdir.resolve()}: sweep.csv, and a directory for each member")
