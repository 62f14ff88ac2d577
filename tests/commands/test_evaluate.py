"""The evaluation of a trained run as a user runs it: methods agree, and nothing is lost."""

import csv
import json
import os
import re
import shutil
import signal

import numpy as np
import pytest

from aevb_jax import locks
from experiments.studies import point_files
from tests.commands.test_command_line import assert_one_clear_line, train
from tests.support import processes

SHORT = ["--hidden_dim=20", "--eval_every=20000"]
CHAINS = ["--chains=8", "--leapfrogs=4", "--temperatures=60"]
METHODS = {
  "importance": ["--importance_samples=1000"],
  "reciprocal": ["--method=reciprocal", *CHAINS, "--warmup=40", "--posterior_samples=40"],
  "ais": ["--method=ais", *CHAINS],
  "bdmc": ["--method=bdmc", *CHAINS],
}


def evaluate(workdir, *arguments):
  return processes.run("evaluate", f"--workdir={workdir}", *arguments)


def table(path):
  with open(path / "points.csv") as file:
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def trained(directory, *arguments):
  result = train(*SHORT, *arguments, f"--workdir={directory}")
  assert result.returncode == 0, result.stderr
  return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  directory = tmp_path_factory.mktemp("runs") / "aevb"
  return trained(directory, "--num_examples=20000", "--num_importance_samples=0")


@pytest.fixture(scope="module")
def mcem_run(tmp_path_factory):
  directory = tmp_path_factory.mktemp("runs") / "mcem"
  arguments = ["--algorithm=mcem", "--binarization=static", "--num_examples=500"]
  return trained(directory, *arguments, "--num_updates=1", "--latent_dim=5")


@pytest.fixture(scope="module")
def evaluated(run):
  result = evaluate(run, "--num_points=25", *METHODS["importance"])
  assert result.returncode == 0, result.stderr
  return result


@pytest.mark.parametrize("method", [pytest.param("reciprocal", marks=pytest.mark.long), "ais"])
def test_methods_agree(run, evaluated, method):
  result = evaluate(run, "--num_points=8", *METHODS[method])
  assert result.returncode == 0, result.stderr
  assert "minus importance" in result.stdout
  points, others = table(run / f"{method}-test"), table(run / "importance-test")
  assert [row["point"] for row in points] == list(range(8))
  difference = np.mean([a["log_p"] - b["log_p"] for a, b in zip(points, others)])
  errors = [row["log_p_se"] for row in points + others[:8]]
  sampling = np.sqrt(np.sum(np.square(errors))) / 8
  assert abs(difference) < 5 * sampling and sampling < 0.1


def test_what_is_printed_is_what_is_written(run, evaluated):
  values = np.array([row["log_p"] for row in table(run / "importance-test")])
  summary = json.loads((run / "importance-test" / "summary.json").read_text())
  np.testing.assert_allclose(summary["log_p"], values.mean(), rtol=1e-6)
  np.testing.assert_allclose(summary["log_p_se"], values.std(ddof=1) / 5, rtol=1e-5)
  np.testing.assert_allclose(
    summary["log_p_bits_per_dim"], -values.mean() / 64 / np.log(2), rtol=1e-6
  )
  assert f"log p(x)              {values.mean():.2f} ±" in evaluated.stdout
  assert "active latents        2 of 2" in evaluated.stdout
  with open(run / "importance-test" / "latents.csv") as file:
    assert len(list(csv.DictReader(file))) == 2


def test_the_sandwich_is_printed(run):
  result = evaluate(run, "--num_points=8", *METHODS["bdmc"])
  assert result.returncode == 0, result.stderr
  rows = table(run / "bdmc-simulated")
  lower, upper = (np.mean([row[side] for row in rows]) for side in ("lower", "upper"))
  assert re.search(r"−\d+\.\d\d ± \d\.\d\d ≤ log p ≤ −\d+\.\d\d ± \d\.\d\d", result.stdout)
  error = np.sqrt(sum(row["lower_se"] ** 2 + row["upper_se"] ** 2 for row in rows)) / len(rows)
  assert -5 * error < upper - lower < 0.5
  assert f"−{-lower:.2f} ±" in result.stdout
  assert f"log p ≤ −{-upper:.2f} ±" in result.stdout


def test_goes_on_where_it_was(run, evaluated, tmp_path):
  # The 25 points are completed from a file that was cut in the middle of a row.
  shutil.copytree(run, tmp_path / "run")
  path = tmp_path / "run" / "importance-test" / "points.csv"
  whole = path.read_text()
  path.write_text(whole[: len(whole) // 2])
  result = evaluate(tmp_path / "run", "--num_points=25", *METHODS["importance"])
  assert result.returncode == 0 and path.read_text() == whole
  lines = [line for line in result.stdout.splitlines() if not line.startswith("minus")]
  assert lines == evaluated.stdout.splitlines()
  # More points are added to those that were estimated before.
  result = evaluate(tmp_path / "run", "--num_points=30", *METHODS["importance"])
  assert result.returncode == 0 and path.read_text().startswith(whole)
  assert len(table(path.parent)) == 30


def test_an_interrupt_keeps_what_is_known(run):
  arguments = ["--method=ais", "--split=train", "--temperatures=100", "--num_points=1400"]
  process = processes.start("evaluate", f"--workdir={run}", *arguments)
  path = run / "ais-train" / "points.csv"
  begun = lambda: path.exists() and path.stat().st_size
  status, errors = processes.stop_when(process, begun, signal.SIGINT)
  assert status == 130
  assert errors[-1].startswith("error: interrupted; the same command resumes")
  rows = table(path.parent)
  assert 10 <= len(rows) < 1400 and len(rows) % 10 == 0


def test_what_is_not_finite_is_counted_and_not_averaged(run, evaluated, tmp_path):
  shutil.copytree(run, tmp_path / "run")
  directory = tmp_path / "run" / "importance-test"
  lines = (directory / "points.csv").read_text().splitlines(keepends=True)
  for i, value in ((4, "nan"), (8, "-inf")):
    cells = lines[i].split(",")
    lines[i] = ",".join([cells[0], value, *cells[2:]])
  (directory / "points.csv").write_text("".join(lines))
  result = evaluate(tmp_path / "run", "--num_points=25", *METHODS["importance"])
  assert "not finite at 2 of 25 points (3, 7), so there is no mean" in result.stdout
  summary = json.loads((directory / "summary.json").read_text())
  assert summary["log_p"] is None and summary["log_p_num_not_finite"] == 2


def test_monte_carlo_em_is_evaluated_without_an_encoder(mcem_run):
  result = evaluate(mcem_run, "--num_points=5", *METHODS["ais"])
  assert result.returncode == 0, result.stderr
  assert "log p(x)" in result.stdout and "active latents" not in result.stdout
  assert_one_clear_line(evaluate(mcem_run), "method", "takes an encoder")
  without = evaluate(mcem_run, "--method=ais", "--start=encoder")
  assert_one_clear_line(without, "start", "takes an encoder")


def test_appendix_d_warns_above_four_latents(mcem_run):
  small = ["--temperatures=5", "--warmup=5", "--posterior_samples=5", "--chains=2"]
  result = evaluate(mcem_run, "--method=reciprocal", "--num_points=2", *small)
  assert result.returncode == 0
  (line,) = result.stderr.splitlines()
  assert line.startswith("warning: the reciprocal estimator is for at most 4 latents")


@pytest.mark.long
def test_binary_latents_are_refused_where_hmc_would_move_them(tmp_path):
  arguments = ["--posterior=bernoulli", "--estimator=vimco", "--num_samples=2"]
  arguments += ["--num_importance_samples=0"]
  workdir = trained(tmp_path / "run", "--num_examples=500", *arguments)
  assert_one_clear_line(evaluate(workdir, "--method=ais"), "method", "takes a continuous z")
  assert evaluate(workdir, "--importance_samples=10", "--num_points=3").returncode == 0


def test_a_flow_under_a_learned_prior(tmp_path):
  # The KL has no closed form and no terms of single latents. The prior uses the encoder, and
  # pixels have 17 levels.
  arguments = ["--posterior=iaf:hidden=8", "--prior=vamp:components=5", "--num_examples=2000"]
  arguments += ["--likelihood=discretized_logistic", "--estimator=iwae", "--num_samples=3"]
  workdir = trained(tmp_path / "run", *arguments, "--num_importance_samples=0", "--latent_dim=3")
  result = evaluate(workdir, "--importance_samples=50", "--num_points=20")
  assert result.returncode == 0, result.stderr
  assert re.search(
    r"active latents +\d of 3; KL\(q ‖ p\) \d+\.\d\d nats by one draw a point", result.stdout
  )
  (bits,) = re.findall(r"bits per dimension +([\d.]+)", result.stdout)
  points = np.mean([row["log_p"] for row in table(workdir / "importance-test")])
  np.testing.assert_allclose(float(bits), -points / (64 * np.log(2)), rtol=1e-3)
  assert 2 < float(bits) < 8


@pytest.mark.long
@pytest.mark.parametrize(
  "posterior, words",
  [
    ("full_gaussian", r"active latents +\d of 3; KL\(q ‖ p\) \d+\.\d\d nats, over all 360"),
    ("cauchy", r"active latents +not known, as q has no mean; KL.* by one draw a point"),
  ],
)
def test_what_is_known_of_latents(posterior, words, tmp_path):
  arguments = [f"--posterior={posterior}", "--num_examples=1000", "--num_importance_samples=0"]
  workdir = trained(tmp_path / "run", *arguments, "--estimator=elbo_a", "--latent_dim=3")
  result = evaluate(workdir, "--importance_samples=10", "--num_points=3")
  assert result.returncode == 0 and re.search(words, result.stdout), result


@pytest.mark.parametrize(
  "arguments, flag, message",
  [
    (["--importance_samples=0"], "importance_samples", "takes at least 2"),
    (["--temperatures=10"], "temperatures", "has no meaning for --method=importance"),
    (["--method=bdmc", "--split=train"], "split", "has no meaning for --method=bdmc"),
    (["--num_importance_samples=9"], "num_importance_samples", "comes from the run"),
    (["--dataset=mnist"], "dataset", "comes from the run"),
    (["--method=ais", "--temperatures=-5"], "temperatures", "not a positive integer"),
    (["--method=bdmc", "--chains=1"], "chains", "takes at least 2"),
    (["--num_points=361"], "num_points", "takes at most the 360 test points"),
    (["--importance_samples=7"], "workdir", "has an evaluation with other settings"),
    (["--importance_samples=1000", "--seed=5"], "workdir", "seed is 0 there and 5 here"),
    (["--method=guess"], "method", "should be one of"),
  ],
)
def test_mistakes_have_a_clear_line(run, evaluated, arguments, flag, message):
  assert_one_clear_line(evaluate(run, *arguments), flag, message)


def evaluate_as_before(run, changed, tmp_path, *arguments):
  """Evaluates a copy of the run, in which `changed` damages a file."""
  shutil.copytree(run, tmp_path / "run")
  changed(tmp_path / "run")
  return evaluate(tmp_path / "run", "--num_points=25", *arguments)


def assert_refused_for(result, *words):
  assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result.stderr
  for word in words:
    assert word in result.stderr


@pytest.mark.parametrize("name", ["settings.json", "points.csv"])
def test_a_damaged_evaluation_is_told(run, evaluated, name, tmp_path):
  damage = lambda copy: (copy / "importance-test" / name).write_bytes(b"point,log_p\n\xff,\xfe\n")
  result = evaluate_as_before(run, damage, tmp_path, *METHODS["importance"])
  assert_refused_for(result, f"has a damaged {name} (", "restore or remove it")


ROWS = {
  "twice": lambda lines: lines[:3] + lines[1:3] + lines[3:],
  "none": lambda lines: lines[:3] + lines[4:],
  "turned round": lambda lines: lines[:1] + lines[:0:-1],
  "no header": lambda lines: lines[1:],
  "other header": lambda lines: [lines[0].replace("log_p_se", "log_q_se"), *lines[1:]],
  "a word": lambda lines: [*lines[:4], lines[4].replace(",", ",x", 1), *lines[5:]],
  "a cell more": lambda lines: [*lines[:4], f"1,{lines[4]}", *lines[5:]],
}


@pytest.mark.parametrize("how", ROWS)
@pytest.mark.parametrize("method", ["importance", "ais"])
def test_rows_that_are_not_those_of_the_points_are_refused(run, evaluated, how, method, tmp_path):
  def damage(copy):
    path = copy / "importance-test" / "points.csv"
    path.write_text("".join(ROWS[how](path.read_text().splitlines(keepends=True))))

  # AIS reads these rows, too, because it compares its estimates with them.
  result = evaluate_as_before(run, damage, tmp_path, *METHODS[method])
  assert_refused_for(result, "importance-test: has a damaged points.csv (")


def test_a_pipe_in_place_of_the_points_is_not_waited_for(run, evaluated, tmp_path):
  def damage(copy):
    (copy / "importance-test" / "points.csv").unlink()
    os.mkfifo(copy / "importance-test" / "points.csv")

  result = evaluate_as_before(run, damage, tmp_path, *METHODS["importance"])
  assert result.returncode == os.EX_IOERR and len(result.stderr.splitlines()) == 1
  assert "points.csv cannot be written or read (it is not a regular file)" in result.stderr


def test_an_evaluation_that_goes_on_is_not_started_twice(run, evaluated):
  before = {path: path.read_bytes() for path in (run / "importance-test").iterdir()}
  with locks.hold(run / "importance-test" / "lock"):
    result = evaluate(run, "--num_points=30", *METHODS["importance"])
    assert_refused_for(result, "importance-test: is in use by")
  for path, contents in before.items():
    assert path.name == "lock" or path.read_bytes() == contents


def test_whole_points_are_never_written_again(tmp_path):
  path, columns = tmp_path / "points.csv", ("point", "log_p", "log_p_se")
  rows = [dict(zip(columns, (i, -20.0 - i, 0.5))) for i in range(3)]
  assert point_files.begin_points(path, columns) == []
  point_files.add_points(path, rows[:2])
  before = path.stat()
  assert point_files.begin_points(path, columns) == rows[:2]
  assert path.stat().st_ino == before.st_ino and path.stat().st_mtime_ns == before.st_mtime_ns
  whole = path.read_text()
  path.write_text(whole + "2,-2")
  assert point_files.begin_points(path, columns) == rows[:2] and path.read_text() == whole
  point_files.add_points(path, rows[2:])
  assert point_files.read_points(path) == rows
  path.write_text("point,lo")  # nothing is left of a header that was cut short
  assert point_files.begin_points(path, columns) == [] and not path.exists()


@pytest.mark.parametrize("text", [b"--latent_dim=x\n", bytes(range(256))])
def test_damaged_flags_are_told(text, tmp_path):
  (tmp_path / "flags.txt").write_bytes(text)
  assert_one_clear_line(evaluate(tmp_path), "workdir", "has a flags.txt that cannot be read")


@pytest.mark.parametrize(
  "name, contents, words",
  [
    ("config.json", b'{"objective": 3}', "objective=3: takes an object with fields of its own"),
    ("config.json", b"[" * 100_000, "has a config.json that cannot be read"),
    ("config.json", None, "has a config.json that cannot be read"),
    ("metrics.csv", b"step,examples_seen,seconds\n1,x,1\n", "has a damaged metrics.csv ("),
    ("summary.json", b'["ab", 7]', "has a damaged summary.json ("),
  ],
)
def test_a_run_that_was_edited_is_one_line(run, evaluated, name, contents, words, tmp_path):
  def damage(copy):
    (copy / name).unlink()
    os.mkfifo(copy / name) if contents is None else (copy / name).write_bytes(contents)

  result = evaluate_as_before(run, damage, tmp_path, *METHODS["importance"])
  assert_refused_for(result, words)


def test_a_directory_that_holds_no_parameters(tmp_path, run):
  assert_one_clear_line(evaluate(tmp_path), "workdir", "holds no run of experiments.train")
  shutil.copy(run / "flags.txt", tmp_path)
  assert_one_clear_line(evaluate(tmp_path), "workdir", "has no parameters to evaluate")
  assert not (tmp_path / "checkpoints").exists()
