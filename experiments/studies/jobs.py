"""The training runs that a figure is made of, each of them one command of experiments.train.

They are trained one after another below --runs, each in a process of its own. A finished run is not
trained again, and one that was interrupted resumes. Figures with the same --runs share the
runs that they have in common.
"""

import collections
import contextlib
import itertools
import pathlib
import shlex
import signal
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import jax
from jax.extend import backend

from aevb_jax import disk
from aevb_jax.errors import ConfigError, DataError, RunError
from aevb_jax.runs import Config, LoadedRun, Machine, directory, files, load, replace, texts
from aevb_jax.runs.config import num_steps
from aevb_jax.runs.job import make_job
from aevb_jax.runs.loop import evenly
from experiments.flags import presets, training
from experiments.flags.data import array_cache_dir, given_places
from experiments.flags.figures import Figure
from experiments.launch import command
from experiments.plots import records
from experiments.studies.kept import NOTHING, RUN, Kept

TRAIN = "experiments.train"
BOUNDS = ("train_bound", "train_bound_se", "test_bound", "test_bound_se")  # of its metrics.csv


class Job(NamedTuple):
  """A run of experiments.train."""

  name: str  # the name of its directory
  arguments: tuple[str, ...]  # as flags.txt has them, without --workdir
  work: float  # how long it takes, in a unit that all jobs of a figure share


class Jobs(NamedTuple):
  """The finished runs of a figure, and the time at which the last of them ended."""

  figure: Figure
  jobs: list[Job]
  kept: Kept  # the runs whose rows the figure already has
  finished_at: float  # on `time.monotonic`


def check(jobs: Sequence[Job], figure: Figure, kept: Kept = NOTHING) -> None:
  """Refuses the unfinished runs that experiments.train would refuse, before any is trained.

  Each is set up as experiments.train sets it up, with its data and its model, but not trained.

  Args:
    jobs: the runs.
    figure: the directories of the figure.
    kept: the rows that the figure already has; their runs are not needed.

  Raises:
    ConfigError: for the first flag that cannot be used; the message names its run.
  """
  training.keep_programs()
  with _on_cpu():
    for job in dict.fromkeys(jobs):
      if is_kept(job, kept) or was_finished(job, figure) and not damage_of(job, figure):
        continue
      config = replace(config_of(job), **given_places())
      try:
        machine = Machine(place_of(job, figure), array_cache_dir=array_cache_dir())
        made = make_job(config, machine)
        directory.refuse_others(machine.workdir, [made.config], figure.overwrite)
      except ConfigError as error:
        message = f"{error.message} (of the run {job.name})"
        raise ConfigError(error.field, error.value, message) from error
      except DataError as error:
        message = f"{error} (of the run {job.name})"
        raise ConfigError("dataset", config.data.dataset, message) from error


def config_of(job: Job) -> Config:
  """Makes the configuration that experiments.train makes from the arguments of a job.

  Raises:
    ConfigError: if an argument names no field, or has a value of another type.
  """
  words = [argument.removeprefix("--").partition("=") for argument in job.arguments]
  given = {name: text if equals else True for name, equals, text in words}
  preset = presets.values(given.pop(texts.OF_PRESETS, None), given)
  is_field = texts.fields_of(given.get("algorithm", "aevb"))
  values = {name: value for name, value in preset.items() if name in is_field} | given
  lines = [texts.flag_line(name, value) for name, value in values.items()]
  return texts.from_flags("\n".join(lines))


@contextlib.contextmanager
def _on_cpu() -> Iterator[None]:
  """Restricts JAX to the CPU inside the context.

  Otherwise this process would keep an accelerator, or its memory, which the runs need.
  """
  platforms = jax.config.jax_platforms
  if platforms == "cpu":
    yield
    return
  jax.config.update("jax_platforms", "cpu")
  try:
    yield
  finally:
    jax.config.update("jax_platforms", platforms)
    backend.clear_backends()


def train(jobs: Sequence[Job], figure: Figure, kept: Kept = NOTHING) -> Jobs:
  """Trains all runs that are not finished; ends the program if one fails or is interrupted.

  Args:
    jobs: the runs.
    figure: the directories of the figure.
    kept: the rows that the figure already has; their runs are not trained again.
  """
  everything = list(dict.fromkeys(jobs))
  jobs = [job for job in everything if not is_kept(job, kept)]
  if len(jobs) < len(everything):
    number = len(everything) - len(jobs)
    print(f"{number} of {len(everything)} runs are in the table of {figure.workdir} already")
  waiting = [job for job in jobs if not is_finished(job, figure)]
  done = [job for job in jobs if job not in waiting]
  if done:
    print(f"{len(done)} of {len(jobs)} runs are finished")
  for i, job in enumerate(waiting):
    where = f"--workdir={place_of(job, figure)}"
    aside = ["--overwrite"] if figure.overwrite else []
    arguments = [*job.arguments, where, *figure.places, *aside]
    left = time_left(done, waiting[i:], figure)
    print(f"\n[{len(done) + 1}/{len(jobs)}] {job.name}{left}")
    print(command_line(arguments), flush=True)
    run([sys.executable, "-m", TRAIN, *arguments], job.name)
    done.append(job)
  return Jobs(figure, everything, kept, time.monotonic())


def command_line(arguments: Sequence[str]) -> str:
  """Formats the command that trains a run with these arguments."""
  return f"python -m {TRAIN} {shlex.join(arguments)}"


def rows_kept(job: Job, kept: Kept) -> list[dict]:
  """Returns the rows of a run that a figure already has; none if it has no run with these flags."""
  return kept.rows[job.name] if is_kept(job, kept) else []


def is_kept(job: Job, kept: Kept) -> bool:
  """Reports whether a figure already has the rows of a run with these flags."""
  return kept.runs.get(job.name, {}).get("command") == command_line(job.arguments)


def run(arguments: Sequence[str], name: str) -> None:
  """Runs a command that ends with this process; ends the program if the command fails."""
  with command.child_that_ends_with_this(arguments) as child:
    stopped_by = None
    while True:
      try:
        status = child.wait()
        break
      except KeyboardInterrupt:
        stopped_by = signal.SIGINT
      except command.Terminated as ended:
        stopped_by = ended.number
      command.caught()
      child.send_signal(stopped_by)
  if stopped_by:
    number = int(stopped_by)
    command.fail(f"stopped by {stopped_by.name}; the same command resumes from there", 128 + number)
  if status:
    what = f"{name}: ended with status {status}, see above; the same command resumes from there"
    command.fail(what, status if status > 0 else 1)


def place_of(job: Job, figure: Figure) -> pathlib.Path:
  """Returns the directory of a run."""
  return figure.runs / job.name


def is_finished(job: Job, figure: Figure) -> bool:
  """Reports whether the run is there, complete and with these flags.

  If tables of the run were lost or cut off, its summary is removed, so that the run is trained
  again from its last checkpoint.
  """
  if not was_finished(job, figure):
    return False
  if not (damage := damage_of(job, figure)):
    return True
  print(f"{job.name}: its tables cannot be read ({damage}); the run is trained again")
  (place_of(job, figure) / directory.SUMMARY).unlink()
  return False


def was_finished(job: Job, figure: Figure) -> bool:
  """Reports whether the run has ended with these flags, even if its tables are damaged."""
  where = place_of(job, figure)
  if not (where / directory.SUMMARY).exists() or not (where / directory.FLAG_FILE).exists():
    return False
  # flags.txt has the values of a preset one by one.
  wanted = {flag for flag in job.arguments if not flag.startswith("--preset=")}
  try:
    there = set(disk.read_text(where / directory.FLAG_FILE).splitlines())
  except UnicodeDecodeError:
    return False
  # A field that is None has no line, so a run with a condition has one more line than one without.
  return wanted <= there and not any(l.startswith("--condition=") for l in there - wanted)


def damage_of(job: Job, figure: Figure) -> str:
  """Describes what is wrong with the tables of a run that has ended; "" if they are whole."""
  where = place_of(job, figure)
  needed = () if "--algorithm=mcem" in job.arguments else BOUNDS
  try:
    steps, members = steps_of(where), members_of(where)
    for member in members:
      rows, given = files.read_metrics(member, needed), records.read_flags(member)
      if steps is not None and [row["step"] for row in rows] != steps:
        return f"{member.name}does not have the rows that its flags ask for"
      if not (rows[-1]["seconds"] and given["seed"].isdecimal() and float(given["step_size"])):
        return f"{member.name} has no seed, step size or time"
  except (OSError, RunError) as error:
    return files.error_in_words(error)
  except (ArithmeticError, LookupError, TypeError, ValueError) as error:
    return f"{type(error).__name__}: {error}"
  return "" if members else "no finished member"


def steps_of(where: pathlib.Path) -> list[int] | None:
  """Returns the steps after which a run, or a sweep, has rows according to its flags.

  Returns:
    The steps; None for flags of another version.

  Raises:
    OSError, UnicodeDecodeError: if the flags cannot be read.
  """
  try:
    config = texts.from_flags(disk.read_text(where / directory.FLAG_FILE))
  except ConfigError:
    return None
  budget, steps = config.budget, set()
  plan = evenly(config.optimizer.batch_size, budget.eval_every, budget.evals_per_decade)
  for num_examples in filter(None, (budget.select_step_size, budget.num_examples)):
    end = num_steps(config, num_examples)
    ends = itertools.accumulate(plan.chunks(0, end, end))
    steps |= {step for step in ends if plan.is_due(step, end)}
  return sorted(steps)


def time_left(done: Sequence[Job], waiting: Sequence[Job], figure: Figure) -> str:
  """Estimates the remaining time from the time that finished runs took."""
  seconds = [(job.work, train_seconds(job, figure)) for job in done]
  if not seconds:
    return ""
  rate = sum(s for _, s in seconds) / sum(work for work, _ in seconds)
  left = rate * sum(job.work for job in waiting) / 60
  return f", about {left // 60:.0f} h {left % 60:.0f} min left for all"


def train_seconds(job: Job, figure: Figure) -> float:
  """Returns the seconds that a finished run trained for."""
  return max(last_row(member)["seconds"] for member in member_directories(job, figure))


def last_row(member: pathlib.Path, needed: Collection[str] = ()) -> dict:
  """Reads the last row of a finished run, which must have the columns `needed`.

  Raises:
    RunError: if there is none.
  """
  if rows := files.read_metrics(member, needed):
    return rows[-1]
  raise files.damaged(member / "metrics.csv", "it has no rows")


def member_directories(job: Job, figure: Figure) -> list[pathlib.Path]:
  """Returns the directory of a finished run, or of all members of a sweep that did not stop."""
  return members_of(place_of(job, figure))


def members_of(where: pathlib.Path) -> list[pathlib.Path]:
  """Returns the directories of the runs in the directory of a run or of a sweep."""
  if "," not in _swept_text(where):
    return [where]
  rows = files.read_cells(where / "sweep.csv", ("name", "finished"))
  return [where / row["name"] for row in rows if row["finished"] == "True"]


def _swept_text(where: pathlib.Path) -> str:
  given = records.read_flags(where)
  return given.get("seed", "") + given.get("step_size", "")


def load_member(member: pathlib.Path) -> LoadedRun:
  """Opens a run, with its data at the place that the flags of this command name."""
  return load(member, array_cache_dir=array_cache_dir(), **given_places())


def about_run(job: Job, figure: Figure) -> dict:
  """Returns how a finished run was made: its command, its commit and the seconds it took."""
  summary = records.read_summary(member_directories(job, figure)[0])
  return dict(
    command=command_line(job.arguments),
    git_commit=summary.get("git_commit"),
    seconds=train_seconds(job, figure),
  )


def write_summary(
  workdir: pathlib.Path,
  results: dict,
  made: Jobs,
  commit: str | None,
  *,
  rows: Sequence[dict] = (),
) -> None:
  """Writes summary.json: the results, and how they were made.

  Args:
    workdir: the directory of the figure.
    results: what the figure shows.
    made: its runs.
    commit: the commit of the program.
    rows: the rows of a table that names the run of each. Those of a run are kept when the figure
      is made again, so that the run is not needed for it.
  """
  figure, kept = made.figure, made.kept
  runs = {
    job.name: kept.runs[job.name] if is_kept(job, kept) else about_run(job, figure)
    for job in made.jobs
  }
  for name, number in collections.Counter(row[RUN] for row in rows).items():
    runs[name] = runs[name] | dict(rows=number)
  seconds = time.monotonic() - made.finished_at
  seconds += kept.evaluation_seconds if any(is_kept(job, kept) for job in made.jobs) else 0
  about = dict(
    budget=figure.budget,
    runs=runs,
    train_seconds=round(sum(run["seconds"] for run in runs.values()), 1),
    evaluation_seconds=round(seconds, 1),
    **files.provenance(commit),
  )
  files.write_summary(workdir / directory.SUMMARY, results | about)
