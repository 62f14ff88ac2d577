"""The parameters in experiments/results: what their cards say, and the numbers that they give."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from aevb_jax import runs
from tests.data.test_builders import REAL, needs_real_data

ROOT = pathlib.Path(__file__).parents[2]
PUBLISHED = sorted(path.parent for path in (ROOT / "experiments" / "results").glob("*/params.npz"))
NAMES = [path.name for path in PUBLISHED]
ON_MNIST = [path for path in PUBLISHED if path.name.startswith("mnist")]


def read(place, name):
  return json.loads((place / name).read_text())


def test_what_is_published():
  assert {"mnist_adam", "mnist_2_latents", "frey_face_random"} <= set(NAMES)
  assert sum((place / "params.npz").stat().st_size for place in PUBLISHED) < 16e6


def test_the_cards_say_what_the_files_say():
  command = [sys.executable, ROOT / "scripts" / "publish_run.py", "--check"]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("place", PUBLISHED, ids=NAMES)
def test_the_file_holds_plain_arrays_in_the_precision_of_the_card(place):
  about = read(place, "params.json")
  with np.load(place / "params.npz", allow_pickle=False) as file:
    assert {str(file[name].dtype) for name in file.files} == {about["precision"]}
  assert (abs(about["float16_moves"]) < 0.01) == (about["precision"] == "float16")
  text = "".join((place / name).read_text() for name in ("flags.txt", "config.json", "README.md"))
  assert "/tmp" not in text and "data_dir=/" not in text


@needs_real_data
@pytest.mark.parametrize("place", ON_MNIST, ids=[path.name for path in ON_MNIST])
def test_the_parameters_give_the_number_of_the_table(place, monkeypatch):
  """The first 200 images by the same noise as before the parameters were rounded, and the table."""
  monkeypatch.setenv("TFDS_DATA_DIR", str(REAL / "tfds"))
  about, summary = read(place, "params.json"), read(place, "summary.json")
  with jax.enable_x64(False):
    run = runs.load(place, array_cache_dir=None)
    images = run.data.test[: about["first_images"]]
    values = runs.log_likelihood(run, images, num_samples=about["num_importance_samples"])
  assert values.mean() == pytest.approx(about["first_log_likelihood"], abs=0.05)
  error = values.std(ddof=1) / len(values) ** 0.5
  assert abs(values.mean() - summary["test_log_likelihood"]) < 4 * error < 15
