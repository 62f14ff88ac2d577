"""experiments.train as a user runs it: sweeps, several devices and interrupted runs."""

import csv
import json
import signal

import numpy as np
import pytest

from tests.support import processes

SHORT = [
  "--hidden_dim=20",
  "--num_examples=2000",
  "--eval_every=500",
  "--num_importance_samples=20",
]
SWEEP = ["--seed=0,1", "--step_size=0.001,0.01,1e30", "--select_step_size=700"]


def run(*arguments, main="train", num_devices=1):
  return processes.run(main, *arguments, num_devices=num_devices)


def table(file):
  with open(file) as lines:
    return list(csv.DictReader(lines))


def numbers(directory):
  """Returns the numbers of metrics.csv by step, except the seconds."""
  rows = table(directory / "metrics.csv")
  return {int(r["step"]): [float(v) for k, v in r.items() if k != "seconds"] for r in rows}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "sweep"
  result = run(*SHORT, *SWEEP, f"--workdir={workdir}", num_devices=2)
  assert result.returncode == 0, result.stderr
  return workdir, result.stdout


@pytest.fixture(scope="module")
def single(tmp_path_factory):
  """A single run with the seed and step size of one member of the sweep."""
  workdir = tmp_path_factory.mktemp("runs") / "single"
  result = run(*SHORT, "--seed=1", "--step_size=0.01", f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  return workdir


def test_a_member_is_its_single_run(sweep, single):
  member = sweep[0] / "seed_1-step_size_0.01"
  assert (member / "flags.txt").read_text() == (single / "flags.txt").read_text()
  rows, expected = numbers(member), numbers(single)
  assert set(rows) - set(expected) == {7}  # the step where step sizes were compared
  for step in expected:
    np.testing.assert_allclose(rows[step], expected[step], rtol=1e-5)
  summaries = [json.loads((d / "summary.json").read_text()) for d in (member, single)]
  for name in ("test_log_likelihood", "test_bound"):
    np.testing.assert_allclose(*(summary[name] for summary in summaries), rtol=1e-5)
  names = lambda directory: {path.name for path in directory.glob("*.png")}
  assert names(member) == names(single)


def test_the_step_size_with_the_best_training_bound_goes_on(sweep):
  workdir, output = sweep
  rows = table(workdir / "sweep.csv")
  assert [(r["seed"], float(r["step_size"])) for r in rows] == [
    (seed, step_size) for seed in "01" for step_size in (0.001, 0.01, 1e30)
  ]
  at_selection = {}
  for row in rows:
    (bound,) = [r["train_bound"] for r in table(workdir / row["name"] / "metrics.csv")
                if r["step"] == "7"]  # fmt: skip
    at_selection.setdefault(float(row["step_size"]), []).append(float(bound))
  assert not np.isfinite(at_selection[1e30]).all()
  best = max((0.001, 0.01), key=lambda s: np.mean(at_selection[s]))
  for row in rows:
    chosen = float(row["step_size"]) == best
    assert (row["finished"] == "True", int(row["step"])) == (chosen, 20 if chosen else 7)
    assert (workdir / row["name"] / "summary.json").exists() == chosen
  assert f"step size {best:g}, by the training bound" in output
  assert (workdir / "sweep.png").stat().st_size > 10_000
  (mean,) = json.loads((workdir / "summary.json").read_text())["over_seeds"]
  a, b = (float(row["test_bound"]) for row in rows if row["finished"] == "True")
  assert mean["step_size"] == best and mean["num_seeds"] == 2
  # The rows have six significant digits.
  assert mean["test_bound"] == pytest.approx((a + b) / 2, rel=1e-5)
  assert mean["test_bound_se"] == pytest.approx(abs(a - b) / 2, rel=1e-3)  # s/√2, s = |a − b|/√2
  assert f"test bound {mean['test_bound']:.2f} ± {mean['test_bound_se']:.2f}" in output


def test_a_member_is_evaluated_as_a_run_is(sweep):
  how = ["--num_points=20", "--importance_samples=20"]
  member = run(f"--workdir={sweep[0] / 'seed_0-step_size_0.01'}", *how, main="evaluate")
  assert member.returncode == 0, member.stderr
  whole = run(f"--workdir={sweep[0]}", *how, main="evaluate")
  assert whole.returncode == 2
  assert "holds a sweep; name one of its members: seed_0-step_size_0.001" in whole.stderr


@pytest.mark.long
def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
  flags = ["--hidden_dim=20", "--eval_every=20000", "--num_importance_samples=0"]
  flags += ["--num_examples=400000", "--seed=0,1", "--step_size=0.001,0.01"]
  flags += ["--select_step_size=110000", "--max_resident_mb=0", "--checkpoint_every=0"]
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  assert run(*flags, f"--workdir={whole}").returncode == 0
  member = killed / "seed_0-step_size_0.01" / "metrics.csv"
  for num_rows in (3, 9):  # before and after the step size was selected
    process = processes.start("train", *flags, f"--workdir={killed}")
    there = lambda n=num_rows: member.exists() and len(table(member)) >= n
    assert processes.stop_when(process, there, signal.SIGKILL) == (-signal.SIGKILL, [])
    assert not (killed / "summary.json").exists()
  result = run(*flags, f"--workdir={killed}")
  assert result.returncode == 0, result.stderr
  assert "resuming after" in result.stdout
  for directory in whole.glob("seed_*"):
    assert numbers(directory) == numbers(killed / directory.name)


@pytest.mark.long
def test_eight_devices_report_what_one_reports(tmp_path):
  """The sweep reaches its end although one step size overflows; the other runs are unaffected."""
  flags = [*SHORT, "--batch_size=96", "--seed=20240101,20240102", "--step_size=0.01,1e30"]
  results = [
    run(*flags, f"--workdir={tmp_path / str(number)}", num_devices=number) for number in (1, 8)
  ]
  assert [r.returncode for r in results] == [0, 0], results[1].stderr
  assert "on 8 × cpu" in results[1].stdout
  names = [row["name"] for row in table(tmp_path / "1" / "sweep.csv")]
  assert len(set(names)) == 4
  for name in names:
    one, eight = (numbers(tmp_path / str(number) / name) for number in (1, 8))
    assert np.isfinite(list(one.values())).all() == ("1e+30" not in name)
    for step in one:
      np.testing.assert_allclose(one[step], eight[step], rtol=1e-5)
    assert (tmp_path / "8" / name / "bound.png").exists() == ("1e+30" not in name)


@pytest.mark.parametrize(
  "arguments, words, num_devices",
  [
    (["--num_devices=9"], "--num_devices=9: takes at most the 8 there are", 8),
    (["--num_devices=8"], "--batch_size=100: 8 devices cannot share it evenly; 96 or 104 they", 8),
    (["--seed=0,0"], "names a value twice", 1),
    (["--seed=0,,1"], "takes an integer in the range [0, 4294967295], or several", 1),
    (["--step_size=0.1,-1"], "takes positive numbers", 1),
    (["--select_step_size=500"], "takes several of --step_size to select from", 1),
    (
      ["--select_step_size=5000", "--step_size=0.1,0.2", "--algorithm=mcem", "--binarization=none"],
      "takes a bound, and --algorithm=mcem has none",
      1,
    ),
    (
      ["--select_step_size=10000", "--step_size=0.1,0.2", "--optimizer=adagrad"],
      "takes more than the 10000 training samples in which nothing moves",
      1,
    ),
    (
      ["--select_step_size=5000", "--step_size=0.1,0.2", "--num_devices=8"],
      "8 devices cannot share it evenly; 96 or 104 they can, or --num_devices=5",
      8,
    ),
    (
      ["--select_step_size=1000000", "--step_size=0.1,0.2"],
      "takes less than --num_examples=1000000",
      1,
    ),
  ],
)
def test_bad_input_is_one_line(arguments, words, num_devices, tmp_path):
  result = processes.run(
    "train", *arguments, f"--workdir={tmp_path / 'run'}", num_devices=num_devices
  )
  assert result.returncode == 2 and words in result.stderr
  assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
  assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_members_share_devices_that_a_single_run_could_not(tmp_path):
  """Two devices cannot share 25 examples evenly, but they can share two members with 25 each."""
  flags = [*SHORT, "--batch_size=25", "--num_examples=500", "--seed=0,1"]
  result = run(*flags, f"--workdir={tmp_path / 'run'}", num_devices=2)
  assert result.returncode == 0, result.stderr
  assert len(table(tmp_path / "run" / "sweep.csv")) == 2


def test_other_mains_train_once(tmp_path):
  result = run("--seed=1,2", f"--workdir={tmp_path / 'run'}", main="gradients")
  assert result.returncode == 2
  assert result.stderr.startswith("error: --seed=1,2: takes one value here")


def test_as_many_devices_train_as_share_a_minibatch(tmp_path):
  """Five of eight devices share a minibatch of 100; the run reports it, and no number changes."""
  flags = ["--num_examples=500", "--hidden_dim=4", "--num_importance_samples=0"]
  alone = processes.run("train", *flags, f"--workdir={tmp_path / '1'}")
  few = processes.run("train", *flags, f"--workdir={tmp_path / '8'}", num_devices=8)
  assert alone.returncode == few.returncode == 0, few.stderr
  assert "5 of 8 devices train: as many as share a minibatch of 100 evenly" in few.stdout
  assert "devices train" not in alone.stdout
  one, five = (numbers(tmp_path / number) for number in "18")
  for step in one:
    np.testing.assert_allclose(one[step], five[step], rtol=1e-5)
