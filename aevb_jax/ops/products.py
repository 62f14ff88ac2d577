"""A matrix product that merges many examples into one product, and may round its operands."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from aevb_jax.types import Array


def product(rows: Array, matrix: Array, *, dtype: jnp.dtype | None = None) -> Array:
  """Computes rows @ matrix, for rows (P, K) and a matrix (K, N).

  Under `jax.vmap` over the rows it is one product of M·P rows, and so are its gradients. The
  gradient of the matrix sums over all examples in one product of two matrices. (For a plain `@`,
  that product sums over two axes, and XLA's CPU compiler first copies the larger operand to
  transpose it.)

  Args:
    rows: shape (P, K).
    matrix: shape (K, N), of the same dtype.
    dtype: the dtype that operands are rounded to, in this product and in the products of its
      gradients, such as `jnp.bfloat16`; None for no rounding. Sums and results are in the dtype of
      the arguments either way.

  Returns:
    The product, shape (P, N).

  Raises:
    TypeError: if the arguments are of different dtypes.
  """
  if rows.dtype != matrix.dtype:
    raise TypeError(f"rows are {rows.dtype} and the matrix is {matrix.dtype}; expected the same")
  return _product.bind(rows, matrix, dtype=jnp.dtype(dtype or rows.dtype))


def _sum_over_rows(left: Array, right: Array, dtype: jnp.dtype) -> Array:
  """Computes leftᵀ @ right, for (P, K) and (P, N): the gradient of a matrix; shape (K, N)."""
  return _transposed_product.bind(left, right, dtype=dtype)


def _contract(left: Array, right: Array, dtype: jnp.dtype, axes: tuple[int, int]) -> Array:
  rounded = left.astype(dtype), right.astype(dtype)
  dimensions = ((axes[:1], axes[1:]), ((), ()))
  return lax.dot_general(*rounded, dimensions, preferred_element_type=left.dtype)


def _compute_product(rows: Array, matrix: Array, *, dtype: jnp.dtype) -> Array:
  # XLA would merge a transposition of the rows with the product into one Triton kernel, for which
  # it may find no tiles: z (M, K, J), laid out as (M, J, K), gave an error with K = 50.
  rows = lax.platform_dependent(rows, cuda=lax.optimization_barrier, default=lambda rows: rows)
  return _contract(rows, matrix, dtype, (1, 0))


def _compute_transposed(left: Array, right: Array, *, dtype: jnp.dtype) -> Array:
  return _contract(left, right, dtype, (0, 0))


def _batch_product(args: tuple, axes: tuple, *, dtype: jnp.dtype) -> tuple[Array, int]:
  rows, matrix = args
  if axes[1] is not None:  # in a sweep each member has its own matrix
    return jax.vmap(lambda r, m: _compute_product(r, m, dtype=dtype), axes)(rows, matrix), 0
  rows = jnp.moveaxis(rows, axes[0], 0)
  merged = _product.bind(rows.reshape(-1, rows.shape[-1]), matrix, dtype=dtype)
  return merged.reshape(*rows.shape[:-1], -1), 0


def _batch_transposed(args: tuple, axes: tuple, *, dtype: jnp.dtype) -> tuple[Array, int]:
  return jax.vmap(lambda a, b: _compute_transposed(a, b, dtype=dtype), axes)(*args), 0


def _shape(compute: Callable, *args: ShapedArray, dtype: jnp.dtype) -> ShapedArray:
  result = jax.eval_shape(functools.partial(compute, dtype=dtype), *args)
  return ShapedArray(result.shape, result.dtype)


_product = Primitive("product")
_transposed_product = Primitive("transposed_product")

for primitive, compute, batch in (
  (_product, _compute_product, _batch_product),
  (_transposed_product, _compute_transposed, _batch_transposed),
):
  primitive.def_impl(jax.jit(compute, static_argnames="dtype"))
  primitive.def_abstract_eval(functools.partial(_shape, compute))
  mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
  batching.primitive_batchers[primitive] = batch

# Both are bilinear, and their transposes are each other.
ad.defbilinear(
  _product,
  lambda g, rows, matrix, *, dtype: product(g, matrix.T, dtype=dtype),
  lambda g, rows, matrix, *, dtype: _sum_over_rows(rows, g, dtype),
)
ad.defbilinear(
  _transposed_product,
  lambda g, left, right, *, dtype: product(right, g.T, dtype=dtype),
  lambda g, left, right, *, dtype: product(left, g, dtype=dtype),
)
