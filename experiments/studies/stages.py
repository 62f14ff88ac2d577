"""The marginal likelihood at stages of training whose parameters a run kept: figure 3."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
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
from experiments.studies import jobs

# For appendix D: more than the paper's 50 samples; the start of the paper's chains is not known.
SAMPLING = dict(num_samples=10, num_chains=8, num_leapfrogs=4, num_temperatures=20, num_warmup=20)
AT_ONCE = 20  # data points whose chains are in memory
SPLITS = ("train", "test")
OF_RUN = ("step", "evaluations", "examples_seen", "seconds")  # columns of its metrics.csv
COLUMNS = ("num_train", "algorithm", "seed", *OF_RUN)
COLUMNS += tuple(f"{split}_log_likelihood{error}" for split in SPLITS for error in ("", "_se"))

Curve = tuple[int, str]  # the number of training images, and the algorithm
Progress = Callable[[int], object]  # called with a number of points that are done


class Estimation(NamedTuple):
  """The estimation of log p(x): its points in each split, and its seed."""

  num_points: int
  seed: int


def estimate_curves(
  path: pathlib.Path, runs: Mapping[Curve, pathlib.Path], estimation: Estimation
) -> list[dict]:
  """Estimates log p(x) at all stages of all runs, and writes a row of a table for each.

  Args:
    path: the table. Rows that it already has are not made again.
    runs: the directories of the runs, in the order of the table.
    estimation: the points and the seed.

  Returns:
    The rows.
  """
  order, rows = list(runs), rows_there(path, runs)
  place = lambda row: (order.index((row["num_train"], row["algorithm"])), row["step"])
  there = {(row["num_train"], row["algorithm"], row["step"]) for row in rows}
  missing = {
    curve: [step for step in steps_of(run) if (*curve, step) not in there]
    for curve, run in runs.items()
  }
  num_points = len(SPLITS) * estimation.num_points * sum(map(len, missing.values()))
  with tqdm(total=num_points, unit=" points", desc="log p(x)", disable=None) as bar:
    for curve, steps in missing.items():
      about = dict(num_train=curve[0], algorithm=curve[1], seed=estimation.seed)
      for row in estimate_run(runs[curve], steps, estimation, bar.update):
        rows = sorted([*rows, about | row], key=place)
        files.write_csv(path, COLUMNS, rows)
        tqdm.write(row_in_words(about | row))
  return rows


def rows_there(path: pathlib.Path, runs: Mapping[Curve, pathlib.Path]) -> list[dict]:
  """Reads the complete rows of the table that belong to a stage of these runs, each once."""
  numbers = [name for name in COLUMNS if name != "algorithm"]
  found = {
    (row["num_train"], row.get("algorithm"), row["step"]): row
    for row in records.rows_there(path, numbers)
  }
  steps = {curve: steps_of(run) for curve, run in runs.items()}
  return [row for (*curve, step), row in found.items() if step in steps.get(tuple(curve), ())]


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
    f"test {row['test_log_likelihood']:8.2f} ± {row['test_log_likelihood_se']:.2f}"
  )


def as_table(ends: list[dict]) -> str:
  """Formats the end of each curve, a line for each."""
  lines = [
    f"{'N':>6} {'algorithm':10} {'evaluations':>12} {'samples':>12} {'seconds':>8} "
    f"{'log p(x): train':>16} {'test':>15}"
  ]
  for row in ends:
    train, test = (
      f"{row[f'{split}_log_likelihood']:.2f} ± {row[f'{split}_log_likelihood_se']:.2f}"
      for split in SPLITS
    )
    lines.append(
      f"{row['num_train']:>6} {row['algorithm']:10} {row['evaluations']:>12,} "
      f"{row['examples_seen']:>12,} {row['seconds']:>8.0f} {train:>16} {test:>15}"
    )
  return "\n".join(lines)
