"""Reports what a run of experiments.train is, how far it got, and how to resume it.

  python -m experiments.status --workdir=runs/mnist
  python -m experiments.status --workdir=runs/mnist --check

Reads and changes nothing. With --check it reads every array of every checkpoint, and compares it
with the checksum that it was saved with. The status is 0 also for a run that is not finished.
"""

import dataclasses
import math
import pathlib
import shlex
from typing import NamedTuple

from absl import flags

from aevb_jax import disk, errors, locks
from aevb_jax.runs import directory, files, loading, texts
from aevb_jax.training import checkpoint
from experiments.flags.reading import read
from experiments.launch import command
from experiments.launch.command import UsageError

flags.DEFINE_string("workdir", None, "Directory of a run of experiments.train, or of a member.")
flags.DEFINE_boolean("check", False, "Also reads the arrays of the checkpoints.")

# The first of these columns that a run has decides which row was the best.
CHOOSING = ("validation_bound", "test_bound", "recent_log_joint")


@dataclasses.dataclass(frozen=True)
class Asked:
  """The run to report, and how much of it to check."""

  workdir: str | None = None
  check: bool = False


class Kept(NamedTuple):
  """A checkpoint, and what is wrong with it."""

  path: pathlib.Path
  record: dict | None  # None if the record cannot be read
  fault: str | None


def main() -> None:
  asked = read(Asked)
  if asked.workdir is None:
    raise UsageError("workdir", "names the directory of a run")
  workdir = pathlib.Path(asked.workdir).expanduser()
  try:
    lines = run_in_words(workdir, read_flags(workdir), asked.check)
  except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
    reason = " ".join(str(error).split())
    raise UsageError("workdir", f"holds no run that can be read ({reason})") from error
  for name, text in lines:
    print(f"{name:12} {text}")


def read_flags(workdir: pathlib.Path) -> dict[str, str]:
  """Reads the flags of the run, or of the sweep, by name.

  No configuration is made from them, so that a run of another version, or one that this machine
  could not make, is reported too.

  Raises:
    UsageError: if there is no run.
    RunError: if the flags lack one that every run has.
  """
  flags_file, config_file = workdir / directory.FLAG_FILE, workdir / directory.CONFIG
  if flags_file.exists():
    text = disk.read_text(flags_file)
  elif config_file.exists():
    text = texts.flags_text(texts.from_json(disk.read_text(config_file)))
  else:
    raise UsageError("workdir", "holds no run (there is no flags.txt)")
  if loading.OF_TRAIN not in text:
    raise UsageError("workdir", "holds a run of another main than experiments.train")
  lines = [line.removeprefix("--").partition("=") for line in text.splitlines()]
  given = {name: value if equals else "true" for name, equals, value in lines}
  for name in ("batch_size", "num_examples"):
    if not (text := given.get(name, "")).isdecimal() or not int(text):
      raise files.damaged(flags_file, f"it has no number --{name}")
  return given


def run_in_words(
  workdir: pathlib.Path, given: dict[str, str], check: bool
) -> list[tuple[str, str]]:
  """Returns the report, as lines with a name."""
  checkpoints = workdir / directory.CHECKPOINTS
  kept = [look_at(checkpoints, step, check) for step in checkpoint.steps(checkpoints)]
  newest = next((k.record for k in reversed(kept) if not k.fault), None)
  runs = newest["runs"] if newest else {"": dict(rows=files.read_metrics(workdir), faults={})}
  lines = [("run", flags_in_words(given))]
  lines += [("state", line) for line in state_in_words(workdir, given, newest)]
  for name, run in runs.items():
    if run["rows"] and not set(CHOOSING) & set(run["rows"][-1]):
      raise files.damaged(workdir / "metrics.csv", f"it has no column {CHOOSING[1]}")
    lines += [(name or "rows", line) for line in rows_in_words(run["rows"], given)]
    lines += [(name or "faults", line) for line in faults_in_words(run["faults"])]
  lines += [("checkpoint", checkpoint_in_words(k, check)) for k in kept]
  damaged = workdir / f"{directory.CHECKPOINTS}-damaged"
  if damaged.is_dir():
    lines.append(("damaged", f"{len(list(damaged.iterdir()))} checkpoints set aside in {damaged}"))
  again = "" if not (workdir / "summary.json").exists() else "   (made again by --noresume)"
  where = shlex.quote(str(workdir))
  flagfile = shlex.quote(str(workdir / "flags.txt"))
  resume = f"python -m experiments.train --flagfile={flagfile} --workdir={where}{again}"
  return [*lines, ("command", resume)]


def flags_in_words(given: dict[str, str]) -> str:
  """Describes the choices in one line; flags.txt has all of them."""
  names = ("dataset", "algorithm", "estimator", "latent_dim", "optimizer", "step_size", "seed")
  return " ".join(f"--{name}={given[name]}" for name in names if name in given)


def state_in_words(workdir: pathlib.Path, given: dict[str, str], newest: dict | None) -> list[str]:
  """Describes whether the run is finished, in progress or interrupted, and where."""
  batch_size = int(given["batch_size"])
  total = math.ceil(int(given["num_examples"]) / batch_size) * batch_size
  at = newest["examples_seen"] if newest else 0
  share = f"{at:,} of {total:,} training samples ({100 * at / total:.0f} %)"
  took = f", {newest['seconds']:.0f} s of training" if newest else ""
  if (workdir / "summary.json").exists():
    state = f"finished: {share}{took}"
  elif holder := locks.holder(workdir / directory.LOCK):
    state = f"running ({holder}); saved: {share}{took}"
  elif at >= total:
    state = f"not finished: trained ({share}{took}); its summary and pictures are missing"
  else:
    state = f"not finished: {share}{took}"
  commit = newest and newest.get("git_commit")
  return [state, f"code of commit {commit}"] if commit else [state]


def rows_in_words(rows: list[dict], given: dict[str, str]) -> list[str]:
  """Describes the last row, and the best."""
  if not rows:
    return ["none yet"]
  by = next(name for name in CHOOSING if name in rows[-1])
  lines = [f"{len(rows)}, the last after {row_in_words(rows[-1], by)}"]
  finite = [row for row in rows if math.isfinite(row[by])]
  if finite:
    best = max(finite, key=lambda row: row[by])
    kept = " (kept: experiments.evaluate --parameters=best)" if by == "validation_bound" else ""
    lines.append(f"the best after {row_in_words(best, by)}{kept}")
  return lines


def row_in_words(row: dict, by: str) -> str:
  """Formats a row in one line, with the column that rows are compared by."""
  error = f" ± {row[f'{by}_se']:.2f}" if f"{by}_se" in row else ""
  return f"{row['examples_seen']:,} samples: {by.replace('_', ' ')} {row[by]:.2f}{error} nats"


def faults_in_words(faults: dict) -> list[str]:
  """Describes the steps whose numbers were not finite."""
  lines = [f"stopped: {faults['stopped']}"] if faults.get("stopped") else []
  return lines + ([f"{faults['skipped']} steps left out"] if faults.get("skipped") else [])


def look_at(checkpoints: pathlib.Path, step: int, check: bool) -> Kept:
  """Reads the record of a checkpoint, and its arrays too if they are to be checked."""
  path = checkpoints / str(step)
  try:
    record = checkpoint.read_record(checkpoints, step)
    if check:
      checkpoint.check(checkpoints, step)
  except errors.DamagedError as error:
    return Kept(path, None, str(error))
  return Kept(path, record, None)


def checkpoint_in_words(kept: Kept, checked: bool) -> str:
  """Describes how far a checkpoint got, or what is wrong with it."""
  megabytes = sum(p.stat().st_size for p in kept.path.rglob("*") if p.is_file()) / 2**20
  if kept.fault:
    return f"{kept.path}: damaged ({kept.fault})"
  whole = ", intact" if checked else ""
  return f"{kept.path}: {kept.record['examples_seen']:,} samples, {megabytes:.1f} MiB{whole}"


if __name__ == "__main__":
  command.run(main)
