"""Loops on GPUs, which launch a kernel for every array of a state, however small it is.

A step of the paper's model takes about as long as its launches. The counts, the step size and the
short biases of a state are therefore one vector in the loop, which one kernel updates. XLA's GPU
compiler also merges the updates of arrays of the same size if all of them read such a vector.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from aevb_jax.types import Array, PyTree

# The bias of a wide layer stays as it is, because a product adds it without a kernel of its own.
MOST_NUMBERS = 128
WORDS = (jnp.float32, jnp.int32, jnp.uint32)  # dtypes of arrays that are packed, of 4 bytes


def scan_packed(
  step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], state: PyTree, xs: PyTree
) -> tuple[PyTree, PyTree]:
  """Computes `jax.lax.scan(step, state, xs)`, with the small arrays of the state in one vector.

  The results differ from those of `scan` only by rounding, because XLA fuses the steps otherwise.

  Args:
    step: (state, x) -> (state, y).
    state: arrays and keys.
    xs: what `scan` passes to the steps, with a leading axis.

  Returns:
    (state, ys), as from `scan`.
  """
  leaves, structure = jax.tree.flatten(state)
  is_small = [leaf.dtype in WORDS and leaf.size <= MOST_NUMBERS for leaf in leaves]
  if not any(is_small):
    return jax.lax.scan(step, state, xs)

  def split(state: PyTree) -> tuple[Array, list[Array]]:
    both = list(zip(jax.tree.leaves(state), is_small))
    words = [jax.lax.bitcast_convert_type(leaf, jnp.uint32).ravel() for leaf, fits in both if fits]
    return jnp.concatenate(words), [leaf for leaf, fits in both if not fits]

  def join(words: Array, large: list[Array]) -> PyTree:
    rest, joined, start = iter(large), [], 0
    for leaf, fits in zip(leaves, is_small):
      if fits:
        own = words[start : start + leaf.size].reshape(leaf.shape)
        joined.append(jax.lax.bitcast_convert_type(own, leaf.dtype))
        start += leaf.size
      else:
        joined.append(next(rest))
    return jax.tree.unflatten(structure, joined)

  def packed_step(packed: tuple[Array, list[Array]], x: PyTree) -> tuple[tuple, PyTree]:
    state, y = step(join(*packed), x)
    return split(state), y

  packed, ys = jax.lax.scan(packed_step, split(state), xs)
  return join(*packed), ys
