"""Closed forms of KL(q ‖ p) compared with quadrature, Monte Carlo and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jax.test_util import check_grads

from aevb_jax import gaussian, kl_divergence, standard_normal
from aevb_jax.errors import UnsupportedError
from aevb_jax.families import composition, inverse_cdf, kl_per_latent
from aevb_jax.families import location_scale as ls
from aevb_jax.families.base import distribution
from aevb_jax.families.gaussians import (
  DiagonalGaussian,
  Gaussian,
  LowRankGaussian,
  full_gaussian,
  low_rank_gaussian,
)
from tests.support.family_table import alone
from tests.support.statistics import assert_unbiased

A = jnp.asarray
GAMMA = composition.gamma, composition.Gamma(A([0.7, 4.0]), A([2.0, 0.3]))
GAMMA_P = composition.gamma, composition.Gamma(A([1.5, 2.0]), A([1.0, 0.5]))
EXPONENTIAL = inverse_cdf.exponential, inverse_cdf.Exponential(A([0.7, 3.0]))
CHI = composition.chi_squared, composition.ChiSquared(A([1.5, 4.0]))
WEIBULL = inverse_cdf.weibull, inverse_cdf.Weibull(A([0.7, 2.0]), A([1.3, 0.9]))
PER_LATENT = {
  "laplace": (
    (ls.laplace, ls.Laplace(A([0.2, -1.0]), A([0.5, 2.0]))),
    (ls.laplace, ls.Laplace(A([0.0, 1.0]), A([1.0, 0.7]))),
  ),
  "gamma": (GAMMA, GAMMA_P),
  "exponential": (EXPONENTIAL, (EXPONENTIAL[0], inverse_cdf.Exponential(A([1.0, 0.4])))),
  "gamma and exponential": (GAMMA, EXPONENTIAL),
  "exponential and gamma": (EXPONENTIAL, GAMMA_P),
  "gamma and chi-squared": (GAMMA, CHI),
  "beta": (
    (composition.beta, composition.Beta(A([0.8, 3.0]), A([2.0, 1.5]))),
    (composition.beta, composition.Beta(A([1.0, 2.0]), A([1.0, 4.0]))),
  ),
  "log-normal": (
    (composition.log_normal, composition.LogNormal(A([0.2, -1.0]), A([0.5, 1.2]))),
    (composition.log_normal, composition.LogNormal(A([0.0, 1.0]), A([1.0, 0.7]))),
  ),
  "weibull": (WEIBULL, (WEIBULL[0], inverse_cdf.Weibull(A([1.0, 1.5]), A([1.0, 1.6])))),
  "weibull and gamma": (WEIBULL, GAMMA_P),
  "weibull and exponential": (WEIBULL, EXPONENTIAL),
  "weibull and chi-squared": (WEIBULL, CHI),
  "uniform": (
    (ls.uniform, ls.Uniform(A([0.2, -1.0]), A([0.5, 2.0]))),
    (ls.uniform, ls.Uniform(A([0.0, -3.0]), A([1.0, 2.5]))),
  ),
}
TRIL = A([[0.8, 0.0], [0.6, 1.5]])
FULL = full_gaussian, Gaussian(A([0.3, -1.0]), TRIL)
FULL_P = full_gaussian, Gaussian(A([0.0, 0.5]), A([[1.2, 0.0], [-0.4, 0.7]]))
DIAGONAL = gaussian, DiagonalGaussian(A([0.4, 0.1]), A([-0.5, 0.6]))
LOW_RANK = (
  functools.partial(low_rank_gaussian, rank=1),
  LowRankGaussian(A([0.4, 0.1]), A([-0.5, 0.6]), A([[0.9], [-0.5]])),
)
JOINT = {
  "full": (FULL, FULL_P),
  "full and diagonal": (FULL, DIAGONAL),
  "diagonal and full": (DIAGONAL, FULL),
  "low rank and full": (LOW_RANK, FULL),
  "full and low rank": (FULL, LOW_RANK),
  "dirichlet": (
    (composition.dirichlet, composition.Dirichlet(A([0.8, 2.0, 3.0]))),
    (composition.dirichlet, composition.Dirichlet(A([1.0, 1.0, 2.0]))),
  ),
}


def member(make, eta):
  return distribution(make(len(jax.tree.leaves(eta)[0])), eta)


@pytest.mark.parametrize("name", PER_LATENT)
def test_every_latents_term_is_the_integral(name):
  (make_q, q_eta), (make_p, p_eta) = PER_LATENT[name]
  terms = kl_per_latent(member(make_q, q_eta), member(make_p, p_eta))
  assert terms.shape == (2,)
  for j in range(2):
    q, p = member(make_q, alone(q_eta, j)), member(make_p, alone(p_eta, j))
    np.testing.assert_allclose(terms[j], integral(q, p), rtol=1e-7, atol=1e-8)


def integral(q, p):
  """Integrates q (log q − log p) over one dimension, piece by piece."""

  @jax.jit
  def term(z):
    log_q, log_p = q.log_prob(z[None]), p.log_prob(z[None])
    return jnp.exp(log_q) * (log_q - log_p)

  low, high = float(jnp.min(q.support.low)), float(jnp.max(q.support.high))
  if np.isfinite(high):
    ends, of_t = [low, high], lambda t: float(term(jnp.asarray(t)))
  elif np.isfinite(low):  # z = eᵗ
    ends, of_t = [-60, -20, -5, -1, 1, 3, 6], lambda t: float(term(jnp.exp(t)) * jnp.exp(t))
  else:
    kinks = sorted([float(q.mean[0]), float(p.mean[0])])
    ends, of_t = [-100, -10, *kinks, 10, 100], lambda t: float(term(jnp.asarray(t)))
  how = dict(epsabs=1e-12, limit=200)
  return sum(scipy.integrate.quad(of_t, a, b, **how)[0] for a, b in zip(ends[:-1], ends[1:]))


@pytest.mark.parametrize("name", JOINT)
def test_joint_kl_is_the_expected_log_ratio(name):
  q, p = (member(*of) for of in JOINT[name])
  z = jax.vmap(q.sample)(jax.random.split(jax.random.key(0), 40_000))
  log_ratio = jax.vmap(lambda z: q.log_prob(z) - p.log_prob(z))(z)
  assert_unbiased(log_ratio, kl_divergence(q, p), detects=0.1)
  with pytest.raises(UnsupportedError, match="single latents"):
    kl_per_latent(q, p)


@pytest.mark.parametrize("name", PER_LATENT | JOINT)
def test_gradients_and_zero_at_itself(name):
  (make_q, q_eta), (make_p, p_eta) = (PER_LATENT | JOINT)[name]
  kl = lambda q_eta, p_eta: kl_divergence(member(make_q, q_eta), member(make_p, p_eta))
  check_grads(kl, (q_eta, p_eta), order=1, modes=["rev"], rtol=1e-5, atol=1e-5)
  q = member(make_q, q_eta)
  np.testing.assert_allclose(kl_divergence(q, q), 0, atol=1e-12)
  assert kl(q_eta, p_eta) > 0


def test_gaussians_agree_where_they_overlap():
  eta = DIAGONAL[1]
  full = Gaussian(eta.mean, jnp.diag(jnp.exp(0.5 * eta.log_var)))
  expected = kl_divergence(member(*DIAGONAL), standard_normal(2))
  value = kl_divergence(member(full_gaussian, full), standard_normal(2))
  np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_uniform_outside_is_infinite():
  p = member(ls.uniform, ls.Uniform(A([0.0]), A([1.0])))
  q = member(ls.uniform, ls.Uniform(A([0.5]), A([1.5])))
  assert kl_divergence(q, p) == np.inf


def test_a_misfit_of_supports_is_told():
  q = member(composition.beta, composition.Beta(A([1.0]), A([2.0])))
  message = r"KL\(Beta ‖ DiagonalGaussian\), and q is on the numbers from 0 to 1, p on all numbers"
  with pytest.raises(UnsupportedError, match=message):
    kl_divergence(q, standard_normal(1))
