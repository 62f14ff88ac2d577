"""The order of the data, and reading ahead through Grain."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax.data import minibatches
from aevb_jax.data.minibatches import (
  Minibatch,
  blocks,
  minibatch_indices,
  order_key,
  read_rows,
  shuffled,
  stream,
)
from tests.support.statistics import assert_unbiased

PIXELS = np.random.default_rng(0).integers(0, 256, size=(23, 6), dtype=np.uint8)


def permutation(key, n):
  return shuffled(key, jnp.arange(n, dtype=jnp.uint32), n)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 23, 64, 1000, 50_000, 65_537])
def test_shuffled_is_a_permutation(n):
  for seed in range(3):
    order = permutation(jax.random.key(seed), n)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_all_permutations_are_equally_likely():
  n, num_draws = 4, 400_000
  draw = jax.jit(jax.vmap(lambda key: permutation(key, n)))
  orders = np.asarray(draw(jax.random.split(jax.random.key(0), num_draws)))
  every = np.asarray(list(itertools.permutations(range(n))))
  is_it = (orders[:, None, :] == every).all(axis=-1)
  assert_unbiased(is_it.astype(float), np.full(len(every), 1 / len(every)), detects=0.06)


def test_neighbours_in_a_large_set_are_spread_apart():
  # The places of an index and of the next one are uniform and independent of each other.
  n = 50_000
  keys = jax.random.split(jax.random.key(0), 20_000)
  pair = jnp.asarray([123, 124], jnp.uint32)
  places = np.asarray(jax.vmap(lambda key: shuffled(key, pair, n))(keys), np.float64) / n - 0.5
  moments = np.stack([places[:, 0], places[:, 0] ** 2, places[:, 0] * places[:, 1]], axis=-1)
  assert_unbiased(moments, np.asarray([0.0, 1 / 12, 0.0]), detects_shift=0.02)


def test_memory_does_not_depend_on_the_size_of_the_set():
  def compiled(num_data):
    step = jnp.int32(3)
    lowered = jax.jit(
      lambda key, step: minibatch_indices(key, step, 10, num_data=num_data, batch_size=100)
    ).lower(jax.random.key(0), step)
    return lowered.compile().memory_analysis().temp_size_in_bytes

  assert compiled(2_000_000_000) <= compiled(1_000) + 1_000


def test_a_set_of_two_billion():
  n = 2**31 - 1
  last = n // 100 - 2  # the next step is the last of the epoch
  index = minibatch_indices(jax.random.key(0), jnp.int32(last), 2, num_data=n, batch_size=100)
  assert index.min() >= 0 and len(np.unique(index)) == 200


def indices(step, num_steps, num_data=23, batch_size=5, seed=0):
  return np.asarray(
    minibatch_indices(
      jax.random.key(seed),
      jnp.int32(step),
      num_steps,
      num_data=num_data,
      batch_size=batch_size,
    )
  )


def test_every_epoch_is_a_fresh_permutation():
  epochs = indices(0, 12, num_data=20).reshape(3, 20)
  for epoch in epochs:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(20))
  assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[1], epochs[2])


def test_an_epoch_leaves_out_the_remainder_and_not_always_the_same():
  epochs = indices(0, 4 * 30).reshape(30, 20)
  assert all(len(set(epoch)) == 20 for epoch in epochs)
  left_out = [frozenset(range(23)) - set(epoch) for epoch in epochs]
  assert len(set(left_out)) > 15


@pytest.mark.parametrize("start", [0, 3, 4, 7, 19])
@pytest.mark.parametrize("num_steps", [1, 4, 9])
def test_what_a_step_sees_does_not_depend_on_how_steps_are_chunked(start, num_steps):
  np.testing.assert_array_equal(
    indices(start, num_steps), indices(0, 30)[start : start + num_steps]
  )


def test_the_order_depends_on_the_key():
  assert not np.array_equal(indices(0, 4, seed=0), indices(0, 4, seed=1))


def test_one_batch_an_epoch_and_the_whole_set_a_batch():
  whole = indices(0, 3, num_data=7, batch_size=7)
  np.testing.assert_array_equal(np.sort(whole, axis=1), np.tile(np.arange(7), (3, 1)))


def take(lengths, source=PIXELS, **kwargs):
  """Reads a stream of the given lengths and joins its items."""
  items = list(stream(source, jax.random.key(1), lengths, batch_size=4, **kwargs))
  assert [len(item.index) for item in items] == list(lengths)
  return Minibatch(*(np.concatenate(arrays) for arrays in zip(*items)))


@pytest.mark.parametrize("lengths", [[12], [1] * 12, [5, 4, 3], [2, 2, 8]])
def test_a_stream_has_the_minibatches_of_the_order(lengths):
  order = minibatch_indices(
    order_key(jax.random.key(1)), jnp.int32(0), 12, num_data=23, batch_size=4
  )
  minibatches = take(lengths)
  np.testing.assert_array_equal(minibatches.index, order)
  np.testing.assert_array_equal(minibatches.pixels, PIXELS[order])


def test_a_resumed_stream_goes_on_where_it_was():
  whole = take([20])
  np.testing.assert_array_equal(take([3, 10], start=7).index, whole.index[7:])


def test_the_state_of_the_iterator_is_its_place():
  minibatches = stream(PIXELS, jax.random.key(1), [2] * 9, batch_size=4)
  for _ in range(5):
    next(minibatches)
  state = minibatches.get_state()
  sixth = next(minibatches)
  again = stream(PIXELS, jax.random.key(1), [2] * 9, batch_size=4)
  again.set_state(state)
  np.testing.assert_array_equal(next(again).index, sixth.index)
  minibatches.close(), again.close()


@pytest.mark.parametrize("process_count", [2, 4])
def test_the_processes_share_every_minibatch(process_count):
  whole = take([5, 3])
  shares = [
    take([5, 3], process_index=i, process_count=process_count) for i in range(process_count)
  ]
  pixels = np.concatenate([share.pixels for share in shares], axis=1)
  np.testing.assert_array_equal(pixels, whole.pixels)
  assert all(share.index.shape == (8, 4 // process_count) for share in shares)


def test_what_a_stream_refuses():
  with pytest.raises(ValueError, match="batch_size is 24, but the data set has 23 examples"):
    stream(PIXELS, jax.random.key(1), [1], batch_size=24)
  with pytest.raises(ValueError, match="batch_size is 4, which 3 processes cannot share"):
    stream(PIXELS, jax.random.key(1), [1], batch_size=4, process_count=3)


class OneByOne:
  """A minimal Grain data source."""

  def __len__(self):
    return len(PIXELS)

  def __getitem__(self, index):
    return PIXELS[index]


class ManyAtOnce(OneByOne):
  def __getitems__(self, indices):
    return [PIXELS[i] for i in indices]


@pytest.mark.parametrize(
  "source", [PIXELS, OneByOne(), ManyAtOnce()], ids=lambda s: type(s).__name__
)
def test_any_grain_source_will_do(source):
  index = np.asarray([3, 0, 22])
  np.testing.assert_array_equal(read_rows(source, index), PIXELS[index])
  np.testing.assert_array_equal(np.concatenate(list(blocks(source, 10))), PIXELS)
  np.testing.assert_array_equal(take([2, 3], source).pixels, take([5]).pixels)


def test_a_memory_mapped_file_is_not_kept_in_memory(tmp_path):
  path = tmp_path / "pixels.npy"
  np.save(path, np.random.default_rng(0).integers(0, 256, size=(20_000, 784), dtype=np.uint8))
  pixels = np.load(path, mmap_mode="r")

  def mapped_mib():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(fields["RssFile"].split()[0]) / 1024

  before = mapped_mib()
  total = pixels.sum()  # reads all 15 MiB
  assert mapped_mib() > before + 10
  assert sum(int(block.sum()) for block in blocks(pixels[5:], 1000)) + pixels[:5].sum() == total
  assert mapped_mib() < before + 5


def test_changes_to_a_private_mapping_are_kept(tmp_path):
  np.save(tmp_path / "pixels.npy", np.zeros((5000, 784), np.uint8))
  changed = np.load(tmp_path / "pixels.npy", mmap_mode="c")
  changed[:] = 7
  changed.flags.writeable = False
  assert all((block == 7).all() for block in blocks(changed, 1000)) and (changed == 7).all()


def test_the_start_may_be_the_step_of_a_state():
  expected = take([4], start=3)
  for device in jax.devices()[:2]:
    step = jax.device_put(jnp.int32(3), device)
    np.testing.assert_array_equal(take([4], start=step).index, expected.index)


def test_a_large_file_is_read_in_groups(tmp_path, monkeypatch):
  """The groups join without a gap, and the pages of each are released before the next."""
  np.save(tmp_path / "a.npy", PIXELS)
  mapped, released = np.load(tmp_path / "a.npy", mmap_mode="r"), []
  monkeypatch.setattr(minibatches, "release_pages", lambda source: released.append(source))
  key, lengths = jax.random.key(0), [3, 2]
  whole = [item.pixels for item in stream(mapped, key, lengths, batch_size=4)]
  assert len(released) == 2
  monkeypatch.setattr(minibatches, "MOST_MAPPED", 5)
  monkeypatch.setattr(minibatches, "FOLIO_BYTES", 1)
  grouped = [item.pixels for item in stream(mapped, key, lengths, batch_size=4)]
  for a, b in zip(whole, grouped, strict=True):
    np.testing.assert_array_equal(a, b)
  assert len(released) == 2 + 3 + 2  # 12 and 8 rows, 5 at once
