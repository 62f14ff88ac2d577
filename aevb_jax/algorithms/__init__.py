"""Learning algorithms: algorithm 1, and the algorithms that the paper compares it with.

`auto_encoding` has equation 8 and algorithm 1, `monte_carlo_em` has appendix E, and
`full_variational_bayes` has appendix F. `optimizers` has optimizers whose step size can be swept.
"""

from aevb_jax.algorithms.auto_encoding import (
  aevb,
  explain_aevb,
  gaussian_weight_prior,
  minibatch_objective,
)
from aevb_jax.algorithms.full_variational_bayes import full_vb
from aevb_jax.algorithms.monte_carlo_em import explain_mcem, mcem
from aevb_jax.algorithms.optimizers import adagrad, adam, moving_average, sgd, stages, with_psi
