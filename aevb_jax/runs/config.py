"""The configuration of a run: the settings that decide what is computed.

A field has the name of the flag of experiments.train that sets it. A field that is None takes the
value that the other fields imply; `checks.resolve` fills it in.
"""

import dataclasses
import itertools
import os
import pathlib
from typing import Any, NamedTuple

# These fields decide only how a run is executed. A run may be resumed with other values.
NOT_COMPARED = dict(compared=False)
# These fields are lists, and a figure may be made again in the same directory with longer ones.
GROWS = dict(grows=True)
SWEPT = ("seed", "step_size")
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "aevb_jax")
ARRAYS = os.path.join(CACHE, "arrays")  # where decoded data sets are kept by default


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The images that are read, and how their pixels become data points x."""

  dataset: str = "digits"
  binarization: str | None = None  # dynamic, static, threshold or none (real values)
  pixel_scale: int | None = None  # x = pixels / this; None for the data set's own
  dequantization: bool = False
  num_train: int = 0  # only the first num_train training images; 0 for all
  data_dir: str | None = dataclasses.field(default=None, metadata=NOT_COMPARED)
  manual_dir: str | None = dataclasses.field(default=None, metadata=NOT_COMPARED)
  mirror: str | None = dataclasses.field(default=None, metadata=NOT_COMPARED)
  max_resident_mb: float = dataclasses.field(default=2048.0, metadata=NOT_COMPARED)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The prior p(z), the decoder p(x|z) and the encoder q(z|x), or p(x|z, c) and q(z|x, c)."""

  model: str = "mlp"  # or conv, or package.module:function
  network: str | None = None  # package.module:function -> (encoder, decoder), in the model's place
  condition: str | None = None  # label: c is the one-hot label of x
  posterior: str = "gaussian"
  prior: str | None = None
  likelihood: str = "bernoulli"
  sigmoid_mean: bool = True
  min_std: float = 0.01  # in units of x
  latent_dim: int = 2  # J
  hidden_dim: tuple[int, ...] | None = None
  compute_dtype: str = "float32"
  matmul_precision: str = "default"
  init: str = "flax"  # flax, glorot, or a standard deviation
  output_bias: str = "init"  # or data_mean


@dataclasses.dataclass(frozen=True)
class AevbConfig:
  """Algorithm 1 with an estimator of a bound, and the estimate of log p(x) at the end."""

  algorithm: str = "aevb"
  estimator: str = "elbo_b"
  num_samples: int = 1  # L or K
  beta: float = 1.0
  kl_warmup: int = 0  # training samples
  free_bits: float = 0.0  # nats for each latent
  examples_at_once: int | None = None
  num_importance_samples: int = 500  # for each test image; 0 for no estimate of log p(x)


@dataclasses.dataclass(frozen=True)
class McemConfig:
  """Monte Carlo EM (appendix E), which has no encoder."""

  algorithm: str = "mcem"
  num_leapfrogs: int = 10
  num_updates: int = 5


OBJECTIVES = {"aevb": AevbConfig, "mcem": McemConfig}


def objective_of(algorithm: str) -> type[AevbConfig] | type[McemConfig]:
  """Returns the class with the settings of an algorithm; one of a user's own has aevb's."""
  return OBJECTIVES.get(algorithm, AevbConfig)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """The optimizer, its step size and schedule, and the size of minibatches."""

  optimizer: str = "adam"
  step_size: float | tuple[float, ...] = 0.001  # several values train together as a sweep
  stage_epochs: tuple[int, ...] | None = None
  adam_eps: float | None = None
  weight_prior: float = 0.0  # precision of a Gaussian prior on the weight matrices
  batch_size: int = 100  # M


@dataclasses.dataclass(frozen=True)
class BudgetConfig:
  """The length of training, and when it is evaluated. Numbers count training samples."""

  num_examples: int = 1_000_000
  eval_every: int = 100_000
  evals_per_decade: int = 0
  select_step_size: int = 0
  keep_history: bool = False
  on_nonfinite: str = dataclasses.field(default="stop", metadata=NOT_COMPARED)


@dataclasses.dataclass(frozen=True)
class Config:
  """The configuration of a run of experiments.train, or of a sweep over seeds and step sizes."""

  data: DataConfig = DataConfig()
  model: ModelConfig = ModelConfig()
  objective: AevbConfig | McemConfig = AevbConfig()
  optimizer: OptimizerConfig = OptimizerConfig()
  budget: BudgetConfig = BudgetConfig()
  seed: int | tuple[int, ...] = 0


class Machine(NamedTuple):
  """The machine that executes a run, and the run's directory; no field decides a result."""

  workdir: pathlib.Path
  array_cache_dir: str | None = ARRAYS  # None for no cache
  num_devices: int | None = None  # None for all
  checkpoint_every: float = 60.0  # seconds of training
  resume: bool = True  # False sets an earlier run in the directory aside
  overwrite: bool = False  # sets a run with another configuration aside
  tracker: str = "tensorboard"  # and wandb, mlflow, package.module:function, by commas; "" for none


def leaves(config: Any) -> dict[str, Any]:
  """Returns the fields of a configuration and of its parts, by name."""
  found: dict[str, Any] = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    found |= leaves(value) if dataclasses.is_dataclass(value) else {field.name: value}
  return found


def definitions(config: Any) -> dict[str, dataclasses.Field]:
  """Returns the definitions of the fields of a configuration and of its parts, by name."""
  found: dict[str, Any] = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    found |= definitions(value) if dataclasses.is_dataclass(value) else {field.name: field}
  return found


def replace(config: Any, **values: Any) -> Any:
  """Returns a copy of a configuration with new values of fields, also of fields of its parts.

  Args:
    config: a configuration, or a part of one.
    **values: the new values by the names of the fields.

  Returns:
    The copy.

  Raises:
    TypeError: if no part has a field of such a name.
  """
  changed = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if dataclasses.is_dataclass(value):  # `model` is a part and also a field of that part
      own = {name: values.pop(name) for name in leaves(value) if name in values}
      changed[field.name] = replace(value, **own) if own else value
    elif field.name in values:
      changed[field.name] = values.pop(field.name)
  if values:
    raise TypeError(f"{type(config).__name__} has no field {', '.join(values)}")
  return dataclasses.replace(config, **changed)


def values_of(value: float | tuple) -> tuple:
  """Returns the values of a field that may be swept."""
  return value if isinstance(value, tuple) else (value,)


def swept(config: Any) -> list[str]:
  """Returns the names of the fields that have several values."""
  return [name for name in SWEPT if isinstance(leaves(config).get(name), tuple)]


def members(config: Config) -> list[Config]:
  """Returns the configuration of every run of a sweep; a single run has only its own.

  Args:
    config: a configuration, whose seed and step_size may have several values.

  Returns:
    The configurations, each with one seed and one step size.
  """
  seeds, step_sizes = values_of(config.seed), values_of(config.optimizer.step_size)
  if not swept(config):
    return [config]
  return [
    replace(config, seed=seed, step_size=step_size, select_step_size=0)
    for seed, step_size in itertools.product(seeds, step_sizes)
  ]


def member_name(sweep: Config, member: Config) -> str:
  """Names a member's directory by its swept values, as seed_1-step_size_0.02; "" if not swept."""
  values = leaves(member)
  return "-".join(f"{name}_{values[name]}" for name in swept(sweep))


def num_steps(config: Config, num_examples: int) -> int:
  """Returns the number of training steps that use this many training samples, rounded up."""
  return -(-num_examples // config.optimizer.batch_size)
