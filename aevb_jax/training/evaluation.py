"""Evaluation of a function at every example of a data set, and its mean with a standard error."""

import functools
from collections.abc import Callable, Sized
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from aevb_jax.data.minibatches import Source, blocks
from aevb_jax.data.preprocess import scale
from aevb_jax.errors import DataError
from aevb_jax.training.sharding import constrain, replicated_on, split_evenly
from aevb_jax.types import Array, Key, Preprocess, PyTree


@functools.partial(jax.jit, static_argnames=("function", "batch_size", "preprocess", "sharding"))
def evaluate(
  function: Callable[[Key, PyTree, Array], PyTree],
  key: Key,
  params: PyTree,
  pixels: Array,
  *,
  batch_size: int = 500,
  preprocess: Preprocess = scale,
  static_key: Key | None = None,
  first: int = 0,
  sharding: NamedSharding | None = None,
) -> PyTree:
  """Evaluates `function` at every example of a data set, with fixed parameters.

  Args:
    function: (key, params, x) -> arrays, for one data point x of shape (D,).
    key: example i draws from `fold_in(key, i)`, so that with the same key the values at
      other parameters differ only by the parameters.
    params: passed to `function`.
    pixels: the data set, or a part of it, shape (N, D).
    batch_size: examples held in a device's memory at once; does not change the result.
    preprocess: (key, pixels of one image) -> x.
    static_key: if given, `preprocess` draws for example i from `fold_in(static_key, i)`, as in
      `fit`; None draws from `key`.
    first: the index of `pixels[0]`, for a set that is evaluated part by part.
    sharding: how examples are shared among devices, such as `Shardings.evaluation`; the result
      is on all devices of its mesh. None for one device.

  Returns:
    The results of `function`, with a leading axis N.

  Raises:
    DataError: if there are no examples.
  """
  _check_not_empty(pixels)

  def one(index_and_pixels: tuple[Array, Array]) -> PyTree:
    index, pixels = index_and_pixels
    preprocess_key, function_key = jax.random.split(jax.random.fold_in(key, index))
    if static_key is not None:
      preprocess_key = jax.random.fold_in(static_key, index)
    return function(function_key, params, preprocess(preprocess_key, pixels))

  def share(indices_and_pixels: tuple[Array, Array]) -> PyTree:  # the share of one device
    of_share = len(indices_and_pixels[0])
    return jax.lax.map(one, indices_and_pixels, batch_size=min(batch_size, of_share))

  indices = first + jnp.arange(len(pixels), dtype=jnp.int32)
  if sharding is None:
    return share((indices, pixels))
  shares = constrain(split_evenly((indices, pixels), sharding.num_devices), sharding)
  values = constrain(jax.vmap(share)(shares), replicated_on(sharding))
  return jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:])[: len(pixels)], values)


def evaluate_in_blocks(
  function: Callable[[Key, PyTree, Array], PyTree],
  key: Key,
  params: PyTree,
  source: Source,
  *,
  block_size: int = 10_000,
  progress: Callable[[int], object] = lambda num_examples: None,
  **kwargs,
) -> PyTree:
  """Evaluates `function` as `evaluate` does, for a data set that need not be on the device.

  Args:
    function: (key, params, x) -> arrays, for one data point x of shape (D,).
    key: example i draws from `fold_in(key, i)`.
    params: passed to `function`.
    source: the data set, rows of shape (D,).
    block_size: examples that are put on the device at once.
    progress: called with the number of examples of every block, when it is done.
    **kwargs: passed to `evaluate`: batch_size, preprocess, static_key, sharding.

  Returns:
    NumPy arrays, with a leading axis N, equal to the result of `evaluate`.

  Raises:
    DataError: if there are no examples.
  """
  _check_not_empty(source)
  parts, first = [], 0
  for block in blocks(source, block_size):
    part = evaluate(function, key, params, block, first=first, **kwargs)
    parts.append(jax.tree.map(np.asarray, part))
    first += len(block)
    progress(len(block))
  return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _check_not_empty(source: Sized) -> None:
  """Raises DataError if there are no examples."""
  if not len(source):
    raise DataError("the split to evaluate has no examples; name one that has some")


class Mean(NamedTuple):
  """A mean over data points, and the standard error of that mean."""

  value: float
  standard_error: float


def mean_and_standard_error(values: Array | np.ndarray) -> Mean:
  """Returns the mean of independent values and its standard error, in double precision.

  Args:
    values: shape (N,).

  Returns:
    The mean and its standard error, in the units of the values; the error is NaN for N = 1.
  """
  values = np.asarray(values, np.float64)
  if len(values) < 2:
    return Mean(float(values.mean()), float("nan"))
  return Mean(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))
