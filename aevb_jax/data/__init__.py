"""Data sets by name, their pixels as data points, and minibatches of them.

`datasets` loads the sets that `protocols` lists, and `builders` prepares them. `arrays` and
`folders` make data sets of images of your own, and windows of a video. `preprocess` turns pixels
into x. `minibatches` chooses the examples of each training step.
"""

from aevb_jax.data.arrays import from_arrays, windows
from aevb_jax.data.datasets import load, load_digits
from aevb_jax.data.folders import from_folder
from aevb_jax.data.image_data import ImageData
from aevb_jax.data.minibatches import Minibatch, minibatch_indices, order_key, read_rows, stream
from aevb_jax.data.preprocess import (
  beside,
  binarize,
  bits_of_levels,
  bits_per_dim,
  dequantize,
  scale,
  threshold,
)
from aevb_jax.data.protocols import PROTOCOLS, Protocol
