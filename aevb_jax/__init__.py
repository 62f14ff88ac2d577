"""Auto-Encoding Variational Bayes (Kingma & Welling, arXiv 1312.6114) in JAX."""

from aevb_jax.algorithms.auto_encoding import aevb, gaussian_weight_prior, minibatch_objective
from aevb_jax.algorithms.monte_carlo_em import mcem
from aevb_jax.data.minibatches import Minibatch, stream
from aevb_jax.data.preprocess import binarize, dequantize, scale, threshold
from aevb_jax.estimators.bounds import interpolate, log_mean_exp, mean_over_groups, power_mean
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
  score_function,
  score_function_optimal_scale,
  vimco,
  with_baseline,
)
from aevb_jax.estimators.sgvb import (
  draw,
  elbo_a,
  elbo_b,
  log_weights,
  posterior_samples,
  sticking_the_landing,
)
from aevb_jax.estimators.stratified import stratified_elbo, stratified_iwae
from aevb_jax.estimators.surrogate import freeze, replace_gradient, scale_gradient
from aevb_jax.estimators.wake_and_sleep import reweighted_wake_sleep, wake_sleep
from aevb_jax.families.base import distribution, reparameterize
from aevb_jax.families.bijections import affine_coupling, inverse_autoregressive, spline_coupling
from aevb_jax.families.binary import bernoulli
from aevb_jax.families.flows import chain, flow, stack
from aevb_jax.families.gaussians import full_gaussian, gaussian, low_rank_gaussian
from aevb_jax.families.kl import kl_divergence, kl_per_latent
from aevb_jax.families.mixtures import gaussian_mixture
from aevb_jax.families.pixels import (
  categorical,
  continuous_bernoulli,
  discretized_gaussian,
  discretized_logistic,
)
from aevb_jax.inference.annealing import (
  Sandwich,
  annealed_importance_sampling,
  bidirectional_monte_carlo,
)
from aevb_jax.inference.marginal import LogLikelihood, importance_sampling
from aevb_jax.inference.reciprocal import (
  fit_diagonal_gaussian,
  fit_gaussian,
  fit_kernel_density,
  reciprocal_importance_sampling,
)
from aevb_jax.models.joint import log_joint, log_weight, simulate
from aevb_jax.models.linear_gaussian import linear_gaussian_vae
from aevb_jax.models.networks import MLP, ConvDecoder, ConvEncoder, conditional
from aevb_jax.models.priors import (
  fair_coins,
  standard_normal,
  with_mixture_prior,
  with_prior,
  with_vamp_prior,
)
from aevb_jax.models.vae import conv_vae, init_params, mlp_vae
from aevb_jax.ops.convolutions import conv, conv_transpose
from aevb_jax.training.evaluation import evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.training.fitting import fit, fit_streamed
from aevb_jax.types import (
  Algorithm,
  Conditional,
  Distribution,
  Estimator,
  Family,
  Model,
  Params,
  Preprocess,
  Scheduled,
  Support,
  TrainState,
)
