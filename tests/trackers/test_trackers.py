"""Trackers have each row of a run once, however often it is interrupted, and never end it."""

import importlib.util
import json
import os
import signal
import sys

import numpy as np
import pytest

from aevb_jax import runs, trackers
from aevb_jax.errors import ConfigError
from aevb_jax.runs import job
from aevb_jax.runs.files import read_metrics
from aevb_jax.training import checkpoint
from tests.support import processes, tracked

CONFIG = runs.replace(
  runs.Config(), num_examples=4000, eval_every=1000, hidden_dim=(8,), num_importance_samples=0
)
HERE = dict(num_devices=1, array_cache_dir=None)
MINE = "tests.support.my_trackers"
LIBRARIES = {"wandb": ["wandb"], "mlflow": ["mlflow", "sqlalchemy", "alembic"]}
INSTALLED = [
  name
  for name, needed in LIBRARIES.items()
  if all(importlib.util.find_spec(module) for module in needed)
]
QUICK = [name for name in INSTALLED if name == "wandb"]  # MLflow makes a database in five seconds
needs = {
  name: pytest.mark.skipif(name not in INSTALLED, reason=f"{name} is not installed")
  for name in LIBRARIES
}


@pytest.fixture(scope="module", autouse=True)
def settings_of_nobody():
  """Removes what the user's environment says of trackers, and the cache of data."""
  with pytest.MonkeyPatch.context() as patch:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
      patch.delenv(name)
    patch.setitem(runs.load.__kwdefaults__, "array_cache_dir", None)
    yield


class Interrupt(Exception):
  pass


def interrupted_at(examples_seen, config, workdir, **machine):
  """Trains until a row is written and tracked, and then ends as an error does."""

  def followed(*arguments):
    write = job_followed(*arguments)

    def writing(run, rows):
      write(run, rows)
      if rows[-1]["examples_seen"] == examples_seen:
        raise Interrupt

    return writing

  job_followed = job.followed
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(job, "followed", followed)
    with pytest.raises(Interrupt):
      runs.train(config, workdir, **HERE, **machine)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
  """A run that was interrupted before its first checkpoint, after two rows, and after its third."""
  workdir = tmp_path_factory.mktemp("runs") / "resumed"
  names = ",".join(["tensorboard", *QUICK, f"{MINE}:lines:file=mine.jsonl"])
  here = os.getcwd()
  os.chdir(workdir.parent)
  try:
    interrupted_at(2000, CONFIG, workdir, tracker=names)
    assert not checkpoint.steps(workdir / "checkpoints")
    interrupted_at(3000, CONFIG, workdir, tracker=names, checkpoint_every=0.0)
    assert checkpoint.steps(workdir / "checkpoints") == [10, 20]
    run = runs.train(CONFIG, workdir, tracker=names, **HERE)
  finally:
    os.chdir(here)
  assert [row["examples_seen"] for row in run.metrics] == [1000, 2000, 3000, 4000]
  assert {path.name for path in workdir.parent.iterdir()} == {"resumed"}  # nothing outside it
  return run


def bounds(run):
  return [(row["examples_seen"], row["test_bound"]) for row in run.metrics]


def test_ones_own_tracker_has_each_row_once(resumed):
  text = (resumed.directory / "mine.jsonl").read_text()
  said = [json.loads(line) for line in text.splitlines()]
  row = lambda step, bound: ["row", step, pytest.approx(bound, rel=1e-12)]
  rows = [row(*bound) for bound in bounds(resumed)]
  start, interrupted = ["start", "resumed", "digits"], ["finish", None]
  assert said == [
    start, *rows[:2], interrupted, start, rows[2], interrupted,
    start, rows[3], ["finish", resumed.summary["test_bound"]],
  ]  # fmt: skip


def test_tensorboard_has_each_row_once(resumed):
  assert tracked.of_tensorboard(resumed.directory) == [
    (step, pytest.approx(bound)) for step, bound in bounds(resumed)
  ]
  assert len(list(resumed.directory.glob("*tfevents*"))) == 1


@needs["wandb"]
def test_wandb_has_each_row_once(resumed):
  found, rows, summary = tracked.of_wandb(resumed.directory)
  (of_all,) = {run[:3] for run in found}
  assert of_all[1:] == ("resumed", "aevb_jax")
  assert len(found) >= 3 and found[0][3]["latent_dim"] == 2 and found[0][3]["dataset"] == "digits"
  assert [(row["_step"], row["test_bound"]) for row in rows] == bounds(resumed)
  assert set(resumed.metrics[0]) <= set(rows[0])
  assert summary["test_bound"] == resumed.summary["test_bound"]
  assert summary["jax_version"] == resumed.summary["jax_version"]


@needs["mlflow"]
def test_mlflow_has_each_row_once(tmp_path):
  """A run that was interrupted after its second row resumes after its first."""
  config = dict(latent_dim=2, hidden_dim=(8,), data_dir=None)
  row = lambda i: dict(step=i, examples_seen=100 * i, test_bound=-0.1 * i)
  starts = trackers.find("mlflow:experiment=mine")
  with pytest.raises(Interrupt), trackers.tracking(starts) as tracking:
    tracking.begin(tmp_path, "digits", config, [])
    tracking.log(tmp_path, [row(1)])
    tracking.log(tmp_path, [row(2)])
    raise Interrupt
  ((run, _),) = tracked.of_mlflow(tmp_path)
  assert run.info.status == "KILLED"
  with trackers.tracking(starts) as tracking:
    tracking.begin(tmp_path, "digits", config | dict(data_dir="elsewhere"), [row(1)])
    tracking.log(tmp_path, [row(2)])
    tracking.log(tmp_path, [row(3)])
    tracking.finish(tmp_path, dict(test_bound=-1.5, device="cpu", note=None, streamed=False))
  ((run, history),) = tracked.of_mlflow(tmp_path)
  assert (run.info.run_name, run.info.status) == ("digits", "FINISHED")
  assert history["test_bound"] == [(100, -0.1), (200, -0.2), (300, -0.1 * 3)]
  assert [step for step, _ in history["step"]] == [100, 200, 300]
  assert run.data.params == dict(latent_dim="2", hidden_dim="(8,)", data_dir="None")
  assert run.data.metrics["summary/test_bound"] == -1.5
  assert run.data.tags["summary/device"] == "cpu" and "summary/note" not in run.data.tags


def test_each_member_of_a_sweep_is_tracked(tmp_path):
  config = runs.replace(CONFIG, seed=(0, 1), num_examples=1000)
  names = ",".join([*QUICK, f"{MINE}:lines"])
  runs.train(config, tmp_path / "sweep", tracker=names, **HERE)
  for seed in (0, 1):
    workdir = tmp_path / "sweep" / f"seed_{seed}"
    (bound,) = bounds(runs.load(workdir))
    name = f"sweep/seed_{seed}"
    start, row, finish = map(json.loads, (workdir / "lines.jsonl").read_text().splitlines())
    assert (start[1], row[1:], finish[1]) == (name, list(bound), bound[1])
    if "wandb" in INSTALLED:
      ((_, called, _, settings),), (logged,), _ = tracked.of_wandb(workdir)
      assert (called, settings["seed"]) == (name, seed)
      assert (logged["_step"], logged["test_bound"]) == bound
    assert not list(workdir.glob("*tfevents*"))


def warnings_of(caplog):
  records = [r for r in caplog.records if r.name.startswith("aevb_jax.trackers")]
  return [record.getMessage() for record in records]


def test_a_tracker_that_fails_does_not_end_training(resumed, tmp_path, caplog):
  """The numbers are those of the run that was tracked, and the other tracker has all of them."""
  run = runs.train(CONFIG, tmp_path, tracker=f"{MINE}:failing,{MINE}:lines", **HERE)
  np.testing.assert_array_equal(bounds(run), bounds(resumed))
  assert len((tmp_path / "lines.jsonl").read_text().splitlines()) == 6
  (warning,) = warnings_of(caplog)
  assert warning.startswith(
    f"warning: --tracker={MINE}:failing: fails: RuntimeError: no connection"
  )
  assert not list(tmp_path.glob("*tfevents*"))


@pytest.mark.parametrize("when", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_one_warning(tmp_path, caplog, when):
  """Two runs are followed, of which each would fail, and the last of them is interrupted."""
  name, row = f"{MINE}:failing:when={when}", lambda i: dict(examples_seen=1000 * i, test_bound=-i)
  places = [tmp_path / "a", tmp_path / "b"]
  with trackers.tracking(trackers.find(f"{name},{MINE}:lines")) as tracking:
    for place in places:
      place.mkdir()
      tracking.begin(place, place.name, dict(dataset="digits"), [])
    for i in (1, 2, 3):
      for place in places:
        tracking.log(place, [row(i)])
    tracking.finish(places[0], dict(test_bound=-3.5))
  for place, last in zip(places, (-3.5, None)):
    *_, finish = text = (place / "lines.jsonl").read_text().splitlines()
    assert len(text) == 5 and json.loads(finish) == ["finish", last]
  (warning,) = warnings_of(caplog)
  assert warning.startswith(f"warning: --tracker={name}: fails: RuntimeError: no connection at ")
  assert warning.endswith("; the run continues without it") and "\n" not in warning
  assert "my_trackers.py, line" in warning


@pytest.mark.parametrize("missing", ["wandb", "mlflow"])
@pytest.mark.parametrize("directory", [False, True])
def test_a_library_that_is_not_installed(tmp_path, monkeypatch, missing, directory):
  """A directory that Weights & Biases has left, which Python can import, is not the library."""
  for module in LIBRARIES[missing]:
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
      monkeypatch.delitem(sys.modules, loaded)
  here = [path for path in sys.path if not any(map(os.path.exists, _places(path, missing)))]
  monkeypatch.setattr(sys, "path", [str(tmp_path), *here])
  if directory:
    for module in LIBRARIES[missing]:
      (tmp_path / module).mkdir()
  else:
    monkeypatch.setitem(sys.modules, LIBRARIES[missing][-1], None)
  with pytest.raises(ConfigError, match=rf"^tracker=.*pip install {missing}$") as error:
    runs.train(CONFIG, tmp_path / "run", tracker=f"tensorboard,{missing}", **HERE)
  assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def _places(path, missing):
  return [os.path.join(path, module) for module in LIBRARIES[missing]]


def test_no_tracker_and_one_named_twice():
  assert trackers.find("") == trackers.find(" ") == ()
  assert [start.name for start in trackers.find("tensorboard, tensorboard")] == ["tensorboard"]


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("tensorbord", "tensorbord: unknown; takes tensorboard, wandb, mlflow, or package.module:fun"),
    ("tensorboard,", "a name between commas: unknown; takes"),
    ("no_such_module:f", "cannot be imported: ModuleNotFoundError"),
    (f"{MINE}:of_two", "is called with .workdir, name, config., which it does not accept"),
    (f"{MINE}:lines:files=a", "is called with .workdir, name, config, files=...., which"),
    ("tensorboard:x=1", "which it does not accept"),
  ],
)
def test_names_of_trackers_that_cannot_be_used(text, words):
  with pytest.raises(ValueError, match=words) as error:
    trackers.find(text)
  assert "\n" not in str(error.value)


def test_a_mistake_is_one_line_before_anything_is_made(tmp_path):
  ended = processes.run("train", f"--workdir={tmp_path}/run", "--tracker=tensorboard,mine:f")
  assert ended.returncode == 2 and not (tmp_path / "run").exists()
  (line,) = ended.stderr.splitlines()
  assert line.startswith("error: --tracker=tensorboard,mine:f: mine:f: cannot be imported")


def test_a_note_that_is_damaged_is_none(tmp_path):
  assert trackers.note(tmp_path, "mine") == {}
  trackers.note(tmp_path, "mine", id="a")
  trackers.note(tmp_path, "other", id="b")
  assert trackers.note(tmp_path, "mine", step=3) == dict(id="a", step=3)
  assert trackers.note(tmp_path, "other") == dict(id="b")
  (tmp_path / "tracked.json").write_text('{"mine": 3')
  assert trackers.note(tmp_path, "mine") == {}


@pytest.mark.long
def test_kills(tmp_path, monkeypatch):
  """The process is killed as it writes rows; then the same command finishes the run."""
  monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of the runs of this process
  names = ",".join(["tensorboard", *INSTALLED])
  flags = ["--hidden_dim=20", "--num_examples=60000", "--eval_every=2000", "--checkpoint_every=0.2"]
  flags += ["--num_importance_samples=0", f"--tracker={names}", f"--workdir={tmp_path / 'run'}"]
  metrics = tmp_path / "run" / "metrics.csv"
  lines = lambda: len(metrics.read_text().splitlines()) if metrics.exists() else 0
  for number in (5, 12):
    process = processes.start("train", *flags)
    processes.wait_until(process, lambda number=number: lines() > number)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
  ended = processes.run("train", *flags)
  assert ended.returncode == 0 and ended.stderr == "", ended.stderr
  written = [(row["examples_seen"], row["test_bound"]) for row in read_metrics(tmp_path / "run")]
  steps = [step for step, _ in written]
  assert steps == list(range(2000, 62000, 2000))
  assert [step for step, _ in tracked.of_tensorboard(tmp_path / "run")] == steps
  if "wandb" in INSTALLED:
    found, rows, _ = tracked.of_wandb(tmp_path / "run")
    assert len({of[0] for of in found}) == 1  # the killed ones are set aside
    assert len(list((tmp_path / "run" / "wandb").glob("killed-*"))) == 2
    assert [(row["_step"], row["test_bound"]) for row in rows] == written
  if "mlflow" in INSTALLED:
    ((_, history),) = tracked.of_mlflow(tmp_path / "run")
    assert history["test_bound"] == written
