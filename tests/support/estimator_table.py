"""Every estimator of the library, with arguments, by name, for tests that hold for all."""

import functools

from aevb_jax import dreg, elbo_a, elbo_b, iwae, sticking_the_landing, vimco
from aevb_jax.estimators import (
  beta_weighted,
  ciwae,
  constant_baseline,
  doubly_reparameterized,
  dreg_wake,
  free_bits,
  leave_one_out,
  miwae,
  piwae,
  power_mean,
  renyi,
  reweighted_wake_sleep,
  score_function_optimal_scale,
)
from aevb_jax.estimators.score_functions import score_function
from aevb_jax.estimators.wake_and_sleep import wake_sleep

P = functools.partial

# The value of these estimators at the exact posterior is log p(x), for any noise.
TIGHT_AT_THE_POSTERIOR = {
  "elbo_a": elbo_a,
  "sticking_the_landing": sticking_the_landing,
  "score_function": score_function,
  "score_function leave_one_out": P(score_function, baseline=leave_one_out),
  "score_function_optimal_scale": score_function_optimal_scale,
  "iwae": iwae,
  "dreg": dreg,
  "vimco": vimco,
  "miwae": P(miwae, num_groups=2),
  "ciwae": P(ciwae, beta=0.3),
  "piwae": P(piwae, num_groups=2),
  "renyi -inf": P(renyi, alpha=-float("inf")),
  "renyi -1": P(renyi, alpha=-1.0),
  "renyi 0.5": P(renyi, alpha=0.5),
  "renyi 1": P(renyi, alpha=1.0),
  "renyi 3": P(renyi, alpha=3.0),
  "renyi inf": P(renyi, alpha=float("inf")),
  "renyi 0.5 doubly": P(doubly_reparameterized, bound=power_mean(0.5)),
  "wake_sleep": wake_sleep,
  "reweighted_wake_sleep": P(reweighted_wake_sleep, wake=0.5, sleep=0.5),
  "dreg_wake": dreg_wake,
}
ALL = TIGHT_AT_THE_POSTERIOR | {
  "elbo_b": elbo_b,
  "elbo_a beta": beta_weighted(elbo_a, 0.5),
  "iwae free bits": free_bits(iwae, 0.2),
}
# These take any posterior; the others need a reparameterized one.
WITHOUT_REPARAMETERIZATION = {
  name: estimator
  for name, estimator in ALL.items()
  if name.startswith(("score_function", "vimco", "wake_sleep", "reweighted"))
} | {"score_function moving_average": P(score_function, baseline=constant_baseline)}
