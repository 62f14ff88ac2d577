"""Data sets by name, their pixels as data points, and minibatches of them.

`datasets` loads the sets that `protocols` lists, and `builders` prepares them. `preprocess` turns
pixels into x. `minibatches` chooses the examples of each training step.
"""

from aevb_jax.data.datasets import ImageData, load, load_digits
from aevb_jax.data.minibatches import Minibatch, minibatch_indices, order_key, read_rows, stream
from aevb_jax.data.preprocess import (
  binarize,
  bits_of_levels,
  bits_per_dim,
  dequantize,
  scale,
  threshold,
)
from aevb_jax.data.protocols import PROTOCOLS, Protocol
