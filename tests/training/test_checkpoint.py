"""States on disk: a restored state is the one that was saved, or an error says what is wrong."""

import errno
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import bernoulli, elbo_b, errors, mlp_vae
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.monte_carlo_em import mcem
from aevb_jax.algorithms.optimizers import adagrad
from aevb_jax.training import arrays_on_disk, checkpoint


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


def files_of(directory):
  return sorted(path for path in directory.rglob("*") if path.is_file())


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
def test_the_last_states_come_back_whole(tmp_path, algorithm):
  saved = {}
  with checkpoint.saver(tmp_path / "checkpoints", num_kept=2) as save:
    for step in (1, 5, 9):
      saved[step] = algorithm.init(jax.random.key(step))._replace(step=jnp.int32(step))
      record = {"rows": [{"bound": -1 / step, "none": float("nan")}]}
      save(step, saved[step], record)
      record["rows"].append("what happens later")
  assert checkpoint.steps(tmp_path / "checkpoints") == [5, 9]
  for step in (5, 9):
    state = checkpoint.restore(tmp_path / "checkpoints", step, shapes(algorithm))
    assert_same(state, saved[step])
    (row,) = checkpoint.read_record(tmp_path / "checkpoints", step)["rows"]
    assert row["bound"] == -1 / step and np.isnan(row["none"])


def test_of_two_records_of_a_step_the_later_stays(tmp_path):
  states = [algorithm().init(jax.random.key(seed)) for seed in (0, 1)]
  with checkpoint.saver(tmp_path) as save:
    save(1, states[0], {"rows": 1})
    save(1, states[1], {"rows": 1})
  assert_same(checkpoint.restore(tmp_path, 1, shapes(algorithm())), states[0])
  with checkpoint.saver(tmp_path) as save:
    save(1, states[1], {"rows": 2})
  assert checkpoint.steps(tmp_path) == [1]
  assert checkpoint.read_record(tmp_path, 1) == {"rows": 2}
  assert_same(checkpoint.restore(tmp_path, 1, shapes(algorithm())), states[1])


def test_says_what_is_missing(tmp_path):
  assert checkpoint.steps(tmp_path / "nothing") == checkpoint.steps(tmp_path) == []
  with pytest.raises(errors.DamagedError, match="cannot be read"):
    checkpoint.restore(tmp_path, 1, shapes(algorithm()))
  with pytest.raises(errors.DamagedError, match="cannot be read"):
    checkpoint.read_record(tmp_path, 1)


def test_what_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("no directory")
  with pytest.raises(errors.SaveError, match="file.* cannot be written"):
    with checkpoint.saver(tmp_path / "file" / "checkpoints"):
      pass


ENDED_WHILE_IT_READS = """
class Awaited:
  def __await__(self):
    yield
async def read():
  try:
    await Awaited()
  finally:
    raise ValueError("a file that cannot be read")
"""


@pytest.mark.parametrize("directory, number", [("orbax", 0), ("ours", 1)])
def test_an_error_of_orbax_that_nobody_awaits_is_not_printed(directory, number, monkeypatch):
  names, heard = {}, []
  exec(compile(ENDED_WHILE_IT_READS, f"/{directory}/reading.py", "exec"), names)
  monkeypatch.setattr(sys, "unraisablehook", heard.append)
  with arrays_on_disk.one_error():
    reading = names["read"]()
    reading.send(None)
    del reading
  assert len(heard) == number


def test_what_had_not_begun_when_another_file_failed_is_not_printed(recwarn):
  async def write():
    pass

  write()
  with pytest.raises(OSError), arrays_on_disk.one_error():
    raise OSError
  write()
  assert [warning.category for warning in recwarn] == [RuntimeWarning]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  directory = tmp_path_factory.mktemp("checkpoints")
  state = algorithm().init(jax.random.key(0))
  with checkpoint.saver(directory) as save:
    save(1, state, {"rows": list(range(100))})
  return directory, state


def damages(contents):
  """Yields contents cut short, with a bit flipped at the start, middle or end, and None."""
  yield contents[: len(contents) // 2]
  for place in (0, len(contents) // 2, len(contents) - 1):
    yield contents[:place] + bytes([contents[place] ^ 4]) + contents[place + 1 :]
  yield None


def test_damage_to_any_file_is_noticed_or_of_no_effect(saved):
  directory, state = saved
  noticed = set()
  checkpoint.check(directory, 1)
  for file in files_of(directory / "1"):
    contents = file.read_bytes()
    for damage in damages(contents) if contents else ():
      file.unlink() if damage is None else file.write_bytes(damage)
      try:
        assert_same(checkpoint.restore(directory, 1, shapes(algorithm())), state)
        assert checkpoint.read_record(directory, 1) == {"rows": list(range(100))}
      except errors.DamagedError:
        noticed.add(file.name)
        with pytest.raises(errors.DamagedError):
          checkpoint.check(directory, 1)
      else:
        checkpoint.check(directory, 1)
      file.write_bytes(contents)
  assert {checkpoint.RECORD_FILE, "_METADATA"} < noticed and len(noticed) >= 4
  assert_same(checkpoint.restore(directory, 1, shapes(algorithm())), state)


def test_another_array_in_the_place_of_one_is_noticed(tmp_path):
  """The files are intact, but one does not belong to the record."""
  for name, key in (("one", 0), ("other", 1)):
    with checkpoint.saver(tmp_path / name) as save:
      save(1, algorithm().init(jax.random.key(key)))
  record = tmp_path / "one" / "1" / "record" / checkpoint.RECORD_FILE
  record.write_bytes((tmp_path / "other" / "1" / "record" / checkpoint.RECORD_FILE).read_bytes())
  with pytest.raises(errors.DamagedError, match="its array .* is not what was saved"):
    checkpoint.restore(tmp_path / "one", 1, shapes(algorithm()))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32", "uint8", "bool"])
def test_a_checksum_sees_every_bit_and_the_order(dtype):
  array = jax.random.normal(jax.random.key(0), (3, 5)).astype(dtype)
  seen = {checkpoint._sums([array])[0]}
  width = array.dtype.itemsize
  words = np.asarray(array).reshape(-1).view(np.uint8).reshape(-1, width)
  for place in np.ndindex(words.shape):
    for bit in range(1 if dtype == "bool" else 8):
      other = words.copy()
      other[place] ^= 1 << bit
      other = jnp.asarray(other.reshape(-1).view(np.asarray(array).dtype).reshape(3, 5))
      seen_now = checkpoint._sums([other])[0]
      assert seen_now != checkpoint._sums([array])[0], (place, bit)
  if dtype == "float32":
    assert checkpoint._sums([array[::-1]])[0] not in seen


def test_set_aside(tmp_path):
  for content in (b"first", b"second"):
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    (tmp_path / "checkpoints" / "5" / "file").write_bytes(content)
    place = checkpoint.set_aside(tmp_path / "checkpoints", 5)
    assert (place / "file").read_bytes() == content
  assert checkpoint.steps(tmp_path / "checkpoints") == []
  assert len(list((tmp_path / "checkpoints-damaged").iterdir())) == 2


def test_comes_back_to_the_devices_asked_for(tmp_path):
  state = jax.device_put(algorithm().init(jax.random.key(0)), jax.devices()[3])
  with checkpoint.saver(tmp_path) as save:
    save(1, state)
  mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  for asked, sharding in ((None, first), (everywhere, everywhere)):
    restored = checkpoint.restore(tmp_path, 1, shapes(algorithm()), asked)
    assert_same(restored, state)
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(restored))


def test_refuses_the_state_of_another_model(saved):
  for other in (algorithm(latent_dim=4), algorithm(optimizer=optax.adam(0.1))):
    with pytest.raises(errors.CheckpointError, match="is not of this model") as error:
      checkpoint.restore(saved[0], 1, shapes(other))
    assert not isinstance(error.value, errors.DamagedError)  # so it is not set aside


@pytest.mark.parametrize(
  "name, other, remedy",
  [
    ("float32", "float64", "unset JAX_ENABLE_X64"),
    ("float64", "float32", "set JAX_ENABLE_X64=1"),
  ],
)
def test_names_the_precision_of_a_state_in_another(tmp_path, name, other, remedy):
  state = lambda dtype: {"step": jnp.int32(1), "w": jnp.ones((2, 3), dtype)}
  with checkpoint.saver(tmp_path) as save:
    save(1, state(name))
  words = f"1 was saved in {name}, and this process computes in {other}; {remedy}$"
  with pytest.raises(errors.CheckpointError, match=words) as error:
    checkpoint.restore(tmp_path, 1, state(other))
  assert not isinstance(error.value, errors.DamagedError)
  with pytest.raises(errors.CheckpointError, match="is not of this model"):
    checkpoint.restore(tmp_path, 1, state(other) | {"w": jnp.ones((3, 2), other)})
  np.testing.assert_array_equal(checkpoint.restore(tmp_path, 1, state(name))["w"], np.ones((2, 3)))


@pytest.mark.parametrize("name", ["beta=[4]", "a*b?", "back\\slash", "ünï code"])
def test_a_path_that_is_a_pattern_holds_checkpoints(tmp_path, name):
  directory, state = tmp_path / name / "checkpoints", algorithm().init(jax.random.key(0))
  with checkpoint.saver(directory) as save:
    save(1, state, {"rows": 1})
    save(1, state, {"rows": 2})
  checkpoint.check(directory, 1)
  assert_same(checkpoint.restore(directory, 1, shapes(algorithm())), state)
  assert [path.name for path in directory.iterdir()] == ["1"]


def test_what_is_replaced_is_there_until_the_other_is(tmp_path, monkeypatch):
  states = [algorithm().init(jax.random.key(seed)) for seed in (0, 1)]
  with checkpoint.saver(tmp_path) as save:
    save(1, states[0], {"rows": 1})

  def ended(*args, **kwargs):  # as SIGKILL would, after the old checkpoint was moved away
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt), checkpoint.saver(tmp_path) as save:
    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", ended)
    save(1, states[1], {"rows": 2})
  monkeypatch.undo()
  assert checkpoint.steps(tmp_path) == [1] and checkpoint.read_record(tmp_path, 1) == {"rows": 1}
  checkpoint.check(tmp_path, 1)
  assert_same(checkpoint.restore(tmp_path, 1, shapes(algorithm())), states[0])
  with checkpoint.saver(tmp_path) as save:
    save(1, states[1], {"rows": 2})
  assert [path.name for path in tmp_path.iterdir()] == ["1"]
  assert_same(checkpoint.restore(tmp_path, 1, shapes(algorithm())), states[1])


def test_the_first_state_is_read_back(tmp_path, monkeypatch):
  """A disk that does not keep what is written to it is noticed before training continues."""
  written = checkpoint._compare

  def other(contents, state):
    written(
      contents, jax.tree.map(lambda a: a + 1 if jnp.issubdtype(a.dtype, jnp.floating) else a, state)
    )

  monkeypatch.setattr(checkpoint, "_compare", other)
  with pytest.raises(errors.SaveError, match="cannot be read again"):
    with checkpoint.saver(tmp_path) as save:
      save(1, algorithm().init(jax.random.key(0)))


def test_a_checkpoint_that_was_renamed_is_refused(tmp_path):
  with checkpoint.saver(tmp_path) as save:
    save(1, algorithm().init(jax.random.key(0)))
  (tmp_path / "1").rename(tmp_path / "7")
  for read in (checkpoint.read_record, checkpoint.check):
    with pytest.raises(errors.CheckpointError, match="7 was saved as step 1") as error:
      read(tmp_path, 7)
    assert not isinstance(error.value, errors.DamagedError)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_what_cannot_be_read_now_is_not_damaged(saved, monkeypatch, code):
  """The record fails with an OSError, the arrays with its text in another error."""

  def refuse(*args, **kwargs):
    raise OSError(code, os.strerror(code))

  with monkeypatch.context() as patch:
    patch.setattr("aevb_jax.disk.read_bytes", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
      checkpoint.check(saved[0], 1)

  def fail(*args, **kwargs):
    raise ValueError(f"Error opening zarr driver: [{os.strerror(code)}]")

  monkeypatch.setattr("orbax.checkpoint.Checkpointer.restore", fail)
  with pytest.raises(OSError, match=os.strerror(code)):
    checkpoint.restore(saved[0], 1, shapes(algorithm()))


def test_a_pipe_in_the_place_of_a_file_is_damage(saved):
  directory, _ = saved
  for file in files_of(directory / "1"):
    contents = file.read_bytes()
    if file.name in (checkpoint.RECORD_FILE, "_METADATA", "manifest.ocdbt"):
      file.unlink()
      os.mkfifo(file)
      with pytest.raises(errors.DamagedError):
        checkpoint.restore(directory, 1, shapes(algorithm()))
      file.unlink()
      file.write_bytes(contents)
