"""The flags that say where and with what a run is executed."""

import math

from absl import flags

from aevb_jax.runs.config import DataConfig, Machine
from experiments.flags import data, resuming

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(resuming)

flags.DEFINE_float(
  "checkpoint_every",
  60.0,
  "Seconds of training between two checkpoints, which are saved in the background.",
  lower_bound=0.0,
)
flags.DEFINE_integer(
  "num_devices",
  None,
  "Number of devices to train on. The members of a sweep are spread over them; if there are more "
  "devices than members, so are the minibatches. Default: all, or as many as share a minibatch "
  "evenly.",
  lower_bound=1,
)
flags.DEFINE_string(
  "tracker",
  "tensorboard",
  "What follows the run, by commas: tensorboard, wandb, mlflow, or package.module:function, a "
  "function of (workdir, name, config) that returns an aevb_jax.trackers.Tracker. Arguments follow "
  "after colons, as wandb:project=digits. Empty for none.",
)


@flags.validator("checkpoint_every", "takes a number of seconds")
def _check_checkpoint_every(value: float) -> bool:
  return not math.isnan(value)


def machine(of: DataConfig) -> Machine:
  """Reads where a run is executed; by default in runs/DATASET-TIME."""
  return Machine(
    resuming.workdir(of),
    array_cache_dir=data.array_cache_dir(),
    num_devices=FLAGS.num_devices,
    checkpoint_every=FLAGS.checkpoint_every,
    resume=FLAGS.resume,
    overwrite=FLAGS.overwrite,
    tracker=FLAGS.tracker,
  )
