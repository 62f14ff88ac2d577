"""The marginal likelihood at stages of training whose parameters a run kept: figure 3."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from aevb_jax.errors import CheckpointError
from aevb_jax.inference.reciprocal import reciprocal_importance_sampling
from aevb_jax.runs import LoadedRun, directory, files
from aevb_jax.runs.pixels import points
from aevb_jax.training import checkpoint
from aevb_jax.training.evaluation import Mean, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Array, Key, Model, Params
from experiments.launch import command
from experiments.plots import records
from experiments.studies import jobs, seeds
from experiments.studies.kept import RUN

# For appendix D: more than the paper's 50 samples; the start of the paper's chains is not known.
SAMPLING = dict(num_samples=10, num_chains=8, num_leapfrogs=4, num_temperatures=20, num_warmup=20)
AT_ONCE = 20  # data points whose chains are in memory
SPLITS = ("train", "test")
OF_RUN = ("step", "evaluations", "examples_seen", "seconds")  # columns of its metrics.csv
LOG_LIKELIHOODS = tuple(f"{s}_log_likelihood{error}" for s in SPLITS for error in ("", "_se"))
COLUMNS = ("num_train", "algorithm", "seed", *OF_RUN, *LOG_LIKELIHOODS, RUN)
NUMBERS = ("num_train", "seed", *OF_RUN, *LOG_LIKELIHOODS)

Progress = Callable[[int], object]  # called with a number of points that are done


class Curve(NamedTuple):
  """A curve of the figure."""

  num_train: int
  algorithm: str
  seed: int  # of training, and of the estimates


class Estimation(NamedTuple):
  """The estimation of log p(x): its points in each split, and its seed."""

  num_points: int
  seed: int


def estimate_curves(
  path: pathlib.Path,
  runs: Mapping[Curve, pathlib.Path],
  num_points: int,
  kept: Sequence[dict] = (),
) -> list[dict]:
  """Estimates log p(x) at all stages of all runs, and writes a row of a table for each.

  Args:
    path: the table. Rows that it already has are not made again.
    runs: the directory of the run of each curve, in the order of the table.
    num_points: the number of points in each split.
    kept: all rows of some of the curves, whose runs need not be there.

  Returns:
    The rows.
  """
  finished = {curve_of(row) for row in kept}
  waiting = {curve: run for curve, run in runs.items() if curve not in finished}
  order, rows = list(runs), [*kept, *rows_there(path, waiting)]
  place = lambda row: (order.index(curve_of(row)), row["step"])
  there = {(curve_of(row), row["step"]) for row in rows}
  missing = {
    curve: [step for step in steps_of(run) if (curve, step) not in there]
    for curve, run in waiting.items()
  }
  total = len(SPLITS) * num_points * sum(map(len, missing.values()))
  with tqdm(total=total, unit=" points", desc="log p(x)", disable=None) as bar:
    for curve, steps in missing.items():
      about = curve._asdict() | {RUN: runs[curve].name}
      for row in estimate_run(runs[curve], steps, Estimation(num_points, curve.seed), bar.update):
        rows = sorted([*rows, about | row], key=place)
        files.write_csv(path, COLUMNS, rows)
        tqdm.write(row_in_words(about | row))
  return sorted(rows, key=place)


def curve_of(row: dict) -> Curve:
  """Returns the curve of a row."""
  return Curve(row["num_train"], row["algorithm"], row["seed"])


def rows_there(path: pathlib.Path, runs: Mapping[Curve, pathlib.Path]) -> list[dict]:
  """Reads the complete rows of the table that belong to a stage of these runs, each once."""
  found = {
    (curve_of(row), row["step"]): row
    for row in records.rows_there(path, NUMBERS)
    if {"algorithm", RUN} <= row.keys()
  }
  steps = {curve: steps_of(run) for curve, run in runs.items()}
  return [
    row
    for (curve, step), row in found.items()
    if step in steps.get(curve, ()) and row[RUN] == runs[curve].name
  ]


def steps_of(member: pathlib.Path) -> list[int]:
  """Returns the steps whose parameters a run kept; ends the program if there are none."""
  if not (steps := checkpoint.steps(member / directory.HISTORY)):
    what = f"{member} has lost its {directory.HISTORY}; remove it, and it is trained again"
    command.fail(what, 1)
  return steps


def estimate_run(
  member: pathlib.Path, steps: list[int], estimation: Estimation, progress: Progress
) -> Iterator[dict]:
  """Yields a row for each step, with the parameters of that step."""
  if not steps:
    return
  run = jobs.load_member(member)
  metrics = {row["step"]: row for row in run.metrics}
  estimate = functools.partial(_log_likelihood, model=run.model)
  for step in steps:
    try:
      params = checkpoint.restore(member / directory.HISTORY, step, run.params)
    except CheckpointError as error:
      command.fail(f"{error}; remove {member}, and it is trained again", 1)
    if not set(OF_RUN) <= metrics.get(step, {}).keys():
      raise files.damaged(member / "metrics.csv", f"it lacks columns at step {step}")
    row = {name: metrics[step][name] for name in OF_RUN}
    for split in SPLITS:
      mean = estimate_split(estimate, run, params, split, estimation, progress=progress)
      row[f"{split}_log_likelihood"], row[f"{split}_log_likelihood_se"] = mean
    yield row


def _log_likelihood(key: Key, params: Params, x: Array, *, model: Model) -> Array:
  """Estimates log p(x) of one x by appendix D."""
  return reciprocal_importance_sampling(key, model, params, x, **SAMPLING).value


def estimate_split(
  estimate: Callable[[Key, Params, Array], Array],
  run: LoadedRun,
  params: Params,
  split: str,
  estimation: Estimation,
  *,
  progress: Progress = lambda num_points: None,
) -> Mean:
  """Averages an estimate over the first points of a split, with the same keys at every stage."""
  source, reading = points(run.pixels, split, estimation.num_points)
  key = jax.random.key(estimation.seed)
  sizes = dict(block_size=AT_ONCE, batch_size=AT_ONCE, progress=progress)
  values = evaluate_in_blocks(estimate, key, params, source, **sizes, **reading)
  return mean_and_standard_error(values)


def row_in_words(row: dict) -> str:
  """Formats a row in one line."""
  return (
    f"N = {row['num_train']:<6} {row['algorithm']:10} {row['evaluations']:>12,} evaluations   "
    f"train {row['train_log_likelihood']:8.2f} ± {row['train_log_likelihood_se']:.2f}   "
    f"test {row['test_log_likelihood']:8.2f} ± {row['test_log_likelihood_se']:.2f}   "
    f"seed {row['seed']}"
  )


def ends_of(rows: Sequence[dict]) -> list[dict]:
  """Returns the last row of each curve."""
  return list({curve_of(row): row for row in rows}.values())


def over_seeds(rows: Sequence[dict]) -> list[dict]:
  """Averages the ends of curves over seeds.

  Args:
    rows: the last row of each curve.

  Returns:
    A row for each number of images and algorithm, with the seeds, the means over them of its
    columns, and for both splits log p(x) as `seeds.average` has it.
  """
  groups: dict[tuple, list[dict]] = {}
  for row in rows:
    groups.setdefault((row["num_train"], row["algorithm"]), []).append(row)
  averaged = []
  for (num_train, algorithm), some in groups.items():
    of = {name: np.array([row[name] for row in some]) for name in (*OF_RUN, *LOG_LIKELIHOODS)}
    row = dict(num_train=num_train, algorithm=algorithm, seeds=[row["seed"] for row in some])
    row |= {name: of[name].mean().item() for name in OF_RUN}
    for name in (f"{split}_log_likelihood" for split in SPLITS):
      row |= seeds.average(name, of[name], of[f"{name}_se"])
    averaged.append(row)
  return averaged


def as_table(ends: Sequence[dict]) -> str:
  """Formats the ends of curves, averaged over seeds, a line for each.

  The number in parentheses is the standard deviation over seeds.
  """
  lines = [
    f"{'N':>6} {'algorithm':10} {'evaluations':>12} {'samples':>12} {'seconds':>8} {'seeds':>6} "
    f"{'log p(x): train':>22} {'test':>22}"
  ]
  for row in ends:
    train, test = (
      seeds.with_spread(f"{row[name]:.2f} ± {row[f'{name}_se']:.2f}", row[f"{name}_sd"], digits=2)
      for name in (f"{split}_log_likelihood" for split in SPLITS)
    )
    lines.append(
      f"{row['num_train']:>6} {row['algorithm']:10} {row['evaluations']:>12,.0f} "
      f"{row['examples_seen']:>12,.0f} {row['seconds']:>8.0f} {len(row['seeds']):>6} "
      f"{train:>22} {test:>22}"
    )
  return "\n".join(lines)
