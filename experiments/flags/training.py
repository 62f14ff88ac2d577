"""The flags that experiments share, and the functions and numbers they stand for."""

import math
import os
from collections.abc import Callable

import jax
import numpy as np
import optax
from absl import flags

from aevb_jax.algorithms import optimizers
from aevb_jax.algorithms.auto_encoding import aevb, gaussian_weight_prior
from aevb_jax.algorithms.monte_carlo_em import mcem
from aevb_jax.data import datasets
from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.score_functions import (
  Baseline,
  constant_baseline,
  leave_one_out,
  no_baseline,
  with_baseline,
)
from aevb_jax.families import table
from aevb_jax.types import Algorithm, Array, Model, Params
from experiments.flags import data as data_options
from experiments.flags import estimators, models, sweeps
from experiments.flags.estimators import Estimation
from experiments.launch.command import CACHE, MAX_COUNT, UsageError, is_count

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(data_options)
flags.adopt_module_key_flags(estimators)
flags.adopt_module_key_flags(models)

OPTIMIZERS = {"adagrad": optimizers.adagrad, "adam": optimizers.adam, "sgd": optimizers.sgd}

# paper: sections 5 and C; what the paper leaves open is settled as its first author's code does.
# article: the convolutional VAE of an article that retells it. Its standard deviation is
# softplus(head) + 1e-8; here the head is a log-variance, as in every model of this package. The
# network is that of TensorFlow's tutorial, whose initialization is glorot: it learns faster so.
# iwae: Burda, Grosse & Salakhutdinov (2015), one stochastic layer, for --dataset=mnist:60k and
# --num_examples=196800000. Their code adds up the gradients of a minibatch of 20, where here they
# are averaged: its eps of 1e-4 is 5e-6 here. And it is the paper's beta_1, 0.9; the code has 0.99.
PRESETS = {
  "paper": dict(
    binarization="none",
    hidden_dim=["500"],
    min_std=0.0,
    estimator="elbo_b",
    num_samples=1,
    batch_size=100,
    optimizer="adagrad",
    step_size=0.02,
    init="0.1",
    weight_prior=1.0,
  ),
  "article": dict(
    model="conv",
    init="glorot",
    binarization="threshold",
    latent_dim=2,
    estimator="elbo_b",
    num_samples=1,
    batch_size=32,
    optimizer="adam",
    step_size=1e-4,
  ),
  "iwae": dict(
    binarization="dynamic",
    latent_dim=50,
    hidden_dim=["200", "200"],
    estimator="iwae",
    num_samples=50,
    batch_size=20,
    optimizer="adam",
    step_size=1e-3,
    adam_eps=1e-4 / 20,
    stage_epochs=[str(3**i) for i in range(8)],
    init="glorot",
    output_bias="data_mean",
  ),
}
flags.DEFINE_integer("batch_size", 100, "M, data points per minibatch.", lower_bound=1)
flags.DEFINE_integer(
  "examples_at_once",
  None,
  "Examples of a minibatch whose gradients are taken together, the next after them: less memory "
  "for large minibatches. Default: all, and 32 for --model=conv on a CPU, where they fit its "
  "cache.",
  lower_bound=1,
)
flags.DEFINE_enum(
  "optimizer",
  "adam",
  list(OPTIMIZERS),
  "adagrad is the paper's: accumulator from 0, and the first "
  f"{optimizers.ADAGRAD_WARMUP_STEPS} steps only accumulate.",
)
sweeps.define(
  "step_size",
  0.001,
  "Step size of the optimizer; several, such as 0.01,0.02,0.1, train together.",
  flags.FloatParser(),
)
flags.DEFINE_list(
  "stage_epochs",
  None,
  "Epochs of each stage, such as 1,3,9,27: from each to the next the step size falls by the "
  "seventh root of 10, as that of Burda et al.; the last goes on to the end. Default: it is "
  "constant.",
)
flags.DEFINE_float(
  "adam_eps",
  None,
  "adam: what is added to the root of the second moments of the gradient per data point. "
  "Default: 1e-8.",
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
  upper_bound=10**12,
)
sweeps.define(
  "seed",
  0,
  "Seed of initialization, data order and noise; several, such as 0,1,2, train together.",
  flags.IntegerParser(lower_bound=0, upper_bound=2**32 - 1),
)
flags.DEFINE_enum(
  "preset",
  None,
  list(PRESETS),
  "Values for the flags that are not given: "
  + "; ".join(
    f"{preset} sets "
    + ", ".join(
      f"{name}={','.join(value) if isinstance(value, list) else value}"
      for name, value in values.items()
    )
    for preset, values in PRESETS.items()
  )
  + ".",
)
flags.DEFINE_string(
  "compilation_cache_dir",
  os.path.join(CACHE, "xla"),
  "Where compiled programs are kept between runs; empty for nowhere.",
)


@flags.validator("step_size", "takes positive numbers")
def _check_step_size(value: float | tuple[float, ...]) -> bool:
  return all(0 < step_size < math.inf for step_size in sweeps.values_of(value))


@flags.validator("stage_epochs", "takes positive whole numbers, separated by commas")
def _check_stage_epochs(value: list[str] | None) -> bool:
  return value is None or (bool(value) and all(map(is_count, value)))


@flags.validator("adam_eps", "takes a positive number")
def _check_adam_eps(value: float | None) -> bool:
  return value is None or 0 < value < math.inf


@flags.validator("weight_prior", "takes a finite number of at least 0")
@flags.validator("beta", "takes a finite number of at least 0")
@flags.validator("free_bits", "takes a finite number of at least 0")
def _check_finite(value: float) -> bool:
  return math.isfinite(value)


def settle(*, updates_per_step: int = 1, sweep: bool = False) -> None:
  """Every main's first call: flags take the values that others imply, or do not go together.

  Args:
    updates_per_step: steps of the optimizer for every minibatch, where an algorithm makes more.
    sweep: whether flags may have several values.
  """
  if not sweep:
    sweeps.refuse()
  for name, value in PRESETS.get(FLAGS.preset, {}).items():
    if not FLAGS[name].present:
      FLAGS[name].value = value
  models.settle()
  if FLAGS.optimizer != "adam":
    if FLAGS["adam_eps"].present:
      raise UsageError("adam_eps", f"has no meaning for --optimizer={FLAGS.optimizer}")
    FLAGS.adam_eps = None  # a preset's
  of_bits = FLAGS.likelihood == "bernoulli"
  real_or_binary = not of_bits or FLAGS.dataset == "binarized_mnist"
  if real_or_binary and not FLAGS["binarization"].present:
    FLAGS.binarization = "none"
  if not of_bits and FLAGS.binarization != "none":
    raise UsageError(
      "binarization", f"--likelihood={FLAGS.likelihood} takes none, since pixels stay real"
    )
  data_options.settle()
  if FLAGS.dequantization and (of_bits or FLAGS.likelihood in table.LEVELS):
    raise UsageError("dequantization", "is for a density; it takes --likelihood=gaussian")
  if FLAGS.examples_at_once and FLAGS.batch_size % FLAGS.examples_at_once:
    raise UsageError("examples_at_once", f"must divide --batch_size={FLAGS.batch_size}")
  warmup = optimizers.ADAGRAD_WARMUP_STEPS if FLAGS.optimizer == "adagrad" else 0
  warmup = -(-warmup // updates_per_step)
  if FLAGS.num_examples <= warmup * FLAGS.batch_size or FLAGS.num_examples < FLAGS.batch_size:
    least = f"more than the {warmup} steps of warm-up" if warmup else "at least one step"
    raise UsageError("num_examples", f"takes {least}, at --batch_size={FLAGS.batch_size}")
  if FLAGS.num_examples > MAX_COUNT * FLAGS.batch_size:
    raise UsageError("num_examples", f"takes at most {MAX_COUNT} steps of {FLAGS.batch_size}")
  if FLAGS.compilation_cache_dir:
    directory = os.path.expanduser(FLAGS.compilation_cache_dir)
    try:
      os.makedirs(directory, exist_ok=True)
    except OSError as error:
      raise UsageError("compilation_cache_dir", f"cannot be made ({error.strerror})") from error
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def load_images() -> datasets.ImageData:
  """The data set that the flags name, checked against what they ask of it."""
  images = data_options.load_images()
  num_train = len(images.train)
  if FLAGS.batch_size > num_train:
    raise UsageError(
      "batch_size", f"takes at most the {num_train} training images of {FLAGS.dataset}"
    )
  of_unit = FLAGS.likelihood in ("bernoulli", "continuous_bernoulli")
  if of_unit and images.train.dtype != np.uint8:
    for source in (images.train, images.test):
      low, high = data_options.pixel_range(source)
      if not (low >= 0 and high <= 1):
        raise UsageError(
          "likelihood",
          f"takes pixels in [0, 1], and those of {FLAGS.dataset} range from {low:g} to {high:g}; "
          "scale them, or use --likelihood=gaussian --nosigmoid_mean",
        )
  return images


def density_note() -> str | None:
  """What is to be said of the log-likelihoods of a model that is no model of its data."""
  if FLAGS.likelihood == "bernoulli" and data_options.real_valued():
    return "Bernoulli likelihood of real-valued pixels: not a log-density"
  return None


def make_optimizer(num_data: int, *, updates_per_step: int = 1) -> optax.GradientTransformation:
  """The optimizer that the flags name, for as many training images."""
  how = dict(eps=FLAGS.adam_eps) if FLAGS.adam_eps is not None else {}
  if FLAGS.stage_epochs:
    per_epoch = num_data // FLAGS.batch_size * updates_per_step  # as `minibatch_indices` cuts it
    how |= dict(schedule=optimizers.stages([int(n) * per_epoch for n in FLAGS.stage_epochs]))
  return OPTIMIZERS[FLAGS.optimizer](FLAGS.step_size, **how)


def for_baseline(
  optimizer: optax.GradientTransformation, baseline: Baseline
) -> optax.GradientTransformation:
  """`optimizer` for θ and φ, and for ψ what makes the baseline follow the signal."""
  if baseline is constant_baseline:
    return optimizers.moving_average(optimizer)
  if baseline in (no_baseline, leave_one_out):
    return optimizer
  return optimizers.with_psi(optimizer, optimizers.adam(1e-3))


def make_algorithm(model: Model, estimation: Estimation, num_data: int) -> Algorithm:
  """Algorithm 1 with the optimizer and the prior on the weights that the flags name."""
  optimizer = for_baseline(make_optimizer(num_data), estimation.baseline)
  return aevb(
    model,
    estimation.objective,
    optimizer,
    num_data=num_data,
    log_prior=make_log_prior(),
    init=with_baseline(estimation.baseline),
    examples_at_once=FLAGS.examples_at_once or _examples_in_cache(),
  )


def _examples_in_cache() -> int | None:
  """Of how many examples a CPU's cache holds what the layers of --model=conv make."""
  on_cpu = jax.default_backend() == "cpu"
  return 32 if on_cpu and FLAGS.model == "conv" and FLAGS.batch_size % 32 == 0 else None


def make_mcem(model: Model, num_data: int, *, num_leapfrogs: int, num_updates: int) -> Algorithm:
  """Monte Carlo EM with the optimizer and the prior on the weights that the flags name."""
  if models.prior_name().startswith("vamp"):
    raise UsageError("prior", "vamp is made of an encoder, and --algorithm=mcem has none")
  optimizer = make_optimizer(num_data, updates_per_step=num_updates)
  how = dict(num_leapfrogs=num_leapfrogs, num_updates=num_updates, log_prior=make_log_prior())
  try:
    return mcem(model, optimizer, num_data=num_data, **how)
  except UnsupportedError as error:
    raise UsageError("posterior", str(error)) from error


def make_log_prior() -> Callable[[Params], Array] | None:
  """The prior on the weights that the flags name."""
  return gaussian_weight_prior(FLAGS.weight_prior) if FLAGS.weight_prior else None
