"""A video by dynamic models and by the static VAE, as a user runs it."""

import csv
import json
import math
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from experiments.studies import frey_face_video as study
from tests.support import processes

REAL = pathlib.Path(os.environ.get("AEVB_JAX_TEST_DATA", "nowhere")) / "frey_face"
T = 4
SMALL = ("--num_frames=4", "--latent_dim=2", "--hidden_dim=5", "--num_importance_samples=32",
         "--batch_size=5")  # fmt: skip


@pytest.fixture(scope="module")
def video(tmp_path_factory):
  """An .npz file of a bright square that wanders over images of 6 × 5 pixels."""
  path, rng = tmp_path_factory.mktemp("video") / "square.npz", np.random.default_rng(0)
  frames = rng.integers(0, 20, size=(130, 6, 5), dtype=np.uint8)
  for t, frame in enumerate(frames):
    row, column = round(2 + 2 * math.sin(t / 5)), round(1.5 + 1.5 * math.cos(t / 7))
    frame[row : row + 2, column : column + 2] = 200
  np.savez(path, train=frames[:100], validation=frames[100:113], test=frames[113:])
  return path


def run(*arguments):
  return processes.run("frey_face_video", *arguments)


def read(path):
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


def check_results(workdir, num_windows):
  """Checks that the summary is computed from the rows of the windows and of training."""
  summary = json.loads((workdir / "summary.json").read_text())
  windows, metrics = read(workdir / "windows.csv"), read(workdir / "metrics.csv")
  column = lambda method, name: np.array(
    [float(row[name]) for row in windows if row["method"] == method]
  )
  for row in summary["results"]:
    method = row["method"]
    assert len(column(method, "log_p")) == num_windows
    gains = column(method, "log_p") - column("static", "log_p")
    assert row["test_log_p"] == pytest.approx(column(method, "log_p").mean(), rel=1e-5)
    assert row["gain_log_p"] == pytest.approx(gains.mean(), rel=1e-5, abs=1e-3)
    error = gains.std(ddof=1) / num_windows**0.5
    assert row["gain_log_p_se"] == pytest.approx(error, rel=1e-5, abs=1e-3)
    bounds = {
      r["frames_seen"]: float(r["validation_bound"]) for r in metrics if r["method"] == method
    }
    best = max(bounds, key=bounds.get)
    assert row["frames_seen"] == int(best)
    assert row["validation_bound"] == pytest.approx(bounds[best], rel=1e-5)
    assert np.all(column(method, "ess") >= 1)
  assert [row["method"] for row in summary["results"]] == list(study.METHODS)
  return summary


def test_writes_what_it_measured(video, tmp_path):
  workdir = tmp_path / "run"
  flags = (f"--dataset=arrays:{video}", "--num_examples=1000", "--eval_every=500", *SMALL)
  result = run(*flags, f"--workdir={workdir}")
  assert result.returncode == 0 and result.stderr == "", result.stderr
  check_results(workdir, num_windows=17 // T)
  rows = read(workdir / "metrics.csv")
  assert [row["method"] for row in rows] == [name for name in study.METHODS for _ in range(2)]
  assert [int(row["frames_seen"]) for row in rows] == [500, 1000] * 3
  pictures = {name: Image.open(workdir / f"{name}.png") for name in ("curves", "frey_face_video")}
  assert all(min(picture.size) > 200 for picture in pictures.values())
  assert run(*flags, f"--workdir={workdir}").stdout.startswith("finished before: ")


@pytest.mark.long
@pytest.mark.skipif(not REAL.exists(), reason="Frey Face: AEVB_JAX_TEST_DATA names no directory")
def test_smoke(tmp_path):
  workdir = tmp_path / "run"
  places = (f"--data_dir={tmp_path / 'tfds'}", f"--manual_dir={REAL}", f"--workdir={workdir}")
  result = run("--budget=smoke", *places)
  assert result.returncode == 0, result.stderr
  summary = check_results(workdir, num_windows=20)
  assert summary["dataset"] == "frey_face:contiguous" and summary["num_test"] == 200
  assert "static" in result.stdout and "backward" in result.stdout


@pytest.mark.parametrize(
  "arguments, line",
  [
    (["--dataset=frey_face:random"], "--dataset=frey_face:random: has no frames in the order"),
    (["--dataset=digits"], "--dataset=digits: has no frames in the order of a video"),
    (["--num_frames=1"], "--num_frames=1"),
    (["--binarization=dynamic"], "--binarization=dynamic: takes none here"),
    (["--dequantization"], "--dequantization=True: is not a flag of this main"),
    (["--num_examples=99"], "--num_examples=99: takes at least one step"),
    (["--step_size=0"], "takes a positive number"),
    (["--min_std=-1"], "--min_std=-1"),
  ],
)
def test_a_mistake_is_one_line(arguments, line, tmp_path):
  result = run(*arguments, f"--workdir={tmp_path / 'none'}")
  assert result.returncode == 2 and line in result.stderr, result.stderr
  assert result.stderr.count("\n") == 1 and not (tmp_path / "none").exists()


def test_videos_that_are_too_short_are_refused(video, tmp_path):
  for flag, line in (
    ("--num_frames=14", "--num_frames=14: takes at most the 13 validation frames"),
    ("--batch_size=98", "--batch_size=98: takes at most the 97 windows"),
  ):
    result = run(f"--dataset=arrays:{video}", *SMALL, flag, f"--workdir={tmp_path / 'none'}")
    assert result.returncode == 2 and line in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "none").exists()


def test_differences_are_paired_by_window_and_by_block():
  # The differences are 1, 3, 2, 6, 5; the blocks of two have the means 2 and 4.
  dynamic, static = (
    dict(log_p=np.array([11.0, 23, 2, 6, 7])),
    dict(log_p=np.array([10.0, 20, 0, 0, 2])),
  )
  found = study.paired(dynamic, static, "log_p")
  # Σ (d − 3.4)² = 5.76 + 0.16 + 1.96 + 6.76 + 2.56 = 17.2; 17.2 / 4 / 5 = 0.86
  assert found.value == pytest.approx(3.4) and found.standard_error == pytest.approx(0.86**0.5)
  assert found.block_error == pytest.approx(1.0)  # sqrt(((2 − 3)² + (4 − 3)²) / 1 / 2)
  one = study.paired(dict(log_p=[2.0]), dict(log_p=[1.0]), "log_p")
  assert one.value == 1 and math.isnan(one.standard_error) and math.isnan(one.block_error)
