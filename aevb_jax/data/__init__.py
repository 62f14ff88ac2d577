"""Data sets by name, their pixels as data points, and minibatches of them."""

from aevb_jax.data.datasets import PROTOCOLS, ImageData, load
