"""Which examples each training step sees, and reading them ahead through Grain.

What a step sees is a pure function of (key, step), of constant cost and memory
whatever N is. So the position in the data is the step of the training state, a
set on the device and a set read from disk are seen in the same order, and every
process can find its own share of a minibatch.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.types import Array, Key

SWAP_OR_NOT_ROUNDS = 40


class Minibatch(NamedTuple):
  """M examples, or T minibatches of them with a leading axis T."""

  index: Array  # (M,) int32, where in the data set they are
  pixels: Array  # (M, D)


class Source(Protocol):
  """Random access to rows of pixels (D,): a NumPy array, or any Grain data source."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> np.ndarray: ...


def shuffled(key: Key, position: Array, num_data: int) -> Array:
  """The index that a random permutation of 0, ..., N - 1 has at a position.

  The swap-or-not shuffle of Hoang, Morris & Rogaway (2012): every round pairs
  the indices as {i, (K - i) mod N} for a random K and swaps each pair or not by
  a random bit. It needs neither memory nor time that grow with N.

  Args:
    key: of the permutation.
    position: uint32 in 0, ..., N - 1, any shape.
    num_data: N, up to 2³¹.

  Returns:
    uint32 indices, of the shape of `position`.
  """
  offset_key, salt_key = jax.random.split(key)
  rounds = (SWAP_OR_NOT_ROUNDS,)
  offsets = jax.random.randint(offset_key, rounds, 0, num_data, jnp.uint32)
  salts = jax.random.bits(salt_key, rounds, jnp.uint32)

  def swap_or_not(index: Array, offset_and_salt: tuple[Array, Array]) -> tuple[Array, None]:
    offset, salt = offset_and_salt
    wrapped = jnp.where(index > offset, jnp.uint32(num_data), jnp.uint32(0))
    partner = offset + wrapped - index
    swap = _mix(jnp.maximum(index, partner) ^ salt) & 1
    return jnp.where(swap == 1, partner, index), None

  return jax.lax.scan(swap_or_not, position, (offsets, salts))[0]


def _mix(bits: Array) -> Array:
  """The finalizer of MurmurHash3: every bit of the result depends on all of uint32 `bits`."""
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
  bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
  return bits ^ (bits >> 16)


def minibatch_indices(
  key: Key, step: Array, num_steps: int, *, num_data: int, batch_size: int
) -> Array:
  """Which M examples each of the steps step, ..., step + num_steps - 1 sees.

  Every epoch is a fresh permutation, cut into N // M minibatches; the N mod M
  examples left over, others in each epoch, are not seen in that epoch. Which
  examples a step sees depends on (key, step) alone.

  Returns:
    int32 indices, shape (num_steps, M).
  """
  per_epoch = num_data // batch_size

  def one_step(step: Array) -> Array:
    epoch, place = step // per_epoch, step % per_epoch
    positions = place.astype(jnp.uint32) * batch_size + jnp.arange(batch_size, dtype=jnp.uint32)
    return shuffled(jax.random.fold_in(key, epoch), positions, num_data)

  steps = step + jnp.arange(num_steps, dtype=jnp.int32)
  return jax.vmap(one_step)(steps).astype(jnp.int32)


def order_key(key: Key) -> Key:
  """The part of the data key of `fit` that the order of the data comes from."""
  return jax.random.fold_in(key, 0)


def stream(
  source: Source,
  key: Key,
  *,
  batch_size: int,
  start: int = 0,
  num_steps: int,
  process_index: int = 0,
  process_count: int = 1,
  num_threads: int = 2,
  prefetch: int = 32,
) -> Iterator[Minibatch]:
  """The minibatches of the steps start, ..., num_steps - 1, read ahead by Grain.

  They are the minibatches that `fit` gathers on the device for the same key.
  A run that is resumed at a step starts there.

  Args:
    source: the data set, such as a memory-mapped array (N, D) or any Grain data
      source of rows (D,).
    key: the data key of `fit`.
    batch_size: M.
    start: the first step, `state.step`.
    num_steps: the last step, plus one.
    process_index: this process's place among `process_count`; of each minibatch
      it reads the rows from process_index · M / process_count on.
    process_count: must divide M.
    num_threads: threads that read.
    prefetch: minibatches that are read ahead.

  Returns:
    A Grain iterator of Minibatch of NumPy arrays, M / process_count rows each.
    `close()` ends its threads.

  Raises:
    ValueError: if M is larger than N, or is not divided by `process_count`.
  """
  import grain

  minibatches = _Minibatches(source, key, batch_size, num_steps, process_index, process_count)
  options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
  return iter(grain.MapDataset.source(minibatches)[start:].to_iter_dataset(options))


def stacked(minibatches: Iterator[Minibatch], lengths: Iterable[int]) -> Iterator[Minibatch]:
  """The minibatches of the next T steps as one, index (T, M) and pixels (T, M, D), for each T."""
  for length in lengths:
    taken = list(itertools.islice(minibatches, length))
    yield Minibatch(*(np.stack(arrays) for arrays in zip(*taken, strict=True)))


class _Minibatches:
  """A Grain data source whose record number `step` is the minibatch of that step."""

  def __init__(self, source, key, batch_size, num_steps, process_index, process_count):
    check_batch_size(batch_size, len(source))
    if batch_size % process_count:
      raise ValueError(f"batch_size is {batch_size}, which {process_count} processes cannot share")
    self._source, self._num_steps = source, num_steps
    # The order is found on the host, away from an accelerator that is busy training.
    self._host = jax.local_devices(backend="cpu")[0]
    self._key = jax.device_put(order_key(key), self._host)
    self._sizes = dict(num_data=len(source), batch_size=batch_size)
    share = batch_size // process_count
    self._rows = slice(process_index * share, (process_index + 1) * share)

  def __len__(self) -> int:
    return self._num_steps

  def __getitem__(self, step: int) -> Minibatch:
    with jax.default_device(self._host):
      index = np.asarray(_one_step(self._key, np.int32(step), **self._sizes))[0, self._rows]
    return Minibatch(index, read_rows(self._source, index))


@functools.partial(jax.jit, static_argnames=("num_data", "batch_size"))
def _one_step(key: Key, step: Array, *, num_data: int, batch_size: int) -> Array:
  return minibatch_indices(key, step, 1, num_data=num_data, batch_size=batch_size)


def check_batch_size(batch_size: int, num_data: int) -> None:
  if batch_size > num_data:
    raise ValueError(f"batch_size is {batch_size}, but the data set has {num_data} examples")


def read_rows(source: Source, index: Sequence[int] | np.ndarray) -> np.ndarray:
  """The rows at some indices, (M, D), read at once where the source can."""
  if isinstance(source, np.ndarray):
    return source[index]
  if hasattr(source, "__getitems__"):
    return np.stack(source.__getitems__([int(i) for i in index]))
  return np.stack([source[int(i)] for i in index])


def blocks(source: Source, size: int) -> Iterator[np.ndarray]:
  """All rows in their order, at most `size` at a time: (size, D), the last one shorter."""
  for start in range(0, len(source), size):
    yield read_rows(source, np.arange(start, min(start + size, len(source))))
