"""The training loop: trains a run or the members of a sweep, and evaluates them during training."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from aevb_jax.runs import faults, state
from aevb_jax.runs.learning import without_numbers
from aevb_jax.runs.resume import keep_best
from aevb_jax.runs.state import Loop, Plan, Training
from aevb_jax.training import program
from aevb_jax.training.processes import highest, is_first


class Stopped(Exception):
  """Raised when a signal asked a run to stop, after the run has saved its state."""

  def __init__(self, number: int):
    super().__init__(number)
    self.number = number


def evenly(batch_size: int, eval_every: int, per_decade: int = 0) -> Plan:
  """Plans rows at multiples of a number of steps.

  Args:
    batch_size: M.
    eval_every: training samples between two rows, rounded to whole steps.
    per_decade: the number of these rows in every decade, evenly spaced on a log axis; 0 for all.

  Returns:
    The plan.
  """
  every = max(1, round(eval_every / batch_size))

  def is_due(step: int, end: int) -> bool:
    return program.is_evaluated(step, end, every, per_decade)

  def chunks(start: int, end: int, most: int) -> list[int]:
    return program.chunk_lengths(start, end, most, every)

  return Plan(batch_size, is_due, chunks)


def train_until(end: int, training: Training, loop: Loop) -> Training:
  """Trains to a step, chunk by chunk, and evaluates at each step that is due, also at the end.

  Raises:
    FloatingPointError: if no run has finite numbers any more; the last finite state is saved.
    Stopped: if a signal asks to stop; the state is saved.
  """
  batch_size, pixels, learning = loop.plan.batch_size, loop.pixels, loop.learning
  most = program.max_chunk_steps(pixels, batch_size, len(training.runs))
  chunks, keys = loop.plan.chunks(training.step, end, most), training.keys
  fit_chunk, training = _compiled(set(chunks), training, loop)
  remedy = faults.remedy(training, loop, end)
  if is_due(training, end, loop.plan):  # an earlier process stopped before this evaluation
    training = _evaluated(training, loop)
    loop.save(training)
  saved_at = time.monotonic()
  feeding: dict[str, Any] = dict(batch_size=batch_size, shardings=training.shardings)
  with (
    _progress_bar(end * batch_size, training.step * batch_size) as bar,
    program.feed(pixels, keys, chunks, training.step, **feeding) as data,
  ):
    upcoming = next(data, None)
    for length in chunks:
      began, minibatches = time.monotonic(), upcoming
      states = faults.copy(training.saved.states)
      made = fit_chunk[length](states, training.keys, minibatches, static_key=pixels.static_key)
      upcoming = next(data, None)  # read while the devices train
      try:
        # The host waits here, once per chunk.
        chunk = faults.chunk_of(*made, learning.objective, training.shardings)  # type: ignore[call-arg]
        training, chunk = remedy(training, chunk, minibatches)
        training = advance(training, chunk)
        training = training.spent(train_seconds=time.monotonic() - began, num_steps=length)
        show(bar, learning.objective, chunk, length * batch_size)
        overdue = time.monotonic() - saved_at >= loop.checkpoint_every
        number, overdue = highest(loop.asked_to_stop(), overdue)
        if number:
          loop.save(training)
          raise Stopped(number)
      except FloatingPointError:
        loop.save(training)  # the state before the chunk
        raise
      if is_due(training, end, loop.plan):
        training = _evaluated(training, loop)
      if overdue or training.step == end:
        loop.save(training)
        saved_at = time.monotonic()
  return training


def _progress_bar(total: int, initial: int) -> tqdm:
  """Returns a bar of training samples, which only the first process shows, in a terminal."""
  hidden = None if is_first() else True
  samples = dict(total=total, initial=initial, unit=" samples", unit_scale=True)
  return tqdm(**samples, disable=hidden)


def _evaluated(training: Training, loop: Loop) -> Training:
  """Evaluates all runs; saves their states if the evaluation fails or is stopped."""
  try:
    return evaluate(training, loop)
  except (FloatingPointError, Stopped):
    loop.save(training)
    raise


def _compiled(
  lengths: set[int], training: Training, loop: Loop
) -> tuple[dict[int, Callable], Training]:
  """Compiles the training program for every length of chunk, and adds the time to the training."""
  began = time.monotonic()
  fit_chunk = program.compile_fit(
    lengths,
    loop.learning.algorithm,
    training.saved.states,
    training.keys,
    loop.pixels,
    batch_size=loop.plan.batch_size,
    shardings=training.shardings,
  )
  return fit_chunk, training.spent(compile_seconds=time.monotonic() - began)


def show(bar: tqdm, objective: str, chunk: faults.Chunk, num_samples: int) -> None:
  """Advances the progress bar, which shows the objective of the best run."""
  climbed = chunk.metrics[objective].mean(axis=-1)
  bar.set_postfix({objective: f"{np.fmax.reduce(climbed):.2f}"}, refresh=False)
  bar.update(num_samples)


def advance(training: Training, chunk: faults.Chunk) -> Training:
  """Returns the training after the steps of a chunk."""
  counted = dict(num_steps=chunk.made.astype(np.float64))
  counted |= {name: np.where(chunk.made, v, 0.0) for name, v in chunk.metrics.items()}
  sums = {n: v.sum(axis=-1, dtype=np.float64) for n, v in counted.items()}
  return training._replace(
    step=training.step + chunk.made.shape[1],
    saved=training.saved._replace(states=chunk.states),
    sums={name: training.sums.get(name, 0.0) + values for name, values in sums.items()},
  )


def is_due(training: Training, end: int, plan: Plan) -> bool:
  """Reports whether rows are due at this step and are still missing."""
  step, rows = training.step, training.runs[0].rows
  return plan.is_due(step, end) and (not rows or rows[-1]["step"] < step)


def evaluate(training: Training, loop: Loop) -> Training:
  """Evaluates all runs, writes and prints their rows, and keeps the best parameters.

  Raises:
    FloatingPointError: if no run has a finite bound, unless steps that are not finite are skipped.
  """
  learning = loop.learning
  rows = [evaluate_run(training, i, loop) for i in range(len(training.runs))]
  if loop.on_nonfinite == "stop":
    check_finite([new[0].get("test_bound", 0.0) for new in rows], training.step, "test bound")
  width = max(len(run.name) for run in training.runs)
  for run, new in zip(training.runs, rows, strict=True):
    loop.write_rows(run, new)
    for row in [] if run.faults.stopped else new:
      if words := learning.row_in_words(row):
        tqdm.write(f"{run.name:{width}}{words}")
  runs = [run._replace(rows=(*run.rows, *new)) for run, new in zip(training.runs, rows)]
  training = training.with_runs(runs)._replace(sums={})
  if training.saved.best:
    bounds = np.asarray([new[-1]["validation_bound"] for new in rows], np.float32)
    bounds = jax.device_put(bounds if training.sweep else bounds[0], training.placement)
    best = jax.device_put(keep_best(training.saved, bounds), training.placement)
    training = training._replace(saved=training.saved._replace(best=best))
  loop.keep(training)
  return training


def evaluate_run(training: Training, i: int, loop: Loop) -> list[dict]:
  """Returns the new rows of a run; a run that has stopped has NaN in them."""
  run, learning = training.runs[i], loop.learning
  examples = training.step * loop.plan.batch_size
  counts = dict(
    step=training.step,
    examples_seen=examples,
    evaluations=examples * learning.evaluations,
    seconds=round(training.seconds, 3),
  )
  if run.faults.stopped:
    return [counts | without_numbers(learning)]
  sums = {name: float(values[i]) for name, values in training.sums.items()}
  made = sums.pop("num_steps", 0.0)
  means = {name: total / max(made, 1) for name, total in sums.items()} | dict(num_steps=made)
  params = state.saved_of(training, i).states.params
  key = jax.random.clone(run.keys.evaluation)  # the same for every row
  return [counts | row for row in learning.evaluate(key, params, loop.pixels, means)]


def check_finite(values: list[float], step: int, name: str) -> None:
  """Raises FloatingPointError if no member of a sweep, or the only run, has a finite value."""
  if not any(map(math.isfinite, values)):
    raise FloatingPointError(f"the {name} became {values[0]} by step {step}")
