"""The compiled training program of a run or of a sweep, and what it is fed."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from absl import flags

from aevb_jax.data.minibatches import Minibatch, stream
from aevb_jax.training.fitting import fit, fit_streamed
from aevb_jax.training.sharding import Shardings
from aevb_jax.training.sweep import fit_sweep, fit_sweep_streamed
from aevb_jax.types import Algorithm, Array, Key, PyTree
from experiments.flags.data import Pixels

FLAGS = flags.FLAGS

flags.DEFINE_integer(
  "eval_every", 100_000, "Training samples between two rows of metrics.csv.", lower_bound=1
)

flags.DEFINE_integer(
  "evals_per_decade",
  0,
  "Of the multiples of --eval_every, only those nearest to so many evenly spaced points in every "
  "decade of a log axis have rows, and the end; 0: all have.",
  lower_bound=0,
)

MAX_CHUNK_STEPS = 250  # training steps between two looks from the host
MAX_CHUNK_BYTES = 32 * 2**20  # of pixels, where they are streamed; two chunks are read ahead


def eval_steps() -> int:
  """Training steps for --eval_every samples."""
  return max(1, round(FLAGS.eval_every / FLAGS.batch_size))


def chunk_lengths(start: int, end: int, max_steps: int) -> list[int]:
  """Cuts steps `start` to `end` into chunks of at most `max_steps` that end where rows may be
  due: at multiples of `eval_steps`."""
  chunks, step, every = [], start, eval_steps()
  while step < end:
    chunks.append(min(max_steps, every - step % every, end - step))
    step += chunks[-1]
  return chunks


def is_evaluated(step: int, end: int) -> bool:
  """Whether a row is due after a step of a run that ends at step `end`."""
  multiple, rest = divmod(step, eval_steps())
  if step == end or rest or not multiple:
    return step == end
  per_decade = FLAGS.evals_per_decade
  if not per_decade:
    return True
  nearest = round(per_decade * math.log10(multiple))
  return round(10 ** (nearest / per_decade)) == multiple


def max_chunk_steps(pixels: Pixels, num_members: int) -> int:
  if not pixels.streamed:
    return MAX_CHUNK_STEPS
  minibatch_bytes = FLAGS.batch_size * pixels.train.shape[1] * pixels.train.dtype.itemsize
  return min(MAX_CHUNK_STEPS, max(1, MAX_CHUNK_BYTES // (minibatch_bytes * num_members)))


def compile_fit(
  lengths: set[int],
  algorithm: Algorithm,
  states: PyTree,
  keys: Key,
  pixels: Pixels,
  shardings: Shardings | None = None,
) -> dict[int, Callable]:
  """(states, keys, data, static_key) -> (states, metrics) for every length of chunk.

  With `keys` of shape (S,) of a sweep of S members, and with one key of a single run; without
  shardings on one device, of data that are on it.
  """
  how = dict(preprocess=pixels.preprocess, static_key=pixels.static_key)
  how |= dict(sharding=shardings and shardings.minibatch)
  if not pixels.streamed:
    train = fit_sweep if keys.ndim else fit
    how |= dict(batch_size=FLAGS.batch_size)
    return {
      n: train.lower(algorithm, states, keys, pixels.train, num_steps=n, **how).compile()
      for n in lengths
    }
  train, shared = fit_sweep_streamed if keys.ndim else fit_streamed, shardings.chunk(keys.ndim > 0)
  index = {n: (*keys.shape, n, FLAGS.batch_size) for n in lengths}
  rows = {
    n: Minibatch(
      jax.ShapeDtypeStruct(index[n], np.int32, sharding=shared),
      jax.ShapeDtypeStruct((*index[n], pixels.train.shape[1]), pixels.train.dtype, sharding=shared),
    )
    for n in lengths
  }
  return {n: train.lower(algorithm, states, keys, rows[n], **how).compile() for n in lengths}


@contextlib.contextmanager
def feed(
  pixels: Pixels, keys: Key, chunks: list[int], start: int, shardings: Shardings
) -> Iterator[Iterator[Array | Minibatch]]:
  """What each chunk trains on: the data set on the devices, or the chunk's minibatches."""
  if not pixels.streamed:
    yield itertools.repeat(pixels.train, len(chunks))
    return
  with contextlib.ExitStack() as stack:

    def read(key: Key) -> Iterator[Minibatch]:
      minibatches = stream(
        pixels.train,
        key,
        chunks,
        batch_size=FLAGS.batch_size,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
      )
      return stack.enter_context(contextlib.closing(minibatches))

    sharding = shardings.chunk(keys.ndim > 0)
    streams = map(read, keys) if keys.ndim else [read(keys)]
    # This process has its own rows of the arrays that all processes share.
    place = lambda rows: jax.make_array_from_process_local_data(sharding, rows)
    yield (jax.tree.map(place, together(parts, keys.ndim > 0)) for parts in zip(*streams))


def together(parts: tuple[Minibatch, ...], stacked: bool) -> Minibatch:
  return Minibatch(*map(np.stack, zip(*parts))) if stacked else parts[0]


def check_finite(values: Sequence[float], step: int, name: str = "bound") -> None:
  """Of a sweep, one member that goes on is enough."""
  if not np.any(np.isfinite(values)):
    raise FloatingPointError(f"the {name} became {values[0]} by step {step}")
