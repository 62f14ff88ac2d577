"""Classification with few labels, as a user runs it, and the numbers of its table."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from aevb_jax.data.datasets import load_digits
from aevb_jax.models import init_params
from experiments.studies import semi_supervised as study
from tests.support import processes

SMALL = ("--dataset=digits", "--latent_dim=5", "--hidden_dim=50", "--num_labels=100",
         "--feature_hidden_dim=50")  # fmt: skip


@pytest.mark.long
def test_learns_from_images_without_labels_and_resumes(tmp_path):
  """Chance is 90 % wrong. M2's classifier is far below it, and equal after an interruption."""
  command = (*SMALL, "--models=m1,m2", "--num_draws=2", "--num_feature_examples=20000",
             "--num_pixel_examples=40000", f"--workdir={tmp_path / 'table'}")  # fmt: skip
  result = processes.run("semi_supervised", *command)
  assert result.returncode == 0 and result.stderr == "", result.stderr
  with open(tmp_path / "table" / "semi_supervised.csv") as file:
    rows = list(csv.DictReader(file))
  assert [(r["model"], r["draw"]) for r in rows[9::10]] == [
    (m, d) for m in ("m1", "m2") for d in "01"
  ]
  summary = json.loads((tmp_path / "table" / "summary.json").read_text())
  of_model = {row["model"]: row for row in summary["results"]}
  for i, model in enumerate(of_model):
    errors = [float(rows[20 * i + 10 * draw + 9]["test_error"]) for draw in range(2)]
    np.testing.assert_allclose(of_model[model]["errors"], errors, rtol=1e-5)
    assert of_model[model]["test_error"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert of_model[model]["test_error_sd"] == pytest.approx(np.std(errors, ddof=1), rel=1e-4)
    assert "paper_error" not in of_model[model]  # nothing is published for the digits
  assert of_model["m2"]["test_error"] < 40
  picture = np.asarray(Image.open(tmp_path / "table" / "semi_supervised.png").convert("L"))
  assert min(picture.shape) > 300 and picture.std() > 10

  for name in ("summary.json", "semi_supervised.csv"):  # all checkpoints are at the end
    (tmp_path / "table" / name).unlink()
  again = processes.run("semi_supervised", *command)
  assert again.returncode == 0, again.stderr
  repeated = json.loads((tmp_path / "table" / "summary.json").read_text())
  assert repeated["results"] == summary["results"]
  with open(tmp_path / "table" / "semi_supervised.csv") as file:
    assert list(csv.DictReader(file)) == rows


def test_every_draw_labels_other_images_and_every_model_the_same():
  config = study.SemiSupervisedConfig(num_labels=(20,), num_draws=2, latent_dim=2, hidden_dim=3)
  config = dataclasses.replace(config, feature_hidden_dim=(4,))
  images = load_digits()
  trainer = study.Trainer(config, images, study.check(config, images), None, None, None)
  model = study.make_features(config, images.train.shape[1])
  features = study.Features(model, init_params(jax.random.key(0), model), (1, 0))
  seen = {}
  for task in study.tasks(config):
    parts = study.make_parts(trainer, task, features)
    known = parts.rows[parts.rows[:, 64:].any(axis=1)]
    np.testing.assert_array_equal(np.unique(known, axis=0)[:, 64:].sum(axis=0), [2] * 10)
    seen[task.model, task.draw] = {row.tobytes() for row in known}
    # A tenth of all rows have labels, where the others are there, too.
    copies = 5 if task.model == "m1" else round(0.1 * 1437 / 20)
    assert len(parts.rows) == copies * 20 + (0 if task.model == "m1" else 1437 - 20)
    assert parts.x_dim == (64 if task.model == "m2" else 2)
  for draw in range(2):
    assert seen["m1", draw] == seen["m2", draw] == seen["m1_m2", draw]
  assert len(seen["m1", 0] & seen["m1", 1]) < 5


@pytest.mark.parametrize(
  "arguments, line",
  [
    (["--models=m1,m3"], "--models=m1,m3: takes m1, m2, m1_m2, not 'm3'"),
    (["--models=m1,m1"], "--models=m1,m1: takes some of m1, m2, m1_m2, each once"),
    (["--num_labels=15"], "--num_labels=15: num_labels is 15, expected a positive multiple of 10"),
    (["--num_labels=5000"], "--num_labels=5000: num_labels is 5000, expected"),
    (["--num_labels=100,100"], "--num_labels=100,100: names a number twice"),
    (["--num_labels=few"], "--num_labels=few: takes positive whole numbers"),
    (["--alpha=-1"], "--alpha=-1"),
    (["--alpha=inf"], "--alpha=inf: takes a finite number"),
    (["--binarization=static"], "--binarization=static: takes dynamic here"),
    (["--num_examples=5"], "--num_examples=5: takes at least one step"),
    (["--num_feature_examples=5"], "--num_feature_examples=5: takes at least one step"),
    (["--step_size=0"], "--step_size=0.0: takes positive numbers"),
  ],
)
def test_a_mistake_is_one_line(arguments, line, tmp_path):
  result = processes.run("semi_supervised", *SMALL, *arguments, f"--workdir={tmp_path / 'none'}")
  assert result.returncode == 2 and line in result.stderr, result.stderr
  assert result.stderr.count("\n") == 1 and not (tmp_path / "none").exists()


def test_images_without_labels_are_refused(tmp_path):
  np.savez(
    tmp_path / "bare.npz", train=np.zeros((200, 16), np.uint8), test=np.ones((9, 16), np.uint8)
  )
  dataset = f"--dataset=arrays:{tmp_path / 'bare.npz'}"
  result = processes.run("semi_supervised", dataset, f"--workdir={tmp_path / 'none'}")
  assert (
    result.returncode == 2
    and "takes a data set with labels, and this one has none" in result.stderr
  ), result.stderr
  assert result.stderr.count("\n") == 1 and not (tmp_path / "none").exists()
