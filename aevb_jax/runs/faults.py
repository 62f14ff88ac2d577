"""The handling of numbers that are not finite during training.

A step checks nothing. If the numbers at the end of a chunk of steps are not finite, the chunk is
repeated from the state before it, with updates that skip a step whose numbers are not finite. This
finds the first such step, which is then explained.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from aevb_jax.data.minibatches import stream
from aevb_jax.runs import state
from aevb_jax.runs.resume import where
from aevb_jax.runs.state import Loop, Run, Training
from aevb_jax.training import program
from aevb_jax.training.fitting import fit, fit_streamed
from aevb_jax.training.nonfinite import all_finite, first_offence, skip_nonfinite
from aevb_jax.training.sharding import Shardings
from aevb_jax.types import Algorithm, Array, Key, PyTree

MOST_IN_A_ROW = 100  # skipped steps after which a run stops


class Chunk(NamedTuple):
  """The result of T steps of S runs; everything except the states is on the host."""

  states: PyTree
  metrics: dict[str, np.ndarray]  # (S, T)
  made: np.ndarray  # (S, T); False for steps that were skipped
  finite: np.ndarray  # (S,); True if the last state and the objective of all steps made are finite


def chunk_of(states: PyTree, metrics: dict, objective: str, shardings: Shardings) -> Chunk:
  """Waits for a training program, and returns its result."""
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
  """Copies the states, because the training program donates its argument."""
  return jax.tree.map(jnp.copy, states)


def remedy(
  training: Training, loop: Loop, end: int
) -> Callable[[Training, Chunk, PyTree], tuple[Training, Chunk]]:
  """Makes a function (training before a chunk, chunk, its minibatches) -> (training, chunk) to use.

  A run that stops keeps the state that it had before the chunk. The function raises
  FloatingPointError if every run has stopped.
  """
  learning, pixels = loop.learning, loop.pixels
  skipping = skip_nonfinite(learning.algorithm, learning.objective)

  @functools.cache
  def compiled(length: int) -> Callable:
    arguments = training.saved.states, training.keys, pixels
    devices: dict[str, Any] = dict(batch_size=loop.plan.batch_size, shardings=training.shardings)
    return program.compile_fit({length}, skipping, *arguments, **devices)[length]

  def again(training: Training, chunk: Chunk, minibatches: PyTree) -> Chunk:
    states, length = copy(training.saved.states), chunk.made.shape[1]
    static_key = pixels.static_key
    made = compiled(length)(states, training.keys, minibatches, static_key=static_key)
    return chunk_of(*made, learning.objective, training.shardings)  # type: ignore[call-arg]

  def recover(training: Training, chunk: Chunk, minibatches: PyTree) -> tuple[Training, Chunk]:
    finite = [run.faults.stopped is not None or ok for run, ok in zip(training.runs, chunk.finite)]
    runs = [
      run._replace(faults=run.faults._replace(in_a_row=0)) if ok else run
      for run, ok in zip(training.runs, chunk.finite)
    ]
    if not all(finite):
      repeated = again(training, chunk, minibatches)
      for i in np.flatnonzero(~np.asarray(finite)):
        runs[i] = _judged(training, int(i), repeated, loop, end)
      if loop.on_nonfinite == "skip":
        chunk = repeated
    active = np.asarray([run.faults.stopped is None for run in runs])
    if not active.any():
      last = runs[int(np.flatnonzero(~np.asarray(finite))[-1])] if not all(finite) else runs[-1]
      raise FloatingPointError(f"{last.name} {last.faults.stopped}".lstrip())
    training = training.with_runs(runs)
    if active.all():
      return training, chunk
    states = where(active, chunk.states, training.saved.states)
    return training, chunk._replace(states=jax.device_put(states, training.placement))

  return recover


def _judged(training: Training, i: int, again: Chunk, loop: Loop, end: int) -> Run:
  """Decides that a run skips its faulty steps or stops, prints the reason, and returns the run."""
  run, made = training.runs[i], again.made[i]
  skipping, left_out = loop.on_nonfinite == "skip", int(np.sum(~made))
  before = 0 if made.any() else run.faults.in_a_row
  in_a_row = before + (made.size - 1 - int(np.flatnonzero(made)[-1]) if made.any() else made.size)
  goes_on = skipping and in_a_row < min(MOST_IN_A_ROW, end)
  if goes_on and not (left_out and not run.faults.skipped):
    why = None  # the reason was printed before
  else:
    why = _explained(training, i, again, loop)
    if goes_on:
      why += " and left out, as later ones will be"
    elif skipping:
      why = f"each of the last {in_a_row} steps failed: {why}"
    if loop.selecting and training.sweep and not goes_on:
      tqdm.write(f"{run.name} leaves the search for a step size: {why}")
    elif training.sweep or goes_on:
      tqdm.write(f"{run.name} {why}".lstrip())
  if not goes_on:
    return run._replace(faults=run.faults._replace(stopped=why))
  skipped = run.faults.skipped + left_out
  return run._replace(faults=run.faults._replace(skipped=skipped, in_a_row=in_a_row))


def _explained(training: Training, i: int, again: Chunk, loop: Loop) -> str:
  """Explains which step of a chunk was the first that a run could not make, and why."""
  learning, made, step = loop.learning, again.made[i], training.step
  if made.all():  # the program that skips may round differently
    return (
      f"by step {step + made.size} something was not finite; when computed again, everything is"
    )
  num_before = int(np.argmin(made))
  value = again.metrics[learning.objective][i, num_before]
  what = f"step {step + num_before + 1}: the {learning.objective.replace('_', ' ')} is {value:.6g}"
  what += ", its gradient or the update not finite" if np.isfinite(value) else ""
  if learning.explain is None:
    return what
  of_run = state.saved_of(training, i).states
  of_run, key = jax.tree.map(
    lambda leaf: leaf.addressable_data(0), (of_run, training.runs[i].keys.fit)
  )
  skipping = skip_nonfinite(learning.algorithm, learning.objective)
  of_run, _ = _replay(skipping, copy(of_run), key, loop, step=step, num_steps=num_before)
  _, terms = _replay(learning.explain, of_run, key, loop, step=step + num_before, num_steps=1)
  return f"{what}; {first_offence(jax.tree.map(lambda leaf: np.asarray(leaf)[0], terms))}"


def _replay(
  algorithm: Algorithm, state: PyTree, key: Key, loop: Loop, *, step: int, num_steps: int
) -> tuple[PyTree, PyTree]:
  """Repeats some steps of one run on one device."""
  if not num_steps:
    return state, {}
  pixels, batch_size, key = loop.pixels, loop.plan.batch_size, jax.random.clone(key)
  reading: dict[str, Any] = dict(preprocess=pixels.preprocess, static_key=pixels.static_key)
  if not pixels.streamed:
    train = pixels.train.addressable_data(0)  # type: ignore[attr-defined]
    chunk: dict[str, Any] = dict(batch_size=batch_size, num_steps=num_steps)
    return fit(algorithm, state, key, train, **chunk, **reading)
  (minibatches,) = stream(pixels.train, key, [num_steps], batch_size=batch_size, start=step)
  return fit_streamed(algorithm, state, key, minibatches, **reading)
