"""The flags of everything that is trained: data, model, estimator, optimizer."""

import os
import sys

import jax
from absl import flags

from aevb_jax.algorithms.optimizers import ADAGRAD_WARMUP_STEPS
from aevb_jax.errors import ConfigError
from aevb_jax.runs.checks import LEAST, MOST, OPTIMIZERS, resolve
from aevb_jax.runs.config import (
  CACHE,
  BudgetConfig,
  Config,
  OptimizerConfig,
  objective_of,
  replace,
)
from experiments.flags import data, estimators, models, presets, sweeps
from experiments.flags.reading import read
from experiments.flags.validators import validate, validate_counts

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(data)
flags.adopt_module_key_flags(estimators)
flags.adopt_module_key_flags(models)

flags.DEFINE_integer(
  "batch_size", 100, "M, data points per minibatch.", lower_bound=LEAST["batch_size"]
)
flags.DEFINE_integer(
  "examples_at_once",
  None,
  "Number of examples of a minibatch whose gradients are computed at once; fewer take less "
  "memory. Default: all, or 32 for --model=conv on a CPU, where they fit its cache.",
  lower_bound=LEAST["examples_at_once"],
)
flags.DEFINE_string(
  "optimizer",
  "adam",
  f"One of {', '.join(OPTIMIZERS)}. adagrad is the paper's: its accumulator starts at 0, and the "
  f"first {ADAGRAD_WARMUP_STEPS} steps only accumulate. package.module:function for your own, or "
  "one of optax's (optax:lion, optax:adamw:weight_decay=0.01), is called with the step size.",
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
  "Epochs of each stage, such as 1,3,9,27. From stage to stage the step size is divided by the "
  "seventh root of 10, as in Burda et al.; the last stage lasts to the end. Default: a constant "
  "step size.",
)
flags.DEFINE_float(
  "adam_eps",
  None,
  "adam: the constant that is added to the root of the second moments of the gradient per data "
  "point. Default: 1e-8.",
)
flags.DEFINE_float(
  "weight_prior",
  0.0,
  "Precision of a Gaussian prior on the weight matrices; 1 is the paper's N(0, I), 0 none.",
  lower_bound=LEAST["weight_prior"],
)
flags.DEFINE_integer(
  "num_examples",
  1_000_000,
  "Number of training samples to evaluate, the x axis of the paper's figures; M make a step.",
  lower_bound=LEAST["num_examples"],
  upper_bound=MOST["num_examples"],
)
sweeps.define(
  "seed",
  0,
  "Seed of initialization, data order and noise; several, such as 0,1,2, train together.",
  flags.IntegerParser(LEAST["seed"], MOST["seed"]),
)
flags.DEFINE_enum(
  "preset",
  None,
  list(presets.PRESETS),
  f"Values for the flags that are not given: {presets.in_words()}.",
)
flags.DEFINE_string(
  "compilation_cache_dir",
  os.path.join(CACHE, "xla"),
  "Directory that keeps compiled programs between runs; empty for none.",
)


validate("step_size", "adam_eps", "weight_prior", "optimizer")
validate_counts("stage_epochs")


def keep_programs() -> None:
  """Makes JAX keep compiled programs in --compilation_cache_dir.

  If the default directory cannot be made, a warning is printed and programs are not kept.

  Raises:
    ConfigError: if the directory is given and cannot be made.
  """
  if not FLAGS.compilation_cache_dir:
    return
  directory = os.path.expanduser(FLAGS.compilation_cache_dir)
  try:
    os.makedirs(directory, exist_ok=True)
  except OSError as error:
    flag, why = FLAGS["compilation_cache_dir"], f"cannot be made ({error.strerror})"
    if not flag.present:
      print(
        f"warning: --compilation_cache_dir={flag.value}: {why}; programs are compiled again in "
        "each run unless another directory is named",
        file=sys.stderr,
      )
      return
    message = f"{why}; name another directory, or --compilation_cache_dir= for none"
    raise ConfigError("compilation_cache_dir", FLAGS.compilation_cache_dir, message) from error
  jax.config.update("jax_compilation_cache_dir", directory)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def config(algorithm: str = "aevb", **values) -> Config:
  """Makes the configuration from the flags: presets, implied values, every check.

  Args:
    algorithm: aevb or mcem.
    values: fields that a main sets itself, whatever the flags are.

  Raises:
    ConfigError: for a field that cannot be used.
  """
  presets.apply()
  made = Config(
    data=data.config(),
    model=models.config(),
    objective=read(objective_of(algorithm)),
    optimizer=read(OptimizerConfig),
    budget=read(BudgetConfig),
    seed=FLAGS.seed,
  )
  made = resolve(replace(made, **values))
  keep_programs()
  return made
