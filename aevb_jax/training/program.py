"""The compiled training program of a run or of a sweep, and the data that it receives."""

import contextlib
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from aevb_jax.data.minibatches import Minibatch, PixelSource, stream
from aevb_jax.training.fitting import fit, fit_streamed
from aevb_jax.training.sharding import Shardings, platform_of
from aevb_jax.training.sweep import fit_sweep, fit_sweep_streamed
from aevb_jax.types import Algorithm, Key, Preprocess, PyTree

MAX_CHUNK_STEPS = 250  # training steps between two checks by the host
MAX_CHUNK_BYTES = 32 * 2**20  # pixels of a chunk, if streamed; two chunks are read ahead
# XLA splits the sum of a product of few rows among several blocks of a GPU. It pads the operands to
# that end, and adds the parts, by kernels of their own: 12 of the 47 of the paper's step.
GPU_OPTIONS: dict[str, str | bool] = {"xla_gpu_experimental_force_split_k": "1"}


class Pixels(NamedTuple):
  """The data in the form that training and evaluation read."""

  train: PixelSource  # (N, D), on the device unless `streamed`
  validation: PixelSource | None
  test: PixelSource
  streamed: bool
  preprocess: Preprocess
  static_key: Key | None  # None if training draws at each use
  train_draw: Key  # the keys of the fixed draws of evaluations
  validation_draw: Key
  test_draw: Key
  sharding: NamedSharding | None  # how evaluations share examples among devices


def chunk_lengths(start: int, end: int, max_steps: int, every: int) -> list[int]:
  """Cuts steps `start` to `end` into chunks that end at multiples of `every`.

  Returns:
    The lengths of the chunks, each at most `max_steps`.
  """
  chunks, step = [], start
  while step < end:
    chunks.append(min(max_steps, every - step % every, end - step))
    step += chunks[-1]
  return chunks


def is_evaluated(step: int, end: int, every: int, per_decade: int = 0) -> bool:
  """Reports whether a row is due after a step of a run that ends at step `end`.

  Args:
    step: training steps made so far.
    end: training steps in total; a row is always due there.
    every: rows are due only at its multiples.
    per_decade: only the multiples nearest to this many evenly spaced points in every decade of a
      log axis have a row; 0 for all multiples.
  """
  multiple, rest = divmod(step, every)
  if step == end or rest or not multiple:
    return step == end
  if not per_decade:
    return True
  nearest = round(per_decade * math.log10(multiple))
  return round(10 ** (nearest / per_decade)) == multiple


def max_chunk_steps(pixels: Pixels, batch_size: int, num_members: int) -> int:
  """Returns the most steps of a chunk for which the minibatches read ahead fit in memory."""
  if not pixels.streamed:
    return MAX_CHUNK_STEPS
  minibatch_bytes = batch_size * pixels.train.shape[1] * pixels.train.dtype.itemsize
  return min(MAX_CHUNK_STEPS, max(1, MAX_CHUNK_BYTES // (minibatch_bytes * num_members)))


def compile_for_devices(
  lowered: jax.stages.Lowered, sharding: NamedSharding | None
) -> jax.stages.Compiled:
  """Compiles a training program with the options that suit the devices of `sharding`.

  An option that the environment variable XLA_FLAGS has is left to it.
  """
  flags = os.environ.get("XLA_FLAGS", "")
  options = {name: value for name, value in GPU_OPTIONS.items() if name not in flags}
  if platform_of(sharding) != "gpu" or not options:
    return lowered.compile()
  try:
    return lowered.compile(compiler_options=options)
  except Exception as error:  # of XLA, whose next version may not have an option
    if "No such compile option" not in str(error):
      raise
    return lowered.compile()


def compile_fit(
  lengths: set[int],
  algorithm: Algorithm,
  states: PyTree,
  keys: Key,
  pixels: Pixels,
  *,
  batch_size: int,
  shardings: Shardings | None = None,
) -> dict[int, Callable]:
  """Compiles (states, keys, data, static_key) -> (states, metrics) for every length of chunk.

  Args:
    lengths: training steps of a chunk.
    algorithm: the algorithm that trains.
    states: the state of a single run; for a sweep of S members their states, with a leading axis.
    keys: one key for a single run, keys (S,) for a sweep.
    pixels: the data.
    batch_size: M.
    shardings: the devices; None for the one device that has the data.

  Returns:
    The compiled programs by length.
  """
  sharding = shardings and shardings.minibatch
  reading: dict[str, Any] = dict(
    preprocess=pixels.preprocess, static_key=pixels.static_key, sharding=sharding
  )
  if not pixels.streamed:
    train: Any = fit_sweep if keys.ndim else fit
    reading |= dict(batch_size=batch_size)
    lower = lambda n: train.lower(algorithm, states, keys, pixels.train, num_steps=n, **reading)
    return {n: compile_for_devices(lower(n), sharding) for n in lengths}
  assert shardings is not None, "what is streamed is placed on devices that are named"
  train, shared = fit_sweep_streamed if keys.ndim else fit_streamed, shardings.chunk(keys.ndim > 0)
  index = {n: (*keys.shape, n, batch_size) for n in lengths}
  shape: Any = functools.partial(jax.ShapeDtypeStruct, sharding=shared)
  width, dtype = pixels.train.shape[1], pixels.train.dtype
  rows = {
    n: Minibatch(shape(index[n], np.int32), shape((*index[n], width), dtype)) for n in lengths
  }
  lower = lambda n: train.lower(algorithm, states, keys, rows[n], **reading)
  return {n: compile_for_devices(lower(n), sharding) for n in lengths}


@contextlib.contextmanager
def feed(
  pixels: Pixels,
  keys: Key,
  chunks: list[int],
  start: int,
  *,
  batch_size: int,
  shardings: Shardings,
) -> Iterator[Iterator[PixelSource | Minibatch]]:
  """Yields an iterator over the data of the chunks: the data set on the devices, or minibatches."""
  if not pixels.streamed:
    yield itertools.repeat(pixels.train, len(chunks))
    return
  with contextlib.ExitStack() as stack:

    def read(key: Key) -> Iterator[Minibatch]:
      minibatches: Any = stream(
        pixels.train,
        key,
        chunks,
        batch_size=batch_size,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
      )
      return stack.enter_context(contextlib.closing(minibatches))

    sharding = shardings.chunk(keys.ndim > 0)
    streams = map(read, keys) if keys.ndim else [read(keys)]
    # Each process has only its own rows of the arrays that all processes share.
    place = lambda rows: jax.make_array_from_process_local_data(sharding, rows)
    yield (jax.tree.map(place, _together(parts, keys.ndim > 0)) for parts in zip(*streams))


def _together(parts: tuple[Minibatch, ...], stacked: bool) -> Minibatch:
  return Minibatch(*map(np.stack, zip(*parts))) if stacked else parts[0]  # type: ignore[arg-type]
