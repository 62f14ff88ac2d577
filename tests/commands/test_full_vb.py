"""Full VB against point estimates, as a user runs it."""

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image

from tests.support import processes

LINES = [("map", "point"), ("full_vb", "mean"), ("full_vb", "drawn")]


def test_writes_what_it_measured(tmp_path):
  workdir = tmp_path / "full_vb"
  result = processes.run(
    "full_vb",
    "--methods=map,full_vb",
    "--num_data=100",
    "--hidden_dim=10",
    "--num_examples=2000",
    "--eval_every=1000",
    "--num_importance_samples=10",
    f"--workdir={workdir}",
  )
  assert result.returncode == 0 and result.stderr == "", result.stderr
  with open(workdir / "metrics.csv") as file:
    rows = list(csv.DictReader(file))
  assert [(row["method"], row["theta"]) for row in rows] == LINES[:1] * 2 + LINES[1:] * 2
  assert {row["examples_seen"] for row in rows} == {"1000", "2000"}
  last = {(row["method"], row["theta"]): row for row in rows}
  for line in LINES:
    first = next(row for row in rows if (row["method"], row["theta"]) == line)
    assert float(last[line]["train_bound"]) > float(first["train_bound"]) + 0.2
  # The start and the minibatches are the same, so noise of 0.05 in the weights changes little.
  point, mean, drawn = (float(last[line]["test_bound"]) for line in LINES)
  assert 0 < abs(point - mean) < 3 and 0 < abs(mean - drawn) < 3
  # 2 × 10 + 10 + 10 × 64 + 64 weights, whose standard deviations are still close to 0.05.
  assert last["map", "point"]["kl_theta"] == ""
  kl = float(last["full_vb", "drawn"]["kl_theta"])
  assert kl == pytest.approx(734 * (-math.log(0.05) - 0.5) / 100, rel=0.1)

  summary = json.loads((workdir / "summary.json").read_text())
  assert summary["num_train"] == 100 and summary["num_importance_samples"] == 10
  results = {(result["method"], result["theta"]): result for result in summary["results"]}
  assert list(results) == LINES
  for line, result in results.items():
    assert float(last[line]["test_bound"]) == pytest.approx(result["test_bound"], rel=1e-5)
    assert result["best_test_bound"] >= result["test_bound"]
    if line != LINES[-1]:
      assert result["test_log_likelihood"] > result["test_bound"]
  assert "test_log_likelihood" not in results["full_vb", "drawn"]
  picture = np.asarray(Image.open(workdir / "full_vb.png").convert("L"))
  assert min(picture.shape) > 400 and picture.std() > 10
  assert "--num_data=100\n" in (workdir / "flags.txt").read_text()


@pytest.mark.parametrize(
  "arguments, line",
  [
    (["--methods=ml,mcem"], "--methods=ml,mcem: takes ml, map, full_vb, not 'mcem'"),
    (["--num_data=50"], "--num_data=50: takes from --batch_size=100 to the 1437 training images"),
    (["--estimator=iwae"], "--estimator=iwae: takes elbo_a, elbo_b, sticking_the_landing here"),
    (["--weight_std=0"], "takes a positive number"),
  ],
)
def test_a_mistake_is_one_line(arguments, line, tmp_path):
  result = processes.run("full_vb", *arguments, f"--workdir={tmp_path / 'none'}")
  assert result.returncode == 2 and line in result.stderr
  assert result.stderr.count("\n") == 1 and not (tmp_path / "none").exists()
