"""Attacks runs in every known way, and counts the attacks that they withstood.

  python scripts/torture.py                          # everything
  python scripts/torture.py --only=kills --kills=10
  python scripts/torture.py --only=files/record,disk

Runs a main in processes of its own, does to it what each part says, lets the same command
resume it, and compares what it left with the run that was not attacked: every array of the
last checkpoint bit for bit, its record, metrics.csv and sweep.csv except the seconds,
summary.json, the pictures, and that no other file is there. What may be refused must be refused
in one line, with nothing lost (tortures/contract.py). A line for each part says how many attacks
were tried, how many held, and what happened. An attack that did not hold is printed with the flags
that repeat it, its directory is kept, and the exit status is 1. The last line is the total.

  kills        SIGKILL at random moments and aimed at checkpoints, rows, start and end; a run that
               trains has to resume from the newest checkpoint that was there
  replacing    SIGKILL while a checkpoint replaces the one of the same step
  devices      killed, and resumed with another number of devices; equal up to rounding
  files        each file of the newest checkpoint cut to half, with a bit flipped, or gone
  disk         a file system that is full at one write after another, then has room, for every main
               that writes; files that may not grow; directories that may not be written
  nan          in the data, in a value, in a gradient, in the parameters
  signals      SIGTERM, SIGINT, SIGHUP while a run trains and before; two SIGINT; a second start
  starts       four starts at once on one directory, as whole mains and as 200 rounds of `open_run`
  places       directories whose names mean something to a shell or to a pattern
  links        symbolic links, hard links, pipes and devices where a run has its files
  output       standard streams that are closed, full, of ASCII, or whose reader has gone
  evaluations  two evaluations at once, edited tables of points, SIGKILL
  resumed      edited checkpoints and flags, another generator, edited code
  moved        a directory that is renamed or removed while its run trains
  mains        bad flags of figures, figures in the place of others, torn tables
  estimators   estimators that exit or raise, no home, no device, few open files

tortures/README.md says for each part what must hold, and how many attacks held.
"""

import concurrent.futures
import itertools
import os
import pathlib
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from typing import NamedTuple

import jax
from absl import flags, logging
from tortures import (
  disk,
  evaluations,
  files,
  hostile,
  links,
  mains,
  moved,
  nan,
  output,
  places,
  replacing,
  resumed,
  rooms,
  signals,
  starts,
)
from tortures import kills as torture_kills
from tortures.runs import Case, Lab, Outcome

from experiments.launch import command

FLAGS = flags.FLAGS
flags.DEFINE_integer("kills", 50, "Kills in the part kills.", lower_bound=1)
flags.DEFINE_integer("replacements", 30, "Kills in the part replacing.", lower_bound=1)
flags.DEFINE_integer("starts", 3, "Rounds of whole mains in the part starts.", lower_bound=1)
flags.DEFINE_integer("rounds", 200, "Rounds of open_run in the part starts.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the moments and of everything else that is random.")
flags.DEFINE_list(
  "only", "", "Tries only the parts, or the attacks, whose names begin with one of these."
)
flags.DEFINE_string("workdir", None, "Where the runs go; default: a temporary directory.")
flags.DEFINE_integer("jobs", 2, "Runs at a time.", lower_bound=1)
flags.DEFINE_string(
  "data",
  os.environ.get("AEVB_JAX_TEST_DATA", "../shared/data"),
  "Directory with frey_face/frey_rawface.mat; runs on Frey Face are left out where it is not.",
)

PARTS = {
  "kills": lambda lab: torture_kills.kills(lab, FLAGS.kills),
  "replacing": lambda lab: replacing.cases(lab, FLAGS.replacements),
  "devices": torture_kills.devices,
  "files": files.cases,
  "disk": lambda lab: itertools.chain(rooms.cases(lab), disk.cases(lab)),
  "nan": nan.cases,
  "signals": signals.cases,
  "starts": lambda lab: starts.cases(lab, FLAGS.starts, FLAGS.rounds),
  "places": places.cases,
  "links": links.cases,
  "output": output.cases,
  "evaluations": evaluations.cases,
  "resumed": resumed.cases,
  "moved": moved.cases,
  "mains": mains.cases,
  "estimators": hostile.cases,
}
COUNTS = ("kills", "replacements", "starts", "rounds")  # flags that say how many attacks are tried


class Tried(NamedTuple):
  """The numbers of attacks of a part that were tried, and that held."""

  trials: int
  held: int


def main() -> None:
  logging.set_verbosity(logging.FATAL)  # orbax warns if arrays were saved on other devices
  jax.config.update("jax_num_cpu_devices", 2)
  hear_signals()
  sys.unraisablehook = lambda unraisable: None  # orbax's threads raise for a damaged checkpoint
  directory = pathlib.Path(FLAGS.workdir or tempfile.mkdtemp(prefix="torture-")).absolute()
  directory.mkdir(parents=True, exist_ok=True)
  faces = pathlib.Path(FLAGS.data, "frey_face").absolute()
  lab = Lab(directory, FLAGS.seed, faces if faces.exists() else None)
  print(f"{'part':<12}{'held':>10}{'seconds':>9}  what happened", flush=True)
  tried = [attack(name, lab) for name in PARTS if chosen(name)]
  trials, held = (sum(counts) for counts in zip(*tried)) if tried else (0, 0)
  print(f"{trials} tried, {held} held", flush=True)
  if held < trials:
    command.fail(f"{trials - held} did not hold; what is left of them is in {directory}", 1)
  if FLAGS.workdir is None:
    shutil.rmtree(directory)


def hear_signals() -> None:
  """Handles signals that this process ignores, as under nohup: its runs would ignore them too."""
  for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
      signal.signal(number, lambda number, frame: None)


def chosen(part: str) -> bool:
  return not FLAGS.only or any(name.split("/")[0] == part for name in FLAGS.only)


def attack(part: str, lab: Lab) -> Tried:
  """Tries all attacks of a part, and prints its line."""
  began = time.monotonic()
  cases = [
    case
    for case in PARTS[part](lab)
    if not FLAGS.only or any(case.name.startswith(name) for name in FLAGS.only)
  ]
  with concurrent.futures.ThreadPoolExecutor(FLAGS.jobs) as pool:
    outcomes = list(pool.map(outcome_of, cases))
  notes = sum((outcome.notes for outcome in outcomes), Counter())
  trials, held = (sum(getattr(o, n) for o in outcomes) for n in ("trials", "survived"))
  noted = ", ".join(f"{text} {number}" for text, number in notes.most_common())
  seconds = time.monotonic() - began
  print(f"{part:<12}{held:>4} of {trials:<3}{seconds:>8.0f}  {noted}", flush=True)
  return Tried(trials, held)


def outcome_of(case: Case) -> Outcome:
  """Tries an attack, and prints at once what did not hold."""
  try:
    outcome = case.check()
  except Exception:  # an error in the script proves nothing about the run
    outcome = Outcome(1, [f"could not be tried: {traceback.format_exc(limit=-4)}"])
  for problem in outcome.problems:
    print(f"FAILED {case.name}: {problem}", flush=True)
  if outcome.problems:
    counts = "".join(f" --{name}={FLAGS[name].value}" for name in COUNTS if FLAGS[name].present)
    only = shlex.quote(f"--only={case.name}")
    print(f"  again: python scripts/torture.py --seed={FLAGS.seed}{counts} {only}", flush=True)
  return outcome


if __name__ == "__main__":
  command.run(main)
