"""The table of importance weighted autoencoders, as a user makes it."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from aevb_jax.runs import files
from experiments.studies.iwae_table import judging, stages
from experiments.studies.iwae_table import rows as study
from experiments.studies.iwae_table.judging import Result
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

  assert read(workdir / "iwae_stages.csv") == []  # several seeds keep no parameters of stages

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
    (["--layers=3"], "--layers=3: takes 1, 2 or 1,2"),
    (["--layers=2,2"], "--layers=2,2: takes 1, 2 or 1,2"),
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


def test_two_layers_are_compared_with_one_image_by_image():
  """Common noise of the images cancels in differences, which a comparison of the means ignores."""
  config = study.IwaeTableConfig(samples=(50, 1), layers=(2, 1), stages=4)
  entries = study.make_entries(config, num_train=60000)
  assert [entry[:3] for entry in entries] == [
    (1, "vae", 1), (1, "vae", 50), (1, "iwae", 50), (2, "vae", 1), (2, "vae", 50), (2, "iwae", 50)
  ]  # fmt: skip
  assert len({entry.job.name for entry in entries}) == 6
  rng = np.random.default_rng(0)
  common = rng.normal(-90, 20, 400)
  log_p = [common + gain + rng.normal(0, 0.5, 400) for gain in (0, 1, 2, 1.5, 2.5, 4)]
  active = ["20"] * 3 + ["30+5"] * 3
  results = [Result(one, dict(active=latents), []) for one, latents in zip(log_p, active)]
  rows = study.make_rows(config, entries, results)
  error = lambda values: values.std(ddof=1) / 20
  for row, one_layer, two in zip(rows[3:], log_p, log_p[3:]):
    assert row["over_one_layer"] == pytest.approx((two - one_layer).mean())
    assert row["over_one_layer_se"] == pytest.approx(error(two - one_layer))
    assert row["over_one_layer_se"] < 0.05
    assert row["gain"] == pytest.approx((two - log_p[3]).mean())
    assert row["nll_se"] == pytest.approx(error(two)) and row["nll_se"] > 0.9
    assert row["active"] == "30+5"
  assert "over_one_layer" not in rows[0] and rows[2]["gain"] == pytest.approx(
    (log_p[2] - log_p[0]).mean()
  )
  # Burda et al., tables 1 and 3: 86.76 and 85.33 for k = 1, 84.78 and 82.90 for the IWAE, k = 50.
  assert [row.get("paper_over_one_layer") for row in rows] == [None] * 3 + [1.43, 1.57, 1.88]
  assert [row["paper_gain"] for row in rows[3:]] == [0.0, 0.55, 2.43]
  table = study.as_table(rows).splitlines()
  assert f"{rows[5]['over_one_layer']:.2f} ± {rows[5]['over_one_layer_se']:.2f}" in table[-1]
  assert table[-1].endswith("1.88") and len(table) == 7


def test_tables_of_an_earlier_start_are_read_only_where_they_are_whole(tmp_path):
  path = tmp_path / "importance-5.csv"
  points = [dict(point=i, log_p=-20.5 - i) for i in range(3)]
  write = lambda rows: files.write_csv(path, ("point", "log_p"), rows)
  judged = lambda: judging._judged_before(tmp_path, path, 3, (50,))
  judging.write_latents(tmp_path / "latents.csv", np.eye(50)[:40] * 9)
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


@pytest.mark.long
def test_a_table_gains_rows_and_judges_only_these(tmp_path):
  """Gains on k = 1 stay image by image, although the run of k = 1 is gone."""
  workdir = tmp_path / "table"
  how = ("--budget=smoke", "--dataset=digits", "--stages=2", f"--workdir={workdir}")
  result = run(*how, "--samples=1")
  assert result.returncode == 0, result.stderr
  (first,), before = read(workdir / "iwae_table.csv"), read(workdir / "iwae_stages.csv")
  shutil.rmtree(workdir / "runs")
  more = run(*how, "--samples=1,2")
  assert more.returncode == 0, more.stderr
  assert f"1 of 3 runs are in the table of {workdir} already" in more.stdout
  assert len(list((workdir / "runs").iterdir())) == 2
  rows, of_stages = read(workdir / "iwae_table.csv"), read(workdir / "iwae_stages.csv")
  assert rows[0] == first and of_stages[:2] == before
  table = read(workdir / "iwae_log_p.csv")
  for row in rows:
    gain = column(workdir / "iwae_log_p.csv", row["run"])
    assert -gain.mean() == pytest.approx(float(row["nll"]), rel=1e-5)
    gain -= column(workdir / "iwae_log_p.csv", first["run"])
    assert float(row["gain"]) == pytest.approx(gain.mean(), abs=1e-4)
    assert float(row["gain_se"]) == pytest.approx(gain.std(ddof=1) / 360**0.5, abs=1e-4)
  assert len(table) == 360
  # The last stage ends with the run, and each gains image by image on the one before.
  for row, (begin, end) in zip(rows, zip(of_stages[::2], of_stages[1::2]), strict=True):
    assert (begin["epochs"], end["epochs"]) == ("1", "4") and begin["run"] == row["run"]
    assert float(end["nll"]) == pytest.approx(float(row["nll"]), rel=1e-5)
    gain = float(begin["nll"]) - float(end["nll"])
    assert float(end["gain"]) == pytest.approx(gain, abs=1e-3) and gain > 0
    assert float(end["gain_se"]) < float(end["nll_se"])
  # Without the images the kept row is of no use, and its run is trained again.
  (workdir / "iwae_log_p.csv").unlink()
  again = run(*how, "--samples=1,2")
  assert again.returncode == 0 and "2 of 3 runs are finished" in again.stdout, again.stderr
  assert read(workdir / "iwae_log_p.csv") == table


def test_gains_that_fall_by_a_constant_factor_are_extrapolated_exactly():
  gains = 16 * 0.5 ** np.arange(4)  # 16, 8, 4, 2; then 1, 1/2, 1/4
  later = stages.extrapolate(gains, 3)
  assert later.value == pytest.approx(1.75) and later.standard_error == pytest.approx(0, abs=1e-12)
  assert stages.extrapolate(gains[:2], 3) is None  # a line through two points has no error
  assert stages.extrapolate([4, 2, 0, 1], 3) is None


def test_the_error_of_an_extrapolation_is_right():
  """Mean squared error and mean squared standard error agree, for small errors of log gains."""
  rng, scale = np.random.default_rng(0), 0.02
  number, num_later, ratio = 6, 3, 0.6
  errors, predicted = [], []
  for _ in range(4000):
    gains = 10 * ratio ** np.arange(number + num_later)
    gains *= np.exp(rng.normal(0, scale, number + num_later))
    later = stages.extrapolate(gains[:number], num_later)
    errors.append(later.value - gains[number:].sum())
    predicted.append(later.standard_error)
  # The squared error is a chi-squared of one degree of freedom: its mean has an error of 2.2 %,
  # that of the squared standard error, of four degrees, 1.1 %.
  assert np.mean(np.square(errors)) / np.mean(np.square(predicted)) == pytest.approx(1, abs=0.12)
  assert np.mean(errors) == pytest.approx(0, abs=5 * np.std(errors) / np.sqrt(4000))


def test_stages_are_of_the_same_images_and_predicted_from_those_before():
  rng = np.random.default_rng(1)
  ends = stages.stage_ends([1, 3, 9, 27, 81], steps_per_epoch=3000, evals_per_decade=10)
  assert [end.epochs for end in ends] == [1, 4, 13, 40, 121]
  assert [end.step for end in ends] == [3000, 12_000, 39_000, 120_000, 363_000]
  common = rng.normal(-100, 20, 50)
  log_p = [common + rise + rng.normal(0, 0.1, 50) for rise in (0, 16, 24, 28, 30)]
  rows = stages.gains_of(ends, np.stack(log_p))
  for i, row in enumerate(rows[1:], 1):
    gain = log_p[i] - log_p[i - 1]
    assert row["gain"] == pytest.approx(gain.mean())
    assert row["gain_se"] == pytest.approx(gain.std(ddof=1) / 50**0.5) and row["nll_se"] > 1
  assert ["predicted" in row for row in rows] == [False] * 4 + [True]
  # 16, 8, 4 predict 2, and the row has 2.
  assert rows[4]["predicted"] == pytest.approx(2, abs=0.2)
  config = study.IwaeTableConfig(samples=(1,), stages=5)
  entries = study.make_entries(config, num_train=60_000)
  (row,) = study.make_rows(config, entries, [Result(log_p[-1], {}, rows)])
  assert row["later_gain"] == pytest.approx(1.75, abs=0.2)  # 1, 1/2 and 1/4
  assert row["extrapolated"] == pytest.approx(row["nll"] - row["later_gain"])
  assert [stage["run"] for stage in study.stage_rows(entries, [Result(log_p[-1], {}, rows)])] == [
    row["run"]
  ] * 5
  # All eight stages have nothing left, and of seven the end of the fifth is not known.
  for num_stages in (7, 8):
    config = study.IwaeTableConfig(samples=(1,), stages=num_stages)
    (row,) = study.make_rows(config, entries, [Result(log_p[-1], {}, rows)])
    assert "extrapolated" not in row
