"""Placement of training on devices: the members of a sweep, and the examples of a minibatch.

Data parallelism is only a matter of placement. Example i draws from key i of one split, on any
device, so that results depend on the number of devices only by the rounding of sums.

An update is written for one device. The compiler shares it among the devices that hold a part of
the minibatch, except that it makes them take the rounds of a loop together: a sampler by rejection
would ask all devices in every round. So an update may hand the part of it that is a mean over
examples to `mean_over_devices`. Each device then computes its own part alone, and all that they
exchange is one sum.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from aevb_jax.errors import ConfigError
from aevb_jax.types import PyTree

MEMBER, DATA = "member", "data"


class Shardings(NamedTuple):
  """The placements of arrays on one mesh of devices."""

  members: NamedSharding  # a leading axis S of members is shared among groups of devices
  minibatch: NamedSharding  # a leading axis M is shared among the devices of a member
  evaluation: NamedSharding  # a leading axis is shared among all devices
  replicated: NamedSharding  # the same on all devices

  @property
  def devices_per_member(self) -> int:
    """The number of devices that train a member, which must divide the minibatch size."""
    return self.minibatch.mesh.shape[DATA]

  def chunk(self, sweep: bool) -> NamedSharding:
    """Returns the placement of the minibatches of T steps, (T, M), or (S, T, M) for a sweep."""
    axes = (MEMBER, None, DATA) if sweep else (None, DATA)
    return NamedSharding(self.minibatch.mesh, PartitionSpec(*axes))


def make_shardings(devices: Sequence[jax.Device], num_members: int = 1) -> Shardings:
  """Spreads members over as many devices as possible, and minibatches over the devices of a member.

  Args:
    devices: the devices to use, of all processes.
    num_members: S, the members of a sweep. The number of groups of devices is the greatest
      common divisor of S and the number of devices; each group trains S / groups members.

  Returns:
    The placements on a mesh of (groups, devices of a group).
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
    num_devices: the number of devices; None for the most that can share a minibatch evenly.

  Raises:
    ConfigError: if there are fewer devices, or they cannot share a minibatch evenly.
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


def platform_of(sharding: NamedSharding | None) -> str:
  """Returns the platform of the devices of `sharding`, "cpu", "gpu" or "tpu", as JAX names it.

  Without a sharding it is the platform that JAX computes on by default.
  """
  return sharding.mesh.devices.flat[0].platform if sharding else jax.default_backend()


def replicated_on(sharding: NamedSharding | None) -> NamedSharding | None:
  """Returns the placement of copies on every device of the mesh of `sharding`."""
  return None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())


def constrain(tree: PyTree, sharding: NamedSharding | None) -> PyTree:
  """Constrains the placement of the arrays of `tree`; without a sharding the compiler chooses."""
  return tree if sharding is None else jax.lax.with_sharding_constraint(tree, sharding)


def shared_by(sharding: NamedSharding | None) -> contextlib.AbstractContextManager:
  """Makes the devices of `sharding` those that `mean_over_devices` and `on_each_device` use.

  The context is for the tracing of an update. JAX counts the mesh among what a traced function
  depends on, so that a function which is traced in two contexts is traced twice.

  Args:
    sharding: the placement of the minibatch, `Shardings.minibatch`. None, or any placement that
      `make_shardings` does not make, leaves it to the compiler how an update is shared.

  Returns:
    The context.
  """
  if sharding is None or sharding.spec != PartitionSpec(DATA):
    return contextlib.nullcontext()
  return jax.sharding.use_abstract_mesh(sharding.mesh.abstract_mesh)


def on_each_device(
  function: Callable[[Any, Any], PyTree], common: PyTree, examples: PyTree
) -> PyTree:
  """Computes something for every example of a minibatch, each device for its own examples.

  Args:
    function: (common, examples) -> arrays with the leading axis of the examples that it is given,
      which are all M examples or those of one device.
    common: arrays that are the same for all examples.
    examples: arrays or keys with a leading axis M.

  Returns:
    The results of `function`, with a leading axis M. Each stays on the device of its example.
  """
  return _shared(function, common, examples, PartitionSpec(DATA))


def mean_over_devices(
  function: Callable[[Any, Any], tuple[PyTree, PyTree]], common: PyTree, examples: PyTree
) -> tuple[PyTree, PyTree]:
  """Computes means over a minibatch, each device for its own examples, with one sum over devices.

  Args:
    function: (common, examples) -> (means, rows), for all M examples or those of one device. The
      means are over the examples that it is given, so a term without examples, such as a prior on
      the parameters, counts once. The rows have the leading axis of the examples. All are floats.
    common: arrays that are the same for all examples, such as the parameters.
    examples: arrays or keys with a leading axis M.

  Returns:
    (means, rows) of all M examples, on every device.
  """

  def of_device(common: PyTree, examples: PyTree) -> tuple[PyTree, PyTree]:
    means, rows = function(common, examples)
    number, place = jax.lax.axis_size(DATA), jax.lax.axis_index(DATA)
    if number == 1:  # a member of a sweep that has a device of its own
      return means, rows
    shares = jax.tree.map(lambda mean: mean / number, means)
    # Zeros in the rows of the other devices let the sum gather them too.
    spread = lambda row: jnp.zeros((number, *row.shape), row.dtype).at[place].set(row)
    means, rows = _sum((shares, jax.tree.map(spread, rows)))
    return means, jax.tree.map(lambda row: row.reshape(-1, *row.shape[2:]), rows)

  return _shared(of_device, common, examples, PartitionSpec(), alone=function)


def _sum(tree: PyTree) -> PyTree:
  """Sums a tree over the devices in one all-reduce."""

  def as_vector(tree: PyTree) -> PyTree:
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.psum(flat, DATA))

  # TPUs combine the sums of a tree, and would have to rearrange their tiles for one vector. Others
  # do not combine all of them, and launch fewer kernels for a vector.
  return jax.lax.platform_dependent(
    tree, tpu=lambda tree: jax.lax.psum(tree, DATA), default=as_vector
  )


def _shared(
  function: Callable[[Any, Any], PyTree],
  common: PyTree,
  examples: PyTree,
  results: PartitionSpec,
  *,
  alone: Callable[[Any, Any], PyTree] | None = None,
) -> PyTree:
  """Runs `function` on each device of the active mesh; `alone`, or `function`, if there is none."""
  mesh, batch_size = jax.sharding.get_abstract_mesh(), len(jax.tree.leaves(examples)[0])
  # In a user's own `shard_map` the axes are not Auto, because its examples are shared already.
  can_share = DATA in mesh.axis_names and set(mesh.axis_types) == {AxisType.Auto}
  if not can_share or mesh.size == 1 or batch_size % mesh.shape[DATA]:
    return (alone or function)(common, examples)
  # Without check_vma an estimator may have loops that know nothing of devices.
  specs = PartitionSpec(), PartitionSpec(DATA)
  share = jax.shard_map(function, in_specs=specs, out_specs=results, check_vma=False)
  return share(common, examples)


def split_evenly(tree: PyTree, num_shares: int) -> PyTree:
  """Reshapes arrays (N, ...) to (num_shares, ⌈N / num_shares⌉, ...), padded with the last entry."""

  def split(array: jax.Array) -> jax.Array:
    missing = -len(array) % num_shares
    filled = jnp.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)], mode="edge")
    return filled.reshape(num_shares, -1, *array.shape[1:])

  return jax.tree.map(split, tree)


def nearest_multiples(number: int, factor: int) -> list[int]:
  """Returns the positive multiples of `factor` just below and above a number between two."""
  below = number // factor * factor
  return [multiple for multiple in (below, below + factor) if multiple > 0]
