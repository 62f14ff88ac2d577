"""Inference under a trained model: log p(x), the posterior of z, and the missing parts of x.

`marginal`, `annealing` and `reciprocal` (appendix D) estimate log p(x), and `particles` that of
sequences. `exact` computes it if z is
small. `hmc` draws from the posterior. `missing` completes x from a known part of it, which
`evidence` describes. `diagnostics` measures how noisy gradients are, and which latents are used.
"""

from aevb_jax.inference.annealing import (
  Sandwich,
  annealed_importance_sampling,
  bidirectional_monte_carlo,
)
from aevb_jax.inference.diagnostics import (
  active_units,
  gradient_batch,
  relative_bias,
  signal_to_noise,
)
from aevb_jax.inference.evidence import Evidence, block_sums, flipped, observed
from aevb_jax.inference.exact import exact_elbo, exact_log_marginal
from aevb_jax.inference.marginal import LogLikelihood, importance_sampling
from aevb_jax.inference.missing import complete_by_gibbs, complete_by_hmc, gibbs_transition
from aevb_jax.inference.particles import particle_filter
from aevb_jax.inference.reciprocal import (
  fit_diagonal_gaussian,
  fit_gaussian,
  fit_kernel_density,
  reciprocal_importance_sampling,
)
