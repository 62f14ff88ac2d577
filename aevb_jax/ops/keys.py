"""Random keys as words, for loops: JAX counts a loop over typed keys as a second use of them."""

from collections.abc import Callable

import jax

from aevb_jax.types import PyTree


def as_words(tree: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
  """Replaces the keys of a tree by their words.

  Args:
    tree: arrays and typed keys.

  Returns:
    The tree of arrays, in which a key has become a trailing axis of uint32 words, and a function
    that makes keys of the words again, for any tree of the same structure.
  """
  leaves, structure = jax.tree.flatten(tree)
  is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
  impls = [jax.random.key_impl(leaf) if k else None for leaf, k in zip(leaves, is_key)]
  words = [jax.random.key_data(leaf) if k else leaf for leaf, k in zip(leaves, is_key)]

  def with_keys(tree: PyTree) -> PyTree:
    both = zip(jax.tree.leaves(tree), impls)
    leaves = [jax.random.wrap_key_data(leaf, impl=impl) if impl else leaf for leaf, impl in both]
    return jax.tree.unflatten(structure, leaves)

  return jax.tree.unflatten(structure, words), with_keys
