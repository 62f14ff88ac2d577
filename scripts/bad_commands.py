"""Runs command lines that must be refused, and checks that each is, in one clear line.

  python scripts/bad_commands.py                # prints the table of counts
  python scripts/bad_commands.py --number=9 --main=evaluate

Hypothesis makes some of the command lines from the definitions of the flags
(`refusals/inputs.py`); the others are all mistakes that the tests or the pages name
(`refusals/cases.py`). Each is a process of its own in a new directory, and must end within
--limit seconds: with a status that is neither zero nor a signal's, nothing on standard output,
one line on standard error that begins with "error: ", is short and names the flag or its value,
and no file made, changed or removed. Nothing is downloaded: commands that would download are
refused before, or have an address without a server. Needs the extra `test`, as scripts/test.sh
installs it.

With --seed=1000 all 424 were refused, the slowest in 9.1 s and the whole in 15 minutes, on two
CPU cores that were busy with other work; on idle cores a command takes two to six seconds. A
command that was too slow is run once more, by itself.
"""

import argparse
import collections
import concurrent.futures
import csv
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from refusals.definitions import MAINS, ROOT, Bad, read_definitions
from support import start

LENGTH = 400  # characters of a clear line, without the values that the user gave
NO_NETWORK = "http://127.0.0.1:9"
NAMED = ("in the tests", "on the pages")
DEEP = ("path", "estimator", "data set")  # no parser finds these mistakes: three times as many
COLUMNS = ("kind", *MAINS, "refused", "slowest")


class Ending(NamedTuple):
  """The end of a command: its status, its output, and the files that it changed."""

  status: int
  stdout: str
  stderr: str
  seconds: float
  changed: list[str]  # files


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--number", type=int, default=2, help="generated of each main and mistake")
  parser.add_argument("--seed", type=int, default=0, help="of what is generated")
  parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
  parser.add_argument("--limit", type=float, default=10.0, help="seconds for a command")
  parser.add_argument("--main", choices=MAINS, help="of this main alone")
  parser.add_argument("--csv", help="file to write the table to")
  given = parser.parse_args()
  start.need("hypothesis", "pytest", extra="test")
  with tempfile.TemporaryDirectory() as home:
    trained = train(pathlib.Path(home))
    commands = [bad for bad in collect(given) if given.main in (None, bad.main)]
    run = functools.partial(run_once, home=home, trained=trained, limit=given.limit)
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
      endings = list(pool.map(run, commands))
    # Other work on the machine may have made a command too slow, so it is run again by itself.
    endings = [
      run(bad) if ending.seconds >= given.limit else ending
      for bad, ending in zip(commands, endings)
    ]
  wrong = [(*pair, why) for pair in zip(commands, endings) if (why := complaints(*pair))]
  rows = table(commands, endings)
  for row in rows:
    print(f"{row[0]:18}" + "".join(f"{cell!s:>17}" for cell in row[1:]))
  for bad, ending, why in wrong:
    print(f"\n{bad.main} {' '.join(map(ascii, bad.arguments))}\n  {'; '.join(why)}")
    print("  " + "\n  ".join(ascii(line) for line in ending.stderr.splitlines()[-5:]))
  if given.csv:
    with open(given.csv, "w", newline="") as file:
      csv.writer(file).writerows(rows)
  sys.exit(1 if wrong else 0)


def collect(given: argparse.Namespace) -> list[Bad]:
  """Collects the named mistakes, and for each main and kind some generated ones."""
  # These need hypothesis, and --help does not.
  from refusals.cases import named
  from refusals.inputs import draw, generated

  found = dict.fromkeys(named())
  for i, name in enumerate(MAINS):
    for kind, strategy in generated(name, read_definitions(name)).items():
      number = given.number * (3 if kind in DEEP else 1)
      found |= dict.fromkeys(draw(strategy, number, given.seed + i))
  return list(found)


def train(home: pathlib.Path) -> pathlib.Path:
  """Trains a run with an evaluation, for the command lines of `experiments.evaluate`."""
  workdir = home / "trained"
  short = ["--hidden_dim=5", "--num_examples=200", "--num_importance_samples=0"]
  how = ["--importance_samples=1000", "--num_points=25"]
  for name, arguments in (("train", short), ("evaluate", how)):
    command = [sys.executable, "-m", f"experiments.{name}", *arguments, f"--workdir={workdir}"]
    subprocess.run(command, cwd=home, env=environment(home), check=True, capture_output=True)
  return workdir


def environment(home: os.PathLike, num_devices: int = 1) -> dict[str, str]:
  """Returns an environment in which caches are in `home` and no server is reached."""
  ours = dict(
    HOME=str(home),
    XDG_CACHE_HOME=f"{home}/cache",
    PYTHONPATH=str(ROOT),
    JAX_NUM_CPU_DEVICES=str(num_devices),
    http_proxy=NO_NETWORK,
    https_proxy=NO_NETWORK,
  )
  return {"JAX_PLATFORMS": "cpu"} | os.environ | ours


def prepare(place: pathlib.Path, bad: Bad, trained: pathlib.Path | None) -> list[str]:
  """Prepares the files that a command finds in its directory, and returns its arguments there."""
  (place / "file").write_text("years of work")
  (place / "full").mkdir()
  (place / "full" / "thesis.tex").write_text("years of work")
  (place / "binary").write_bytes(bytes(range(256)))
  for name, contents in (("binary_flags", bytes(range(256))), ("bad_flags", b"--latent_dim=x\n")):
    (place / name).mkdir()
    (place / name / "flags.txt").write_bytes(contents)
  arguments = [argument.replace("{place}", str(place)) for argument in bad.arguments]
  if any("workdir" in argument for argument in arguments) or bad.main == "data":
    return arguments
  if bad.main == "evaluate" and trained is not None:
    shutil.copytree(trained, place / "run")
  return [f"--workdir={place}/run", *arguments]


def run_once(bad: Bad, *, home: str, trained: pathlib.Path, limit: float) -> Ending:
  """Runs a command as a user would, in a directory of its own."""
  with tempfile.TemporaryDirectory() as directory:
    place = pathlib.Path(directory)
    arguments = prepare(place, bad, trained)
    before, began = snapshot(place), time.perf_counter()
    command = [sys.executable, "-m", f"experiments.{bad.main}", *arguments]
    how = dict(cwd=place, env=environment(home, bad.num_devices), capture_output=True)
    try:
      done = subprocess.run(command, timeout=limit, **how)
      status, output = done.returncode, (done.stdout, done.stderr)
    except subprocess.TimeoutExpired as late:
      status, output = -9, (late.stdout or b"", late.stderr or b"")
    seconds = time.perf_counter() - began
    output = [text.decode(errors="replace").replace(directory, "{place}") for text in output]
    return Ending(status, *output, seconds, changes(before, snapshot(place)))


def snapshot(place: pathlib.Path) -> dict[str, tuple[int, int]]:
  """Returns the sizes and times of all files in a directory."""
  found = {str(path.relative_to(place)): path.stat() for path in place.rglob("*")}
  return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def changes(before: dict, after: dict) -> list[str]:
  return sorted(name for name in before | after if before.get(name) != after.get(name))


def complaints(bad: Bad, ending: Ending) -> list[str]:
  """Returns how the end of a command breaks the rules; nothing if it follows them."""
  lines, why = ending.stderr.splitlines(), []
  if ending.status <= 0:
    why.append(f"status {ending.status}" if ending.status != -9 else "killed, or too slow")
  if ending.stdout:
    why.append(f"{len(ending.stdout)} characters on standard output")
  if ending.changed:
    why.append(f"changed: {' '.join(ending.changed)}")
  if len(lines) != 1 or not lines[0].startswith("error: "):
    return [*why, f"{len(lines)} lines on standard error"]
  names, values = zip(*(argument.lstrip("-").partition("=")[::2] for argument in bad.arguments))
  named = any(word and word in lines[0] for word in (*names, *values, *bad.arguments))
  # If two flags do not go together, the line may name the other one, which has its default.
  if not (named or bad.kind in NAMED and lines[0].startswith("error: --")):
    why.append("names neither the flag nor its value")
  line = re.sub(r"/\S*/place\b", "", lines[0])  # the directory that it is tried in
  for value in values:
    value = value.removeprefix("{place}")
    line = line.replace(value, "") if len(value) > 30 else line
  if len(line) > LENGTH:
    why.append(f"a line of {len(line)} characters")
  return why


def table(commands: list[Bad], endings: list[Ending]) -> list[list]:
  """Makes a row for each kind of mistake: counts by main, how many refused, the slowest time."""
  pairs = collections.defaultdict(list)
  for bad, ending in zip(commands, endings):
    pairs[bad.kind].append((bad, ending))
  pairs["all"] = list(zip(commands, endings))
  rows = [list(COLUMNS)]
  for kind, some in pairs.items():
    counts = collections.Counter(bad.main for bad, _ in some)
    refused = sum(not complaints(*pair) for pair in some)
    slowest = max(ending.seconds for _, ending in some)
    rows.append([kind, *(counts[name] for name in MAINS), refused, f"{slowest:.1f}"])
  return rows


if __name__ == "__main__":
  main()
