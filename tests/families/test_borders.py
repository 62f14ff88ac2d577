"""Log-densities at the borders of supports, of NaN, and of draws that no float holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import families
from aevb_jax.families import composition, gaussians, inverse_cdf, table
from tests.support.statistics import assert_unbiased

A = lambda *numbers: jnp.asarray(numbers, jnp.float32)
INF = np.inf

# The family, η, z, and what is right: the log-density, its derivative with respect to z, and those
# with respect to each parameter, as the limits of the formulas.
BORDERS = {
  "beta(1, 8) at 0": (families.beta, composition.Beta(A(1), A(8)), 0, np.log(8), -7, (-INF, 1 / 8)),
  "beta(8, 1) at 1": (families.beta, composition.Beta(A(8), A(1)), 1, np.log(8), 7, (1 / 8, -INF)),
  "gamma(1, 3)": (
    families.gamma, composition.Gamma(A(1), A(3)), 0, np.log(3), -3, (-INF, 1 / 3),
  ),
  "chi_squared(2)": (
    families.chi_squared, composition.ChiSquared(A(2)), 0, -np.log(2), -0.5, (-INF,),
  ),
  "weibull(2, 1)": (
    families.weibull, inverse_cdf.Weibull(A(2), A(1)), 0, -np.log(2), -0.5, (-0.5, -INF),
  ),
  "erlang(1, 3)": (
    lambda size: families.erlang(size, 1), inverse_cdf.Erlang(A(3)), 0, np.log(3), -3, (1 / 3,),
  ),
  "f(2, 5)": (families.f, composition.F(A(2), A(5)), 0, 0, -1.4, (-INF, 0)),
  "exponential(3)": (
    families.exponential, inverse_cdf.Exponential(A(3)), 0, np.log(3), -3, (1 / 3,),
  ),
  "gamma(3, 1)": (families.gamma, composition.Gamma(A(3), A(1)), 0, -INF, INF, (-INF, 3)),
  "gamma(0.5, 1)": (families.gamma, composition.Gamma(A(0.5), A(1)), 0, INF, -INF, (-INF, 0.5)),
  "log_normal(0, 1)": (
    families.log_normal, composition.LogNormal(A(0), A(1)), 0, -INF, 0, (0, 0),
  ),
}  # fmt: skip


def close(value, expected):
  np.testing.assert_allclose(np.squeeze(value), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", BORDERS)
def test_borders(name):
  make, eta, z, density, slope, slopes = BORDERS[name]
  family, z = make(1), A(z)
  close(family.log_prob(eta, z), density)
  close(jax.grad(family.log_prob, 1)(eta, z), slope)
  for value, expected in zip(jax.grad(family.log_prob)(eta, z), slopes, strict=True):
    close(value, expected)


def test_the_corner_of_a_simplex():
  family, eta = families.dirichlet(3), composition.Dirichlet(A(1, 1, 1))
  z = A(0, 0.5, 0.5)
  close(family.log_prob(eta, z), np.log(2))
  np.testing.assert_array_equal(jax.grad(family.log_prob, 1)(eta, z), 0)


def members():
  for name, entry in table.REPARAMETERIZABLE.items():
    family = entry.make(3)
    yield pytest.param(family, family.from_heads(*map(jnp.zeros, family.sizes)), id=name)


@pytest.mark.parametrize("family, eta", members())
def test_nan_stays_nan(family, eta):
  z = family.transform(eta, family.noise(jax.random.key(0)))
  assert np.isfinite(family.log_prob(eta, z))
  assert np.isnan(family.log_prob(eta, z.at[1].set(np.nan)))
  broken = jax.tree.map(lambda leaf: leaf * np.nan, eta)
  for place in (z, jnp.full(3, -5.0), jnp.full(3, 50.0)):  # inside most supports, and outside
    assert np.isnan(family.log_prob(broken, place))


@pytest.mark.parametrize("family, eta", members())
def test_infinite_numbers_have_no_density(family, eta):
  z = family.transform(eta, family.noise(jax.random.key(0)))
  for infinite in (np.inf, -np.inf):
    if np.all(np.asarray(family.widest.low) > -np.inf) or family.sizes == (3, 3):
      assert family.log_prob(eta, z.at[1].set(infinite)) == -np.inf


def draws(make, eta, n, seed=0):
  """Draws n numbers z with their log-densities."""
  d = families.distribution(make(len(eta[0])), eta)
  keys = jax.random.split(jax.random.key(seed), n // len(eta[0]))
  return jax.vmap(d.sample_with_log_prob)(keys)


OWN = {
  "gamma(0.1, 0.5)": (families.gamma, composition.Gamma, (0.1, 0.5)),
  "gamma(0.05, 0.1)": (families.gamma, composition.Gamma, (0.05, 0.1)),
  "gamma(0.01, 1)": (families.gamma, composition.Gamma, (0.01, 1.0)),
  "chi_squared(0.1)": (families.chi_squared, composition.ChiSquared, (0.1,)),
  "weibull(1, 0.1)": (families.weibull, inverse_cdf.Weibull, (1.0, 0.1)),
  "beta(0.01, 0.01)": (families.beta, composition.Beta, (0.01, 0.01)),
  "f(0.1, 0.1)": (families.f, composition.F, (0.1, 0.1)),
  "log_normal(0, 50)": (families.log_normal, composition.LogNormal, (0.0, 50.0)),
}


@pytest.mark.parametrize("name", OWN)
def test_own_draws_have_a_density_and_gradients(name):
  make, kind, numbers = OWN[name]
  eta = kind(*(jnp.full(100, number, jnp.float32) for number in numbers))
  family = make(100)

  def both(key, eta):
    d = families.distribution(family, eta)
    z, log_q = d.sample_with_log_prob(key)
    return d.log_prob(z) + log_q

  keys = jax.random.split(jax.random.key(0), 200)
  values, gradients = jax.vmap(jax.value_and_grad(both, 1), (0, None))(keys, eta)
  assert np.isfinite(values).all()
  for gradient in gradients:
    assert np.isfinite(gradient).all()


# −E[log q], from mpmath: the entropies of Gamma(a, 1), a + log Γ(a) + (1 − a) ψ(a), and of Beta.
ENTROPIES = {
  "gamma(0.05)": (families.gamma, composition.Gamma, (0.05, 1.0), -16.454070, 0.03),
  "gamma(0.01)": (families.gamma, composition.Gamma, (0.01, 1.0), -94.945800, 0.02),
  "beta(0.1, 0.1)": (families.beta, composition.Beta, (0.1, 0.1), -6.261130, 0.03),
}


@pytest.mark.parametrize("name", ENTROPIES)
def test_the_entropy_of_draws(name):
  make, kind, numbers, expected, detects = ENTROPIES[name]
  eta = kind(*(jnp.full(1, number, jnp.float32) for number in numbers))
  z, log_q = draws(make, eta, 200_000)
  assert z.dtype == np.float32  # where many draws are below every float
  assert_unbiased(-np.asarray(log_q, float), expected, detects=detects)
  family = make(1)
  np.testing.assert_allclose(family.entropy(eta), expected, rtol=1e-5)


def log_slopes(make, eta_of, a, n):
  """Computes d log z / da of n draws; z has the parameters `eta_of(a)`."""

  def log_z(key, a):
    return jnp.log(families.distribution(make, eta_of(a)).sample(key))[0]

  keys = jax.random.split(jax.random.key(1), n)
  return jax.jit(jax.vmap(jax.grad(log_z, 1), (0, None)))(keys, jnp.float32(a))


ONE = jnp.ones(1, jnp.float32)
of_gamma = lambda a: composition.Gamma(a[None], ONE)  # noqa: E731
# d E[log z] / da, from mpmath: ψ′(a) for a Gamma, ψ′(a) − ψ′(a + b) for a Beta; the number of draws
# and the relative error that they would show.
SLOPES = {
  "gamma(0.01)": (of_gamma, 0.01, 10001.621213528312, 200_000, 0.03),
  "gamma(0.05)": (of_gamma, 0.05, 401.53235734690485, 200_000, 0.03),
  "gamma(2)": (of_gamma, 2.0, 0.6449340668482264, 100_000, 0.02),
  "gamma(1000)": (of_gamma, 1e3, 1.0005001666666e-3, 20_000, 1e-3),
  "gamma(100000)": (of_gamma, 1e5, 1.00000500001667e-05, 2000, 1e-3),
  "beta(0.05, 0.05)": (
    lambda a: composition.Beta(a[None], 0.05 * ONE), 0.05, 300.09906, 200_000, 0.05,
  ),
  "chi_squared(0.02)": (
    lambda a: composition.ChiSquared(a[None]), 0.02, 5000.810606764156, 200_000, 0.03,
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOPES)
def test_pathwise_derivatives_at_small_and_large_shapes(name):
  eta_of, a, expected, n, detects = SLOPES[name]
  make = {"gamma": families.gamma, "beta": families.beta}.get(name.split("(")[0])
  slopes = log_slopes((make or families.chi_squared)(1), eta_of, a, n)
  assert_unbiased(np.asarray(slopes, float), expected, detects=detects)


@pytest.mark.parametrize("log_var", [-12.0, -16.0, -18.0, -20.0])
def test_a_low_rank_gaussian_with_a_small_diagonal(log_var):
  family = gaussians.low_rank_gaussian(2, 1)
  eta = gaussians.LowRankGaussian(A(0, 0), A(log_var, log_var), jnp.ones((2, 1), jnp.float32))
  # Σ has the eigenvalues v and 2 + v for v = exp(log_var), and z = (1, 1) is along the second one.
  v = np.exp(log_var)
  expected = -np.log(2 * np.pi) - 0.5 * (log_var + np.log(2 + v)) - 1 / (2 + v)
  np.testing.assert_allclose(family.log_prob(eta, A(1, 1)), expected, rtol=1e-5)
  standard = gaussians.gaussian(2)
  p = families.distribution(standard, gaussians.DiagonalGaussian(A(0, 0), A(0, 0)))
  kl = lambda eta: families.kl_divergence(families.distribution(family, eta), p)
  right = 0.5 * (2 * v + 2 - 2 - log_var - np.log(2 + v))
  np.testing.assert_allclose(kl(eta), right, rtol=1e-5)
  for gradient in jax.grad(kl)(eta):
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("size, rank, log_var", [(20, 2, -10), (20, 2, -12), (50, 5, -12)])
def test_own_draws_of_a_low_rank_gaussian(size, rank, log_var):
  family = gaussians.low_rank_gaussian(size, rank)
  factor = np.random.default_rng(0).normal(size=(size, rank))
  eta = gaussians.LowRankGaussian(
    jnp.zeros(size, jnp.float32), jnp.full(size, log_var, jnp.float32), jnp.float32(factor)
  )
  keys = jax.random.split(jax.random.key(0), 200)
  z = jax.vmap(families.distribution(family, eta).sample)(keys)
  values = jax.vmap(family.log_prob, (None, 0))(eta, z)
  factor, z = np.float64(np.asarray(eta.factor)), np.float64(np.asarray(z))
  covariance = np.exp(log_var) * np.eye(size) + factor @ factor.T
  distances = np.einsum("ni,ij,nj->n", z, np.linalg.inv(covariance), z)
  expected = -0.5 * (size * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + distances)
  assert np.abs(np.asarray(values) - expected).max() < 0.01
