"""The loop: trains a run or the members of a sweep, and tells how they do on the way."""

import math
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments.flags import sweeps
from experiments.flags.data import Pixels
from experiments.launch import cluster
from experiments.launch.stopping import Stopped
from experiments.runs import faults, program, saving, state
from experiments.runs import learning as learners
from experiments.runs.faults import Chunk
from experiments.runs.state import Training

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(program)
flags.adopt_module_key_flags(faults)

flags.DEFINE_integer(
  "select_step_size",
  0,
  "Of several step sizes, goes on with the one of the highest training bound after so many "
  "training samples, the paper's rule; 0 trains all to the end.",
  lower_bound=0,
)
flags.DEFINE_float(
  "checkpoint_every",
  60.0,
  "Seconds of training between two checkpoints, which are saved in the background.",
  lower_bound=0.0,
)


@flags.validator("checkpoint_every", "takes a number of seconds")
def _check_checkpoint_every(value: float) -> bool:
  return not math.isnan(value)


def train(
  training: Training,
  learning: learners.Learning,
  pixels: Pixels,
  save: Callable[[Training], None],
  asked_to_stop: Callable[[], int],
  keep: Callable[[Training], None] = lambda training: None,
) -> Training:
  """Trains for --num_examples.

  Args:
    training: at its start, or where it was.
    learning: what is learned, and how.
    pixels: of the data set.
    save: writes a checkpoint; called every --checkpoint_every and at the end.
    asked_to_stop: tells the number of a signal that did, or 0.
    keep: is told of every row; nothing is kept by default.

  Raises:
    FloatingPointError: when numbers are no longer finite, in all runs; the state before is saved.
    Stopped: when asked to; the state is saved.
  """
  num_steps = math.ceil(FLAGS.num_examples / FLAGS.batch_size)
  select_step = math.ceil(FLAGS.select_step_size / FLAGS.batch_size)
  how = (learning, pixels, save, asked_to_stop, keep)
  if select_step >= training.step and select_step:
    training = train_until(select_step, training, *how)
    training = state.take(training, sweeps.select(training.runs, select_step))
  return train_until(num_steps, training, *how)


def train_until(
  end: int,
  training: Training,
  learning: learners.Learning,
  pixels: Pixels,
  save: Callable[[Training], None],
  asked_to_stop: Callable[[], int],
  keep: Callable[[Training], None] = lambda training: None,
) -> Training:
  """Trains to a step, chunk by chunk; evaluates every --eval_every and there."""
  max_steps = program.max_chunk_steps(pixels, len(training.runs))
  chunks = program.chunk_lengths(training.step, end, max_steps)
  keys, began = training.keys, time.monotonic()
  fit_chunk = program.compile_fit(
    set(chunks), learning.algorithm, training.saved.states, keys, pixels, training.shardings
  )
  training = training.spent(compile_seconds=time.monotonic() - began)
  settle = faults.remedy(training, learning, pixels)
  if is_due(training, end):  # it was stopped before its evaluation
    training = evaluate(training, learning, pixels)
    keep(training)
    save(training)
  saved_at = time.monotonic()
  hidden = None if cluster.is_first() else True  # None: where there is no terminal
  samples = dict(total=end * FLAGS.batch_size, initial=training.step * FLAGS.batch_size)
  with (
    tqdm(**samples, unit=" samples", unit_scale=True, disable=hidden) as bar,
    program.feed(pixels, keys, chunks, training.step, training.shardings) as data,
  ):
    upcoming = next(data, None)
    for length in chunks:
      began, minibatches = time.monotonic(), upcoming
      states = faults.copy(training.saved.states)
      made = fit_chunk[length](states, keys, minibatches, static_key=pixels.static_key)
      upcoming = next(data, None)  # read while the devices train
      try:
        # The host waits here, once per chunk.
        chunk = faults.chunk_of(*made, learning.objective, training.shardings)
        training = advance(training, settle(training, chunk, minibatches))
        training = training.spent(train_seconds=time.monotonic() - began, num_steps=length)
        climbed = chunk.metrics[learning.objective].mean(axis=-1)
        bar.set_postfix({learning.objective: f"{np.fmax.reduce(climbed):.2f}"}, refresh=False)
        bar.update(length * FLAGS.batch_size)
        overdue = time.monotonic() - saved_at >= FLAGS.checkpoint_every
        number, overdue = cluster.highest(asked_to_stop(), overdue)
        if number:
          save(training)
          raise Stopped(number)
        if is_due(training, end):
          training = evaluate(training, learning, pixels)
          keep(training)
      except FloatingPointError:
        save(training)  # of before the chunk, or before the evaluation
        raise
      if overdue or training.step == end:
        save(training)
        saved_at = time.monotonic()
  return training


def advance(training: Training, chunk: Chunk) -> Training:
  """After the steps of a chunk."""
  counted = dict(num_steps=chunk.made.astype(np.float64))
  counted |= {name: np.where(chunk.made, v, 0.0) for name, v in chunk.metrics.items()}
  sums = {n: v.sum(axis=-1, dtype=np.float64) for n, v in counted.items()}
  return training._replace(
    step=training.step + chunk.made.shape[1],
    saved=training.saved._replace(states=chunk.states),
    sums={name: training.sums.get(name, 0.0) + values for name, values in sums.items()},
  )


def is_due(training: Training, end: int) -> bool:
  """Whether this step is to have rows and has none."""
  step, rows = training.step, training.runs[0].rows
  return program.is_evaluated(step, end) and (not rows or rows[-1]["step"] < step)


def evaluate(training: Training, learning: learners.Learning, pixels: Pixels) -> Training:
  """Evaluates all runs, writes and prints their rows, and keeps the best parameters.

  Raises:
    FloatingPointError: if no run has a finite bound, unless --on_nonfinite=skip.
  """
  rows = [evaluate_run(training, i, learning, pixels) for i in range(len(training.runs))]
  if FLAGS.on_nonfinite == "stop":
    bounds = [row.get("test_bound", 0.0) for row in rows]
    program.check_finite(bounds, training.step, "test bound")
  width = max(len(run.name) for run in training.runs)
  for run, row in zip(training.runs, rows, strict=True):
    run.rows.append(row)
    run.write_row(row)
    if not run.faults["stopped"]:
      tqdm.write(f"{run.name:{width}}{learning.describe(row)}")
  training = training._replace(sums={})
  if not training.saved.best:
    return training
  bounds = np.asarray([row["validation_bound"] for row in rows], np.float32)
  bounds = jax.device_put(bounds if training.sweep else bounds[0], training.placement)
  best = jax.device_put(saving.keep_best(training.saved, bounds), training.placement)
  return training._replace(saved=training.saved._replace(best=best))


def evaluate_run(training: Training, i: int, learning: learners.Learning, pixels: Pixels) -> dict:
  """The row of a run; one that has stopped has no numbers."""
  run = training.runs[i]
  row = counts(training.step, learning.evaluations) | dict(seconds=round(training.seconds, 3))
  if run.faults["stopped"]:
    return row | dict.fromkeys(learning.columns, math.nan)
  sums = {name: float(values[i]) for name, values in training.sums.items()}
  num_steps = sums.pop("num_steps")
  means = {name: total / max(num_steps, 1) for name, total in sums.items()}
  params = state.saved_of(training, i).states.params
  columns = learning.evaluate(
    run.keys.evaluation, params, pixels, means | dict(num_steps=num_steps)
  )
  return row | columns


def counts(step: int, evaluations_per_example: int) -> dict:
  """How far training has come: the columns that every row begins with."""
  examples = step * FLAGS.batch_size
  return dict(step=step, examples_seen=examples, evaluations=examples * evaluations_per_example)
