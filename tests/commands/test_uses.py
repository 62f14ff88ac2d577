"""The article's VAE and the uses of a model as a user runs them, and the scores of the uses."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.studies import completion, representation
from experiments.studies.representation import Features
from tests.support import processes

SMOKE = ["--budget=smoke", "--dataset=digits"]
SHAPE = (4, 4, 1)


def make(main, *arguments):
  return processes.run(main, *SMOKE, *arguments)


def read(path):
  with open(path) as file:
    return list(csv.DictReader(file))


def assert_picture(path):
  pixels = np.asarray(Image.open(path).convert("L"))
  assert min(pixels.shape) > 400 and pixels.std() > 10


@pytest.mark.long
def test_conv_vae(tmp_path):
  workdir = tmp_path / "conv_vae"
  result = make("conv_vae", f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  table = read(workdir / "conv_vae.csv")
  (metrics,) = workdir.glob("runs/*/metrics.csv")
  for row, of_run in zip(table, read(metrics), strict=True):
    assert row["examples_seen"] == of_run["examples_seen"]
    np.testing.assert_allclose(float(row["epochs"]), int(row["examples_seen"]) / 1437, rtol=1e-5)
    for split in ("train", "test"):
      loss, bound = float(row[f"{split}_loss"]), float(of_run[f"{split}_bound"])
      np.testing.assert_allclose(loss, -bound, rtol=1e-5)
  assert [row["examples_seen"] for row in table] == ["1600", "3200"]
  flags = (metrics.parent / "flags.txt").read_text()
  assert "--model=conv\n" in flags and "--batch_size=32\n" in flags  # from --preset=article
  summary = json.loads((workdir / "summary.json").read_text())
  np.testing.assert_allclose(summary["test_loss"], float(table[-1]["test_loss"]), rtol=1e-5)
  assert summary["budget"] == "smoke" and len(summary["runs"]) == 1
  assert f"test loss {float(table[-1]['test_loss']):.2f} ± " in result.stdout
  assert_picture(workdir / "conv_vae.png")


@pytest.mark.long
def test_uses(tmp_path):
  workdir = tmp_path / "uses"
  result = make("uses", f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  table = read(workdir / "uses.csv")
  value = {
    tuple(row[name] for name in ("use", "method", "features", "measure")): float(row["value"])
    for row in table
  }
  recognition = {m: value["recognition", "encoder", "", m] for m in ("bound", "log_p", "gap")}
  assert recognition["gap"] > 0
  np.testing.assert_allclose(
    recognition["gap"], recognition["log_p"] - recognition["bound"], rtol=1e-3
  )
  probes = ("linear probe", "nearest neighbours")
  features = ("64 pixels", "20 pca", "20 latents")
  accuracies = [value["representation", p, f, "accuracy"] for p in probes for f in features]
  assert all(0.4 < accuracy < 1 for accuracy in accuracies)
  assert value["visualization", "nearest neighbours", "2 latents", "accuracy"] > 0.15
  # The models are hardly trained, but y is enough to do better than a fair coin.
  for use in ("inpainting", "super-resolution", "denoising"):
    for method in ("hmc", "pixel means", "nearest training image"):
      log_prob = value[use, method, "", "log_prob"]
      assert -np.log(2) < log_prob < 0
      assert 0 < value[use, method, "", "squared_error"] < 0.25
    assert value[use, "hmc", "", "acceptance"] > 0.5
  noisy = value["denoising", "y alone", "", "wrong"]
  assert 0.06 < noisy < 0.14 and value["denoising", "hmc", "", "wrong"] < noisy
  for row in table:
    assert row["measure"] in ("acceptance", "seconds") or float(row["standard_error"]) > 0
  summary = json.loads((workdir / "summary.json").read_text())
  assert len(summary["results"]) == len(table) and len(summary["runs"]) == 2
  for words in ("recognition: bound", "inpainting: lower half missing", "3×3 median", "20 latents"):
    assert words in result.stdout
  assert_picture(workdir / "uses.png")
  resume_inside_a_stage(workdir, table)


def resume_inside_a_stage(workdir, table):
  """Cuts the table off inside a stage: the rows that are left stay, even their seconds."""
  path = workdir / "uses.csv"
  lines = path.read_text().splitlines(keepends=True)
  (kept,) = [i + 1 for i, line in enumerate(lines) if line.startswith("inpainting,hmc,,,seconds")]
  path.write_text("".join(lines[:kept]))
  (workdir / "uses.png").unlink()
  result = make("uses", f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  assert path.read_text().splitlines(keepends=True)[:kept] == lines[:kept]
  without_seconds = lambda rows: [row for row in rows if row["measure"] != "seconds"]
  assert without_seconds(read(path)) == without_seconds(table)
  assert "recognition encoder" not in result.stdout and "denoising hmc" in result.stdout
  assert_picture(workdir / "uses.png")


@pytest.mark.parametrize(
  "main, arguments, words",
  [
    ("conv_vae", ["--latent_dim=3"], "--latent_dim=3: is set by this main"),
    ("conv_vae", ["--seed=0,1"], "--seed=0,1: "),
    ("uses", ["--block=3"], "--block=3: does not divide 8 by 8 pixels"),
    ("uses", ["--num_points=361"], "--num_points=361: takes at most the 360 test images"),
    ("uses", ["--num_labels=99"], "--num_labels=99: takes numbers from 100 to 1437"),
    ("uses", ["--num_labels=a"], "--num_labels=a: takes whole numbers"),
    ("uses", ["--methods=ais"], "--methods=ais: takes some of hmc, gibbs, pseudo_gibbs"),
    ("uses", ["--flip_probability=0.5"], "takes a number between 0 and 1/2"),
  ],
)
def test_what_cannot_be(main, arguments, words, tmp_path):
  result = processes.run(main, *SMOKE, *arguments, f"--workdir={tmp_path / 'run'}")
  assert result.returncode == 2
  assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")
  assert words in result.stderr and not (tmp_path / "run").exists()


def images(n, seed=0):
  return np.random.default_rng(seed).uniform(size=(n, 16)).astype(np.float32)


TASKS = {
  "inpainting": completion.inpainting(SHAPE),
  "super-resolution": completion.super_resolution(SHAPE, 2),
  "denoising": completion.denoising(SHAPE, 0.2),
}


def corrupted(task, x):
  keys = jax.random.split(jax.random.key(0), len(x))
  return np.asarray(jax.vmap(task.corrupt)(keys, jnp.asarray(x)))


def test_what_is_known_of_x():
  x = (images(500) > 0.5).astype(np.float32)
  of = {name: corrupted(task, x) for name, task in TASKS.items()}
  np.testing.assert_array_equal(of["inpainting"], x[:, :8])
  squares = x.reshape(-1, 2, 2, 2, 2).sum(axis=(2, 4)).reshape(-1, 4)
  np.testing.assert_array_equal(of["super-resolution"], squares)
  assert abs(np.mean(of["denoising"] != x) - 0.2) < 6 * np.sqrt(0.2 * 0.8 / x.size)
  # `known` reduces training images to what y shows, so that they can be compared with y.
  for name in ("inpainting", "super-resolution"):
    np.testing.assert_array_equal(TASKS[name].known(x), of[name])
  assert {name: task.scored.sum() for name, task in TASKS.items()} == {
    "inpainting": 8, "super-resolution": 16, "denoising": 16,
  }  # fmt: skip
  picture = TASKS["inpainting"].picture(of["inpainting"])
  assert np.all(picture[:, :8] == x[:, :8]) and np.all(picture[:, 8:] == 0.5)


def test_simple_methods():
  train, x = images(50), (images(30, seed=1) > 0.5).astype(np.float32)
  mean = train.mean(axis=0)
  of = {name: completion.baselines(task, corrupted(task, x), train) for name, task in TASKS.items()}
  half = of["inpainting"]
  np.testing.assert_allclose(half["pixel means"][:, 8:], np.tile(mean[8:], (30, 1)), rtol=1e-5)
  distance = ((x[:, None, :8] - train[None, :, :8]) ** 2).sum(axis=-1)
  order = np.argsort(distance, axis=1)
  nearest = half["nearest training image"][:, 8:]
  np.testing.assert_allclose(nearest, (train[order[:, 0], 8:] + mean[8:]) / 2, rtol=1e-5)
  ten = (train[order[:, :10]].sum(axis=1) + mean) / 11
  np.testing.assert_allclose(half["10 nearest training images"][:, 8:], ten[:, 8:], rtol=1e-5)
  # Bayes' rule for each pixel.
  y = corrupted(TASKS["denoising"], x)
  of_one, of_zero = np.where(y == 1, 0.8, 0.2), np.where(y == 1, 0.2, 0.8)
  posterior = mean * of_one / (mean * of_one + (1 - mean) * of_zero)
  np.testing.assert_allclose(of["denoising"]["pixel means"], posterior, rtol=1e-5)
  np.testing.assert_allclose(of["denoising"]["y alone"], of_one, rtol=1e-5)
  squares = np.repeat(np.repeat(x.reshape(-1, 2, 2, 2, 2).mean(axis=(2, 4)), 2, 1), 2, 2)
  alone = of["super-resolution"]["y alone"]
  np.testing.assert_allclose(alone, squares.reshape(30, 16), rtol=1e-4, atol=1e-5)


def test_scores():
  x = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
  mean = np.array([[0.9, 0.2, 0.4, 0.0], [0.5, 0.0, 1.0, 0.7]])
  scored = np.array([True, True, True, False])
  scores = completion.scores(mean, x, scored)
  first = np.mean(np.log([0.9, 0.8, 0.4])), 1 / 3, np.mean([0.01, 0.04, 0.36])
  second = np.mean(np.log([0.5, 1 - 1e-4, 1 - 1e-4])), 0.0, 0.25 / 3
  for measure, a, b in zip(("log_prob", "wrong", "squared_error"), first, second):
    np.testing.assert_allclose(scores[measure].value, (a + b) / 2, rtol=1e-12)
    np.testing.assert_allclose(scores[measure].standard_error, abs(a - b) / 2, rtol=1e-12)
  assert "log_prob" not in completion.scores(np.round(mean), x, scored)  # no longer probabilities


def test_classifiers():
  rng = np.random.default_rng(0)
  labels, test_labels = rng.integers(0, 3, 300), rng.integers(0, 3, 200)
  centers = 10 * np.eye(3, 5)
  about = lambda labels: 100 + centers[labels] + rng.normal(size=(len(labels), 5))
  features = Features(about(labels).astype(np.float32), about(test_labels).astype(np.float32))
  for classifier in (representation.linear_probe, representation.nearest_neighbours):
    assert classifier(features, labels, test_labels).value > 0.98
    value, error = classifier(features, labels, rng.permutation(test_labels))
    assert 0.15 < value < 0.55
    np.testing.assert_allclose(error, np.sqrt(value * (1 - value) / 200))
  components = representation.pca(features, 2)
  assert components.train.shape == (300, 2) and components.test.shape == (200, 2)
  covariance = np.cov(components.train, rowvar=False)
  largest = np.linalg.eigvalsh(np.cov(features.train, rowvar=False))[::-1][:2]
  np.testing.assert_allclose(np.diag(covariance), largest, rtol=1e-3)
  np.testing.assert_allclose(components.train.mean(axis=0), 0, atol=1e-3)
