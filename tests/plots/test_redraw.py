"""`python -m experiments.plots` draws what tables hold and leaves all other files as they were."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.plots import __main__ as plots
from experiments.plots import (
  full_vb,
  gradients,
  iwae_table,
  linear_gaussian,
  lower_bound,
  marginal_likelihood,
  records,
  training,
)
from tests.support import processes

RESULTS = pathlib.Path(__file__).parents[2] / "experiments" / "results"
DRAWN = {
  "frey_face_contiguous/bound",
  "frey_face_random/bound",
  "frey_face_video/curves",
  "full_vb/full_vb",
  "gradients/gradients",
  "gradients_importance/gradients",
  "iwae_40/iwae_table",
  "iwae_layers/iwae_table",
  "iwae_table/iwae_table",
  "linear_gaussian/linear_gaussian",
  "lower_bound/lower_bound",
  "marginal_likelihood/marginal_likelihood",
  "mnist_2_latents/bound",
  "mnist_adagrad/bound",
  "mnist_adam/bound",
  "mnist_dreg/bound",
  "mnist_iwae/bound",
  "mnist_paper/bound",
  "mnist_vae/bound",
  "semi_supervised/semi_supervised",
}


def pixels(path):
  return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory):
  """A copy of the results, redrawn after each picture was replaced by one black pixel."""
  root = tmp_path_factory.mktemp("plots") / "results"
  shutil.copytree(RESULTS, root)
  for path in root.rglob("*.png"):
    Image.new("RGB", (1, 1)).save(path)
  result = processes.run("plots", f"--redraw={root}")
  assert result.returncode == 0, result.stderr
  return root, result.stdout.splitlines()


def test_every_picture_has_a_line(redrawn):
  root, lines = redrawn
  found = {}
  for line in lines:
    word, path = line.partition(":")[0].split()
    found[str(pathlib.Path(path).relative_to(root).with_suffix(""))] = word
  names = {str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.png")}
  assert found == {name: "drawn" if name in DRAWN else "left" for name in names}
  for name in names:
    size = pixels(root / f"{name}.png").shape[:2]
    assert size > (300, 300) if name in DRAWN else size == (1, 1)
  assert not list(root.rglob("*.partial"))


def test_committed_pictures_are_those_of_the_tables(redrawn):
  """Pixels of another release of matplotlib are not compared: it may place text differently."""
  root, _ = redrawn
  for name in DRAWN:
    makers = {Image.open(place / f"{name}.png").info["Software"] for place in (RESULTS, root)}
    if len(makers) > 1:
      pytest.skip(f"pictures are of {' and '.join(makers)}")
    committed, made = (pixels(place / f"{name}.png") for place in (RESULTS, root))
    assert committed.shape == made.shape, name
    np.testing.assert_array_equal(committed, made, err_msg=name)


def test_a_single_run_is_redrawn_in_its_place(tmp_path):
  run = tmp_path / "one"
  shutil.copytree(RESULTS / "mnist_paper", run)
  result = processes.run("plots", f"--redraw={run}")
  assert result.returncode == 0 and result.stdout == f"drawn    {run / 'bound.png'}\n"


def test_titles_are_made_of_flags_and_summaries():
  title = lambda module, name: module.redraw(RESULTS / name).get_suptitle()
  assert title(gradients, "gradients_importance") == (
    "digits, 2 latents: gradient of the mean over 10 test points"
  )
  assert title(full_vb, "full_vb") == "mnist, 1000 training images, 10 latents"
  assert title(linear_gaussian, "linear_gaussian") == (
    "digits: a linear-Gaussian VAE of 10 latents"
  )
  assert title(iwae_table, "iwae_table") == "mnist:60k, 121 of 3280 epochs"
  figure = training.redraw_bound(RESULTS / "mnist_dreg")
  assert figure.axes[0].get_title() == "mnist, dynamic binarization\n50 latents, dreg"


def test_curves_are_those_of_the_table():
  rows = records.read_rows(RESULTS / "lower_bound" / "lower_bound.csv")
  mine = [row for row in rows if (row["dataset"], row["latent_dim"]) == ("mnist", 20)]
  of_seeds = [[r for r in mine if (r["algorithm"], r["seed"]) == ("aevb", s)] for s in (0, 1, 2)]
  axes = lower_bound.redraw(RESULTS / "lower_bound").axes[3]
  assert axes.get_title() == "MNIST, $N_z = 20$" and axes.get_ylim() == (-150, -100)
  test = axes.get_lines()[1]
  for rows in of_seeds:
    np.testing.assert_array_equal(test.get_xdata(), [row["examples_seen"] for row in rows])
  bounds = np.array([[row["test_bound"] for row in rows] for rows in of_seeds])
  np.testing.assert_allclose(test.get_ydata(), bounds.mean(axis=0), rtol=1e-12)
  band = axes.collections[1].get_paths()[0].vertices[:, 1]
  assert bounds.min() == band.min() and bounds.max() == band.max()
  axes = marginal_likelihood.redraw(RESULTS / "marginal_likelihood").axes
  assert [one.get_ylim() for one in axes] == [(-160, -100), (-160, -125)]


def test_a_sweep_is_drawn_from_its_members(tmp_path):
  (tmp_path / "flags.txt").write_text("--binarization=none\n--dataset=digits\n--nodequantization\n")
  (tmp_path / "summary.json").write_text("{}\n")
  table = "name,seed,step_size\n"
  for i, step_size in enumerate((0.01, 0.02)):
    table += f"step_size_{step_size},0,{step_size}\n"
    (tmp_path / f"step_size_{step_size}").mkdir()
    metrics = f"examples_seen,train_bound,test_bound\n100,-{30 + i},-31\n200,-20,nan\n"
    (tmp_path / f"step_size_{step_size}" / "metrics.csv").write_text(metrics)
  (tmp_path / "sweep.csv").write_text(table)
  axes = training.redraw_sweep(tmp_path).axes[0]
  assert axes.get_title() == "digits, real-valued pixels, 2 members"
  names = [text.get_text() for text in axes.get_legend().get_texts()]
  assert names == ["step size 0.01", "step size 0.02", "train", "test"]
  np.testing.assert_array_equal(axes.get_lines()[2].get_ydata(), [-31, -20])
  np.testing.assert_array_equal(axes.get_lines()[3].get_ydata(), [-31, np.nan])
  result = processes.run("plots", f"--redraw={tmp_path}")
  assert result.returncode == 0 and (tmp_path / "sweep.png").exists()


@pytest.mark.parametrize(
  "lines, title",
  [
    (("--dataset=binarized_mnist", "--binarization=none"), "binarized_mnist, binary pixels"),
    (("--dataset=mnist", "--binarization=none", "--dequantization"), "mnist, dequantized pixels"),
    (("--dataset=mnist", "--binarization=none", "--nodequantization"), "mnist, real-valued pixels"),
    (("--dataset=mnist", "--binarization=static"), "mnist, static binarization"),
  ],
)
def test_pixels_are_described_as_the_run_described_them(lines, title, tmp_path):
  (tmp_path / "flags.txt").write_text("\n".join([*lines, "--latent_dim=3", "--estimator=iwae"]))
  columns = "examples_seen,train_bound,train_bound_se,test_bound,test_bound_se"
  (tmp_path / "metrics.csv").write_text(f"{columns}\n100,-30,1,-31,1\n")
  assert training.redraw_bound(tmp_path).axes[0].get_title() == f"{title}\n3 latents, iwae"


def test_an_unfinished_run_and_a_broken_table_are_skipped(tmp_path):
  shutil.copytree(RESULTS / "gradients", tmp_path / "unfinished")
  (tmp_path / "unfinished" / "summary.json").unlink()
  shutil.copytree(RESULTS / "iwae_table", tmp_path / "broken")
  (tmp_path / "broken" / "iwae_table.csv").write_text("model,k,nll\n")
  shutil.copytree(RESULTS / "mnist_vae", tmp_path / "whole")
  before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
  result = processes.run("plots", f"--redraw={tmp_path}")
  assert result.returncode == 0, result.stderr
  lines = dict(line.split(maxsplit=1)[::-1] for line in result.stdout.splitlines())
  reason = "its table or flags cannot be read (iwae_table.csv has no rows)"
  assert lines[f"{tmp_path}/broken/iwae_table.png: {reason}"] == "skipped"
  assert lines[f"{tmp_path}/unfinished/gradients.png: the run has not ended"] == "skipped"
  assert lines[f"{tmp_path}/whole/bound.png"] == "drawn"
  for name in ("unfinished/gradients.png", "broken/iwae_table.png"):
    assert (tmp_path / name).read_bytes() == before[tmp_path / name]


EDITED = {
  "empty": lambda text: "",
  "no header": lambda text: text.partition("\n")[2],
  "torn": lambda text: text[: len(text) // 2],
  "words": lambda text: text.replace("-", "x"),
  "zero bytes": lambda text: text.replace("1", "\0"),
}
HOW = [*EDITED, "bytes", "pipe", "directory"]


@pytest.mark.parametrize(
  "name, how",
  [("metrics.csv", how) for how in HOW] + [("flags.txt", how) for how in HOW if how != "no header"],
)
def test_what_cannot_be_read_is_left_with_its_reason(name, how, tmp_path):
  run = tmp_path / "run"
  shutil.copytree(RESULTS / "mnist_2_latents", run)
  path, picture = run / name, (run / "bound.png").read_bytes()
  text = path.read_text()
  path.unlink()
  match how:
    case "pipe":
      os.mkfifo(path)
    case "directory":
      path.mkdir()
    case "bytes":
      path.write_bytes(bytes(range(256)))
    case _:
      path.write_text(EDITED[how](text))
  found = {outcome.path.name: outcome for outcome in plots.redraw_run(run)}
  outcome = found.get("bound.png", found.get("metrics.csv"))
  assert outcome.kind in ("skipped", "left") and "\n" not in outcome.why
  assert (run / "bound.png").read_bytes() == picture


@pytest.mark.parametrize(
  "place, words",
  [
    ("", "--redraw=None: names the directory of a run"),
    ("nowhere", "is not a directory"),
    ("empty", "holds no run with a table that a picture can be drawn from"),
  ],
)
def test_what_cannot_be_redrawn_is_refused_in_a_line(place, words, tmp_path):
  (tmp_path / "empty").mkdir()
  (tmp_path / "empty" / "numbers.csv").write_text("a\n1\n")
  result = processes.run("plots", *([f"--redraw={tmp_path / place}"] if place else []))
  assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
  assert result.stderr.startswith("error: --redraw=") and words in result.stderr


def test_cells_are_numbers_where_they_can_be(tmp_path):
  path = tmp_path / "table.csv"
  path.write_text("a,b,c,d\n1,1.5,,elbo_a\n2,nan,3,-4\n")
  first, second = records.read_rows(path)
  assert first == dict(a=1, b=1.5, d="elbo_a") and isinstance(first["a"], int)
  assert np.isnan(second["b"]) and (second["c"], second["d"]) == (3, -4)
  (tmp_path / "flags.txt").write_text("--dataset=mnist\n--nodequantization\n--at=0,10\n")
  assert records.read_flags(tmp_path) == {"dataset": "mnist", "nodequantization": "", "at": "0,10"}
  (tmp_path / "summary.json").write_text(json.dumps(dict(epochs=4)))
  assert records.read_summary(tmp_path) == dict(epochs=4)
