"""Classification of images with few labels by M1, M2 and M1+M2: their training and their errors."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from aevb_jax.algorithms.auto_encoding import aevb, gaussian_weight_prior
from aevb_jax.data.datasets import ImageData
from aevb_jax.data.preprocess import beside, binarize, scale
from aevb_jax.errors import blaming
from aevb_jax.estimators.semi_supervised import (
  is_mistaken,
  label_log_prob,
  semi_supervised_bound,
)
from aevb_jax.estimators.sgvb import elbo_b
from aevb_jax.families.binary import bernoulli
from aevb_jax.families.gaussians import gaussian
from aevb_jax.inference.diagnostics import active_units
from aevb_jax.models.conditions import num_classes, with_labels
from aevb_jax.models.semi_supervised import encoded, keep_few_labels, labelled_rows, m2_vae
from aevb_jax.models.vae import mlp_vae
from aevb_jax.runs import files
from aevb_jax.runs.config import DataConfig
from aevb_jax.runs.job import train_single
from aevb_jax.runs.learning import Learning, bounds_in_words, evaluate_bound
from aevb_jax.runs.loop import evenly
from aevb_jax.runs.pixels import pixel_scale
from aevb_jax.runs.state import Keys, Run, Training
from aevb_jax.training.evaluation import evaluate_in_blocks, mean_and_standard_error
from aevb_jax.training.program import Pixels
from aevb_jax.types import Array, Conditional, Estimator, Key, Model, Params, Preprocess

NAMES = {"m1": "M1", "m2": "M2", "m1_m2": "M1+M2"}
# Test errors in % with their ±, by model and labels. Theirs of M1 is by a transductive SVM.
PUBLISHED = {
  ("m1", 100): (11.82, 0.25),
  ("m2", 100): (11.97, 1.71),
  ("m1_m2", 100): (3.33, 0.14),
  ("m1", 1000): (4.24, 0.07),
  ("m2", 1000): (3.60, 0.56),
  ("m1_m2", 1000): (2.40, 0.02),
}
COLUMNS = ("model", "labels", "draw", "examples_seen", "validation_error", "test_error",
           "test_error_se", "seconds")  # fmt: skip
ERRORS = ("validation_error", "test_error", "test_error_se")
SHARE = 0.1  # of labelled rows among all, because each is there several times
ROWS_OF_CURVE = 10
EVALUATION_SEED = 0
INITIAL_STD = 0.001  # of weights: the labels decide first which class is which
# The weight of the labels, as a share of N. The source has 0.1 and 3000 passes over the data. With
# it, classes lose their labels in the few passes here. Bounds of pixels (M2) differ more between
# classes than bounds of latents (M1+M2).
ALPHAS = {"m1": 0.0, "m2": 50.0, "m1_m2": 5.0}
FEATURE_STEP_SIZE = 1e-3
M1_EXAMPLES = 200_000  # more than enough for a classifier of a few labels


@dataclasses.dataclass(frozen=True)
class SemiSupervisedConfig:
  """The models and numbers of labels that are compared, and their training."""

  data: DataConfig = DataConfig(dataset="mnist")
  budget: str | None = None
  models: tuple[str, ...] = tuple(NAMES)
  num_labels: tuple[int, ...] = (100, 1000)
  num_draws: int = 3
  latent_dim: int = 50
  feature_hidden_dim: tuple[int, ...] = (500, 500)
  hidden_dim: int = 300
  alpha: float | None = None  # None for the model's own, of ALPHAS
  step_size: float = 3e-3
  batch_size: int = 100
  num_feature_examples: int = 4_000_000
  num_pixel_examples: int = 1_000_000
  num_examples: int = 2_000_000
  seed: int = 0


class Task(NamedTuple):
  """A classifier to train: its model, and the labels that it is given."""

  model: str
  labels: int
  draw: int

  @property
  def name(self) -> str:
    """The name of its directory."""
    return f"{self.model}-{self.labels}-labels-draw-{self.draw}"


class Features(NamedTuple):
  """M1 with its parameters, and the latents that are active under them."""

  model: Model
  params: Params
  latents: tuple[int, ...]

  def preprocess(self, levels: int, *, sample: bool) -> Preprocess:
    """Makes a function from pixels to draws, or means, of the active latents."""
    to_x = functools.partial(scale, levels=levels)
    return encoded(self.model, self.params, to_x, sample=sample, latents=self.latents)


class Trainer(NamedTuple):
  """What all trainings of a comparison share."""

  config: SemiSupervisedConfig
  images: ImageData
  num_classes: int
  workdir: pathlib.Path
  asked_to_stop: Callable[[], int]

  @property
  def levels(self) -> int:
    """The number that pixels are divided by."""
    return pixel_scale(self.images, self.config.data)


def tasks(config: SemiSupervisedConfig) -> list[Task]:
  """Returns the classifiers to train, in the order of the table."""
  return [
    Task(model, labels, draw)
    for model in NAMES
    if model in config.models
    for labels in config.num_labels
    for draw in range(config.num_draws)
  ]


def check(config: SemiSupervisedConfig, images: ImageData) -> int:
  """Refuses data that the comparison cannot use, and returns the number of classes.

  Raises:
    ConfigError: for images without labels, or numbers of labels that do not fit them.
  """
  with blaming("dataset", config.data.dataset):
    classes = num_classes(images)
    with_labels(images)  # checks the labels of all splits
  for labels in config.num_labels:
    with blaming("num_labels", labels):
      keep_few_labels(images.train_labels, labels, num_classes=classes, seed=0)
  return classes


def train_all(
  config: SemiSupervisedConfig,
  images: ImageData,
  workdir: pathlib.Path,
  asked_to_stop: Callable[[], int],
) -> list[dict]:
  """Trains M1 and then every classifier, each from its last checkpoint.

  The rows of all that have begun are in semi_supervised.csv at any time.

  Raises:
    FloatingPointError, Stopped, OSError, SaveError: as in `train_single`.
  """
  trainer = Trainer(config, images, check(config, images), workdir, asked_to_stop)
  needs_features = any(model != "m2" for model in config.models)
  features = train_features(trainer) if needs_features else None
  rows: list[dict] = []
  for task in tasks(config):
    print(
      f"\n{NAMES[task.model]}, {task.labels} labels, draw {task.draw + 1} of {config.num_draws}"
    )
    rows += train_classifier(trainer, task, features, tuple(rows))
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


def make_features(config: SemiSupervisedConfig, data_dim: int) -> Model:
  """Makes M1, a VAE of the images without their labels."""
  return mlp_vae(
    bernoulli(data_dim),
    data_dim=data_dim,
    latent_dim=config.latent_dim,
    hidden_dim=config.feature_hidden_dim,
  )


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
  to_x = functools.partial(binarize, levels=trainer.levels)
  pixels = make_pixels(images.train[:], to_x, images.test)
  print("M1, without labels")
  training = train(trainer, "m1", learning, pixels, config.num_feature_examples)
  params = training.saved.states.params
  mean = lambda key, params, x: model.encoder.given(params.phi, x).mean
  to_x = functools.partial(scale, levels=trainer.levels)
  few = evaluate_in_blocks(mean, jax.random.key(0), params, images.train[:1000], preprocess=to_x)
  return Features(model, params, tuple(np.flatnonzero(active_units(few)).tolist()))


class Parts(NamedTuple):
  """What a classifier is trained with."""

  model: Model
  classifier: Conditional
  estimator: Estimator
  x_dim: int  # numbers of x, as the classifier is given it
  rows: np.ndarray  # of pixels and one-hot labels
  to_x: Preprocess  # from pixels, in training
  to_test_x: Preprocess


def make_parts(trainer: Trainer, task: Task, features: Features | None) -> Parts:
  """Makes the model and the data of a classifier.

  M1's classifier is M2's network, trained on features by the labels that it is given.
  """
  config, images, levels = trainer.config, trainer.images, trainer.levels
  classes = dict(num_classes=trainer.num_classes)
  pixels = images.train[:]
  labels = keep_few_labels(images.train_labels, task.labels, seed=task.draw, **classes)
  if task.model == "m2":
    x_dim, likelihood = pixels.shape[1], bernoulli
    to_x = functools.partial(binarize, levels=levels)
    to_test_x = functools.partial(scale, levels=levels)
  else:
    x_dim, likelihood = len(features.latents), gaussian
    to_x, to_test_x = (features.preprocess(levels, sample=sample) for sample in (True, False))
  model, classifier = m2_vae(
    likelihood(x_dim),
    data_dim=x_dim,
    latent_dim=config.latent_dim,
    hidden_dim=config.hidden_dim,
    kernel_init=nn.initializers.normal(INITIAL_STD),
    **classes,
  )
  if task.model == "m1":
    known, copies = labels >= 0, -(-config.batch_size // task.labels)  # at least a minibatch
    rows = labelled_rows(pixels[known], labels[known], copies=copies, **classes)
    estimator = label_log_prob(classifier, data_dim=x_dim)
  else:
    copies = max(1, round(SHARE * len(labels) / task.labels))
    rows = labelled_rows(pixels, labels, copies=copies, **classes)
    alpha = ALPHAS[task.model] if config.alpha is None else config.alpha
    of_pairs = dict(data_dim=x_dim, alpha=alpha * len(labels) / task.labels, copies=copies)
    estimator = semi_supervised_bound(elbo_b, classifier, **of_pairs)
  return Parts(model, classifier, estimator, x_dim, rows, to_x, to_test_x)


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
    table = [{name: row[name] for name in COLUMNS} for row in (*before, *own)]
    files.write_csv(trainer.workdir / "semi_supervised.csv", COLUMNS, table)

  pixels = make_pixels(parts.rows, beside(parts.to_x, data_dim))
  training = train(trainer, task.name, learning, pixels, num_examples, write_rows)
  return [about | row for row in training.runs[0].rows]


def make_errors(trainer: Trainer, parts: Parts) -> Callable[[Params], dict]:
  """Returns a function that measures the errors of a classifier, in %."""
  images, data_dim = trainer.images, trainer.images.train.shape[1]
  preprocess = beside(parts.to_test_x, data_dim)
  judged = {}
  for split in ("validation", "test"):
    if (labels := getattr(images, f"{split}_labels")) is not None:
      rows = getattr(images, split)[:]
      judged[split] = labelled_rows(rows, labels, num_classes=trainer.num_classes)

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


def make_pixels(rows: np.ndarray, preprocess: Preprocess, test: np.ndarray | None = None) -> Pixels:
  """Puts training rows on the device; drawn anew at each use."""
  keys = jax.random.split(jax.random.key(EVALUATION_SEED), 3)
  draws = dict(train_draw=keys[0], validation_draw=keys[1], test_draw=keys[2])
  return Pixels(
    train=jax.device_put(rows),
    validation=None,
    test=rows[:1] if test is None else test,
    streamed=False,
    preprocess=preprocess,
    static_key=None,
    sharding=None,
    **draws,
  )


def train(
  trainer: Trainer,
  name: str,
  learning: Learning,
  pixels: Pixels,
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


def summarize(config: SemiSupervisedConfig, rows: Sequence[dict]) -> list[dict]:
  """Returns the test error of each model and number of labels at the end, over draws of labels.

  Returns:
    Rows with the mean error over draws, its standard deviation over them (`test_error_sd`, None for
    a single draw), the mean of the standard errors over test images, and the published numbers.
  """
  results = []
  for model, labels in dict.fromkeys((task.model, task.labels) for task in tasks(config)):
    last = {r["draw"]: r for r in rows if (r["model"], r["labels"]) == (model, labels)}
    errors = [row["test_error"] for row in last.values()]
    result = dict(model=model, labels=labels, test_error=float(np.mean(errors)), errors=errors)
    result["test_error_sd"] = float(np.std(errors, ddof=1)) if len(errors) > 1 else None
    result["test_error_se"] = float(np.mean([row["test_error_se"] for row in last.values()]))
    if config.data.dataset == "mnist" and (published := PUBLISHED.get((model, labels))):
      result |= dict(paper_error=published[0], paper_error_sd=published[1])
    results.append(result | dict(seconds=float(np.mean([r["seconds"] for r in last.values()]))))
  return results


def as_table(results: Sequence[dict]) -> str:
  """Formats the test errors in %, with ± the standard deviation over draws of labels."""
  lines = [f"{'':6} {'labels':>6} {'test error, %':>15} {'published':>14} {'each draw':>12}"]
  for row in results:
    spread = "" if row["test_error_sd"] is None else f" ± {row['test_error_sd']:.2f}"
    ours, theirs = f"{row['test_error']:.2f}{spread}", ""
    if "paper_error" in row:
      theirs = f"{row['paper_error']:.2f} ± {row['paper_error_sd']:.2f}"
    each = ", ".join(f"{error:.2f}" for error in row["errors"])
    lines.append(f"{NAMES[row['model']]:6} {row['labels']:>6} {ours:>15} {theirs:>14}   {each}")
  return "\n".join(lines)
