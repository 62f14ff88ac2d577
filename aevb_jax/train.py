"""Training as one compiled scan, and evaluation over whole data sets."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.data import scale
from aevb_jax.types import Algorithm, Array, Key, PyTree


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
  steps = step + jnp.arange(num_steps, dtype=jnp.int32)
  first_epoch = step // per_epoch
  epochs = first_epoch + jnp.arange((num_steps - 1) // per_epoch + 2, dtype=jnp.int32)

  def minibatches(epoch: Array) -> Array:
    order = jax.random.permutation(
      jax.random.fold_in(key, epoch), jnp.arange(num_data, dtype=jnp.int32)
    )
    return order[: per_epoch * batch_size].reshape(per_epoch, batch_size)

  return jax.vmap(minibatches)(epochs)[steps // per_epoch - first_epoch, steps % per_epoch]


@functools.partial(
  jax.jit,
  static_argnames=("algorithm", "batch_size", "num_steps", "preprocess"),
  donate_argnames="state",
)
def fit(
  algorithm: Algorithm,
  state: PyTree,
  key: Key,
  pixels: Array,
  *,
  batch_size: int,
  num_steps: int,
  preprocess: Callable[[Key, Array], Array] = scale,
) -> tuple[PyTree, dict]:
  """Trains for `num_steps` steps in one compiled `lax.scan`.

  Two calls of n steps with the same key are one call of 2n steps: what a step
  sees depends on (key, state.step) alone, and its noise on (state.key,
  state.step).

  Args:
    algorithm: such as `aevb(...)`.
    state: from `algorithm.init` or an earlier `fit`. Donated: use what is returned.
    key: of the order of the data and of `preprocess`; keep it for the whole run.
    pixels: the data set, shape (N, D).
    batch_size: M.
    num_steps: updates to make.
    preprocess: (key, pixels of one image) -> x, such as `scale` or `binarize`.

  Returns:
    The state, and the metrics of every step, with a leading axis num_steps.

  Raises:
    ValueError: if M is larger than N.
  """
  if batch_size > len(pixels):
    raise ValueError(f"batch_size is {batch_size}, but the data set has {len(pixels)} examples")
  order_key, pixel_key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
  indices = minibatch_indices(
    order_key, state.step, num_steps, num_data=len(pixels), batch_size=batch_size
  )

  def step(state: PyTree, index: Array) -> tuple[PyTree, dict]:
    keys = jax.random.split(jax.random.fold_in(pixel_key, state.step), batch_size)
    return algorithm.update(state, jax.vmap(preprocess)(keys, pixels[index]))

  return jax.lax.scan(step, state, indices)


@functools.partial(jax.jit, static_argnames=("function", "batch_size", "preprocess"))
def evaluate(
  function: Callable[[Key, PyTree, Array], PyTree],
  key: Key,
  params: PyTree,
  pixels: Array,
  *,
  batch_size: int = 500,
  preprocess: Callable[[Key, Array], Array] = scale,
) -> PyTree:
  """`function` of every example of a data set, at fixed parameters.

  Args:
    function: (key, params, x) -> arrays, for one data point x of shape (D,).
    key: example i draws from `fold_in(key, i)`, so the same key at other
      parameters gives values that differ by the parameters alone.
    params: passed to `function`.
    pixels: the data set, shape (N, D).
    batch_size: examples held in memory at once; does not change the result.
    preprocess: (key, pixels of one image) -> x.

  Returns:
    What `function` returns, with a leading axis N.
  """

  def one(index_and_pixels: tuple[Array, Array]) -> PyTree:
    index, pixels = index_and_pixels
    preprocess_key, function_key = jax.random.split(jax.random.fold_in(key, index))
    return function(function_key, params, preprocess(preprocess_key, pixels))

  indices = jnp.arange(len(pixels), dtype=jnp.int32)
  return jax.lax.map(one, (indices, pixels), batch_size=min(batch_size, len(pixels)))


class Mean(NamedTuple):
  """A mean over data points, and the standard error of that mean."""

  value: float
  standard_error: float


def mean_and_standard_error(values: Array) -> Mean:
  """Of independent values, shape (N,), in double precision; NaN error for N = 1."""
  values = np.asarray(values, np.float64)
  if len(values) < 2:
    return Mean(float(values.mean()), float("nan"))
  return Mean(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))
