"""Plants errors in a copy of the package, one at a time: some test must fail for each.

  python scripts/mutate.py            # all of them, about an hour on two cores
  python scripts/mutate.py elbo       # those whose name contains a word
  python scripts/mutate.py flow sign  # those whose name contains all words

Every entry of `mutations/` is one error that an implementation of the paper has made or could
make. A survivor is an error that the suite would let through. Needs the extra `test`, as
scripts/test.sh installs it.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from mutations import (
  algorithms,
  data,
  estimators,
  families,
  inference,
  models,
  ops,
  runs,
  top,
  training,
)
from mutations.mutation import Mutation
from support import start
from support.start import ROOT

ROOMS = (
  estimators, models, algorithms, inference, families, data, training, ops, top, runs
)  # fmt: skip
MUTATIONS = [mutation for room in ROOMS for mutation in room.MUTATIONS]


def main() -> None:
  words = sys.argv[1:]
  if "--help" in words:
    print(__doc__.strip())
    return
  chosen = [m for m in MUTATIONS if all(word in m.name for word in words)]
  if not chosen:
    start.fail(f"no planted error has {' and '.join(map(repr, words))} in its name")
  start.need("pytest", extra="test")
  for mutation in chosen:
    if problem := misplaced(mutation):
      start.fail(f"{mutation.name}: {problem}")
  survivors = [mutation for mutation in chosen if not is_killed(mutation)]
  print(f"{len(chosen) - len(survivors)} of {len(chosen)} planted errors were noticed")
  if survivors:
    sys.exit("survived: " + "; ".join(mutation.name for mutation in survivors))


def module_of(mutation: Mutation) -> pathlib.Path:
  """Returns the path of the module below the root of the repository."""
  folder = "" if mutation.module.startswith("experiments/") else "aevb_jax"
  return pathlib.Path(folder, f"{mutation.module}.py")


def tests_of(mutation: Mutation) -> pathlib.Path:
  """Returns the path of the tests below the root of the repository."""
  room, _, name = (mutation.tests or mutation.module).rpartition("/")
  return pathlib.Path("tests", room, f"test_{name}.py")


def misplaced(mutation: Mutation) -> str | None:
  """Explains why a mutation cannot be planted or noticed; None if it can."""
  for path in (module_of(mutation), tests_of(mutation)):
    if not (ROOT / path).is_file():
      return f"there is no {path}"
  if (ROOT / module_of(mutation)).read_text().count(mutation.old) != 1:
    return f"{mutation.old!r} must stand once in {module_of(mutation)}"
  return None


def is_killed(mutation: Mutation) -> bool:
  with tempfile.TemporaryDirectory() as directory:
    copy = pathlib.Path(directory)
    for name in ("aevb_jax", "experiments", "tests"):
      shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    module = copy / module_of(mutation)
    module.write_text(module.read_text().replace(mutation.old, mutation.new))
    command = [sys.executable, "-m", "pytest", "-x", "--numprocesses=0", "-p", "no:cacheprovider"]
    command.append(str(tests_of(mutation)))
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True)
  failed = [line for line in result.stdout.splitlines() if line.startswith("FAILED")]
  killed = result.returncode == 1 and bool(failed)
  verdict = failed[0].split(" - ")[0].removeprefix("FAILED ") if killed else "SURVIVED"
  print(f"{mutation.name:45} {verdict}", flush=True)
  return killed


if __name__ == "__main__":
  main()
