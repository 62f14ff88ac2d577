"""The package as users install it: a wheel, outside the clone, whose mains are commands."""

import configparser
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import venv
import zipfile

import pytest

from tests.support import processes

ROOT = pathlib.Path(__file__).parents[2]
MAINS = sorted(
  path.stem for path in ROOT.glob("experiments/*.py") if "command.run(main)" in path.read_text()
)
SHORT = ["--hidden_dim=8", "--num_examples=2000", "--eval_every=1000", "--num_importance_samples=0"]
MINE = "from aevb_jax import elbo_a\n\n\ndef mine(key, model, params, x, *, num_samples=1):\n"
MINE += "  return elbo_a(key, model, params, x, num_samples=num_samples)\n"
OPENED = """
import json, aevb_jax, experiments
from aevb_jax import figures, runs
from aevb_jax.runs import files
run = runs.load("runs/digits", array_cache_dir=None)
again = runs.train(runs.replace(run.config, num_examples=1000), "runs/python", array_cache_dir=None)
print(json.dumps(dict(
  places=[aevb_jax.__file__, experiments.__file__], version=aevb_jax.__version__,
  commit=files.git_commit(), noted=run.summary["git_commit"],
  rows=[[row["examples_seen"] for row in one.metrics] for one in (run, again)],
)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """The wheel, built from a copy, because setuptools leaves its work beside the sources."""
  if int(importlib.metadata.version("setuptools").partition(".")[0]) < 77:
    pytest.skip("pyproject.toml needs setuptools 77 or newer: pip install setuptools>=77")
  copy, built = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
  for folder in ("aevb_jax", "experiments", "scripts", "tests"):
    shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
  for file in ("pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / file, copy)
  build = f"from setuptools import build_meta; print(build_meta.build_wheel({str(built)!r}))"
  done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  (path,) = built.glob("*.whl")
  return path


def environment():
  """Returns the environment without the clone."""
  return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
  """The commands of the wheel, in an environment that sees the dependencies but not the clone."""
  place = tmp_path_factory.mktemp("venv")
  venv.create(place, with_pip=False)
  (packages,) = place.glob("lib/python*/site-packages")
  there = [path for path in sys.path if pathlib.Path(path).name in ("site-packages", "extra")]
  # Files *.pth in these directories, which an editable clone has, are not read.
  (packages / "dependencies.pth").write_text("\n".join(there) + "\n")
  pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "-q"]
  subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, env=environment())
  return place / "bin"


def start(*command, cwd):
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  return subprocess.Popen([str(part) for part in command], cwd=cwd, env=environment(), **pipes)


def run(*command, cwd):
  process = start(*command, cwd=cwd)
  output, errors = process.communicate(timeout=300)
  return process.returncode, output, errors


def test_what_is_in_the_wheel(wheel):
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
    (entries,) = [name for name in names if name.endswith("entry_points.txt")]
    scripts = configparser.ConfigParser()
    scripts.read_string(archive.read(entries).decode())
  sources = {
    str(path.relative_to(ROOT))
    for folder in ("aevb_jax", "experiments")
    for path in (ROOT / folder).rglob("*.py")
  }
  data = {"aevb_jax/py.typed", "aevb_jax/figures.mplstyle"}
  assert {name for name in names if ".dist-info/" not in name} == sources | data
  assert any(name.endswith("/LICENSE") for name in names)
  commands = {f"aevb-{main.replace('_', '-')}" for main in [*MAINS, "plots"]}
  assert len(commands) > 15 and set(scripts["console_scripts"]) == commands
  assert set(scripts["console_scripts"].values()) == {"experiments.launch.console:main"}


def test_it_trains_and_opens(installed, tmp_path):
  (tmp_path / "my_module.py").write_text(MINE)
  flags = [*SHORT, "--workdir=runs/digits", "--estimator=my_module:mine", "--array_cache_dir="]
  status, output, errors = run(installed / "aevb-train", *flags, cwd=tmp_path)
  assert status == 0 and errors == "", errors
  assert output.startswith("digits, dynamic binarization") and "test bound" in output
  status, output, errors = run(installed / "python", "-c", OPENED, cwd=tmp_path)
  assert status == 0, errors
  said = json.loads(output.splitlines()[-1])
  assert all(place.startswith(str(installed.parent)) for place in said["places"])
  assert (
    said["version"]
    == re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
  )
  assert said["commit"] is None and said["noted"] is None
  assert said["rows"] == [[1000, 2000], [1000]]


def test_flags_help_and_mistakes_are_those_of_the_main(installed, tmp_path):
  """All of them are started at once, because most of their time is that of imports."""
  given = ["--latent_dims=10"], ["--helpshort"], ["--help"]
  ways = [installed / "aevb-train"], [installed / "python", "-m", "experiments.train"]
  started = [[start(*way, *words, cwd=tmp_path) for way in ways] for words in given]
  ended = [
    [(*process.communicate(timeout=300), process.returncode) for process in both]
    for both in started
  ]
  assert all(command == module for command, module in ended)
  (_, errors, status), helpshort, help = [command for command, _ in ended]
  assert status == 2 and len(errors.splitlines()) == 1
  assert errors.startswith(
    "error: Unknown command line flag 'latent_dims'. Did you mean: latent_dim"
  )
  assert helpshort[2] == help[2] == 0 and helpshort[0].startswith("Trains a variational")
  assert "--workdir" in helpshort[0] and "machine flags:" in help[0]
  assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_every_command_explains_itself(installed, tmp_path):
  for command in sorted(installed.glob("aevb-*")):
    status, output, errors = run(command, "--helpshort", cwd=tmp_path)
    assert status == 0 and errors == "" and "flags, with their defaults:" in output, command
  other = installed / "aevb-no-such-main"
  shutil.copy(installed / "aevb-train", other)
  try:
    status, _, errors = run(other, cwd=tmp_path)
    assert (
      status == 1
      and errors == f"error: {other.name}: is not the name of a main with aevb- before it\n"
    )
  finally:
    other.unlink()


@pytest.mark.long
def test_an_interrupt_and_a_figure_of_several_runs(installed, tmp_path):
  """The runs of a figure are started by its main, in processes of their own."""
  long = ["--hidden_dim=8", "--num_examples=100000000", "--workdir=run", "--checkpoint_every=0"]
  command = processes.hearing([str(installed / "aevb-train"), *long])
  process = start(*command, cwd=tmp_path)
  metrics = tmp_path / "run" / "metrics.csv"
  processes.wait_until(process, lambda: metrics.exists() and metrics.read_text().count("\n") > 1)
  process.send_signal(signal.SIGINT)
  _, errors = process.communicate(timeout=120)
  said, error = errors.splitlines()
  assert process.returncode == 130 and said.startswith("SIGINT: stops as soon as it has saved")
  assert re.search("error: stopped by SIGINT; .*; the same command resumes from there", error)
  flags = ["--budget=smoke", "--dataset=digits", "--workdir=figure", "--runs=runs"]
  status, output, errors = run(installed / "aevb-samples", *flags, cwd=tmp_path)
  assert status == 0, errors
  assert {"samples.png", "summary.json"} <= {path.name for path in (tmp_path / "figure").iterdir()}


@pytest.mark.long
def test_with_its_dependencies_from_the_package_index(wheel, tmp_path):
  place = tmp_path / "venv"
  venv.create(place, with_pip=True)
  pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q"]
  if subprocess.run(
    [*pip, "--dry-run", "absl-py"], capture_output=True, env=environment()
  ).returncode:
    pytest.skip("there is no package index")
  subprocess.run([*pip, str(wheel)], check=True, env=environment(), timeout=1500)
  status, output, errors = run(place / "bin" / "aevb-train", *SHORT, "--workdir=run", cwd=tmp_path)
  assert status == 0 and "test bound" in output, errors
