"""The figure of section 2.4 as a user makes it."""

import csv

import numpy as np
import pytest
from PIL import Image

from tests.support import processes
from tests.support.family_table import SPECIES

FLAGS = ["--num_draws=2000"]


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("families")
  result = processes.run("families", *FLAGS, f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  with open(workdir / "families.csv") as file:
    return workdir, list(csv.DictReader(file))


def test_all_families_are_drawn(figure):
  workdir, rows = figure
  names = {name for group in SPECIES.values() for name in group}
  assert {row["family"] for row in rows} == names and len(rows) == 22
  pixels = np.asarray(Image.open(workdir / "families.png").convert("L"))
  assert min(pixels.shape) > 1000 and pixels.std() > 10


def test_draws_have_the_means_of_the_closed_forms(figure):
  for row in figure[1]:
    mean, sample, error = (float(row[k]) for k in ("mean", "sample_mean", "sample_mean_se"))
    assert np.isnan(mean) == (row["family"] == "cauchy")
    # The Cauchy has no mean, and the variance of the Pareto can be infinite.
    if row["family"] not in ("cauchy", "pareto"):
      assert abs(sample - mean) < 5.5 * error


def test_another_run_in_its_place_is_refused(figure):
  result = processes.run("families", "--num_draws=400", f"--workdir={figure[0]}")
  assert result.returncode == 2 and "num_draws" in result.stderr


def test_a_finished_figure_is_left_as_it_is(figure):
  workdir, _ = figure
  before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in workdir.glob("*.*")}
  result = processes.run("families", *FLAGS, f"--workdir={workdir}")
  assert result.returncode == 0 and result.stdout.startswith("finished before: ")
  assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in workdir.glob("*.*")} == before
