"""Results do not depend on the number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from aevb_jax import bernoulli, elbo_a, elbo_b, evaluate, fit, fit_streamed, mlp_vae
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.monte_carlo_em import mcem
from aevb_jax.algorithms.optimizers import adam
from aevb_jax.data.minibatches import Minibatch, stream
from aevb_jax.data.preprocess import binarize
from aevb_jax.training.sharding import make_shardings, nearest_multiples, split_evenly

PIXELS = np.random.default_rng(0).integers(0, 256, size=(53, 6), dtype=np.uint8)
MODEL = mlp_vae(bernoulli(6), data_dim=6, latent_dim=2, hidden_dim=5)
ALGORITHMS = {
  "aevb": aevb(MODEL, functools.partial(elbo_b, num_samples=3), adam(1e-2), num_data=53),
  "mcem": mcem(MODEL, adam(1e-2), num_data=53, num_leapfrogs=2, num_updates=2),
}
HOW = dict(preprocess=binarize)


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
