"""What a run leaves to go on from: its checkpoints, and how they are read again.

A checkpoint has the arrays (the state of training, and the parameters of the best validation
bound so far) and a record: every row of metrics.csv, what is summed up for the next one, the
flags. The position in the data is the step: a minibatch is a function of it and the key.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from aevb_jax import checkpoint
from aevb_jax.types import Array, Params, PyTree
from experiments import cluster
from experiments.learners import Learning

FLAGS = flags.FLAGS


class Best(NamedTuple):
  """The parameters of the highest validation bound so far; of a sweep, of each member."""

  bound: Array  # in nats; -inf before the first evaluation
  step: Array
  params: Params


class Saved(NamedTuple):
  """The arrays of a checkpoint."""

  states: PyTree  # of a single run its state; of a sweep all of theirs, with a leading axis
  best: Best | tuple[()]  # nothing where there is no validation bound


def start(states: PyTree, learning: Learning) -> Saved:
  """Before the first step."""
  if "validation_bound" not in learning.columns:
    return Saved(states, ())
  bound = jnp.full(states.step.shape, -jnp.inf, jnp.float32)
  return Saved(states, Best(bound, states.step, jax.tree.map(jnp.copy, states.params)))


@jax.jit
def keep_best(saved: Saved, bounds: Array) -> Best:
  """With the parameters of today where their validation bound is higher; NaN is not."""
  now = Best(bounds.astype(jnp.float32), saved.states.step, saved.states.params)
  return where(now.bound > saved.best.bound, now, saved.best)


@jax.jit
def where(chosen: Array, tree: PyTree, other: PyTree) -> PyTree:
  """`jnp.where` for the members of a sweep, or the one run there is."""

  def leaf(a: Array, b: Array) -> Array:
    return jnp.where(chosen.reshape(chosen.shape + (1,) * (a.ndim - chosen.ndim)), a, b)

  return jax.tree.map(leaf, tree, other)


def record(training) -> dict:
  """What a checkpoint says of a `Training` beside its arrays."""
  return dict(
    step=training.step,
    examples_seen=training.step * FLAGS.batch_size,
    seconds=training.seconds,
    sums={name: values.tolist() for name, values in training.sums.items()},
    runs={run.name: dict(rows=run.rows, faults=run.faults) for run in training.everyone},
  )


def newest(directory: pathlib.Path, at: Callable[[int, dict], Any]) -> Any | None:
  """What the last checkpoint goes on from; one that is damaged is named and set aside.

  Args:
    directory: of the checkpoints.
    at: (step, record) -> a `Training` whose `saved` has shapes for arrays.

  Returns:
    It, with arrays; None if there is no checkpoint.

  Raises:
    CheckpointError: if it is of something else.
  """
  while True:
    step = int(cluster.of_first(np.asarray(max(checkpoint.steps(directory), default=-1))))
    if step < 0:
      return None
    record, reason = _try(checkpoint.read_record, directory, step)
    if not reason:
      training = at(step, record)
      shapes, placement = training.saved, training.placement
      saved, reason = _try(checkpoint.restore, directory, step, shapes, placement)
    if not reason:
      return training._replace(saved=saved)
    if cluster.is_first():
      place = checkpoint.set_aside(directory, step)
      print(
        f"warning: the checkpoint of step {step} is damaged ({reason}); it is now {place}",
        file=sys.stderr,
      )
    cluster.wait_for_all(f"damaged {step}")


def _try(read: Callable, *arguments) -> tuple[Any, str | None]:
  """What is read, or why some process could not read it; all of them say the same."""
  found, reason = None, None
  try:
    found = read(*arguments)
  except checkpoint.DamagedError as error:
    reason = str(error)
  (damaged,) = cluster.highest(reason is not None)
  return found, (reason or "to another process") if damaged else None
