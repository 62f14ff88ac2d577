"""Analogies as a user makes them, and the runs with a condition that other mains meet."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from experiments.flags.figures import Figure
from experiments.plots.analogies import Pictures, beside, draw_analogies
from experiments.studies import jobs
from tests.plots.looking import SMOKE
from tests.support import processes


@pytest.mark.long
def test_analogies(tmp_path):
  how = ["--budget=smoke", "--dataset=digits", f"--workdir={tmp_path}"]
  result = processes.run("analogies", *how)
  assert result.returncode == 0, result.stderr
  with open(tmp_path / "analogies.csv") as file:
    rows = list(csv.DictReader(file))
  assert [row["class"] for row in rows] == list("0123456789")
  counts = np.array([int(row["num_points"]) for row in rows])
  accuracies = np.array([float(row["accuracy"]) for row in rows])
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert counts.sum() == summary["num_points"] == 100 and len(summary["runs"]) == 2
  np.testing.assert_allclose(counts @ accuracies / 100, summary["accuracy"], rtol=1e-5)
  assert summary["accuracy"] - 4 * summary["accuracy_se"] > 0.1  # of ten classes
  run = json.loads((tmp_path / "runs" / "digits-label-50-seed-0" / "summary.json").read_text())
  for name in ("test_bound", "test_log_likelihood", "test_log_likelihood_se"):
    assert summary[name] == run[name]
  # Each bound of a class is over the images of that class; together they are the bound of all.
  bounds = np.array([float(row["test_bound"]) for row in rows])
  error = 5 * run["test_bound_se"] * np.sqrt(360 / 100)
  assert abs(counts @ bounds / 100 - run["test_bound"]) < error
  pixels = np.asarray(Image.open(tmp_path / "analogies.png").convert("L"))
  assert min(pixels.shape) > 400 and pixels.std() > 10
  again = processes.run("analogies", *how)
  assert again.returncode == 0 and "2 of 2 runs are finished" in again.stdout


@pytest.mark.parametrize(
  "main, arguments, words",
  [
    ("analogies", ["--latent_dim=3"], "--latent_dim=3: is set by this main"),
    ("analogies", ["--condition=label"], "--condition=label: is set by this main"),
    ("analogies", ["--num_points=1"], "--num_points=1"),
    ("manifold", ["--condition=label"], "--condition=label: is set by this main"),
  ],
)
def test_what_cannot_be(main, arguments, words, tmp_path):
  how = ["--budget=smoke", *arguments, f"--workdir={tmp_path / 'run'}"]
  result = processes.run(main, *how)
  assert result.returncode == 2
  assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")
  assert words in result.stderr and not (tmp_path / "run").exists()


def test_a_run_with_a_condition_is_not_the_run_without_one(tmp_path):
  """A main that shares its --runs would otherwise open a model whose encoder takes pairs."""
  job = jobs.Job("one", ("--latent_dim=2",), 1.0)
  figure = Figure(tmp_path, tmp_path, "smoke", [])
  (tmp_path / "one").mkdir()
  (tmp_path / "one" / "summary.json").write_text("{}\n")
  for lines, finished in (
    ("--latent_dim=2\n", True),
    ("--condition=label\n--latent_dim=2\n", False),
  ):
    (tmp_path / "one" / "flags.txt").write_text(lines)
    assert jobs.was_finished(job, figure) == finished
  mine = job._replace(arguments=("--condition=label", "--latent_dim=2"))
  assert jobs.was_finished(mine, figure)


def test_test_images_stand_beside_their_analogies():
  images, analogies = np.zeros((9, 4, 1)), np.full((9, 14, 1), 0.5)  # two rows, three columns of 4
  joined, middles = beside(images, analogies, 3)
  assert joined.shape == (9, 4 + 1 + 14, 1)
  np.testing.assert_array_equal(joined[0, :, 0], [0] * 4 + [1] + [0.5] * 14)
  np.testing.assert_array_equal(middles, [1.5, 6.5, 11.5, 16.5])
  pictures = Pictures([("styles of class 2", images)], images, analogies, list("abc"))
  figure = draw_analogies(pictures, budget="smoke")
  assert figure.get_suptitle() == SMOKE
  labels = [text.get_text() for text in figure.axes[-1].get_xticklabels()]
  assert labels == ["x", "a", "b", "c"]
