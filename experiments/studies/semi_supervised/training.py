"""The training of M1, M2 and M1+M2 on images of which few have labels."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
import optax

from aevb_jax.algorithms.auto_encoding import aevb, gaussian_weight_prior
from aevb_jax.data.datasets import ImageData
from aevb_jax.data.preprocess import beside, scale
from aevb_jax.estimators.semi_supervised import is_mistaken
from aevb_jax.estimators.sgvb import elbo_b
from aevb_jax.inference.diagnostics import active_units
from aevb_jax.models.conditions import with_labels
from aevb_jax.runs import files
from aevb_jax.runs.job import train_single
from aevb_jax.runs.learning import Learning, bounds_in_words, evaluate_bound
from aevb_jax.runs.loop import evenly
from aevb_jax.runs.state import Keys, Run, Training
from aevb_jax.training.evaluation import evaluate_in_blocks, mean_and_standard_error
from aevb_jax.training.program import Pixels
from aevb_jax.types import Array, Key, Params
from experiments.studies.semi_supervised.models import (
  FEATURE_STEP_SIZE,
  NAMES,
  Features,
  Parts,
  SemiSupervisedConfig,
  Task,
  Trainer,
  check,
  make_features,
  make_parts,
  tasks,
)

COLUMNS = ("model", "labels", "draw", "examples_seen", "validation_error", "test_error",
           "test_error_se", "seconds")  # fmt: skip
ERRORS = ("validation_error", "test_error", "test_error_se")
ROWS_OF_CURVE = 10
M1_EXAMPLES = 200_000  # more than enough for a classifier of a few labels


def train_all(
  config: SemiSupervisedConfig,
  images: ImageData,
  pixels: Pixels,
  workdir: pathlib.Path,
  asked_to_stop: Callable[[], int],
) -> list[dict]:
  """Trains M1 and then every classifier, each from its last checkpoint.

  The rows of all that have begun are in semi_supervised.csv at any time.

  Raises:
    FloatingPointError, Stopped, OSError, SaveError: as in `train_single`.
  """
  pixels = pixels._replace(validation=None)  # M1 has no choice to make on validation images
  trainer = Trainer(config, images, check(config, images), pixels, workdir, asked_to_stop)
  needs_features = any(model != "m2" for model in config.models)
  features = train_features(trainer) if needs_features else None
  rows: list[dict] = []
  for task in tasks(config):
    print(
      f"\n{NAMES[task.model]}, {task.labels} labels, draw {task.draw + 1} of {config.num_draws}"
    )
    rows += train_classifier(trainer, task, features, tuple(rows))
  write_table(workdir, rows)  # also if nothing was trained any further
  return rows


def num_steps(config: SemiSupervisedConfig, num_examples: int) -> int:
  """Returns the number of training steps that use this many training samples, rounded up."""
  return -(-num_examples // config.batch_size)


def make_optimizer(
  config: SemiSupervisedConfig, step_size: float, num_examples: int
) -> optax.GradientTransformation:
  """Makes Adam with a step size that falls to 0.3 of itself after three quarters of training."""
  fall = {num_steps(config, num_examples) * 3 // 4: 0.3}
  return optax.adam(optax.piecewise_constant_schedule(step_size, fall))


def train_features(trainer: Trainer) -> Features:
  """Trains M1, and finds its active latents."""
  config, images = trainer.config, trainer.images
  model = make_features(config, images.train.shape[1])
  bound = lambda key, params, x: elbo_b(key, model, params, x)
  optimizer = make_optimizer(config, FEATURE_STEP_SIZE, config.num_feature_examples)
  learning = Learning(
    algorithm=aevb(model, elbo_b, optimizer, num_data=len(images.train)),
    evaluations=1,
    objective="bound",
    columns=("train_bound", "train_bound_se", "test_bound", "test_bound_se"),
    evaluate=lambda key, params, pixels, means: [evaluate_bound(key, bound, params, pixels)],
    row_in_words=bounds_in_words,
  )
  print("M1, without labels")
  number = config.num_feature_examples
  training = train(trainer, "m1", learning, trainer.pixels, num_examples=number)
  params = training.saved.states.params
  mean = lambda key, params, x: model.encoder.given(params.phi, x).mean
  to_x = functools.partial(scale, levels=trainer.levels)
  few = evaluate_in_blocks(mean, jax.random.key(0), params, images.train[:1000], preprocess=to_x)
  return Features(model, params, tuple(np.flatnonzero(active_units(few)).tolist()))


def train_classifier(
  trainer: Trainer, task: Task, features: Features | None, before: tuple[dict, ...]
) -> list[dict]:
  """Trains a classifier and returns its rows, which it writes below those of earlier ones."""
  config, parts = trainer.config, make_parts(trainer, task, features)
  data_dim = trainer.images.train.shape[1]
  num_examples = dict(m1=M1_EXAMPLES, m2=config.num_pixel_examples, m1_m2=config.num_examples)[
    task.model
  ]
  algorithm = aevb(
    parts.model,
    parts.estimator,
    make_optimizer(config, config.step_size, num_examples),
    num_data=len(parts.rows),
    log_prior=gaussian_weight_prior(1.0),
  )
  errors = make_errors(trainer, parts)
  learning = Learning(
    algorithm=algorithm,
    evaluations=trainer.num_classes,
    objective="bound",
    columns=ERRORS,
    evaluate=lambda key, params, pixels, means: [errors(params)],
    row_in_words=row_in_words,
  )
  about = task._asdict()

  def write_rows(run: Run, new: list[dict]) -> None:
    own = [about | row for row in (*run.rows, *new)]
    write_table(trainer.workdir, [*before, *own])

  rows, to_x = jax.device_put(parts.rows), beside(parts.to_x, data_dim)
  pixels = trainer.pixels._replace(train=rows, preprocess=to_x)
  training = train(
    trainer, task.name, learning, pixels, num_examples=num_examples, write_rows=write_rows
  )
  return [about | row for row in training.runs[0].rows]


def write_table(workdir: pathlib.Path, rows: Sequence[dict]) -> None:
  """Writes semi_supervised.csv."""
  table = [{name: row[name] for name in COLUMNS} for row in rows]
  files.write_csv(workdir / "semi_supervised.csv", COLUMNS, table)


def make_errors(trainer: Trainer, parts: Parts) -> Callable[[Params], dict]:
  """Returns a function that measures the errors of a classifier, in %."""
  images, data_dim = trainer.images, trainer.images.train.shape[1]
  preprocess = beside(parts.to_test_x, data_dim)
  rows = with_labels(images)
  judged = {s: getattr(rows, s) for s in ("validation", "test") if getattr(rows, s) is not None}

  def mistake(key: Key, params: Params, xy: Array) -> Array:
    return is_mistaken(parts.classifier, params, xy, data_dim=parts.x_dim)

  def errors(params: Params) -> dict:
    means = {
      split: mean_and_standard_error(
        100 * evaluate_in_blocks(mistake, jax.random.key(0), params, rows, preprocess=preprocess)
      )
      for split, rows in judged.items()
    }
    validation = means["validation"].value if "validation" in means else None
    test = means["test"]
    return dict(zip(ERRORS, (validation, test.value, test.standard_error)))

  return errors


def train(
  trainer: Trainer,
  name: str,
  learning: Learning,
  pixels: Pixels,
  *,
  num_examples: int,
  write_rows: Callable[[Run, list[dict]], None] = lambda run, rows: None,
) -> Training:
  """Trains in a directory of its own from the last checkpoint to the end."""
  # The classifiers and draws that are trained besides do not change a training, so that a
  # comparison of more of them may take over the directories of this one.
  config = dataclasses.replace(trainer.config, models=(), num_labels=(), num_draws=1)
  keys = Keys(*jax.random.split(jax.random.key(config.seed), 3))
  return train_single(
    Run(config, "", trainer.workdir / name, keys),
    learning,
    pixels,
    evenly(config.batch_size, num_examples // ROWS_OF_CURVE),
    num_steps(config, num_examples),
    write_rows=write_rows,
    asked_to_stop=trainer.asked_to_stop,
  )


def row_in_words(row: dict) -> str:
  """Formats a row of a classifier in one line."""
  validation = row["validation_error"]
  words = "" if validation is None else f"   validation error {validation:6.2f} %"
  test = f"{row['test_error']:6.2f} ± {row['test_error_se']:.2f} %"
  return f"{row['examples_seen']:>12,} samples{words}   test error {test}"
