"""Families compared with scipy, quadrature and their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from jax.test_util import check_grads

from aevb_jax import bernoulli, gaussian, kl_divergence, standard_normal
from aevb_jax.errors import UnsupportedError
from aevb_jax.families import kl_per_latent, reparameterize
from aevb_jax.families.base import distribution
from aevb_jax.families.binary import Bernoulli
from aevb_jax.families.gaussians import DiagonalGaussian
from tests.support.statistics import FALSE_ALARM, assert_unbiased

GAUSSIAN = gaussian(3)


def gaussian_eta(seed=0, size=3):
  rng = np.random.default_rng(seed)
  return DiagonalGaussian(jnp.asarray(rng.normal(size=size)), jnp.asarray(rng.normal(size=size)))


@pytest.mark.parametrize("std", [1e-6, 0.3, 1.0, 1e6])
@pytest.mark.parametrize("standardized", [-30.0, -2.0, 0.0, 0.7, 30.0])
def test_gaussian_log_prob_is_scipys(std, standardized):
  eta = DiagonalGaussian(jnp.asarray([0.5 * std]), jnp.asarray([2 * np.log(std)]))
  z = 0.5 * std + standardized * std
  expected = scipy.stats.norm.logpdf(z, 0.5 * std, std)
  value = gaussian(1).log_prob(eta, jnp.asarray([z]))
  np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10)


def test_gaussian_log_prob_sums_over_dimensions():
  eta, z = gaussian_eta(), jnp.asarray([0.1, -1.0, 2.0])
  expected = scipy.stats.norm.logpdf(z, eta.mean, np.exp(0.5 * eta.log_var)).sum()
  np.testing.assert_allclose(GAUSSIAN.log_prob(eta, z), expected, rtol=1e-12)


def test_gaussian_density_integrates_to_one():
  eta = DiagonalGaussian(jnp.asarray([0.7]), jnp.asarray([-1.2]))
  density = jax.jit(lambda z: jnp.exp(gaussian(1).log_prob(eta, z[None])))
  total, _ = scipy.integrate.quad(density, -10, 12, points=[0.7])
  np.testing.assert_allclose(total, 1, rtol=1e-8)


@pytest.mark.parametrize("noise", [-3.0, -0.4, 0.0, 1.3, 4.0])
def test_gaussian_pathwise_derivative_is_the_implicit_one(noise):
  # dz/dη = −(∂F/∂η) / f at every point, for η the mean and the log-variance.
  family = gaussian(1)
  eta = DiagonalGaussian(jnp.asarray([0.4]), jnp.asarray([0.9]))

  def transform(eta):
    return family.transform(eta, jnp.asarray([noise]))[0]

  def cdf(eta, z):
    return jax.scipy.stats.norm.cdf(z, eta.mean[0], jnp.exp(0.5 * eta.log_var[0]))

  z = transform(eta)
  density = jnp.exp(family.log_prob(eta, z[None]))
  implicit = jax.tree.map(lambda d: -d / density, jax.grad(cdf)(eta, z))
  for pathwise, expected in zip(jax.grad(transform)(eta), implicit):
    np.testing.assert_allclose(pathwise, expected, rtol=1e-9)


def test_gaussian_samples_follow_the_density():
  eta = DiagonalGaussian(jnp.asarray([0.4]), jnp.asarray([0.9]))
  keys = jax.random.split(jax.random.key(0), 100_000)
  z = np.ravel(jax.vmap(lambda key: reparameterize(key, gaussian(1), eta))(keys))

  def p_value(scale):
    return scipy.stats.kstest(z, scipy.stats.norm(0.4, np.exp(0.45) * scale).cdf).pvalue

  assert p_value(1.0) > FALSE_ALARM
  assert p_value(1.05) < FALSE_ALARM  # the power of the test: 5 % in scale
  assert_unbiased((z - 0.4) ** 2, np.exp(0.9), detects=0.04)  # 2 % in scale


def test_reparameterize_is_the_transform_of_parameter_free_noise():
  eta = gaussian_eta()
  z = reparameterize(jax.random.key(1), GAUSSIAN, eta)
  noise = GAUSSIAN.noise(jax.random.key(1))
  np.testing.assert_array_equal(z, GAUSSIAN.transform(eta, noise))
  np.testing.assert_allclose(z, eta.mean + np.exp(0.5 * eta.log_var) * noise, rtol=1e-12)


def test_links_of_the_gaussian():
  heads = jnp.asarray([0.2, -3.0]), jnp.asarray([-9.0, 1.0])
  plain = gaussian(2).from_heads(*heads)
  np.testing.assert_array_equal(plain.mean, heads[0])
  np.testing.assert_array_equal(plain.log_var, heads[1])
  linked = gaussian(2, mean_link=jax.nn.sigmoid, min_std=0.1).from_heads(*heads)
  np.testing.assert_allclose(linked.mean, 1 / (1 + np.exp(-heads[0])))
  np.testing.assert_allclose(np.exp(linked.log_var), np.exp(heads[1]) + 0.01)


@pytest.mark.parametrize("logit", [-20.0, -1.0, 0.0, 3.0])
def test_bernoulli_log_prob_is_scipys(logit):
  p = 1 / (1 + np.exp(-logit))
  for x in (0.0, 1.0):
    value = bernoulli(1).log_prob(Bernoulli(jnp.asarray([logit])), jnp.asarray([x]))
    np.testing.assert_allclose(value, scipy.stats.bernoulli.logpmf(x, p), rtol=1e-7)


def test_bernoulli_of_real_pixels_is_the_cross_entropy():
  logits, x = jnp.asarray([-1.0, 0.3]), jnp.asarray([0.25, 0.9])
  y = 1 / (1 + np.exp(-logits))
  expected = np.sum(x * np.log(y) + (1 - x) * np.log(1 - y))
  np.testing.assert_allclose(bernoulli(2).log_prob(Bernoulli(logits), x), expected, rtol=1e-12)


def test_bernoulli_samples_have_their_mean():
  eta = Bernoulli(jnp.asarray([-2.0, 0.0, 1.5]))
  q = distribution(bernoulli(3), eta)
  samples = jax.vmap(q.sample)(jax.random.split(jax.random.key(0), 200_000))
  assert set(np.unique(samples)) == {0.0, 1.0}
  assert_unbiased(samples, 1 / (1 + np.exp(-eta.logits)), detects=0.02)
  np.testing.assert_allclose(q.mean, 1 / (1 + np.exp(-eta.logits)))
  assert not q.reparameterized


def test_kl_to_the_standard_normal_is_appendix_b():
  eta = gaussian_eta()
  expected = -0.5 * np.sum(1 + eta.log_var - eta.mean**2 - np.exp(eta.log_var))
  value = kl_divergence(distribution(GAUSSIAN, eta), standard_normal(3))
  np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_kl_is_the_expected_log_ratio():
  q, p = distribution(GAUSSIAN, gaussian_eta(0)), distribution(GAUSSIAN, gaussian_eta(1))
  z = jax.vmap(q.sample)(jax.random.split(jax.random.key(0), 200_000))
  log_ratio = jax.vmap(lambda z: q.log_prob(z) - p.log_prob(z))(z)
  assert_unbiased(log_ratio, kl_divergence(q, p), detects=0.02)


def test_kl_gradients_and_zero():
  def kl(q_eta, p_eta):
    return kl_divergence(distribution(GAUSSIAN, q_eta), distribution(GAUSSIAN, p_eta))

  check_grads(kl, (gaussian_eta(0), gaussian_eta(1)), order=2, modes=["rev"])
  np.testing.assert_allclose(kl(gaussian_eta(0), gaussian_eta(0)), 0, atol=1e-14)


def test_kl_of_bernoullis_by_hand():
  q, p = (
    distribution(bernoulli(3), Bernoulli(jnp.asarray(logits)))
    for logits in ([-2.0, 0.0, 3.0], [0.5, 0.0, -1.0])
  )
  expected = 0.0
  for on_q, on_p in zip(np.asarray(q.mean), np.asarray(p.mean)):
    expected += on_q * np.log(on_q / on_p) + (1 - on_q) * np.log((1 - on_q) / (1 - on_p))
  np.testing.assert_allclose(kl_divergence(q, p), expected, rtol=1e-12)
  np.testing.assert_allclose(kl_divergence(q, q), 0, atol=1e-14)
  np.testing.assert_allclose(kl_per_latent(q, p)[1], 0, atol=1e-14)


def test_kl_per_latent_adds_up():
  q, p = distribution(GAUSSIAN, gaussian_eta(0)), distribution(GAUSSIAN, gaussian_eta(1))
  terms = kl_per_latent(q, p)
  assert terms.shape == (3,)
  np.testing.assert_allclose(terms.sum(), kl_divergence(q, p), rtol=1e-12)


def test_kl_of_an_unknown_pair_is_refused():
  q = distribution(bernoulli(3), Bernoulli(jnp.zeros(3)))
  with pytest.raises(UnsupportedError, match=r"KL\(Bernoulli ‖ DiagonalGaussian\)"):
    kl_divergence(q, standard_normal(3))


def test_a_batch_is_not_one_event():
  eta = gaussian_eta()
  for array in (jnp.zeros((4, 3)), jnp.zeros(2), jnp.zeros(())):
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
      GAUSSIAN.log_prob(eta, array)
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
      bernoulli(3).log_prob(Bernoulli(jnp.zeros(3)), array)
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
      GAUSSIAN.from_heads(array, jnp.zeros(3))
