"""Monte Carlo EM as a user runs it: what a run leaves, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.commands.test_command_line import assert_one_clear_line, rows, train
from tests.support import processes

MCEM = ["--algorithm=mcem", "--binarization=static"]
SHORT = [*MCEM, "--hidden_dim=20", "--num_examples=2000", "--eval_every=500", "--num_leapfrogs=4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A short run on the digits, shared by the tests that read its directory."""
  workdir = tmp_path_factory.mktemp("runs") / "digits"
  result = train(*SHORT, "--num_updates=3", f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  return workdir, result


def test_metrics(run):
  table = rows(run[0])
  assert ",".join(table[0]) == (
    "step,examples_seen,evaluations,recent_log_joint,acceptance,num_divergent,hmc_step_size,seconds"
  )
  assert [int(row["examples_seen"]) for row in table] == [500, 1000, 1500, 2000]
  # Evaluations per example: one at the chain's state, four in leapfrogs, three in updates.
  assert [int(row["evaluations"]) for row in table] == [4000, 8000, 12000, 16000]
  assert float(table[-1]["recent_log_joint"]) > float(table[0]["recent_log_joint"]) + 1
  assert all(0.5 < float(row["acceptance"]) <= 1 for row in table)
  assert all(int(row["num_divergent"]) == 0 < float(row["hmc_step_size"]) for row in table)


def test_summary(run):
  summary = json.loads((run[0] / "summary.json").read_text())
  last = rows(run[0])[-1]
  for column in ("recent_log_joint", "acceptance", "hmc_step_size"):
    assert summary[column] == float(last[column])
  assert (summary["algorithm"], summary["num_leapfrogs"], summary["num_updates"]) == ("mcem", 4, 3)
  assert (summary["examples_seen"], summary["evaluations"]) == (2000, 16000)
  assert summary["dataset"] == "digits" and summary["binarization"] == "static"
  # Numbers that need an encoder are not reported.
  assert not {"test_bound", "test_log_likelihood", "estimator", "num_samples"} & set(summary)


def test_pictures(run):
  assert {path.name for path in run[0].glob("*.png")} == {"samples.png", "manifold.png"}
  for name in ("samples", "manifold"):
    pixels = np.asarray(Image.open(run[0] / f"{name}.png").convert("L"))
    assert min(pixels.shape) > 400 and pixels.std() > 10


def test_last_lines_and_silence(run):
  lines = run[1].stdout.strip().splitlines()
  assert "manifold.png" in lines[-3] and "recent log p(x, z)" in lines[-2]
  assert lines[-1].endswith(f"python -m experiments.evaluate --method=ais --workdir={run[0]}")
  assert run[1].stderr == ""


def test_flags_repeat_the_run_to_the_last_digit(run, tmp_path):
  # The second run is streamed, which must change no number.
  flags = [f"--flagfile={run[0] / 'flags.txt'}", "--max_resident_mb=0"]
  again = train(*flags, f"--workdir={tmp_path / 'again'}")
  assert again.returncode == 0, again.stderr
  for row, repeated in zip(rows(run[0]), rows(tmp_path / "again"), strict=True):
    row.pop("seconds"), repeated.pop("seconds")
    assert row == repeated
  text = (tmp_path / "again" / "flags.txt").read_text()
  assert "--estimator" not in text and "--num_importance_samples" not in text


def test_the_paper_preset_and_its_warm_up(tmp_path):
  # A hundred steps of Adagrad's warm-up are twenty minibatches of five updates.
  arguments = ["--algorithm=mcem", "--preset=paper", "--hidden_dim=20", "--latent_dim=3"]
  result = processes.run(
    "train", *arguments, "--num_examples=2000", f"--workdir={tmp_path / 'short'}"
  )
  assert_one_clear_line(result, "--num_examples=2000", "20 steps of warm-up")
  result = train(*arguments, "--num_examples=2500", f"--workdir={tmp_path / 'run'}")
  assert result.returncode == 0, result.stderr
  assert "not a log-density" in result.stdout
  assert not (tmp_path / "run" / "manifold.png").exists()  # three latents
  assert "--num_updates=5" in (tmp_path / "run" / "flags.txt").read_text()


def test_a_run_that_leaves_the_numbers_is_stopped(tmp_path):
  workdir = tmp_path / "run"
  result = train(*SHORT, "--optimizer=sgd", "--step_size=1e38", f"--workdir={workdir}")
  assert result.returncode == 1
  assert "the log joint is" in result.stderr and len(result.stderr.splitlines()) == 1
  assert not (workdir / "summary.json").exists()


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--algorithm=mcem"], ["--binarization=dynamic", "static, threshold or none"]),
    (["--algorithm=mcem", "--binarization=dynamic"], ["--binarization=dynamic", "mcem"]),
    (
      ["--algorithm=mcem", "--likelihood=gaussian", "--dataset=mnist", "--dequantization"],
      ["--dequantization=True", "--algorithm=mcem", "--nodequantization"],
    ),
    ([*MCEM, "--estimator=elbo_b"], ["--estimator=elbo_b", "--algorithm=mcem"]),
    ([*MCEM, "--num_samples=2"], ["--num_samples=2", "--algorithm=mcem"]),
    ([*MCEM, "--beta=0.5"], ["--beta=0.5", "--algorithm=mcem"]),
    ([*MCEM, "--kl_warmup=100"], ["--kl_warmup=100", "--algorithm=mcem"]),
    ([*MCEM, "--free_bits=0.1"], ["--free_bits=0.1", "--algorithm=mcem"]),
    (
      [*MCEM, "--num_importance_samples=10"],
      ["--num_importance_samples=10", "--algorithm=mcem"],
    ),
    ([*MCEM, "--posterior=bernoulli"], ["--posterior=bernoulli", "continuous z", "Bernoulli"]),
    ([*MCEM, "--prior=vamp"], ["--prior=vamp", "has none"]),
    ([*MCEM, "--num_leapfrogs=0"], ["--num_leapfrogs=0", "positive integer"]),
    ([*MCEM, "--num_updates=0"], ["--num_updates=0", "positive integer"]),
    (["--algorithm=em"], ["--algorithm=em", "aevb, mcem, or package.module:function"]),
  ],
  ids=lambda value: " ".join(value) if str(value[0]).startswith("-") else "",
)
def test_bad_input_is_one_line(arguments, words, tmp_path):
  workdir = tmp_path / "run"
  assert_one_clear_line(processes.run("train", *arguments, f"--workdir={workdir}"), *words)
  assert not workdir.exists()
