"""Training states on disk, by orbax: whole or not at all, and nothing executed on reading."""

import contextlib
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax

from aevb_jax.types import PyTree


class CheckpointError(Exception):
  """A state that is not there, or not of the expected shape."""


@contextlib.contextmanager
def saver(directory: pathlib.Path) -> Iterator[Callable[[int, PyTree], None]]:
  """A function (step, state) that saves a training state and then removes the one before.

  It returns when the state has left the device and writes in the background; leaving the
  context waits until everything is on disk.

  Of several processes, each has to call it, with arrays of a mesh of them all and a
  directory that all of them see.
  """
  import orbax.checkpoint as ocp

  options = ocp.CheckpointManagerOptions(max_to_keep=1)
  manager = ocp.CheckpointManager(directory.absolute(), options=options)

  def save(step: int, state: PyTree) -> None:
    with _uninterrupted():
      manager.save(step, args=ocp.args.StandardSave(state))

  try:
    yield save
  finally:
    with _uninterrupted():
      manager.close()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
  """Lets an interrupt wait until what is being written is written."""
  if threading.current_thread() is not threading.main_thread():  # where none arrive
    yield
    return
  received = []
  previous = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, previous)
  if received:
    signal.raise_signal(signal.SIGINT)


def latest_step(directory: pathlib.Path) -> int | None:
  """The step of the last state saved in `directory`, or None."""
  import orbax.checkpoint as ocp

  # Not by a manager: to make one is a meeting of all processes.
  return max(ocp.utils.checkpoint_steps(directory), default=None) if directory.is_dir() else None


def restore(
  directory: pathlib.Path, like: PyTree, sharding: jax.sharding.Sharding | None = None
) -> PyTree:
  """The last state saved in `directory`, wherever it was saved from.

  Args:
    directory: as given to `saver`.
    like: a tree of the same structure, of arrays or `jax.ShapeDtypeStruct`s, such as
      `jax.eval_shape(algorithm.init, key)`.
    sharding: of every array of the state, such as `Shardings.replicated`; None for this
      process's first device. Of several processes each has to call this, with a sharding
      over all of theirs.

  Raises:
    CheckpointError: if there is none, it cannot be read, or it is not of this structure
      and these shapes.
  """
  import orbax.checkpoint as ocp

  directory = directory.absolute()
  if not directory.is_dir():
    raise CheckpointError(f"{directory} does not exist")
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  here = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), like)
  handler = ocp.StandardCheckpointHandler()
  with ocp.CheckpointManager(directory, item_handlers=handler) as manager:
    step = manager.latest_step()
    if step is None:
      raise CheckpointError(f"{directory} holds no checkpoint")
    try:
      # Compared here, since orbax's own comparison comes in many lines.
      same = _arrays(manager.item_metadata(step)) == _arrays(_without_keys(like))
      state = manager.restore(step, args=ocp.args.StandardRestore(here)) if same else None
    except Exception as error:  # of many kinds, by what is broken in which file
      raise CheckpointError(
        f"the checkpoint {directory / str(step)} cannot be read ({type(error).__name__})"
      ) from error
  if not same:
    raise CheckpointError(f"the checkpoint in {directory} is not of this model")
  return state


def _arrays(tree: PyTree) -> list[tuple]:
  """The path, shape and type of every array; fields of tuples and keys of dicts look alike."""

  def name(entry) -> str:
    return str(getattr(entry, "name", getattr(entry, "key", getattr(entry, "idx", entry))))

  return sorted(
    ([name(entry) for entry in path], tuple(leaf.shape), str(leaf.dtype))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  )


def _without_keys(tree: PyTree) -> PyTree:
  """Shapes with typed keys as the words they are stored as."""

  def data_of(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf

  return jax.tree.map(data_of, tree)
