"""The training loop, stopped after any chunk, resumes as if it had not been stopped."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from aevb_jax.data.datasets import ImageData
from aevb_jax.runs import build, directory, job, loop, pixels, state
from aevb_jax.runs.checks import resolve
from aevb_jax.runs.config import Config, Machine, McemConfig, members, replace
from aevb_jax.runs.learning import make_learning
from aevb_jax.runs.loop import Stopped
from aevb_jax.runs.resume import make_origin
from aevb_jax.training import checkpoint, program
from aevb_jax.training.sharding import make_shardings

# 210 steps in chunks of 30, 30 and 10, with a row after each third chunk.
SETTINGS = dict(batch_size=10, num_examples=2100, eval_every=700, hidden_dim=(4,), seed=0)
CONFIG = replace(Config(), **SETTINGS)
NUM_CHUNKS = 9


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
  """Keeps compiled programs, because every run here compiles the same few."""
  changed = dict(
    jax_compilation_cache_dir=str(tmp_path_factory.mktemp("xla")),
    jax_persistent_cache_min_compile_time_secs=0.0,
    jax_persistent_cache_min_entry_size_bytes=0,
  )
  before = {name: getattr(jax.config, name) for name in changed}
  for values in (changed, before):
    for name, value in values.items():
      jax.config.update(name, value)
    compilation_cache.reset_cache()
    if values is changed:
      yield


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
  monkeypatch.setattr(program, "MAX_CHUNK_STEPS", 30)


@pytest.fixture(scope="module")
def images():
  rng = np.random.default_rng(0)
  split = lambda n: rng.integers(0, 256, size=(n, 16), dtype=np.uint8)
  return ImageData(split(95), split(40), split(20), (4, 4, 1))


def train(images, workdir, config, *, stop_after=None, change=lambda learning: learning, every=1e9):
  """Trains or resumes in a directory; returns the end (None if stopped) and the states by step."""
  workdir.mkdir(exist_ok=True)
  config, single = resolve(config), members(resolve(config))[0]
  model = build.make_model(config, images)
  learning = change(make_learning(single, model, images))
  share = lambda num_members: make_shardings(jax.devices()[:1], num_members)
  made = job.Job(
    config,
    Machine(workdir, checkpoint_every=every),
    origin=make_origin(config),
    images=images,
    pixels=pixels.make_pixels(images, config.data),
    model=model,
    learning=learning,
    share=share,
  )
  chunks, saved, record = iter(range(1, 100)), {}, state.record

  @contextlib.contextmanager
  def hearing():
    yield lambda: 15 if stop_after and next(chunks) >= stop_after else 0

  def keep(training, batch_size):
    saved[training.step] = jax.device_get(jax.tree.map(np.asarray, without_keys(training.saved)))
    return record(training, batch_size)

  with pytest.MonkeyPatch.context() as patch, directory.locked():
    patch.setattr(state, "record", keep)
    try:
      return job.train_members(made, workdir, hearing), saved
    except Stopped as stop:
      assert stop.number == 15
      return None, saved


def without_keys(tree):
  is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def assert_same(ended, other):
  for a, b in zip(*(jax.tree.leaves(without_keys(e.saved)) for e in (ended, other)), strict=True):
    np.testing.assert_array_equal(a, b)
  records = [json.loads(json.dumps(state.record(e, 10))) for e in (ended, other)]
  for record in records:
    record.pop("seconds")
    for run in record["runs"].values():
      for row in run["rows"]:
        row.pop("seconds")
  assert json.dumps(records[0], sort_keys=True) == json.dumps(records[1], sort_keys=True)


SWEEP = "selection, one that overflows"
LONG = ("aevb", "streamed", SWEEP)
KINDS = {
  "aevb": CONFIG,
  "mcem": dataclasses.replace(replace(CONFIG, binarization="static"), objective=McemConfig()),
  "streamed": replace(CONFIG, max_resident_mb=0.0),
  SWEEP: replace(CONFIG, seed=(0, 1), step_size=(0.001, 0.01, 1e30), select_step_size=1000),
}


@pytest.mark.parametrize(
  "kind", [pytest.param(kind, marks=[pytest.mark.long] * (kind in LONG)) for kind in KINDS]
)
def test_stopped_after_any_chunk(kind, images, tmp_path):
  whole, _ = train(images, tmp_path / "whole", KINDS[kind])
  assert whole.step == 210
  # The stops are between rows, where a row is due, and at the end.
  for after in {"aevb": (1, 3, 8, 9), SWEEP: (6,)}.get(kind, (2, 6)):
    place = tmp_path / str(after)
    ended, saved = train(images, place, KINDS[kind], stop_after=after)
    assert ended is None and max(saved) == sum([30, 30, 10, 30, 30, 10, 30, 30, 10][:after])
    again, _ = train(images, place, KINDS[kind])
    assert_same(again, whole)
    for run in checkpoint.read_record(place / "checkpoints", 210)["runs"].values():
      assert run["rows"][-1]["step"] in (100, 210)  # a member that was not selected, or the end


def test_the_best_parameters_are_of_the_highest_validation_bound(images, tmp_path):
  # A step size at which it overfits: the last parameters are not the best.
  config = replace(CONFIG, num_examples=7000, step_size=0.03)
  ended, saved = train(images, tmp_path, config, every=0.0)
  (run,) = ended.runs
  bounds = {row["step"]: row["validation_bound"] for row in run.rows}
  best = max(bounds, key=bounds.get)
  assert len(bounds) == 10 and best < 700
  found = ended.saved.best
  assert int(found.step) == best and float(found.bound) == np.float32(bounds[best])
  for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(saved[best].states.params)):
    np.testing.assert_array_equal(a, b)
  assert all(row["validation_bound_se"] > 0 for row in run.rows)


@pytest.mark.long
def test_nothing_that_is_not_finite_is_saved(images, tmp_path):
  config = replace(CONFIG, step_size=(0.001, 1e30))
  ended, saved = train(images, tmp_path, config, every=0.0)
  assert len(saved) >= NUM_CHUNKS
  for arrays in saved.values():
    arrays = arrays.states, arrays.best.params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays))
  good, bad = ended.runs
  assert good.faults == state.Faults(0, 0, None)
  assert bad.faults.stopped.startswith("step 2: the bound is ")
  assert np.isfinite([row["test_bound"] for row in good.rows]).all()
  assert np.isnan([row["test_bound"] for row in bad.rows]).all()
  # The good member trained as it would have by itself.
  alone, _ = train(images, tmp_path / "alone", CONFIG)
  np.testing.assert_allclose(
    [row["test_bound"] for row in good.rows],
    [row["test_bound"] for row in alone.runs[0].rows],
    rtol=1e-9,
  )


def test_a_member_that_diverges_is_out_of_the_search(images, tmp_path, capsys):
  config = replace(CONFIG, step_size=(0.001, 1e30), select_step_size=1000)
  ended, _ = train(images, tmp_path, config)
  (run,) = ended.runs
  assert run.config.optimizer.step_size == 0.001 and ended.step == 210
  words = "step_size_1e+30 leaves the search for a step size: step 2: the bound is "
  assert words in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("step_sizes", [1e30, (1e30, 1e35)], ids=["run", "sweep"])
def test_all_runs_at_fault_end_it(step_sizes, images, tmp_path):
  config = replace(CONFIG, step_size=step_sizes)
  for _ in range(2):  # the second time from the checkpoint
    with pytest.raises(FloatingPointError, match="step 2: the bound is"):
      train(images, tmp_path, config)
  assert checkpoint.steps(tmp_path / "checkpoints") == [0]
  with pytest.raises(FloatingPointError):
    train(images, tmp_path, replace(config, on_nonfinite="skip"))


def test_an_evaluation_that_is_not_finite_is_no_row(images, tmp_path):
  """Such an evaluation ends the run at every resume; only steps can be skipped."""

  def without_numbers(learning):
    nan = dict(test_bound=float("nan"))
    evaluate = lambda *args: [row | nan for row in learning.evaluate(*args)]
    return learning._replace(evaluate=evaluate)

  for _ in range(2):
    with pytest.raises(FloatingPointError, match="the test bound became nan by step 70"):
      train(images, tmp_path, CONFIG, change=without_numbers)
    (step,) = checkpoint.steps(tmp_path / "checkpoints")
    assert step == 70
    assert checkpoint.read_record(tmp_path / "checkpoints", step)["runs"][""]["rows"] == []
  ended, _ = train(images, tmp_path, replace(CONFIG, on_nonfinite="skip"), change=without_numbers)
  assert [row["step"] for row in ended.runs[0].rows] == [70, 140, 210]


def test_rows_per_decade():
  """Rows are at every multiple first, then evenly on a log axis, and always at the end."""

  def evaluated(end, per_decade=0):
    plan = loop.evenly(10, 20, per_decade)
    return [step for step in range(end + 1) if plan.is_due(step, end)]

  assert evaluated(7) == [2, 4, 6, 7]
  steps = evaluated(2001, 10)
  assert steps[:9] == [2, 4, 6, 8, 10, 12, 16, 20, 26] and steps[-2:] == [2000, 2001]
  ratios = np.array(steps[8:-1]) / steps[7:-2]
  assert np.all(abs(np.log10(ratios) - 0.1) < 0.02)  # so 10 rows per decade
