"""The runs of a command, how far they have come, and what they go on from."""

import functools
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding

from aevb_jax.training.sharding import Shardings, constrain
from aevb_jax.training.sweep import init_sweep
from aevb_jax.types import Array, Key, PyTree
from experiments.flags import sweeps
from experiments.flags.sweeps import Member
from experiments.launch import devices
from experiments.runs import resume, saving
from experiments.runs.learning import Learning
from experiments.runs.saving import Saved

FLAGS = flags.FLAGS


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
  faults: dict  # steps "skipped", the last of them "in_a_row", and why it "stopped" alone, or None
  write_row: Callable[[dict], None]


class Timing(NamedTuple):
  compile_seconds: float = 0.0
  train_seconds: float = 0.0  # without compilation and evaluation
  num_steps: int = 0


class Training(NamedTuple):
  """How far the runs have come."""

  everyone: list[Run]
  runs: list[Run]  # those that go on
  step: int
  saved: Saved  # their states, and their best parameters
  sums: dict[str, np.ndarray]  # (S,) of every metric since the last row, and "num_steps" made
  seconds: float  # of training, by all processes that the run has had
  shardings: Shardings
  timing: Timing = Timing()  # of this process

  @property
  def sweep(self) -> bool:
    return bool(self.runs[0].name)

  @property
  def placement(self) -> NamedSharding:
    return self.shardings.members if self.sweep else self.shardings.replicated

  @property
  def keys(self) -> Key:
    return jnp.stack([run.keys.fit for run in self.runs]) if self.sweep else self.runs[0].keys.fit

  def spent(
    self, *, compile_seconds: float = 0.0, train_seconds: float = 0.0, num_steps: int = 0
  ) -> "Training":
    """With more time spent on it."""
    more = compile_seconds, train_seconds, num_steps
    timing = Timing(*(a + b for a, b in zip(self.timing, more)))
    return self._replace(timing=timing, seconds=self.seconds + train_seconds)


def new_run(workdir: pathlib.Path, member: Member) -> Run:
  train_key, likelihood_key, picture_key = jax.random.split(jax.random.key(member.seed), 3)
  keys = Keys(*jax.random.split(train_key, 3), likelihood_key, picture_key)
  faults = dict(skipped=0, in_a_row=0, stopped=None)
  return Run(member, member.name, workdir / member.name, keys, [], faults, lambda row: None)


def begin(runs: list[Run], learning: Learning, checkpoints: pathlib.Path) -> Training:
  """The runs at their newest checkpoint, or before their first step.

  Raises:
    UsageError: if there is a checkpoint and it is not of these runs.
  """
  select_step = math.ceil(FLAGS.select_step_size / FLAGS.batch_size)

  def init(keys: Key, step_sizes: np.ndarray) -> Saved:
    if not runs[0].name:
      return saving.start(learning.algorithm.init(keys[0]), learning)
    return saving.start(init_sweep(learning.algorithm, keys, step_sizes), learning)

  def numbers(runs: list[Run]) -> tuple[Key, np.ndarray]:
    # By their words: JAX takes the stack of keys for a use of them, and shapes and values both ask.
    keys = jax.random.wrap_key_data(jnp.stack([jax.random.key_data(run.keys.init) for run in runs]))
    return keys, np.asarray([run.member.step_size for run in runs])

  def at(step: int, record: dict) -> Training:
    """With shapes for arrays."""
    everyone = [run._replace(**record["runs"].get(run.name, {})) for run in runs]
    going_on = everyone
    if step > select_step > 0:
      going_on = [everyone[i] for i in sweeps.select(everyone, select_step)]
    sums = {name: np.asarray(values) for name, values in record["sums"].items()}
    shardings = devices.share(len(going_on))
    shapes = jax.eval_shape(init, *numbers(going_on))
    return Training(everyone, going_on, step, shapes, sums, record["seconds"], shardings)

  if found := resume.newest(checkpoints, at):
    return found
  training = at(0, dict(runs={}, sums={}, seconds=0.0))
  saved = jax.jit(init, out_shardings=training.placement)(*numbers(runs))
  return training._replace(saved=saved)


def take(training: Training, chosen: list[int]) -> Training:
  """Goes on with some members of a sweep, spread over the devices anew."""
  shardings = devices.share(len(chosen))
  index = np.asarray(chosen)
  few = jax.jit(
    lambda saved: jax.tree.map(lambda leaf: leaf[index], saved), out_shardings=shardings.members
  )
  return training._replace(
    runs=[training.runs[i] for i in chosen],
    saved=few(training.saved),
    sums={name: values[index] for name, values in training.sums.items()},
    shardings=shardings,
  )


def saved_of(training: Training, i: int) -> Saved:
  """The arrays of one run, the same on all devices."""
  if not training.sweep:
    return training.saved
  return _member(training.saved, i, training.shardings.replicated)


@functools.partial(jax.jit, static_argnames="sharding")
def _member(saved: PyTree, i: Array, sharding: NamedSharding) -> PyTree:
  return constrain(jax.tree.map(lambda leaf: leaf[i], saved), sharding)


def alone(training: Training, i: int) -> Training:
  """A member of a sweep, as its single run; one that stopped is where it did."""
  run, saved, step = training.runs[i]._replace(name=""), saved_of(training, i), training.step
  if run.faults["stopped"]:
    step = int(saved.states.step)
    rows = [row for row in run.rows if row["step"] <= step]
    run = run._replace(rows=rows, faults=run.faults | {"stopped": None})
  return training._replace(everyone=[run], runs=[run], step=step, saved=saved, sums={})
