"""What becomes of training where its numbers are not finite.

A step checks nothing. Where a chunk of steps ends in numbers that are not finite, it is made
again, from the state before it, by updates that leave such steps out; which tells where the first
of them was, and that one is taken apart.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from aevb_jax.data.minibatches import stream
from aevb_jax.training.fitting import fit, fit_streamed
from aevb_jax.training.nonfinite import all_finite, first_offence, skip_nonfinite
from aevb_jax.training.sharding import Shardings
from aevb_jax.types import Algorithm, Array, Key, PyTree
from experiments.flags.data import Pixels
from experiments.runs import program, saving
from experiments.runs import state as runs
from experiments.runs.learning import Learning
from experiments.runs.state import Training

FLAGS = flags.FLAGS

flags.DEFINE_enum(
  "on_nonfinite",
  "stop",
  ["stop", "skip"],
  "Where a bound or a gradient is not finite: stop before that step, or leave it out, up to 100 in "
  "a row. A member of a sweep stops alone.",
)


MOST_IN_A_ROW = 100  # steps left out, after which a run stops all the same


class Chunk(NamedTuple):
  """What T steps made of S runs; on the host, but for the states."""

  states: PyTree
  metrics: dict[str, np.ndarray]  # (S, T)
  made: np.ndarray  # (S, T); the others were left out
  finite: np.ndarray  # (S,), whether the state at the end and the objective on the way are


def chunk_of(states: PyTree, metrics: dict, objective: str, shardings: Shardings) -> Chunk:
  """Of what a training program returned; waits for it."""
  here = jax.device_put((metrics, _finite(states)), shardings.replicated)
  metrics, finite_end = jax.tree.map(np.asarray, here)
  metrics = {name: np.atleast_2d(values) for name, values in metrics.items()}
  climbed = metrics[objective]
  made = ~metrics.pop("skipped", np.zeros(climbed.shape, bool))
  finite = np.isfinite(np.where(made, climbed, 0)).all(axis=-1)
  return Chunk(states, metrics, made, finite & finite_end)


@jax.jit
def _finite(states: PyTree) -> Array:
  return jax.vmap(all_finite)(states) if states.step.ndim else all_finite(states)


@jax.jit
def copy(states: PyTree) -> PyTree:
  """To train on, as `fit` takes what it is given."""
  return jax.tree.map(jnp.copy, states)


def remedy(
  training: Training, learning: Learning, pixels: Pixels
) -> Callable[[Training, Chunk, PyTree], Chunk]:
  """(training before a chunk, the chunk, its minibatches) -> what to go on with.

  A run that stops keeps the state that it had. The function raises FloatingPointError when no
  run is left that goes on.
  """
  skipping = skip_nonfinite(learning.algorithm, learning.objective)

  @functools.cache
  def compiled(length: int) -> Callable:
    how = training.saved.states, training.keys, pixels, training.shardings
    return program.compile_fit({length}, skipping, *how)[length]

  def settle(training: Training, chunk: Chunk, minibatches: PyTree) -> Chunk:
    going_on = np.asarray([run.faults["stopped"] is None for run in training.runs])
    at_fault = np.flatnonzero(going_on & ~chunk.finite)
    for i in np.flatnonzero(chunk.finite):
      training.runs[i].faults["in_a_row"] = 0
    if at_fault.size:
      states = copy(training.saved.states)
      made = compiled(chunk.made.shape[1])(
        states, training.keys, minibatches, static_key=pixels.static_key
      )
      again = chunk_of(*made, learning.objective, training.shardings)
      for i in at_fault:
        going_on[i] = _goes_on(training, i, again, learning, pixels)
      if FLAGS.on_nonfinite == "skip":
        chunk = again
    if not going_on.any():
      last = training.runs[at_fault[-1] if at_fault.size else -1]
      reason = f"{last.name} {last.faults['stopped']}".lstrip()
      for i in at_fault:  # their states are those of now, and may be gone on with
        training.runs[i].faults["stopped"] = None
      raise FloatingPointError(reason)
    if going_on.all():
      return chunk
    states = saving.where(going_on, chunk.states, training.saved.states)
    return chunk._replace(states=jax.device_put(states, training.placement))

  return settle


def _goes_on(training: Training, i: int, again: Chunk, learning: Learning, pixels: Pixels) -> bool:
  """Whether a run leaves its faulty steps out, or stops; either way it is told why."""
  run, made = training.runs[i], again.made[i]
  left_out = int(np.sum(~made))
  before = 0 if made.any() else run.faults["in_a_row"]
  in_a_row = before + (made.size - 1 - int(np.flatnonzero(made)[-1]) if made.any() else made.size)
  most = min(MOST_IN_A_ROW, math.ceil(FLAGS.num_examples / FLAGS.batch_size))
  goes_on = FLAGS.on_nonfinite == "skip" and in_a_row < most
  if not goes_on or (left_out and not run.faults["skipped"]):
    what = _describe(training, i, again, learning, pixels)
    if goes_on:
      what += " and left out, as later ones will be"
    elif FLAGS.on_nonfinite == "skip":
      what = f"no step could be made of the last {in_a_row}: {what}"
    if training.sweep or goes_on:
      tqdm.write(f"{run.name} {what}".lstrip())
  if goes_on:
    run.faults["skipped"] += left_out
    run.faults["in_a_row"] = in_a_row
  else:
    run.faults["stopped"] = what
  return goes_on


def _describe(training: Training, i: int, again: Chunk, learning: Learning, pixels: Pixels) -> str:
  """Which step of a chunk was the first that a run could not make, and why."""
  made, step = again.made[i], training.step
  if made.all():  # not seen before, but the two programs may round differently
    return f"by step {step + made.size} something was not finite; made again, all is"
  num_before = int(np.argmin(made))
  value = again.metrics[learning.objective][i, num_before]
  objective = learning.objective.replace("_", " ")
  what = f"the {objective} is {value:.6g}"
  what += ", its gradient or the update not finite" if np.isfinite(value) else ""
  state = runs.saved_of(training, i).states
  state, key = jax.tree.map(
    lambda leaf: leaf.addressable_data(0), (state, training.runs[i].keys.fit)
  )
  skipping = skip_nonfinite(learning.algorithm, learning.objective)
  state, _ = _replay(skipping, copy(state), key, step, num_before, pixels)
  _, terms = _replay(learning.explain, state, key, step + num_before, 1, pixels)
  why = first_offence(jax.tree.map(lambda leaf: np.asarray(leaf)[0], terms))
  return f"step {step + num_before + 1}: {what}; {why}"


def _replay(
  algorithm: Algorithm, state: PyTree, key: Key, step: int, num_steps: int, pixels: Pixels
) -> tuple[PyTree, PyTree]:
  """Some steps of one run on one device."""
  if not num_steps:
    return state, {}
  how = dict(preprocess=pixels.preprocess, static_key=pixels.static_key)
  if not pixels.streamed:
    train = pixels.train.addressable_data(0)
    how |= dict(batch_size=FLAGS.batch_size, num_steps=num_steps)
    return fit(algorithm, state, key, train, **how)
  (minibatches,) = stream(pixels.train, key, [num_steps], batch_size=FLAGS.batch_size, start=step)
  return fit_streamed(algorithm, state, key, minibatches, **how)
