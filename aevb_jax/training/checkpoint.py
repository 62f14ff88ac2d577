"""Training states on disk, by orbax: written whole or not at all, and checked when they are read.

Reading a checkpoint executes nothing that it contains.

A checkpoint is a directory STEP. It holds the arrays of a state, and as JSON a record of everything
else that a resumed run needs. The directory has its name only once it is complete. The record
holds its step, a checksum of every array and a checksum of itself, which are compared when the
checkpoint is read. A checkpoint that is being replaced is STEP.replaced until the new one is
complete.
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
  damaged,
  held,
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

  The function returns when the state has left the device; the files are written in the background.
  Leaving the context waits until everything is on disk. The function waits only for the files of
  the first state, and reads them back, so that unreadable storage is noticed at once. If a
  checkpoint of the same step has another record, the new one replaces it once it is complete.

  If there are several processes, each has to call the function, with arrays on a mesh of all of
  them and a directory that all of them see.

  Args:
    directory: where the checkpoints are.
    num_kept: how many of the last states are kept; None for all.

  Raises:
    SaveError: if this state or the one before cannot be written. The function raises it, or the
      exit of the context.
  """
  ocp, read_back = orbax(), False
  with contextlib.ExitStack() as stack:
    stack.enter_context(one_error())
    with _as_save_error(directory):
      directory.mkdir(parents=True, exist_ok=True)
      _finish_replacing(directory)
      manager = make_manager(stack.enter_context(held(directory)), num_kept)

    def save(step: int, state: PyTree, record: dict | None = None) -> None:
      nonlocal read_back
      with _as_save_error(directory / str(step)):
        arrays = [[*of_array, checksum] for of_array, checksum in zip(_arrays(state), _sums(state))]
        # Through JSON for the types that reading gives, and to copy it: the caller continues.
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
  """Renames the checkpoint of a step to STEP.replaced, until a new one is complete."""
  if is_first():
    (directory / str(step)).rename(directory / f"{step}{REPLACED}")
  wait_for_all(f"replacing {directory} {step}")


def _finish_replacing(directory: pathlib.Path) -> None:
  """Removes checkpoints that were replaced, and gives the others their name back."""
  if not is_first():
    return
  for old in directory.glob(f"*{REPLACED}"):
    new = old.with_suffix("")
    if new.exists():
      shutil.rmtree(old)
    else:
      old.rename(new)


def place_of(directory: pathlib.Path, step: int) -> pathlib.Path:
  """Returns the path of the checkpoint of a step, also while it is being replaced."""
  place, replaced = directory / str(step), directory / f"{step}{REPLACED}"
  return replaced if replaced.exists() and not place.exists() else place


@contextlib.contextmanager
def _as_save_error(path: pathlib.Path) -> Iterator[None]:
  """Turns every error into a SaveError that names the path."""
  try:
    yield
  except Exception as error:  # the type depends on the layer that failed
    raise SaveError(f"{path} cannot be written ({reason(error)})") from error


def steps(directory: pathlib.Path) -> list[int]:
  """Returns the steps whose states are in `directory`, in ascending order."""
  # No manager is used, because making one waits for all processes.
  if not directory.is_dir():
    return []
  names = {path.name.removesuffix(REPLACED) for path in directory.iterdir()}
  return sorted(int(name) for name in names if name.isdecimal())


def _is_saved(directory: pathlib.Path, step: int, record: dict) -> bool:
  """Reports whether the checkpoint of a step can be read and has this record."""
  try:
    saved = read_record(directory, step)
  except DamagedError:
    return False
  return json.dumps(saved, sort_keys=True) == json.dumps(record, sort_keys=True)


def read_record(directory: pathlib.Path, step: int) -> dict:
  """Returns the record that was saved with the state of a step.

  Raises:
    DamagedError: if the record is not what was saved.
    CheckpointError: if the checkpoint was saved as another step.
    OSError: if the machine and not the checkpoint is the reason that it cannot be read.
  """
  return _contents(directory, step)["record"]


def _contents(directory: pathlib.Path, step: int) -> dict:
  """Reads and checks the record of a checkpoint, with its checksums."""
  path = place_of(directory, step)
  with damaged("its record cannot be read"):
    contents = json.loads(disk.read_bytes(path / "record" / RECORD_FILE))
    intact = contents.pop("sha256") == _digest(contents)
  if not intact:
    raise DamagedError("its record is not what was saved")
  if (saved_as := contents.get("step", step)) != step:  # older checkpoints do not name it
    raise CheckpointError(f"{path} was saved as step {saved_as}; give it that name again")
  return contents


def restore(
  directory: pathlib.Path,
  step: int,
  like: PyTree,
  sharding: jax.sharding.Sharding | None = None,
) -> PyTree:
  """Reads the state of a step, whatever devices it was saved from.

  Args:
    directory: the directory that was given to `saver`.
    step: one of `steps(directory)`.
    like: a tree of the same structure, of arrays or `jax.ShapeDtypeStruct`s, such as
      `jax.eval_shape(algorithm.init, key)`.
    sharding: the sharding of every array of the state, such as `Shardings.replicated`; None for
      this process's first device. If there are several processes, each has to call this, with a
      sharding over the devices of all.

  Returns:
    The state.

  Raises:
    DamagedError: if the files are not what was saved.
    CheckpointError: if the state has another structure, other shapes or another precision, or is
      of another step.
    OSError, MemoryError: if the machine and not the checkpoint is the reason that it cannot be
      read.
  """
  contents, path = _contents(directory, step), place_of(directory, step)
  saved, expected = [of_array for *of_array, _ in contents["arrays"]], _arrays(like)
  if saved != expected:
    raise CheckpointError(f"the checkpoint {path} {_difference(saved, expected)}")
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  here = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), like)
  state = read_arrays(path, here)
  _compare(contents, state)
  return state


def _shapes_of(state: PyTree) -> PyTree:
  """Returns the shapes, types and shardings of arrays, to read them to the same devices."""
  return jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=getattr(a, "sharding", None)), state
  )


def check(directory: pathlib.Path, step: int) -> None:
  """Reads all of a checkpoint to this process's first device, and raises if it is damaged.

  Raises:
    DamagedError: if the files are not what was saved.
    CheckpointError: if the checkpoint was saved as another step.
    OSError, MemoryError: if the machine and not the checkpoint is the reason that it cannot be
      read.
  """
  contents = _contents(directory, step)
  _compare(contents, read_arrays(place_of(directory, step), None))


def _compare(contents: dict, state: PyTree) -> None:
  """Raises DamagedError if an array differs from its shape, type or checksum in the record."""
  actual = sorted([*of_array, total] for of_array, total in zip(_arrays(state), _sums(state)))
  for saved, found in itertools.zip_longest(sorted(contents["arrays"]), actual):
    if saved != found:
      path = (saved or found)[0]
      raise DamagedError(f"its array {'.'.join(path)} is not what was saved")


def set_aside(directory: pathlib.Path, step: int) -> pathlib.Path:
  """Moves the checkpoint of a step to another directory, and returns its new path."""
  damaged = directory.with_name(f"{directory.name}-damaged")
  damaged.mkdir(exist_ok=True)
  number = 0
  while (place := damaged / (f"{step}" if not number else f"{step}.{number}")).exists():
    number += 1
  return place_of(directory, step).rename(place)


def _arrays(tree: PyTree) -> list[list]:
  """Returns the path, shape and type of every array, as JSON holds them."""

  def name(entry) -> str:
    return str(getattr(entry, "name", getattr(entry, "key", getattr(entry, "idx", entry))))

  return [
    [[name(entry) for entry in path], list(leaf.shape), str(leaf.dtype)]
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _difference(saved: list[list], expected: list[list]) -> str:
  """Describes how the arrays of a checkpoint differ from the expected ones, and what to do."""
  single = lambda arrays: [[*place, dtype.replace("64", "32")] for *place, dtype in arrays]
  if single(saved) != single(expected):
    return "is not of this model"
  if any(dtype == "float64" for *_, dtype in saved):
    return "was saved in float64, and this process computes in float32; set JAX_ENABLE_X64=1"
  return "was saved in float32, and this process computes in float64; unset JAX_ENABLE_X64"


def _digest(contents: dict) -> str:
  # JSON that was parsed gives the same text again, because floats have their shortest digits.
  return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _sums(tree: PyTree) -> list[int]:
  """Returns a checksum of every array, the same wherever the array is placed."""
  leaves = jax.tree.leaves(tree)
  return [int(checksum) for checksum in np.asarray(_checksums(leaves))] if leaves else []


@jax.jit
def _checksums(leaves: list[Array]) -> Array:
  return jnp.stack([_checksum(leaf) for leaf in leaves])


def _checksum(array: Array) -> Array:
  """Computes Σ_i (2 i + 1) word_i mod 2^32; the odd weights detect every change of one word.

  The sum runs on the devices, because with several processes no process has all of every array.
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
