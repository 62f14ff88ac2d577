"""The main job: trains a configuration in a directory, resumes there, and evaluates the result."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from aevb_jax import trackers
from aevb_jax.data.datasets import ImageData
from aevb_jax.errors import ConfigError, blaming
from aevb_jax.runs import build, directory, files, loop, pixels, report, state
from aevb_jax.runs.checks import resolve
from aevb_jax.runs.config import (
  Config,
  Machine,
  leaves,
  member_name,
  members,
  num_steps,
  values_of,
)
from aevb_jax.runs.learning import Learning, make_learning
from aevb_jax.runs.loop import Stopped
from aevb_jax.runs.resume import Origin, make_origin
from aevb_jax.runs.state import Keys, Loop, Plan, Run, Training
from aevb_jax.training import checkpoint
from aevb_jax.training.processes import highest, is_first
from aevb_jax.training.program import Pixels
from aevb_jax.training.sharding import (
  Shardings,
  devices_in_words,
  make_shardings,
  share_devices,
)
from aevb_jax.types import Model

CHECKPOINT_EVERY = 10.0  # seconds, for other programs, which train a single run
COUNTS = ("step", "examples_seen", "evaluations")  # the columns that every row begins with


class Job(NamedTuple):
  """A configuration, and everything that is made from it on this machine."""

  config: Config
  machine: Machine
  origin: Origin
  images: ImageData
  pixels: Pixels
  model: Model
  learning: Learning
  share: Callable[[int], Shardings]  # number of runs -> the devices that they share
  starts: tuple[trackers.Start, ...] = ()  # of the trackers


@contextlib.contextmanager
def _deaf() -> Iterator[Callable[[], int]]:
  yield lambda: 0


def make_job(config: Config, machine: Machine) -> Job:
  """Makes the data, the model and the algorithm of a configuration; writes nothing.

  Raises:
    ConfigError: if a field cannot be used.
  """
  config, starts = resolve(config), find_trackers(machine)
  single, batch_size = members(config)[0], config.optimizer.batch_size
  share = functools.partial(share_devices, batch_size=batch_size, num_devices=machine.num_devices)
  shardings = share(len(members(config)))
  if config.budget.select_step_size:
    share(len(values_of(config.seed)))  # so that an error comes now, not after the selection
  images = pixels.load_images(config, machine.array_cache_dir)
  model = build.make_model(config, images)
  learning = make_learning(single, model, images)
  data = pixels.make_pixels(images, config.data, shardings, condition=config.model.condition)
  if data.streamed and len(members(config)) > 1 and jax.process_count() > 1:
    message = (
      "must be large enough for the training set: a sweep in several processes does not stream"
    )
    raise ConfigError("max_resident_mb", config.data.max_resident_mb, message)
  origin = make_origin(config, build.own_sources(config), images.version)
  return Job(config, machine, origin, images, data, model, learning, share, starts)


def find_trackers(machine: Machine) -> tuple[trackers.Start, ...]:
  """Finds the trackers that a machine names.

  Raises:
    ConfigError: if one cannot be used.
  """
  with blaming("tracker", machine.tracker):
    return trackers.find(machine.tracker)


def run_job(
  config: Config,
  machine: Machine,
  *,
  hearing: Callable[[], contextlib.AbstractContextManager[Callable[[], int]]] = _deaf,
  guard: Callable[[pathlib.Path], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> None:
  """Trains a configuration, in each of the processes that share it; the first writes and prints.

  Args:
    config: the configuration of a run, or of a sweep.
    machine: the machine that executes it.
    hearing: a context around training, which yields a function that returns the number of a
      signal that asks to stop, or 0.
    guard: directory of the run -> a context around training and the final evaluation.

  Raises:
    ConfigError: if a field cannot be used, or the directory holds another run.
    FloatingPointError: if no run has finite numbers any more; the last finite state is saved.
    Stopped: if a signal asks to stop; the state is saved.
    OSError, SaveError: if something cannot be written.
  """
  started = time.perf_counter()
  job = make_job(config, machine)
  opened = open_workdir(job)
  if opened.finished:
    print(f"finished before: {opened.path / directory.SUMMARY} (--noresume starts over)")
    return
  shardings = job.share(len(members(job.config)))
  print(
    f"{pixels.pixels_in_words(job.config.data)}: {len(job.images.train)} training and "
    f"{len(job.images.test)} test images, on {devices_in_words(shardings)}"
  )
  number, all_devices = len(shardings.replicated.device_set), len(jax.devices())
  if number < all_devices and machine.num_devices is None:
    batch_size = job.config.optimizer.batch_size
    which = f"as many as share a minibatch of {batch_size} evenly"
    print(f"{number} of {all_devices} devices train: {which}")
  starts = job.starts if is_first() else ()
  with guard(opened.path), trackers.tracking(starts) as tracking:
    training = train_members(job, opened.path, hearing, tracking)
    for i, run in enumerate(training.runs):
      if not run.faults.stopped:
        finish(job, training, i, started)
        if is_first():
          tracking.finish(run.directory, files.read_json(run.directory / directory.SUMMARY))
    if training.sweep and is_first():
      finished = {run.name for run in training.runs if not run.faults.stopped}
      report.write_sweep(opened.path, job.config, training.everyone, finished)


def open_workdir(job: Job) -> directory.RunDirectory:
  """Opens the directory of the run; the first process makes it, or refuses to."""
  machine, finished = job.machine, False
  if is_first():
    how: dict[str, Any] = dict(resume=machine.resume, overwrite=machine.overwrite)
    finished = directory.open_run(machine.workdir, [job.config], **how).finished
  (finished,) = highest(finished)
  if not (machine.workdir / directory.FLAG_FILE).exists():
    raise ConfigError("workdir", machine.workdir, "is not the same directory to all processes")
  return directory.RunDirectory(machine.workdir, bool(finished))


def new_run(workdir: pathlib.Path, sweep: Config, member: Config) -> Run:
  """Returns a member of a sweep, or the only run, before it is trained."""
  train_key, likelihood_key, picture_key = jax.random.split(jax.random.key(member.seed), 3)
  keys = Keys(*jax.random.split(train_key, 3), likelihood_key, picture_key)  # type: ignore[call-arg]
  name = member_name(sweep, member)
  return Run(member, name, workdir / name, keys)


def train_members(
  job: Job,
  workdir: pathlib.Path,
  hearing: Callable = _deaf,
  tracking: trackers.Tracking | None = None,
) -> Training:
  """Trains all members from their last checkpoint to the end, each into its directory.

  Raises:
    ConfigError: if the directory holds checkpoints of another run.
    FloatingPointError, Stopped, OSError, SaveError: as in `run_job`.
  """
  config, batch_size = job.config, job.config.optimizer.batch_size
  end, select_step = (
    num_steps(config, n) for n in (config.budget.num_examples, config.budget.select_step_size)
  )
  new = [new_run(workdir, config, member) for member in members(config)]
  checkpoints = workdir / directory.CHECKPOINTS
  steps: dict[str, Any] = dict(origin=job.origin, batch_size=batch_size, select_step=select_step)
  training = state.begin(new, job.learning, checkpoints, job.share, **steps)
  with contextlib.ExitStack() as stack:
    write_rows = stack.enter_context(row_files(training, job.learning.columns))
    keep = stack.enter_context(kept_history(workdir, config.budget.keep_history))
    asked_to_stop = stack.enter_context(hearing())
    if tracking:  # a signal is heard while trackers start, which may take seconds
      write_rows = followed(write_rows, training, workdir, tracking)
    save = stack.enter_context(saver(checkpoints, job.origin, batch_size))
    budget = config.budget
    looped = Loop(
      job.learning,
      job.pixels,
      loop.evenly(batch_size, budget.eval_every, budget.evals_per_decade),
      save,
      write_rows,
      keep,
      asked_to_stop,
      job.machine.checkpoint_every,
      budget.on_nonfinite,
    )
    if select_step >= training.step and select_step:
      training = loop.train_until(select_step, training, looped._replace(selecting=True))
      chosen = state.select(training.runs, select_step, batch_size)
      training = state.take(training, chosen, job.share)
    training = loop.train_until(end, training, looped)
    for i, run in enumerate(training.runs if training.sweep else []):
      origin = job.origin._replace(config=run.config)
      with saver(run.directory / directory.CHECKPOINTS, origin, batch_size) as save_member:
        save_member(state.single(training, i))
  (number,) = highest(asked_to_stop())  # a signal may have come during the last save
  if number:
    raise Stopped(number)
  return training


def train_single(
  run: Run,
  learning: Learning,
  data: Pixels,
  plan: Plan,
  end: int,
  *,
  write_rows: Callable[[Run, list[dict]], None],
  asked_to_stop: Callable[[], int],
) -> Training:
  """Trains a single run of another program, on one device, from its last checkpoint to step `end`.

  Args:
    run: the run before its first step; its directory has the checkpoints.
    learning: its algorithm and evaluations.
    data: its data, on the device.
    plan: the steps at which it is evaluated.
    end: training steps in total.
    write_rows: writes the rows of an evaluation, given the run with the earlier rows.
    asked_to_stop: returns the number of a signal that asks to stop, or 0.

  Raises:
    ConfigError, FloatingPointError, Stopped, OSError, SaveError: as in `run_job`.
  """
  share = lambda num_runs: make_shardings(jax.devices()[:1])
  checkpoints, batch_size = run.directory / directory.CHECKPOINTS, plan.batch_size
  origin = make_origin(run.config)
  training = state.begin([run], learning, checkpoints, share, origin=origin, batch_size=batch_size)
  with saver(checkpoints, origin, batch_size) as save:
    looped = Loop(learning, data, plan, save, write_rows, asked_to_stop=asked_to_stop)
    looped = looped._replace(checkpoint_every=CHECKPOINT_EVERY)
    return loop.train_until(end, training, looped)


@contextlib.contextmanager
def saver(
  checkpoints: pathlib.Path, origin: Origin, batch_size: int
) -> Iterator[Callable[[Training], None]]:
  """Yields a function that saves a training together with its configuration and code."""
  about = origin.record()
  with checkpoint.saver(checkpoints) as save_arrays:

    def save(now: Training) -> None:
      directory.refuse_if_gone(checkpoints.parent)
      save_arrays(now.step, now.saved, about | state.record(now, batch_size))

    yield save


@contextlib.contextmanager
def kept_history(workdir: pathlib.Path, keep: bool) -> Iterator[Callable[[Training], None]]:
  """Yields a function that saves the parameters after each row permanently, if `keep` is True."""
  if not keep:
    yield lambda now: None
    return
  with checkpoint.saver(workdir / directory.HISTORY, num_kept=None) as save_params:
    yield lambda now: save_params(now.step, now.saved.states.params)


@contextlib.contextmanager
def row_files(training: Training, columns: tuple[str, ...]) -> Iterator[Callable]:
  """Yields a function that appends rows to the metrics.csv of a run, after the rows so far.

  The directory of each member of a sweep is locked, and its configuration is written.
  """
  if not is_first():
    yield lambda run, rows: None
    return
  with contextlib.ExitStack() as stack:
    writers = {}
    for run in training.everyone:
      if run.name:
        directory.lock(run.directory)
        directory.write_config(run.directory, [run.config])
      writer = files.metrics_writer(run.directory, (*COUNTS, *columns, "seconds"), run.rows)
      writers[run.name] = stack.enter_context(writer)

    def write_rows(run: Run, rows: list[dict]) -> None:
      directory.refuse_if_gone(run.directory)
      for row in rows:
        writers[run.name](row)

    yield write_rows


def followed(
  write_rows: Callable, training: Training, workdir: pathlib.Path, tracking: trackers.Tracking
) -> Callable[[Run, list[dict]], None]:
  """Starts to track all runs, and returns a function that writes rows and tracks them."""
  for run in training.everyone:
    name = "/".join(filter(None, (workdir.resolve().name, run.name)))
    tracking.begin(run.directory, name, leaves(run.config), run.rows)

  def write(run: Run, rows: list[dict]) -> None:
    write_rows(run, rows)
    tracking.log(run.directory, rows)

  return write


def finish(job: Job, training: Training, i: int, started: float) -> None:
  """Evaluates the i-th run at its end, draws its pictures, and writes its summary."""
  run, params = training.runs[i], state.saved_of(training, i).states.params
  if run.name:
    print(f"\n{run.name}")
  results, lines = job.learning.judge(run.keys.likelihood, params, job.pixels, run.rows[-1])  # type: ignore[misc]
  if not is_first():
    return
  params = jax.tree.map(np.asarray, params)
  report.draw_pictures(run, job.model, params, job.images, job.pixels)
  if run.config.objective.algorithm == "mcem":
    command = f"python -m experiments.evaluate --method=ais --workdir={run.directory}"
    lines.append(f"log-likelihood       {command}")
  seconds = time.perf_counter() - started
  if num_skipped := run.faults.skipped:
    lines.append(f"steps left out       {num_skipped}, whose bound or gradient was not finite")
  about = dict(wall_seconds=seconds) | files.provenance(job.origin.commit)
  summary = report.summarize(run, job.images, results, training.timing, about)
  print("\n".join(summary + lines))
