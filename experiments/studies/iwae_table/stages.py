"""Table 1 of Burda et al.: what each stage of the schedule is worth, and later stages may be.

A run keeps its parameters at the end of every stage, so that log p(x) of the same images, with the
same noise, can be compared before and after a stage. Stages that did not run are extrapolated.
"""

import pathlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from aevb_jax.errors import RunError
from aevb_jax.runs import directory, files
from aevb_jax.runs.learning import log_likelihoods
from aevb_jax.training import checkpoint
from aevb_jax.training.evaluation import Mean, mean_and_standard_error
from aevb_jax.training.program import is_evaluated
from experiments.studies import jobs
from experiments.studies.kept import RUN

COLUMNS = ("layers", "model", "k", "stage", "epochs", "nll", "nll_se", "gain", "gain_se",
           "predicted", "predicted_se", RUN)  # fmt: skip
NUM_POINTS = 1000  # the first test images


class StageEnd(NamedTuple):
  """The end of a stage."""

  epochs: int  # since the beginning of training
  step: int


def stage_ends(
  lengths: Sequence[int], steps_per_epoch: int, evals_per_decade: int
) -> list[StageEnd]:
  """Returns the ends of stages after which a run has a row, and keeps its parameters.

  Args:
    lengths: epochs of the stages.
    steps_per_epoch: steps of an epoch, after which rows are due.
    evals_per_decade: as --evals_per_decade.
  """
  ends = [StageEnd(int(n), int(n) * steps_per_epoch) for n in np.cumsum(lengths)]
  due = partial(is_evaluated, end=ends[-1].step, every=steps_per_epoch, per_decade=evals_per_decade)
  return [end for end in ends if due(end.step)]


def log_p_at(
  member: pathlib.Path, ends: Sequence[StageEnd], *, num_samples: int, num_points: int
) -> np.ndarray:
  """Estimates log p(x) of the first test images at the ends of stages, unless it was done before.

  Args:
    member: the directory of a run, which kept the parameters of these steps.
    ends: the ends of stages.
    num_samples: importance samples for each image, the same at every stage.
    num_points: the number of images.

  Returns:
    log p(x) in nats, shape (stages, images).
  """
  path = member / f"stages-{num_samples}.csv"
  columns = ("point", *(f"epochs_{end.epochs}" for end in ends))
  if (before := _read(path, columns, num_points)) is not None:
    return before
  run = jobs.load_member(member)
  log_p = []
  for end in ends:
    print(f"log p(x) after {end.epochs} epochs: {member.name}", flush=True)
    params = checkpoint.restore(member / directory.HISTORY, end.step, run.params)
    some = dict(num_samples=num_samples, num_points=num_points)
    log_p.append(log_likelihoods(jax.random.key(0), run.model, params, run.pixels, **some))
  rows = [dict(zip(columns, (i, *map(float, of)))) for i, of in enumerate(zip(*log_p, strict=True))]
  files.write_csv(path, columns, rows)
  return np.stack(log_p)


def _read(path: pathlib.Path, columns: Sequence[str], num_points: int) -> np.ndarray | None:
  """Reads earlier estimates, shape (stages, images); None if the table is missing or was edited."""
  try:
    rows = files.read_cells(path, columns)
    values = np.array([[float(row[name]) for name in columns] for row in rows]).T
  except (OSError, ValueError, RunError):
    return None
  whole = values.shape == (len(columns), num_points) and (values[0] == np.arange(num_points)).all()
  return values[1:] if whole else None


def gains_of(ends: Sequence[StageEnd], log_p: np.ndarray) -> list[dict]:
  """Returns −log p(x) at the ends of stages, and the gain of each stage on the one before.

  Args:
    ends: the ends of stages.
    log_p: shape (stages, images).

  Returns:
    A row for each stage with epochs, nll, its gain on the stage before, and the gain that
    `extrapolate` predicts from the gains before it, where there are three. Errors are over images,
    those of gains image by image.
  """
  rows = []
  for i, (end, values) in enumerate(zip(ends, log_p, strict=True)):
    row = dict(stage=i + 1, epochs=end.epochs) | with_error("nll", -values)
    if i:
      row |= with_error("gain", values - log_p[i - 1])
    if before := extrapolate([earlier["gain"] for earlier in rows[1:]], 1):
      row |= dict(predicted=before.value, predicted_se=before.standard_error)
    rows.append(row)
  return rows


def with_error(name: str, values: np.ndarray) -> dict[str, float]:
  """Returns the mean of a column over images, and its standard error."""
  mean = mean_and_standard_error(values)
  return {name: mean.value, f"{name}_se": mean.standard_error}


def extrapolate(gains: Sequence[float], num_later: int) -> Mean | None:
  """Extrapolates the sum of the gains of stages that did not run.

  Every stage is taken to gain a constant fraction of what the stage before it gained: log gains
  are on a line, with independent errors of equal variance, and the line is fitted by least squares.
  The error is that of a prediction, to first order: of the line, and of later stages around it. It
  does not say whether the line goes on.

  Args:
    gains: the gains of stages that follow each other, in nats.
    num_later: the number of stages after them.

  Returns:
    The sum of the later gains in nats, with its error; None for fewer than three gains, or if one
    of them is not positive.
  """
  if len(gains) < 3 or min(gains) <= 0:
    return None
  number = len(gains)
  of = lambda i: np.stack([np.ones_like(i), i], axis=-1)
  there, later = of(np.arange(float(number))), of(np.arange(float(number), number + num_later))
  line, *_ = np.linalg.lstsq(there, np.log(gains), rcond=None)
  variance = np.sum((np.log(gains) - there @ line) ** 2) / (number - 2)
  predicted = np.exp(later @ line)
  slopes = predicted @ later  # of the sum, with respect to the line
  of_line = slopes @ np.linalg.solve(there.T @ there, slopes)
  error = np.sqrt(variance * (of_line + np.sum(predicted**2)))
  return Mean(float(predicted.sum()), float(error))
