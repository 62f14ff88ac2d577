"""The loop in this process: stopped after any chunk it goes on as if it had not been."""

import json

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from jax.experimental.compilation_cache import compilation_cache

from aevb_jax.data.datasets import ImageData
from aevb_jax.training import checkpoint
from experiments.flags import data, models
from experiments.flags.sweeps import Member
from experiments.launch.stopping import Stopped
from experiments.runs import learning as learners
from experiments.runs import loop, program, saving, state

FLAGS = flags.FLAGS
# 210 steps in chunks of 30, 30 and 10, with a row after each third chunk.
SETTINGS = dict(batch_size=10, num_examples=2100, eval_every=700, hidden_dim=["4"], seed=0)
SETTINGS |= dict(checkpoint_every=1e9, num_devices=1, likelihood="bernoulli", latent_dim=2)
NUM_CHUNKS = 9


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
  """Every run here compiles the same few programs."""
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
def settings(monkeypatch):
  monkeypatch.setattr(program, "MAX_CHUNK_STEPS", 30)
  if not FLAGS.is_parsed():
    FLAGS(["test"])
  # A run makes its keys once and looks them up as often as it likes.
  with flagsaver.flagsaver(**SETTINGS), jax.debug_key_reuse(False):
    yield


@pytest.fixture(scope="module")
def images():
  rng = np.random.default_rng(0)
  split = lambda n: rng.integers(0, 256, size=(n, 16), dtype=np.uint8)
  return ImageData(split(95), split(40), split(20), (4, 4, 1))


def train(images, directory, members, stop_after=None, change=lambda learning: learning):
  """Trains from what is in the directory; returns where it ended, and what was saved by step."""
  pixels = data.make_pixels(images)
  with flagsaver.flagsaver(step_size=members[0].step_size):
    model = models.make_model(images)
    learning = change(learners.LEARNERS[FLAGS.algorithm](model, images))
  saved, chunks = {}, iter(range(1, 100))

  def asked_to_stop():
    return 15 if stop_after and next(chunks) >= stop_after else 0

  with checkpoint.saver(directory) as save_arrays:

    def save(now):
      saved[now.step] = jax.device_get(jax.tree.map(np.asarray, without_keys(now.saved)))
      save_arrays(now.step, now.saved, saving.record(now))

    so_far = state.begin([state.new_run(directory, m) for m in members], learning, directory)
    try:
      ended = loop.train(so_far, learning, pixels, save, asked_to_stop)
    except Stopped as stop:
      assert stop.status == 128 + 15
      ended = None
  return ended, saved


def without_keys(tree):
  is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def assert_same(ended, other):
  for a, b in zip(*(jax.tree.leaves(without_keys(e.saved)) for e in (ended, other)), strict=True):
    np.testing.assert_array_equal(a, b)
  records = [json.loads(json.dumps(saving.record(e))) for e in (ended, other)]
  for record in records:
    record.pop("seconds")
    for run in record["runs"].values():
      for row in run["rows"]:
        row.pop("seconds")
  assert json.dumps(records[0], sort_keys=True) == json.dumps(records[1], sort_keys=True)


SWEEP = "selection, one that overflows"
LONG = ("aevb", "streamed", SWEEP)
KINDS = {
  "aevb": ({}, [Member(0, 0.001)]),
  "mcem": (dict(algorithm="mcem", binarization="static"), [Member(0, 0.001)]),
  "streamed": (dict(max_resident_mb=0.0), [Member(0, 0.001)]),
  SWEEP: (
    dict(seed=(0, 1), step_size=(0.001, 0.01, 1e30), select_step_size=1000),
    [Member(seed, step_size) for seed in (0, 1) for step_size in (0.001, 0.01, 1e30)],
  ),
}


@pytest.mark.parametrize(
  "kind", [pytest.param(kind, marks=[pytest.mark.long] * (kind in LONG)) for kind in KINDS]
)
def test_stopped_after_any_chunk(kind, images, tmp_path):
  settings, members = KINDS[kind]
  with flagsaver.flagsaver(**settings):
    whole, _ = train(images, tmp_path / "whole", members)
    assert whole.step == 210
    # Between rows, where one is due, and at the end.
    for after in {"aevb": (1, 3, 8, 9), SWEEP: (6,)}.get(kind, (2, 6)):
      directory = tmp_path / str(after)
      ended, saved = train(images, directory, members, stop_after=after)
      assert ended is None and max(saved) == sum([30, 30, 10, 30, 30, 10, 30, 30, 10][:after])
      again, _ = train(images, directory, members)
      assert_same(again, whole)
      for run in checkpoint.read_record(directory, 210)["runs"].values():
        assert run["rows"][-1]["step"] in (100, 210)  # not selected, or of the end


def test_the_best_parameters_are_of_the_highest_validation_bound(images, tmp_path):
  # A step size at which it overfits: the last parameters are not the best.
  with flagsaver.flagsaver(checkpoint_every=0.0, num_examples=7000):
    ended, saved = train(images, tmp_path, [Member(0, 0.03)])
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
  members = [Member(0, 0.001), Member(0, 1e30)]
  with flagsaver.flagsaver(step_size=(0.001, 1e30), checkpoint_every=0.0):
    ended, saved = train(images, tmp_path, members)
  assert len(saved) == NUM_CHUNKS
  for arrays in saved.values():
    arrays = arrays.states, arrays.best.params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays))
  good, bad = ended.runs
  assert good.faults == dict(skipped=0, in_a_row=0, stopped=None)
  assert bad.faults["stopped"].startswith("step 2: the bound is ")
  assert np.isfinite([row["test_bound"] for row in good.rows]).all()
  assert np.isnan([row["test_bound"] for row in bad.rows]).all()
  # The other trained as it would have alone.
  alone, _ = train(images, tmp_path / "alone", members[:1])
  np.testing.assert_allclose(
    [row["test_bound"] for row in good.rows],
    [row["test_bound"] for row in alone.runs[0].rows],
    rtol=1e-9,
  )


@pytest.mark.long
@pytest.mark.parametrize("step_sizes", [(1e30,), (1e30, 1e35)], ids=["run", "sweep"])
def test_all_runs_at_fault_end_it(step_sizes, images, tmp_path):
  members = [Member(0, value) for value in step_sizes]
  with flagsaver.flagsaver(step_size=step_sizes if len(step_sizes) > 1 else step_sizes[0]):
    for _ in range(2):  # and again, from what was saved
      with pytest.raises(FloatingPointError, match="step 2: the bound is"):
        train(images, tmp_path, members)
    assert checkpoint.steps(tmp_path) == [0]
    with flagsaver.flagsaver(on_nonfinite="skip"), pytest.raises(FloatingPointError):
      train(images, tmp_path, members)


def test_an_evaluation_that_is_not_finite_is_no_row(images, tmp_path):
  """It ends the run, each time that it is gone on with; skipping is of steps, and goes on."""

  def without_numbers(learning):
    evaluate = lambda *args: learning.evaluate(*args) | dict(test_bound=float("nan"))
    return learning._replace(evaluate=evaluate)

  for _ in range(2):
    with pytest.raises(FloatingPointError, match="the test bound became nan by step 70"):
      train(images, tmp_path, [Member(0, 0.001)], change=without_numbers)
    (step,) = checkpoint.steps(tmp_path)
    assert step == 70
    assert checkpoint.read_record(tmp_path, step)["runs"][""]["rows"] == []
  with flagsaver.flagsaver(on_nonfinite="skip"):
    ended, _ = train(images, tmp_path, [Member(0, 0.001)], change=without_numbers)
  assert [row["step"] for row in ended.runs[0].rows] == [70, 140, 210]


def test_rows_per_decade():
  """Every multiple at first, then about evenly on a log axis; and the end, whatever it is."""

  def evaluated(end, **settings):
    with flagsaver.flagsaver(batch_size=10, eval_every=20, **settings):
      return [step for step in range(end + 1) if program.is_evaluated(step, end)]

  assert evaluated(7) == [2, 4, 6, 7]
  steps = evaluated(2001, evals_per_decade=10)
  assert steps[:9] == [2, 4, 6, 8, 10, 12, 16, 20, 26] and steps[-2:] == [2000, 2001]
  ratios = np.array(steps[8:-1]) / steps[7:-2]
  assert np.all(abs(np.log10(ratios) - 0.1) < 0.02)  # and so 10 rows a decade
