"""Runs that are killed, stopped or damaged keep what was computed, to the last bit."""

import csv
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from aevb_jax.training import checkpoint
from tests.support import processes
from tests.support.processes import wait_until

ROOT = pathlib.Path(__file__).parents[2]
# A chunk has at most 250 steps, and rows are 300 apart: checkpoints must keep the sums of a row.
MCEM = ["--algorithm=mcem", "--binarization=static", "--hidden_dim=20", "--checkpoint_every=0"]
MCEM += ["--num_examples=300000", "--eval_every=30000"]


def run(*arguments, main="train"):
  return processes.run(main, *arguments)


def start(*arguments):
  return processes.start("train", *arguments)


def rows(workdir):
  """Returns metrics.csv without the seconds."""
  try:
    with open(workdir / "metrics.csv") as file:
      return [row[:-1] for row in csv.reader(file)][1:]
  except FileNotFoundError:
    return []


def last_arrays(workdir):
  """Checks the last checkpoint; returns its step and the checksums of all its arrays."""
  checkpoints = workdir / "checkpoints"
  step = checkpoint.steps(checkpoints)[-1]
  checkpoint.check(checkpoints, step)
  return step, checkpoint._contents(checkpoints, step)["arrays"]


def assert_same_run(workdir, other):
  assert rows(workdir) == rows(other)
  assert last_arrays(workdir) == last_arrays(other)
  step, _ = last_arrays(workdir)
  records = [checkpoint.read_record(d / "checkpoints", step) for d in (workdir, other)]
  for record in records:
    (of_run,) = record["runs"].values()
    for row in of_run["rows"]:
      row.pop("seconds")
  assert records[0]["runs"] == records[1]["runs"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  result = run(*MCEM, f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  assert len(rows(workdir)) == 10
  return workdir


@pytest.mark.long
def test_three_kills(whole, tmp_path):
  """The kills come during steps, while a checkpoint is written, and as a row is written.

  A TensorBoard that is open all the time shows every row once.
  """
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  workdir = tmp_path / "run"
  tensorboard = EventAccumulator(str(workdir))
  checkpoints = workdir / "checkpoints"

  def writing():
    return checkpoints.exists() and any("tmp" in path.name for path in checkpoints.iterdir())

  for number in range(3):
    process = start(*MCEM, f"--workdir={workdir}")
    printed = [process.stdout.readline() for _ in range(4 if number else 3)]
    assert ("resuming after" in "".join(printed)) == (number > 0)
    assert printed[-1].split()[1].startswith("samples")  # a row that this process printed
    before = len(rows(workdir))
    wait_until(process, [lambda: True, writing, lambda b=before: len(rows(workdir)) > b][number])
    process.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and errors == ""
    assert not (workdir / "summary.json").exists()
    tensorboard.Reload()
    assert tensorboard.Scalars("step")
  result = run(*MCEM, f"--workdir={workdir}")
  assert result.returncode == 0 and result.stderr == ""
  assert_same_run(workdir, whole)
  tensorboard.Reload()
  shown = [[event.step, event.value] for event in tensorboard.Scalars("step")]
  assert shown == [[int(row[1]), int(row[0])] for row in rows(workdir)]


def flip_a_bit(file):
  contents = bytearray(file.read_bytes())
  contents[len(contents) // 2] ^= 4
  file.write_bytes(contents)


@pytest.mark.long
def test_a_run_that_is_asked_to_stop_and_a_damaged_checkpoint(whole, tmp_path):
  workdir = tmp_path / "run"
  checkpoints = workdir / "checkpoints"
  process = start(*MCEM, f"--workdir={workdir}")
  wait_until(process, lambda: len(checkpoint.steps(checkpoints)) >= 3)
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM
  steps = checkpoint.steps(checkpoints)
  assert len(steps) == checkpoint.NUM_KEPT
  said, error = errors.splitlines()
  assert said == "SIGTERM: stops as soon as it has saved its state"
  assert error == (
    f"error: stopped by SIGTERM; the state after {steps[-1] * 100:,} training samples is in "
    f"{checkpoints}/{steps[-1]}; the same command resumes from there"
  )

  (data,) = (checkpoints / str(steps[-1]) / "state" / "d").iterdir()
  flip_a_bit(data)
  flip_a_bit(checkpoints / str(steps[-2]) / "record" / checkpoint.RECORD_FILE)
  listed = run(f"--workdir={workdir}", "--check", main="status").stdout
  listed = re.sub(r"[\d.]+ MiB", "0.1 MiB", listed)
  assert re.findall(r"checkpoint.*/(\d+): (damaged \(its \w+|\S+ samples.*intact)", listed) == [
    (str(steps[0]), f"{steps[0] * 100:,} samples, 0.1 MiB, intact"),
    (str(steps[1]), "damaged (its record"),
    (str(steps[2]), "damaged (its arrays"),
  ]
  assert run(f"--workdir={workdir}", main="evaluate").returncode == 2

  result = run(*MCEM, f"--workdir={workdir}")
  assert result.returncode == 0
  warnings = result.stderr.splitlines()
  for step, warning in zip(reversed(steps[1:]), warnings, strict=True):
    assert warning.startswith(f"warning: the checkpoint of step {step} is damaged (its ")
    assert (workdir / "checkpoints-damaged" / str(step)).is_dir()
  assert f"resuming after {steps[0] * 100:,}" in result.stdout
  assert_same_run(workdir, whole)


def test_an_interrupt_stops_and_a_second_one_at_once(tmp_path):
  workdir = tmp_path / "run"
  # A chunk of 250 steps takes many seconds.
  slow = ["--hidden_dim=1500", "--batch_size=1400", "--num_examples=100000000"]
  process = start(*slow, f"--workdir={workdir}")
  wait_until(process, lambda: (workdir / "metrics.csv").exists())
  # A second run is refused while the first one lives, and no longer.
  second = run(*slow, f"--workdir={workdir}")
  assert second.returncode == 2 and len(second.stderr.splitlines()) == 1
  assert f"is in use by process {process.pid} on" in second.stderr
  process.send_signal(signal.SIGINT)
  said = process.stderr.readline()
  assert said == "SIGINT: stops as soon as it has saved its state; again to stop at once\n"
  began = time.time()
  process.send_signal(signal.SIGINT)
  _, errors = process.communicate(timeout=60)
  assert time.time() - began < 3
  assert process.returncode == 130 and errors.startswith("error: ended before it was saved")
  assert len(errors.splitlines()) == 1
  process = start(*slow, f"--workdir={workdir}")
  assert "images, on cpu" in process.stdout.readline()
  process.kill()
  process.wait()


FAULTY = ["--estimator=tests.support.my_estimators:without_a_gradient_where_bright"]
FAULTY += ["--binarization=threshold", "--hidden_dim=20", "--num_examples=3000"]
FAULTY += ["--eval_every=1000", "--num_importance_samples=0"]


@pytest.mark.long
def test_a_gradient_that_is_not_finite_stops_the_run_at_its_step(tmp_path):
  import jax

  from aevb_jax.data import datasets
  from aevb_jax.data.minibatches import minibatch_indices, order_key
  from aevb_jax.runs import job
  from aevb_jax.runs.config import Config
  from tests.support.my_estimators import BRIGHT

  workdir = tmp_path / "run"
  result = run(*FAULTY, f"--workdir={workdir}")
  images = np.asarray(datasets.load("digits").train)
  bright = np.flatnonzero((images > 127).sum(axis=1) > BRIGHT)
  keys = job.new_run(workdir, Config(), Config()).keys
  order = minibatch_indices(order_key(keys.fit), 0, 30, num_data=len(images), batch_size=100)
  faulty = [t for t in range(30) if np.isin(order[t], bright).any()]
  assert len(bright) == 3 and len(faulty) > 3 and jax.default_backend() == "cpu"

  assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
  words = r"error: step (\d+): the bound is -[\d.]+, its gradient or the update not finite; "
  words += r"every term of the bound is finite, but its gradient or update is not: .*theta.*; "
  words += r"the state after ([\d,]+) training samples is in .*; the same command resumes from "
  words += r"there; a smaller --step_size, or --on_nonfinite=skip, may help"
  step, saved = re.fullmatch(words, result.stderr.strip()).groups()
  assert int(step) == faulty[0] + 1
  assert int(saved.replace(",", "")) == faulty[0] // 10 * 1000  # before the chunk of ten steps
  last_arrays(workdir)

  # The same run can be resumed without its faulty steps.
  result = run(*FAULTY, "--on_nonfinite=skip", f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  assert f"step {faulty[0] + 1}: the bound is" in result.stdout
  assert f"steps left out       {len(faulty)}, whose" in result.stdout
  assert json.loads((workdir / "summary.json").read_text())["skipped_steps"] == len(faulty)
  assert np.isfinite(np.asarray(rows(workdir), float)).all() and len(rows(workdir)) == 3
  listed = run(f"--workdir={workdir}", main="status").stdout
  assert f"{len(faulty)} steps left out" in listed and "finished: 3,000 of 3,000" in listed


def test_a_bound_that_is_never_finite(tmp_path):
  workdir = tmp_path / "run"
  flags = ["--estimator=tests.support.my_estimators:never_finite", *FAULTY[1:]]
  for policy, saved, words in (
    ("stop", 0, "step 1: "),
    ("skip", "2,000", "each of the last 30 steps failed: step 21: "),
  ):
    result = run(*flags, f"--on_nonfinite={policy}", f"--workdir={workdir}")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"error: {words}the bound is nan; every term of the bound is")
    assert f"the state after {saved} training samples" in result.stderr
    assert last_arrays(workdir)[0] == int(str(saved).replace(",", "")) // 100


@pytest.mark.long
def test_nothing_is_unpickled_and_nobody_called(tmp_path):
  flags = [
    "--hidden_dim=20",
    "--num_examples=2000",
    "--eval_every=1000",
    f"--workdir={tmp_path}/run",
  ]
  audited = [sys.executable, str(ROOT / "tests" / "support" / "audited.py")]

  def run_audited(main, *arguments):
    return subprocess.run(
      [*audited, f"experiments.{main}", *arguments],
      cwd=ROOT,
      env=os.environ | {"PYTHONPATH": str(ROOT)},
      capture_output=True,
      text=True,
      timeout=300,
    )

  assert run_audited("train", *flags).returncode == 0
  os.unlink(tmp_path / "run" / "summary.json")  # as if the run had ended just before writing it
  again = run_audited("train", *flags)
  assert again.returncode == 0 and "resuming after 2,000" in again.stdout
  evaluated = run_audited("evaluate", flags[-1], "--num_points=10", "--importance_samples=20")
  assert evaluated.returncode == 0
  seen = subprocess.run([*audited, "pickletools"], capture_output=True, text=True)
  assert seen.returncode == 0  # a harmless program passes; the following must not:
  program = "import sys, tests.support.audited as a; sys.addaudithook(a.audit); "
  for forbidden in (
    "import pickle; pickle.loads(pickle.dumps(ValueError()))",
    "import socket; socket.create_connection(('localhost', 9))",
  ):
    seen = subprocess.run(
      [sys.executable, "-c", program + forbidden], cwd=ROOT, capture_output=True
    )
    assert seen.returncode == 99


def test_inspect(whole, tmp_path):
  result = run(f"--workdir={whole}", "--check", main="status")
  assert result.returncode == 0 and result.stderr == ""
  for words in (
    "--dataset=digits --algorithm=mcem",
    "finished: 300,000 of 300,000 training samples (100 %)",
    "10, the last after 300,000 samples: recent log joint",
    f"{whole}/checkpoints/3000: 300,000 samples",
    f"python -m experiments.train --flagfile={whole}/flags.txt --workdir={whole}",
  ):
    assert words in result.stdout
  # One run was interrupted before its first checkpoint, the other after its last.
  begun, ended = tmp_path / "begun", tmp_path / "ended"
  begun.mkdir()
  shutil.copy(whole / "flags.txt", begun)
  shutil.copytree(whole, ended)
  (ended / "summary.json").unlink()
  for workdir, state in (
    (begun, "not finished: 0 of 300,000"),
    (ended, "not finished: trained (300,000 of 300,000"),
  ):
    result = run(f"--workdir={workdir}", main="status")
    assert result.returncode == 0 and state in result.stdout
  finished = run(*MCEM, f"--workdir={ended}")  # the flags of the command that status prints
  assert finished.returncode == 0 and (ended / "summary.json").exists()


def test_status_of_what_cannot_be_opened(whole, tmp_path):
  """The runs come from an older version, from a newer one, and from a missing estimator."""
  flags = (whole / "flags.txt").read_text().replace("--posterior=gaussian", "--latents=gaussian")
  odd = {
    "older": flags,
    "newer": flags + "--unheard_of=3\n",
    "elsewhere": flags.replace("--algorithm=mcem", "--estimator=no.such:thing"),
  }
  for name, text in odd.items():
    workdir = tmp_path / name
    shutil.copytree(whole, workdir)
    (workdir / "config.json").unlink()
    (workdir / "flags.txt").write_text(text)
    result = run(f"--workdir={workdir}", main="status")
    assert result.returncode == 0 and result.stderr == ""
    assert "finished: 300,000 of 300,000 training samples (100 %)" in result.stdout
  assert "--estimator=no.such:thing" in result.stdout


def test_status_of_a_sweep(tmp_path):
  sweep = ["--step_size=0.001,0.01", "--hidden_dim=20", "--num_examples=2000"]
  sweep += ["--eval_every=1000", "--num_importance_samples=0", f"--workdir={tmp_path / 'sweep'}"]
  assert run(*sweep).returncode == 0
  result = run(f"--workdir={tmp_path / 'sweep'}", "--check", main="status")
  assert result.returncode == 0, result.stderr
  lines = result.stdout.splitlines()
  assert "--step_size=0.001,0.01" in lines[0] and "finished: 2,000 of 2,000" in lines[1]
  for name in ("step_size_0.001", "step_size_0.01"):
    (last, best) = (line for line in lines if line.split()[0] == name)
    assert "2, the last after 2,000 samples: test bound" in last and "the best after" in best
    member = run(f"--workdir={tmp_path / 'sweep' / name}", main="status")
    assert member.returncode == 0 and "finished: 2,000 of 2,000" in member.stdout


@pytest.mark.parametrize(
  "flags, words",
  [
    ([], "--workdir=None: names the directory of a run"),
    (["--workdir=/nowhere"], "holds no run (there is no flags.txt)"),
    ([f"--workdir={__file__}"], "holds no run"),
    (["--workdir=x", "--dataset=mnist"], "Unknown command line flag 'dataset'"),
  ],
)
def test_what_inspect_refuses(flags, words):
  result = processes.run("status", *flags)
  assert result.returncode == 2 and result.stdout == ""
  (line,) = result.stderr.splitlines()
  assert line.startswith("error: ") and words in line
