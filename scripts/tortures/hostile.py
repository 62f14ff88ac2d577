"""Estimators that end the program or raise unexpected errors, and processes with few resources."""

import functools
import resource
from collections.abc import Iterator
from pathlib import Path

from tortures import compare, contract, runs
from tortures.runs import Case, Ended, Lab, Outcome

ESTIMATORS = {
  "exits at import": "import sys\nsys.exit(0)\n",
  "exits when called": "import sys\n\n\ndef bound(*args, **kwargs):\n  sys.exit(0)\n",
  "interrupts at import": "raise KeyboardInterrupt\n",
  "interrupts when called": "def bound(*args, **kwargs):\n  raise KeyboardInterrupt\n",
  "raises at import": "raise RuntimeError('two\\nlines')\n",
  "attributes raise": """
class Hostile:
  def __getattr__(self, name):
    raise RuntimeError(f"no {name} here")

  def __call__(self, *args, **kwargs):
    raise RuntimeError("not to be called")


bound = Hostile()
""",
  "module attributes raise": """
def __getattr__(name):
  raise RuntimeError(f"no {name} here")
""",
}
# The environment of a process that may only write into the directory of its run.
NO_HOME = dict(HOME="/proc", XDG_CACHE_HOME=None, MPLCONFIGDIR=None)
OPEN_FILES = (16, 24, 32, 48, 64, 96, 128)


def cases(lab: Lab) -> Iterator[Case]:
  """Yields estimators, a home that cannot be written, no device, and few open files."""
  for what, code in ESTIMATORS.items():
    name = f"estimators/{what}"
    yield Case(name, functools.partial(_estimator, lab, name, code))
  for what, check in (("no home", _no_home), ("no device", _no_device)):
    name = f"estimators/{what}"
    yield Case(name, functools.partial(check, lab, name))
  for number in OPEN_FILES:
    for resumed in (False, True):
      name = f"estimators/{number} open files{' resumed' if resumed else ''}"
      yield Case(name, functools.partial(_few_files, lab, name, number, resumed))


def _estimator(lab: Lab, name: str, code: str) -> Outcome:
  """Trains with an estimator from a user's file."""
  place, workdir = lab.new(f"{name} code"), lab.new(name)
  place.mkdir()
  (place / "hostile_estimator.py").write_text(code)
  path = f"{runs.environment(lab)['PYTHONPATH']}:{place}"
  flags = (*lab.flags_of("short"), "--estimator=hostile_estimator:bound")
  ended = contract.train(lab, flags, workdir, env=dict(PYTHONPATH=path))
  problems = ["status 0"] if ended.status == 0 else contract.faults(ended, 1, 2, 130)
  if (workdir / "summary.json").exists():
    problems.append("the run is finished")
  return contract.outcome(problems, "one line", workdir, place)


def _no_home(lab: Lab, name: str) -> Outcome:
  """Trains in an environment where no cache can be kept; matplotlib prints its own warning."""
  workdir = lab.new(name)
  ended = contract.train(lab, lab.flags_of("short"), workdir, env=NO_HOME)
  problems = [] if ended.status == 0 else [f"status {ended.status}: {ended.err[:900]!r}"]
  if "Traceback" in ended.err or "error: " in ended.err:
    problems.append(f"more than warnings: {ended.err[:900]!r}")
  problems += compare.differences(workdir, runs.uninterrupted(lab, "short"))
  return contract.outcome(problems, "trained", workdir)


def _no_device(lab: Lab, name: str) -> Outcome:
  """Asks for a GPU while all are hidden, which must end with one line."""
  workdir = lab.new(name)
  env = dict(JAX_PLATFORMS="cuda", CUDA_VISIBLE_DEVICES="")
  ended = contract.train(lab, lab.flags_of("short"), workdir, env=env)
  return contract.outcome(contract.faults(ended, 1, line=".*JAX_PLATFORMS.*"), "one line", workdir)


def _few_files(lab: Lab, name: str, number: int, resumed: bool) -> Outcome:
  """Trains, or resumes, with a limit on open files."""
  source = contract.stopped(lab)
  workdir = contract.copied(lab, name, source) if resumed else lab.new(name)
  runs.uninterrupted(lab, "short")
  hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
  limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({number}, {hard}))"
  ended = contract.train(lab, lab.flags_of("short"), workdir, first=limit)
  problems = contract.refused_or_equal(lab, ended, workdir, "short", 1, 2, 74)
  if resumed:
    problems += contract.lost(workdir, runs.steps(source))
  problems += _again(lab, ended, workdir)
  return contract.outcome(problems, "trained" if ended.status == 0 else "refused", workdir)


def _again(lab: Lab, ended: Ended, workdir: Path) -> list[str]:
  """Runs the same command without the limit, and lists how its result differs."""
  if ended.status == 0:
    return []
  return [f"afterwards: {wrong}" for wrong in contract.resumes(lab, workdir, "short")]
