"""Checks of a configuration: values that fields take, values that they imply, and conflicts."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Collection
from typing import Any

from aevb_jax import names
from aevb_jax.algorithms.optimizers import ADAGRAD_WARMUP_STEPS
from aevb_jax.data import datasets, downloads
from aevb_jax.errors import ConfigError, blaming
from aevb_jax.families import table
from aevb_jax.models.own import LAYERED, layers_of
from aevb_jax.runs.config import (
  OBJECTIVES,
  Config,
  ModelConfig,
  leaves,
  replace,
  swept,
  values_of,
)

MAX_COUNT = 2**31 - 1  # the largest int32, in which devices count
HIDDEN_DIMS = {"mlp": (500,), "conv": (32, 64)}  # by model
INITIALIZERS = ("flax", "glorot")
OPTIMIZERS = ("adagrad", "adam", "sgd")

CHOICES = {
  "condition": ("label",),
  "binarization": ("dynamic", "static", "threshold", "none"),
  "pixel_scale": (255, 256),
  "compute_dtype": ("float32", "bfloat16"),
  "matmul_precision": ("default", "high", "highest"),
  "output_bias": ("init", "data_mean"),
  "on_nonfinite": ("stop", "skip"),
}
LEAST = {
  "num_train": 0,
  "max_resident_mb": 0.0,
  "min_std": 0.0,
  "latent_dim": 1,
  "num_samples": 1,
  "beta": 0.0,
  "kl_warmup": 0,
  "free_bits": 0.0,
  "examples_at_once": 1,
  "num_importance_samples": 0,
  "num_leapfrogs": 1,
  "num_updates": 1,
  "weight_prior": 0.0,
  "batch_size": 1,
  "num_examples": 1,
  "eval_every": 1,
  "evals_per_decade": 0,
  "select_step_size": 0,
  "seed": 0,
}
MOST = {"num_examples": 10**12, "seed": 2**32 - 1}


def _is_known(known: Collection[str]) -> Callable[[str], Any]:
  return lambda text: table.parse(text, known)


def _is_own(text: str) -> None:
  names.split(text, ())


def _is_model(text: str) -> None:
  if not layers_of(text):
    names.check_plain([*HIDDEN_DIMS, LAYERED], text)


def _require(holds: Callable[[Any], bool], message: str) -> Callable[[Any], None]:
  """Returns a function that raises ValueError with the message for a value that is not allowed."""

  def check(value: Any) -> None:
    if not holds(value):
      raise ValueError(message)

  return check


_are_counts = lambda values: bool(values) and all(0 < n <= MAX_COUNT for n in values)
_finite = _require(math.isfinite, "takes a finite number of at least 0")
# Requirements on values beyond their type and bounds; each function raises ValueError.
VALUES: dict[str, Callable[[Any], None]] = {
  "step_size": _require(
    lambda value: all(0 < one < math.inf for one in values_of(value)), "takes positive numbers"
  ),
  "stage_epochs": _require(_are_counts, "takes positive whole numbers, separated by commas"),
  "hidden_dim": _require(_are_counts, "takes positive whole numbers, separated by commas"),
  "adam_eps": _require(lambda value: 0 < value < math.inf, "takes a positive number"),
  "weight_prior": _finite,
  "beta": _finite,
  "free_bits": _finite,
  "min_std": _finite,
  "max_resident_mb": _require(lambda value: not math.isnan(value), "takes a number of at least 0"),
  "posterior": _is_known(table.POSTERIORS),
  "prior": _is_known(table.PRIORS),
  "likelihood": _is_known(table.LIKELIHOODS),
  "model": _is_model,
  "network": _is_own,
  "optimizer": functools.partial(names.check_plain, OPTIMIZERS),
  "algorithm": functools.partial(names.check_plain, OBJECTIVES),
  "init": _require(
    lambda text: text in INITIALIZERS or 0 < _number(text) < math.inf,
    "takes flax, glorot or a positive standard deviation",
  ),
}


def _number(text: str) -> float:
  try:
    return float(text)
  except ValueError:
    return math.nan


def check_values(config: Any) -> None:
  """Refuses values that a field never takes, whatever the other fields are.

  Args:
    config: a configuration, or a part of one.

  Raises:
    ConfigError: for the first such field.
  """
  for name, value in leaves(config).items():
    if value is None:
      continue
    if name in CHOICES and value not in CHOICES[name]:
      raise ConfigError(name, value, f"takes one of {', '.join(map(str, CHOICES[name]))}")
    for one in values_of(value) if name in LEAST else ():
      if not LEAST[name] <= one:
        raise ConfigError(name, value, f"takes at least {LEAST[name]}")
      if isinstance(one, int) and one > MOST.get(name, MAX_COUNT):
        raise ConfigError(name, value, f"takes at most {MOST.get(name, MAX_COUNT)}")
    if name in VALUES:
      with blaming(name, value):
        VALUES[name](value)


def resolve(config: Config) -> Config:
  """Fills in the fields that others imply, and refuses fields that conflict.

  Raises:
    ConfigError: for the first field that cannot be used.
  """
  check_values(config)
  config = _resolve_model(config)
  if config.optimizer.optimizer != "adam" and config.optimizer.adam_eps is not None:
    value = config.optimizer.adam_eps
    message = f"has no meaning for --optimizer={config.optimizer.optimizer}"
    raise ConfigError("adam_eps", value, message)
  config = _resolve_binarization(config)
  check_data(config.data)
  _check_dequantization(config)
  if config.model.condition:
    _check_condition(config)
  _check_steps(config)
  if config.objective.algorithm == "mcem":
    _check_mcem(config)
  _check_sweep(config)
  return config


def _resolve_model(config: Config) -> Config:
  model = config.model
  if model.network and model.model != "mlp":
    message = f"takes the place of the networks of --model=mlp; leave out --model={model.model}"
    raise ConfigError("network", model.network, message)
  own_networks = model.network or model.model not in HIDDEN_DIMS
  if layers := layers_of(model.model):
    model = _resolve_layers(model, layers)
  elif model.output_bias != "init" and model.model != "mlp":
    raise ConfigError("output_bias", model.output_bias, "takes --model=mlp or hierarchical")
  if model.output_bias != "init" and model.likelihood != "bernoulli":
    raise ConfigError("output_bias", model.output_bias, "takes --likelihood=bernoulli")
  with blaming("posterior", model.posterior):
    prior = model.prior or table.default_prior(model.posterior, model.latent_dim)
  hidden_dim = model.hidden_dim or (None if own_networks else HIDDEN_DIMS[model.model])
  model = dataclasses.replace(model, hidden_dim=hidden_dim, prior=prior)
  return dataclasses.replace(config, model=model)


def _resolve_layers(model: ModelConfig, layers: dict[str, Any]) -> ModelConfig:
  """Fills in J, the sum of the layers, and refuses fields that a model of layers does not take."""
  usual = {"posterior": ("gaussian",), "prior": (None, "gaussian"), "hidden_dim": (None,)}
  for name, values in usual.items():
    value = getattr(model, name)
    if value not in values:
      raise ConfigError(name, value, "is a part of --model=hierarchical:layers=...:hidden=...")
  return dataclasses.replace(model, latent_dim=sum(layers["latent_dims"]))


def _resolve_binarization(config: Config) -> Config:
  likelihood, binarization = config.model.likelihood, config.data.binarization
  real_or_binary = likelihood != "bernoulli" or config.data.dataset == "binarized_mnist"
  if binarization is None:
    binarization = "none" if real_or_binary else "dynamic"
  is_real = likelihood != "bernoulli" and not names.is_own(likelihood, table.LIKELIHOODS)
  if is_real and binarization != "none":
    message = f"--likelihood={likelihood} takes none, since pixels stay real"
    raise ConfigError("binarization", binarization, message)
  return replace(config, binarization=binarization)


def check_data(data: Any) -> None:
  """Refuses conflicting fields of a DataConfig, before any data are read.

  Raises:
    ConfigError: for the first such field.
  """
  if data.dequantization and data.binarization != "none":
    raise ConfigError("dequantization", True, "takes real values; use --binarization=none")
  if data.dequantization and data.pixel_scale == 255:
    raise ConfigError("pixel_scale", 255, "is 256 with --dequantization")
  levels = {"binarized_mnist": 2, "digits": 17}.get(data.dataset, 256)
  if data.dequantization and levels != 256:
    message = f"takes 8-bit pixels, and {data.dataset} has {levels} levels"
    raise ConfigError("dequantization", True, message)
  if data.pixel_scale and levels == 2:
    raise ConfigError("pixel_scale", data.pixel_scale, "cannot be used with pixels that are 0 or 1")
  if data.mirror and data.dataset not in datasets.PROTOCOLS:
    message = f"takes a --dataset among {', '.join(datasets.PROTOCOLS)}"
    raise ConfigError("mirror", data.mirror, message)
  if data.mirror and not downloads.is_address(data.mirror):
    raise ConfigError("mirror", data.mirror, "takes an address, as https://host/directory")
  if data.manual_dir and not os.path.isdir(os.path.expanduser(data.manual_dir)):
    raise ConfigError("manual_dir", data.manual_dir, "is not a directory")


def _check_dequantization(config: Config) -> None:
  likelihood = config.model.likelihood
  if config.data.dequantization and (likelihood == "bernoulli" or likelihood in table.LEVELS):
    message = "is for densities; use --likelihood=gaussian"
    raise ConfigError("dequantization", True, message)


def _check_steps(config: Config) -> None:
  """Refuses minibatches that cannot be divided, and numbers of steps that train nothing."""
  batch_size, num_examples = config.optimizer.batch_size, config.budget.num_examples
  at_once = getattr(config.objective, "examples_at_once", None)
  if at_once and batch_size % at_once:
    raise ConfigError("examples_at_once", at_once, f"must divide --batch_size={batch_size}")
  check_num_steps(num_examples, batch_size, _warmup_steps(config))


def check_num_steps(num_examples: int, batch_size: int, warmup: int = 0) -> None:
  """Refuses a number of training samples that makes no step after the warm-up, or too many steps.

  Raises:
    ConfigError: for such a number.
  """
  if num_examples <= warmup * batch_size or num_examples < batch_size:
    least = f"more than the {warmup} steps of warm-up" if warmup else "at least one step"
    raise ConfigError("num_examples", num_examples, f"takes {least}, at --batch_size={batch_size}")
  if num_examples > MAX_COUNT * batch_size:
    message = f"takes at most {MAX_COUNT} steps of {batch_size}"
    raise ConfigError("num_examples", num_examples, message)


def _warmup_steps(config: Config) -> int:
  """Returns the number of training steps in which Adagrad only accumulates."""
  if config.optimizer.optimizer != "adagrad":
    return 0
  return -(-ADAGRAD_WARMUP_STEPS // getattr(config.objective, "num_updates", 1))


def _check_mcem(config: Config) -> None:
  fixed = "draws x again at each use, and --algorithm=mcem keeps a z for every x; use "
  if config.data.binarization == "dynamic":
    raise ConfigError("binarization", "dynamic", f"{fixed}static, threshold or none")
  if config.data.dequantization:
    raise ConfigError("dequantization", True, f"{fixed}--nodequantization")
  if config.model.prior.startswith("vamp"):
    message = "vamp is made of an encoder, and --algorithm=mcem has none"
    raise ConfigError("prior", config.model.prior, message)


def _check_condition(config: Config) -> None:
  """Refuses a condition for what takes none; a user's own model is asked when it is made."""
  model, of_x = config.model, "its networks are given x only; leave it out for --model=mlp"
  prior = str(model.prior)
  with blaming("prior", prior):
    of_encoder = prior.split(":")[0] == "vamp" or table.is_made_from_model(prior)
  reasons = dict(
    network=model.network and of_x,
    model=(model.model == "conv" or layers_of(model.model)) and of_x,
    prior=of_encoder and "it may need a label for every input of its encoder",
    algorithm=config.objective.algorithm == "mcem" and "use --algorithm=aevb",
  )
  for name, reason in reasons.items():
    if reason:
      message = f"cannot be used with --{name}={leaves(config)[name]}: {reason}"
      raise ConfigError("condition", model.condition, message)


def _check_sweep(config: Config) -> None:
  """Refuses a step size that cannot be selected, equal members, and the history of a sweep."""
  for name in swept(config):
    value = leaves(config)[name]
    if len(set(value)) < len(value):
      raise ConfigError(name, value, "names a value twice")
  select, optimizer = config.budget.select_step_size, config.optimizer
  if select and not isinstance(optimizer.step_size, tuple):
    raise ConfigError("select_step_size", select, "takes several of --step_size to select from")
  if select and config.objective.algorithm == "mcem":
    message = f"takes a bound, and --algorithm={config.objective.algorithm} has none"
    raise ConfigError("select_step_size", select, message)
  if select and select >= config.budget.num_examples:
    message = f"takes less than --num_examples={config.budget.num_examples}"
    raise ConfigError("select_step_size", select, message)
  warmup = _warmup_steps(config) * optimizer.batch_size
  if select and warmup and select <= warmup:
    message = f"takes more than the {warmup} training samples in which nothing moves"
    raise ConfigError("select_step_size", select, message)
  if config.budget.keep_history and swept(config):
    raise ConfigError("keep_history", True, "takes a single run, not a sweep")


def check_single(config: Config) -> None:
  """Refuses fields with several values, for programs that train once.

  Raises:
    ConfigError: if a field has several values.
  """
  for name in swept(config):
    message = "takes one value here; experiments.train sweeps over several"
    raise ConfigError(name, leaves(config)[name], message)
