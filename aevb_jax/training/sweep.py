"""Many training runs at once: `vmap` over the state.

A member of a sweep is a run with a seed and a step size of its own. It sees what the single run
of that seed sees, in the same order and with the same noise, so that it equals it up to
rounding. What is swept is a number in the state; what changes the program (widths, estimators)
takes programs of its own.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from aevb_jax.data.minibatches import Minibatch
from aevb_jax.data.preprocess import scale
from aevb_jax.training.fitting import fit, fit_streamed
from aevb_jax.training.sharding import MEMBER
from aevb_jax.types import Algorithm, Array, Key, Preprocess, PyTree


def init_sweep(
  algorithm: Algorithm, keys: Key, step_sizes: Array | np.ndarray | None = None
) -> PyTree:
  """The states to start from, every array with a leading axis S.

  Args:
    algorithm: with an optimizer of `algorithms.optimizers`, whose state holds its step size.
    keys: of each member, shape (S,).
    step_sizes: shape (S,); None leaves those of the algorithm.

  Raises:
    ValueError: if there are not as many of one as of the other.
  """
  if step_sizes is not None and jnp.shape(step_sizes) != keys.shape:
    raise ValueError(f"{jnp.shape(step_sizes)} step sizes for {keys.shape} keys")
  states = jax.vmap(algorithm.init)(keys)
  return states if step_sizes is None else with_step_size(states, step_sizes)


def with_step_size(state: PyTree, step_size: Array | np.ndarray) -> PyTree:
  """The same state, to go on from with another step size (of θ and φ).

  Raises:
    TypeError: if the optimizer's state holds no step size.
  """

  def changed(opt_state: PyTree) -> PyTree:
    if hasattr(opt_state, "hyperparams"):
      old = opt_state.hyperparams["step_size"]
      # A copy, since states are donated.
      new = jnp.broadcast_to(jnp.array(step_size, old.dtype), old.shape)
      return opt_state._replace(hyperparams=opt_state.hyperparams | {"step_size": new})
    if type(opt_state) is tuple and hasattr(opt_state[0], "hyperparams"):  # beside that of ψ
      return changed(opt_state[0]), *opt_state[1:]
    raise TypeError("the optimizer's state holds no step size; use one of algorithms.optimizers")

  return state._replace(opt_state=changed(state.opt_state))


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
  """`fit` of S states, with `keys` of shape (S,), in one program.

  Returns:
    The states, and the metrics of every step, with leading axes (S, num_steps).

  The other arguments are those of `fit`, and the same for all members.
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

  return jax.vmap(fit_one, spmd_axis_name=sharding and MEMBER)(states, keys)


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
  """`fit_streamed` of S states; a member's minibatches are those of its own key.

  Args:
    minibatches: index (S, T, M) and pixels (S, T, M, D).

  The other arguments, and what is returned, are those of `fit_sweep`.
  """

  def fit_one(state: PyTree, key: Key, minibatches: Minibatch) -> tuple[PyTree, dict]:
    placed = dict(static_key=static_key, sharding=sharding)
    return fit_streamed(algorithm, state, key, minibatches, preprocess=preprocess, **placed)

  return jax.vmap(fit_one, spmd_axis_name=sharding and MEMBER)(states, keys, minibatches)
