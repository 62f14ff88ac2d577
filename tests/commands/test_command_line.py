"""experiments.train as a user runs it: a whole run, and one clear line for every mistake."""

import csv
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from aevb_jax.data import datasets
from tests.data.test_builders import REAL, needs_real_data
from tests.support import float_images, processes

SHORT = [
  "--hidden_dim=20",
  "--num_examples=2000",
  "--eval_every=500",
  "--num_importance_samples=20",
]


def train(*arguments):
  return processes.run("train", *arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A short run on the digits, shared by the tests that read its directory."""
  workdir = tmp_path_factory.mktemp("runs") / "digits"
  result = train(*SHORT, f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  return workdir, result


def rows(workdir):
  with open(workdir / "metrics.csv") as file:
    return list(csv.DictReader(file))


def contents(workdir):
  files = (p for p in pathlib.Path(workdir).iterdir() if p.is_file() and p.name != "lock")
  return {path.name: path.read_bytes() for path in files}


def test_metrics(run):
  table = rows(run[0])
  assert ",".join(table[0]) == (
    "step,examples_seen,evaluations,train_bound,train_bound_se,test_bound,test_bound_se,seconds"
  )
  assert [int(row["examples_seen"]) for row in table] == [500, 1000, 1500, 2000]
  assert [int(row["step"]) for row in table] == [5, 10, 15, 20]
  assert all(row["evaluations"] == row["examples_seen"] for row in table)  # one sample of z
  assert float(table[-1]["test_bound"]) > float(table[0]["test_bound"]) + 1
  assert 0.1 < float(table[-1]["test_bound_se"]) < 1


def test_summary(run):
  summary = json.loads((run[0] / "summary.json").read_text())
  last = rows(run[0])[-1]
  assert summary["test_bound"] == float(last["test_bound"])
  assert summary["test_bound_se"] == float(last["test_bound_se"])
  assert summary["test_log_likelihood"] > summary["test_bound"]
  assert 0 < summary["test_log_likelihood_se"] < 1
  assert summary["num_importance_samples"] == 20 and summary["examples_seen"] == 2000
  assert (summary["algorithm"], summary["evaluations"]) == ("aevb", 2000)
  assert summary["steps_per_second"] > 0 and summary["compile_seconds"] > 0
  assert summary["wall_seconds"] > summary["compile_seconds"]
  assert summary["device"] and summary["jax_version"] and summary["seed"] == 0
  assert "git_commit" in summary
  assert summary["dataset"] == "digits" and summary["protocol"] == "a fixed random 1437 train"
  assert (summary["num_train"], summary["num_validation"], summary["num_test"]) == (1437, None, 360)
  assert (summary["binarization"], summary["binarization_seed"]) == ("dynamic", 0)
  assert (summary["pixel_scale"], summary["dequantization"]) == (255, False)
  assert summary["streamed"] is False and summary["test_bits_per_dim"] is None


def test_pictures(run):
  for name in ("bound", "samples", "reconstructions", "manifold", "latents"):
    pixels = np.asarray(Image.open(run[0] / f"{name}.png").convert("L"))
    assert min(pixels.shape) > 400 and pixels.std() > 10


def test_tensorboard_shows_the_metrics(run):
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  events = EventAccumulator(str(run[0]))
  events.Reload()
  shown = {event.step: event.value for event in events.Scalars("test_bound")}
  expected = {int(row["examples_seen"]): float(row["test_bound"]) for row in rows(run[0])}
  assert shown == pytest.approx(expected)


def test_last_lines_and_silence(run):
  lines = run[1].stdout.strip().splitlines()
  assert "manifold.png" in lines[-3] and "test bound" in lines[-2]
  assert "test log-likelihood" in lines[-1] and "±" in lines[-1]
  assert run[1].stderr == ""  # no progress bar without a terminal


def test_flags_repeat_the_run_to_the_last_digit(run, tmp_path):
  again = train(f"--flagfile={run[0] / 'flags.txt'}", f"--workdir={tmp_path / 'again'}")
  assert again.returncode == 0, again.stderr
  for row, repeated in zip(rows(run[0]), rows(tmp_path / "again"), strict=True):
    row.pop("seconds"), repeated.pop("seconds")
    assert row == repeated
  assert (tmp_path / "again" / "flags.txt").read_text() == (run[0] / "flags.txt").read_text()


@pytest.mark.long
def test_a_streamed_run_is_the_resident_run(run, tmp_path):
  result = train(*SHORT, "--max_resident_mb=0", f"--workdir={tmp_path / 'run'}")
  assert result.returncode == 0, result.stderr
  assert json.loads((tmp_path / "run" / "summary.json").read_text())["streamed"]
  for row, streamed in zip(rows(run[0]), rows(tmp_path / "run"), strict=True):
    for column in set(row) - {"seconds"}:
      assert float(streamed[column]) == pytest.approx(float(row[column]), rel=1e-6)


def test_other_flags_do_not_overwrite(run):
  before = contents(run[0])
  result = processes.run("train", *SHORT, f"--workdir={run[0]}", "--latent_dim=3")
  assert_one_clear_line(result, "--workdir=", "--latent_dim=2", "--latent_dim=3", "--overwrite")
  assert contents(run[0]) == before


def test_a_finished_run_is_not_made_again_unasked(run, tmp_path):
  workdir = shutil.copytree(run[0], tmp_path / "run")
  before = contents(workdir)
  # A run stays the same run when its data lie elsewhere.
  result = processes.run("train", *SHORT, f"--workdir={workdir}", "--data_dir=elsewhere")
  assert result.returncode == 0, result.stderr
  assert result.stdout.startswith("finished before: ") and contents(workdir) == before


@pytest.mark.long
def test_a_finished_run_is_made_again_beside_it(run, tmp_path):
  workdir = shutil.copytree(run[0], tmp_path / "run")
  before = contents(workdir)
  # Both ways of replacing a run keep the old one whole, beside the new one.
  for number, flags in ((1, ["--noresume"]), (2, ["--seed=1", "--overwrite"])):
    result = train(*SHORT, *flags, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert f"is now in {workdir}.{number}" in result.stdout
    assert len(rows(workdir)) == 4
  assert contents(f"{workdir}.1") == before
  assert "--seed=0" in (tmp_path / "run.2" / "flags.txt").read_text()
  assert "--seed=1" in (workdir / "flags.txt").read_text()


def test_a_directory_that_is_no_run_is_left_alone(tmp_path):
  (tmp_path / "thesis.tex").write_text("years of work")
  result = processes.run("train", *SHORT, f"--workdir={tmp_path}")
  assert_one_clear_line(result, f"--workdir={tmp_path}", "not empty")
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_preset_gives_way_to_flags(tmp_path):
  result = train(
    "--preset=paper", "--step_size=0.01", "--hidden_dim=20", "--num_examples=11000",
    "--num_importance_samples=0", f"--workdir={tmp_path / 'run'}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  assert "not a log-density" in result.stdout  # a Bernoulli likelihood of real-valued pixels
  flags = (tmp_path / "run" / "flags.txt").read_text().splitlines()
  for flag in (
      "--optimizer=adagrad", "--init=0.1", "--weight_prior=1.0", "--binarization=none",
      "--step_size=0.01", "--hidden_dim=20", "--estimator=elbo_b", "--batch_size=100",
  ):  # fmt: skip
    assert flag in flags


@pytest.mark.long
def test_the_preset_of_burda_et_al(tmp_path):
  workdir = tmp_path / "run"
  result = train(
    "--preset=iwae", "--num_samples=3", "--hidden_dim=20", "--num_examples=4000",
    "--stage_epochs=1,1", "--eval_every=1420", "--num_importance_samples=0",
    f"--workdir={workdir}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  flags = (workdir / "flags.txt").read_text().splitlines()
  for flag in (
      "--latent_dim=50", "--estimator=iwae", "--num_samples=3", "--batch_size=20",
      "--binarization=dynamic", "--optimizer=adam", "--step_size=0.001", "--adam_eps=5e-06",
      "--stage_epochs=1,1", "--init=glorot", "--output_bias=data_mean",
  ):  # fmt: skip
    assert flag in flags
  table = rows(workdir)
  assert [int(row["step"]) for row in table] == [71, 142, 200]  # epochs of 1437 // 20 steps
  # A start at fair coins, 64 log 2 = 44.4 nats, would not get this far in 200 steps.
  assert float(table[-1]["test_bound"]) > -30


@pytest.mark.long
def test_a_convolutional_model_in_bfloat16(tmp_path):
  workdir = tmp_path / "run"
  result = train(
    "--preset=article", "--compute_dtype=bfloat16", "--matmul_precision=highest",
    "--num_examples=640", "--num_importance_samples=5", f"--workdir={workdir}",
  )  # fmt: skip
  assert result.returncode == 0
  (warning,) = result.stderr.splitlines()
  assert warning.startswith("warning: --compute_dtype=bfloat16: emulated")
  flags = (workdir / "flags.txt").read_text().splitlines()
  for flag in (
      "--model=conv", "--hidden_dim=32,64", "--batch_size=32", "--binarization=threshold",
      "--step_size=0.0001", "--compute_dtype=bfloat16", "--matmul_precision=highest",
  ):  # fmt: skip
    assert flag in flags
  assert float(rows(workdir)[-1]["test_bound"]) > -46
  assert (workdir / "samples.png").exists()


def test_a_users_own_estimator(tmp_path):
  result = train(
    "--estimator=tests.support.my_estimators:importance_bound",
    "--num_samples=3",
    "--binarization=threshold",
    "--latent_dim=3",
    *SHORT,
    f"--workdir={tmp_path / 'run'}",
  )
  assert result.returncode == 0, result.stderr
  names = {path.name for path in (tmp_path / "run").iterdir()}
  assert "samples.png" in names and "manifold.png" not in names  # three latents
  last = rows(tmp_path / "run")[-1]
  assert int(last["evaluations"]) == 3 * int(last["examples_seen"])


def test_gaussian_likelihood_of_float_images(float_images_dir, tmp_path):
  result = train(
    "--dataset=float_images",
    f"--data_dir={float_images_dir}",
    "--likelihood=gaussian",
    "--nosigmoid_mean",
    "--batch_size=10",
    *SHORT,
    f"--workdir={tmp_path / 'run'}",
  )
  assert result.returncode == 0, result.stderr
  assert "--binarization=none" in (tmp_path / "run" / "flags.txt").read_text()


@needs_real_data
def test_frey_face_dequantized(tmp_path):
  result = train(
    "--dataset=frey_face:contiguous",
    f"--data_dir={tmp_path / 'tfds'}",
    f"--manual_dir={REAL / 'frey_face'}",
    "--likelihood=gaussian",
    "--dequantization",
    *SHORT,
    f"--workdir={tmp_path / 'run'}",
  )
  assert result.returncode == 0, result.stderr
  assert "preparing frey_face in" in result.stderr and len(result.stderr.splitlines()) == 1
  assert "frey_face:contiguous, dequantized pixels: 1565 training" in result.stdout
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert summary["pixel_scale"] == 256 and summary["num_validation"] == 200
  assert "order of the video" in summary["protocol"]
  nats = summary["test_bound"]
  assert summary["test_bits_per_dim"] == pytest.approx(8 - nats / (560 * np.log(2)))
  assert 4 < summary["test_bits_per_dim"] < 12


@needs_real_data
def test_real_mnist_starts(tmp_path):
  result = train(
    "--dataset=mnist",
    f"--data_dir={REAL / 'tfds'}",
    "--binarization=static",
    "--optimizer=adagrad",
    "--step_size=0.02",
    "--hidden_dim=100",
    "--num_examples=20000",
    "--eval_every=20000",
    "--num_importance_samples=0",
    f"--workdir={tmp_path / 'run'}",
  )
  assert result.returncode == 0, result.stderr
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert summary["test_log_likelihood"] is None
  assert (summary["num_train"], summary["num_test"]) == (50_000, 10_000)
  assert -220 < summary["test_bound"] < -150


def assert_one_clear_line(result, *words):
  assert result.returncode == 2
  assert result.stdout == ""
  (line,) = result.stderr.splitlines()
  for word in ("error: ", *words):
    assert word in line


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--dataset=no_such_set"], ["--dataset=no_such_set", "digits"]),
    (["--dataset=no_such_set", "--data_dir=/nowhere"], ["--dataset=no_such_set", "digits"]),
    (["--dataset=mnist:9.9.9", "--data_dir=/nowhere"], ["--dataset=mnist:9.9.9", "3.0.1"]),
    (["--min_std=nan"], ["--min_std=nan", "finite"]),
    (
      ["--dataset=cifar10", "--data_dir=/nowhere"],
      ["--data_dir=/nowhere", "not prepared", "python -m experiments.data --dataset=cifar10"],
    ),
    (
      ["--dataset=frey_face"],
      ["--dataset=frey_face", "frey_face:random or frey_face:contiguous"],
    ),
    (
      ["--dataset=mnist", "--data_dir=/proc/nothing"],
      ["--dataset=mnist", "cannot be prepared in /proc/nothing", "can be written"],
    ),
    (["--manual_dir=/nowhere"], ["--manual_dir=/nowhere", "not a directory"]),
    (["--max_resident_mb=-1"], ["--max_resident_mb=-1"]),
    (["--pixel_scale=128"], ["--pixel_scale=128", "255|256"]),
    (["--dequantization"], ["--dequantization=True", "--binarization=none"]),
    (
      ["--dequantization", "--binarization=none", "--dataset=mnist"],
      ["--dequantization=True", "--likelihood=gaussian"],
    ),
    (
      ["--dequantization", "--binarization=none", "--pixel_scale=255"],
      ["--pixel_scale=255", "256 with --dequantization"],
    ),
    (["--estimator=elbo_c"], ["--estimator=elbo_c", "elbo_a, elbo_b", "package.module:function"]),
    (["--estimator=no.module:f"], ["--estimator=no.module:f", "No module named"]),
    (["--estimator=tests.support.my_estimators:missing"], ["missing", "no attribute"]),
    (
      ["--estimator=tests.support.my_estimators:not_a_function"],
      ["not_a_function", "int", "cannot be called"],
    ),
    (
      ["--estimator=tests.support.my_estimators:without_num_samples"],
      ["num_samples=L", "does not accept"],
    ),
    (["--estimator=tests.support.my_estimators:not_a_scalar"], ["not_a_scalar", "scalar", "64"]),
    (
      ["--estimator=tests.support.my_estimators:without_closed_form"],
      ["without_closed_form", "no closed form"],
    ),
    (
      ["--estimator=tests.support.my_estimators:broken"],
      ["broken", "ZeroDivisionError", "my_estimators.py, line"],
    ),
    (
      ["--estimator=tests.support.my_estimators:without_a_gradient"],
      ["fails on a data point", "while_loop"],
    ),
    (
      ["--estimator=tests.support.my_estimators:ends_the_program"],
      ["fails on a data point: SystemExit: 0", "my_estimators.py, line"],
    ),
    (
      ["--estimator=tests.support.my_estimators:shy"],
      ["cannot be looked at: RuntimeError: not yours", "my_estimators.py, line"],
    ),
    (
      ["--estimator=/path/my_bound.py:f"],
      ["cannot be imported", "a module's name without .py, in this directory or on PYTHONPATH"],
    ),
    (["--latent_dim=ten"], ["--latent_dim=ten", "takes a whole number, such as 1000000"]),
    (["--num_examples=1e6"], ["--num_examples=1e6", "takes a whole number, such as 1000000"]),
    (["--beta=much"], ["--beta=much", "takes a number, such as 0.01"]),
    (["--beta=nan"], ["--beta", "finite"]),
    (["--free_bits=inf"], ["--free_bits", "finite"]),
    (["--estimator=renyi"], ["--estimator=renyi", "alpha"]),
    (["--estimator=miwae:num_groups=2"], ["num_groups is 2", "divisor"]),
    (["--estimator=ciwae:beta"], ["name=value"]),
    (["--estimator=vimco"], ["expected at least 2"]),
    (["--posterior=bernoulli"], ["--estimator=elbo_b", "no reparameterization"]),
    (["--posterior=normal"], ["--posterior=normal", "takes one of exponential", "iaf"]),
    (["--posterior=student_t:nu=3"], ["student_t takes degrees_of_freedom, not nu"]),
    (["--posterior=mixture:components=2.5"], ["components takes a whole number, not 2.5"]),
    (["--posterior=gamma:shape"], ["name=number, not 'shape'"]),
    (["--posterior=dirichlet", "--latent_dim=1"], ["--posterior=dirichlet", "at least 2"]),
    (["--posterior=iaf"], ["--estimator=elbo_b", "KL(Flow ‖ DiagonalGaussian)"]),
    (
      ["--posterior=beta", "--prior=gaussian"],
      ["KL(Beta ‖ DiagonalGaussian)", "q is on the numbers from 0 to 1, p on all numbers"],
    ),
    (
      ["--prior=gamma"],
      ["--prior=gamma", "q(z|x) may be on all numbers", "is only on the positive numbers"],
    ),
    (["--posterior=beta", "--prior=uniform:high=0.5"], ["is only on the numbers from 0 to 0.5"]),
    (["--prior=gamma:rate=-1", "--posterior=gamma"], ["gamma:rate=-1 has no density"]),
    (["--prior=vamp:components=0"], ["a whole number of at least 1"]),
    (["--prior=vamp"], ["--estimator=elbo_b", "KL(DiagonalGaussian ‖ Vamp)"]),
    (["--likelihood=poisson"], ["--likelihood=poisson", "categorical"]),
    (["--likelihood=beta"], ["--likelihood=beta", "has the density inf at pixels of 0"]),
    (
      ["--likelihood=categorical", "--dequantization", "--dataset=mnist"],
      ["--dequantization", "is for densities"],
    ),
    (["--num_leapfrogs=5"], ["--num_leapfrogs=5", "--algorithm=aevb"]),
    (
      ["--model=conv", "--hidden_dim=8,8,8"],
      ["--hidden_dim=8,8,8", "8×8 pixels have room for 2 convolutions"],
    ),
    (["--model=transformer"], ["--model=transformer", "conv"]),
    (["--compute_dtype=float8"], ["--compute_dtype=float8", "bfloat16"]),
    (["--matmul_precision=exact"], ["--matmul_precision=exact", "highest"]),
    (["--hidden_dim=20,x"], ["--hidden_dim", "whole numbers"]),
    (["--estimator=builtins:max"], ["builtins:max", "num_samples=L"]),
    (
      ["--optimizer=adagrad", "--num_examples=10000"],
      ["--num_examples=10000", "100 steps of warm-up"],
    ),
    (["--seed=-1"], ["--seed=-1"]),
    (["--seed=99999999999"], ["--seed=99999999999", "4294967295"]),
    (["--compilation_cache_dir=/proc/nothing"], ["--compilation_cache_dir=/proc/nothing"]),
    ([f"--workdir={__file__}"], ["--workdir=", "Not a directory"]),
    (["--latent_dim=0"], ["--latent_dim=0", "positive integer"]),
    (["--latent_dim=2.5"], ["--latent_dim=2.5"]),
    (["--batch_size=-1"], ["--batch_size=-1", "positive integer"]),
    (["--num_samples=0"], ["--num_samples=0", "positive integer"]),
    (["--num_examples=0"], ["--num_examples=0", "range [1, 1000000000000]"]),
    (["--num_examples=50"], ["--num_examples=50", "--batch_size=100"]),
    (["--batch_size=1438"], ["--batch_size=1438", "1437"]),
    (["--step_size=-0.1"], ["--step_size=-0.1", "positive"]),
    (["--step_size=nan"], ["--step_size=nan", "positive"]),
    (["--weight_prior=inf"], ["--weight_prior=inf", "finite"]),
    (["--init=sparse"], ["--init=sparse", "flax"]),
    (["--output_bias=mean"], ["--output_bias=mean", "data_mean"]),
    (["--output_bias=data_mean", "--model=conv"], ["--output_bias=data_mean", "--model=mlp"]),
    (
      ["--output_bias=data_mean", "--likelihood=gaussian"],
      ["--output_bias=data_mean", "--likelihood=bernoulli"],
    ),
    (["--optimizer=lion"], ["--optimizer=lion", "adagrad"]),
    (["--optimizer=sgd", "--adam_eps=1e-4"], ["--adam_eps=0.0001", "--optimizer=sgd"]),
    (["--adam_eps=0"], ["--adam_eps=0", "positive"]),
    (["--adam_eps=nan"], ["--adam_eps=nan", "positive"]),
    (["--stage_epochs="], ["--stage_epochs", "whole numbers"]),
    (["--stage_epochs=1,0"], ["--stage_epochs", "whole numbers"]),
    (["--stage_epochs=1,2.5"], ["--stage_epochs", "whole numbers"]),
    (["--likelihood=gaussian", "--binarization=static"], ["--binarization=static", "none"]),
    (["--latent_dims=3"], ["latent_dims", "latent_dim"]),
    (["3"], ["'3'", "--name=value"]),
    (["--flagfile=/nowhere/flags.txt"], ["/nowhere/flags.txt"]),
    (["--workdir=/proc/nothing"], ["--workdir=/proc/nothing"]),
    (["--workdir="], ["--workdir=", "takes a value"]),
    (["--data_dir=~nobody_of_this_name"], ["--data_dir=~nobody", "home directory"]),
    (["--data_dir=a\nb"], ["'--data_dir=a\\nb'", "not text"]),
    (["--data_dir=a\udcffb"], ["'--data_dir=a\\udcffb'", "not text"]),
    ([f"--flagfile={sys.executable}"], ["--flagfile", "not text"]),
    (["--nodequantization=true"], ["--nodequantization=true", "argument"]),
    (["--max_resident_mb=nan"], ["--max_resident_mb=nan", "number"]),
    (["--hidden_dim="], ["--hidden_dim", "whole numbers"]),
    (["--hidden_dim=" + 5000 * "9"], ["--hidden_dim", "whole numbers"]),
    (["--hidden_dim=1000000000"], ["--hidden_dim=1000000000", "GiB of parameters"]),
    (["--latent_dim=2000000000"], ["--latent_dim=2000000000", "GiB of parameters"]),
    (["--num_samples=2147483648"], ["--num_samples=2147483648", "at most 2147483647"]),
    (["--num_examples=1000000000001"], ["--num_examples=1000000000001", "1000000000000]"]),
    (
      ["--num_examples=1000000000000", "--batch_size=1"],
      ["--num_examples=1000000000000", "2147483647 steps"],
    ),
    (["--dataset=mnist", "--mirror=my/mnist"], ["--mirror=my/mnist", "https://"]),
    (["--dataset=a b"], ["--dataset=a b", "no data set", "digits"]),
  ],
  ids=lambda value: " ".join(value) if str(value[0]).startswith("-") else "",
)
def test_bad_input_is_one_line(arguments, words, tmp_path):
  workdir = tmp_path / "run"
  workdir_flag = [] if any("workdir" in a for a in arguments) else [f"--workdir={workdir}"]
  assert_one_clear_line(processes.run("train", *workdir_flag, *arguments), *words)
  assert not workdir.exists()


def test_pixels_outside_the_unit_interval(float_images_dir, tmp_path):
  result = processes.run(
    "train",
    "--dataset=float_images",
    f"--data_dir={float_images_dir}",
    "--batch_size=10",
    f"--workdir={tmp_path / 'run'}",
  )
  assert_one_clear_line(result, "--likelihood=bernoulli", "[0, 1]", "gaussian")


@pytest.mark.parametrize(
  "split, value, how",
  [
    ("train", np.nan, ["--likelihood=gaussian"]),
    ("test", -np.inf, ["--likelihood=gaussian", "--max_resident_mb=0", "--array_cache_dir="]),
    ("test", np.nan, ["--binarization=threshold"]),
  ],
)
def test_a_pixel_that_is_not_finite_refuses_the_data_set(split, value, how, tmp_path):
  directory = float_images.prepare(str(tmp_path / "tfds"), {split: value})
  images = getattr(datasets.load("float_images", directory), split)
  ((image, pixel),) = np.argwhere(~np.isfinite(images))
  assert pixel == 9  # row 2, column 1 of four
  flags = ["--dataset=float_images", f"--data_dir={directory}", "--batch_size=10", *how]
  result = train(*flags, f"--workdir={tmp_path / 'run'}")
  words = f"{value} in image {image} of {split}, at row 2, column 1, channel 0 (all counted from 0)"
  assert_one_clear_line(result, "--dataset=float_images: ", words, "prepare the data set again")
  assert not (tmp_path / "run").exists() and result.stdout == ""


def test_records_that_are_damaged_and_streamed(float_images_dir, tmp_path):
  directory = shutil.copytree(float_images_dir, tmp_path / "tfds")
  (record,) = directory.rglob("*train.array_record*")
  contents = bytearray(record.read_bytes())
  contents[60:400] = bytes(340)
  record.write_bytes(contents)
  result = train(
    "--dataset=float_images",
    f"--data_dir={directory}",
    "--array_cache_dir=",
    "--max_resident_mb=0",
    "--likelihood=gaussian",
    "--batch_size=10",
    *SHORT,
    f"--workdir={tmp_path / 'run'}",
  )
  assert result.returncode == 2 and "Traceback" not in result.stderr
  assert "--dataset=float_images: " in result.stderr and "remove it" in result.stderr


def test_help_names_every_flag():
  result = train("--help")
  for flag in (
    "--dataset",
    "--estimator",
    "--num_samples",
    "--workdir",
    "--preset",
    "--eval_every",
  ):
    assert flag in result.stdout
