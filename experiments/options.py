"""The flags that experiments share, and the functions and numbers they stand for."""

import functools
import importlib
import inspect
import math
import os
import traceback
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np
from absl import flags

from aevb_jax import data, estimators, optimizers
from aevb_jax.aevb import aevb, gaussian_weight_prior
from aevb_jax.families import bernoulli, diagonal_gaussian
from aevb_jax.model import init_params, mlp_vae
from aevb_jax.types import Algorithm, Array, Estimator, Family, Key, Model, UnsupportedError
from experiments import data_options
from experiments.command import CACHE, UsageError

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(data_options)

ESTIMATORS = {"elbo_a": estimators.elbo_a, "elbo_b": estimators.elbo_b}
OPTIMIZERS = {"adagrad": optimizers.adagrad, "adam": optimizers.adam, "sgd": optimizers.sgd}

# Sections 5 and C; what the paper leaves open is settled as its first author's code does.
PRESETS = {
  "paper": dict(
    binarization="none",
    hidden_dim=500,
    min_std=0.0,
    estimator="elbo_b",
    num_samples=1,
    batch_size=100,
    optimizer="adagrad",
    step_size=0.02,
    init="0.1",
    weight_prior=1.0,
  )
}

flags.DEFINE_enum("model", "mlp", ["mlp"], "mlp: one tanh layer on each side (appendix C).")
flags.DEFINE_enum(
  "likelihood", "bernoulli", ["bernoulli", "gaussian"], "p(x|z): appendix C.1 or C.2."
)
flags.DEFINE_boolean(
  "sigmoid_mean", True, "Gaussian likelihood: put its mean through a sigmoid, as for Frey Face."
)
flags.DEFINE_float(
  "min_std",
  0.01,
  "Gaussian likelihood: floor on its standard deviation, in units of x. Without one (0, the "
  "paper's choice) the density of constant pixels is unbounded.",
  lower_bound=0.0,
)
flags.DEFINE_integer("latent_dim", 2, "J, dimensions of z.", lower_bound=1)
flags.DEFINE_integer("hidden_dim", 500, "Hidden units of encoder and decoder.", lower_bound=1)
flags.DEFINE_string(
  "estimator",
  "elbo_b",
  f"{' or '.join(ESTIMATORS)} (equations 6 and 7), or package.module:function for your own, called "
  "with (key, model, params, x, num_samples=L) for one data point x, returning a scalar.",
)
flags.DEFINE_integer("num_samples", 1, "L, samples of z per data point.", lower_bound=1)
flags.DEFINE_integer("batch_size", 100, "M, data points per minibatch.", lower_bound=1)
flags.DEFINE_enum(
  "optimizer",
  "adam",
  list(OPTIMIZERS),
  "adagrad is the paper's: accumulator from 0, and the first "
  f"{optimizers.ADAGRAD_WARMUP_STEPS} steps only accumulate.",
)
flags.DEFINE_float("step_size", 0.001, "Step size of the optimizer.")
flags.DEFINE_string(
  "init",
  "flax",
  "flax (LeCun normal weights, zero biases), or a standard deviation for normally distributed "
  "weights and biases; the paper's N(0, 0.01) is 0.1.",
)
flags.DEFINE_float(
  "weight_prior",
  0.0,
  "Precision of a Gaussian prior on the weight matrices; 1 is the paper's N(0, I), 0 none.",
  lower_bound=0.0,
)
flags.DEFINE_integer(
  "num_examples",
  1_000_000,
  "Training samples to evaluate, the x axis of the paper's figures; steps are this / M.",
  lower_bound=1,
)
flags.DEFINE_integer(
  "seed", 0, "Seed of initialization, data order and noise.", lower_bound=0, upper_bound=2**32 - 1
)
flags.DEFINE_enum(
  "preset",
  None,
  list(PRESETS),
  "Values for the flags that are not given: paper sets "
  + ", ".join(f"{name}={value}" for name, value in PRESETS["paper"].items())
  + ".",
)
flags.DEFINE_string(
  "compilation_cache_dir",
  os.path.join(CACHE, "xla"),
  "Where compiled programs are kept between runs; empty for nowhere.",
)


@flags.validator("step_size", "takes a positive number")
def _check_step_size(value: float) -> bool:
  return 0 < value < math.inf


@flags.validator("weight_prior", "takes a finite number of at least 0")
@flags.validator("min_std", "takes a finite number of at least 0")
def _check_finite(value: float) -> bool:
  return math.isfinite(value)


@flags.validator("init", "takes flax or a positive standard deviation")
def _check_init(value: str) -> bool:
  try:
    return value == "flax" or 0 < float(value) < math.inf
  except ValueError:
    return False


def settle() -> None:
  """Every main's first call: flags take the values that others imply, or do not go together."""
  for name, value in PRESETS.get(FLAGS.preset, {}).items():
    if not FLAGS[name].present:
      FLAGS[name].value = value
  real_or_binary = FLAGS.likelihood == "gaussian" or FLAGS.dataset == "binarized_mnist"
  if real_or_binary and not FLAGS["binarization"].present:
    FLAGS.binarization = "none"
  if FLAGS.likelihood == "gaussian" and FLAGS.binarization != "none":
    raise UsageError("binarization", "--likelihood=gaussian takes none, since pixels stay real")
  data_options.settle()
  if FLAGS.dequantization and FLAGS.likelihood != "gaussian":
    raise UsageError("dequantization", "is for a density; it takes --likelihood=gaussian")
  warmup = optimizers.ADAGRAD_WARMUP_STEPS if FLAGS.optimizer == "adagrad" else 0
  if FLAGS.num_examples <= warmup * FLAGS.batch_size or FLAGS.num_examples < FLAGS.batch_size:
    least = f"more than the {warmup} steps of warm-up" if warmup else "at least one step"
    raise UsageError("num_examples", f"takes {least}, at --batch_size={FLAGS.batch_size}")
  if FLAGS.compilation_cache_dir:
    directory = os.path.expanduser(FLAGS.compilation_cache_dir)
    try:
      os.makedirs(directory, exist_ok=True)
    except OSError as error:
      raise UsageError("compilation_cache_dir", f"cannot be made ({error.strerror})") from error
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def load_images() -> data.ImageData:
  """The data set that the flags name, checked against what they ask of it."""
  images = data_options.load_images()
  num_train = len(images.train)
  if FLAGS.batch_size > num_train:
    raise UsageError(
      "batch_size", f"takes at most the {num_train} training images of {FLAGS.dataset}"
    )
  if FLAGS.likelihood == "bernoulli" and images.train.dtype != np.uint8:
    for source in (images.train, images.test):
      low, high = data_options.pixel_range(source)
      if not (low >= 0 and high <= 1):
        raise UsageError(
          "likelihood",
          f"takes pixels in [0, 1], and those of {FLAGS.dataset} range from {low:g} to {high:g}; "
          "scale them, or use --likelihood=gaussian --nosigmoid_mean",
        )
  return images


def make_model(images: data.ImageData) -> Model:
  data_dim = images.train.shape[1]
  kernel_init, bias_init = nn.initializers.lecun_normal(), nn.initializers.zeros_init()
  if FLAGS.init != "flax":
    kernel_init = bias_init = nn.initializers.normal(float(FLAGS.init))
  return mlp_vae(
    _likelihood(data_dim),
    data_dim=data_dim,
    latent_dim=FLAGS.latent_dim,
    hidden_dim=FLAGS.hidden_dim,
    kernel_init=kernel_init,
    bias_init=bias_init,
  )


def _likelihood(data_dim: int) -> Family:
  if FLAGS.likelihood == "bernoulli":
    return bernoulli(data_dim)
  mean_link = jax.nn.sigmoid if FLAGS.sigmoid_mean else lambda head: head
  return diagonal_gaussian(data_dim, mean_link=mean_link, min_std=FLAGS.min_std)


def make_estimator(model: Model, data_dim: int) -> Estimator:
  """The estimator with L bound, tried on shapes so that a misfit shows before training."""
  function = ESTIMATORS.get(FLAGS.estimator) or _import_estimator()
  estimator = functools.partial(function, num_samples=FLAGS.num_samples)

  def once(key: Key, x: Array) -> Array:
    return estimator(key, model, init_params(key, model), x)

  try:
    value = jax.eval_shape(once, jax.random.key(0), jax.numpy.zeros(data_dim))
  except Exception as error:  # whatever a user's function raises
    raise UsageError("estimator", f"fails on a data point: {_one_line(error)}") from error
  if getattr(value, "shape", None) != () or not np.issubdtype(value.dtype, np.floating):
    raise UsageError("estimator", f"must return a float scalar for one data point, not {value}")
  return estimator


def _import_estimator() -> Callable[..., Array]:
  module_name, colon, name = FLAGS.estimator.partition(":")
  if not colon:
    known = ", ".join(ESTIMATORS)
    raise UsageError("estimator", f"unknown; takes {known}, or package.module:function")
  try:
    function = getattr(importlib.import_module(module_name), name)
  except (Exception, SystemExit) as error:  # whatever importing a user's module raises
    raise UsageError("estimator", f"cannot be imported: {_one_line(error)}") from error
  if not callable(function):
    raise UsageError("estimator", f"is {type(function).__name__}, which cannot be called")
  try:
    inspect.signature(function).bind("key", "model", "params", "x", num_samples=1)
  except (TypeError, ValueError) as error:
    takes = "is called with (key, model, params, x, num_samples=L)"
    raise UsageError("estimator", f"{takes}, which it does not accept: {error}") from error
  return function


def _one_line(error: BaseException) -> str:
  """What was raised and, for an error in a user's own code, where."""
  what = f"{type(error).__name__}: {' '.join(str(error).split())}"
  installed = ("<", os.path.dirname(os.__file__), os.path.dirname(data.__file__), __file__)
  frames = [
    frame
    for frame in traceback.extract_tb(error.__traceback__)
    if not frame.filename.startswith(installed) and "site-packages" not in frame.filename
  ]
  if isinstance(error, UnsupportedError) or not frames:
    return what
  return f"{what} ({frames[-1].filename}, line {frames[-1].lineno})"


def make_algorithm(model: Model, estimator: Estimator, num_data: int) -> Algorithm:
  """Algorithm 1 with the optimizer and the prior on the weights that the flags name."""
  return aevb(
    model,
    estimator,
    OPTIMIZERS[FLAGS.optimizer](FLAGS.step_size),
    num_data=num_data,
    log_prior=gaussian_weight_prior(FLAGS.weight_prior) if FLAGS.weight_prior else None,
  )
