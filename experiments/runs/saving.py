"""What a run leaves to go on from: its checkpoints.

A checkpoint has the arrays (the state of training, and the parameters of the best validation
bound so far) and a record: every row of metrics.csv, what is summed up for the next one, the
flags. The position in the data is the step: a minibatch is a function of it and the key.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import flags

from aevb_jax.types import Array, Params, PyTree
from experiments.runs.learning import Learning

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
