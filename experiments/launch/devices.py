"""Which devices train, and what each of them has."""

import math

import jax
from absl import flags

from aevb_jax.training.sharding import Shardings, make_shardings, nearest_multiples
from experiments.launch.command import UsageError

FLAGS = flags.FLAGS

flags.DEFINE_integer(
  "num_devices",
  None,
  "Devices that train: members of a sweep are spread over them, and minibatches over those of a "
  "member. Default: all.",
  lower_bound=1,
)


def share(num_members: int) -> Shardings:
  """The devices that the flags name, shared by the members of a sweep and their minibatches.

  Raises:
    UsageError: if there are not as many, or they cannot share a minibatch evenly.
  """
  devices = jax.devices()
  number = FLAGS.num_devices or len(devices)
  if number > len(devices):
    raise UsageError("num_devices", f"takes at most the {len(devices)} there are")
  if number < len(devices) and jax.process_count() > 1:
    raise UsageError("num_devices", f"takes all {len(devices)} of several processes")
  shardings = make_shardings(devices[:number], num_members)
  sharing = shardings.devices_per_member
  if FLAGS.batch_size % sharing:
    nearest = " or ".join(map(str, nearest_multiples(FLAGS.batch_size, sharing)))
    fewer = max(
      n for n in range(1, number) if FLAGS.batch_size % (n // math.gcd(n, num_members)) == 0
    )
    raise UsageError(
      "batch_size",
      f"{sharing} devices cannot share it evenly; {nearest} they can, or --num_devices={fewer}",
    )
  return shardings


def check_streamed(streamed: bool, num_members: int) -> None:
  """Refuses what the members of a sweep would have to read on every host.

  Raises:
    UsageError: for a sweep over data that are streamed to several processes.
  """
  if streamed and num_members > 1 and jax.process_count() > 1:
    raise UsageError("max_resident_mb", "must hold the training set of a sweep in many processes")


def describe(shardings: Shardings) -> str:
  """Such as "8 × NVIDIA H100"."""
  devices = shardings.replicated.device_set
  kind = next(iter(devices)).device_kind
  return kind if len(devices) == 1 else f"{len(devices)} × {kind}"
