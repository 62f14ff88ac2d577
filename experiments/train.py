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
last evaluation, if it names its --workdir.
"""

import contextlib
import functools
import pathlib
import sys
import time

import jax
import numpy as np
from absl import flags

from aevb_jax import checkpoint
from aevb_jax.data import ImageData
from aevb_jax.types import Model, PyTree
from experiments import (
  cluster,
  command,
  data_options,
  devices,
  learners,
  model_options,
  options,
  pictures,
  rundir,
  sweep_report,
  sweeps,
  training,
)
from experiments.command import UsageError
from experiments.data_options import Pixels
from experiments.sweeps import Member
from experiments.training import Keys, Run, Timing

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(learners)
flags.adopt_module_key_flags(devices)
flags.adopt_module_key_flags(cluster)
flags.adopt_module_key_flags(training)

flags.DEFINE_string(
  "workdir", None, "Directory for what this run writes. Default: runs/DATASET-TIME."
)


def main() -> None:
  learners.settle(sweep=True)
  members = sweeps.members()
  cluster.run(functools.partial(train_members, members))


def train_members(members: list[Member]) -> None:
  """The main job, in each of the processes that share it; the first alone writes and prints."""
  started = time.perf_counter()
  commit = rundir.git_commit()  # of the code that runs, whatever becomes of it meanwhile
  shardings = devices.share(len(members))
  if FLAGS.select_step_size:
    devices.share(len(sweeps.values_of(FLAGS.seed)))  # refuses now what it would later
  images = options.load_images()
  model = model_options.make_model(images)
  with members[0].as_flags():
    learning = learners.LEARNERS[FLAGS.algorithm](model, images)
  workdir = open_workdir()
  print(
    f"{data_options.describe_pixels()}: {len(images.train)} training and {len(images.test)} test "
    f"images, on {devices.describe(shardings)}"
  )
  pixels = data_options.make_pixels(images, shardings)
  devices.check_streamed(pixels.streamed, len(members))
  checkpoints = workdir / rundir.CHECKPOINTS
  step = int(cluster.of_first(np.asarray(checkpoint.latest_step(checkpoints) or 0)))
  with contextlib.ExitStack() as stack:
    runs = [open_run(stack, workdir, member, learning.columns, step) for member in members]
    save = stack.enter_context(checkpoint.saver(checkpoints))
    try:
      trained = training.train(runs, step, learning, pixels, checkpoints, save)
    except (KeyboardInterrupt, FloatingPointError) as stop:
      what, status = (stop, 1) if isinstance(stop, FloatingPointError) else ("interrupted", 130)
      command.fail(f"{what}; the evaluations up to here are in {workdir}", status)
    except checkpoint.CheckpointError as error:
      raise UsageError("workdir", f"holds a run that cannot be gone on with: {error}") from error

  for i, run in enumerate(trained.runs):
    if run.name:
      print(f"\n{run.name}")
    with run.member.as_flags():
      FLAGS.workdir = str(run.directory)
      state = training.state_of(trained, i)
      finish(run, state, trained.timing, learning, model, images, pixels, started, commit)
  if runs[0].name and cluster.is_first():
    sweep_report.write(workdir, runs, trained.runs)


def open_workdir() -> pathlib.Path:
  """The directory of the run, which the first process makes, or refuses to make."""
  if FLAGS.workdir is None:
    if jax.process_count() > 1:
      raise UsageError("workdir", "names a directory that all processes see")
    FLAGS.workdir = f"runs/{data_options.file_name()}-{time.strftime('%Y%m%d-%H%M%S')}"
  if cluster.is_first():
    rundir.open_workdir(flags_of_run(), keep_unfinished=True)
  cluster.wait_for_all("workdir")
  workdir = pathlib.Path(FLAGS.workdir).expanduser()
  if not (workdir / "flags.txt").exists():
    raise UsageError("workdir", "is not the same directory to all processes")
  return workdir


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
  if member.name and cluster.is_first():
    directory.mkdir(exist_ok=True)
    with member.as_flags():
      rundir.write_text(directory / "flags.txt", rundir.flags_text(flags_of_run()))
  train_key, likelihood_key, picture_key = jax.random.split(jax.random.key(member.seed), 3)
  keys = Keys(*jax.random.split(train_key, 3), likelihood_key, picture_key)
  rows = rundir.read_metrics(directory, step)
  columns = ("step", "examples_seen", "evaluations", *columns, "seconds")
  if cluster.is_first():
    write_row = stack.enter_context(rundir.metrics_writer(directory, columns, rows))
  else:
    write_row = lambda row: None
  return Run(member, member.name, directory, keys, rows, write_row)


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
  results, lines = learning.judge(run.keys.likelihood, state.params, pixels, run.rows[-1])
  if not cluster.is_first():
    return
  params = jax.tree.map(np.asarray, state.params)
  pictures.draw_pictures(run.directory, run.keys.picture, model, params, images, pixels, run.rows)
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
