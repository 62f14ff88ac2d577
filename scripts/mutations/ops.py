"""Errors in the products and convolutions."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation(
    "convolution: the kernel flipped", "ops/convolutions", "jnp.flip(kernel, (0, 1))", "kernel"
  ),
  Mutation(
    "convolution: the odd pixel of the padding first",
    "ops/convolutions",
    "max((small - 1) * stride + taps - large, 0) // 2",
    "(max((small - 1) * stride + taps - large, 0) + 1) // 2",
  ),
  Mutation(
    "convolution: the wrong edge cut off",
    "ops/convolutions",
    "Axis(taps, stride, max(taps - stride, 0) // 2, stride * small, small)",
    "Axis(taps, stride, (max(taps - stride, 0) + 1) // 2, stride * small, small)",
  ),
  Mutation(
    "precision: sums are rounded too",
    "ops/products",
    "preferred_element_type=left.dtype",
    "preferred_element_type=dtype",
    "contracts/precision",
  ),
  Mutation(
    "precision: gradients are not rounded",
    "ops/products",
    "lambda g, rows, matrix, *, dtype: _sum_over_rows(rows, g, dtype)",
    "lambda g, rows, matrix, *, dtype: _sum_over_rows(rows, g, rows.dtype)",
    "contracts/precision",
  ),
]
