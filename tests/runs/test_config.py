"""Configurations: their texts, their members, and what their fields take."""

import dataclasses
import pathlib

import pytest

from aevb_jax.errors import ConfigError
from aevb_jax.runs import Config, McemConfig, members, replace, texts
from aevb_jax.runs.checks import resolve
from aevb_jax.runs.config import leaves, member_name

ROOT = pathlib.Path(__file__).parents[2]
MCEM = dataclasses.replace(Config(), objective=McemConfig())
CONFIGS = {
  "default": Config(),
  "mcem": replace(MCEM, binarization="static"),
  "sweep": replace(Config(), seed=(0, 3), step_size=(0.01, 1e-05)),
  "all set": replace(
    Config(),
    hidden_dim=(32, 64),
    stage_epochs=(1, 3),
    adam_eps=5e-06,
    pixel_scale=256,
    data_dir="/data",
    sigmoid_mean=False,
    keep_history=True,
  ),
}
RESULTS = ROOT / "experiments" / "results"
RUNS = sorted([*RESULTS.glob("mnist_*/flags.txt"), *RESULTS.glob("frey_face_*/flags.txt")])
RUNS.remove(RESULTS / "frey_face_video" / "flags.txt")  # of another main


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_texts_are_read_as_they_were_written(config):
  assert texts.from_json(texts.to_json(config)) == config
  assert texts.from_flags(texts.flags_text(config)) == config
  resolved = resolve(replace(config, keep_history=False))
  assert texts.from_flags(texts.flags_text(resolved)) == resolved


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_committed_runs_can_be_repeated(path):
  """Every line of flags.txt is a field with that value; flags added later are not in it."""
  config = resolve(texts.from_flags(path.read_text()))
  lines = set(texts.flag_lines(config))
  there = {line.replace("--latents=", "--posterior=") for line in path.read_text().splitlines()}
  assert {line for line in there if not line.startswith("--preset=")} <= lines


def test_there_are_committed_runs():
  assert len(RUNS) >= 8


def test_members_are_single_runs_named_by_what_is_swept():
  sweep = CONFIGS["sweep"]
  found = members(sweep)
  assert [member_name(sweep, one) for one in found] == [
    "seed_0-step_size_0.01",
    "seed_0-step_size_1e-05",
    "seed_3-step_size_0.01",
    "seed_3-step_size_1e-05",
  ]
  for one in found:
    assert members(one) == [one] and member_name(one, one) == ""
    assert replace(one, seed=(0, 3), step_size=(0.01, 1e-05)) == sweep


def test_replace_finds_the_part_that_has_the_field():
  changed = replace(Config(), model="conv", optimizer="sgd", latent_dim=7)
  assert (changed.model.model, changed.optimizer.optimizer) == ("conv", "sgd")
  assert leaves(changed)["latent_dim"] == 7
  with pytest.raises(TypeError, match="no field latent_dims"):
    replace(Config(), latent_dims=7)


@pytest.mark.parametrize(
  "change, implied",
  [
    (dict(), dict(binarization="dynamic", prior="gaussian", hidden_dim=(500,))),
    (dict(likelihood="gaussian"), dict(binarization="none")),
    (dict(dataset="binarized_mnist"), dict(binarization="none")),
    (dict(model="conv"), dict(hidden_dim=(32, 64))),
    (dict(posterior="beta"), dict(prior="beta")),
  ],
)
def test_what_fields_imply(change, implied):
  values = leaves(resolve(replace(Config(), **change)))
  assert implied.items() <= values.items()


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(latent_dim=0), "latent_dim=0: takes at least 1"),
    (dict(seed=(0, -1)), "seed=0,-1: takes at least 0"),
    (dict(step_size=(0.1, 0.0)), "step_size=0.1,0.0: takes positive numbers"),
    (dict(optimizer="adamw"), "optimizer=adamw: takes one of adagrad, adam, sgd"),
    (dict(hidden_dim=()), "hidden_dim=: takes positive whole numbers"),
    (dict(posterior="iaff"), "posterior=iaff: takes one of"),
    (dict(init="-1"), "init=-1: takes flax, glorot"),
    (dict(likelihood="gaussian", binarization="static"), "binarization=static: "),
    (dict(optimizer="sgd", adam_eps=1e-4), "adam_eps=0.0001: has no meaning"),
    (dict(num_examples=50), "num_examples=50: takes at least one step"),
    (dict(select_step_size=10), "select_step_size=10: takes several"),
    (dict(examples_at_once=3), "examples_at_once=3: must divide"),
    (dict(output_bias="data_mean", model="conv"), "output_bias=data_mean: takes"),
    (dict(seed=(0, 1), keep_history=True), "keep_history=True: takes a single run, not a sweep"),
    (dict(num_train=-1), "num_train=-1: takes at least 0"),
  ],
)
def test_what_is_refused(change, words):
  with pytest.raises(ConfigError) as caught:
    resolve(replace(Config(), **change))
  assert str(caught.value).startswith(words), str(caught.value)


def test_monte_carlo_em_needs_fixed_data():
  with pytest.raises(ConfigError, match="binarization=dynamic: draws x again"):
    resolve(MCEM)
  with pytest.raises(ConfigError, match="prior=vamp"):
    resolve(replace(MCEM, binarization="static", prior="vamp"))
