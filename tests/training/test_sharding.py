"""Results do not depend on the number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from aevb_jax import bernoulli, elbo_a, elbo_b, evaluate, fit, fit_streamed, iwae, mlp_vae
from aevb_jax.algorithms.auto_encoding import aevb, gaussian_weight_prior
from aevb_jax.algorithms.monte_carlo_em import mcem
from aevb_jax.algorithms.optimizers import adagrad, adam
from aevb_jax.data.minibatches import Minibatch, stream
from aevb_jax.data.preprocess import binarize
from aevb_jax.estimators import (
  constant_baseline,
  kl_warmup,
  leave_one_out,
  score_function,
  with_baseline,
)
from aevb_jax.families import table
from aevb_jax.training.nonfinite import skip_nonfinite
from aevb_jax.training.sharding import (
  make_shardings,
  mean_over_devices,
  nearest_multiples,
  on_each_device,
  shared_by,
  split_evenly,
)
from aevb_jax.types import Algorithm

PIXELS = np.random.default_rng(0).integers(0, 256, size=(53, 6), dtype=np.uint8)
MODEL = mlp_vae(bernoulli(6), data_dim=6, latent_dim=2, hidden_dim=5)
ALGORITHMS = {
  "aevb": aevb(MODEL, functools.partial(elbo_b, num_samples=3), adam(1e-2), num_data=53),
  "mcem": mcem(MODEL, adam(1e-2), num_data=53, num_leapfrogs=2, num_updates=2),
}
HOW = dict(preprocess=binarize)


def with_posterior(name, estimator=elbo_a, **how):
  entry = table.POSTERIORS[name]
  prior = lambda size: table.make_prior(entry.prior, size)
  sizes = dict(data_dim=6, latent_dim=2, hidden_dim=5)
  model = mlp_vae(bernoulli(6), posterior=entry.make, prior=prior, **sizes)
  return aevb(model, estimator, adam(1e-2), num_data=53, **how)


def by_hand():
  """Makes algorithm 1 as a user may write it, who knows nothing of devices."""

  def update(state, batch, index):
    def loss(params):
      keys = jax.random.split(jax.random.fold_in(state.key, state.step), len(index))
      return -jnp.mean(jax.vmap(lambda key, x: elbo_b(key, MODEL, params, x))(keys, batch))

    value, grads = jax.value_and_grad(loss)(state.params)
    params = jax.tree.map(lambda w, g: w - 0.1 * g, state.params, grads)
    return state._replace(step=state.step + 1, params=params), {"bound": -value}

  return Algorithm(ALGORITHMS["aevb"].init, update)


def jitted():
  """Makes an algorithm whose update is traced once for each set of devices."""
  algorithm = ALGORITHMS["aevb"]
  return Algorithm(algorithm.init, jax.jit(algorithm.update))


def guarded():
  """Makes an algorithm that skips the step whose bound is not finite."""
  estimator = lambda key, model, params, x: (
    elbo_b(key, model, params, x) + jnp.where(x.sum() > 5, jnp.nan, 0.0)
  )
  algorithm = aevb(MODEL, estimator, adam(1e-2), num_data=53)
  return skip_nonfinite(algorithm, "bound")


PRIOR = gaussian_weight_prior(1.0)
MAKE = {
  "gamma": lambda: with_posterior("gamma", kl_warmup(elbo_a, 4)),
  "student_t": lambda: with_posterior("student_t", log_prior=PRIOR),
  "beta": lambda: with_posterior("beta", functools.partial(iwae, num_samples=3)),
  "adagrad": lambda: aevb(MODEL, elbo_b, adagrad(0.1), num_data=53, log_prior=PRIOR),
  "parts": lambda: aevb(MODEL, elbo_b, adam(1e-2), num_data=53, examples_at_once=8),
  "more parts than examples": lambda: aevb(
    MODEL, elbo_b, adam(1e-2), num_data=53, examples_at_once=1
  ),
  "leave one out": lambda: with_posterior(
    "bernoulli", functools.partial(score_function, baseline=leave_one_out, num_samples=3)
  ),
  "baseline": lambda: with_posterior(
    "bernoulli",
    functools.partial(score_function, baseline=constant_baseline),
    init=with_baseline(constant_baseline),
  ),
  "mcem with a prior": lambda: mcem(
    MODEL, adam(1e-2), num_data=53, num_leapfrogs=2, num_updates=2, log_prior=PRIOR
  ),
  "skipped": guarded,
  "by hand": by_hand,
  "jitted": jitted,
}
QUICK = ("gamma", "more parts than examples", "mcem with a prior", "jitted")


def leaves(state):
  return [np.asarray(leaf) for leaf in jax.tree.leaves((state.step, state.params, state.opt_state))]


def train(algorithm, num_devices, *, static_key=None):
  shardings = make_shardings(jax.devices()[:num_devices])
  state = jax.device_put(algorithm.init(jax.random.key(0)), shardings.replicated)
  how = dict(batch_size=16, num_steps=6, static_key=static_key, sharding=shardings.minibatch)
  return fit(algorithm, state, jax.random.key(1), PIXELS, **how, **HOW)


STATIC = pytest.param(jax.random.key(5), marks=pytest.mark.long)


@pytest.mark.parametrize("static_key", [None, STATIC], ids=["dynamic", "static"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_eight_devices_learn_what_one_learns(name, static_key):
  if name == "mcem":
    static_key = jax.random.key(5)  # mcem keeps a z for every x
  algorithm = ALGORITHMS[name]
  plain, _ = fit(
    algorithm,
    algorithm.init(jax.random.key(0)),
    jax.random.key(1),
    PIXELS,
    batch_size=16,
    num_steps=6,
    static_key=static_key,
    **HOW,
  )
  for num_devices in (1, 8):
    state, _ = train(algorithm, num_devices, static_key=static_key)
    for a, b in zip(leaves(plain), leaves(state)):
      np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
  "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in MAKE]
)
def test_four_devices_learn_what_one_learns(name):
  algorithm = MAKE[name]()
  how = dict(static_key=jax.random.key(5))  # mcem keeps a z for every x
  state, metrics = train(algorithm, 4, **how)
  alone, expected = train(algorithm, 1, **how)
  z = lambda state: [state.z] if hasattr(state, "z") else []
  for a, b in zip(leaves(alone) + z(alone), leaves(state) + z(state), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)
  assert name != "skipped" or set(expected["skipped"].tolist()) == {True, False}
  for metric in expected:
    np.testing.assert_allclose(metrics[metric], expected[metric], rtol=1e-9)


def test_devices_share_means_and_rows_and_whoever_shares_already_is_left_alone():
  shardings = make_shardings(jax.devices()[:4])
  examples = {"x": jnp.arange(8.0), "keys": jax.random.split(jax.random.key(0), 8)}

  def function(offset, examples):
    noise = jax.vmap(jax.random.normal)(examples["keys"])
    row = {"x": examples["x"].astype(jnp.float32), "noise": noise}
    return (jnp.mean(examples["x"]) + offset, jnp.float32(len(noise))), row

  def both(examples):
    keys = jax.random.clone(examples["keys"])
    with shared_by(shardings.minibatch):
      each = on_each_device(lambda *both: function(*both)[1], 0.5, examples)
      return each, mean_over_devices(function, 0.5, examples | {"keys": keys})

  expected = function(0.5, examples)
  examples = examples | {"keys": jax.random.clone(examples["keys"])}
  placed = jax.device_put(examples, shardings.minibatch)
  each, ((mean, number), rows) = jax.jit(both)(placed)
  assert mean == 4.0 and number.dtype == jnp.float32
  assert number == 2  # each device had two examples
  assert each["x"].sharding.is_equivalent_to(shardings.minibatch, 1)
  for got in (each, rows):
    jax.tree.map(np.testing.assert_array_equal, got, expected[1])

  def own(x):
    return mean_over_devices(lambda offset, x: (jnp.mean(x) + offset, ()), 0.5, x)[0][None]

  over_data = dict(in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"))
  of_devices = jax.shard_map(own, mesh=shardings.minibatch.mesh, **over_data)
  means = jax.jit(of_devices)(jnp.arange(8.0))
  np.testing.assert_array_equal(means, [1.0, 3.0, 5.0, 7.0])


def test_every_device_has_its_share_of_the_minibatch_and_the_whole_state():
  algorithm = ALGORITHMS["aevb"]
  shardings = make_shardings(jax.devices()[:8])
  state = jax.device_put(algorithm.init(jax.random.key(0)), shardings.replicated)
  how = dict(batch_size=16, num_steps=3, sharding=shardings.minibatch)
  program = fit.lower(algorithm, state, jax.random.key(1), PIXELS, **how, **HOW).compile()
  text = program.as_text()
  # The gradients of all parameters are summed over devices; nothing else is exchanged.
  assert "all-reduce" in text and "all-gather" not in text and "all-to-all" not in text
  # Each device computes the encoder's hidden units of two examples, not of sixteen.
  assert "f64[2,5]" in text and "f64[16,5]" not in text
  state, _ = program(state, jax.random.key(1), PIXELS)
  assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))


def test_streamed_shards_are_the_resident_minibatch():
  algorithm, key = ALGORITHMS["aevb"], jax.random.key(1)
  resident, _ = train(algorithm, 8)
  shardings = make_shardings(jax.devices()[:8])
  state = jax.device_put(algorithm.init(jax.random.key(0)), shardings.replicated)
  (whole,) = stream(PIXELS, key, [6], batch_size=16)
  over_devices = NamedSharding(shardings.minibatch.mesh, PartitionSpec(None, "data"))
  minibatches = Minibatch(*jax.device_put(tuple(whole), over_devices))
  state, _ = fit_streamed(algorithm, state, key, minibatches, sharding=shardings.minibatch, **HOW)
  for a, b in zip(leaves(resident), leaves(state)):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("num_devices", [1, 3, 8])
def test_evaluation_counts_every_example_once_on_any_devices(num_devices):
  params = ALGORITHMS["aevb"].init(jax.random.key(0)).params
  bound = lambda key, params, x: {"bound": elbo_a(key, MODEL, params, x)}
  key = jax.random.key(2)
  expected = evaluate(bound, key, params, PIXELS, first=7, **HOW)["bound"]
  sharding = make_shardings(jax.devices()[:num_devices]).evaluation
  values = evaluate(
    bound, key, params, PIXELS, first=7, sharding=sharding, batch_size=4, **HOW
  )["bound"]  # fmt: skip
  assert values.shape == (53,) and values.sharding.num_devices == num_devices
  np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_members_come_first_and_their_minibatches_share_what_is_left():
  shape = lambda *args: dict(make_shardings(*args).members.mesh.shape)
  devices = jax.devices()
  assert shape(devices[:8]) == {"member": 1, "data": 8}
  assert shape(devices[:8], 16) == {"member": 8, "data": 1}
  assert shape(devices[:8], 6) == {"member": 2, "data": 4}
  assert shape(devices[:3], 2) == {"member": 1, "data": 3}
  assert make_shardings(devices[:8], 6).devices_per_member == 4


def test_split_evenly_fills_up_with_the_last():
  np.testing.assert_array_equal(split_evenly(jnp.arange(5), 3), [[0, 1], [2, 3], [4, 4]])
  np.testing.assert_array_equal(split_evenly(jnp.arange(4), 2), [[0, 1], [2, 3]])


def test_nearest_multiples():
  assert nearest_multiples(100, 8) == [96, 104]
  assert nearest_multiples(3, 8) == [8]
