"""Training in several processes gives the numbers of one, even if a process is killed."""

import csv
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
SHORT = ["--hidden_dim=20", "--latent_dim=3", "--num_importance_samples=0"]
SHORT += ["--num_examples=40000", "--eval_every=2000"]
NUM_ROWS = 20


needs_proc = pytest.mark.skipif(
  not pathlib.Path("/proc").is_dir(), reason="looks for processes in /proc"
)


def train(*arguments):
  command = [sys.executable, "-m", "experiments.train", *SHORT, *arguments]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def multihost(*arguments):
  """Starts a run in two processes, in a process group of its own."""
  command = ["bash", "scripts/multihost.sh", "2", *SHORT, *arguments]
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  env = os.environ | {"VENV_PYTHON": sys.executable}
  return subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, **pipes)


def rows(workdir):
  """Returns the names of the columns of metrics.csv and its numbers, without the seconds."""
  with open(workdir / "metrics.csv") as file:
    names, *table = csv.reader(file)
  return names[:-1], np.asarray([row[:-1] for row in table], float)


def assert_same_metrics(workdir, other):
  names, table = rows(workdir)
  assert rows(other)[0] == names
  np.testing.assert_allclose(rows(other)[1], table, rtol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The directory of the same run by one process."""
  workdir = tmp_path_factory.mktemp("runs") / "alone"
  result = train(f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  return workdir


@pytest.mark.long
def test_two_processes_train_as_one_each_with_its_shard(alone, tmp_path):
  workdir = tmp_path / "run"
  process = multihost("--max_resident_mb=0", f"--workdir={workdir}")
  output, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors
  assert errors == ""
  assert len(rows(alone)[1]) == NUM_ROWS
  assert_same_metrics(alone, workdir)
  flags = (workdir / "flags.txt").read_text()
  assert "process" not in flags and "coordinator" not in flags
  assert output.count("test bound") == NUM_ROWS + 1  # only from the first process


@pytest.mark.long
def test_a_sweep_of_two_processes(tmp_path):
  """The members are on different hosts until a step size is selected."""
  flags = ["--num_examples=4000", "--eval_every=2000", "--select_step_size=2000"]
  flags += ["--step_size=0.001,0.01"]
  result = train(*flags, f"--workdir={tmp_path / 'one'}")
  assert result.returncode == 0, result.stderr
  process = multihost(*flags, f"--workdir={tmp_path / 'two'}")
  _, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors
  for name in ("step_size_0.001", "step_size_0.01"):
    assert_same_metrics(tmp_path / "one" / name, tmp_path / "two" / name)
  assert (tmp_path / "two" / "sweep.csv").exists()


def wait_for_rows(workdir, number):
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline:
    file = workdir / "metrics.csv"
    if file.exists() and file.read_text().count("\n") > number:
      return
    time.sleep(0.05)
  raise TimeoutError


def processes_of(group):
  """Yields the number of each process of a session, and its id in the cluster."""
  for path in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      arguments = (path / "cmdline").read_bytes().decode().split("\0")
      session = os.getsid(int(path.name))
    except (OSError, ProcessLookupError):
      continue
    ids = [a.split("=")[1] for a in arguments if a.startswith("--process_id=")]
    if session == group and ids and int(path.name) != group:
      yield int(path.name), int(ids[0])


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
  """A run whose second host was killed after some rows, with metrics.csv as it was then."""
  workdir = tmp_path_factory.mktemp("runs") / "broken"
  process = multihost("--host_timeout=5", "--checkpoint_every=0", f"--workdir={workdir}")
  wait_for_rows(workdir, 2)
  for pid, process_id in processes_of(process.pid):
    if process_id == 1:
      os.kill(pid, signal.SIGKILL)
  began = time.monotonic()
  _, errors = process.communicate(timeout=60)
  seconds = time.monotonic() - began
  return workdir, (workdir / "metrics.csv").read_text(), process.returncode, errors, seconds


@needs_proc
def test_when_a_host_dies_the_others_stop(broken):
  _, metrics, status, errors, seconds = broken
  assert metrics.count("\n") < 1 + NUM_ROWS
  assert status == os.EX_TEMPFAIL, errors
  assert "lost another of the processes" in errors
  assert "Traceback" not in errors and "stack trace" not in errors
  assert seconds < 15


@pytest.mark.long
@needs_proc
def test_a_restart_goes_on(alone, broken):
  workdir, metrics, *_ = broken
  process = multihost(f"--workdir={workdir}")
  _, errors = process.communicate(timeout=120)
  assert process.returncode == 0, errors
  assert_same_metrics(alone, workdir)
  first = metrics.splitlines()[1]  # its seconds stay, too: it was not computed again
  assert (workdir / "metrics.csv").read_text().splitlines()[1] == first


def test_a_directory_of_another_run_stops_all(alone):
  process = multihost("--batch_size=50", f"--workdir={alone}")
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 2
  first, second = sorted(errors.splitlines())
  assert first.startswith(f"error: --workdir={alone}: holds a run with other flags")
  assert "lost another of the processes" in second
