"""The examples of each training step, and a stream of minibatches that Grain reads ahead.

The examples of a step are a pure function of (key, step), whose cost and memory do not depend on N.
The step of the training state is therefore the position in the data. A set on the device and a set
on disk are read in the same order, and every process can find its own share of a minibatch.
"""

import mmap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.types import Array, Key

SWAP_OR_NOT_ROUNDS = 40
# Linux may map 2 MiB around a row that is read: 640 rows of 12 KiB took 335 of a file's 375 MiB.
FOLIO_BYTES, MOST_MAPPED = 2**21, 2**26
BLOCK_BYTES = 2**25  # of pixels that are read at once; 10000 of MNIST's as float32


class Minibatch(NamedTuple):
  """M examples, or T minibatches of them with a leading axis T."""

  index: Array  # type: ignore[assignment]  # (M,) int32, the places of the examples in the data
  pixels: Array  # (M, D)


class Source(Protocol):
  """Random access to rows of pixels (D,): a NumPy array, or any Grain data source."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int, /) -> Any: ...


class PixelSource(Source, Protocol):
  """A source that knows its shape (N, D) and the type of its numbers, and can be sliced."""

  @property
  def shape(self) -> tuple[int, ...]: ...

  @property
  def dtype(self) -> Any: ...

  def __getitem__(self, index: Any, /) -> Any: ...


class Joined:
  """Rows of pixels and of a condition as rows (pixels, c), joined when they are read.

  It is a `PixelSource`, so that a set on disk stays there.
  """

  def __init__(self, pixels: PixelSource, condition: np.ndarray):
    """Takes rows of pixels, shape (N, D), and numbers of shape (N, C), which get their type."""
    self.pixels, self.condition, self.dtype = pixels, condition, pixels.dtype
    self.shape = len(pixels), pixels.shape[1] + condition.shape[1]

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any, /) -> np.ndarray:
    return self._join(self.pixels[index], index)

  def __getitems__(self, index: Sequence[int]) -> np.ndarray:
    index = np.asarray(index)
    return self._join(_read_and_release(self.pixels, index), index)

  def _join(self, pixels: np.ndarray, index: Any) -> np.ndarray:
    return np.concatenate([pixels, self.condition[index].astype(self.dtype)], axis=-1)


def shuffled(key: Key, position: Array, num_data: int) -> Array:
  """Returns the index that a random permutation of 0, ..., N - 1 has at a position.

  This is the swap-or-not shuffle of Hoang, Morris & Rogaway (2012): every round pairs
  the indices as {i, (K - i) mod N} for a random K, and swaps each pair or not by
  a random bit. Neither its memory nor its time grows with N.

  Args:
    key: the key of the permutation.
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
  """Applies the finalizer of MurmurHash3: every bit of the result depends on all of `bits`."""
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
  bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
  return bits ^ (bits >> 16)


def minibatch_indices(
  key: Key, step: Array, num_steps: int, *, num_data: int, batch_size: int
) -> Array:
  """Returns the indices of the M examples of each of some consecutive training steps.

  Every epoch is a new permutation, cut into N // M minibatches. The N mod M
  examples left over, which differ between epochs, are not used in that epoch. The
  examples of a step depend only on (key, step).

  Args:
    key: the key of the order, `order_key` of the data key of `fit`.
    step: the first step, an integer scalar.
    num_steps: the number of steps.
    num_data: N.
    batch_size: M.

  Returns:
    int32 indices, shape (num_steps, M), of the steps step, ..., step + num_steps - 1.
  """
  per_epoch = num_data // batch_size

  def one_step(step: Array) -> Array:
    epoch, place = step // per_epoch, step % per_epoch
    positions = place.astype(jnp.uint32) * batch_size + jnp.arange(batch_size, dtype=jnp.uint32)
    return shuffled(jax.random.fold_in(key, epoch), positions, num_data)

  steps = step + jnp.arange(num_steps, dtype=jnp.int32)
  return jax.vmap(one_step)(steps).astype(jnp.int32)


def order_key(key: Key) -> Key:
  """Returns the key that the order of the data comes from.

  Args:
    key: the data key of `fit`.

  Returns:
    The key to pass to `minibatch_indices`.
  """
  return jax.random.fold_in(key, 0)


def stream(
  source: Source,
  key: Key,
  lengths: Sequence[int],
  *,
  batch_size: int,
  start: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  num_threads: int = 2,
  prefetch: int = 2,
) -> Iterator[Minibatch]:
  """Returns the minibatches of `fit` for the same key, read ahead from the host by Grain.

  Args:
    source: the data set, such as a memory-mapped array (N, D) or any Grain data
      source of rows (D,).
    key: the data key of `fit`.
    lengths: the number of steps T of each item.
    batch_size: M.
    start: the step of the first minibatch; `state.step` for a run that is resumed.
    process_index: this process's place among `process_count`; of each minibatch
      it reads the M / process_count rows that begin at process_index · M / process_count.
    process_count: must divide M.
    num_threads: threads that read.
    prefetch: items that are read ahead.

  Returns:
    A Grain iterator of Minibatch of NumPy arrays, index (T, M / process_count)
    and pixels (T, M / process_count, D), for `fit_streamed`. `close()` ends its
    threads.

  Raises:
    ValueError: if M is larger than N, or is not divided by `process_count`.
  """
  import grain

  share = batch_size // process_count
  if batch_size % process_count:
    raise ValueError(f"batch_size is {batch_size}, which {process_count} processes cannot share")
  rows = slice(process_index * share, (process_index + 1) * share)
  records = _Minibatches(source, key, lengths, batch_size=batch_size, start=start, rows=rows)
  options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
  return iter(grain.MapDataset.source(records).to_iter_dataset(options))


class _Minibatches:
  """A Grain data source; each record is the minibatches of some consecutive steps."""

  def __init__(
    self,
    source: Source,
    key: Key,
    lengths: Sequence[int],
    *,
    batch_size: int,
    start: int,
    rows: slice,
  ):
    check_batch_size(batch_size, len(source))
    self._source, self._rows = source, rows
    self._sizes = dict(num_data=len(source), batch_size=batch_size)
    self._lengths = list(lengths)
    self._starts = int(start) + np.cumsum([0, *self._lengths], dtype=np.int32)
    self._host = _host_device()
    self._key = jax.device_put(order_key(key), self._host)

  def __len__(self) -> int:
    return len(self._lengths)

  def __getitem__(self, record: int) -> Minibatch:
    step, length = self._starts[record], self._lengths[record]
    with jax.default_device(self._host):
      index = np.asarray(_minibatch_indices(self._key, step, length, **self._sizes))[:, self._rows]
    pixels = _read_and_release(self._source, index.ravel())
    return Minibatch(index, pixels.reshape(*index.shape, -1))  # type: ignore[arg-type]


def _host_device() -> jax.Device:
  """Returns the device that computes the order: a CPU, because an accelerator is busy training."""
  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError:  # JAX_PLATFORMS excludes the CPU
    return jax.local_devices()[0]


_minibatch_indices = jax.jit(
  minibatch_indices, static_argnames=("num_steps", "num_data", "batch_size")
)


def check_batch_size(batch_size: int, num_data: int) -> None:
  """Raises ValueError if the batch size is larger than the data set."""
  if batch_size > num_data:
    raise ValueError(f"batch_size is {batch_size}, but the data set has {num_data} examples")


def read_rows(source: Source, index: Sequence[int] | np.ndarray) -> np.ndarray:
  """Reads the rows at some indices, all at once if the source can.

  Args:
    source: the data set, N rows of shape (D,).
    index: M integers in 0, ..., N - 1.

  Returns:
    The rows, shape (M, D).
  """
  if isinstance(source, np.ndarray):
    return source[index]
  if hasattr(source, "__getitems__"):
    return np.stack(source.__getitems__([int(i) for i in index]))
  return np.stack([source[int(i)] for i in index])


def _read_and_release(source: Source, index: np.ndarray) -> np.ndarray:
  """Reads rows as `read_rows` does, and holds no more than MOST_MAPPED bytes of a large file."""
  if getattr(source, "nbytes", 0) <= MOST_MAPPED:
    rows = read_rows(source, index)
    release_pages(source)
    return rows
  array: Any = source
  rows, size = np.empty((len(index), *array.shape[1:]), array.dtype), MOST_MAPPED // FOLIO_BYTES
  for start in range(0, len(index), size):
    rows[start : start + size] = array[index[start : start + size]]
    release_pages(source)
  return rows


def blocks(source: Source, size: int = 10_000) -> Iterator[np.ndarray]:
  """Yields all rows in their order, in blocks of shape (size, D) or less.

  Args:
    source: the data set, N rows of shape (D,).
    size: the most rows of a block; of large images it has fewer, so that it fits into BLOCK_BYTES.

  Yields:
    The blocks; the last may be shorter than the others.
  """
  if len(source):
    size = min(size, rows_at_once(read_rows(source, np.arange(1)).nbytes))
  for start in range(0, len(source), size):
    yield read_rows(source, np.arange(start, min(start + size, len(source))))
    release_pages(source)


def rows_at_once(num_bytes: int) -> int:
  """Returns how many rows of this many bytes are read at once."""
  return max(1, BLOCK_BYTES // max(1, num_bytes))


def release_pages(source: Source) -> None:
  """Gives the pages of a memory-mapped file back to the system, which still caches them.

  Without this, a process that reads such a file would at last hold all of it in memory. A later
  read maps the pages again.
  """
  base, read_only = source, False
  while isinstance(base, np.ndarray):
    read_only = getattr(base, "mode", None) == "r"  # pages of other maps may hold changes
    base = base.base
  if isinstance(base, mmap.mmap) and read_only:
    base.madvise(mmap.MADV_DONTNEED)
