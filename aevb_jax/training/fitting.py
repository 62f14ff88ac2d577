"""Training as one compiled scan over minibatches."""

import functools
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from aevb_jax.data.minibatches import (
  Minibatch,
  check_batch_size,
  minibatch_indices,
  order_key,
)
from aevb_jax.data.preprocess import scale
from aevb_jax.ops.keys import as_words
from aevb_jax.training.nonfinite import all_finite
from aevb_jax.training.packing import scan_packed
from aevb_jax.training.sharding import constrain, platform_of, replicated_on, shared_by
from aevb_jax.types import Algorithm, Array, Key, Preprocess, PyTree


@functools.partial(
  jax.jit,
  static_argnames=("algorithm", "batch_size", "num_steps", "preprocess", "sharding"),
  donate_argnames="state",
)
def _fit(
  algorithm: Algorithm,
  state: PyTree,
  key: Key,
  pixels: Array,
  *,
  batch_size: int,
  num_steps: int,
  preprocess: Preprocess = scale,
  static_key: Key | None = None,
  sharding: NamedSharding | None = None,
) -> tuple[PyTree, dict]:
  """Trains as `fit` does, without the check of the pixels."""
  check_batch_size(batch_size, len(pixels))
  indices = minibatch_indices(
    order_key(key), state.step, num_steps, num_data=len(pixels), batch_size=batch_size
  )
  # Two arrays, so that no step has to exchange what it knows from the start.
  whole = constrain(indices, replicated_on(sharding))
  words, with_keys = _keys_of_pixels(key, static_key, state.step, whole)
  update = _update_from_pixels(algorithm, preprocess, with_keys, sharding)

  def step(state: PyTree, of_step: tuple[Array, Array, Array]) -> tuple[PyTree, dict]:
    whole, own, words = of_step
    own = constrain(own, sharding)  # so that each device gathers its own examples
    return update(state, (Minibatch(whole, pixels[own]), words))

  return _scan(step, state, (whole, indices, words), sharding)


def fit(
  algorithm: Algorithm,
  state: PyTree,
  key: Key,
  pixels: Array,
  *,
  batch_size: int,
  num_steps: int,
  preprocess: Preprocess = scale,
  static_key: Key | None = None,
  sharding: NamedSharding | None = None,
) -> tuple[PyTree, dict]:
  """Trains for `num_steps` steps in one compiled `lax.scan`, with the data set on the device.

  Two calls of n steps with the same key equal one call of 2n steps: the examples of a
  step depend only on (key, state.step), and its noise only on (state.key, state.step).

  Args:
    algorithm: the algorithm, such as `aevb(...)` or `mcem(...)`.
    state: from `algorithm.init` or an earlier `fit`. It is donated: use the returned state.
    key: the key of the order of the data and of `preprocess`; keep it for the whole run.
    pixels: the data set, shape (N, D): uint8, or floats already in the units of x, which for a
      Bernoulli likelihood are from 0 to 1.
    batch_size: M.
    num_steps: updates to make.
    preprocess: (key, pixels of one image) -> x, such as `scale` or `binarize`.
    static_key: if given, `preprocess` draws once for all: for example i from
      `fold_in(static_key, i)` in every epoch. Otherwise it draws at each use.
    sharding: how the M examples of a minibatch are shared among devices, such as
      `Shardings.minibatch`; the state is the same on every device of its mesh. The result
      depends on the sharding only by rounding. None for one device.

  Returns:
    The state, and the metrics of every step, with a leading axis num_steps.

  Raises:
    ValueError: if M is larger than N, or the pixels are not rows (N, D).

  Warns:
    UserWarning: before the first step, if the pixels are floats that look like levels of 0…255, or
      one of them is NaN or infinite; only with `preprocess=scale`.
  """
  if pixels.ndim != 2:
    raise ValueError(
      f"pixels have the shape {pixels.shape}, and `fit` takes rows (N, D): "
      "images.reshape(len(images), -1)"
    )
  if preprocess is scale:
    _warn_of_pixels(state, pixels)
  return _fit(
    algorithm,
    state,
    key,
    pixels,
    batch_size=batch_size,
    num_steps=num_steps,
    preprocess=preprocess,
    static_key=static_key,
    sharding=sharding,
  )


fit.lower = _fit.lower  # type: ignore[attr-defined]  # as a jitted function has it


_all_finite = jax.jit(all_finite)


def _warn_of_pixels(state: PyTree, pixels: Array) -> None:
  """Warns before the first step if floats are not finite, or look like levels of 8-bit pixels."""
  if any(isinstance(leaf, jax.core.Tracer) for leaf in (pixels, *jax.tree.leaves(state))):
    return
  if not jnp.issubdtype(pixels.dtype, jnp.floating) or getattr(state, "step", 1) != 0:
    return
  if not _all_finite(pixels):
    place = tuple(int(index) for index in jnp.argwhere(~jnp.isfinite(pixels), size=1)[0])
    warnings.warn(
      f"pixels are not all finite: the first that is not is {float(pixels[place])}, at index "
      f"{place}; correct or leave out that image",
      stacklevel=3,
    )
  few = pixels[:1000]
  if few.min() >= 0 and few.max() > 1 and bool(jnp.all(few == jnp.round(few))):
    warnings.warn(
      f"pixels are floats from 0 to {float(few.max()):g}, which are taken as they are: divide them "
      "by 255, or give them as uint8; a Bernoulli likelihood takes x from 0 to 1",
      stacklevel=3,
    )


@functools.partial(
  jax.jit, static_argnames=("algorithm", "preprocess", "sharding"), donate_argnames="state"
)
def fit_streamed(
  algorithm: Algorithm,
  state: PyTree,
  key: Key,
  minibatches: Minibatch,
  *,
  preprocess: Preprocess = scale,
  static_key: Key | None = None,
  sharding: NamedSharding | None = None,
) -> tuple[PyTree, dict]:
  """Trains on minibatches that are read from the host, one update for each, in one compiled scan.

  Args:
    algorithm: the algorithm, such as `aevb(...)` or `mcem(...)`.
    state: from `algorithm.init` or an earlier call. It is donated: use the returned state.
    key: the key of the order of the data and of `preprocess`; the same as for `stream`.
    minibatches: the minibatches of the steps state.step, ..., state.step + T - 1, an item
      of `stream` with the same key: index (T, M) and pixels (T, M, D).
    preprocess: (key, pixels of one image) -> x, such as `scale` or `binarize`.
    static_key: if given, `preprocess` draws once for all: for example i from
      `fold_in(static_key, i)` in every epoch. Otherwise it draws at each use.
    sharding: how the M examples of a minibatch are shared among devices, such as
      `Shardings.minibatch`; None for one device.

  Returns:
    The state, and the metrics of every step, with a leading axis T.
  """
  index = constrain(minibatches.index, replicated_on(sharding))  # once, and not in every step
  words, with_keys = _keys_of_pixels(key, static_key, state.step, index)
  update = _update_from_pixels(algorithm, preprocess, with_keys, sharding)
  return _scan(update, state, (minibatches._replace(index=index), words), sharding)


def _scan(
  step: Callable, state: PyTree, xs: PyTree, sharding: NamedSharding | None
) -> tuple[PyTree, PyTree]:
  """Runs the loop over training steps in the form that suits the devices."""
  scan = scan_packed if platform_of(sharding) == "gpu" else jax.lax.scan
  return scan(step, state, xs)


def _keys_of_pixels(
  key: Key, static_key: Key | None, step: Array, index: Array
) -> tuple[Array, Callable[[Array], Key]]:
  """Makes the keys of `preprocess` for T steps at once.

  A GPU would otherwise launch several kernels in every step to make the few keys of that step.

  Args:
    key: the data key of `fit`.
    static_key: as `fit` takes it.
    step: the first of the steps.
    index: the examples of the minibatches, shape (T, M).

  Returns:
    The words of the keys, shape (T, M, words of a key), and the function that makes keys of words.
  """
  if static_key is None:
    of_pixels = jax.random.fold_in(key, 1)
    of_step = lambda step: jax.random.split(jax.random.fold_in(of_pixels, step), index.shape[1])
    keys = jax.vmap(of_step)(step + jnp.arange(len(index), dtype=jnp.int32))
  else:
    keys = jax.vmap(jax.vmap(functools.partial(jax.random.fold_in, static_key)))(index)
  return as_words(keys)


def _update_from_pixels(
  algorithm: Algorithm,
  preprocess: Preprocess,
  with_keys: Callable[[Array], Key],
  sharding: NamedSharding | None,
) -> Callable[[PyTree, tuple[Minibatch, Array]], tuple[PyTree, dict]]:
  """Makes the algorithm's update for a minibatch of pixels, which it preprocesses first."""

  def update(state: PyTree, of_step: tuple[Minibatch, Array]) -> tuple[PyTree, dict]:
    minibatch, words = of_step
    index = constrain(minibatch.index, replicated_on(sharding))
    pixels = constrain(minibatch.pixels, sharding)
    batch = jax.vmap(preprocess)(with_keys(constrain(words, sharding)), pixels)
    with shared_by(sharding):
      state, metrics = algorithm.update(state, batch, index)
    return constrain((state, metrics), replicated_on(sharding))

  return update
