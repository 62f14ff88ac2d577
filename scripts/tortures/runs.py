"""The runs that are attacked, in processes of their own."""

import contextlib
import functools
import itertools
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import IO, NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
BEING_WRITTEN = "orbax-checkpoint-tmp"  # in the name of a checkpoint that is not complete
SECONDS_TO_END = 600
NUMBERS = itertools.count()

# Chunks of at most 250 steps, each saved at its end; every other one ends between two rows.
SMALL = ("--hidden_dim=20", "--checkpoint_every=0")
SAVED = (*SMALL, "--num_importance_samples=0")
LONG = (*SAVED, "--eval_every=30000", "--num_examples=450000")
KINDS = {
  "aevb": LONG,
  "wake_sleep": (*LONG, "--estimator=wake_sleep"),
  "streamed": (*LONG, "--max_resident_mb=0"),
  "mcem": (
    *SMALL, "--algorithm=mcem", "--binarization=static", "--batch_size=20", "--eval_every=6000",
    "--num_examples=60000",
  ),
  "sweep": (
    *SAVED, "--seed=0,1", "--step_size=0.001,0.01", "--select_step_size=90000",
    "--eval_every=30000", "--num_examples=240000",
  ),
  "short": (*SAVED, "--eval_every=3000", "--num_examples=18000"),
}  # fmt: skip
# Runs that only some attacks need.
OTHERS = {
  "seeded": (*KINDS["short"], "--seed=3"),
  "wider": (*LONG, "--latent_dim=3"),
}


class Lab(NamedTuple):
  """The place of the runs, and the seed of everything that is random."""

  directory: pathlib.Path
  seed: int
  data: pathlib.Path | None  # the directory of the files of Frey Face, if there is one

  def random(self, name: str) -> random.Random:
    return random.Random(f"{self.seed} {name}")

  def new(self, name: str) -> pathlib.Path:
    """Returns a directory that does not exist yet, for a run."""
    places = (self.directory / f"{re.sub(r'[/ ]', '-', name)}-{number}" for number in NUMBERS)
    return next(place for place in places if not place.exists())

  def flags_of(self, kind: str) -> tuple[str, ...]:
    if kind == "frey_face":  # it has a validation set, so runs also keep the best parameters
      return (
        *LONG, "--dataset=frey_face:contiguous", f"--data_dir={self.directory / 'tfds'}",
        f"--manual_dir={self.data}", "--likelihood=gaussian", "--dequantization",
      )  # fmt: skip
    return (KINDS | OTHERS)[kind]


class Outcome(NamedTuple):
  """The result of trying an attack."""

  trials: int
  problems: list[str]  # at most one for each trial
  notes: Counter = Counter()  # what happened, and how often
  held: int | None = None  # trials that held; None for all, or for none if there are problems

  @property
  def survived(self) -> int:
    if self.held is not None:
      return self.held
    return self.trials if not self.problems else 0


class Case(NamedTuple):
  name: str  # part/case
  check: Callable[[], Outcome]


class Started(NamedTuple):
  process: subprocess.Popen
  workdir: pathlib.Path
  log: pathlib.Path  # standard output; standard error is in the file with .err

  @property
  def printed(self) -> str:
    return self.log.read_text()

  @property
  def complained(self) -> str:
    return self.log.with_suffix(".err").read_text()


class Ended(NamedTuple):
  status: int
  out: str
  err: str


def start(
  lab: Lab, flags: Sequence[str], workdir: pathlib.Path, *, main: str = "train", **how
) -> Started:
  """Starts a main that has the flag --workdir in a process of its own; `how` goes to `launch`."""
  return launch(lab, main, (*flags, f"--workdir={workdir}"), **how)._replace(workdir=workdir)


def launch(
  lab: Lab,
  main: str,
  arguments: Sequence[str],
  *,
  env: Mapping[str, str | None] | None = None,
  first: str = "",
  stdout: IO | None = None,
  stderr: IO | None = None,
  root: pathlib.Path = ROOT,
) -> Started:
  """Starts a main of `experiments` in a process of its own, whose output goes to files.

  Args:
    lab: the lab whose caches are used.
    main: the name of the module in `experiments`.
    arguments: its whole command line.
    env: variables in addition to the environment of this process; None unsets a variable.
    first: Python code that runs in the process before the main.
    stdout: where standard output goes, instead of a file.
    stderr: where standard error goes, instead of a file.
    root: the checkout that the main is in.
  """
  (lab.directory / "logs").mkdir(exist_ok=True)
  log = lab.directory / "logs" / f"{next(NUMBERS)}.out"
  command = [sys.executable, "-m", f"experiments.{main}", *arguments]
  if first:
    run_it = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", f"{first}\n{run_it}", *command[1:]]
  with open(log, "w") as out, open(log.with_suffix(".err"), "w") as err:
    process = subprocess.Popen(
      command,
      cwd=root,
      stdin=subprocess.DEVNULL,
      stdout=stdout or out,
      stderr=stderr or err,
      env=environment(lab, root, env or {}),
    )
  return Started(process, lab.directory, log)


def environment(
  lab: Lab, root: pathlib.Path = ROOT, changed: Mapping[str, str | None] = MappingProxyType({})
) -> dict[str, str]:
  """Returns this process's environment, with caches that all runs share."""
  defaults = dict(
    XDG_CACHE_HOME=str(lab.directory / "cache"),
    MPLCONFIGDIR=str(lab.directory / "mpl"),
    PYTHONPATH=os.pathsep.join([str(root), str(ROOT / "scripts")]),
    PYTHONUNBUFFERED="1",
    JAX_PLATFORMS=os.environ.get("JAX_PLATFORMS", "cpu"),
  )
  variables = os.environ | defaults | dict(changed)
  return {name: value for name, value in variables.items() if value is not None}


def end(started: Started, seconds: float = SECONDS_TO_END) -> Ended:
  """Waits for a process; kills one that hangs, with status None."""
  try:
    status = started.process.wait(seconds)
  except subprocess.TimeoutExpired:
    kill(started)
    status = None
  return Ended(status, started.printed, started.complained)


def kill(started: Started) -> None:
  started.process.kill()
  started.process.wait()


def run(*arguments, **named) -> Ended:
  return end(start(*arguments, **named))


def until(true: Callable[[], bool], started: Started, seconds: float = SECONDS_TO_END) -> bool:
  """Waits for a condition; False if the process ends before, or it takes too long."""
  deadline = time.monotonic() + seconds
  while started.process.poll() is None and time.monotonic() < deadline:
    if true():
      return True
    time.sleep(2e-4)
  return False


def complete(lab: Lab, flags: Sequence[str], workdir: pathlib.Path, **named) -> list[str]:
  """Runs to the end, and returns what was wrong."""
  ended = run(lab, flags, workdir, **named)
  if ended.status != 0:
    return [f"status {ended.status} where it should continue to the end: {in_words(ended)}"]
  return [f"on standard error: {in_words(ended)}"] if ended.err else []


def in_words(ended: Ended) -> str:
  return " | ".join(ended.err.strip().splitlines()[-3:])


@functools.cache
def lock_of(key: tuple) -> threading.Lock:
  return threading.Lock()


def uninterrupted(lab: Lab, kind: str) -> pathlib.Path:
  """Returns the directory of the run that all others of a kind have to equal."""
  workdir = lab.directory / f"{kind}-uninterrupted"
  with lock_of((lab.directory, kind)):
    if not (workdir / "summary.json").exists():
      shutil.rmtree(workdir, ignore_errors=True)
      ended = run(lab, lab.flags_of(kind), workdir)
      if ended.status:
        raise RuntimeError(f"the uninterrupted run of {kind} failed: {in_words(ended)}")
  return workdir


def last_step(lab: Lab, kind: str) -> int:
  return steps(uninterrupted(lab, kind))[-1]


def steps(workdir: pathlib.Path) -> list[int]:
  """Returns the steps of the checkpoints that are complete."""
  return sorted(int(name) for name in checkpoint_names(workdir) if name.isdecimal())


def checkpoint_names(workdir: pathlib.Path) -> list[str]:
  with contextlib.suppress(FileNotFoundError):
    return os.listdir(workdir / "checkpoints")
  return []  # no checkpoint has been saved yet
