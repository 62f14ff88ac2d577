"""Auto-Encoding Variational Bayes (Kingma & Welling, arXiv 1312.6114) in JAX.

This module exports the names that a first program needs. The other names are in the subpackages
`data`, `families`, `models`, `estimators`, `inference`, `training` and `algorithms`, whose
docstrings list their contents.
"""

import importlib.metadata as _metadata

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
from aevb_jax.types import (
  Algorithm,
  Conditional,
  Distribution,
  Estimator,
  Family,
  Model,
  Params,
  Scheduled,
  Support,
  TrainState,
)

try:
  __version__ = _metadata.version("aevb_jax")
except _metadata.PackageNotFoundError:  # a checkout that is not installed
  __version__ = "0+checkout"

__all__ = [
  "aevb",
  "Algorithm",
  "algorithms",
  "bernoulli",
  "binarize",
  "Conditional",
  "conv_vae",
  "data",
  "Distribution",
  "dreg",
  "elbo_a",
  "elbo_b",
  "Estimator",
  "estimators",
  "evaluate",
  "families",
  "Family",
  "fit",
  "fit_streamed",
  "gaussian",
  "gaussian_weight_prior",
  "importance_sampling",
  "inference",
  "init_params",
  "iwae",
  "kl_divergence",
  "log_joint",
  "log_mean_exp",
  "log_weight",
  "log_weights",
  "mcem",
  "mean_and_standard_error",
  "mlp_vae",
  "Model",
  "models",
  "Params",
  "replace_gradient",
  "Scheduled",
  "score_function",
  "simulate",
  "standard_normal",
  "sticking_the_landing",
  "stream",
  "Support",
  "threshold",
  "training",
  "TrainState",
  "vimco",
  "wake_sleep",
  "__version__",
]
