"""Figures 2 to 5 as a user makes them: each draws what its own runs have written."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from PIL import Image

from aevb_jax import locks
from aevb_jax.runs import Config, LoadedRun, files, replace, texts
from aevb_jax.runs.build import make_model
from aevb_jax.runs.checks import resolve
from aevb_jax.runs.learning import make_learning
from aevb_jax.runs.pixels import load_images, make_pixels
from aevb_jax.training import checkpoint
from experiments.flags.figures import Figure
from experiments.studies import jobs, kept
from experiments.studies.paper import bounds, marginal_likelihood
from experiments.studies.paper.bounds import PaperConfig
from experiments.studies.paper.lower_bound import judge
from tests.plots.looking import count_columns
from tests.support import processes

SHORT = ["--num_examples=13000", "--eval_every=12000", "--select_after=12000"]


def make(main, *arguments):
  return processes.run(main, "--budget=smoke", *arguments)


def read(path):
  with open(path) as file:
    return list(csv.DictReader(file))


def assert_picture(path):
  pixels = np.asarray(Image.open(path).convert("L"))
  assert min(pixels.shape) > 200 and pixels.std() > 10


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  return tmp_path_factory.mktemp("runs")


def text_of(edit):
  return lambda path: path.write_text(edit(path.read_text()))


def put_a_pipe(path):
  path.unlink()
  os.mkfifo(path)


EDITED = {
  "bytes": lambda path: path.write_bytes(bytes(range(256))),
  "empty": lambda path: path.write_text(""),
  "half": text_of(lambda text: text[: len(text) // 2]),
  "pipe": put_a_pipe,
  "a row twice": text_of(lambda text: text + text.splitlines(keepends=True)[-1]),
  "no header": text_of(lambda text: text.partition("\n")[2]),
  "a word": text_of(lambda text: text.replace("-", "x")),
  "another column": text_of(lambda text: text.replace("test_bound", "bound", 1)),
  "zero bytes": text_of(lambda text: text.replace("1", "\0")),
}


@pytest.fixture(scope="module")
def figure_2(runs):
  """Interrupts a figure in its second run, and starts it again."""
  workdir = runs.with_name("figure_2")
  how = ["--panels=digits/2", *SHORT, f"--runs={runs}", f"--workdir={workdir}"]
  process = processes.start("lower_bound", "--budget=smoke", *how)
  second = runs / "digits-2-wake_sleep-seed-0" / "step_size_0.01" / "metrics.csv"
  status, errors = processes.stop_when(process, second.exists, signal.SIGINT)
  assert status == 130 and "Traceback" not in "".join(errors), errors
  assert errors[-1] == "error: stopped by SIGINT; the same command resumes from there"
  assert not (workdir / "summary.json").exists()
  result = make("lower_bound", *how)
  assert result.returncode == 0, result.stderr
  return workdir, how, result


def test_an_interrupted_figure_goes_on(figure_2, runs):
  workdir, how, result = figure_2
  assert "1 of 2 runs are finished" in result.stdout
  assert "digits-2-aevb" not in result.stdout.replace("digits-2-aevb-seed-0 ", "")
  finished = {p: p.stat().st_mtime_ns for p in runs.glob("*/summary.json")}
  before = (workdir / "lower_bound.csv").read_bytes()
  again = make("lower_bound", *how)
  assert again.returncode == 0
  assert f"2 of 2 runs are in the table of {workdir} already" in again.stdout
  assert (workdir / "lower_bound.csv").read_bytes() == before
  assert finished == {p: p.stat().st_mtime_ns for p in runs.glob("*/summary.json")}


def test_a_figure_gains_seeds_and_trains_only_these(figure_2, tmp_path):
  """The runs of the first seed are gone, but the figure has their rows."""
  earlier, (_, *how, _, _), _ = figure_2
  workdir = tmp_path / "figure"
  shutil.copytree(earlier, workdir)
  (workdir / "lock").unlink()
  how = ["--panels=digits/2", *how, f"--workdir={workdir}"]
  result = make("lower_bound", *how, "--seeds=0,1")
  assert result.returncode == 0, result.stderr
  assert f"2 of 4 runs are in the table of {workdir} already" in result.stdout
  names = [f"digits-2-{algorithm}-seed-{s}" for algorithm in ("aevb", "wake_sleep") for s in (0, 1)]
  assert sorted(path.name for path in (workdir / "runs").iterdir()) == [names[1], names[3]]
  before, table = read(earlier / "lower_bound.csv"), read(workdir / "lower_bound.csv")
  assert list(dict.fromkeys(row["run"] for row in table)) == names
  assert [row for row in table if row["seed"] == "0"] == before
  old, new = (json.loads((d / "summary.json").read_text()) for d in (earlier, workdir))
  assert list(new["runs"]) == names and old["runs"].items() <= new["runs"].items()
  total = sum(run["seconds"] for run in new["runs"].values())
  np.testing.assert_allclose(new["train_seconds"], total, atol=0.1)
  last = {row["run"]: float(row["test_bound"]) for row in table}
  (claim,) = new["claims"]
  spread = np.std([last[names[0]], last[names[1]]], ddof=1)
  np.testing.assert_allclose(claim["aevb_test_sd"], spread)
  assert "--seeds=0,1" in (workdir / "flags.txt").read_text()
  # A seed cannot be taken away, and a run with other flags has no rows here.
  fewer = make("lower_bound", *how, "--seeds=1")
  assert fewer.returncode == 2 and "(there: --seeds=0,1; here: --seeds=1)" in fewer.stderr
  assert read(workdir / "lower_bound.csv") == table


def test_rows_are_kept_for_the_command_that_made_them(figure_2):
  workdir, *_ = figure_2
  figure = Figure(workdir, workdir / "runs", "smoke", [])
  rows = kept.read(figure, "lower_bound.csv", jobs.BOUNDS)
  same, *_ = bounds.bound_jobs(SHORTLY, *DIGITS_2)
  longer, *_ = bounds.bound_jobs(dataclasses.replace(SHORTLY, num_examples=14_000), *DIGITS_2)
  assert same.name == longer.name
  assert jobs.is_kept(same, rows) and not jobs.is_kept(longer, rows)
  assert not jobs.is_kept(same, kept.read(figure, "other.csv", jobs.BOUNDS))
  assert not jobs.is_kept(same, kept.read(figure, "lower_bound.csv", ["another"]))


@pytest.mark.parametrize("how", EDITED)
@pytest.mark.parametrize("file", ["lower_bound.csv", "summary.json"])
def test_rows_are_kept_only_from_whole_files(figure_2, tmp_path, file, how):
  for name in ("lower_bound.csv", "summary.json"):
    shutil.copy(figure_2[0] / name, tmp_path / name)
  figure = Figure(tmp_path, tmp_path / "runs", "smoke", [])
  find = lambda: kept.read(figure, "lower_bound.csv", jobs.BOUNDS)
  before = find()
  assert len(before.runs) == 2
  EDITED[how](tmp_path / file)
  after = find()
  for name, run in after.runs.items():
    assert len(after.rows[name]) == len(before.rows[name]) == run["rows"]


def test_its_rows_are_those_of_the_chosen_step_sizes(figure_2, runs):
  workdir, *_ = figure_2
  table = read(workdir / "lower_bound.csv")
  assert {row["algorithm"] for row in table} == {"aevb", "wake_sleep"}
  for algorithm in ("aevb", "wake_sleep"):
    sweep = runs / f"digits-2-{algorithm}-seed-0"
    members = {p.parent.name: read(p) for p in sweep.glob("*/metrics.csv")}
    at_choice = {name: float(rows[0]["train_bound"]) for name, rows in members.items()}
    chosen = max(at_choice, key=at_choice.get)
    mine = [row for row in table if row["algorithm"] == algorithm]
    assert {f"step_size_{row['step_size']}" for row in mine} == {chosen}
    for row, source in zip(mine, members[chosen], strict=True):
      for name in ("examples_seen", "train_bound", "test_bound"):
        np.testing.assert_allclose(float(row[name]), float(source[name]), rtol=1e-5)
  summary = json.loads((workdir / "summary.json").read_text())
  (claim,) = summary["claims"]
  ends = {row["algorithm"]: float(row["test_bound"]) for row in table}
  np.testing.assert_allclose(claim["aevb_test"], ends["aevb"], rtol=1e-5)
  np.testing.assert_allclose(claim["wake_sleep_test"], ends["wake_sleep"], rtol=1e-5)
  assert list(summary["runs"]) == list(dict.fromkeys(row["run"] for row in table))
  for name, run in summary["runs"].items():
    (of_run, *_) = (json.loads(p.read_text()) for p in runs.glob(f"{name}/*/summary.json"))
    assert run["git_commit"] == of_run["git_commit"] and run["seconds"] > 0
    assert run["command"].startswith("python -m experiments.train --preset=paper --dataset=digits")
  assert_picture(workdir / "lower_bound.png")


@pytest.mark.parametrize(
  "main, what", [("manifold", "--datasets=digits"), ("samples", "--dataset=digits")]
)
def test_figures_share_runs_and_draw_grids_of_their_own(figure_2, runs, main, what):
  workdir = runs.with_name(main)
  how = [what, "--grid=5", *SHORT, f"--runs={runs}", f"--workdir={workdir}"]
  result = make(main, *how)
  assert result.returncode == 0, result.stderr
  assert "1 of 1 runs are finished" in result.stdout
  (row,) = read(workdir / f"{main}.csv")
  drawn = [r for r in read(figure_2[0] / "lower_bound.csv") if r["algorithm"] == "aevb"][-1]
  assert (row["test_bound"], row["examples_seen"]) == (drawn["test_bound"], "13000")
  assert_picture(workdir / f"{main}.png")
  assert count_columns(workdir / f"{main}.png") == 5


SHORTLY = PaperConfig(13000, 12000, 0, select_after=12000)
DIGITS_2 = ("digits", 2, "aevb")
AEVB = "digits-2-aevb-seed-0"


def chosen_member(runs):
  (name,) = [row["name"] for row in read(runs / AEVB / "sweep.csv") if row["finished"] == "True"]
  return runs / AEVB / name


@pytest.fixture(scope="module")
def untrained():
  config = resolve(replace(Config(), binarization="none", hidden_dim=(20,)))
  images = load_images(config, None)
  model = make_model(config, images)
  params = make_learning(config, model, images).algorithm.init(jax.random.key(0)).params
  pixels = make_pixels(images, config.data)
  return LoadedRun(pathlib.Path(), config, model, params, images, pixels, [], None)


def test_a_grid_has_so_many_samples(untrained):
  run = untrained
  draw = lambda seed, grid: bounds.draw_samples(jax.random.key(seed), run, grid)
  assert draw(0, 3).shape == (3 * 9 - 1, 3 * 9 - 1, 1) and draw(0, 1).shape == (8, 8, 1)
  np.testing.assert_array_equal(draw(0, 3), draw(0, 3))
  assert np.abs(draw(0, 3) - draw(1, 3)).max() > 0.01


@pytest.mark.parametrize("num_points", [7, 25])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_estimate_is_of_so_many_points(untrained, split, num_points):
  run, seen = untrained, []
  estimation = marginal_likelihood.Estimation(num_points, seed=0)
  brightness = lambda key, params, x: x.mean()
  mean = marginal_likelihood.estimate_split(
    brightness, run, run.params, split, estimation, progress=seen.append
  )
  few = np.asarray(getattr(run.data, split))[:num_points] / 255
  np.testing.assert_allclose(mean.value, few.mean(), rtol=1e-6)  # x is real-valued
  error = few.mean(axis=1).std(ddof=1) / np.sqrt(num_points)
  np.testing.assert_allclose(mean.standard_error, error, rtol=1e-5)
  assert sum(seen) == num_points


def lose(path):
  path.unlink()


def keep_lines(number):
  def cut(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:number]))

  return cut


@pytest.mark.parametrize(
  "table, damage",
  [
    ("sweep.csv", lose),
    ("sweep.csv", keep_lines(1)),
    ("metrics.csv", lose),
    ("metrics.csv", keep_lines(1)),
    ("metrics.csv", keep_lines(2)),
  ],
)
def test_a_run_that_has_lost_a_table_is_made_again(figure_2, runs, tmp_path, table, damage):
  copied = tmp_path / "runs"
  shutil.copytree(runs / AEVB, copied / AEVB)
  path = (copied / AEVB if table == "sweep.csv" else chosen_member(copied)) / table
  damage(path)
  how = ["--datasets=digits", *SHORT, f"--runs={copied}", f"--workdir={tmp_path / 'manifold'}"]
  result = make("manifold", *how)
  assert result.returncode == 0, result.stderr
  (line,) = [line for line in result.stdout.splitlines() if "cannot be read" in line]
  assert line.startswith(f"{AEVB}: its tables cannot be read (") and "trained again" in line
  but_for_seconds = lambda rows: [{k: v for k, v in r.items() if k != "seconds"} for r in rows]
  for name in ("sweep.csv", f"{chosen_member(runs).name}/metrics.csv"):
    there, before = read(copied / AEVB / name), read(runs / AEVB / name)
    assert but_for_seconds(there) == but_for_seconds(before)


@pytest.mark.parametrize("how", EDITED)
def test_tables_that_were_edited_are_known(figure_2, runs, how, tmp_path):
  figure, (job,) = (
    Figure(tmp_path, tmp_path, "smoke", []),
    bounds.bound_jobs(SHORTLY, *DIGITS_2),
  )
  shutil.copytree(runs / AEVB, tmp_path / AEVB)
  assert jobs.was_finished(job, figure) and jobs.damage_of(job, figure) == ""
  EDITED[how](tmp_path / AEVB / chosen_member(runs).name / "metrics.csv")
  assert jobs.was_finished(job, figure) and "\n" not in jobs.damage_of(job, figure) != ""


@pytest.mark.parametrize("how", EDITED)
def test_rows_of_an_earlier_start_are_kept_only_where_they_are_numbers(how, tmp_path):
  curve, path = marginal_likelihood.Curve(500, "aevb", 0), tmp_path / "table.csv"
  cells = (*curve, 1, 100, 100, 0.5, -140.5, 0.1, -141.5, 0.1, "run")
  values = dict(zip(marginal_likelihood.COLUMNS, cells, strict=True))
  rows = [values, values | dict(step=2), values | dict(step=7), values | dict(algorithm="mcem")]
  rows.append(values | dict(seed=1))
  files.write_csv(path, marginal_likelihood.COLUMNS, rows)
  for step in (1, 2):
    (tmp_path / "run" / "history" / str(step) / "record").mkdir(parents=True)
  there = marginal_likelihood.rows_there(path, {curve: tmp_path / "run"})
  assert [row["step"] for row in there] == marginal_likelihood.steps_of(tmp_path / "run") == [1, 2]
  EDITED[how](path)
  assert all(
    row in there for row in marginal_likelihood.rows_there(path, {curve: tmp_path / "run"})
  )


def children_of(pid):
  return [int(n) for n in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
  try:
    status = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except FileNotFoundError:
    return False
  return status.rpartition(")")[2].split()[0] != "Z"  # Z: ended, not yet waited for


def test_a_run_ends_with_the_figure_that_started_it(tmp_path):
  long = ["--datasets=digits", "--num_examples=100000000", "--eval_every=12000"]
  process = processes.start("manifold", "--budget=smoke", *long, f"--workdir={tmp_path / 'figure'}")
  sweep = tmp_path / "figure" / "runs" / AEVB
  metrics = sweep / "step_size_0.01" / "metrics.csv"
  processes.wait_until(process, lambda: metrics.exists() and read(metrics))
  (child,) = children_of(process.pid)
  process.kill()
  process.wait()
  began = time.time()
  while is_alive(child) and time.time() - began < 30:
    time.sleep(0.05)
  assert not is_alive(child)
  _, errors = process.communicate(timeout=60)
  assert "stopped by SIGTERM; the state after" in errors and "Traceback" not in errors
  assert checkpoint.steps(sweep / "checkpoints")
  assert locks.holder(sweep / "lock") is None and not (sweep / "summary.json").exists()


@pytest.mark.long
def test_figure_3(runs):
  workdir = runs.with_name("figure_3")
  how = ["--dataset=digits", "--algorithms=aevb,mcem", f"--runs={runs}", f"--workdir={workdir}"]
  result = make("marginal_likelihood", *how)
  assert result.returncode == 0, result.stderr
  table = read(workdir / "marginal_likelihood.csv")
  stages = [(row["algorithm"], row["evaluations"]) for row in table]
  at = {"aevb": ("20000", "40000"), "mcem": ("19200", "38400")}
  assert stages == [(name, number) for name, numbers in at.items() for number in numbers]
  # The bound is of all points, log p(x) of the first ones; the bound is slightly lower.
  (metrics,) = runs.glob("digits-first-500-aevb-*/metrics.csv")
  for row, of_bound in zip(table, read(metrics)):
    for split in ("train", "test"):
      error = 5 * float(row[f"{split}_log_likelihood_se"])
      gap = float(row[f"{split}_log_likelihood"]) - float(of_bound[f"{split}_bound"])
      assert -error < gap < 3 + error
  # Stages in the file are not estimated again; a missing one gets the same number as before.
  path = workdir / "marginal_likelihood.csv"
  whole = path.read_text()
  lines = whole.splitlines(keepends=True)
  path.write_text("".join(lines[:3] + lines[4:]))
  again = make("marginal_likelihood", *how)
  assert again.returncode == 0 and again.stderr.count("evaluations   train") <= 1
  assert path.read_text() == whole
  assert_picture(workdir / "marginal_likelihood.png")
  # The number of points is the one asked for; more points give other numbers for the same runs.
  assert json.loads((workdir / "summary.json").read_text())["num_points"] == 20
  more = runs.with_name("figure_3_of_more")
  how = ["--dataset=digits", "--algorithms=aevb", "--num_points=80", f"--runs={runs}"]
  result = make("marginal_likelihood", *how, f"--workdir={more}")
  assert result.returncode == 0 and "1 of 1 runs are finished" in result.stdout
  assert json.loads((more / "summary.json").read_text())["num_points"] == 80
  for few, many in zip(table, read(more / "marginal_likelihood.csv")):
    for split in ("train", "test"):
      errors = [float(row[f"{split}_log_likelihood_se"]) for row in (few, many)]
      assert 1.3 < errors[0] / errors[1] < 3.2  # about √(80 / 20) = 2


@pytest.mark.long
def test_figure_3_gains_seeds_and_algorithms(tmp_path):
  """Curves of the table stay, without their runs, and log p(x) is not estimated for them again."""
  workdir = tmp_path / "figure"
  how = ["--dataset=digits", "--num_points=2", f"--workdir={workdir}"]
  assert make("marginal_likelihood", *how, "--algorithms=aevb").returncode == 0
  before = read(workdir / "marginal_likelihood.csv")
  shutil.rmtree(workdir / "runs")
  more = make("marginal_likelihood", *how, "--algorithms=aevb,wake_sleep", "--seeds=0,1")
  assert more.returncode == 0, more.stderr
  assert f"1 of 4 runs are in the table of {workdir} already" in more.stdout
  table = read(workdir / "marginal_likelihood.csv")
  assert table[: len(before)] == before
  curves = [(a, s) for a in ("aevb", "wake_sleep") for s in ("0", "1")]
  assert list(dict.fromkeys((row["algorithm"], row["seed"]) for row in table)) == curves
  summary = json.loads((workdir / "summary.json").read_text())
  assert [end["seeds"] for end in summary["ends"]] == [[0, 1], [0, 1]]
  last = [float(row["test_log_likelihood"]) for row in table[1:4:2]]
  (end, _) = summary["ends"]
  np.testing.assert_allclose(end["test_log_likelihood"], np.mean(last))
  np.testing.assert_allclose(end["test_log_likelihood_sd"], np.std(last, ddof=1))
  errors = [float(row["test_log_likelihood_se"]) for row in table[1:4:2]]
  np.testing.assert_allclose(end["test_log_likelihood_se"], np.mean(errors))


@pytest.mark.parametrize(
  "main, arguments, words",
  [
    ("lower_bound", ["--latent_dim=3"], "--latent_dim=3: is set by this main"),
    ("lower_bound", ["--panels=mnist"], "takes DATASET/J"),
    ("lower_bound", ["--seeds=a"], "--seeds=a: takes whole numbers"),
    ("manifold", ["--datasets="], "--datasets"),
    ("samples", ["--latent_dims=0"], "--latent_dims=0: takes positive whole numbers"),
    ("marginal_likelihood", ["--sizes=7"], "--sizes=7: takes whole numbers of at least 100"),
    ("marginal_likelihood", ["--algorithms=em"], "--algorithms=em: takes some of aevb"),
    ("marginal_likelihood", ["--budget=huge"], "--budget=huge"),
  ],
)
def test_what_cannot_be(main, arguments, words, tmp_path):
  result = processes.run(main, "--budget=smoke", *arguments, f"--workdir={tmp_path / 'run'}")
  assert result.returncode == 2
  assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")
  assert words in result.stderr and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "main, arguments, words",
  [
    ("lower_bound", ["--panels=digits/2,no_set/3"], "--dataset=no_set: no data set 'no_set'"),
    ("lower_bound", ["--panels=digits/2", "--num_examples=500"], "takes more than the 100 steps"),
    ("manifold", ["--datasets=digits", "--compilation_cache_dir=/proc/x"], "cannot be made"),
    ("samples", ["--dataset=digits", "--select_after=30000"], "--select_step_size=30000: takes"),
    ("marginal_likelihood", ["--dataset=digits", "--sizes=1438"], "takes at most the 1437"),
    ("conv_vae", ["--dataset=digits", "--num_examples=10"], "--num_examples=10: takes at least"),
    ("conv_vae", ["--dataset=digits", "--manual_dir=/nowhere"], "--manual_dir=/nowhere: is no"),
    ("uses", ["--dataset=digits", "--num_examples=10"], "--num_examples=10: takes at least"),
    ("analogies", ["--dataset=digits", "--num_examples=10"], "--num_examples=10: takes at least"),
    ("iwae_table", ["--dataset=digits", "--mirror=a"], "--mirror=a: takes a --dataset among"),
  ],
)
def test_what_a_run_would_refuse_is_refused_before_anything_is_made(
  main, arguments, words, tmp_path
):
  result = make(main, *arguments, f"--workdir={tmp_path / 'run'}")
  assert result.returncode == 2 and result.stdout == ""
  assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: --")
  assert words in result.stderr and not (tmp_path / "run").exists()


def test_jobs_are_the_configurations_that_train_makes_of_them(figure_2, runs):
  for job in bounds.bound_jobs(SHORTLY, *DIGITS_2):
    made = resolve(jobs.config_of(job))
    assert texts.to_json(made) == (runs / job.name / "config.json").read_text()
  job = jobs.Job("mcem", ("--preset=iwae", "--algorithm=mcem", "--optimizer=sgd"), 1.0)
  config = jobs.config_of(job)  # without the preset's estimator and Adam settings
  assert config.objective.algorithm == "mcem" and config.optimizer.adam_eps is None
  assert config.model.hidden_dim == (200, 200) and config.optimizer.optimizer == "sgd"


def test_a_run_that_fails_ends_the_figure(tmp_path):
  run = tmp_path / "runs" / AEVB
  run.mkdir(parents=True)
  flags = ["--datasets=digits", *SHORT, f"--runs={tmp_path / 'runs'}"]
  flags.append(f"--workdir={tmp_path / 'figure'}")
  with locks.hold(run / "lock"):  # only the run itself finds this out
    result = make("manifold", *flags)
  assert result.returncode == 2
  first, last = result.stderr.splitlines()
  assert first.startswith(f"error: --workdir={run}: is in use by")
  assert last == (
    f"error: {AEVB}: ended with status 2, see above; the same command resumes from there"
  )


def test_a_run_with_other_flags_is_refused_before_the_figure_is_begun(tmp_path):
  run = tmp_path / "runs" / AEVB
  run.mkdir(parents=True)
  (run / "flags.txt").write_text("--latent_dim=7\n")
  result = make("manifold", "--datasets=digits", *SHORT, f"--runs={tmp_path / 'runs'}",
                f"--workdir={tmp_path / 'figure'}")  # fmt: skip
  assert result.returncode == 2 and not (tmp_path / "figure").exists()
  (line,) = result.stderr.splitlines()
  assert line.startswith(f"error: --workdir={run}: holds a run with other flags")


def test_a_figure_with_other_flags_is_set_aside_and_its_runs_stay(figure_2, runs, tmp_path):
  workdir = tmp_path / "figure"
  how = ["--datasets=digits", *SHORT, f"--workdir={workdir}"]
  assert make("manifold", *how, "--grid=3", f"--runs={runs}").returncode == 0
  shutil.copytree(runs / AEVB, workdir / "runs" / AEVB)
  trained = (workdir / "runs" / AEVB / "summary.json").stat()
  again = make("manifold", *how, "--grid=4")
  assert again.returncode == 2 and "holds a run with other flags" in again.stderr
  again = make("manifold", *how, "--grid=4", "--overwrite")
  assert again.returncode == 0 and "1 of 1 runs are finished" in again.stdout, again.stderr
  assert f"the figure that was in {workdir} is now in {workdir}.1" in again.stdout
  assert (workdir / "runs" / AEVB / "summary.json").stat().st_mtime_ns == trained.st_mtime_ns
  old, new = (pathlib.Path(f"{workdir}{end}") for end in (".1", ""))
  names = {"flags.txt", "manifold.csv", "manifold.png", "summary.json"}
  assert {path.name for path in old.iterdir()} == names | {"lock"}
  assert {path.name for path in new.iterdir()} == names | {"lock", "runs"}
  assert "--grid=3" in (old / "flags.txt").read_text()
  assert "--grid=4" in (new / "flags.txt").read_text()


@pytest.mark.parametrize("main", ["lower_bound", "uses"])
def test_figures_may_set_others_aside_but_never_resume(main):
  result = processes.run(main, "--help")
  assert "--[no]overwrite" in result.stdout and "resume:" not in result.stdout
  result = processes.run(main, "--noresume")
  assert result.returncode == 2 and "--resume=False: is set by this main" in result.stderr


def test_a_finished_run_has_the_flags_of_its_job(tmp_path):
  directory, figure = tmp_path / "one", Figure(tmp_path, tmp_path, "smoke", [])
  directory.mkdir()
  job = jobs.Job("one", ("--preset=paper", "--latent_dim=3", "--seed=0"), 1.0)
  assert not jobs.is_finished(job, figure)
  flags = "--batch_size=100\n--latent_dim=3\n--num_examples=200\n--seed=0\n"
  flags += "--eval_every=100\n--step_size=0.1\n"
  (directory / "flags.txt").write_text(flags)
  bounds = "train_bound,train_bound_se,test_bound,test_bound_se"
  rows = [f"step,examples_seen,{bounds},seconds\n", "1,100,-9,1,-9,1,1.5\n", "2,200,-8,1,-8,1,2\n"]
  (directory / "metrics.csv").write_text("".join(rows))
  assert not jobs.is_finished(job, figure)
  (directory / "summary.json").write_text("{}\n")
  assert jobs.is_finished(job, figure)
  assert not jobs.is_finished(job._replace(arguments=("--latent_dim=30",)), figure)
  (directory / "metrics.csv").write_text("".join(rows[:2]))
  assert not jobs.is_finished(job, figure) and not (directory / "summary.json").exists()


def test_claims_are_read_from_the_curves():
  def rows(algorithm, seed, tests, trains):
    about = dict(dataset="mnist", latent_dim=3, algorithm=algorithm, seed=seed)
    errors = dict(train_bound_se=0.1 * (1 + seed), test_bound_se=0.4 * (1 + seed))
    errors |= dict(step_size=0.01 * (1 + seed))
    return [
      about | errors | dict(examples_seen=n, test_bound=test, train_bound=train)
      for n, test, train in zip((10_000, 100_000, 200_000, 400_000), tests, trains, strict=True)
    ]

  table = rows("aevb", 0, (-300, -140, -120, -110), (-300, -139, -119, -109))
  table += rows("aevb", 1, (-400, -142, -122, -112), (-400, -141, -121, -111))
  table += rows("wake_sleep", 0, (-200, -143, -130, -121), (-200, -142, -129, -120))
  claim = judge(("mnist", 3), table)
  # From a hundred thousand samples on, of the seed that both algorithms have.
  assert claim["seeds"] == [0] and claim["aevb_test_sd"] is None
  assert (claim["aevb_test"], claim["wake_sleep_test"]) == (-110, -121)
  assert claim["smallest_lead"] == 3 and claim["samples_to_best_of_wake_sleep"] == 200_000
  assert claim["aevb_inside_axes_from"] == claim["wake_sleep_inside_axes_from"] == 100_000
  table += rows("wake_sleep", 1, (-200, -159, -130, -123), (-200, -142, -129, -120))
  claim = judge(("mnist", 3), table)
  # Bounds are means over seeds; claims are of the lowest AEVB and the highest wake-sleep.
  assert claim["seeds"] == [0, 1]
  assert (claim["aevb_test"], claim["wake_sleep_test"]) == (-111, -122)
  np.testing.assert_allclose(claim["aevb_test_sd"], np.sqrt(2))
  np.testing.assert_allclose((claim["aevb_train_se"], claim["aevb_test_se"]), (0.15, 0.6))
  assert claim["smallest_lead"] == 143 - 142 and claim["last_lead"] == 121 - 112
  assert claim["smallest_lead_by_seed"] == 143 - 140
  assert claim["ahead_from"] == 10**5 and claim["aevb_step_sizes"] == [0.01, 0.02]
  assert claim["samples_to_best_of_wake_sleep"] == 400_000  # one seed is there after 200,000
  inside = [claim[f"{algorithm}_inside_axes_from"] for algorithm in ("aevb", "wake_sleep")]
  assert inside == [10**5, 2 * 10**5]
  table += rows("aevb", 2, (-400, -142, -122, -112), (-400, -141, -121, 300))
  table += rows("wake_sleep", 2, (-200, -141, -130, -123), (-200, -142, -129, -120))
  claim = judge(("mnist", 3), table)
  assert claim["aevb_inside_axes_from"] is None
  assert claim["smallest_lead"] == 141 - 142 and claim["ahead_from"] == 2 * 10**5
  for row in table:
    if (row["algorithm"], row["seed"], row["examples_seen"]) == ("aevb", 1, 4 * 10**5):
      row["test_bound"] = -121.5
  claim = judge(("mnist", 3), table)  # one seed of AEVB ends below one of wake-sleep
  assert claim["ahead_from"] is None and claim["last_lead"] == 121 - 121.5
