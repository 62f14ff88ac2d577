"""The figures' mains: flags that only their runs would find, other flags, and torn tables."""

import functools
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from tortures import contract, runs
from tortures.runs import Case, Lab, Outcome

SMOKE = ("--budget=smoke", "--panels=digits/2")
SMALL = (*SMOKE, "--num_examples=12000", "--select_after=11000", "--eval_every=6000")
# A main, wrong flags, and right flags.
BAD_FLAGS = {
  "unknown panel": ("lower_bound", ("--budget=smoke", "--panels=nosuchset/2"), SMOKE),
  "second panel": ("lower_bound", ("--budget=smoke", "--panels=digits/2,nosuchset/2"), SMOKE),
  "too short": ("lower_bound", (*SMOKE, "--num_examples=10"), SMOKE),
  "selects too early": ("lower_bound", (*SMOKE, "--select_after=150"), SMOKE),
  "unknown article": (
    "conv_vae",
    ("--budget=smoke", "--dataset=nosuchset"),
    ("--budget=smoke", "--dataset=digits"),
  ),
  "unknown manifold": (
    "manifold",
    ("--budget=smoke", "--datasets=nosuchset"),
    ("--budget=smoke", "--datasets=digits"),
  ),
  "too many images": (
    "marginal_likelihood",
    ("--budget=smoke", "--dataset=digits", "--sizes=5000"),
    ("--budget=smoke", "--dataset=digits", "--sizes=500"),
  ),
}
READERS = {
  "status": ("status", ()),
  "evaluate": ("evaluate", ("--num_points=20", "--importance_samples=20")),
  "plots": ("plots", ()),
}
TORN = ("metrics.csv", "sweep.csv", "flags.txt")
GARBAGE = b"\xff\xfe\x00"


def cases(lab: Lab) -> Iterator[Case]:
  """Yields bad flags, other flags in the place of a figure, and torn files for each reader."""
  for what, (main, bad, good) in BAD_FLAGS.items():
    name = f"mains/{what}"
    yield Case(name, functools.partial(_refused, lab, name, main, (bad, good)))
  yield Case("mains/overwrite", functools.partial(_overwrites, lab, "mains/overwrite"))
  for file in TORN:
    for reader in READERS:
      name = f"mains/torn {file} {reader}"
      yield Case(name, functools.partial(_torn, lab, name, file, reader))


def _refused(lab: Lab, name: str, main: str, flags: tuple) -> Outcome:
  """Gives a main bad flags, which must leave nothing, and then good flags, which start it."""
  workdir, (bad, good) = lab.new(name), flags
  problems = contract.faults(contract.train(lab, bad, workdir, main=main), 2)
  if workdir.exists():
    there = sorted(str(path.relative_to(workdir)) for path in workdir.rglob("*"))
    problems.append(f"it made the directory, with {there[:5]}")
  started = runs.start(lab, good, workdir, main=main)
  if not runs.until(lambda: "[1/" in started.printed, started, contract.SECONDS_TO_ANSWER):
    problems.append(f"with good flags it does not start: {started.complained[-500:]!r}")
  started.process.send_signal(signal.SIGTERM)
  runs.end(started, contract.SECONDS_TO_ANSWER)
  return contract.outcome(problems, "refused", workdir)


def _overwrites(lab: Lab, name: str) -> Outcome:
  """Draws a figure over one with other flags: the old one is set aside, but not its runs."""
  workdir = lab.new(name)
  aside = workdir.with_name(f"{workdir.name}.1")
  ended = runs.run(lab, SMALL, workdir, main="lower_bound")
  problems = contract.faults(ended, 0)
  before = _files(workdir / "runs")
  other = (*SMALL, "--evals_per_decade=2")
  problems += contract.faults(contract.train(lab, other, workdir, main="lower_bound"), 2)
  ended = runs.run(lab, (*other, "--overwrite"), workdir, main="lower_bound")
  problems += contract.faults(ended, 0)
  if not (aside / "lower_bound.csv").exists():
    problems.append("the figure that was there is not set aside")
  if gone := before - _files(workdir / "runs"):
    problems.append(f"of its runs {len(gone)} files are gone from WORKDIR/runs")
  return contract.outcome(problems, "overwritten", workdir, aside)


def _files(directory: Path) -> set[str]:
  """Names the tables and checkpoints below a directory."""
  return {str(path.relative_to(directory)) for path in directory.rglob("*.csv")}


def _torn(lab: Lab, name: str, file: str, reader: str) -> Outcome:
  """Cuts a file of a finished run or sweep: at random, to nothing, and with bytes after it."""
  kind = "sweep" if file == "sweep.csv" else "short"
  workdir = contract.copied(lab, name, runs.uninterrupted(lab, kind))
  path, draw = workdir / file, lab.random(name)
  whole, problems = path.read_bytes(), []
  place = draw.randrange(1, len(whole) - 1)
  for contents in (whole[:place], b"", whole[:place] + GARBAGE):
    path.write_bytes(contents)
    shutil.rmtree(workdir / "importance-test", ignore_errors=True)
    main, flags = READERS[reader]
    where = f"--{'redraw' if main == 'plots' else 'workdir'}={workdir}"
    ended = contract.answer(lab, main, (*flags, where))
    wrong = contract.faults(ended, 0, 2)
    problems += [f"cut to {len(contents)} of {len(whole)} bytes: {fault}" for fault in wrong]
  return contract.outcome(problems, "one line", workdir)
