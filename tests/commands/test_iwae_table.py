"""The table of importance weighted autoencoders, as a user makes it."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from aevb_jax.runs import files
from experiments.studies import iwae_table as study
from tests.support import processes


def run(*arguments):
  return processes.run("iwae_table", *arguments)


def read(path):
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


def column(path, name):
  return np.array([float(row[name]) for row in read(path)])


@pytest.mark.long
def test_smoke(tmp_path):
  workdir = tmp_path / "table"
  smoke = ("--budget=smoke", "--dataset=digits", "--seed=0,1", f"--workdir={workdir}")
  result = run(*smoke)
  assert result.returncode == 0, result.stderr
  rows = read(workdir / "iwae_table.csv")
  assert [(row["model"], row["k"]) for row in rows] == [("vae", "5"), ("iwae", "5")]

  # The numbers come from the runs: they are averaged over seeds for each image.
  log_p = []
  for row in rows:
    run_name = f"digits-{row['model']}-{row['k']}-stages-1-seed-0-1"
    members = [workdir / "runs" / run_name / f"seed_{seed}" for seed in (0, 1)]
    of_seeds = np.stack([column(member / "importance-10.csv", "log_p") for member in members])
    assert of_seeds.shape == (2, 360)
    log_p.append(of_seeds.mean(axis=0))
    gain = log_p[-1] - log_p[0]
    error = lambda values: values.std(ddof=1) / np.sqrt(len(values))
    for name, value in (
      ("nll", -log_p[-1].mean()),
      ("nll_se", error(log_p[-1])),
      ("gain", gain.mean()),
      ("gain_se", error(gain)),
      ("seed_sd", of_seeds.mean(axis=1).std(ddof=1)),
    ):
      assert float(row[name]) == pytest.approx(value, rel=1e-4, abs=1e-5)
    active = np.mean([column(member / "latents.csv", "active").sum() for member in members])
    assert float(row["active"]) == active and 0 < active <= 50
    for member in members:
      variances = column(member / "latents.csv", "variance_of_mean")
      np.testing.assert_array_equal(variances > 0.01, column(member / "latents.csv", "active"))
      flags = (member / "flags.txt").read_text().splitlines()
      estimator = {"vae": "elbo_a", "iwae": "iwae"}[row["model"]]
      for flag in (
        f"--estimator={estimator}", f"--num_samples={row['k']}", "--stage_epochs=1",
        "--num_examples=1420", "--batch_size=20", "--adam_eps=5e-06", "--init=glorot",
        "--output_bias=data_mean", "--hidden_dim=200,200", "--latent_dim=50",
      ):  # fmt: skip
        assert flag in flags
    assert row["paper_nll"] == ""  # nothing is published for the digits

  summary = json.loads((workdir / "summary.json").read_text())
  assert (summary["epochs"], summary["published_epochs"]) == (1, 3280)
  assert summary["budget"] == "smoke" and len(summary["runs"]) == 2
  assert summary["rows"][1]["nll"] == pytest.approx(float(rows[1]["nll"]), rel=1e-5)
  picture = np.asarray(Image.open(workdir / "iwae_table.png").convert("L"))
  assert min(picture.shape) > 400 and picture.std() > 10
  assert "1 of 3280 epochs" in result.stdout
  assert f"{summary['rows'][1]['nll']:.2f} ± " in result.stdout

  (workdir / "iwae_table.csv").unlink()
  again = run(*smoke)  # nothing is trained or estimated again
  assert again.returncode == 0, again.stderr
  assert "2 of 2 runs are finished" in again.stdout and "log p(x) by" not in again.stdout
  assert read(workdir / "iwae_table.csv") == rows


@pytest.mark.parametrize(
  "arguments, line",
  [
    (["--samples=1,0"], "--samples=1,0: takes whole numbers"),
    (["--samples="], "--samples=: takes whole numbers"),
    (["--samples=5,5"], "--samples=5,5: takes whole numbers of at least 1, each once"),
    (["--stages=9"], "--stages=9"),
    (["--num_importance_samples=0"], "--num_importance_samples=0: takes at least 1 here"),
    (["--adam_eps=1e-4"], "--adam_eps=0.0001: is set by this main"),
    (["--budget=huge"], "--budget"),
  ],
)
def test_a_mistake_is_one_line(arguments, line, tmp_path):
  result = processes.run(
    "iwae_table", "--dataset=digits", *arguments, f"--workdir={tmp_path / 'none'}"
  )
  assert result.returncode == 2 and line in result.stderr, result.stderr
  assert result.stderr.count("\n") == 1 and not (tmp_path / "none").exists()


def test_tables_of_an_earlier_start_are_read_only_where_they_are_whole(tmp_path):
  path = tmp_path / "importance-5.csv"
  points = [dict(point=i, log_p=-20.5 - i) for i in range(3)]
  write = lambda rows: files.write_csv(path, ("point", "log_p"), rows)
  judged = lambda: study._judged_before(tmp_path, path, 3)
  study.write_latents(tmp_path / "latents.csv", np.eye(50)[:40] * 9)
  assert judged() is None
  write(points)
  np.testing.assert_array_equal(judged().log_p, [-20.5, -21.5, -22.5])
  assert judged().num_active == (40,)
  for rows in (points[:2], points[1:], [*points, points[2]], points[::-1]):
    write(rows)
    assert judged() is None
  write([points[0] | dict(log_p="x"), *points[1:]])
  assert judged() is None
  write(points)
  for contents in (b"latent,active\n0,1\n", bytes(range(256)), b""):
    (tmp_path / "latents.csv").write_bytes(contents)
    assert judged() is None
