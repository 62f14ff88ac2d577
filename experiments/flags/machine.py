"""The flags that say where and with what a run is carried out."""

import math
import pathlib
import time

from absl import flags

from aevb_jax.runs.config import DataConfig, Machine
from aevb_jax.runs.pixels import file_name
from experiments.flags import data

FLAGS = flags.FLAGS

flags.DEFINE_boolean(
  "resume",
  True,
  "Goes on with the same run where --workdir holds it; --noresume sets that one aside.",
)
flags.DEFINE_boolean(
  "overwrite",
  False,
  "Where --workdir holds a run with other flags, sets it aside as WORKDIR.1 and starts.",
)
flags.DEFINE_float(
  "checkpoint_every",
  60.0,
  "Seconds of training between two checkpoints, which are saved in the background.",
  lower_bound=0.0,
)
flags.DEFINE_integer(
  "num_devices",
  None,
  "Devices that train: members of a sweep are spread over them, and minibatches over those of a "
  "member. Default: all, or as many as share a minibatch evenly.",
  lower_bound=1,
)


@flags.validator("checkpoint_every", "takes a number of seconds")
def _check_checkpoint_every(value: float) -> bool:
  return not math.isnan(value)


def machine(of: DataConfig, name: str = "") -> Machine:
  """Reads where a run is carried out; by default in runs/NAME-DATASET-TIME."""
  workdir = FLAGS.workdir
  if workdir is None:
    words = [word for word in (name, file_name(of), time.strftime("%Y%m%d-%H%M%S")) if word]
    workdir = f"runs/{'-'.join(words)}"
  return Machine(
    pathlib.Path(workdir).expanduser(),
    array_cache_dir=data.array_cache_dir(),
    num_devices=FLAGS.num_devices,
    checkpoint_every=FLAGS.checkpoint_every,
    resume=FLAGS.resume,
    overwrite=FLAGS.overwrite,
  )
