"""The compiled training loop, for any algorithm: nothing in this folder is specific to the paper.

`fitting` trains, `evaluation` maps a function over a data set, `sweep` trains many runs at once,
`sharding` spreads them over devices, `nonfinite` explains numbers that are not finite, and
`checkpoint` saves.
"""

from aevb_jax.training.evaluation import (
  Mean,
  evaluate,
  evaluate_in_blocks,
  mean_and_standard_error,
)
from aevb_jax.training.fitting import fit, fit_streamed
from aevb_jax.training.nonfinite import all_finite, first_offence, skip_nonfinite
from aevb_jax.training.sharding import Shardings, make_shardings, mean_over_devices, on_each_device
from aevb_jax.training.sweep import fit_sweep, fit_sweep_streamed, init_sweep, with_step_size
