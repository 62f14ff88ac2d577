"""Auto-Encoding Variational Bayes (Kingma & Welling, arXiv 1312.6114) in JAX."""

from aevb_jax.aevb import aevb, gaussian_weight_prior, minibatch_objective
from aevb_jax.estimators import elbo_a, elbo_b
from aevb_jax.families import bernoulli, diagonal_gaussian, kl_divergence, reparameterize
from aevb_jax.marginal import importance_sampling
from aevb_jax.minibatches import Minibatch, stream
from aevb_jax.model import init_params, log_joint, mlp_vae, standard_normal
from aevb_jax.networks import MLP, conditional
from aevb_jax.preprocess import binarize, dequantize, scale, threshold
from aevb_jax.train import (
  evaluate,
  evaluate_in_blocks,
  fit,
  fit_streamed,
  mean_and_standard_error,
)
from aevb_jax.types import (
  Algorithm,
  Conditional,
  Distribution,
  Estimator,
  Family,
  Model,
  Params,
  Preprocess,
  TrainState,
)
