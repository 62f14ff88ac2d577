"""Auto-Encoding Variational Bayes (Kingma & Welling, arXiv 1312.6114) in JAX.

This module exports the names that a first program needs. The other names are in the rooms of the
package, and the docstring of each room lists what it has: `data`, `families`, `models`,
`estimators`, `inference`, `training`, `algorithms`.
"""

from aevb_jax import algorithms, data, estimators, families, inference, models, training
from aevb_jax.algorithms import aevb, gaussian_weight_prior, mcem
from aevb_jax.data import binarize, stream, threshold
from aevb_jax.estimators import (
  dreg,
  elbo_a,
  elbo_b,
  iwae,
  log_mean_exp,
  log_weights,
  replace_gradient,
  score_function,
  sticking_the_landing,
  vimco,
  wake_sleep,
)
from aevb_jax.families import bernoulli, gaussian, kl_divergence
from aevb_jax.inference import importance_sampling
from aevb_jax.models import (
  conv_vae,
  init_params,
  log_joint,
  log_weight,
  mlp_vae,
  simulate,
  standard_normal,
)
from aevb_jax.training import evaluate, fit, fit_streamed, mean_and_standard_error
from aevb_jax.types import Algorithm, Family, Model, Params
