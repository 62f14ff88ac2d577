"""experiments.gradients as a user runs it, and the template of an estimator."""

import csv
import json
import signal

import jax
import numpy as np
import pytest

from aevb_jax import elbo_a, iwae
from experiments.my_estimator import tempered
from tests.support import oracles, processes


def run(*arguments):
  return processes.run("gradients", *arguments)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("gradients") / "run"
  result = run(
    "--latent_dim=1",
    "--hidden_dim=10",
    "--at=0,2000",
    "--estimators=elbo_a,elbo_b,score_function,score_function:baseline=moving_average,iwae,dreg,"
    "experiments.my_estimator:tempered",
    "--samples=2",
    "--num_points=3",
    "--num_repeats=1000",
    f"--workdir={workdir}",
  )
  assert result.returncode == 0, result.stderr
  with open(workdir / "gradients.csv") as file:
    return workdir, list(csv.DictReader(file)), result.stdout


def without_times(workdir):
  with open(workdir / "gradients.csv") as file:
    return [row[:-2] for row in csv.reader(file)]


@pytest.mark.long
def test_the_smallest_budget_stopped_and_resumed(tmp_path):
  whole, stopped = tmp_path / "whole", tmp_path / "stopped"
  flags = ["--budget=smoke", "--dataset=digits"]
  result = run(*flags, f"--workdir={whole}")
  assert result.returncode == 0 and result.stderr == ""
  assert "--at=0,1000\n" in (whole / "flags.txt").read_text()

  flags.append(f"--workdir={stopped}")
  process = processes.start("gradients", *flags)
  one_stage = (stopped / "gradients.csv").exists
  status, (said, error) = processes.stop_when(process, one_stage, signal.SIGINT)
  assert status == 130 and said.startswith("SIGINT: stops as soon as")
  assert error.startswith("error: stopped by SIGINT; the state after ")
  assert error.endswith("; the same command resumes from there")
  rows = without_times(stopped)
  assert {row[0] for row in rows} == {"at", "0"} and not (stopped / "summary.json").exists()

  result = run(*flags)
  assert result.returncode == 0 and result.stderr == ""
  assert "\nresuming after " in result.stdout
  assert without_times(stopped) == without_times(whole)
  assert without_times(stopped)[: len(rows)] == rows and len(without_times(whole)) > len(rows)
  summaries = [json.loads((d / "summary.json").read_text()) for d in (whole, stopped)]
  assert all(summary.pop("wall_seconds") > 0 for summary in summaries)
  assert summaries[0] == summaries[1]
  assert processes.run("gradients", *flags).stdout.startswith("finished before: ")


def find(rows, **wanted):
  (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
  return {name: float(v) for name, v in row.items() if v and name not in NAMES}


NAMES = ("estimator", "block", "reference")


def test_rows(measured):
  workdir, rows, stdout = measured
  assert {row["at"] for row in rows} == {"0", "2000"}
  assert {row["block"] for row in rows} >= {"theta", "phi", "phi/head_0", "theta/hidden_0"}
  for row in rows:
    variance = float(row["variance"])
    assert float(row["variance_low"]) <= variance <= float(row["variance_high"])
    cost = float(row["milliseconds"])
    np.testing.assert_allclose(float(row["variance_x_milliseconds"]), variance * cost, rtol=1e-4)
  assert stdout.count("\n") > 20 and "elbo_a" in stdout
  assert (workdir / "gradients.png").read_bytes().startswith(b"\x89PNG")
  assert {path.name for path in workdir.iterdir()} == {
    "checkpoints", "flags.txt", "gradients.csv", "gradients.png", "lock", "summary.json"
  }  # fmt: skip


def test_known_facts(measured):
  _, rows, _ = measured
  phi = lambda estimator, **more: find(rows, at="0", estimator=estimator, block="phi", **more)
  a, b, naive = phi("elbo_a"), phi("elbo_b"), phi("score_function")
  assert naive["variance_low"] > 30 * a["variance_high"]
  assert b["variance_high"] < a["variance_low"]
  averaged = phi("score_function:baseline=moving_average")
  assert averaged["variance_high"] < naive["variance_low"] / 10


def test_a_row_without_reference_is_explained(measured):
  *_, note, written = measured[2].splitlines()
  assert note.startswith("no bias of experiments.my_estimator:tempered: ")
  assert "--reference" in note and "iwae" not in note and written.startswith("written to ")


def test_the_heading_names_the_reference(tmp_path):
  own = "experiments.my_estimator:tempered"
  few = ["--hidden_dim=5", "--num_points=1", "--num_repeats=40", f"--workdir={tmp_path / 'run'}"]
  result = run(f"--estimators=iwae,{own}", "--reference=iwae", *few)
  assert result.returncode == 0, result.stderr
  heading, *rows, written = result.stdout.splitlines()
  assert "bias from iwae" in heading and written.startswith("written to ")
  assert ["%" in row for row in rows] == [own in row for row in rows]


def test_biases(measured):
  _, rows, _ = measured
  references = {row["estimator"]: row["reference"] for row in rows}
  assert references["elbo_a"] == "exact"  # the model has one latent
  assert references["dreg"] == "iwae" and references["iwae"] == ""
  for at in ("0", "2000"):
    for estimator in ("elbo_a", "elbo_b", "dreg"):
      # A 95 % interval sometimes misses a bias of 0; limits ten times wider never fail.
      row = find(rows, at=at, estimator=estimator, block="phi")
      assert row["bias_low"] < 0.1 and row["bias"] < 0.5


@pytest.mark.parametrize(
  "flags, line",
  [
    (["--estimators=elbo_a,foo"], "--estimators=.*foo at 2 samples: unknown; takes elbo_a"),
    (["--estimators="], "--estimators=.*takes at least one"),
    (["--samples=0"], "--samples=.*whole numbers of at least 1"),
    (["--at=soon"], "--at=.*whole numbers of at least 0"),
    (["--samples=1", "--estimators=vimco"], "expected at least 2"),
    (["--posterior=bernoulli", "--estimator=vimco", "--num_samples=2"], "no reparameterization"),
    (["--reference=exact"], "--reference=exact: .*one Gaussian latent"),
    (["--num_repeats=10"], "--num_repeats=10: takes at least 40"),
    (["--num_repeats=50", "--num_batches=40"], "--num_repeats=50: takes at least two"),
  ],
)
def test_bad_flags_are_one_line(flags, line, tmp_path):
  import re

  result = processes.run("gradients", f"--workdir={tmp_path}/run", *flags)
  assert result.returncode == 2
  (error,) = result.stderr.strip().splitlines()
  assert re.search(line, error), error
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("power, like", [(1.0, iwae), (0.0, elbo_a)])
def test_the_template(power, like):
  world = oracles.bernoulli_world()

  def draw(estimator, **kwargs):
    return jax.value_and_grad(
      lambda p: estimator(jax.random.key(0), world.model, p, world.x, num_samples=5, **kwargs)
    )(world.params)

  value, gradients = draw(tempered, power=power)
  np.testing.assert_allclose(value, draw(iwae)[0], rtol=1e-12)
  np.testing.assert_allclose(
    oracles.flat(gradients), oracles.flat(draw(like)[1]), rtol=1e-9, atol=1e-12
  )
