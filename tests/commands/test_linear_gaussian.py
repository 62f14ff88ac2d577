"""A linear VAE against PCA, as a user runs it."""

import csv
import json
import re
import signal

import numpy as np
import pytest
from PIL import Image

from aevb_jax.data import datasets
from tests.support import processes


def run(*arguments):
  return processes.run("linear_gaussian", *arguments)


def test_arrives_at_pca(tmp_path):
  workdir = tmp_path / "linear_gaussian"
  result = run("--latent_dim=2", "--num_examples=200000", f"--workdir={workdir}")
  assert result.returncode == 0 and result.stderr == "", result.stderr
  summary = json.loads((workdir / "summary.json").read_text())

  # The maximum of PCA, computed only from the data's eigenvalues.
  x = datasets.load("digits").train / 255
  variances = np.linalg.eigvalsh(np.cov(x, rowvar=False, bias=True))
  noise_var = variances[:-2].mean()
  log_det = 62 * np.log(noise_var) + np.log(variances[-2:]).sum()
  maximum = -0.5 * (64 * np.log(2 * np.pi) + log_det + 64)
  assert summary["pca_train_log_likelihood"] == pytest.approx(maximum, abs=1e-3)
  assert summary["pca_train_bound"] == pytest.approx(maximum, abs=1e-3)
  assert summary["pca_noise_std"] == pytest.approx(noise_var**0.5, rel=1e-5)

  bound, log_p = summary["difference_train_bound"], summary["difference_train_log_likelihood"]
  assert -0.2 < bound < log_p < 0
  assert bound == pytest.approx(summary["trained_train_bound"] - maximum, abs=2e-3)
  assert summary["max_angle"] < 3
  assert summary["trained_noise_std"] == pytest.approx(noise_var**0.5, rel=0.01)
  # The error is that of differences image by image, so it is far below that of either mean.
  error = summary["difference_test_log_likelihood_se"]
  assert abs(summary["difference_test_log_likelihood"]) < 6 * error + 0.05
  assert 0 < error < 0.2 * summary["pca_test_log_likelihood_se"]

  with open(workdir / "metrics.csv") as file:
    rows = list(csv.DictReader(file))
  examples = [int(row["examples_seen"]) for row in rows]
  assert examples[0] == 100 and examples[-1] == 200_000 and examples == sorted(set(examples))
  assert float(rows[0]["train_bound"]) < maximum - 50 and float(rows[0]["max_angle"]) > 45
  for row in rows:
    assert float(row["train_bound"]) < float(row["train_log_likelihood"]) < maximum
    assert 0 < float(row["mean_angle"]) <= float(row["max_angle"]) <= 90
  assert float(rows[-1]["train_bound"]) == pytest.approx(summary["trained_train_bound"], rel=1e-5)
  picture = np.asarray(Image.open(workdir / "linear_gaussian.png").convert("L"))
  assert min(picture.shape) > 400 and picture.std() > 10
  assert "--binarization=none\n" in (workdir / "flags.txt").read_text()
  assert f"{summary['max_angle']:.2f}° at most" in result.stdout


@pytest.mark.parametrize(
  "arguments, line",
  [
    (["--latent_dim=61"], "--latent_dim=61: 61 latents for 1437 data points that span 61"),
    (["--binarization=dynamic"], "--binarization=dynamic: takes none here"),
    (["--num_examples=99"], "--num_examples=99: takes at least one step, at --batch_size=100"),
    (["--step_size=0"], "takes a positive number"),
  ],
)
def test_a_mistake_is_one_line(arguments, line, tmp_path):
  result = processes.run("linear_gaussian", *arguments, f"--workdir={tmp_path / 'none'}")
  assert result.returncode == 2 and line in result.stderr
  assert result.stderr.count("\n") == 1 and not (tmp_path / "none").exists()


@pytest.mark.long
def test_the_smallest_budget_stopped_and_resumed(tmp_path):
  whole, stopped = tmp_path / "whole", tmp_path / "stopped"
  flags = ["--budget=smoke", "--dataset=digits"]
  result = run(*flags, f"--workdir={whole}")
  assert result.returncode == 0 and result.stderr == ""
  assert "--num_examples=20000\n" in (whole / "flags.txt").read_text()

  flags.append(f"--workdir={stopped}")
  process = processes.start("linear_gaussian", *flags)
  begun = (stopped / "metrics.csv").exists
  status, (said, error) = processes.stop_when(process, begun, signal.SIGTERM)
  assert status == 143 and said.startswith("SIGTERM: stops as soon as")
  words = (
    r"error: stopped by SIGTERM; the state after ([\d,]+) training samples is in .*; the same "
  )
  (seen,) = re.fullmatch(words + "command resumes from there", error).groups()
  rows = (stopped / "metrics.csv").read_text()
  assert not (stopped / "summary.json").exists()

  result = run(*flags)
  assert result.returncode == 0 and result.stderr == ""
  assert f"resuming after {seen} training samples" in result.stdout
  assert (stopped / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
  assert (stopped / "metrics.csv").read_text().startswith(rows)
  summaries = [json.loads((d / "summary.json").read_text()) for d in (whole, stopped)]
  assert all(summary.pop("wall_seconds") > 0 for summary in summaries)
  assert summaries[0] == summaries[1]
  assert processes.run("linear_gaussian", *flags).stdout.startswith("finished before: ")
