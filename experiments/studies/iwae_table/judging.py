"""Table 1 of Burda et al.: how the trained models are judged, each with its test images."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from aevb_jax.errors import RunError
from aevb_jax.inference.diagnostics import active_units
from aevb_jax.runs import LoadedRun, files
from aevb_jax.runs.learning import log_likelihoods
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import evaluate_in_blocks
from aevb_jax.types import Array, Key, Params
from experiments.studies import jobs, seeds
from experiments.studies.iwae_table import stages
from experiments.studies.iwae_table.stages import StageEnd
from experiments.studies.kept import RUN, Kept

LOG_P, OF_STAGES = "iwae_log_p.csv", "iwae_stages.csv"  # tables beside the one of the figure
ABOUT = ("active", "train_bound", "test_bound", "seed_sd", "seconds")  # columns of one run alone


class Judged(NamedTuple):
  """The results of a trained model on the test images."""

  log_p: np.ndarray  # of each image, in nats
  num_active: tuple[int, ...]  # in each layer


class Result(NamedTuple):
  """The results of a row of the table, averaged over seeds."""

  log_p: np.ndarray  # of each test image, in nats
  about: dict  # the columns that are of this row alone: `ABOUT`
  stages: list[dict]  # −log p(x) at the ends of stages, and what each gained: `stages.gains_of`


def result_of(
  job: jobs.Job,
  made: jobs.Jobs,
  ends: Sequence[StageEnd],
  *,
  num_samples: int,
  num_points: int,
  sizes: tuple[int, ...],
) -> Result:
  """Judges the runs of a row.

  Args:
    job: the runs, one for each seed.
    made: the finished runs of the figure.
    ends: the ends of stages at which they kept their parameters; none for several seeds.
    num_samples: importance samples for each image.
    num_points: the number of test images.
    sizes: the latents of each layer.
  """
  members = jobs.member_directories(job, made.figure)
  judged = [judge(member, num_samples, num_points, sizes) for member in members]
  of_layers = np.mean([one.num_active for one in judged], axis=0)
  last = [jobs.last_row(member) for member in members]
  about = {name: float(np.mean([r[name] for r in last])) for name in ("train_bound", "test_bound")}
  about |= dict(active="+".join(f"{number:g}" for number in of_layers))
  about |= dict(seconds=max(row["seconds"] for row in last))
  if (deviation := seeds.spread([one.log_p.mean() for one in judged])) is not None:
    about |= dict(seed_sd=deviation)
  few = min(num_points, stages.NUM_POINTS)
  log_p, of_stages = np.mean([one.log_p for one in judged], axis=0), []
  if ends:
    (member,) = members
    at = stages.log_p_at(member, ends, num_samples=num_samples, num_points=few)
    of_stages = stages.gains_of(ends, at)
  return Result(log_p, about, of_stages)


def judge(
  member: pathlib.Path, num_samples: int, num_points: int, sizes: tuple[int, ...]
) -> Judged:
  """Estimates log p(x) of the test images and counts active latents, unless that was done before.

  Args:
    member: the directory of a run.
    num_samples: importance samples for each image.
    num_points: the number of test images; tables with another number are made again.
    sizes: the latents of each layer.
  """
  path = member / f"importance-{num_samples}.csv"
  if not (judged := _judged_before(member, path, num_points, sizes)):
    run = jobs.load_member(member)
    print(f"log p(x) by {num_samples} samples: {member.name}", flush=True)
    write_latents(member / "latents.csv", posterior_means(run))
    log_p = log_likelihoods(
      jax.random.key(0), run.model, run.params, run.pixels, num_samples=num_samples
    )
    rows = [dict(point=i, log_p=float(value)) for i, value in enumerate(log_p)]
    files.write_csv(path, ("point", "log_p"), rows)
    judged = _judged_before(member, path, num_points, sizes)
  return judged


def _judged_before(
  member: pathlib.Path, path: pathlib.Path, num_points: int, sizes: tuple[int, ...]
) -> Judged | None:
  """Reads earlier estimates; None if one of their tables is missing or was edited."""
  try:
    log_p = _read_column(path, ("point", "log_p"), num_points)
    latents = ("latent", "active", "variance_of_mean")
    active = _read_column(member / "latents.csv", latents, sum(sizes))
  except (OSError, ValueError, RunError):
    return None
  of_layers = np.split(active, np.cumsum(sizes)[:-1])
  return Judged(log_p, tuple(int(layer.sum()) for layer in of_layers))


def _read_column(path: pathlib.Path, names: Sequence[str], size: int) -> np.ndarray:
  """Reads the second of some columns from a table whose first column numbers its rows.

  Raises:
    ValueError: if the table has another number of rows or another order, or a cell is not a number.
    RunError, OSError: if it cannot be read.
  """
  rows = files.read_cells(path, names)
  if [row[names[0]] for row in rows] != [str(i) for i in range(size)]:
    raise ValueError(f"{path} does not have the rows 0 to {size - 1}")
  return np.array([float(row[names[1]]) for row in rows])


def posterior_means(run: LoadedRun) -> np.ndarray:
  """Returns E_q[z|x] of the test images, shape (N, J)."""

  def mean_of(key: Key, params: Params, x: Array) -> Array:
    return run.model.encoder.given(params.phi, x).mean

  source, reading = points(run.pixels, "test")
  return evaluate_in_blocks(mean_of, jax.random.key(0), run.params, source, **reading)


def write_latents(path: pathlib.Path, means: np.ndarray) -> None:
  """Writes the statistics of every latent."""
  columns = zip(means.var(axis=0), active_units(means), strict=True)
  rows = [
    dict(latent=j, variance_of_mean=float(variance), active=int(active))
    for j, (variance, active) in enumerate(columns)
  ]
  files.write_csv(path, ("latent", "variance_of_mean", "active"), rows)


def kept_results(
  kept: Kept, workdir: pathlib.Path, num_points: int, num_stages: int
) -> dict[str, Result]:
  """Reads the results of runs that may not be there any more, by their names.

  Args:
    kept: the rows that a figure already has.
    workdir: its directory.
    num_points: the number of test images.
    num_stages: the number of ends of stages.

  Returns:
    The results of the runs whose images and stages are whole.
  """
  try:
    images, rows = files.read_cells(workdir / LOG_P), files.read_table(workdir / OF_STAGES)
  except (OSError, RunError):
    return {}
  columns = [name for name in stages.COLUMNS if name not in ("layers", "model", "k", RUN)]
  found = {}
  for name in kept.runs:
    try:
      log_p = np.array([float(row[name]) for row in images])
      (row,) = kept.rows[name]
      about = {column: row[column] for column in ABOUT if column in row}
      about |= dict(active=str(row["active"]))
    except (KeyError, ValueError):
      continue
    mine = [r for r in rows if r.get(RUN) == name]
    of_stages = [{n: r[n] for n in columns if r.get(n) is not None} for r in mine]
    if (len(log_p), len(of_stages)) == (num_points, num_stages):
      found[name] = Result(log_p, about, of_stages)
  return found


def write_images(
  workdir: pathlib.Path, of_runs: Sequence[jobs.Job], results: Sequence[Result]
) -> None:
  """Writes log p(x) of every test image by every run."""
  names = [job.name for job in of_runs]
  of_points = zip(*(result.log_p for result in results), strict=True)
  rows = [
    dict(point=i) | dict(zip(names, map(float, values))) for i, values in enumerate(of_points)
  ]
  files.write_csv(workdir / LOG_P, ("point", *names), rows)
