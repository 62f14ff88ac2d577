"""M1, M2 and M1+M2 and their data, for images of which few have labels."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import numpy as np

from aevb_jax.data.datasets import ImageData
from aevb_jax.data.preprocess import binarize, scale
from aevb_jax.errors import blaming
from aevb_jax.estimators.semi_supervised import label_log_prob, semi_supervised_bound
from aevb_jax.estimators.sgvb import elbo_b
from aevb_jax.families.binary import bernoulli
from aevb_jax.families.gaussians import gaussian
from aevb_jax.models.conditions import num_classes, with_labels
from aevb_jax.models.semi_supervised import encoded, keep_few_labels, labelled_rows, m2_vae
from aevb_jax.models.vae import mlp_vae
from aevb_jax.runs.config import DataConfig
from aevb_jax.runs.pixels import pixel_scale
from aevb_jax.training.program import Pixels
from aevb_jax.types import Conditional, Estimator, Model, Params, Preprocess

NAMES = {"m1": "M1", "m2": "M2", "m1_m2": "M1+M2"}
SHARE = 0.1  # of labelled rows among all, because each is there several times
INITIAL_STD = 0.001  # of weights: the labels decide first which class is which
# The weight of the labels, as a share of N. The source has 0.1 and 3000 passes over the data. With
# it, classes lose their labels in the few passes here. Bounds of pixels (M2) differ more between
# classes than bounds of latents (M1+M2).
ALPHAS = {"m1": 0.0, "m2": 50.0, "m1_m2": 5.0}
FEATURE_STEP_SIZE = 1e-3


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
  """The images, the settings and the directory that all trainings of a comparison share."""

  config: SemiSupervisedConfig
  images: ImageData
  num_classes: int
  pixels: Pixels  # of the images, without labels
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


def make_features(config: SemiSupervisedConfig, data_dim: int) -> Model:
  """Makes M1, a VAE of the images without their labels."""
  return mlp_vae(
    bernoulli(data_dim),
    data_dim=data_dim,
    latent_dim=config.latent_dim,
    hidden_dim=config.feature_hidden_dim,
  )


class Parts(NamedTuple):
  """The model, the data and the estimator that a classifier is trained with."""

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
