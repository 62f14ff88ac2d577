"""Data sets by name, their pixels as data points, and minibatches of them."""

from aevb_jax.data.datasets import ImageData, load
from aevb_jax.data.protocols import PROTOCOLS
