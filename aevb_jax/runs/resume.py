"""The checkpoints that a run resumes from: their arrays, and the newest intact one."""

import logging
import pathlib
import sys
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.errors import CheckpointError, ConfigError, DamagedError
from aevb_jax.runs import texts
from aevb_jax.runs.directory import CONFIG, FLAG_FILE
from aevb_jax.runs.files import git_commit
from aevb_jax.training import checkpoint
from aevb_jax.training.code import about_code, changes
from aevb_jax.training.processes import highest, is_first, of_first, wait_for_all
from aevb_jax.types import Array, Params, PyTree

LOGGER = logging.getLogger(__name__)


class Origin(NamedTuple):
  """The configuration and the code of a run, as its checkpoints record them."""

  config: Any  # the configuration of the run, or of the sweep
  commit: str | None  # the commit at the start; the code may change later
  code: dict  # from `about_code`

  def record(self) -> dict:
    """Returns the entries of a record, as JSON holds them."""
    return dict(flags=texts.flags_text(self.config), git_commit=self.commit, **self.code)


def make_origin(config: Any, sources: Collection[str] = (), data: str | None = None) -> Origin:
  """Returns the origin of a run that starts now.

  Args:
    config: the configuration.
    sources: files outside this package, for `about_code`.
    data: the version of the data set.
  """
  about_data = {} if data is None else dict(data=data)
  return Origin(config, git_commit(), about_code(sources) | about_data)


def compare(record: dict, step: int, origin: Origin) -> list[str]:
  """Compares the record of a checkpoint with the run that resumes from it.

  Args:
    record: the record of the checkpoint.
    step: the name of the checkpoint's directory.
    origin: the origin of the run.

  Returns:
    Differences that do not prevent resuming: code, versions, generator.

  Raises:
    CheckpointError: if the checkpoint is of another step, or of a run with other flags.
  """
  if (saved_as := record.get("step", step)) != step:
    raise CheckpointError(f"its checkpoint {step} was saved as step {saved_as}")
  differences = "flags" in record and texts.differences(record["flags"], [origin.config])
  if differences:  # older checkpoints of some mains have no flags
    what = f"its checkpoint {step} was saved with other flags than it has now ({differences})"
    raise CheckpointError(f"{what}; restore its {CONFIG} and {FLAG_FILE}")
  return changes(record, origin.code)


class Best(NamedTuple):
  """The parameters with the highest validation bound so far; in a sweep, for each member."""

  bound: Array  # in nats; -inf before the first evaluation
  step: Array
  params: Params


class Saved(NamedTuple):
  """The arrays of a checkpoint."""

  states: PyTree  # the state of a single run; for a sweep all states, with a leading axis
  best: Best | tuple[()]  # () if there is no validation bound


def start(states: PyTree, columns: Collection[str]) -> Saved:
  """Returns the arrays of a checkpoint before the first step.

  Args:
    states: the state of a run, or of all members of a sweep.
    columns: the columns of the rows; best parameters are kept only if one is a validation bound.
  """
  if "validation_bound" not in columns:
    return Saved(states, ())
  bound = jnp.full(states.step.shape, -jnp.inf, jnp.float32)
  return Saved(states, Best(bound, states.step, jax.tree.map(jnp.copy, states.params)))


@jax.jit
def keep_best(saved: Saved, bounds: Array) -> Best:
  """Replaces the best parameters where the new validation bound is higher; a NaN never is."""
  now = Best(bounds.astype(jnp.float32), saved.states.step, saved.states.params)
  return where(now.bound > saved.best.bound, now, saved.best)


@jax.jit
def where(chosen: Array, tree: PyTree, other: PyTree) -> PyTree:
  """Returns `tree` for members of a sweep (or the only run) that are chosen, otherwise `other`."""

  def leaf(a: Array, b: Array) -> Array:
    return jnp.where(chosen.reshape(chosen.shape + (1,) * (a.ndim - chosen.ndim)), a, b)

  return jax.tree.map(leaf, tree, other)


def newest(
  directory: pathlib.Path, at: Callable[[int, dict], Any], batch_size: int, origin: Origin
) -> Any | None:
  """Returns the newest checkpoint that is not damaged, and prints where training resumes.

  A damaged checkpoint is set aside with a warning.

  Args:
    directory: the directory of the checkpoints, in the directory of the run.
    at: (step, record) -> a NamedTuple, whose `saved` has shapes for arrays and whose
      `placement` is their sharding, such as a `Training`.
    batch_size: M, for the message.
    origin: the origin of the run, which the checkpoint's must match. Differences that do not
      prevent resuming cause a warning.

  Returns:
    The result of `at`, with arrays; None if there is no checkpoint.

  Raises:
    ConfigError: if the checkpoint is of another run.
    OSError, MemoryError: if the machine and not the checkpoint is the reason that it cannot be
      read.
  """
  while True:
    step = int(of_first(np.asarray(max(checkpoint.steps(directory), default=-1))))
    if step < 0:
      return None
    record, reason = _try(checkpoint.read_record, directory, step)
    changed = [] if reason else _refusing(directory, compare, record, step, origin)
    if not reason:
      training = at(step, record)
      shapes, placement = training.saved, training.placement
      try:
        saved, reason = _try(checkpoint.restore, directory, step, shapes, placement)
      except ConfigError as error:  # for example, keys of another generator have another size
        since = f" (since it was saved: {'; '.join(changed)})" if changed else ""
        raise ConfigError(error.field, error.value, error.message + since) from error
    if not reason:
      examples = step * batch_size
      if changed and is_first():
        what = f"since the checkpoint of step {step}: {'; '.join(changed)}"
        LOGGER.warning(
          "warning: %s; the run may end with other numbers than an uninterrupted one", what
        )
      print(f"resuming after {examples:,} training samples, where an earlier run stopped")
      return training._replace(saved=saved)
    if is_first():
      place = checkpoint.set_aside(directory, step)
      print(
        f"warning: the checkpoint of step {step} is damaged ({reason}); it is now {place}",
        file=sys.stderr,
      )
    wait_for_all(f"damaged {step}")


def _try(read: Callable, *arguments) -> tuple[Any, str | None]:
  """Returns the value read and None or, in all processes if one failed to read, None and why."""
  found, reason = None, None
  try:
    found = _refusing(arguments[0], read, *arguments)
  except DamagedError as error:
    reason = str(error)
  (damaged,) = highest(reason is not None)
  return found, (reason or "to another process") if damaged else None


def _refusing(directory: pathlib.Path, function: Callable, *arguments) -> Any:
  """Calls a function, and turns its CheckpointError into a refusal of the run in the directory.

  Raises:
    ConfigError: for a CheckpointError that is not a DamagedError.
  """
  try:
    return function(*arguments)
  except DamagedError:
    raise
  except CheckpointError as error:
    message = f"holds a run that cannot be resumed: {error}"
    raise ConfigError("workdir", directory.parent, message) from error
