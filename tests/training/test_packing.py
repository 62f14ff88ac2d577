"""A loop over a packed state is the loop over the state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import bernoulli, elbo_b, mlp_vae
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.optimizers import adagrad, adam
from aevb_jax.training import program
from aevb_jax.training.packing import MOST_NUMBERS, scan_packed


def carried(scan, step, state, xs):
  """Returns the shapes of what the loop carries from step to step."""
  jaxpr = jax.make_jaxpr(lambda state, xs: scan(step, state, xs))(state, xs)
  (loop,) = [equation for equation in jaxpr.eqns if equation.primitive.name == "scan"]
  first, count = loop.params["num_consts"], loop.params["num_carry"]
  return [variable.aval.shape for variable in loop.invars[first : first + count]]


def words(tree):
  is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in jax.tree.leaves(tree)]


def test_every_kind_of_array_comes_back():
  state = {
    "float": jnp.float32(0.1) * jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
    "special": jnp.array([jnp.nan, -0.0, jnp.inf], jnp.float32),
    "count": jnp.int32(-3),
    "words": jnp.array([2**32 - 1, 0], jnp.uint32),
    "empty": jnp.zeros((0, 2), jnp.float32),
    "double": jnp.array([0.1, 0.2], jnp.float64),
    "half": jnp.array([0.5], jnp.bfloat16),
    "flag": jnp.array([True, False]),
    "wide": jnp.ones(MOST_NUMBERS + 1, jnp.float32),
    "key": jax.random.key(0),
  }

  def step(state, x):
    changed = state | {
      "float": state["float"] * x,
      "count": state["count"] - 1,
      "words": state["words"] + jnp.uint32(1),
      "wide": state["wide"] + x,
      "double": state["double"] * x.astype(jnp.float64),
      "flag": ~state["flag"],
    }
    return changed, state["count"]

  xs = jnp.array([2.0, 0.5, 4.0], jnp.float32)
  expected, packed = jax.lax.scan(step, state, xs), scan_packed(step, state, xs)
  for a, b in zip(words(expected), words(packed), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
  # The float32, int32 and uint32 arrays with few numbers are one vector. JAX does not carry what a
  # step leaves as it is.
  assert sorted(carried(scan_packed, step, state, xs)) == [(2,), (2,), (6 + 3 + 1 + 2,), (129,)]
  assert (2, 3) in carried(jax.lax.scan, step, state, xs)


def test_a_state_of_large_arrays_is_not_packed():
  step = lambda state, x: (state + x, x)
  state = jnp.zeros(MOST_NUMBERS + 1, jnp.float32)
  assert carried(scan_packed, step, state, jnp.ones(2, jnp.float32)) == [state.shape]


@pytest.mark.parametrize("optimizer", [adam(1e-2), adagrad(0.1, warmup_steps=2)])
def test_updates_are_those_of_an_unpacked_loop(optimizer):
  model = mlp_vae(bernoulli(6), data_dim=6, latent_dim=2, hidden_dim=150)
  algorithm = aevb(model, elbo_b, optimizer, num_data=64)
  state = jax.tree.map(
    lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf,
    algorithm.init(jax.random.key(0)),
  )
  batches = (jax.random.uniform(jax.random.key(1), (5, 8, 6), jnp.float32) < 0.5) * jnp.float32(1)
  with jax.enable_x64(False):
    expected = jax.jit(lambda s, xs: jax.lax.scan(algorithm.update, s, xs))(state, batches)
    packed = jax.jit(lambda s, xs: scan_packed(algorithm.update, s, xs))(state, batches)
  assert int(packed[0].step) == 5
  for a, b in zip(words(expected), words(packed), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_options_for_gpus_are_known_to_xla_and_others_are_left_out(monkeypatch):
  lowered = jax.jit(lambda x: x + 1).lower(1.0)
  assert lowered.compile(compiler_options=program.GPU_OPTIONS)(1.0) == 2
  monkeypatch.setattr(program, "platform_of", lambda sharding: "gpu")
  assert program.compile_for_devices(lowered, None)(1.0) == 2
  monkeypatch.setattr(program, "GPU_OPTIONS", {"xla_gpu_of_another_version": "1"})
  assert program.compile_for_devices(lowered, None)(1.0) == 2
