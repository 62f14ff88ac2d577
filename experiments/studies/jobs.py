"""The training runs that a figure is made of, each of them one command of experiments.train.

They are made one after another, each in a process of its own and below --runs. A run that is
finished is not made again, and one that was interrupted goes on where it was. Figures that are
given the same --runs share what they have in common.
"""

import csv
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
from absl import app, flags

from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.runs import directory as rundir
from experiments.runs import loading

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # what is defined through here is its definer's
TRAIN = "experiments.train"
_evaluating_since = time.monotonic()


class Job(NamedTuple):
  """A run of experiments.train."""

  name: str  # of its directory
  arguments: tuple[str, ...]  # as flags.txt has them, without --workdir
  work: float  # how long it takes, in a unit that all jobs of a figure share


def define(name: str) -> None:
  """Defines the flags of a main that draws the figure of this name from runs."""
  flags.DEFINE_string(
    "workdir", f"runs/{name}", "Directory for the figure, its numbers and how it was made."
  )
  flags.DEFINE_string(
    "runs", None, "Directory of the training runs, which figures may share. Default: WORKDIR/runs."
  )
  for place in loading.OF_PLACES:
    flags.declare_key_flag(place)


def open_workdir() -> pathlib.Path:
  """Makes --workdir, for this process alone; what is there of the same figure stays.

  Raises:
    UsageError: as `rundir.open_workdir`, and for flags of experiments.train that this main
      settles itself.
  """
  main = sys.modules["__main__"]
  own = {flag.name for flag in FLAGS.get_key_flags_for_module(main)}
  own |= {flag.name for flag in FLAGS.get_key_flags_for_module(app)}
  for name in FLAGS:
    module = FLAGS.find_module_defining_flag(name)
    if FLAGS[name].present and name not in own and module.startswith("experiments."):
      raise UsageError(name, "is settled here; --help lists what is not")
  return rundir.open_workdir(FLAGS.get_key_flags_for_module(main), anew=False)


def directory(job: Job) -> pathlib.Path:
  runs = FLAGS.runs or os.path.join(FLAGS.workdir, "runs")
  return pathlib.Path(runs).expanduser() / job.name


def train(jobs: Sequence[Job]) -> None:
  """Trains all that are not finished; ends the program where one fails or is interrupted."""
  global _evaluating_since
  jobs = list(dict.fromkeys(jobs))
  waiting = [job for job in jobs if not is_finished(job)]
  done = [job for job in jobs if job not in waiting]
  if done:
    print(f"{len(done)} of {len(jobs)} runs are finished")
  places = [FLAGS[name].serialize() for name in loading.OF_PLACES if FLAGS[name].present]
  for i, job in enumerate(waiting):
    arguments = [*job.arguments, f"--workdir={directory(job)}", *places]
    print(f"\n[{len(done) + 1}/{len(jobs)}] {job.name}{time_left(done, waiting[i:])}")
    print(f"python -m {TRAIN} {shlex.join(arguments)}", flush=True)
    run([sys.executable, "-m", TRAIN, *arguments], job.name)
    done.append(job)
  _evaluating_since = time.monotonic()


def run(arguments: Sequence[str], name: str) -> None:
  """Runs a command, and ends the program where it fails."""
  # In a session of its own, so that a terminal's interrupt reaches it once, from here.
  child = subprocess.Popen(arguments, start_new_session=True)
  stopped_by = None
  while True:
    try:
      status = child.wait()
      break
    except KeyboardInterrupt:
      stopped_by = signal.SIGINT
    except command.Terminated:
      stopped_by = signal.SIGTERM
    child.send_signal(stopped_by)
  if stopped_by:
    number = int(stopped_by)
    command.fail(f"stopped by {stopped_by.name}; the same command goes on from there", 128 + number)
  if status:
    what = f"{name}: ended with status {status}, as said above; the same command goes on from there"
    command.fail(what, status if status > 0 else 1)


def is_finished(job: Job) -> bool:
  """Whether the run is there, as a whole and with these flags."""
  where = directory(job)
  if not (where / "summary.json").exists() or not (where / "flags.txt").exists():
    return False
  return set(job.arguments) <= set((where / "flags.txt").read_text().splitlines())


def time_left(done: Sequence[Job], waiting: Sequence[Job]) -> str:
  """By what finished runs took."""
  seconds = [(job.work, train_seconds(job)) for job in done]
  if not seconds:
    return ""
  rate = sum(s for _, s in seconds) / sum(work for work, _ in seconds)
  left = rate * sum(job.work for job in waiting) / 60
  return f", about {left // 60:.0f} h {left % 60:.0f} min left for all"


def train_seconds(job: Job) -> float:
  return max(read_rows(member)[-1]["seconds"] for member in member_directories(job))


def member_directories(job: Job) -> list[pathlib.Path]:
  """Of a finished run, or of all members of a sweep that went on to the end."""
  where = directory(job)
  if not (where / "sweep.csv").exists():
    return [where]
  with open(where / "sweep.csv", newline="") as file:
    return [where / row["name"] for row in csv.DictReader(file) if row["finished"] == "True"]


def read_rows(member: pathlib.Path) -> list[dict]:
  """The rows of metrics.csv of a finished run."""
  return rundir.read_metrics(member)


def read_flags(member: pathlib.Path) -> dict[str, str]:
  """The flags of a run by name, those that were given a value."""
  lines = (member / "flags.txt").read_text().splitlines()
  return {name: value for name, _, value in (line[2:].partition("=") for line in lines)}


def read_summary(member: pathlib.Path) -> dict:
  return json.loads((member / "summary.json").read_text())


def write_summary(workdir: pathlib.Path, results: dict, jobs: Sequence[Job], commit: str) -> None:
  """Writes summary.json: what came out, and how it was made."""
  made = dict(
    budget=FLAGS.budget,
    runs={job.name: f"python -m {TRAIN} {shlex.join(job.arguments)}" for job in jobs},
    train_seconds=round(sum(train_seconds(job) for job in jobs), 1),
    evaluation_seconds=round(time.monotonic() - _evaluating_since, 1),
    device=jax.devices()[0].device_kind,
    jax_version=jax.__version__,
    git_commit=commit,
  )
  rundir.write_summary(workdir / "summary.json", results | made)
