"""Families of distributions over z or x, each in reparameterized form (section 2.4), and their KL.

`base` has the reparameterization trick. `inverse_cdf`, `location_scale` and `composition` have the
paper's three constructions, `gaussians` and `binary` the families of appendix C. `mixtures`,
`flows` and `bijections` have richer posteriors, `chains` vectors whose parts are drawn in turn,
`markov` sequences, `classes` one-hot vectors, `pixels` the likelihoods of pixel levels. `kl` has
closed forms (appendix B), `support` the sets where densities are positive, `table` the names that a
command line takes. `independent` makes a family of your own from functions of one number, and
`check` compares the functions of a family with each other.
"""

from aevb_jax.families.base import distribution, reparameterize
from aevb_jax.families.bijections import affine_coupling, inverse_autoregressive, spline_coupling
from aevb_jax.families.binary import Bernoulli, bernoulli
from aevb_jax.families.chains import kl_given
from aevb_jax.families.classes import one_hot
from aevb_jax.families.composition import beta, chi_squared, dirichlet, f, gamma, log_normal
from aevb_jax.families.flows import Bijection, chain, flow, reverse, stack
from aevb_jax.families.gaussians import (
  DiagonalGaussian,
  covariance,
  full_gaussian,
  gaussian,
  low_rank_gaussian,
)
from aevb_jax.families.inverse_cdf import (
  cauchy,
  erlang,
  exponential,
  gompertz,
  gumbel,
  logistic,
  pareto,
  rayleigh,
  reciprocal,
  weibull,
)
from aevb_jax.families.kl import kl_divergence, kl_per_latent
from aevb_jax.families.location_scale import elliptical, laplace, student_t, triangular, uniform
from aevb_jax.families.mixtures import gaussian_mixture
from aevb_jax.families.pixels import (
  categorical,
  continuous_bernoulli,
  discretized_gaussian,
  discretized_logistic,
)
from aevb_jax.families.support import check_support
from aevb_jax.families.univariate import independent, positive, real, uniform_noise
from aevb_jax.families.verification import check
