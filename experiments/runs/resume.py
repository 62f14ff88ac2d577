"""Mains that go on where they were interrupted: from what, and what they say when they stop."""

import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from aevb_jax import errors
from aevb_jax.training import checkpoint
from aevb_jax.types import Algorithm, Key, TrainState
from experiments.launch import cluster, command, stopping
from experiments.launch.command import UsageError
from experiments.launch.stopping import Stopped
from experiments.runs import directory as rundir

FLAGS = flags.FLAGS

CHECKPOINT_EVERY = 10.0  # seconds

flags.DEFINE_boolean(
  "resume",
  True,
  "Goes on with the same run where --workdir holds it; --noresume sets that one aside.",
)
flags.DEFINE_boolean(
  "overwrite",
  False,
  "Where --workdir holds a run with other flags, sets it aside as WORKDIR.1 and starts.",
)


def open_workdir(key_flags: Sequence[flags.Flag], name: str) -> pathlib.Path | None:
  """Makes --workdir, by default runs/NAME-TIME; None, which is told, if its run is finished.

  Raises:
    UsageError: as `rundir.open_run`.
  """
  if FLAGS.workdir is None:
    FLAGS.workdir = f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"
  opened = rundir.open_run(key_flags, resume=FLAGS.resume, overwrite=FLAGS.overwrite)
  if opened.finished:
    tell_finished(opened.path)
    return None
  return opened.path


def tell_finished(workdir: pathlib.Path) -> None:
  print(f"finished before: {workdir / 'summary.json'} (--noresume starts anew)")


@contextlib.contextmanager
def telling_what_is_safe(
  workdir: pathlib.Path, remedy: str = "a smaller --step_size may help"
) -> Iterator[None]:
  """Ends the program with a line where training, or what follows it, does not come to its end.

  Args:
    workdir: has checkpoints by training step, of --batch_size samples each.
    remedy: what may help against numbers that are not finite.
  """

  def safe() -> str:
    steps = checkpoint.steps(workdir / rundir.CHECKPOINTS)
    if not steps:
      return f"nothing is saved in {workdir} yet"
    saved = f"the state after {steps[-1] * FLAGS.batch_size:,} training samples is in {workdir}"
    named = "" if FLAGS["workdir"].present else f" with --workdir={workdir}"
    return f"{saved}/{rundir.CHECKPOINTS}/{steps[-1]}; the same command{named} goes on from there"

  try:
    yield
  except Stopped as stop:
    command.fail(f"stopped by {stop}; {safe()}", stop.status)
  except KeyboardInterrupt:
    command.fail(f"interrupted; {safe()}", 130)
  except command.Terminated:
    command.fail(f"terminated; {safe()}", 143)
  except FloatingPointError as stop:
    command.fail(f"{stop}; {safe()}; {remedy}", 1)
  except (OSError, errors.SaveError) as error:
    if cluster.is_lost(error):  # where all of them save
      raise
    command.fail(f"{rundir.describe_error(error)}; {safe()}", os.EX_IOERR)


class Progress(NamedTuple):
  """How far a main has come that trains one model on one device."""

  saved: TrainState
  rows: list[dict]  # of its table
  seconds: float  # of all its processes
  placement = None

  def position(self) -> tuple[int, int]:
    """By which one tells whether there is anything new."""
    return int(self.saved.step), len(self.rows)


@contextlib.contextmanager
def going_on(
  workdir: pathlib.Path, algorithm: Algorithm, key: Key, started: float
) -> Iterator[tuple[Progress, Callable[..., Progress]]]:
  """Where the run in `workdir` is, and a function to call whenever the host looks.

  The function (progress, save=False) keeps the time. It saves where there is something new,
  every CHECKPOINT_EVERY seconds or if told to; where a signal asks for it, it saves and stops.

  Args:
    workdir: has the checkpoints.
    algorithm: whose state is saved.
    key: of its first state.
    started: when this process was, on `time.perf_counter`.

  Raises:
    UsageError: if there is a checkpoint of something else.
  """

  def at(step: int, record: dict) -> Progress:
    return Progress(jax.eval_shape(algorithm.init, key), **record)

  checkpoints = workdir / rundir.CHECKPOINTS
  with telling_what_is_safe(workdir), stopping.heard() as asked_to_stop:
    progress = newest(checkpoints, at) or Progress(algorithm.init(key), [], 0.0)
    began = started - progress.seconds
    last, saved_at = progress.position(), time.monotonic()
    with checkpoint.saver(checkpoints) as save_arrays:

      def look(now: Progress, *, save: bool = False) -> Progress:
        nonlocal last, saved_at
        now = now._replace(seconds=time.perf_counter() - began)
        number = asked_to_stop()
        due = save or number or time.monotonic() > saved_at + CHECKPOINT_EVERY
        if due and now.position() != last:
          save_arrays(int(now.saved.step), now.saved, dict(rows=now.rows, seconds=now.seconds))
          last, saved_at = now.position(), time.monotonic()
        if number:
          raise Stopped(number)
        return now

      yield progress, look


def newest(directory: pathlib.Path, at: Callable[[int, dict], Any]) -> Any | None:
  """What there is to go on from, which is told: the last checkpoint that is not damaged.

  One that is is named and set aside.

  Args:
    directory: of the checkpoints.
    at: (step, record) -> a NamedTuple, whose `saved` has shapes for arrays and whose
      `placement` is their sharding, such as a `Training`.

  Returns:
    It, with arrays; None if there is no checkpoint.

  Raises:
    UsageError: if it is of something else.
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
      examples = step * FLAGS.batch_size
      print(f"going on after {examples:,} training samples, where an earlier run was")
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
  except errors.DamagedError as error:
    reason = str(error)
  except errors.CheckpointError as error:
    raise UsageError("workdir", f"holds a run that cannot be gone on with: {error}") from error
  (damaged,) = cluster.highest(reason is not None)
  return found, (reason or "to another process") if damaged else None
