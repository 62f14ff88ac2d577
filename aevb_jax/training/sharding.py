"""How training is spread over devices: members of a sweep, and examples of a minibatch.

Data parallelism is a matter of placement alone. What is computed for example i draws from
key i of one split, whichever device has it, so that results depend on the number of devices
by the rounding of sums alone.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from aevb_jax.errors import ConfigError
from aevb_jax.types import PyTree

MEMBER, DATA = "member", "data"


class Shardings(NamedTuple):
  """Where arrays are placed, on one mesh of devices."""

  members: NamedSharding  # a leading axis S of members is shared, the rest is on all devices
  minibatch: NamedSharding  # a leading axis M is shared among the devices of a member
  evaluation: NamedSharding  # a leading axis is shared among all devices
  replicated: NamedSharding  # the same on all devices

  @property
  def devices_per_member(self) -> int:
    """What the minibatch size must be a multiple of."""
    return self.minibatch.mesh.shape[DATA]

  def chunk(self, sweep: bool) -> NamedSharding:
    """Of the minibatches of T steps, (T, M), or of every member of a sweep, (S, T, M)."""
    axes = (MEMBER, None, DATA) if sweep else (None, DATA)
    return NamedSharding(self.minibatch.mesh, PartitionSpec(*axes))


def make_shardings(devices: Sequence[jax.Device], num_members: int = 1) -> Shardings:
  """Spreads members over devices as far as they go, and minibatches over those of a member.

  Args:
    devices: those to use, of all processes.
    num_members: S, the members of a sweep. As many groups of devices as divide both
      train S / groups members each.
  """
  groups = math.gcd(len(devices), num_members)
  shape = groups, len(devices) // groups
  mesh = jax.make_mesh(shape, (MEMBER, DATA), (AxisType.Auto,) * 2, devices=devices)
  return Shardings(
    *(
      NamedSharding(mesh, PartitionSpec(*axes))
      for axes in ((MEMBER,), (DATA,), ((MEMBER, DATA),), ())
    )
  )


def share_devices(num_members: int, batch_size: int, num_devices: int | None = None) -> Shardings:
  """Shares the devices among the members of a sweep, and their minibatches.

  Args:
    num_members: S, members of a sweep; 1 for a single run.
    batch_size: M, which the devices of a member have to share evenly.
    num_devices: how many devices; None for as many as share a minibatch evenly.

  Raises:
    ConfigError: if there are not as many, or they cannot share a minibatch evenly.
  """
  devices = jax.devices()
  number = num_devices or len(devices)
  if number > len(devices):
    raise ConfigError("num_devices", number, f"takes at most the {len(devices)} there are")
  if number < len(devices) and jax.process_count() > 1:
    raise ConfigError("num_devices", number, f"takes all {len(devices)} of several processes")
  fitting = [n for n in range(1, number + 1) if not batch_size % (n // math.gcd(n, num_members))]
  if number not in fitting and (num_devices or jax.process_count() > 1):
    sharing = number // math.gcd(number, num_members)
    nearest = " or ".join(map(str, nearest_multiples(batch_size, sharing)))
    raise ConfigError(
      "batch_size",
      batch_size,
      f"{sharing} devices cannot share it evenly; {nearest} they can, or "
      f"--num_devices={fitting[-1]}",
    )
  return make_shardings(devices[: fitting[-1]], num_members)


def devices_in_words(shardings: Shardings) -> str:
  """Names the devices that train, such as "8 × NVIDIA H100"."""
  devices = shardings.replicated.device_set
  device: jax.Device = next(iter(devices))
  kind = device.device_kind
  return kind if len(devices) == 1 else f"{len(devices)} × {kind}"


def replicated_on(sharding: NamedSharding | None) -> NamedSharding | None:
  """The placement of the same on every device of the mesh of `sharding`."""
  return None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())


def constrain(tree: PyTree, sharding: NamedSharding | None) -> PyTree:
  """`tree`, whose arrays the compiler is to place so; without a sharding, as it likes."""
  return tree if sharding is None else jax.lax.with_sharding_constraint(tree, sharding)


def split_evenly(tree: PyTree, num_shares: int) -> PyTree:
  """Arrays (N, ...) as (num_shares, ⌈N / num_shares⌉, ...), filled up with the last entry."""

  def split(array: jax.Array) -> jax.Array:
    missing = -len(array) % num_shares
    filled = jnp.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)], mode="edge")
    return filled.reshape(num_shares, -1, *array.shape[1:])

  return jax.tree.map(split, tree)


def nearest_multiples(number: int, factor: int) -> list[int]:
  """The positive multiples of `factor` just below and just above a number that is none."""
  below = number // factor * factor
  return [multiple for multiple in (below, below + factor) if multiple > 0]
