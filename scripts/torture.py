"""Proves that runs survive: kills, damaged checkpoints, full disks, NaN, signals.

  python scripts/torture.py                          # everything
  python scripts/torture.py --only=kills --kills=10
  python scripts/torture.py --only=files/record,disk

Runs the main job in processes of its own, does to it what each part says, lets the same command
go on, and compares what is left with the run that was left alone: every array of the
last checkpoint bit for bit, its record, metrics.csv and sweep.csv but for the seconds,
summary.json, the pictures, and that no other file is there. A line for each part tells how many of
how many came to the same, and what happened on the way; what did not is told with the flags that
repeat it, its directory is kept, and the exit status is 1.

  kills    SIGKILL at random moments and aimed at checkpoints, rows, start and end; a run that
           trains has to go on from the newest checkpoint that was there
  devices  killed, and gone on with on another number of devices; to rounding
  files    each file of the newest checkpoint cut to half, with a bit flipped, or gone
  disk     a file system that is full at one write after another, then has room; files that may not
           grow; directories that may not be written
  nan      in the data, in a value, in a gradient, in the parameters
  signals  a second start, SIGTERM, SIGINT, two SIGINT
"""

import concurrent.futures
import os
import pathlib
import shutil
import tempfile
import time
import traceback
from collections import Counter

import jax
from absl import flags, logging
from tortures import disk, files, nan, signals
from tortures import kills as torture_kills
from tortures.runs import Case, Lab, Outcome

from experiments.launch import command

FLAGS = flags.FLAGS
flags.DEFINE_integer("kills", 50, "How many in the part of that name.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of the moments, and of all else that is random.")
flags.DEFINE_list(
  "only", "", "The parts, and the cases of them, whose names begin with one of these."
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
  "devices": torture_kills.devices,
  "files": files.cases,
  "disk": disk.cases,
  "nan": nan.cases,
  "signals": signals.cases,
}


def main() -> None:
  logging.set_verbosity(logging.FATAL)  # of orbax, which reads on other devices than it was saved
  jax.config.update("jax_num_cpu_devices", 2)
  directory = pathlib.Path(FLAGS.workdir or tempfile.mkdtemp(prefix="torture-")).absolute()
  directory.mkdir(parents=True, exist_ok=True)
  faces = pathlib.Path(FLAGS.data, "frey_face").absolute()
  lab = Lab(directory, FLAGS.seed, faces if faces.exists() else None)
  print(f"{'part':<9}{'survived':>10}{'seconds':>9}  what happened", flush=True)
  failed = [name for name in PARTS if chosen(name) and not survives(name, lab)]
  if failed:
    print(f"what is left of those that failed is in {directory}")
  elif FLAGS.workdir is None:
    shutil.rmtree(directory)
  raise command.Exit(int(bool(failed)))


def chosen(part: str) -> bool:
  return not FLAGS.only or any(name.split("/")[0] == part for name in FLAGS.only)


def survives(part: str, lab: Lab) -> bool:
  """Tries all of a part, and prints its line."""
  began = time.monotonic()
  cases = [
    case
    for case in PARTS[part](lab)
    if not FLAGS.only or any(case.name.startswith(name) for name in FLAGS.only)
  ]
  with concurrent.futures.ThreadPoolExecutor(FLAGS.jobs) as pool:
    outcomes = list(pool.map(outcome_of, cases))
  notes = sum((outcome.notes for outcome in outcomes), Counter())
  trials, survived = (sum(getattr(o, n) for o in outcomes) for n in ("trials", "survived"))
  told = ", ".join(f"{text} {number}" for text, number in notes.most_common())
  seconds = time.monotonic() - began
  print(f"{part:<9}{survived:>4} of {trials:<3}{seconds:>8.0f}  {told}", flush=True)
  return survived == trials


def outcome_of(case: Case) -> Outcome:
  """Of a case, told at once where it failed."""
  try:
    outcome = case.check()
  except Exception:  # what fails in the script is no proof of anything
    outcome = Outcome(1, [f"could not be tried: {traceback.format_exc()}"])
  for problem in outcome.problems:
    print(f"FAILED {case.name}: {problem}", flush=True)
  if outcome.problems:
    kills = f" --kills={FLAGS.kills}" if case.name.startswith("kills") else ""
    print(f"  again: python scripts/torture.py --seed={FLAGS.seed}{kills} --only={case.name}")
  return outcome


if __name__ == "__main__":
  command.run(main)
