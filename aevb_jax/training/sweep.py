"""Sweeps: many training runs at once, by `vmap` over the state.

A member of a sweep is a run with its own seed and step size. It uses the same minibatches and the
same noise, in the same order, as the single run of that seed, so that the two agree up to rounding.
A sweep can vary only numbers in the state. Choices that change the program (widths, estimators)
need separate programs.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from aevb_jax.data.minibatches import Minibatch
from aevb_jax.data.preprocess import scale
from aevb_jax.ops.keys import as_words
from aevb_jax.training.fitting import fit, fit_streamed
from aevb_jax.training.sharding import MEMBER, platform_of
from aevb_jax.types import Algorithm, Array, Key, Preprocess, PyTree


def init_sweep(
  algorithm: Algorithm, keys: Key, step_sizes: Array | np.ndarray | None = None
) -> PyTree:
  """Makes the initial states of a sweep, every array with a leading axis S.

  Args:
    algorithm: with an optimizer of `algorithms.optimizers`, whose state holds its step size.
    keys: one for each member, shape (S,).
    step_sizes: one for each member, shape (S,); None keeps the step size of the algorithm.

  Returns:
    The states.

  Raises:
    ValueError: if the numbers of keys and of step sizes differ.
    TypeError: if step sizes are given and the optimizer's state holds none.
  """
  if step_sizes is not None and jnp.shape(step_sizes) != keys.shape:
    raise ValueError(f"{jnp.shape(step_sizes)} step sizes for {keys.shape} keys")
  states = jax.vmap(algorithm.init)(keys)
  return states if step_sizes is None else with_step_size(states, step_sizes)


def with_step_size(state: PyTree, step_size: Array | np.ndarray) -> PyTree:
  """Returns the same state with another step size (of θ and φ), to resume training from.

  Args:
    state: a training state, or the states of a sweep.
    step_size: a number or, for a sweep, numbers (S,).

  Returns:
    The state.

  Raises:
    TypeError: if the optimizer's state holds no step size.
  """

  def changed(opt_state: PyTree) -> PyTree:
    if hasattr(opt_state, "hyperparams"):
      old = opt_state.hyperparams["step_size"]
      # A copy, because states are donated.
      new = jnp.broadcast_to(jnp.array(step_size, old.dtype), old.shape)
      return opt_state._replace(hyperparams=opt_state.hyperparams | {"step_size": new})
    if type(opt_state) is tuple and hasattr(opt_state[0], "hyperparams"):  # then ψ's state
      return changed(opt_state[0]), *opt_state[1:]
    raise TypeError("the optimizer's state holds no step size; use one of algorithms.optimizers")

  return state._replace(opt_state=changed(state.opt_state))


FEW_BYTES = 2**20  # of a state; a CPU's cache holds several states that are smaller


@functools.partial(
  jax.jit,
  static_argnames=("algorithm", "batch_size", "num_steps", "preprocess", "sharding"),
  donate_argnames="states",
)
def fit_sweep(
  algorithm: Algorithm,
  states: PyTree,
  keys: Key,
  pixels: Array,
  *,
  batch_size: int,
  num_steps: int,
  preprocess: Preprocess = scale,
  static_key: Key | None = None,
  sharding: NamedSharding | None = None,
) -> tuple[PyTree, dict]:
  """Trains S states for `num_steps` steps each, in one compiled program.

  Args:
    algorithm: the algorithm, such as `aevb(...)` or `mcem(...)`; the same for all members.
    states: from `init_sweep` or an earlier call, with a leading axis S. They are donated: use the
      returned states.
    keys: for each member the key of the order of its data and of `preprocess`, shape (S,).
    pixels: the data set, shape (N, D): uint8, or floats already in the units of x.
    batch_size: M.
    num_steps: updates of each member.
    preprocess: (key, pixels of one image) -> x, such as `scale` or `binarize`; the same for all
      members.
    static_key: if given, `preprocess` draws once for all: for example i from
      `fold_in(static_key, i)` in every epoch. Otherwise it draws at each use.
    sharding: how the M examples of a minibatch are shared among the devices of a member, such as
      `Shardings.minibatch`; None for one device.

  Returns:
    The states, and the metrics of every step, with leading axes (S, num_steps).

  Raises:
    ValueError: if M is larger than N.
  """

  def fit_one(state: PyTree, key: Key) -> tuple[PyTree, dict]:
    return fit(
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

  return _of_members(fit_one, states, (keys,), sharding)


@functools.partial(
  jax.jit, static_argnames=("algorithm", "preprocess", "sharding"), donate_argnames="states"
)
def fit_sweep_streamed(
  algorithm: Algorithm,
  states: PyTree,
  keys: Key,
  minibatches: Minibatch,
  *,
  preprocess: Preprocess = scale,
  static_key: Key | None = None,
  sharding: NamedSharding | None = None,
) -> tuple[PyTree, dict]:
  """Trains S states on minibatches that are read from the host, in one compiled program.

  Args:
    algorithm: the algorithm, such as `aevb(...)` or `mcem(...)`; the same for all members.
    states: from `init_sweep` or an earlier call, with a leading axis S. They are donated: use the
      returned states.
    keys: for each member the key of the order of its data and of `preprocess`, shape (S,).
    minibatches: index (S, T, M) and pixels (S, T, M, D). The minibatches of a member are an item
      of `stream` with its own key.
    preprocess: (key, pixels of one image) -> x, such as `scale` or `binarize`; the same for all
      members.
    static_key: if given, `preprocess` draws once for all: for example i from
      `fold_in(static_key, i)` in every epoch. Otherwise it draws at each use.
    sharding: how the M examples of a minibatch are shared among the devices of a member, such as
      `Shardings.minibatch`; None for one device.

  Returns:
    The states, and the metrics of every step, with leading axes (S, T).
  """

  def fit_one(state: PyTree, key: Key, minibatches: Minibatch) -> tuple[PyTree, dict]:
    placed = dict(static_key=static_key, sharding=sharding)
    return fit_streamed(algorithm, state, key, minibatches, preprocess=preprocess, **placed)

  return _of_members(fit_one, states, (keys, minibatches), sharding)


def _of_members(
  fit_one: Callable[..., tuple[PyTree, dict]],
  states: PyTree,
  of_each: tuple,
  sharding: NamedSharding | None,
) -> tuple[PyTree, dict]:
  """Trains members: all in each step or, if a CPU's cache holds one state only, one by one.

  Args:
    fit_one: (state, *of_each) of a member -> its state and metrics.
    states: the states, with a leading axis S.
    of_each: what the members do not share, with a leading axis S.
    sharding: how a minibatch is shared among the devices of a member.

  Returns:
    The states and metrics, with a leading axis S.
  """
  together = jax.vmap(fit_one, spmd_axis_name=sharding and MEMBER)
  num_members = len(jax.tree.leaves(states)[0])
  groups = sharding.mesh.shape[MEMBER] if sharding else 1
  each = num_members // groups
  num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(states)) // num_members
  if platform_of(sharding) != "cpu" or each == 1 or num_bytes < FEW_BYTES:
    return together(states, *of_each)

  # Every group of devices has the members of a row, and takes those of a column at once.
  words, with_keys = as_words((states, *of_each))
  states, *of_each = jax.tree.map(lambda leaf: leaf.reshape(groups, each, *leaf.shape[1:]), words)

  def of_column(states: PyTree, column: Array) -> tuple[PyTree, dict]:
    take = lambda leaf: jax.lax.dynamic_index_in_dim(leaf, column, 1, keepdims=False)
    trained, metrics = together(*with_keys(jax.tree.map(take, (states, *of_each))))
    put = lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, column, 1)
    return jax.tree.map(put, states, as_words(trained)[0]), metrics

  states, metrics = jax.lax.scan(of_column, states, jnp.arange(each))
  metrics = jax.tree.map(lambda metric: jnp.moveaxis(metric, 0, 1), metrics)
  flat = lambda leaf: leaf.reshape(num_members, *leaf.shape[2:])
  states, *_ = with_keys((jax.tree.map(flat, states), *of_each))
  return states, jax.tree.map(flat, metrics)
