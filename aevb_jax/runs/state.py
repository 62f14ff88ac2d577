"""The runs of a command: how far they have trained, and the parts that they train with.

A checkpoint has the arrays (the training states, and the parameters of the best validation bound so
far) and a record: all rows, the sums for the next row, the faults. The position in the data is the
step, because a minibatch is a function of the step and the key.
"""

import functools
import operator
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from aevb_jax.runs.config import leaves
from aevb_jax.runs.learning import Learning
from aevb_jax.runs.resume import Origin, Saved, newest, start
from aevb_jax.training.program import Pixels
from aevb_jax.training.sharding import Shardings, constrain
from aevb_jax.training.sweep import init_sweep
from aevb_jax.types import Array, Key, PyTree


class Faults(NamedTuple):
  """The steps of a run whose numbers were not finite."""

  skipped: int = 0  # steps left out
  in_a_row: int = 0  # steps left out in a row, up to the last step
  stopped: str | None = None  # why the run stopped; None if it did not


class Keys(NamedTuple):
  """The keys that a run draws from, all derived from its seed."""

  init: Key
  fit: Key
  evaluation: Key
  likelihood: Key | None = None
  picture: Key | None = None


class Run(NamedTuple):
  """A member of a sweep, or the only run."""

  config: Any
  name: str  # empty for the only run
  directory: pathlib.Path
  keys: Keys | None  # None where nothing is drawn any more
  rows: tuple[dict, ...] = ()
  faults: Faults = Faults()


class Timing(NamedTuple):
  """The time that this process has spent."""

  compile_seconds: float = 0.0
  train_seconds: float = 0.0  # without compilation and evaluation
  num_steps: int = 0


class Training(NamedTuple):
  """The runs of a command, and how far they have trained."""

  everyone: tuple[Run, ...]
  active: tuple[int, ...]  # the places in `everyone` of the runs that train
  step: int
  saved: Saved  # the states and the best parameters of the runs that train
  sums: dict[str, np.ndarray]  # (S,) each: of the metrics since the last row, and "num_steps" made
  seconds: float  # seconds of training, over all processes that the run has had
  shardings: Shardings | None  # None if nothing is trained any more
  timing: Timing = Timing()  # the times of this process

  @property
  def runs(self) -> list[Run]:
    """The runs that train."""
    return [self.everyone[i] for i in self.active]

  @property
  def sweep(self) -> bool:
    """True if arrays have a leading axis of members."""
    return bool(self.everyone[0].name)

  @property
  def placement(self) -> NamedSharding:
    """The sharding of the arrays of the runs."""
    return self.shardings.members if self.sweep else self.shardings.replicated

  @property
  def keys(self) -> Key:
    """The keys of the order of the data, (S,) for a sweep."""
    keys = [run.keys.fit for run in self.runs]
    return stacked(keys) if self.sweep else jax.random.clone(keys[0])

  def with_runs(self, runs: Sequence[Run]) -> "Training":
    """Returns the same training with other rows and faults of the runs that train."""
    everyone = list(self.everyone)
    for i, run in zip(self.active, runs, strict=True):
      everyone[i] = run
    return self._replace(everyone=tuple(everyone))

  def spent(
    self, *, compile_seconds: float = 0.0, train_seconds: float = 0.0, num_steps: int = 0
  ) -> "Training":
    """Returns the same training with more time added."""
    more = compile_seconds, train_seconds, num_steps
    timing = Timing(*map(operator.add, self.timing, more))
    return self._replace(timing=timing, seconds=self.seconds + train_seconds)


class Plan(NamedTuple):
  """The steps at which training is evaluated, and the chunks between them."""

  batch_size: int  # M
  # (step, end) -> whether rows are due after a step of training that ends at step `end`
  is_due: Callable[[int, int], bool]
  # (start, end, most steps of a chunk) -> the lengths of the chunks, which end where rows are due
  chunks: Callable[[int, int, int], list[int]]


class Loop(NamedTuple):
  """The parts of training, and the functions that it calls."""

  learning: Learning
  pixels: Pixels
  plan: Plan
  save: Callable[[Training], None]  # writes a checkpoint
  write_rows: Callable[[Run, list[dict]], None] = lambda run, rows: None
  keep: Callable[[Training], None] = lambda training: None  # called after every evaluation
  asked_to_stop: Callable[[], int] = lambda: 0  # returns the number of the signal, or 0
  checkpoint_every: float = 60.0  # seconds
  on_nonfinite: str = "stop"  # or skip
  selecting: bool = False  # whether step sizes are being tried, some of which may diverge


def stacked(keys: Sequence[Key]) -> Key:
  """Stacks keys; JAX counts the result as keys that have not been used.

  A run uses its keys more than once on purpose: shapes are made from the same keys as values, and
  every chunk of training folds its steps into the same key.
  """
  return jax.random.wrap_key_data(jnp.stack([jax.random.key_data(key) for key in keys]))


def begin(
  runs: Sequence[Run],
  learning: Learning,
  checkpoints: pathlib.Path,
  share: Callable[[int], Shardings],
  *,
  origin: Origin,
  batch_size: int,
  select_step: int = 0,
) -> Training:
  """Returns the runs at their newest checkpoint, or before their first step.

  Args:
    runs: the members of a sweep, or one run without a name.
    learning: their algorithm and evaluations.
    checkpoints: the directory of their checkpoints.
    share: number of runs -> the devices that they share.
    origin: the origin of the runs, which their checkpoints must match.
    batch_size: M, for the message that names the training samples where they resume.
    select_step: the step after which only members of the best step size train; 0 for all.

  Raises:
    ConfigError: if there is a checkpoint of other runs.
  """

  def init(keys: Key, step_sizes: np.ndarray) -> Saved:
    if not runs[0].name:
      return start(learning.algorithm.init(keys[0]), learning.columns)
    return start(init_sweep(learning.algorithm, keys, step_sizes), learning.columns)

  def arguments(runs: Sequence[Run]) -> tuple[Key, np.ndarray]:
    keys = stacked([run.keys.init for run in runs])
    return keys, np.asarray([leaves(run.config).get("step_size", 0.0) for run in runs])

  def at(step: int, record: dict) -> Training:
    """Returns the runs of a record, with shapes for arrays."""
    everyone = tuple(_resumed(run, record["runs"].get(run.name, {})) for run in runs)
    active = tuple(range(len(everyone)))
    if step > select_step > 0:
      active = select(everyone, select_step, batch_size)
    sums = {name: np.asarray(values) for name, values in record["sums"].items()}
    shapes = jax.eval_shape(init, *arguments([everyone[i] for i in active]))
    seconds, shardings = record["seconds"], share(len(active))
    return Training(everyone, active, step, shapes, sums, seconds, shardings)

  if found := newest(checkpoints, at, batch_size, origin):
    return found
  training = at(0, dict(runs={}, sums={}, seconds=0.0))
  saved = jax.jit(init, out_shardings=training.placement)(*arguments(runs))
  return training._replace(saved=saved)


def _resumed(run: Run, record: dict) -> Run:
  if not record:
    return run
  return run._replace(rows=tuple(record["rows"]), faults=Faults(**record["faults"]))


def record(training: Training, batch_size: int) -> dict:
  """Returns the entries of a checkpoint's record, as JSON holds them."""
  return dict(
    step=training.step,
    examples_seen=training.step * batch_size,
    seconds=training.seconds,
    sums={name: values.tolist() for name, values in training.sums.items()},
    runs={r.name: dict(rows=r.rows, faults=r.faults._asdict()) for r in training.everyone},
  )


def select(runs: Sequence[Run], step: int, batch_size: int) -> tuple[int, ...]:
  """Chooses the runs of the step size with the highest training bound, averaged over seeds.

  A bound that is not finite counts as −∞, because the paper's rule has to work even if a step size
  of 0.1 diverges.

  Raises:
    FloatingPointError: if every step size has such a bound.
  """
  bounds: dict[float, list[float]] = {}
  for run in runs:
    (bound,) = [row["train_bound"] for row in run.rows if row["step"] == step]
    bounds.setdefault(run.config.optimizer.step_size, []).append(bound)
  means = {
    s: np.mean(values) if np.all(np.isfinite(values)) else -np.inf for s, values in bounds.items()
  }
  best = max(means, key=lambda s: means[s])
  if means[best] == -np.inf:
    raise FloatingPointError(f"no step size has finite training bounds at step {step}")
  tried = ", ".join(f"{step_size:g}: {mean:.2f}" for step_size, mean in means.items())
  print(f"step size {best:g}, by the training bound after {step * batch_size:,} samples ({tried})")
  return tuple(i for i, run in enumerate(runs) if run.config.optimizer.step_size == best)


def take(training: Training, chosen: Sequence[int], share: Callable) -> Training:
  """Continues with only some members of a sweep, and spreads them over the devices again."""
  shardings, index = share(len(chosen)), np.asarray(chosen)
  few = jax.jit(
    lambda saved: jax.tree.map(lambda leaf: leaf[index], saved), out_shardings=shardings.members
  )
  return training._replace(
    active=tuple(training.active[i] for i in chosen),
    saved=few(training.saved),
    sums={name: values[index] for name, values in training.sums.items()},
    shardings=shardings,
  )


def saved_of(training: Training, i: int) -> Saved:
  """Returns the arrays of the i-th run that trains, the same on all devices."""
  if not training.sweep:
    return training.saved
  return _member(training.saved, i, training.shardings.replicated)


@functools.partial(jax.jit, static_argnames="sharding")
def _member(saved: PyTree, i: Array, sharding: NamedSharding) -> PyTree:
  return constrain(jax.tree.map(lambda leaf: leaf[i], saved), sharding)


def single(training: Training, i: int) -> Training:
  """Returns the i-th run that trains as a single run, at the step where it stopped, if it did."""
  run, saved, step = training.runs[i]._replace(name=""), saved_of(training, i), training.step
  if run.faults.stopped:
    step = int(saved.states.step)
    rows = tuple(row for row in run.rows if row["step"] <= step)
    run = run._replace(rows=rows, faults=run.faults._replace(stopped=None))
  return training._replace(everyone=(run,), active=(0,), step=step, saved=saved, sums={})
