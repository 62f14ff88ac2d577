"""A member of a sweep is the single run of its seed and step size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import bernoulli, elbo_b, fit, mlp_vae, stream
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.monte_carlo_em import mcem
from aevb_jax.algorithms.optimizers import adagrad, adam, sgd, with_psi
from aevb_jax.data import Minibatch
from aevb_jax.data.preprocess import binarize
from aevb_jax.estimators import learned_baseline, with_baseline
from aevb_jax.estimators.score_functions import score_function
from aevb_jax.training import sweep
from aevb_jax.training.sharding import make_shardings
from aevb_jax.training.sweep import fit_sweep, fit_sweep_streamed, init_sweep, with_step_size

PIXELS = np.random.default_rng(0).integers(0, 256, size=(23, 6), dtype=np.uint8)
MODEL = mlp_vae(bernoulli(6), data_dim=6, latent_dim=2, hidden_dim=5)
STEP_SIZES = [1e-3, 3e-2]
HOW = dict(preprocess=binarize, static_key=jax.random.key(5))


def learn_with_baseline(step_size):
  baseline = learned_baseline(6, 4)
  return aevb(
    MODEL,
    functools.partial(score_function, baseline=baseline),
    with_psi(adam(step_size), adam(1e-3)),
    num_data=23,
    init=with_baseline(baseline),
  )


ALGORITHMS = {
  "adagrad": lambda s: aevb(MODEL, elbo_b, adagrad(s, warmup_steps=2), num_data=23),
  "adam": lambda s: aevb(MODEL, elbo_b, adam(s), num_data=23),
  "baseline": learn_with_baseline,
  "mcem": lambda s: mcem(MODEL, adam(s), num_data=23, num_leapfrogs=2, num_updates=2),
}


def keys(seed):
  return jax.random.split(jax.random.key(seed), len(STEP_SIZES))


def leaves(tree):
  is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if not is_key(leaf)]


def assert_members_are_single_runs(algorithm, states, metrics):
  for i, step_size in enumerate(STEP_SIZES):
    start = with_step_size(algorithm.init(keys(0)[i]), step_size)
    state, expected = fit(algorithm, start, keys(1)[i], PIXELS, batch_size=8, num_steps=6, **HOW)
    for a, b in zip(leaves(state), leaves(states), strict=True):
      np.testing.assert_allclose(a, b[i], rtol=1e-8, atol=1e-12)
    for name in expected:
      np.testing.assert_allclose(metrics[name][i], expected[name], rtol=1e-8)


@pytest.mark.parametrize(
  "name, num_devices",
  [(name, 1) for name in ALGORITHMS]
  + [("adam", 4), pytest.param("mcem", 2, marks=pytest.mark.long)],
)
def test_a_member_is_the_single_run(name, num_devices):
  shardings = make_shardings(jax.devices()[:num_devices], len(STEP_SIZES))
  algorithm = ALGORITHMS[name](123.0)  # only the step sizes in the states matter
  states = init_sweep(algorithm, keys(0), jnp.asarray(STEP_SIZES))
  states = jax.device_put(states, shardings.members)
  how = dict(batch_size=8, num_steps=3, sharding=shardings.minibatch, **HOW)
  parts = []
  for _ in range(2):
    states, part = fit_sweep(algorithm, states, keys(1), PIXELS, **how)
    parts.append(part)
  metrics = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *parts)
  assert_members_are_single_runs(algorithm, states, metrics)


@pytest.mark.parametrize(
  "name, num_devices",
  [("adam", 1), ("mcem", 1), ("adam", 2), pytest.param("baseline", 1, marks=pytest.mark.long)],
)
def test_members_that_are_trained_one_by_one_are_single_runs(name, num_devices, monkeypatch):
  monkeypatch.setattr(sweep, "FEW_BYTES", 0)  # as if no state fitted into a cache beside another
  algorithm, seeds = ALGORITHMS[name](123.0), [0, 1, 2, 3]
  shardings = make_shardings(jax.devices()[:num_devices], len(seeds))
  make_keys = lambda seed: jax.random.split(jax.random.key(seed), len(seeds))
  states = jax.device_put(init_sweep(algorithm, make_keys(0)), shardings.members)
  how = dict(batch_size=8, **HOW)
  states, metrics = fit_sweep(
    algorithm, states, make_keys(1), PIXELS, num_steps=4, sharding=shardings.minibatch, **how
  )
  for i in seeds:
    start = algorithm.init(make_keys(0)[i])
    state, expected = fit(algorithm, start, make_keys(1)[i], PIXELS, num_steps=4, **how)
    for a, b in zip(leaves(state), leaves(states), strict=True):
      np.testing.assert_allclose(a, b[i], rtol=1e-8, atol=1e-12)
    for metric in expected:
      np.testing.assert_allclose(metrics[metric][i], expected[metric], rtol=1e-8)


def test_a_streamed_member_is_the_single_run():
  algorithm = ALGORITHMS["adam"](123.0)
  states = init_sweep(algorithm, keys(0), jnp.asarray(STEP_SIZES))
  streams = [next(stream(PIXELS, key, [6], batch_size=8)) for key in keys(1)]
  minibatches = Minibatch(*(np.stack(parts) for parts in zip(*streams)))
  states, metrics = fit_sweep_streamed(algorithm, states, keys(1), minibatches, **HOW)
  assert_members_are_single_runs(algorithm, states, metrics)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_size_in_the_state_is_that_of_the_optimizer(name):
  make = ALGORITHMS[name]
  changed = with_step_size(make(123.0).init(jax.random.key(0)), 3e-2)
  for a, b in zip(leaves(changed), leaves(make(3e-2).init(jax.random.key(0))), strict=True):
    np.testing.assert_array_equal(a, b)


def test_members_differ():
  algorithm = ALGORITHMS["adam"](0.1)
  how = dict(batch_size=8, num_steps=6, **HOW)
  same_seed = jax.random.wrap_key_data(jnp.tile(jax.random.key_data(jax.random.key(0)), (2, 1)))
  states = init_sweep(algorithm, same_seed, jnp.asarray([0.1, 0.2]))
  fit_keys = jax.random.wrap_key_data(jnp.tile(jax.random.key_data(jax.random.key(1)), (2, 1)))
  _, metrics = fit_sweep(algorithm, states, fit_keys, PIXELS, **how)
  assert metrics["bound"][0, 0] == metrics["bound"][1, 0]  # before the first update
  assert np.all(metrics["bound"][0, 1:] != metrics["bound"][1, 1:])


def test_a_sweep_is_compiled_once():
  traces = []

  def counted(key, model, params, x):
    traces.append(1)
    return elbo_b(key, model, params, x)

  algorithm = aevb(MODEL, counted, adam(1.0), num_data=23)
  states = init_sweep(algorithm, keys(0), jnp.asarray(STEP_SIZES))
  for _ in range(3):
    states, _ = fit_sweep(algorithm, states, keys(1), PIXELS, batch_size=8, num_steps=2)
  assert len(traces) == 1


def test_a_member_that_overflows_leaves_the_others_alone():
  algorithm = aevb(MODEL, elbo_b, sgd(1.0), num_data=23)
  states = init_sweep(algorithm, keys(0)[:2], jnp.asarray([1e300, 1e-2]))
  how = dict(batch_size=8, num_steps=6, **HOW)
  states, metrics = fit_sweep(algorithm, states, keys(1)[:2], PIXELS, **how)
  assert not np.isfinite(metrics["bound"][0, -1])
  single = aevb(MODEL, elbo_b, sgd(1e-2), num_data=23)
  _, expected = fit(single, single.init(keys(0)[1]), keys(1)[1], PIXELS, **how)
  np.testing.assert_allclose(metrics["bound"][1], expected["bound"], rtol=1e-10)


def test_as_many_step_sizes_as_keys():
  algorithm = ALGORITHMS["adam"](0.1)
  for step_sizes in (jnp.ones(3), jnp.ones(1), jnp.ones(())):
    with pytest.raises(ValueError, match="step sizes for"):
      init_sweep(algorithm, keys(0), step_sizes)


def test_a_step_size_that_is_not_in_the_state_is_refused():
  algorithm = aevb(MODEL, elbo_b, optax.adam(1e-3), num_data=23)
  with pytest.raises(TypeError, match="holds no step size"):
    with_step_size(algorithm.init(jax.random.key(0)), 0.1)
