"""Standard streams that are closed, full or ASCII, which must not cost any training."""

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tortures import compare, contract, runs
from tortures.runs import Case, Ended, Lab, Outcome

FULL = r"standard output could not be written \(No space left on device\)"


class Streams(NamedTuple):
  """The streams of a run, and how it has to end."""

  first: str = ""  # code that runs in the process before the run
  env: tuple[tuple[str, str], ...] = ()
  status: int = 0
  line: str = ".+"


# Buffered, as they are by default: what is left in a buffer is written at the very end.
BUFFERED = dict(PYTHONUNBUFFERED=None)
STREAMS = {
  "stdout closed": Streams("import os; os.close(1)"),
  "stderr closed": Streams("import os; os.close(2)"),
  "both closed": Streams("import os; os.close(1); os.close(2)"),
  "all closed": Streams("import os; os.close(0); os.close(1); os.close(2)"),
  "stdout full": Streams(
    "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)", status=os.EX_IOERR, line=FULL
  ),
  "ascii": Streams(env=(("PYTHONIOENCODING", "ascii"),)),
}
# Commands that print enough for a reader that takes a line and leaves.
HEADS = {"help": ("train", "--help"), "status": ("status",), "data": ("data", "--contact_sheet=")}


def cases(lab: Lab) -> Iterator[Case]:
  """Yields whole runs with each kind of stream, and mains whose reader leaves."""
  for what, streams in STREAMS.items():
    name = f"output/{what}"
    yield Case(name, functools.partial(_ends, lab, name, streams))
  yield Case("output/reader gone", functools.partial(_reader_gone, lab, "output/reader gone"))
  for what, (main, *arguments) in HEADS.items():
    name = f"output/head of {what}"
    yield Case(name, functools.partial(_head, lab, main, arguments))


def _ends(lab: Lab, name: str, streams: Streams) -> Outcome:
  workdir = lab.new(name)
  env = BUFFERED | dict(streams.env)
  ended = contract.train(lab, lab.flags_of("short"), workdir, first=streams.first, env=env)
  problems = contract.faults(ended, streams.status, line=streams.line)
  problems += compare.differences(workdir, runs.uninterrupted(lab, "short"))
  return contract.outcome(problems, "ended", workdir)


def _reader_gone(lab: Lab, name: str) -> Outcome:
  """Reads a line of the output of a run, and closes the pipe."""
  workdir, (reading, writing) = lab.new(name), os.pipe()
  with open(writing, "w") as pipe:
    started = runs.start(lab, lab.flags_of("short"), workdir, stdout=pipe, env=BUFFERED)
  with open(reading) as reader:
    reader.readline()
  problems = contract.faults(runs.end(started, contract.SECONDS_TO_ANSWER), 0)
  problems += compare.differences(workdir, runs.uninterrupted(lab, "short"))
  return contract.outcome(problems, "ended", workdir)


def _head(lab: Lab, main: str, arguments: list[str]) -> Outcome:
  """Pipes the output of a main into `head -1`."""
  if main == "status":
    arguments = [f"--workdir={runs.uninterrupted(lab, 'short')}"]
  command = shlex.join([sys.executable, "-m", f"experiments.{main}", *arguments])
  script = f"{command} | head -1; exit ${{PIPESTATUS[0]}}"
  environment = runs.environment(lab, changed=BUFFERED)
  done = subprocess.run(
    ["bash", "-c", script], capture_output=True, text=True, env=environment, cwd=lab.directory,
    timeout=contract.SECONDS_TO_ANSWER,
  )  # fmt: skip
  problems = contract.faults(Ended(done.returncode, done.stdout, done.stderr), 0)
  if done.stdout.count("\n") != 1:
    problems.append(f"it printed {done.stdout[:200]!r}")
  return contract.outcome(problems, "ended")
