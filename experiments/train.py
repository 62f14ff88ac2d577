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

Writes into --workdir: flags.txt, metrics.csv, TensorBoard events, summary.json, pictures, and
checkpoints; of a sweep, each member in a directory of its own, as its single run would, and
sweep.csv. However it ended, the same command goes on from its last checkpoint and ends as if it
had not been interrupted, if it names its --workdir; experiments.status tells what there is.
"""

import contextlib
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import flags

from aevb_jax.data.datasets import ImageData
from aevb_jax.training import checkpoint
from aevb_jax.types import Model
from experiments.flags import data, models, sweeps
from experiments.flags import training as options
from experiments.flags.data import Pixels
from experiments.flags.sweeps import Member
from experiments.launch import cluster, command, devices, stopping
from experiments.launch.command import UsageError
from experiments.launch.stopping import Stopped
from experiments.runs import directory, loop, pictures, resume, saving, state, sweep_report
from experiments.runs import learning as learners
from experiments.runs.state import Run, Training

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(learners)
flags.adopt_module_key_flags(devices)
flags.adopt_module_key_flags(cluster)
flags.adopt_module_key_flags(loop)
flags.adopt_module_key_flags(resume)

flags.DEFINE_string(
  "workdir", None, "Directory for what this run writes. Default: runs/DATASET-TIME."
)
flags.DEFINE_boolean(
  "keep_history",
  False,
  "Keeps the parameters of every row in WORKDIR/history, for figures of what became of them.",
)


def main() -> None:
  learners.settle(sweep=True)
  members = sweeps.members()
  if FLAGS.keep_history and len(members) > 1:
    raise UsageError("keep_history", "is of single runs")
  cluster.run(functools.partial(train_members, members))


def train_members(members: list[Member]) -> None:
  """The main job, in each of the processes that share it; the first alone writes and prints."""
  started = time.perf_counter()
  commit = directory.git_commit()  # of the code that runs, whatever becomes of it meanwhile
  shardings = devices.share(len(members))
  if FLAGS.select_step_size:
    devices.share(len(sweeps.values_of(FLAGS.seed)))  # refuses now what it would later
  images = options.load_images()
  model = models.make_model(images)
  with members[0].as_flags():
    learning = learners.LEARNERS[FLAGS.algorithm](model, images)
  pixels = data.make_pixels(images, shardings)
  devices.check_streamed(pixels.streamed, len(members))
  workdir, finished = open_workdir()
  if finished:
    resume.tell_finished(workdir)
    return
  print(
    f"{data.describe_pixels()}: {len(images.train)} training and {len(images.test)} test "
    f"images, on {devices.describe(shardings)}"
  )
  skip = ", or --on_nonfinite=skip," * (FLAGS.on_nonfinite == "stop")
  with resume.telling_what_is_safe(workdir, f"a smaller --step_size{skip} may help"):
    training = train(workdir, members, learning, pixels, commit)
    for i, run in enumerate(training.runs):
      if run.faults["stopped"]:
        continue
      if run.name:
        print(f"\n{run.name}")
      with run.member.as_flags():
        FLAGS.workdir = str(run.directory)
        finish(run, training, i, learning, model, images, pixels, started, commit)
    if training.sweep and cluster.is_first():
      finished = [run for run in training.runs if not run.faults["stopped"]]
      sweep_report.write(workdir, training.everyone, finished)


def open_workdir() -> directory.RunDirectory:
  """The directory of the run, which the first process makes, or refuses to make."""
  if FLAGS.workdir is None:
    if jax.process_count() > 1:
      raise UsageError("workdir", "names a directory that all processes see")
    FLAGS.workdir = f"runs/{data.file_name()}-{time.strftime('%Y%m%d-%H%M%S')}"
  finished = False
  if cluster.is_first():
    opened = directory.open_run(flags_of_run(), resume=FLAGS.resume, overwrite=FLAGS.overwrite)
    finished = opened.finished
  (finished,) = cluster.highest(finished)
  workdir = pathlib.Path(FLAGS.workdir).expanduser()
  if not (workdir / "flags.txt").exists():
    raise UsageError("workdir", "is not the same directory to all processes")
  return directory.RunDirectory(workdir, bool(finished))


def flags_of_run() -> list[flags.Flag]:
  """What flags.txt repeats: the flags of this main that the algorithm has a use for."""
  key_flags = FLAGS.get_key_flags_for_module(sys.modules[__name__])
  return [flag for flag in key_flags if flag.name not in learners.FOREIGN_FLAGS[FLAGS.algorithm]]


def train(
  workdir: pathlib.Path,
  members: list[Member],
  learning: learners.Learning,
  pixels: Pixels,
  commit: str | None,
) -> Training:
  """Trains all members from where they are to the end, each into its directory.

  Raises:
    UsageError: if the directory holds checkpoints of something else.
    FloatingPointError, Stopped: as `training.train`.
    OSError, SaveError: if something cannot be written.
  """
  checkpoints = workdir / directory.CHECKPOINTS
  about = dict(flags=directory.flags_text(flags_of_run()), git_commit=commit)
  with contextlib.ExitStack() as stack:
    new = [state.new_run(workdir, member) for member in members]
    so_far = state.begin(new, learning, checkpoints)
    so_far = open_files(stack, so_far, learning.columns)
    asked_to_stop = stack.enter_context(stopping.heard())
    save_arrays = stack.enter_context(checkpoint.saver(checkpoints))

    def save(now: Training) -> None:
      save_arrays(now.step, now.saved, about | saving.record(now))

    keep = stack.enter_context(kept_history(workdir))
    trained = loop.train(so_far, learning, pixels, save, asked_to_stop, keep)
    for i, run in enumerate(trained.runs if trained.sweep else []):
      with checkpoint.saver(run.directory / directory.CHECKPOINTS) as save_member:
        alone = state.alone(trained, i)
        with run.member.as_flags():
          about |= dict(flags=directory.flags_text(flags_of_run()))
        save_member(alone.step, alone.saved, about | saving.record(alone))
  (number,) = cluster.highest(asked_to_stop())  # while the last was written
  if number:
    raise Stopped(number)
  return trained


@contextlib.contextmanager
def kept_history(workdir: pathlib.Path) -> Iterator[Callable[[Training], None]]:
  """A function that keeps the parameters after a row, for good, if --keep_history says so."""
  if not FLAGS.keep_history:
    yield lambda now: None
    return
  with checkpoint.saver(workdir / directory.HISTORY, num_kept=None) as save_params:
    yield lambda now: save_params(now.step, now.saved.states.params)


def open_files(stack: contextlib.ExitStack, so_far: Training, columns: tuple[str, ...]) -> Training:
  """With metrics.csv of every run open, which has the rows so far; and flags.txt of members."""
  columns = ("step", "examples_seen", "evaluations", *columns, "seconds")
  if not cluster.is_first():
    return so_far
  opened = {}
  for run in so_far.everyone:
    if run.name:
      directory.lock(run.directory)
      with run.member.as_flags():
        directory.write_text(run.directory / "flags.txt", directory.flags_text(flags_of_run()))
    writer = directory.metrics_writer(run.directory, columns, run.rows)
    opened[run.name] = run._replace(write_row=stack.enter_context(writer))
  return so_far._replace(
    everyone=[opened[run.name] for run in so_far.everyone],
    runs=[opened[run.name] for run in so_far.runs],
  )


def finish(
  run: Run,
  training: Training,
  i: int,
  learning: learners.Learning,
  model: Model,
  images: ImageData,
  pixels: Pixels,
  started: float,
  commit: str | None,
) -> None:
  """Judges and draws what a run has learned."""
  params, timing = state.saved_of(training, i).states.params, training.timing
  results, lines = learning.judge(run.keys.likelihood, params, pixels, run.rows[-1])
  if not cluster.is_first():
    return
  params = jax.tree.map(np.asarray, params)
  pictures.draw_pictures(run.directory, run.keys.picture, model, params, images, pixels, run.rows)
  speed = dict(
    steps_per_second=timing.num_steps / timing.train_seconds if timing.num_steps else None,
    compile_seconds=timing.compile_seconds,
    wall_seconds=time.perf_counter() - started,
  )
  summarize(run, images, results, speed, commit)
  if num_skipped := run.faults["skipped"]:
    lines.append(f"steps left out       {num_skipped}, whose bound or gradient was not finite")
  print("\n".join(lines))


def summarize(run: Run, images: ImageData, results: dict, speed: dict, commit: str | None) -> None:
  """Writes summary.json, last of all, and prints what there is to look at."""
  note = options.density_note()
  row = run.rows[-1]
  summary = dict(
    **results,
    note=note,
    algorithm=FLAGS.algorithm,
    **data.describe(images),
    examples_seen=row["examples_seen"],
    evaluations=row["evaluations"],
    skipped_steps=run.faults["skipped"],
    **speed,
    device=jax.devices()[0].device_kind,
    jax_version=jax.__version__,
    git_commit=commit,
    seed=FLAGS.seed,
    step_size=FLAGS.step_size,
  )
  directory.write_summary(run.directory / "summary.json", summary)
  if note:
    print(f"note                 {note}; do not compare with others")
  names = " ".join(sorted(path.name for path in run.directory.glob("*.png")))
  print(f"pictures             {run.directory.resolve()}: {names}")


if __name__ == "__main__":
  command.run(main)
