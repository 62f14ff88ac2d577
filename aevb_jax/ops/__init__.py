"""Products and convolutions that are fast under `vmap` on CPUs, and sums of weights."""

from aevb_jax.ops.convolutions import conv, conv_transpose
from aevb_jax.ops.products import product
