"""Trains a variational auto-encoder by AEVB, evaluates it and draws what it learned.

  python -m experiments.train --workdir=runs/digits
  python -m experiments.train --dataset=mnist --latent_dim=20 --optimizer=adagrad \
      --step_size=0.02 --workdir=runs/mnist
  python -m experiments.train --seed=0,1,2 --step_size=0.01,0.02,0.1 --optimizer=adagrad \
      --workdir=runs/sweep
  python -m experiments.train --algorithm=mcem --binarization=static --workdir=runs/mcem

The third trains nine runs at once. The last is Monte Carlo EM, which has no encoder and so no
bound: its rows tell the log joint density and how HMC fares, and experiments.evaluate estimates
the likelihood afterwards.

Writes into --workdir: flags.txt, metrics.csv, TensorBoard events, summary.json, pictures, and the
state at the last evaluation, for experiments.evaluate; of a sweep, each member in a directory of
its own, as its single run would, and sweep.csv. Interrupted, the same command goes on from the
last evaluation.
"""

import contextlib
import functools
import math
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding
from tqdm import tqdm

from aevb_jax import checkpoint
from aevb_jax.data import ImageData
from aevb_jax.sharding import Shardings
from aevb_jax.sweep import init_sweep
from aevb_jax.types import Key, Model, PyTree
from experiments import (
  command,
  data_options,
  devices,
  learners,
  options,
  pictures,
  program,
  rundir,
  sweep_report,
  sweeps,
)
from experiments.command import UsageError
from experiments.data_options import Pixels
from experiments.sweeps import Member

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(learners)
flags.adopt_module_key_flags(devices)

flags.DEFINE_integer(
  "eval_every", 100_000, "Training samples between two rows of metrics.csv.", lower_bound=1
)
flags.DEFINE_integer(
  "select_step_size",
  0,
  "Of several step sizes, goes on with the one of the highest training bound after so many "
  "training samples, the paper's rule; 0 trains all to the end.",
  lower_bound=0,
)
flags.DEFINE_string(
  "workdir", None, "Directory for what this run writes. Default: runs/DATASET-TIME."
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


def main() -> None:
  started = time.perf_counter()
  commit = rundir.git_commit()  # of the code that runs, whatever becomes of it meanwhile
  learners.settle(sweep=True)
  members = sweeps.members()
  shardings = devices.share(len(members))
  images = options.load_images()
  model = options.make_model(images)
  with members[0].as_flags():
    learning = learners.LEARNERS[FLAGS.algorithm](model, images)
  if FLAGS.workdir is None:
    FLAGS.workdir = f"runs/{data_options.file_name()}-{time.strftime('%Y%m%d-%H%M%S')}"
  workdir = rundir.open_workdir(flags_of_run(), keep_unfinished=True)
  print(
    f"{data_options.describe_pixels()}: {len(images.train)} training and {len(images.test)} test "
    f"images, on {devices.describe(shardings)}"
  )
  pixels = data_options.make_pixels(images, shardings)
  with contextlib.ExitStack() as stack:
    step = checkpoint.latest_step(workdir / rundir.CHECKPOINTS) or 0
    runs = [open_run(stack, workdir, member, learning.columns, step) for member in members]
    save = stack.enter_context(checkpoint.saver(workdir / rundir.CHECKPOINTS))
    try:
      training = train(runs, step, learning, pixels, workdir, save)
    except (KeyboardInterrupt, FloatingPointError) as stop:
      what, status = (stop, 1) if isinstance(stop, FloatingPointError) else ("interrupted", 130)
      command.fail(f"{what}; the evaluations up to here are in {workdir}", status)
    except checkpoint.CheckpointError as error:
      raise UsageError("workdir", f"holds a run that cannot be gone on with: {error}") from error

  for i, run in enumerate(training.runs):
    if run.name:
      print(f"\n{run.name}")
    with run.member.as_flags():
      state = state_of(training, i)
      finish(run, state, training.timing, learning, model, images, pixels, started, commit)
  if runs[0].name:
    sweep_report.write(workdir, runs, training.runs)


def flags_of_run() -> list[flags.Flag]:
  """What flags.txt repeats: the flags of this main that the algorithm has a use for."""
  key_flags = FLAGS.get_key_flags_for_module(sys.modules[__name__])
  return [flag for flag in key_flags if flag.name not in learners.FOREIGN_FLAGS[FLAGS.algorithm]]


def open_run(
  stack: contextlib.ExitStack,
  workdir: pathlib.Path,
  member: Member,
  columns: tuple[str, ...],
  step: int,
) -> Run:
  """The run of a member, with the rows of its metrics up to the step it goes on from."""
  directory = workdir / member.name
  if member.name:
    directory.mkdir(exist_ok=True)
    with member.as_flags():
      rundir.write_text(directory / "flags.txt", rundir.flags_text(flags_of_run()))
  train_key, likelihood_key, picture_key = jax.random.split(jax.random.key(member.seed), 3)
  keys = Keys(*jax.random.split(train_key, 3), likelihood_key, picture_key)
  rows = rundir.read_metrics(directory, step)
  columns = ("step", "examples_seen", "evaluations", *columns, "seconds")
  write_row = stack.enter_context(rundir.metrics_writer(directory, columns, rows))
  return Run(member, member.name, directory, keys, rows, write_row)


def train(
  runs: list[Run],
  step: int,
  learning: learners.Learning,
  pixels: Pixels,
  workdir: pathlib.Path,
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
    runs = [runs[i] for i in sweeps.select(runs, select_step)]
  shardings = devices.share(len(runs))
  training = Training(runs, step, start(runs, learning, shardings), shardings, Timing())
  if step:
    examples = step * FLAGS.batch_size
    print(f"going on after {examples:,} training samples, where an earlier run was")
    states = checkpoint.restore(workdir / rundir.CHECKPOINTS, training.states, placement(training))
    training = training._replace(states=states)
  if select_step >= step and select_step:
    training = train_until(select_step, training, learning, pixels, save)
    training = take(training, sweeps.select(runs, select_step))
  return train_until(num_steps, training, learning, pixels, save)


def start(runs: list[Run], learning: learners.Learning, shardings: Shardings) -> PyTree:
  """The state of a run before its first step; of the members of a sweep, theirs together."""
  algorithm = learning.algorithm
  if not runs[0].name:
    return jax.jit(algorithm.init, out_shardings=shardings.replicated)(runs[0].keys.init)
  init = jax.jit(functools.partial(init_sweep, algorithm), out_shardings=shardings.members)
  step_sizes = np.asarray([run.member.step_size for run in runs])
  return init(jnp.stack([run.keys.init for run in runs]), step_sizes)


def placement(training: Training) -> NamedSharding:
  shardings = training.shardings
  return shardings.members if training.runs[0].name else shardings.replicated


def take(training: Training, chosen: list[int]) -> Training:
  """Goes on with some members of a sweep, spread over the devices anew."""
  shardings = devices.share(len(chosen))
  few = jax.jit(lambda states: jax.tree.map(lambda leaf: leaf[np.asarray(chosen)], states))
  return training._replace(
    runs=[training.runs[i] for i in chosen],
    states=jax.device_put(few(training.states), shardings.members),
    shardings=shardings,
  )


def state_of(training: Training, i: int) -> PyTree:
  """The state of one run, the same on all devices."""
  if not training.runs[0].name:
    return training.states
  one = lambda states: jax.tree.map(lambda leaf: leaf[i], states)
  return jax.jit(one, out_shardings=training.shardings.replicated)(training.states)


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
  samples = dict(total=end * FLAGS.batch_size, initial=step * FLAGS.batch_size)
  with (
    tqdm(**samples, unit=" samples", unit_scale=True, disable=None) as bar,
    program.feed(pixels, keys, chunks, step, shardings) as data,
  ):
    upcoming = next(data, None)
    for chunk in chunks:
      began = time.perf_counter()
      states, metrics = fit_chunk[chunk](states, keys, upcoming, static_key=pixels.static_key)
      upcoming = next(data, None)  # read while the devices train
      # The host waits here, once per chunk.
      climbed = np.atleast_1d(np.asarray(metrics[learning.objective]).mean(-1))
      seconds += time.perf_counter() - began
      step += chunk
      recent.append(metrics)
      bar.set_postfix({learning.objective: f"{np.nanmax(climbed):.2f}"}, refresh=False)
      bar.update(chunk * FLAGS.batch_size)
      check_finite(climbed, step, learning.objective)
      if step % eval_steps == 0 or step == end:
        so_far = training._replace(states=states)
        metrics = jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *recent)
        when = counts(step, learning.evaluations) | dict(seconds=round(earlier + seconds, 3))
        bounds = [report(so_far, i, metrics, when, learning, pixels) for i in range(len(runs))]
        check_finite(bounds, step, learning.objective)
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


def check_finite(values: Sequence[float], step: int, name: str = "bound") -> None:
  """Of a sweep, one member that goes on is enough."""
  if not np.any(np.isfinite(values)):
    raise FloatingPointError(
      f"the {name} became {values[0]} by step {step}; a smaller --step_size may help"
    )


def finish(
  run: Run,
  state: PyTree,
  timing: Timing,
  learning: learners.Learning,
  model: Model,
  images: ImageData,
  pixels: Pixels,
  started: float,
  commit: str | None,
) -> None:
  """Judges and draws what was learned; of a member of a sweep, saves it where its numbers are."""
  if run.name:
    with checkpoint.saver(run.directory / rundir.CHECKPOINTS) as save:
      save(run.rows[-1]["step"], state)
  params = jax.tree.map(np.asarray, state.params)
  pictures.draw_pictures(run.directory, run.keys.picture, model, params, images, pixels, run.rows)
  results, lines = learning.judge(run.keys.likelihood, state.params, pixels, run.rows[-1])
  speed = dict(
    steps_per_second=timing.num_steps / timing.train_seconds if timing.num_steps else None,
    compile_seconds=timing.compile_seconds,
    wall_seconds=time.perf_counter() - started,
  )
  summarize(run, images, results, speed, commit)
  print("\n".join(lines))


def summarize(run: Run, images: ImageData, results: dict, speed: dict, commit: str | None) -> None:
  """Writes summary.json, last of all, and prints what there is to look at."""
  note = options.density_note()
  row = run.rows[-1]
  summary = dict(
    **results,
    note=note,
    algorithm=FLAGS.algorithm,
    **data_options.describe(images),
    examples_seen=row["examples_seen"],
    evaluations=row["evaluations"],
    **speed,
    device=jax.devices()[0].device_kind,
    jax_version=jax.__version__,
    git_commit=commit,
    seed=FLAGS.seed,
    step_size=FLAGS.step_size,
  )
  rundir.write_summary(run.directory / "summary.json", summary)
  if note:
    print(f"note                 {note}; do not compare with others")
  names = " ".join(sorted(path.name for path in run.directory.glob("*.png")))
  print(f"pictures             {run.directory.resolve()}: {names}")


if __name__ == "__main__":
  command.run(main)
