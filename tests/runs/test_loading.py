"""Runs in Python: trained, interrupted, opened, written, and what is refused."""

import contextlib
import io
import json
import shutil
import sys

import jax
import numpy as np
import pytest

from aevb_jax import runs
from aevb_jax.errors import ConfigError, RunError
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.runs import job, loading
from aevb_jax.runs.files import read_metrics
from aevb_jax.training import checkpoint
from tests.support import processes

CONFIG = runs.replace(
  runs.Config(),
  num_examples=3000,
  eval_every=1000,
  hidden_dim=(8,),
  num_importance_samples=0,
)
HERE = dict(num_devices=1, array_cache_dir=None)


@pytest.fixture(scope="module", autouse=True)
def no_cache():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(loading.load.__kwdefaults__, "array_cache_dir", None)
    patch.setitem(loading.save.__kwdefaults__, "array_cache_dir", None)
    yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  return runs.train(CONFIG, tmp_path_factory.mktemp("runs") / "one", **HERE)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
  config = runs.replace(CONFIG, latent_dim=3, likelihood="gaussian")
  return runs.train(config, tmp_path_factory.mktemp("runs") / "other", **HERE)


def leaves(params):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def test_a_run_is_shown_in_one_line(trained):
  shown, last = repr(trained), trained.metrics[-1]
  assert shown.startswith(f"LoadedRun('{trained.directory}': digits, J = 2, 3000 training samples,")
  assert f"{last['test_bound']:.2f} ± {last['test_bound_se']:.2f}" in shown
  assert "\n" not in shown and "array" not in shown
  assert repr(trained._replace(metrics=[], summary=None)).endswith(" 0 training samples, no bound)")


def test_a_run_is_what_was_trained(trained):
  assert [row["examples_seen"] for row in trained.metrics] == [1000, 2000, 3000]
  assert trained.summary["test_bound"] == trained.metrics[-1]["test_bound"]
  assert trained.config.model.prior == "gaussian" and trained.config.data.binarization == "dynamic"
  assert trained.data.train.shape == (1437, 64)
  step = checkpoint.steps(trained.directory / "checkpoints")[-1]
  assert step == 30
  written = checkpoint.read_record(trained.directory / "checkpoints", step)
  assert [row["step"] for row in written["runs"][""]["rows"]] == [10, 20, 30]


def test_two_runs_are_open_at_once(trained, other):
  """Each run keeps its configuration, data and model, whichever was opened last."""
  again = runs.load(trained.directory)
  assert (again.config.model.latent_dim, other.config.model.latent_dim) == (2, 3)
  for a, b in zip(leaves(again.params), leaves(trained.params), strict=True):
    np.testing.assert_array_equal(a, b)
  few = trained.data.test[:5]
  before = runs.encode(trained, few)
  assert runs.encode(other, few).shape == (5, 3)
  np.testing.assert_array_equal(runs.encode(trained, few), before)


def test_the_command_line_makes_the_same_run(trained, tmp_path):
  flagfile = f"--flagfile={trained.directory / 'flags.txt'}"
  done = processes.run("train", flagfile, f"--workdir={tmp_path}", "--num_devices=1")
  assert done.returncode == 0, done.stderr
  for name in ("flags.txt", "config.json"):
    assert (tmp_path / name).read_text() == (trained.directory / name).read_text()
  columns = ["step", "examples_seen", "evaluations"]
  assert [[row[c] for c in columns] for row in read_metrics(tmp_path)] == [
    [row[c] for c in columns] for row in trained.metrics
  ]


def test_a_run_that_was_broken_off_resumes(trained, tmp_path, capsys):
  """The second call resumes from what the first has saved and ends where one call would."""
  workdir = tmp_path / "again"

  class Interrupt(Exception):
    pass

  def interrupted(run, rows):
    if run.rows:  # at the second row, after the first was saved
      raise Interrupt

  with pytest.MonkeyPatch.context() as patch:
    writer = contextlib.nullcontext(interrupted)
    patch.setattr(job, "row_files", lambda training, columns: writer)
    with pytest.raises(Interrupt):
      runs.train(CONFIG, workdir, checkpoint_every=0.0, **HERE)
  again = runs.train(CONFIG, workdir, **HERE)
  assert "resuming after 1,000 training samples" in capsys.readouterr().out
  for a, b in zip(leaves(again.params), leaves(trained.params), strict=True):
    np.testing.assert_array_equal(a, b)
  assert [row["test_bound"] for row in again.metrics] == [
    row["test_bound"] for row in trained.metrics
  ]


def test_output_that_cannot_encode_every_letter(tmp_path, monkeypatch):
  """A stream has such an encoding under PYTHONIOENCODING=ascii and in a job without a locale."""
  stream = io.TextIOWrapper(io.BytesIO(), "ascii", "strict")
  monkeypatch.setattr(sys, "stdout", stream)
  config = runs.replace(CONFIG, num_examples=1000)
  assert runs.train(config, tmp_path, **HERE).summary["examples_seen"] == 1000
  assert stream.errors == "strict"
  stream.flush()
  text = stream.buffer.getvalue().decode("ascii")
  assert "train bound" in text and text.count(" \\xb1 ") >= 3


def test_a_process_of_another_precision_names_both(trained, tmp_path):
  """This process computes in float64, and the processes that it starts compute in float32."""
  words = "was saved in float64, and this process computes in float32; set JAX_ENABLE_X64=1"
  evaluated = processes.run("evaluate", f"--workdir={trained.directory}")
  assert evaluated.returncode == 2 and len(evaluated.stderr.splitlines()) == 1
  assert words in evaluated.stderr
  workdir = shutil.copytree(trained.directory, tmp_path / "run")
  (workdir / "summary.json").unlink()  # as if the run had ended just before writing it
  before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
  flags = [f"--flagfile={workdir / 'flags.txt'}", f"--workdir={workdir}"]
  resumed = processes.run("train", *flags)
  assert resumed.returncode == 2 and len(resumed.stderr.splitlines()) == 1
  assert f"--workdir={workdir}: holds a run that cannot be resumed: " in resumed.stderr
  assert words in resumed.stderr
  after = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
  assert {**after, workdir / "lock": b""} == {**before, workdir / "lock": b""}


def test_a_finished_run_is_only_opened(trained, capsys):
  before = (trained.directory / "summary.json").stat().st_mtime_ns
  runs.train(CONFIG, trained.directory, **HERE)
  assert "finished before" in capsys.readouterr().out
  assert (trained.directory / "summary.json").stat().st_mtime_ns == before
  with pytest.raises(ConfigError, match="holds a run with other flags .*--seed=1"):
    runs.train(runs.replace(CONFIG, seed=1), trained.directory, **HERE)


def test_a_sweep_has_members(tmp_path):
  config = runs.replace(CONFIG, seed=(0, 1), num_examples=1000)
  assert runs.train(config, tmp_path / "sweep", **HERE) is None
  assert [m.seed for m in runs.members(config)] == [0, 1]
  member = runs.load(tmp_path / "sweep" / "seed_1")
  assert runs.load(tmp_path / "sweep" / "seed_0").config == runs.replace(member.config, seed=0)
  with pytest.raises(RunError, match="holds a sweep; name one of its members: seed_0 seed_1"):
    runs.load(tmp_path / "sweep")


def test_log_likelihood_and_means_are_those_of_the_model(trained):
  few = trained.data.test[:4]
  values = runs.log_likelihood(trained, few, num_samples=50)
  x = runs.loading._of_images(lambda key, model, params, x: x, trained, few, None)
  assert set(np.unique(x)) <= {0.0, 1.0}
  q = trained.model.encoder.given(trained.params.phi, x[0])
  np.testing.assert_allclose(runs.encode(trained, few)[0], q.mean, rtol=1e-6)
  many = importance_sampling(
    jax.random.key(1), trained.model, trained.params, x[0], num_samples=20_000
  )
  error = 6 * (many.standard_error + 0.5)  # 0.5 allows for the error of 50 samples
  assert abs(values[0] - many.value) < error
  z = np.zeros((2, 2))
  p = trained.model.decoder.given(trained.params.theta, z[0])
  decoded = runs.decode(trained, z)
  assert decoded.shape == (2, 8, 8, 1)
  np.testing.assert_allclose(decoded[0].ravel(), p.mean, rtol=1e-6)
  square = few.reshape(4, 8, 8)
  np.testing.assert_array_equal(runs.encode(trained, square), runs.encode(trained, few))
  with pytest.raises(ValueError, match="63 pixels"):
    runs.encode(trained, few[:, 1:])


def test_a_model_trained_by_fit_is_saved_as_a_run(trained, tmp_path):
  params = jax.tree.map(lambda leaf: leaf + 0.01, trained.params)
  saved = runs.save(tmp_path / "mine", trained.config, params, step=7, metrics=trained.metrics)
  for a, b in zip(leaves(saved.params), leaves(params), strict=True):
    np.testing.assert_array_equal(a, b)
  assert saved.metrics == trained.metrics and saved.summary["examples_seen"] == 700
  status = processes.run("status", f"--workdir={tmp_path / 'mine'}")
  assert status.returncode == 0 and "finished: 700 of 3,000" in status.stdout, status.stderr
  with pytest.raises(ValueError, match="not those of the model"):
    runs.save(tmp_path / "wrong", runs.replace(trained.config, latent_dim=5), params)
  with pytest.raises(ConfigError, match="holds a run with other flags"):
    runs.save(tmp_path / "mine", runs.replace(trained.config, seed=3), params)


def test_what_is_no_run(tmp_path, trained):
  with pytest.raises(RunError, match="holds no run of experiments.train"):
    runs.load(tmp_path)
  (tmp_path / "flags.txt").write_text("--num_draws=20\n")
  with pytest.raises(RunError, match="num_draws=20: is not a field .* may be of another main"):
    runs.load(tmp_path)
  (tmp_path / "flags.txt").write_text("--latent_dim=3\n--num_examples=1000\n")
  with pytest.raises(RunError, match="holds a run of another main"):
    runs.load(tmp_path)
  (tmp_path / "flags.txt").write_text("--likelihood=bernoulli\n")
  with pytest.raises(RunError, match="has no parameters to evaluate"):
    runs.load(tmp_path)


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(seed="one"), "seed=one: takes a whole number"),
    (dict(model=dict(latent_dim=2.5)), "model.latent_dim=2.5: takes a whole number"),
    (dict(model=dict(flavour="vanilla")), "model.flavour=vanilla: is not a field"),
    (dict(optimizer=dict(step_size=-1.0)), "step_size=-1.0: takes positive numbers"),
    (dict(objective=dict(estimator="no.such_module:function")), "no.such_module"),
  ],
)
def test_a_config_that_cannot_be_read_names_the_field(change, words, trained, tmp_path):
  workdir = tmp_path / "changed"
  shutil.copytree(trained.directory, workdir)
  config = json.loads((workdir / "config.json").read_text())
  for name, value in change.items():
    config[name] = config[name] | value if isinstance(value, dict) else value
  (workdir / "config.json").write_text(json.dumps(config))
  with pytest.raises(RunError) as caught:
    runs.load(workdir)
  assert words in str(caught.value), str(caught.value)


def test_a_damaged_config_is_a_run_error(trained, tmp_path):
  workdir = tmp_path / "damaged"
  shutil.copytree(trained.directory, workdir)
  (workdir / "config.json").write_text("{")
  with pytest.raises(RunError, match="has a config.json that cannot be read"):
    runs.load(workdir)
