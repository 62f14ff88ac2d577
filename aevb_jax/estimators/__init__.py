"""Estimators of bounds on log p(x): differentiable functions from one data point to one scalar.

`sgvb` has equations 6 and 7. `importance` has tighter bounds, made of the functions in `bounds`.
`score_functions` and `wake_and_sleep` have estimators that need no reparameterization, `stratified`
has estimators for mixtures. `objectives` wraps any estimator, and `surrogate` replaces a gradient.
`semi_supervised` wraps any estimator for data with a condition, or with a label that may be
missing.
"""

from aevb_jax.estimators.bounds import (
  Bound,
  interpolate,
  log_mean_exp,
  mean_over_groups,
  power_mean,
)
from aevb_jax.estimators.importance import (
  ciwae,
  doubly_reparameterized,
  dreg,
  dreg_wake,
  iwae,
  miwae,
  pathwise,
  piwae,
  renyi,
)
from aevb_jax.estimators.objectives import beta_weighted, floored_kl, free_bits, kl_warmup
from aevb_jax.estimators.score_functions import (
  Baseline,
  constant_baseline,
  learned_baseline,
  leave_one_out,
  no_baseline,
  score_function,
  score_function_optimal_scale,
  vimco,
  with_baseline,
)
from aevb_jax.estimators.semi_supervised import (
  conditioned,
  is_mistaken,
  label_log_prob,
  semi_supervised_bound,
)
from aevb_jax.estimators.sgvb import (
  draw,
  elbo_a,
  elbo_b,
  log_weights,
  map_samples,
  posterior_samples,
  sticking_the_landing,
)
from aevb_jax.estimators.stratified import stratified_elbo, stratified_iwae
from aevb_jax.estimators.surrogate import freeze, replace_gradient, scale_gradient
from aevb_jax.estimators.wake_and_sleep import reweighted_wake_sleep, wake_sleep
