"""Runs with an edited record, or resumed in another environment: refused, or with a warning."""

import functools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tortures import contract, runs
from tortures.kills import newest
from tortures.runs import Case, Lab, Outcome

EVALUATE = ("--num_points=20", "--importance_samples=20")
NOT_PARTITIONABLE = dict(JAX_THREEFRY_PARTITIONABLE="false")
RBG = dict(JAX_DEFAULT_PRNG_IMPL="rbg")
# A field of config.json, and another value for it.
FIELDS = {
  "latent_dim": ("model", "latent_dim", 3),
  "seed": (None, "seed", 5),
  "binarization": ("data", "binarization", "threshold"),
}
EDITED_FILE = Path("aevb_jax/estimators/sgvb.py")
CODE = ("aevb_jax", "experiments", "scripts", "pyproject.toml")
NOT_CODE = shutil.ignore_patterns("results", "__pycache__", "*.pyc")


def cases(lab: Lab) -> Iterator[Case]:
  """Yields the attacks that must be refused, and then those that must give a warning."""
  refused: dict[str, Callable[[Lab, str], Outcome]] = {
    "step renamed": _renamed,
    "seed lost": functools.partial(_flagfile, loses="--seed=3\n"),
    "flagfile": functools.partial(_flagfile, loses=""),
  }
  for field in FIELDS:
    refused[f"config.json {field}"] = functools.partial(_evaluated, field=field, file="config.json")
    refused[f"flags.txt {field}"] = functools.partial(_evaluated, field=field, file="flags.txt")
  refused["rbg"] = _other_keys
  refused["not partitionable"] = functools.partial(_elsewhere, env=NOT_PARTITIONABLE)
  refused["edited code"] = _edited_code
  for what, check in refused.items():
    name = f"resumed/{what}"
    yield Case(name, functools.partial(check, lab, name))


def _renamed(lab: Lab, name: str) -> Outcome:
  """Gives the newest checkpoint the name of another step."""
  workdir = contract.copied(lab, name, contract.stopped(lab))
  step = newest(workdir)
  checkpoints = workdir / "checkpoints"
  (checkpoints / str(step)).rename(checkpoints / str(step + 7))
  ended = contract.train(lab, lab.flags_of("short"), workdir)
  problems = contract.faults(ended, 2)
  if not problems:
    (checkpoints / str(step + 7)).rename(checkpoints / str(step))
    problems += contract.resumes(lab, workdir, "short", step)
  return contract.outcome(problems, "refused", workdir)


def _other_keys(lab: Lab, name: str) -> Outcome:
  """Resumes with a generator whose keys are of another size, so that none can be restored."""
  workdir = contract.copied(lab, name, contract.stopped(lab))
  step = newest(workdir)
  ended = contract.train(lab, lab.flags_of("short"), workdir, env=RBG)
  problems = contract.faults(ended, 2, line=".*the random generator was .* and is rbg.*")
  if not problems:
    problems += contract.resumes(lab, workdir, "short", step)
  return contract.outcome(problems, "refused", workdir)


def _flagfile(lab: Lab, name: str, loses: str) -> Outcome:
  """Resumes a run by its own flags.txt, which may have lost a line."""
  workdir = contract.copied(lab, name, contract.stopped(lab, "seeded"))
  step, file = newest(workdir), workdir / "flags.txt"
  text = file.read_text()
  assert loses in text
  file.write_text(text.replace(loses, "", 1))
  given = (f"--flagfile={file}", "--checkpoint_every=0")
  if loses:
    problems = contract.faults(contract.train(lab, given, workdir), 2)
    problems += contract.lost(workdir, runs.steps(contract.stopped(lab, "seeded")))
    if not problems:
      file.write_text(text)  # as the error asks
      problems += contract.resumes(lab, workdir, "seeded", step)
  else:
    problems = contract.faults(contract.train(lab, given, workdir), 0)
    problems += contract.resumes(lab, workdir, "seeded", step)
  return contract.outcome(problems, "refused" if loses else "resumed", workdir)


def _evaluated(lab: Lab, name: str, field: str, file: str) -> Outcome:
  """Edits the configuration of a finished run, and evaluates it."""
  workdir = contract.copied(lab, name, runs.uninterrupted(lab, "short"))
  config, flags = workdir / "config.json", workdir / "flags.txt"
  part, key, value = FIELDS[field]
  if file == "config.json":
    contents = json.loads(config.read_text())
    (contents[part] if part else contents)[key] = value
    config.write_text(json.dumps(contents, indent=2) + "\n")
  else:
    config.unlink()
    text, number = re.subn(rf"--{field}=.*", f"--{field}={value}", flags.read_text())
    assert number == 1
    flags.write_text(text)
  ended = contract.train(lab, EVALUATE, workdir, main="evaluate")
  problems = contract.faults(ended, 2)
  if ended.status == 0:
    problems.append(f"it evaluated {ended.out.splitlines()[:1]}")
  return contract.outcome(problems, "refused", workdir)


def _elsewhere(lab: Lab, name: str, env: dict | None = None, root: Path = runs.ROOT) -> Outcome:
  """Resumes a run with a change that affects its numbers; one warning names the change."""
  workdir = contract.copied(lab, name, contract.stopped(lab))
  step = newest(workdir)
  ended = contract.train(lab, lab.flags_of("short"), workdir, env=env, root=root)
  problems = contract.faults(ended, 0)
  if not re.fullmatch(r"warning: [^\n]+\n", ended.err):
    problems.append(f"on standard error is {ended.err[:500]!r}, and not one warning")
  if f"resuming after {step * contract.BATCH_SIZE:,} " not in ended.out:
    problems.append(f"it does not resume from step {step}: {ended.out[:200]!r}")
  return contract.outcome(problems, "warned", workdir)


def _edited_code(lab: Lab, name: str) -> Outcome:
  """Resumes a run with a copy of the program that has an additional comment."""
  root = lab.new(f"{name} checkout")
  for path in CODE:
    source = runs.ROOT / path
    if source.is_dir():
      shutil.copytree(source, root / path, ignore=NOT_CODE)
    else:
      shutil.copy(source, root / path)
  with open(root / EDITED_FILE, "a") as code:
    code.write("# A comment that changes nothing.\n")
  return _elsewhere(lab, name, root=root)
