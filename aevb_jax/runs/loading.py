"""Runs in Python: functions that open the directory of a run, train in one, or write one."""

import contextlib
import io
import logging
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from aevb_jax import disk, trackers
from aevb_jax.data.datasets import ImageData
from aevb_jax.data.minibatches import Joined
from aevb_jax.errors import ConfigError, RunError
from aevb_jax.estimators.semi_supervised import conditioned
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.models.conditions import num_classes, one_hot_labels
from aevb_jax.runs import build, directory, files, texts
from aevb_jax.runs.checks import check_single, resolve
from aevb_jax.runs.config import Config, Machine, replace, swept
from aevb_jax.runs.job import run_job, saver
from aevb_jax.runs.learning import make_learning
from aevb_jax.runs.pixels import about_images, load_images, make_pixels
from aevb_jax.runs.resume import Origin, Saved, compare, make_origin, start
from aevb_jax.runs.state import Run, Training
from aevb_jax.training import checkpoint, weights
from aevb_jax.training.code import generator
from aevb_jax.training.evaluation import evaluate_in_blocks
from aevb_jax.training.program import Pixels
from aevb_jax.types import Array, Key, Model, Params

LOGGER = logging.getLogger(__name__)
PLACES = ("data_dir", "manual_dir", "mirror", "max_resident_mb")
OF_TRAIN = "--likelihood="  # is in the flags.txt of every run of experiments.train, however old


class LoadedRun(NamedTuple):
  """A trained run: its configuration, model, parameters, data and results."""

  directory: pathlib.Path
  config: Config  # what was computed
  model: Model  # p(z), p(x|z) and q(z|x)
  params: Params  # the parameters that training ended with, or the best
  data: ImageData  # the images, as the data set has them
  pixels: Pixels  # the images as training and evaluation read them
  metrics: list[dict]  # the rows of metrics.csv, one for each evaluation
  summary: dict | None  # summary.json; None before the run is finished

  def __repr__(self) -> str:
    """Describes the run in one line, without its arrays."""
    last = self.metrics[-1] if self.metrics else self.summary or {}
    bound = "no bound"
    if "test_bound" in last:
      bound = f"test bound {last['test_bound']:.2f} ± {last['test_bound_se']:.2f}"
    what = f"{self.config.data.dataset}, J = {self.config.model.latent_dim}"
    seen = f"{last.get('examples_seen', 0)} training samples"
    return f"LoadedRun({str(self.directory)!r}: {what}, {seen}, {bound})"


def load(
  workdir: str | pathlib.Path,
  *,
  parameters: str = "last",
  array_cache_dir: str | None = Machine._field_defaults["array_cache_dir"],
  **places: Any,
) -> LoadedRun:
  """Opens the directory of a run of experiments.train or `train`. Any number may be open at once.

  Args:
    workdir: the directory of a run, or of a member of a sweep; or one that has the parameters in
      params.npz in place of checkpoints, such as experiments/results/mnist_adam.
    parameters: "last" for the parameters that training ended with, "best" for the parameters of the
      highest validation bound.
    array_cache_dir: the directory that keeps decoded data sets between runs; None for no cache.
    places: fields of `DataConfig` that name the data's new place if the data have moved:
      data_dir, manual_dir, mirror, max_resident_mb.

  Returns:
    The run.

  Raises:
    RunError: if the directory holds no run that can be opened; the message says what to do.
    ConfigError: if the data set of the run is not there.
    TypeError: if `places` has other names.
  """
  workdir = pathlib.Path(workdir).expanduser()
  config = read_config(workdir)
  if unknown := set(places) - set(PLACES):
    raise TypeError(f"load takes {', '.join(PLACES)}, not {', '.join(sorted(unknown))}")
  config = replace(config, **places)
  try:
    check_single(config)
    images = load_images(config, array_cache_dir)
    model = build.make_model(config, images)
    params = load_params(workdir, config, model, images, best=parameters == "best")
  except ConfigError as error:
    if error.field in (*PLACES, "dataset", "array_cache_dir"):
      raise
    raise RunError(workdir, f"holds a run that cannot be rebuilt: --{error}") from error
  metrics, summary = files.read_metrics(workdir), workdir / directory.SUMMARY
  summary = files.read_json(summary) if summary.exists() else None
  pixels = make_pixels(images, config.data, condition=config.model.condition)
  return LoadedRun(workdir, config, model, params, images, pixels, metrics, summary)


def read_config(workdir: pathlib.Path) -> Config:
  """Reads the configuration of a run from its config.json or, for an older run, its flags.txt.

  Raises:
    RunError: if no configuration can be read, or the directory holds a sweep.
  """
  name = directory.CONFIG if (workdir / directory.CONFIG).exists() else directory.FLAG_FILE
  if not os.path.exists(workdir / name):  # also False for an impossible path
    raise RunError(workdir, "holds no run of experiments.train (there is no flags.txt)")
  try:
    text = disk.read_text(workdir / name)
    config = resolve((texts.from_json if name == directory.CONFIG else texts.from_flags)(text))
  except (OSError, ValueError) as error:
    what = f"--{error}" if isinstance(error, ConfigError) else " ".join(str(error).split())
    message = f"has a {name} that cannot be read ({what}); it may be of another main, or of a newer"
    raise RunError(workdir, f"{message} version of aevb_jax") from error
  if name == directory.FLAG_FILE and OF_TRAIN not in text:
    raise RunError(workdir, "holds a run of another main than experiments.train")
  if several := swept(config):
    found = sorted(path.parent.name for path in workdir.glob(f"{several[0]}_*/flags.txt"))
    raise RunError(workdir, f"holds a sweep; name one of its members: {' '.join(found)}")
  return config


def load_params(
  workdir: pathlib.Path, config: Config, model: Model, images: ImageData, *, best: bool = False
) -> Params:
  """Reads the parameters of the last checkpoint of a run, or those of its params.npz.

  Raises:
    RunError: if there are no parameters that can be read.
    ConfigError: if the run's estimator is not available.
  """
  learning, checkpoints = make_learning(config, model, images), workdir / directory.CHECKPOINTS
  init = lambda key: start(learning.algorithm.init(key), learning.columns)
  like = jax.eval_shape(init, jax.random.key(0))
  if best and not like.best:
    raise RunError(workdir, "has no best parameters: they take validation images, and an encoder")
  try:
    steps = checkpoint.steps(checkpoints)
    if not steps and (workdir / directory.PARAMS).exists():
      return _read_weights(workdir / directory.PARAMS, like.states.params, best)
    if not steps:
      raise checkpoint.CheckpointError(f"{checkpoints} holds no checkpoint")
    record = checkpoint.read_record(checkpoints, steps[-1])
    changed = compare(record, steps[-1], Origin(config, None, dict(generator=generator())))
    saved = checkpoint.restore(checkpoints, steps[-1], like)
  except checkpoint.CheckpointError as error:
    raise RunError(workdir, f"has no parameters to evaluate: {error}") from error
  if changed:
    what = "; ".join(changed)
    LOGGER.warning(
      "warning: since %s was trained, %s: x is binarized in another way", workdir, what
    )
  return saved.best.params if best else saved.states.params


def _read_weights(path: pathlib.Path, like: Params, best: bool) -> Params:
  if best:
    raise checkpoint.CheckpointError(f"{path} holds only the last parameters")
  return weights.read(path, like)


def train(config: Config, workdir: str | pathlib.Path, **machine: Any) -> LoadedRun | None:
  """Trains a configuration in a directory, as experiments.train does, and opens the result.

  After an interruption the same call resumes the run. If the run is finished, it only opens it.

  Args:
    config: the configuration of a run, or of a sweep.
    workdir: the directory of the run.
    machine: other fields of `Machine`: num_devices, checkpoint_every, resume, overwrite,
      array_cache_dir, tracker.

  Returns:
    The run; None for a sweep, whose members `load` opens.

  Raises:
    ConfigError: if a field cannot be used, or the directory holds another run.
    FloatingPointError: if no run has finite numbers any more; the last finite state is saved.
    OSError, SaveError: if something cannot be written.
  """
  machine = Machine(pathlib.Path(workdir).expanduser(), **machine)
  with directory.locked(), _printing_anything():
    run_job(config, machine)
  if swept(config):
    return None
  return load(machine.workdir, array_cache_dir=machine.array_cache_dir)


@contextlib.contextmanager
def _printing_anything() -> Iterator[None]:
  """Lets standard output write escapes for characters that it cannot encode, such as ± in ASCII.

  Otherwise the first row that is printed would end the training.
  """
  stream = sys.stdout
  if not isinstance(stream, io.TextIOWrapper):  # for example a notebook's, which encodes anything
    yield
    return
  before = stream.errors
  stream.reconfigure(errors="backslashreplace")
  try:
    yield
  finally:
    if not stream.closed:
      stream.reconfigure(errors=before)


def save(
  workdir: str | pathlib.Path,
  config: Config,
  params: Params,
  *,
  step: int = 0,
  metrics: Sequence[dict] = (),
  array_cache_dir: str | None = Machine._field_defaults["array_cache_dir"],
) -> LoadedRun:
  """Writes a model that was trained by `fit` as the directory of a finished run.

  `load`, experiments.evaluate and experiments.status then accept the directory.

  Args:
    workdir: a directory that does not exist yet, or is empty.
    config: names the data set and a model with these parameters.
    params: the parameters.
    step: training steps made, with config.optimizer.batch_size examples each.
    metrics: rows of metrics.csv, all with the same columns.
    array_cache_dir: the directory that keeps decoded data sets between runs; None for no cache.

  Returns:
    The run, opened.

  Raises:
    ConfigError: if a field cannot be used, or the directory is not empty.
    ValueError: if the parameters do not have the structure or the shapes of the model's.
    SaveError: if something cannot be written.
  """
  workdir, config = pathlib.Path(workdir).expanduser(), resolve(config)
  check_single(config)
  images = load_images(config, array_cache_dir)
  learning = make_learning(config, build.make_model(config, images), images)
  state = learning.algorithm.init(jax.random.key(config.seed))
  shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)
  if shapes(params) != shapes(state.params):
    raise ValueError("the parameters are not those of the model that the configuration names")
  state = state._replace(params=params, step=jax.numpy.asarray(step, state.step.dtype))
  with directory.locked():
    directory.open_run(workdir, [config])
    run = Run(config, "", workdir, None, tuple(metrics))
    saved = Saved(state, start(state, learning.columns).best)
    training = Training((run,), (0,), step, saved, {}, 0.0, None)
    origin, batch_size = make_origin(config), config.optimizer.batch_size
    with saver(workdir / directory.CHECKPOINTS, origin, batch_size) as save_training:
      save_training(training)
    if metrics:
      with files.metrics_writer(workdir, tuple(metrics[0]), metrics):
        pass
      with trackers.tracking(trackers.find("tensorboard")) as tracking:
        tracking.begin(workdir, workdir.name, {}, metrics)
    files.write_summary(
      workdir / directory.SUMMARY,
      dict(
        algorithm=config.objective.algorithm,
        **about_images(images, config.data),
        examples_seen=step * batch_size,
        **files.provenance(origin.commit),
        seed=config.seed,
      ),
    )
  return load(workdir, array_cache_dir=array_cache_dir)


def to_pandas(table: LoadedRun | str | pathlib.Path | Sequence[dict]) -> Any:
  """Makes a pandas DataFrame of a table.

  Args:
    table: a run, for the rows of its metrics.csv; or a CSV file, which `read_table` reads; or rows.

  Returns:
    The DataFrame; empty cells are missing values.

  Raises:
    ImportError: if pandas is not installed.
    RunError, OSError: if the file cannot be read.
  """
  try:
    import pandas
  except ImportError as error:
    raise ImportError(
      "runs.to_pandas needs pandas, which is not installed: pip install pandas"
    ) from error
  if isinstance(table, LoadedRun):
    rows = table.metrics
  else:
    rows = files.read_table(table) if isinstance(table, str | pathlib.Path) else list(table)
  # A column of nothing but None would not be one of numbers.
  missing = lambda value: math.nan if value is None else value
  return pandas.DataFrame([{name: missing(v) for name, v in row.items()} for row in rows])


def encode(run: LoadedRun, images: Array, labels: Array | None = None) -> np.ndarray:
  """Returns the means of q(z|x) for images, or of q(z|x, c) given their labels.

  Args:
    run: a run whose model has an encoder.
    images: shape (N, D) or (N, height, width[, channels]); uint8, or floats in the units of x.
      They are binarized as the test images of the run are.
    labels: N whole numbers, for a run with --condition=label; None for any other run.

  Returns:
    The means, shape (N, J).

  Raises:
    ValueError: if the images have another number of pixels than those of the run, or the run takes
      labels and there are none, or the reverse, or one is not of its classes.
  """
  mean = lambda key, model, params, x: model.encoder.given(params.phi, x).mean
  return _of_images(mean, run, images, labels)


def decode(run: LoadedRun, z: Array, labels: Array | None = None) -> np.ndarray:
  """Returns the means of p(x|z) for latents, or of p(x|z, c) given labels, as images.

  Args:
    run: a run.
    z: latents, shape (N, J).
    labels: N whole numbers, for a run with --condition=label; None for any other run.

  Returns:
    The means in units of x, shape (N, height, width, channels).

  Raises:
    ValueError: if the run takes labels and there are none, or the reverse, or one is not of its
      classes.
  """
  mean = jax.vmap(lambda z: run.model.decoder.given(run.params.theta, z).mean)
  c = _condition_of(run, labels, len(z))
  z = jax.numpy.asarray(z)
  given = z if c is None else (z, jax.numpy.asarray(c, z.dtype))
  return np.asarray(mean(given)).reshape(-1, *run.data.image_shape)


def log_likelihood(
  run: LoadedRun, images: Array, labels: Array | None = None, *, num_samples: int = 1000
) -> np.ndarray:
  """Estimates log p(x) for images, or log p(x|c) given their labels, by importance sampling.

  Args:
    run: a run whose model has an encoder.
    images: shape (N, D) or (N, height, width[, channels]); uint8, or floats in the units of x.
      They are binarized as the test images of the run are.
    labels: N whole numbers, for a run with --condition=label; None for any other run.
    num_samples: K for each image. The estimate is biased downwards, less for larger K.

  Returns:
    The estimates in nats, shape (N,).

  Raises:
    ValueError: if the images have another number of pixels than those of the run, or the run takes
      labels and there are none, or the reverse, or one is not of its classes.
  """

  def estimate(key: Key, model: Model, params: Params, x: Array) -> Array:
    return importance_sampling(key, model, params, x, num_samples=num_samples).value

  return _of_images(estimate, run, images, labels)


def _of_images(
  function: Callable, run: LoadedRun, images: Array, labels: Array | None
) -> np.ndarray:
  """Evaluates (key, model, params, x) at images, binarized as the test images of the run are."""
  images = np.asarray(images)
  images = images.reshape(len(images), -1)
  if images.shape[1] != run.data.train.shape[1]:
    shape = run.data.image_shape
    raise ValueError(f"images have {images.shape[1]} pixels, and the model takes {shape}")
  rows: Any = images
  if (c := _condition_of(run, labels, len(images))) is not None:
    rows, function = Joined(images, c), conditioned(function, data_dim=images.shape[1])
  of_point = lambda key, params, x: function(key, run.model, params, x)
  reading: dict[str, Any] = dict(preprocess=run.pixels.preprocess, static_key=run.pixels.test_draw)
  return evaluate_in_blocks(of_point, jax.random.key(0), run.params, rows, batch_size=20, **reading)


def _condition_of(run: LoadedRun, labels: Array | None, number: int) -> np.ndarray | None:
  """Makes the one-hot labels of a conditional run; None for any other run."""
  if not run.config.model.condition:
    if labels is not None:
      raise ValueError("the run was trained without --condition=label; leave the labels out")
    return None
  if labels is None or len(labels) != number:
    found = "there are none" if labels is None else f"there are {len(labels)}"
    raise ValueError(f"the run was trained with --condition=label: {number} labels; {found}")
  return one_hot_labels(labels, num_classes(run.data))
