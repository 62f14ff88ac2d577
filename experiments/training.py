"""The loop: trains a run or the members of a sweep, and tells how they do on the way."""

import functools
import math
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding
from tqdm import tqdm

from aevb_jax import checkpoint
from aevb_jax.sharding import Shardings, constrain
from aevb_jax.sweep import init_sweep
from aevb_jax.types import Array, Key, PyTree
from experiments import cluster, devices, learners, program, sweeps
from experiments.data_options import Pixels
from experiments.sweeps import Member

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(program)

flags.DEFINE_integer(
  "select_step_size",
  0,
  "Of several step sizes, goes on with the one of the highest training bound after so many "
  "training samples, the paper's rule; 0 trains all to the end.",
  lower_bound=0,
)


class Keys(NamedTuple):
  """What a run of some seed draws from."""

  init: Key
  fit: Key
  evaluation: Key
  likelihood: Key
  picture: Key


class Run(NamedTuple):
  """A member of a sweep, or the only one."""

  member: Member
  name: str  # empty for the only one
  directory: pathlib.Path
  keys: Keys
  rows: list[dict]  # of metrics.csv
  write_row: Callable[[dict], None]


class Timing(NamedTuple):
  compile_seconds: float = 0.0
  train_seconds: float = 0.0  # without compilation and evaluation
  num_steps: int = 0


class Training(NamedTuple):
  """How far the runs have come."""

  runs: list[Run]
  step: int
  states: PyTree  # of a single run its state; of a sweep all of theirs, with a leading axis
  shardings: Shardings
  timing: Timing


def train(
  runs: list[Run],
  step: int,
  learning: learners.Learning,
  pixels: Pixels,
  checkpoints: pathlib.Path,
  save: Callable[[int, PyTree], None],
) -> Training:
  """Trains for --num_examples, from the start or the checkpoint of a step.

  Raises:
    FloatingPointError: when what training climbs is no longer a finite number, in all runs.
    CheckpointError: if there is a checkpoint and it is not of these runs.
  """
  num_steps = math.ceil(FLAGS.num_examples / FLAGS.batch_size)
  select_step = math.ceil(FLAGS.select_step_size / FLAGS.batch_size)
  if step > select_step > 0:
    runs = [runs[i] for i in select(runs, select_step)]
  shardings = devices.share(len(runs))
  training = Training(runs, step, start(runs, learning, shardings), shardings, Timing())
  if step:
    examples = step * FLAGS.batch_size
    print(f"going on after {examples:,} training samples, where an earlier run was")
    states = checkpoint.restore(checkpoints, training.states, placement(training))
    training = training._replace(states=states)
  if select_step >= step and select_step:
    training = train_until(select_step, training, learning, pixels, save)
    training = take(training, select(runs, select_step))
  return train_until(num_steps, training, learning, pixels, save)


def start(runs: list[Run], learning: learners.Learning, shardings: Shardings) -> PyTree:
  """The state of a run before its first step; of the members of a sweep, theirs together."""
  algorithm = learning.algorithm
  if not runs[0].name:
    return jax.jit(algorithm.init, out_shardings=shardings.replicated)(runs[0].keys.init)
  init = jax.jit(functools.partial(init_sweep, algorithm), out_shardings=shardings.members)
  step_sizes = np.asarray([run.member.step_size for run in runs])
  return init(jnp.stack([run.keys.init for run in runs]), step_sizes)


def select(runs: list[Run], step: int) -> list[int]:
  """What `sweeps.select` chooses by the rows of the first process, which wrote them."""
  chosen = np.zeros(len(runs), bool)
  if cluster.is_first():
    chosen[sweeps.select(runs, step)] = True
  return np.flatnonzero(cluster.of_first(chosen)).tolist()


def placement(training: Training) -> NamedSharding:
  shardings = training.shardings
  return shardings.members if training.runs[0].name else shardings.replicated


def take(training: Training, chosen: list[int]) -> Training:
  """Goes on with some members of a sweep, spread over the devices anew."""
  shardings = devices.share(len(chosen))
  index = np.asarray(chosen)
  few = jax.jit(
    lambda states: jax.tree.map(lambda leaf: leaf[index], states), out_shardings=shardings.members
  )
  return training._replace(
    runs=[training.runs[i] for i in chosen],
    states=few(training.states),
    shardings=shardings,
  )


def state_of(training: Training, i: int) -> PyTree:
  """The state of one run, the same on all devices."""
  if not training.runs[0].name:
    return training.states
  return _member(training.states, i, training.shardings.replicated)


@functools.partial(jax.jit, static_argnames="sharding")
def _member(states: PyTree, i: Array, sharding: NamedSharding) -> PyTree:
  return constrain(jax.tree.map(lambda leaf: leaf[i], states), sharding)


def train_until(
  end: int,
  training: Training,
  learning: learners.Learning,
  pixels: Pixels,
  save: Callable[[int, PyTree], None],
) -> Training:
  """Trains to a step; every --eval_every, and there, evaluates, writes rows and saves the state."""
  runs, step, states, shardings, timing = training
  sweep = bool(runs[0].name)
  keys = jnp.stack([run.keys.fit for run in runs]) if sweep else runs[0].keys.fit
  eval_steps = max(1, round(FLAGS.eval_every / FLAGS.batch_size))
  max_steps = program.max_chunk_steps(pixels, len(runs))
  chunks = program.chunk_lengths(step, end, eval_steps, max_steps)
  began = time.perf_counter()
  fit_chunk = program.compile_fit(set(chunks), learning.algorithm, states, keys, pixels, shardings)
  compile_seconds = time.perf_counter() - began

  seconds, recent = 0.0, []
  earlier = runs[0].rows[-1]["seconds"] if runs[0].rows else 0.0
  hidden = None if jax.process_index() == 0 else True  # None: where there is no terminal
  samples = dict(total=end * FLAGS.batch_size, initial=step * FLAGS.batch_size)
  with (
    tqdm(**samples, unit=" samples", unit_scale=True, disable=hidden) as bar,
    program.feed(pixels, keys, chunks, step, shardings) as data,
  ):
    upcoming = next(data, None)
    for chunk in chunks:
      began = time.perf_counter()
      states, metrics = fit_chunk[chunk](states, keys, upcoming, static_key=pixels.static_key)
      upcoming = next(data, None)  # read while the devices train
      # The host waits here, once per chunk.
      metrics = jax.tree.map(np.asarray, jax.device_put(metrics, shardings.replicated))
      climbed = np.atleast_1d(metrics[learning.objective].mean(-1))
      seconds += time.perf_counter() - began
      step += chunk
      recent.append(metrics)
      bar.set_postfix({learning.objective: f"{np.fmax.reduce(climbed):.2f}"}, refresh=False)
      bar.update(chunk * FLAGS.batch_size)
      program.check_finite(climbed, step, learning.objective)
      if step % eval_steps == 0 or step == end:
        so_far = training._replace(states=states)
        metrics = jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *recent)
        when = counts(step, learning.evaluations) | dict(seconds=round(earlier + seconds, 3))
        bounds = [report(so_far, i, metrics, when, learning, pixels) for i in range(len(runs))]
        program.check_finite(bounds, step, learning.objective)
        save(step, states)
        recent = []
  timing = Timing(
    timing.compile_seconds + compile_seconds,
    timing.train_seconds + seconds,
    timing.num_steps + end - training.step,
  )
  return training._replace(states=states, step=end, timing=timing)


def report(
  training: Training,
  i: int,
  metrics: dict,
  when: dict,
  learning: learners.Learning,
  pixels: Pixels,
) -> float:
  """Evaluates a run, writes the row and prints it; returns the bound, if there is one."""
  run = training.runs[i]
  of_run = jax.tree.map(lambda leaf: leaf[i], metrics) if run.name else metrics
  params = state_of(training, i).params
  row = when | learning.evaluate(run.keys.evaluation, params, pixels, of_run)
  run.rows.append(row)
  run.write_row(row)
  width = max(len(run.name) for run in training.runs)
  tqdm.write(f"{run.name:{width}}{learning.describe(row)}")
  return row.get("test_bound", 0.0)


def counts(step: int, evaluations_per_example: int) -> dict:
  """How far training has come: the columns that every row begins with."""
  examples = step * FLAGS.batch_size
  return dict(step=step, examples_seen=examples, evaluations=examples * evaluations_per_example)
