"""Training states on disk, by orbax: whole or not at all, and nothing executed on reading."""

import contextlib
import pathlib
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
  """
  import orbax.checkpoint as ocp

  options = ocp.CheckpointManagerOptions(max_to_keep=1)
  with ocp.CheckpointManager(directory.absolute(), options=options) as manager:

    def save(step: int, state: PyTree) -> None:
      manager.save(step, args=ocp.args.StandardSave(state))

    yield save


def restore(directory: pathlib.Path, like: PyTree) -> PyTree:
  """The last state saved in `directory`.

  Args:
    directory: as given to `saver`.
    like: a tree of the same structure, of arrays or `jax.ShapeDtypeStruct`s, such as
      `jax.eval_shape(algorithm.init, key)`.

  Raises:
    CheckpointError: if there is none, or it is of another structure or other shapes.
  """
  import orbax.checkpoint as ocp

  directory = directory.absolute()
  if not directory.is_dir():  # orbax would make it
    raise CheckpointError(f"{directory} does not exist")
  with ocp.CheckpointManager(directory, item_handlers=ocp.StandardCheckpointHandler()) as manager:
    step = manager.latest_step()
    if step is None:
      raise CheckpointError(f"{directory} holds no checkpoint")
    # Compared here, since orbax's own comparison comes in many lines.
    if _shapes(manager.item_metadata(step)) != _shapes(_without_keys(like)):
      raise CheckpointError(f"the checkpoint in {directory} is not of this model")
    return manager.restore(step, args=ocp.args.StandardRestore(like))


def _shapes(tree: PyTree) -> list[tuple[int, ...]]:
  return sorted(tuple(leaf.shape) for leaf in jax.tree.leaves(tree))


def _without_keys(tree: PyTree) -> PyTree:
  """Shapes with typed keys as the words they are stored as."""

  def data_of(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf

  return jax.tree.map(data_of, tree)
