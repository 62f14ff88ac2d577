"""Training states on disk, by orbax: whole or not at all, checked and not executed on reading.

A checkpoint is a directory STEP: the arrays of a state, and a record of whatever else it takes
to go on, as JSON. It has its name only once it is complete. The record holds a checksum of every
array, and one of itself, so that what comes back is what was saved.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import pathlib
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.errors import CheckpointError, DamagedError, SaveError
from aevb_jax.types import Array, PyTree

RECORD_FILE = "record.json"
NUM_KEPT = 3


@contextlib.contextmanager
def saver(
  directory: pathlib.Path, *, num_kept: int | None = NUM_KEPT
) -> Iterator[Callable[[int, PyTree, dict], None]]:
  """A function (step, state, record={}) that saves a training state; the last few are kept, or all.

  It returns when the state has left the device and writes in the background; leaving the
  context waits until everything is on disk. Where a step is there already and its record is
  another, the new one takes its place. The record is of what JSON can hold.

  Of several processes, each has to call it, with arrays of a mesh of them all and a
  directory that all of them see.

  Raises:
    SaveError: on leaving, or by the function, of this state or the one before.
  """
  ocp = _orbax()
  with _as_save_error(directory):
    manager = ocp.CheckpointManager(
      directory.absolute(),
      options=ocp.CheckpointManagerOptions(
        max_to_keep=num_kept,
        cleanup_tmp_directories=True,
        # Of one that cannot be made in the background its writers do not hear for five minutes.
        async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
      ),
      item_handlers=dict(
        state=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler(RECORD_FILE)
      ),
    )

  def save(step: int, state: PyTree, record: dict | None = None) -> None:
    with _as_save_error(directory / str(step)):
      if step in manager.all_steps():
        manager.wait_until_finished()  # it may be on its way
        if _is_saved(directory, step, record or {}):
          return
        manager.delete(step)
      arrays = [[*of_array, checksum] for of_array, checksum in zip(_arrays(state), _sums(state))]
      # As it is read again; and a copy, since the caller goes on while it is written.
      contents = json.loads(json.dumps(dict(arrays=arrays, record=record or {})))
      contents["sha256"] = _digest(contents)
      manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(contents)
        ),
      )

  with _one_error():
    try:
      yield save
    finally:
      with _as_save_error(directory):
        manager.close()


@contextlib.contextmanager
def _as_save_error(path: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except Exception as error:  # of many kinds, by what failed in which layer
    raise SaveError(f"{path} cannot be written ({_reason(error)})") from error


@functools.cache
def _orbax():
  """orbax.checkpoint, whose errors are raised and not logged as well, each with a traceback."""
  import orbax.checkpoint as ocp

  def told(log: logging.LogRecord) -> bool:
    return log.levelno < logging.ERROR or "orbax" not in pathlib.Path(log.pathname).parts

  logging.getLogger("absl").addFilter(told)
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  return ocp


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
  """Of files that are written or read together, the first error is enough.

  orbax closes its event loop at the first file that fails. That the others then find it closed,
  are never asked how they fared, or have not begun, would be printed, for each with a traceback,
  also some time later: so it is kept quiet for good where an error leaves this context.
  """
  before = sys.unraisablehook

  def hook(unraisable) -> None:
    frames = traceback.walk_tb(unraisable.exc_traceback)
    files = [pathlib.Path(frame.f_code.co_filename) for frame, _ in frames]
    of_orbax = any("orbax" in file.parts for file in files)
    if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
      before(unraisable)

  sys.unraisablehook = hook
  try:
    yield
  except BaseException:
    never_begun = "coroutine .* was never awaited"
    warnings.filterwarnings("ignore", never_begun, RuntimeWarning)
    raise
  sys.unraisablehook = before


def _reason(error: BaseException) -> str:
  """Why, in a few words: of an error of the operating system its own, wherever it is told."""
  text = " ".join(str(error).split())
  for words in ("No space left on device", "File too large", "Permission denied", "Read-only file"):
    if words in text:
      return words
  return f"{type(error).__name__}: {text[:120]}"


def steps(directory: pathlib.Path) -> list[int]:
  """The steps whose states are in `directory`, from the first to the last."""
  # Not by a manager: to make one is a meeting of all processes.
  if not directory.is_dir():
    return []
  return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def _is_saved(directory: pathlib.Path, step: int, record: dict) -> bool:
  try:
    saved = read_record(directory, step)
  except DamagedError:
    return False
  return json.dumps(saved, sort_keys=True) == json.dumps(record, sort_keys=True)


def read_record(directory: pathlib.Path, step: int) -> dict:
  """What was saved beside the state of a step.

  Raises:
    DamagedError: if it cannot be read, or is not as it was saved.
  """
  return _contents(directory, step)["record"]


def _contents(directory: pathlib.Path, step: int) -> dict:
  try:
    contents = json.loads((directory / str(step) / "record" / RECORD_FILE).read_bytes())
    intact = contents.pop("sha256") == _digest(contents)
  except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
    raise DamagedError(f"its record cannot be read ({type(error).__name__})") from error
  if not intact:
    raise DamagedError("its record is not what was saved")
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
    CheckpointError: if it is not of this structure and these shapes.
  """
  contents = _contents(directory, step)
  if [of_array for *of_array, _ in contents["arrays"]] != _arrays(like):
    raise CheckpointError(f"the checkpoint {directory / str(step)} is not of this model")
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  here = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), like)
  state = _read_arrays(directory / str(step), here)
  _compare(contents, state)
  return state


def check(directory: pathlib.Path, step: int) -> None:
  """Reads all of a checkpoint, of whatever it is, on this process's first device.

  Raises:
    DamagedError: if it is not what was saved.
  """
  contents = _contents(directory, step)
  _compare(contents, _read_arrays(directory / str(step), None))


def _read_arrays(path: pathlib.Path, like: PyTree | None) -> PyTree:
  """The arrays as `like` says, or all there are, on this process's first device."""
  ocp = _orbax()
  path, handler = (path / "state").absolute(), ocp.StandardCheckpointHandler()
  try:
    with _one_error(), ocp.Checkpointer(handler) as reader:
      if like is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        like = jax.tree.map(
          lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding),
          handler.metadata(path).tree,
        )
      return reader.restore(path, args=ocp.args.StandardRestore(like))
  except Exception as error:  # of many kinds, by what is broken in which file
    raise DamagedError(f"its arrays cannot be read ({type(error).__name__})") from error


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
  return (directory / str(step)).rename(place)


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
