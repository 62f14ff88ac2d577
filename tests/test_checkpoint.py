"""States on disk: what comes back is what was saved, or a sentence."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import aevb, bernoulli, checkpoint, elbo_b, mcem, mlp_vae
from aevb_jax.optimizers import adagrad


def algorithm(latent_dim=3, optimizer=adagrad(0.1)):
  model = mlp_vae(bernoulli(6), data_dim=6, latent_dim=latent_dim, hidden_dim=5)
  return aevb(model, elbo_b, optimizer, num_data=10)


def shapes(algorithm):
  return jax.eval_shape(algorithm.init, jax.random.key(0))


def assert_same(state, other):
  assert jax.tree.structure(state) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other)):
    assert a.dtype == b.dtype
    if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  "algorithm",
  [
    algorithm(),
    algorithm(optimizer=optax.adam(0.1)),
    mcem(
      mlp_vae(bernoulli(6), data_dim=6, latent_dim=2, hidden_dim=5), optax.sgd(0.1), num_data=10
    ),
  ],
  ids=["adagrad", "adam", "mcem"],
)
def test_the_last_state_comes_back_whole(tmp_path, algorithm):
  with checkpoint.saver(tmp_path / "checkpoints") as save:
    for step in (1, 5):
      state = algorithm.init(jax.random.key(step))._replace(step=jnp.int32(step))
      save(step, state)
  assert_same(checkpoint.restore(tmp_path / "checkpoints", shapes(algorithm)), state)
  assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]


@pytest.fixture
def heard_interrupts():
  """Where the tests run in the background, they would ignore interrupts."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_interrupts")
def test_an_interrupt_waits_until_the_state_is_saved(tmp_path):
  state = algorithm().init(jax.random.key(0))
  with pytest.raises(KeyboardInterrupt):
    with checkpoint.saver(tmp_path) as save:
      with checkpoint._uninterrupted():
        signal.raise_signal(signal.SIGINT)
        save(1, state)  # inside, it neither breaks off nor forgets the interrupt
  assert_same(checkpoint.restore(tmp_path, shapes(algorithm())), state)


def test_says_what_is_missing(tmp_path):
  with pytest.raises(checkpoint.CheckpointError, match="does not exist"):
    checkpoint.restore(tmp_path / "nothing", shapes(algorithm()))
  assert not (tmp_path / "nothing").exists()
  with pytest.raises(checkpoint.CheckpointError, match="holds no checkpoint"):
    checkpoint.restore(tmp_path, shapes(algorithm()))


def test_a_state_of_another_device_and_a_broken_one(tmp_path):
  state = jax.device_put(algorithm().init(jax.random.key(0)), jax.devices()[3])
  with checkpoint.saver(tmp_path) as save:
    save(1, state)
  restored = checkpoint.restore(tmp_path, shapes(algorithm()))
  assert_same(restored, state)
  assert all(leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(restored.params))
  for file in (tmp_path / "1").rglob("*"):
    if file.is_file():
      file.write_bytes(b"nothing")
  with pytest.raises(checkpoint.CheckpointError, match="cannot be read"):
    checkpoint.restore(tmp_path, shapes(algorithm()))


def test_comes_back_to_the_devices_asked_for(tmp_path):
  state = algorithm().init(jax.random.key(0))
  with checkpoint.saver(tmp_path) as save:
    save(1, state)
  mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  restored = checkpoint.restore(tmp_path, shapes(algorithm()), everywhere)
  assert_same(restored, state)
  assert all(leaf.sharding == everywhere for leaf in jax.tree.leaves(restored))


def test_refuses_the_state_of_another_model(tmp_path):
  with checkpoint.saver(tmp_path) as save:
    save(1, algorithm().init(jax.random.key(0)))
  for other in (algorithm(latent_dim=4), algorithm(optimizer=optax.adam(0.1))):
    with pytest.raises(checkpoint.CheckpointError, match="is not of this model"):
      checkpoint.restore(tmp_path, shapes(other))
