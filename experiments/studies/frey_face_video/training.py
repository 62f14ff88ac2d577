"""The models of a video, their data points and their training."""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from aevb_jax.algorithms.auto_encoding import aevb, explain_aevb
from aevb_jax.algorithms.optimizers import adam
from aevb_jax.data.arrays import windows
from aevb_jax.data.image_data import ImageData
from aevb_jax.data.minibatches import PixelSource, read_rows
from aevb_jax.data.protocols import kind_of
from aevb_jax.errors import ConfigError
from aevb_jax.estimators.sgvb import elbo_b
from aevb_jax.families.gaussians import gaussian
from aevb_jax.models.state_space import state_space_vae
from aevb_jax.models.vae import mlp_vae
from aevb_jax.runs import files
from aevb_jax.runs.config import DataConfig
from aevb_jax.runs.job import train_single
from aevb_jax.runs.learning import Learning
from aevb_jax.runs.loop import evenly
from aevb_jax.runs.pixels import make_pixels, pixel_range, points
from aevb_jax.runs.state import Keys, Run
from aevb_jax.training.evaluation import evaluate, mean_and_standard_error
from aevb_jax.training.program import Pixels
from aevb_jax.types import Array, Key, Model, Params, PyTree

VIDEO, STATIC = "frey_face:contiguous", "static"
METHODS = (STATIC, "frame", "backward")
SPLITS = ("train", "validation", "test")
BOUND_SAMPLES = 10  # L of the bounds of evaluations; training draws one sample
# Adam's step size at the end, as a part of that at the start. At a constant step size, validation
# bounds of the static VAE went up and down by 10 to 20 nats between two evaluations.
STEP_SIZE_DECAY = 0.03
COLUMNS = (
  "method",
  "step",
  "frames_seen",
  "train_bound",
  "train_bound_se",
  "validation_bound",
  "validation_bound_se",
  "seconds",
)


@dataclasses.dataclass(frozen=True)
class FreyFaceVideoConfig:
  """The models and their training."""

  data: DataConfig = DataConfig(dataset=VIDEO, binarization="none")
  budget: str | None = None
  num_frames: int = 10  # T
  latent_dim: int = 10  # J, for every frame
  hidden_dim: int = 200
  min_std: float = 0.01  # in units of x
  batch_size: int = 10  # M, in windows
  step_size: float = 1e-3
  num_examples: int = 1_200_000  # training frames to evaluate
  eval_every: int = 50_000  # in training frames
  num_importance_samples: int = 1000  # K
  seed: int = 0


class Method(NamedTuple):
  """One of METHODS, with its data points."""

  name: str
  model: Model
  size: int  # frames in a data point
  pixels: Pixels


class Trained(NamedTuple):
  """The parameters of a method at its best validation bound."""

  params: Params
  frames_seen: int  # training frames until then
  validation_bound: float


def num_steps(num_frames: int, config: FreyFaceVideoConfig) -> int:
  """Returns the number of training steps that evaluate a number of frames, M·T in each step."""
  return math.ceil(num_frames / (config.batch_size * config.num_frames))


def check_name(data: DataConfig) -> None:
  """Refuses data sets whose images are not the frames of a video in their order.

  Raises:
    ConfigError: for such a data set.
  """
  if data.dataset == VIDEO or kind_of(data.dataset) in ("arrays", "function"):
    return
  what = "has no frames in the order of a video"
  takes = f"use {VIDEO}, or arrays:FILE.npz with the frames of your own in order"
  raise ConfigError("dataset", data.dataset, f"{what}; {takes}")


def check_video(images: ImageData, config: FreyFaceVideoConfig) -> None:
  """Refuses a video without validation frames, with too few frames, or with x outside [0, 1].

  Raises:
    ConfigError: for such a video.
  """
  name = config.data.dataset
  if images.validation is None:
    raise ConfigError("dataset", name, "has no validation frames, which decide when to stop")
  for split in SPLITS:
    if (number := len(getattr(images, split))) < config.num_frames:
      message = f"takes at most the {number} {split} frames of {name}"
      raise ConfigError("num_frames", config.num_frames, message)
  if (number := len(images.train) - config.num_frames + 1) < config.batch_size:
    message = f"takes at most the {number} windows of the training frames"
    raise ConfigError("batch_size", config.batch_size, message)
  if images.train.dtype != np.uint8:
    ranges = [pixel_range(getattr(images, split)) for split in SPLITS]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low < 0 or high > 1:
      message = f"has pixels from {low:g} to {high:g}; scale them to [0, 1], the range of E[x|z]"
      raise ConfigError("dataset", name, message)


def make_method(name: str, images: ImageData, config: FreyFaceVideoConfig) -> Method:
  """Makes one of METHODS for frames whose x is between 0 and 1."""
  data_dim, static = images.train.shape[1], name == STATIC
  likelihood = gaussian(data_dim, mean_link=jax.nn.sigmoid, min_std=config.min_std)
  sizes: dict[str, Any] = dict(
    data_dim=data_dim, latent_dim=config.latent_dim, hidden_dim=config.hidden_dim
  )
  if static:
    model = mlp_vae(likelihood, **sizes)
  else:
    sizes |= dict(num_steps=config.num_frames, inference=name)
    model = state_space_vae(likelihood, **sizes)
  size = 1 if static else config.num_frames
  return Method(name, model, size, make_points(images, config, size))


def make_points(images: ImageData, config: FreyFaceVideoConfig, size: int) -> Pixels:
  """Makes data points of some consecutive frames.

  Training reads all of them, which overlap. Held-out frames are tiled by windows; the frames that
  are left over at the end are left out for the static VAE, too.
  """
  data_dim, whole = images.train.shape[1], lambda source: read_rows(source, np.arange(len(source)))

  def tiles(source: PixelSource) -> np.ndarray:
    return windows(whole(source), config.num_frames, config.num_frames).reshape(-1, size * data_dim)

  of_points = images._replace(
    train=windows(whole(images.train), size),
    validation=tiles(images.validation),  # type: ignore[arg-type]
    test=tiles(images.test),
  )
  return make_pixels(of_points, config.data)


def make_learning(method: Method, config: FreyFaceVideoConfig) -> Learning:
  """Makes algorithm 1 for a method; a row has its bounds of training and validation windows."""
  model, num_data = method.model, len(method.pixels.train)
  end = num_steps(config.num_examples, config)
  optimizer = adam(config.step_size, schedule=lambda step: STEP_SIZE_DECAY ** (step / end))
  algorithm = aevb(model, elbo_b, optimizer, num_data=num_data)
  bound = bound_of(model)

  def measure(key: Key, params: Params, pixels: Pixels, means: dict) -> list[dict]:
    row: dict[str, Any] = dict(method=method.name)
    for split in ("train", "validation"):
      values = evaluate_frames(bound, key, params, method, split, num_frames=config.num_frames)
      mean = mean_and_standard_error(values.sum(axis=1) / config.num_frames)
      row |= {f"{split}_bound": mean.value, f"{split}_bound_se": mean.standard_error}
    if not math.isfinite(row["validation_bound"]):
      raise FloatingPointError(f"the validation bound became {row['validation_bound']}")
    return [row]

  return Learning(
    algorithm=algorithm,
    evaluations=1,
    objective="bound",
    columns=("train_bound", "train_bound_se", "validation_bound", "validation_bound_se"),
    evaluate=measure,
    row_in_words=row_in_words,
    explain=explain_aevb(algorithm, model, num_samples=1),
  )


def bound_of(model: Model) -> Callable[[Key, Params, Array], Array]:
  """Returns the bound of a data point, by BOUND_SAMPLES samples."""
  return lambda key, params, x: elbo_b(key, model, params, x, num_samples=BOUND_SAMPLES)


def evaluate_frames(
  function: Callable[[Key, Params, Array], PyTree],
  key: Key,
  params: Params,
  method: Method,
  split: str,
  *,
  num_frames: int,
) -> PyTree:
  """Evaluates a function at the data points of the windows that tile a split.

  Returns:
    float64 arrays of shape (W, T / size): 1 or T data points of each of W windows.
  """
  source, reading = points(method.pixels, split)
  size = method.size
  if split == "train":  # its data points overlap
    num_windows = (len(source) + size - 1) // num_frames
    source = source[: num_windows * num_frames - size + 1 : size]
  values = evaluate(function, jax.random.clone(key), params, source, batch_size=20, **reading)
  rows = num_frames // size
  return jax.tree.map(lambda a: np.asarray(a, np.float64).reshape(-1, rows), values)


def train(
  workdir: pathlib.Path,
  config: FreyFaceVideoConfig,
  methods: list[Method],
  *,
  asked_to_stop: Callable[[], int],
) -> tuple[list[dict], list[Trained]]:
  """Trains all methods, one after another, each from its last checkpoint; metrics.csv has all rows.

  All methods see M·T frames in a step, and as many steps. Each keeps the parameters of its best
  validation bound.

  Returns:
    The rows, and the parameters of every method.

  Raises:
    FloatingPointError, Stopped, OSError, SaveError: as in `train_single`.
  """
  rows, trained, per_step = [], [], config.batch_size * config.num_frames
  for method in methods:
    batch_size = per_step // method.size
    run = Run(config, "", workdir / method.name, Keys(*jax.random.split(seed_keys(config)[0], 3)))

    def write_rows(run: Run, new: list[dict], before: tuple[dict, ...] = tuple(rows)) -> None:
      table = [*before, *(as_row(row, per_step) for row in (*run.rows, *new))]
      files.write_csv(workdir / "metrics.csv", COLUMNS, table)

    training = train_single(
      run,
      make_learning(method, config),
      method.pixels,
      evenly(batch_size, batch_size * num_steps(config.eval_every, config)),
      num_steps(config.num_examples, config),
      write_rows=write_rows,
      asked_to_stop=asked_to_stop,
    )
    rows += [as_row(row, per_step) for row in training.runs[0].rows]
    best = training.saved.best
    trained.append(Trained(best.params, int(best.step) * per_step, float(best.bound)))
  files.write_csv(workdir / "metrics.csv", COLUMNS, rows)  # also if nothing was trained any further
  return rows, trained


def seed_keys(config: FreyFaceVideoConfig) -> Key:
  """Returns the keys of training, of the estimates of log p(x), and of the pictures."""
  return jax.random.split(jax.random.key(config.seed), 3)


def as_row(row: dict, per_step: int) -> dict:
  """Returns a row of metrics.csv, where training is counted in frames for all methods."""
  with_frames = row | dict(frames_seen=row["step"] * per_step)
  return {name: with_frames[name] for name in COLUMNS}


def row_in_words(row: dict) -> str:
  """Formats a row in one line."""
  return (
    f"{row['method']:10} step {row['step']:>7,}   "
    f"train bound {row['train_bound']:9.2f} ± {row['train_bound_se']:.2f}   "
    f"validation bound {row['validation_bound']:9.2f} ± {row['validation_bound_se']:.2f}"
  )
