"""Families, models, networks, optimizers and algorithms of a user's own, by their names."""

import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from aevb_jax import runs
from aevb_jax.errors import ConfigError
from aevb_jax.runs import texts
from aevb_jax.runs.config import Machine
from aevb_jax.runs.job import make_job
from tests.commands.test_command_line import assert_one_clear_line, train
from tests.support import my_parts, processes

SHORT = ["--num_examples=1000", "--eval_every=500", "--num_importance_samples=20"]
WHOLE = ["--batch_size=1437", "--num_examples=2874"]  # an epoch is one step
OURS = "tests.support.my_parts"


def make(*arguments):
  lines = "\n".join([*SHORT, *arguments])
  return make_job(texts.from_flags(lines), Machine(None, array_cache_dir=None))


def updated(job, change=lambda state: state):
  """Returns the state after two updates, and the bounds."""
  algorithm, pixels = job.learning.algorithm, np.float32(job.images.train[:100] / 255)
  state = change(algorithm.init(jax.random.key(0)))
  update = jax.jit(lambda state: algorithm.update(state, pixels, np.arange(100)))
  bounds = []
  for _ in range(2):
    state, metrics = update(state)
    bounds.append(float(metrics["bound"]))
  return jax.tree.leaves(state._replace(key=())), bounds


def assert_same(one, other):
  for a, b in zip(*(jax.tree.leaves(some) for some in (one, other)), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def usual():
  return updated(make("--hidden_dim=20"))


@pytest.mark.parametrize(
  "own, same",
  [
    ([f"--posterior={OURS}:gaussian"], []),
    ([f"--prior={OURS}:standard"], []),
    ([f"--likelihood={OURS}:bernoulli", "--binarization=dynamic"], []),
    ([f"--model={OURS}:mlp"], []),
    ([f"--optimizer={OURS}:adam"], []),
    ([f"--algorithm={OURS}:algorithm"], []),
    ([f"--prior={OURS}:mixture:components=3", "--estimator=elbo_a"],
     ["--prior=mixture:components=3", "--estimator=elbo_a"]),
    ([f"--prior={OURS}:unit", "--posterior=beta", "--estimator=elbo_a"],
     ["--prior=uniform", "--posterior=beta", "--estimator=elbo_a"]),
    (["--optimizer=optax:sgd", "--step_size=0.01"], ["--optimizer=sgd", "--step_size=0.01"]),
    (["--optimizer=optax:adam", "--stage_epochs=1,1", *WHOLE], ["--stage_epochs=1,1", *WHOLE]),
  ],
  ids=lambda value: " ".join(value),
)  # fmt: skip
def test_what_is_the_same_as_ours_gives_the_same_numbers(own, same, usual):
  expected = updated(make("--hidden_dim=20", *same)) if same else usual
  assert_same(updated(make("--hidden_dim=20", *own)), expected)


@pytest.mark.parametrize("own", ["posterior=%s:gaussian:floor=3", "optimizer=%s:adam:b1=0.1"])
def test_arguments_after_colons_reach_the_function(own, usual):
  with pytest.raises(AssertionError):
    assert_same(updated(make("--hidden_dim=20", f"--{own % OURS}")), usual)


def test_the_step_size_of_ones_own_optimizer_can_be_swept():
  """A sweep gives each member its step size through the state of the optimizer."""
  lion = lambda step_size: make(
    "--hidden_dim=5", "--optimizer=optax:lion", f"--step_size={step_size}"
  )

  def change(state):
    hyperparams = dict(state.opt_state.hyperparams)
    hyperparams["step_size"] = np.full_like(hyperparams["step_size"], 0.002)
    return state._replace(opt_state=state.opt_state._replace(hyperparams=hyperparams))

  assert_same(updated(lion(0.0005), change), updated(lion(0.002)))
  with pytest.raises(AssertionError):
    assert_same(updated(lion(0.0005)), updated(lion(0.002)))


def test_networks_of_ones_own(tmp_path):
  """They are a hidden layer of 21 tanh units; heads follow; images come in as (H, W, C)."""
  named = f"--network={OURS}:networks:width=21"
  result = train(*SHORT, named, f"--workdir={tmp_path / 'run'}")
  assert result.returncode == 0, result.stderr
  with jax.enable_x64(False):
    run = runs.load(tmp_path / "run")
  kernels = {leaf.shape for leaf in np.asarray(list(_leaves(run.params.phi)), object)}
  assert {(64, 21), (21,), (21, 2), (2,)} == kernels
  assert runs.decode(run, np.zeros((3, 2))).shape == (3, 8, 8, 1)
  assert "hidden_dim" not in (tmp_path / "run" / "flags.txt").read_text()


def _leaves(tree):
  for value in tree.values():
    yield from _leaves(value) if isinstance(value, dict) else [value]


def test_from_a_directory_outside_the_clone(tmp_path):
  """The module lies beside the user; the run opens there; an edit of the module is told."""
  shutil.copy(my_parts.__file__, tmp_path / "mine.py")
  environment = os.environ | dict(PYTHONPATH=str(processes.ROOT))

  def run(main, *arguments):
    command = [sys.executable, "-m", f"experiments.{main}", *arguments, "--workdir=run"]
    how = dict(cwd=tmp_path, env=environment, capture_output=True, text=True)
    done = subprocess.run(command, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr

  names = ["--posterior=mine:gaussian:floor=0.1", "--optimizer=mine:adam"]
  run("train", *SHORT, "--hidden_dim=20", *names)
  assert "5 test points" in run("evaluate", "--num_points=5")[0]
  (tmp_path / "run" / "summary.json").unlink()
  with open(tmp_path / "mine.py", "a") as file:
    file.write("\n# edited\n")
  assert "its code was edited" in run("train", *SHORT, "--hidden_dim=20", *names)[1]


WRONG = [
  (["--posterior=no.such.module:f"], ["--posterior=no.such.module:f", "No module named 'no'"]),
  ([f"--posterior={OURS}:nothing"], ["has no attribute 'nothing'"]),
  ([f"--posterior={OURS}:__name__"], ["is str, which cannot be called"]),
  ([f"--posterior={OURS}:not_a_family"], ["aevb_jax.Family", "int"]),
  ([f"--posterior={OURS}:larger"], ["transform must return z", "(2,)", "(3,)"]),
  ([f"--posterior={OURS}:vector_log_prob"], ["log_prob must return a number", "(2,)"]),
  ([f"--posterior={OURS}:no_heads"], ["sizes of its heads"]),
  ([f"--posterior={OURS}:deep_error"], ["log_prob fails", "my_parts.py, line", "called from line"]),
  ([f"--posterior={OURS}:gaussian:width=2"], ["size, width=...", "unexpected keyword"]),
  ([f"--posterior={OURS}:gaussian:2"], ["name=value", "'2'"]),
  ([f"--likelihood={OURS}:larger"], ["--likelihood", "(65,)"]),
  ([f"--likelihood={OURS}:unit"], ["--likelihood"]),
  ([f"--prior={OURS}:not_a_distribution"], ["aevb_jax.Distribution"]),
  ([f"--prior={OURS}:unit"], ["--prior", "all numbers", "from 0 to 1"]),
  ([f"--prior={OURS}:changes_nothing_but_latents"], ["p(z)", "(2,)", "(7,)"]),
  ([f"--model={OURS}:not_a_model"], ["aevb_jax.Model", "Family"]),
  ([f"--model={OURS}:other_latents"], ["(2,)", "(3,)"]),
  ([f"--model={OURS}:small", "--hidden_dim=9"], ["--hidden_dim=9", "has no argument hidden_dim"]),
  ([f"--model={OURS}:small", "--posterior=laplace"], ["--posterior=laplace", "no argument pos"]),
  (["--model=cnn"], ["--model=cnn", "mlp, conv, hierarchical, or package.module:function"]),
  (["--network=mine"], ["--network=mine", "takes package.module:function"]),
  ([f"--network={OURS}:one_network"], ["pair of networks", "Features"]),
  ([f"--network={OURS}:stateful"], ["keeps state in batch_stats"]),
  ([f"--network={OURS}:networks", "--model=conv"], ["leave out --model=conv"]),
  ([f"--network={OURS}:networks", "--hidden_dim=5"], ["--hidden_dim=5", "no argument hidden_dim"]),
  (["--optimizer=optax:lionn"], ["--optimizer=optax:lionn", "no attribute 'lionn'"]),
  (["--optimizer=adamw"], ["adagrad, adam, sgd, or package.module:function"]),
  ([f"--optimizer={OURS}:not_an_optimizer"], ["optax.GradientTransformation", "float"]),
  ([f"--optimizer={OURS}:scalar_updates"], ["shapes of the parameters"]),
  (["--optimizer=optax:adam", "--adam_eps=1e-6"], ["--adam_eps"]),
  ([f"--algorithm={OURS}:not_an_algorithm"], ["aevb_jax.Algorithm", "Model"]),
  ([f"--algorithm={OURS}:without_bound"], ['the number "bound"']),
  (["--algorithm=em"], ["aevb, mcem, or package.module:function"]),
]  # fmt: skip


@pytest.mark.parametrize("arguments, words", WRONG, ids=lambda value: value[0].rpartition(":")[2])
def test_what_breaks_a_contract_is_one_line(arguments, words):
  """The main prints the text of the error, and nothing was written by then."""
  with pytest.raises(ConfigError) as caught:
    make(*arguments)
  text = f"--{caught.value}"
  assert text.startswith(arguments[0].partition("=")[0]) or text.startswith(words[0])
  assert all(word in text for word in words) and "\n" not in text and len(text) < 450


@pytest.mark.parametrize(
  "arguments, words",
  [
    WRONG[7],
    (["--model=cnn"], WRONG[19][1]),
    (["--algorithm=em"], ["aevb, mcem, or package.module:function"]),
  ],
  ids=["deep error", "model", "algorithm"],
)
def test_mains_print_that_line(arguments, words, tmp_path):
  result = train(*SHORT, *arguments, f"--workdir={tmp_path / 'run'}")
  assert_one_clear_line(result, *words)
  assert not (tmp_path / "run").exists()
