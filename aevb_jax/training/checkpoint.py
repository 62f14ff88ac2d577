"""Training states on disk, by orbax: whole or not at all, checked and not executed on reading.

A checkpoint is a directory STEP: the arrays of a state, and a record of whatever else it takes
to resume, as JSON. It has its name only once it is complete. The record holds its step, a checksum
of every array, and one of itself, so that what comes back is what was saved. One that is being
replaced is STEP.replaced until the other is complete.
"""

import contextlib
import hashlib
import itertools
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax import disk
from aevb_jax.errors import CheckpointError, DamagedError, SaveError
from aevb_jax.training.arrays_on_disk import (
  RECORD_FILE,
  as_no_pattern,
  damaged,
  make_manager,
  one_error,
  orbax,
  read_arrays,
  reason,
)
from aevb_jax.training.processes import is_first, wait_for_all
from aevb_jax.types import Array, PyTree

NUM_KEPT = 3
REPLACED = ".replaced"


@contextlib.contextmanager
def saver(
  directory: pathlib.Path, *, num_kept: int | None = NUM_KEPT
) -> Iterator[Callable[..., None]]:
  """Yields a function (step, state, record={}) that saves a training state.

  It returns when the state has left the device and writes in the background; leaving the
  context waits until everything is on disk. Only the first state is waited for and read back, so
  that a place where nothing can be read again is noticed at once. Where a step is there already
  and its record is another, the new one takes its place once it is complete.

  Of several processes, each has to call it, with arrays of a mesh of them all and a
  directory that all of them see.

  Args:
    directory: where the checkpoints are.
    num_kept: how many of the last states are kept; None for all.

  Raises:
    SaveError: on leaving, or by the function, of this state or the one before.
  """
  ocp, read_back = orbax(), False
  with contextlib.ExitStack() as stack:
    stack.enter_context(one_error())
    with _as_save_error(directory):
      directory.mkdir(parents=True, exist_ok=True)
      _finish_replacing(directory)
      manager = make_manager(stack.enter_context(as_no_pattern(directory)), num_kept)

    def save(step: int, state: PyTree, record: dict | None = None) -> None:
      nonlocal read_back
      with _as_save_error(directory / str(step)):
        arrays = [[*of_array, checksum] for of_array, checksum in zip(_arrays(state), _sums(state))]
        # As it is read again; and a copy, since the caller goes on while it is written.
        contents = json.loads(json.dumps(dict(step=step, arrays=arrays, record=record or {})))
        contents["sha256"] = _digest(contents)
        manager.wait_until_finished()
        _finish_replacing(directory)
        if step in manager.all_steps():
          if _is_saved(directory, step, contents["record"]):
            return
          _make_way(directory, step)
          manager.reload()
        to_save = dict(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(contents))
        manager.save(step, args=ocp.args.Composite(**to_save))
        if not read_back:
          manager.wait_until_finished()
          _compare(contents, read_arrays(directory / str(step), _shapes_of(state)))
          read_back = True

    try:
      yield save
    finally:
      with _as_save_error(directory):
        manager.close()
        _finish_replacing(directory)


def _make_way(directory: pathlib.Path, step: int) -> None:
  """Gives the checkpoint of a step the name that it has until another has taken its place."""
  if is_first():
    (directory / str(step)).rename(directory / f"{step}{REPLACED}")
  wait_for_all(f"replacing {directory} {step}")


def _finish_replacing(directory: pathlib.Path) -> None:
  """Removes checkpoints that were replaced, and gives those that were not their name again."""
  if not is_first():
    return
  for old in directory.glob(f"*{REPLACED}"):
    new = old.with_suffix("")
    if new.exists():
      shutil.rmtree(old)
    else:
      old.rename(new)


def place_of(directory: pathlib.Path, step: int) -> pathlib.Path:
  """Returns where the checkpoint of a step is, also while another is to take its place."""
  place, replaced = directory / str(step), directory / f"{step}{REPLACED}"
  return replaced if replaced.exists() and not place.exists() else place


@contextlib.contextmanager
def _as_save_error(path: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except Exception as error:  # of many kinds, by what failed in which layer
    raise SaveError(f"{path} cannot be written ({reason(error)})") from error


def steps(directory: pathlib.Path) -> list[int]:
  """The steps whose states are in `directory`, from the first to the last."""
  # Not by a manager: to make one is a meeting of all processes.
  if not directory.is_dir():
    return []
  names = {path.name.removesuffix(REPLACED) for path in directory.iterdir()}
  return sorted(int(name) for name in names if name.isdecimal())


def _is_saved(directory: pathlib.Path, step: int, record: dict) -> bool:
  try:
    saved = read_record(directory, step)
  except DamagedError:
    return False
  return json.dumps(saved, sort_keys=True) == json.dumps(record, sort_keys=True)


def read_record(directory: pathlib.Path, step: int) -> dict:
  """Returns what was saved beside the state of a step.

  Raises:
    DamagedError: if it is not as it was saved.
    CheckpointError: if it was saved as another step.
    OSError: if it cannot be read for a reason that says nothing about it.
  """
  return _contents(directory, step)["record"]


def _contents(directory: pathlib.Path, step: int) -> dict:
  path = place_of(directory, step)
  with damaged("its record cannot be read"):
    contents = json.loads(disk.read_bytes(path / "record" / RECORD_FILE))
    intact = contents.pop("sha256") == _digest(contents)
  if not intact:
    raise DamagedError("its record is not what was saved")
  if (saved_as := contents.get("step", step)) != step:  # older ones do not name it
    raise CheckpointError(f"{path} was saved as step {saved_as}; give it that name again")
  return contents


def restore(
  directory: pathlib.Path,
  step: int,
  like: PyTree,
  sharding: jax.sharding.Sharding | None = None,
) -> PyTree:
  """The state of a step, wherever it was saved from.

  Args:
    directory: as given to `saver`.
    step: one of `steps(directory)`.
    like: a tree of the same structure, of arrays or `jax.ShapeDtypeStruct`s, such as
      `jax.eval_shape(algorithm.init, key)`.
    sharding: of every array of the state, such as `Shardings.replicated`; None for this
      process's first device. Of several processes each has to call this, with a sharding
      over all of theirs.

  Raises:
    DamagedError: if its files are not what was saved.
    CheckpointError: if it is not of this structure and these shapes, or of another step.
    OSError, MemoryError: if it cannot be read for a reason that says nothing about it.
  """
  contents, path = _contents(directory, step), place_of(directory, step)
  if [of_array for *of_array, _ in contents["arrays"]] != _arrays(like):
    raise CheckpointError(f"the checkpoint {path} is not of this model")
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  here = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), like)
  state = read_arrays(path, here)
  _compare(contents, state)
  return state


def _shapes_of(state: PyTree) -> PyTree:
  """Returns what stands for arrays where they are to be read to the devices that they are on."""
  return jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=getattr(a, "sharding", None)), state
  )


def check(directory: pathlib.Path, step: int) -> None:
  """Reads all of a checkpoint, of whatever it is, on this process's first device.

  Raises:
    DamagedError, CheckpointError, OSError, MemoryError: as `restore`.
  """
  contents = _contents(directory, step)
  _compare(contents, read_arrays(place_of(directory, step), None))


def _compare(contents: dict, state: PyTree) -> None:
  """Raises DamagedError where an array is not that of the record."""
  actual = sorted([*of_array, total] for of_array, total in zip(_arrays(state), _sums(state)))
  for saved, found in itertools.zip_longest(sorted(contents["arrays"]), actual):
    if saved != found:
      path = (saved or found)[0]
      raise DamagedError(f"its array {'.'.join(path)} is not what was saved")


def set_aside(directory: pathlib.Path, step: int) -> pathlib.Path:
  """Moves the checkpoint of a step out of the way; returns where it is now."""
  damaged = directory.with_name(f"{directory.name}-damaged")
  damaged.mkdir(exist_ok=True)
  number = 0
  while (place := damaged / (f"{step}" if not number else f"{step}.{number}")).exists():
    number += 1
  return place_of(directory, step).rename(place)


def _arrays(tree: PyTree) -> list[list]:
  """The path, shape and type of every array, as JSON holds them."""

  def name(entry) -> str:
    return str(getattr(entry, "name", getattr(entry, "key", getattr(entry, "idx", entry))))

  return [
    [[name(entry) for entry in path], list(leaf.shape), str(leaf.dtype)]
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _digest(contents: dict) -> str:
  # What is parsed from JSON is written as the same text again: floats by their shortest digits.
  return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _sums(tree: PyTree) -> list[int]:
  """A checksum of every array, the same wherever it is placed."""
  leaves = jax.tree.leaves(tree)
  return [int(checksum) for checksum in np.asarray(_checksums(leaves))] if leaves else []


@jax.jit
def _checksums(leaves: list[Array]) -> Array:
  return jnp.stack([_checksum(leaf) for leaf in leaves])


def _checksum(array: Array) -> Array:
  """Σ_i (2 i + 1) word_i mod 2^32: odd weights, so that no change of one word goes unseen.

  On the device, since of several processes none has all of every array.
  """
  if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
    array = jax.random.key_data(array)
  if array.dtype == bool:
    array = array.astype(jnp.uint8)
  width = min(array.dtype.itemsize, 4) * 8
  words = jax.lax.bitcast_convert_type(array, jnp.dtype(f"uint{width}"))
  words = words.astype(jnp.uint32).reshape(-1)
  weights = 2 * jax.lax.iota(jnp.uint32, len(words)) + 1
  return jnp.sum(weights * words, dtype=jnp.uint32)
