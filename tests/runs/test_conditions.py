"""Runs with --condition=label: what is estimated, resumed, opened and refused."""

import contextlib
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import data, elbo_b, runs
from aevb_jax.data.preprocess import binarize
from aevb_jax.errors import ConfigError
from aevb_jax.families.kl import kl_divergence
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.models import given_condition, init_params
from aevb_jax.runs import job, loading, texts
from aevb_jax.runs.build import make_model
from aevb_jax.runs.checks import resolve
from aevb_jax.runs.learning import make_estimation
from aevb_jax.runs.pixels import load_images, make_pixels
from tests.support.statistics import assert_greater

D, K = 64, 10
CONFIG = runs.replace(
  runs.Config(),
  condition="label",
  num_examples=12_000,
  eval_every=6000,
  hidden_dim=(30,),
  num_importance_samples=20,
)
HERE = dict(num_devices=1, array_cache_dir=None)


@pytest.fixture(scope="module", autouse=True)
def no_cache():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(loading.load.__kwdefaults__, "array_cache_dir", None)
    yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  return runs.train(CONFIG, tmp_path_factory.mktemp("runs") / "one", **HERE)


def leaves(params):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def by_hand(run, key, estimate, shift=0):
  """Estimates at every test image, given its label plus `shift`, from the parts of the library."""
  draw, classes = run.pixels.test_draw, jnp.eye(K)

  def one(i, pixels, label):
    _, own_key = jax.random.split(jax.random.fold_in(key, i))
    x = binarize(jax.random.fold_in(draw, i), pixels)
    return estimate(own_key, given_condition(run.model, classes[label]), run.params, x)

  labels = (run.data.test_labels + shift) % K
  test = jnp.asarray(run.data.test), jnp.asarray(labels)
  return np.asarray(jax.jit(jax.vmap(one))(jnp.arange(len(labels)), *test))


def test_the_bound_is_that_of_the_model_given_the_label(trained):
  keys = job.new_run(trained.directory, CONFIG, CONFIG).keys
  values = by_hand(trained, keys.evaluation, elbo_b)
  last = trained.metrics[-1]
  np.testing.assert_allclose(last["test_bound"], values.mean(), rtol=1e-6)
  error = values.std(ddof=1) / np.sqrt(len(values))
  np.testing.assert_allclose(last["test_bound_se"], error, rtol=1e-5)


def test_the_likelihood_is_that_of_the_model_given_the_label(trained):
  keys = job.new_run(trained.directory, CONFIG, CONFIG).keys
  estimate = lambda *given: importance_sampling(*given, num_samples=20).value
  values = by_hand(trained, keys.likelihood, estimate)
  np.testing.assert_allclose(trained.summary["test_log_likelihood"], values.mean(), rtol=1e-6)
  assert trained.summary["likelihoods_are_of"] == "log p(x|label)"
  by_run = runs.log_likelihood(trained, trained.data.test, trained.data.test_labels, num_samples=20)
  values = by_hand(trained, jax.random.key(0), estimate)
  np.testing.assert_allclose(by_run, values, rtol=1e-6)


def test_another_label_lowers_the_bound(trained):
  key = jax.random.key(1)
  of_shift = lambda shift: by_hand(trained, jax.random.clone(key), elbo_b, shift)
  assert_greater(of_shift(0), np.mean([of_shift(shift) for shift in (1, 4, 7)], axis=0))


def test_a_run_that_was_broken_off_resumes(trained, tmp_path, capsys):
  class Interrupt(Exception):
    pass

  def interrupted(run, rows):
    if run.rows:
      raise Interrupt

  with pytest.MonkeyPatch.context() as patch:
    writer = contextlib.nullcontext(interrupted)
    patch.setattr(job, "row_files", lambda training, columns: writer)
    with pytest.raises(Interrupt):
      runs.train(CONFIG, tmp_path / "again", checkpoint_every=0.0, **HERE)
  again = runs.train(CONFIG, tmp_path / "again", **HERE)
  assert "resuming after 6,000 training samples" in capsys.readouterr().out
  for a, b in zip(leaves(again.params), leaves(trained.params), strict=True):
    np.testing.assert_array_equal(a, b)
  assert again.metrics[-1]["test_bound"] == trained.metrics[-1]["test_bound"]


def test_a_streamed_run_reads_the_same_rows(trained, tmp_path):
  config = runs.replace(CONFIG, max_resident_mb=0.0, num_importance_samples=0)
  streamed = runs.train(config, tmp_path / "streamed", **HERE)
  assert streamed.summary["streamed"] and not trained.summary["streamed"]
  for a, b in zip(leaves(streamed.params), leaves(trained.params), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_a_run_is_opened_and_asked_with_labels(trained):
  run = runs.load(trained.directory)
  assert run.config.model.condition == "label" and run.data.train.shape == (1437, D)
  assert run.pixels.train.shape == (1437, D + K) and run.pixels.test.shape == (360, D + K)
  few, labels = run.data.test[:3], run.data.test_labels[:3]
  z = runs.encode(run, few, labels)
  own = by_hand(run, jax.random.key(0), lambda k, m, p, x: m.encoder.given(p.phi, x).mean)
  np.testing.assert_allclose(z, own[:3], rtol=1e-6)
  x = runs.decode(run, z, labels)
  model = given_condition(run.model, jnp.eye(K)[labels[0]])
  mean = model.decoder.given(run.params.theta, jnp.asarray(z[0])).mean
  np.testing.assert_allclose(x[0].ravel(), mean, rtol=1e-6)
  assert np.abs(runs.decode(run, z, (labels + 1) % K) - x).max() > 0.01
  assert {path.stem for path in run.directory.glob("*.png")} == {
    "bound", "latents", "manifold", "reconstructions", "samples"
  }  # fmt: skip


def test_labels_are_there_if_and_only_if_a_run_takes_them(trained):
  few, labels = trained.data.test[:3], trained.data.test_labels[:3]
  for wrong, words in (
    (None, "there are none"),
    (labels[:2], "there are 2"),
    (-labels - 1, "range"),
  ):
    with pytest.raises(ValueError, match=words):
      runs.encode(trained, few, wrong)
  other = trained._replace(config=runs.replace(trained.config, condition=None))
  with pytest.raises(ValueError, match="leave the labels out"):
    runs.decode(other, np.zeros((3, 2)), labels)


def test_rows_are_pixels_and_a_label_and_only_pixels_are_binarized():
  config = resolve(CONFIG)
  images = load_images(config, None)
  pixels = make_pixels(images, config.data, condition="label")
  plain = make_pixels(images, config.data)
  row = np.asarray(pixels.train)[5]
  np.testing.assert_array_equal(row[:D], images.train[5])
  np.testing.assert_array_equal(row[D:], np.arange(K) == images.train_labels[5])
  x = pixels.preprocess(jax.random.key(3), jnp.asarray(row))
  np.testing.assert_array_equal(x[:D], plain.preprocess(jax.random.key(3), jnp.asarray(row[:D])))
  np.testing.assert_array_equal(x[D:], row[D:])


def test_the_kl_of_an_objective_is_that_given_the_label():
  config = resolve(runs.replace(CONFIG, kl_warmup=1000))
  images = load_images(config, None)
  model = make_model(config, images)
  made = make_estimation(model, D, config.objective, 100, condition_dim=K)
  params, x, c = init_params(jax.random.key(0), model), jnp.ones(D), jnp.eye(K)[3]
  at = lambda step: made.objective.at(step)(
    jax.random.key(1), model, params, jnp.concatenate([x, c])
  )
  q = model.encoder.given(params.phi, (x, c))
  bound = elbo_b(jax.random.key(1), given_condition(model, c), params, x)
  np.testing.assert_allclose(at(10), bound, rtol=1e-6)
  np.testing.assert_allclose(at(0) - bound, kl_divergence(q, model.prior(params)), rtol=1e-5)


def test_configurations_without_the_field_are_read():
  config = resolve(runs.replace(runs.Config(), hidden_dim=(8,)))
  written = json.loads(texts.to_json(config))
  assert written["model"].pop("condition") is None
  assert texts.from_json(json.dumps(written)) == config
  assert "condition" not in texts.flags_text(config)
  given = runs.replace(config, condition="label")
  assert texts.from_flags(texts.flags_text(given)).model.condition == "label"
  assert "--condition=label" in texts.differences(texts.flags_text(config), [given])


@pytest.mark.parametrize(
  "fields",
  [
    dict(network="tests.support.my_parts:networks", hidden_dim=None),
    dict(model="conv", hidden_dim=None),
    dict(model="hierarchical:layers=3,2", hidden_dim=None),
    dict(prior="vamp:components=5"),
    dict(prior="tests.support.my_parts:mixture"),
  ],
)
def test_a_model_without_a_place_for_a_condition_is_refused(fields):
  with pytest.raises(ConfigError, match="^condition=label: cannot be used with --"):
    resolve(runs.replace(CONFIG, **fields))


def test_other_conditions_and_mcem_are_refused():
  with pytest.raises(ConfigError, match="condition=class: takes one of label"):
    resolve(runs.replace(CONFIG, condition="class"))
  mcem = runs.Config(objective=runs.McemConfig())
  with pytest.raises(ConfigError, match="cannot be used with --algorithm=mcem"):
    resolve(runs.replace(mcem, condition="label", binarization="static"))


def test_a_model_of_ones_own_takes_the_size_of_the_condition():
  mine = runs.replace(CONFIG, model="tests.support.my_parts:conditional", hidden_dim=None)
  mine, usual = resolve(mine), resolve(runs.replace(CONFIG, hidden_dim=(8,)))
  images = load_images(usual, None)
  params = [init_params(jax.random.key(0), make_model(c, images)) for c in (mine, usual)]
  for a, b in zip(*map(leaves, params), strict=True):
    np.testing.assert_array_equal(a, b)
  for name, words in (
    ("small", "does not take it: it has no argument condition_dim"),
    ("no_pairs", "q.z.x"),
  ):
    config = resolve(runs.replace(mine, model=f"tests.support.my_parts:{name}"))
    with pytest.raises(ConfigError, match=words):
      make_model(config, images)


def arrays(path, **changes):
  rng = np.random.default_rng(0)
  parts = {split: rng.integers(0, 256, (120, 16), np.uint8) for split in SPLITS}
  parts |= {f"{split}_labels": np.arange(120) % 3 for split in SPLITS}
  parts = {n: value for n, value in (parts | changes).items() if value is not None}
  np.savez(path, **parts)
  return resolve(runs.replace(CONFIG, dataset=f"arrays:{path}"))


SPLITS = ("train", "test")
LABELS = np.arange(120)


@pytest.mark.parametrize(
  "changes, words",
  [
    (dict(train_labels=None, test_labels=None), "takes a data set with labels, and this one has"),
    (dict(train_labels=None), "takes the labels of the training images"),
    (dict(test_labels=None), "takes labels of all splits, and test has none"),
    (dict(test_labels=LABELS % 4), "in test, label 3 of example 3 is out of range: 3 classes"),
    (dict(train_labels=LABELS % 4 - 1), "in train, label -1 of example 0 is out of range"),
    (dict(train_labels=LABELS + 1), "the highest label of 120 training images is 120"),
  ],
)
def test_labels_that_are_not_those_of_classes_are_refused(changes, words, tmp_path):
  with pytest.raises(ConfigError, match=words) as caught:
    load_images(arrays(tmp_path / "set.npz", **changes), None)
  assert caught.value.field == "condition" and "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_explained(tmp_path):
  config = runs.replace(CONFIG, step_size=1e38, optimizer="sgd", num_importance_samples=0)
  with pytest.raises(FloatingPointError, match="the bound is nan; KL"):
    runs.train(config, tmp_path / "run", **HERE)


@pytest.mark.long
def test_a_member_of_a_sweep_is_its_single_run(trained, tmp_path):
  config = runs.replace(CONFIG, seed=(0, 1), num_importance_samples=0)
  runs.train(config, tmp_path / "sweep", **HERE)
  for seed in (0, 1):
    member = runs.load(tmp_path / "sweep" / f"seed_{seed}")
    assert member.config.model.condition == "label"
    bound, single = (run.metrics[-1]["test_bound"] for run in (member, trained))
    assert np.isclose(bound, single, rtol=1e-5) == (seed == 0)


def test_joined_rows_are_read_in_every_way():
  pixels = np.arange(12, dtype=np.float32).reshape(4, 3)
  condition = np.eye(2, dtype=np.uint8)[[0, 1, 1, 0]]
  joined = data.minibatches.Joined(pixels, condition)
  whole = np.concatenate([pixels, condition], axis=1)
  assert joined.shape == (4, 5) and joined.dtype == np.float32 and len(joined) == 4
  read = functools.partial(np.testing.assert_array_equal, strict=True)
  read(joined[2], whole[2].astype(np.float32))
  read(joined[1:3], whole[1:3].astype(np.float32))
  read(data.minibatches.read_rows(joined, [3, 0]), whole[[3, 0]].astype(np.float32))
