"""Every script and every main starts from any directory, and says what it needs."""

import os
import pathlib
import subprocess
import sys

import pytest

from experiments.launch import helping
from tests.support import processes

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = sorted((ROOT / "scripts").glob("*.py"))
SHELL_SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
MAINS = [
  f"experiments.{path.stem}"
  for path in sorted((ROOT / "experiments").glob("*.py"))
  if "__main__" in path.read_text()
]
# Libraries that a script needs and the package does not, and how they are installed.
NEEDS = {
  "bad_commands.py": (["hypothesis", "pytest"], "[test]"),
  "mutate.py": (["pytest"], "[test]"),
  "benchmark_families.py": (["numpyro"], "numpyro"),
}
FLAG_OF_GROUP = {
  "data": "binarization",
  "model": "latent_dim",
  "objective": "num_leapfrogs",
  "optimizer": "batch_size",
  "budget": "on_nonfinite",
  "machine": "init_timeout",
  helping.OWN: "seed",
}
FOREIGN = ["hypothesis", "pytest", "numpyro", "torch", "tensorflow", "tensorboard"]

sys.path.append(str(ROOT / "scripts"))


def check_help(result, name):
  assert result.returncode == 0, result.stderr
  assert name in result.stdout and len(result.stdout.splitlines()) >= 2
  assert not result.stderr


def without(libraries, directory):
  """Returns an environment in which each of the libraries seems not to be installed."""
  for name in libraries:
    text = f'raise ModuleNotFoundError("No module named {name}", name="{name}")\n'
    (directory / f"{name}.py").write_text(text)
  return os.environ | {"PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)])}


def start(script, *arguments, cwd, environment=None):
  """Runs a script as a user does, in a process that has imported nothing."""
  command = ["bash"] if script.suffix == ".sh" else [sys.executable]
  environment = environment or os.environ | {"PYTHONPATH": str(ROOT)}
  return subprocess.run(
    [*command, str(script), *arguments],
    cwd=cwd,
    env=environment,
    capture_output=True,
    text=True,
    timeout=120,
  )


def test_there_are_some():
  assert len(PROGRAMS) >= 9 and len(SHELL_SCRIPTS) >= 4 and len(MAINS) >= 15


@pytest.mark.parametrize("script", PROGRAMS, ids=lambda path: path.name)
def test_a_program_prints_its_help_without_any_extra(script, tmp_path):
  shims = tmp_path / "shims"
  shims.mkdir()
  result = start(script, "--help", cwd=tmp_path, environment=without(FOREIGN, shims))
  check_help(result, script.name)
  assert os.listdir(tmp_path) == ["shims"]


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_a_shell_script_prints_its_help(script, tmp_path):
  # The help needs neither VENV_PYTHON nor .venv.
  result = start(script, "--help", cwd=tmp_path, environment={"PATH": os.environ["PATH"]})
  check_help(result, f"scripts/{script.name}")
  assert "set -" not in result.stdout and "#!" not in result.stdout
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize("main", MAINS)
def test_a_main_prints_its_help(main, tmp_path):
  result = processes.python(main, "--help", cwd=tmp_path)
  check_help(result, f"python -m {main}")
  assert "flags:\n" in result.stdout
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize("main", MAINS)
def test_the_short_help_of_a_main_fits_one_screen(main):
  result = processes.python(main, "--helpshort")
  check_help(result, f"python -m {main}")
  lines = result.stdout.splitlines()
  assert len(lines) <= 40 and "--help describes these flags" in lines[-1]
  listed = [line for line in lines[lines.index("flags, with their defaults:") + 1 : -2]]
  assert listed and all(line.startswith("  --") and len(line) <= 80 for line in listed)


def test_the_help_groups_flags_by_what_they_decide():
  text = processes.run("train", "--help").stdout
  places = [text.index(f"\n{name} flags:\n") for name in helping.GROUPS]
  assert places == sorted(places)
  first = {
    name: text[place:].index(f"--{flag}:") + place
    for (name, flag), place in zip(FLAG_OF_GROUP.items(), places)
  }
  ends = [*places[1:], len(text)]
  assert all(first[name] < end for name, end in zip(helping.GROUPS, ends))


def test_all_kinds_of_help_end_well():
  for flag in ("--helpfull", "-h", "-?"):
    assert processes.run("status", flag).returncode == 0
  command = f"{sys.executable} -m experiments.train --help | head -1; exit ${{PIPESTATUS[0]}}"
  result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
  assert (result.returncode, result.stderr) == (0, "") and result.stdout


@pytest.mark.parametrize("script", NEEDS)
def test_what_is_not_installed_is_said_in_a_line(script, tmp_path):
  libraries, installed_by = NEEDS[script]
  for library in libraries:
    shims = tmp_path / library
    shims.mkdir()
    path = ROOT / "scripts" / script
    result = start(path, cwd=tmp_path, environment=without([library], shims))
    assert result.returncode == 2 and not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: this needs {library}, which ")
    assert "-m pip install " in line and f"{installed_by}" in line.split("pip install", 1)[1]


def test_words_that_no_planted_error_has_are_refused(tmp_path):
  result = start(ROOT / "scripts" / "mutate.py", "elbo", "nonsense", cwd=tmp_path)
  assert (result.returncode, result.stdout) == (2, "")
  (line,) = result.stderr.splitlines()
  assert line == "error: no planted error has 'elbo' and 'nonsense' in its name"


def test_every_planted_error_has_its_place_and_its_tests():
  import mutate

  assert len(mutate.MUTATIONS) >= 180
  problems = {m.name: mutate.misplaced(m) for m in mutate.MUTATIONS}
  assert not {name: why for name, why in problems.items() if why}
