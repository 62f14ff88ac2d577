"""Single precision at the extremes: finite values, finite gradients, the right dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aevb_jax import (
  Params,
  bernoulli,
  elbo_b,
  fit,
  gaussian,
  importance_sampling,
  init_params,
  kl_divergence,
  log_weights,
  mlp_vae,
  simulate,
  standard_normal,
)
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.optimizers import adagrad
from aevb_jax.data.preprocess import binarize, dequantize
from aevb_jax.families.base import distribution
from aevb_jax.families.binary import Bernoulli
from aevb_jax.families.gaussians import DiagonalGaussian
from aevb_jax.families.univariate import uniform_noise
from aevb_jax.inference import bidirectional_monte_carlo, reciprocal_importance_sampling
from aevb_jax.models import linear_gaussian as lg
from tests.support.estimator_table import ALL
from tests.support.family_table import INVERSE_CDF, UNIVARIATE


@pytest.fixture(autouse=True)
def single_precision():
  with jax.enable_x64(False):
    yield


def assert_finite(tree):
  for leaf in jax.tree.leaves(tree):
    assert leaf.dtype == jnp.float32
    assert jnp.isfinite(leaf).all()


@pytest.mark.parametrize("logit", [-200.0, -110.0, -17.0, 0.0, 17.0, 110.0, 200.0])
@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_bernoulli(logit, x):
  log_prob = lambda logit: bernoulli(1).log_prob(Bernoulli(logit), jnp.asarray([x]))
  value, gradient = jax.value_and_grad(log_prob)(jnp.asarray([logit]))
  assert_finite((value, gradient))
  exact = -x * np.logaddexp(0, -logit) - (1 - x) * np.logaddexp(0, logit)
  np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(gradient[0], x - 1 / (1 + np.exp(-logit)), atol=1e-6)


@pytest.mark.parametrize("log_var", [-160.0, -20.0, 0.0, 20.0, 160.0])
def test_gaussian(log_var):
  family = gaussian(2)

  def log_prob_of_own_sample(log_var):
    eta = DiagonalGaussian(jnp.zeros(2), log_var)
    return family.log_prob(eta, family.transform(eta, jnp.asarray([-3.0, 0.5])))

  value, gradient = jax.value_and_grad(log_prob_of_own_sample)(jnp.full(2, log_var))
  assert_finite((value, gradient))
  exact = scipy.stats.norm.logpdf([-3.0, 0.5]).sum() - log_var
  np.testing.assert_allclose(value, exact, rtol=1e-5)
  np.testing.assert_allclose(gradient, -0.5, rtol=1e-5)


@pytest.mark.parametrize("log_var", [-160.0, -20.0, 0.0, 20.0, 80.0])
def test_kl(log_var):
  def kl(eta):
    return kl_divergence(distribution(gaussian(2), eta), standard_normal(2))

  eta = DiagonalGaussian(jnp.asarray([0.0, 1e5]), jnp.full(2, log_var))
  assert_finite(jax.value_and_grad(kl)(eta))


def test_a_floor_on_the_standard_deviation():
  family = gaussian(1, min_std=0.01)

  def log_prob(head):
    return family.log_prob(family.from_heads(jnp.zeros(1), head), jnp.zeros(1))

  value, gradient = jax.value_and_grad(log_prob)(jnp.asarray([-1e4]))
  assert_finite((value, gradient))
  np.testing.assert_allclose(value, scipy.stats.norm.logpdf(0, scale=0.01), rtol=1e-5)


@pytest.mark.parametrize("likelihood", [bernoulli, gaussian])
@pytest.mark.parametrize("name", ["elbo_a", "elbo_b", "dreg", "vimco"])
def test_estimators(name, likelihood):
  model = mlp_vae(likelihood(9), data_dim=9, latent_dim=2, hidden_dim=4)
  params = init_params(jax.random.key(0), model)
  if likelihood is bernoulli:  # saturated hidden units, logits of about ±100
    params = params._replace(theta=jax.tree.map(lambda w: 100 * w, params.theta))

  @jax.jit
  @jax.value_and_grad
  def function(params):
    return ALL[name](jax.random.key(1), model, params, jnp.ones(9), num_samples=4)

  assert_finite(function(params))


@pytest.mark.parametrize("estimator", ALL.values(), ids=ALL)
def test_weights_hundreds_of_nats_apart(estimator):
  # All but one of the normalized weights are 0 in single precision.
  model = mlp_vae(bernoulli(784), data_dim=784, latent_dim=2, hidden_dim=4)
  params = init_params(jax.random.key(0), model)
  params = params._replace(theta=jax.tree.map(lambda w: 10 * w, params.theta))
  function = lambda p: estimator(jax.random.key(1), model, p, jnp.ones(784), num_samples=4)
  log_w = log_weights(jax.random.key(1), model, params, jnp.ones(784), num_samples=4)
  assert np.ptp(log_w) > 200
  assert_finite(jax.jit(jax.value_and_grad(function))(params))


def test_importance_weights_far_below_the_smallest_float():
  model = mlp_vae(bernoulli(784), data_dim=784, latent_dim=2, hidden_dim=4)
  params = init_params(jax.random.key(0), model)
  estimate = jax.jit(
    lambda key: importance_sampling(key, model, params, jnp.ones(784), num_samples=60)
  )(jax.random.key(1))
  assert_finite(estimate)
  assert estimate.value < -200  # exp(-104) is 0 in single precision


def test_training_keeps_single_precision():
  pixels = np.random.default_rng(0).integers(0, 256, size=(20, 9), dtype=np.uint8)
  model = mlp_vae(bernoulli(9), data_dim=9, latent_dim=2, hidden_dim=4)
  algorithm = aevb(model, elbo_b, adagrad(0.1, warmup_steps=2), num_data=20)
  state, metrics = fit(
    algorithm,
    algorithm.init(jax.random.key(0)),
    jax.random.key(1),
    pixels,
    batch_size=5,
    num_steps=30,
    preprocess=binarize,
  )
  assert_finite((state.params, metrics))


def test_dequantized_white_stays_below_one():
  white = jnp.full(1_000_000, 255, jnp.uint8)
  x = dequantize(jax.random.key(0), white)
  assert x.dtype == jnp.float32 and x.max() < 1 and x.min() >= 255 / 256


def test_estimates_of_a_likelihood_of_many_dimensions():
  # Every estimate of a log p(x) of about -1000 nats is within its error of the exact value.
  model = lg.linear_gaussian_vae(784, 3)
  w_key, x_key, *keys = jax.random.split(jax.random.key(0), 5)
  kernel = 0.05 * jax.random.normal(w_key, (3, 784))
  theta = {"mean": {"kernel": kernel, "bias": jnp.zeros(784)}, "log_var": jnp.zeros(784)}
  params = Params(theta, lg.optimal_phi(theta))
  z, x = simulate(x_key, model, params)
  how = dict(num_chains=16, num_temperatures=100, num_leapfrogs=4)
  both = jax.jit(lambda key: bidirectional_monte_carlo(key, model, params, x, z, **how))(keys[0])
  others = [
    jax.jit(lambda key: importance_sampling(key, model, params, x, num_samples=1000))(keys[1]),
    jax.jit(lambda key: reciprocal_importance_sampling(key, model, params, x, **how))(keys[2]),
  ]
  with jax.enable_x64(True):
    exact = lg.log_marginal(jax.tree.map(lambda a: a.astype(float), theta), x.astype(float))
  assert -1300 < exact < -1000
  for estimate in (*both, *others):
    assert_finite((estimate.value, estimate.standard_error))
    assert abs(estimate.value - exact) < 5 * estimate.standard_error + 0.01
    assert estimate.standard_error < 0.3


@pytest.mark.parametrize("case", UNIVARIATE, ids=lambda case: case.name)
def test_families(case):
  """Draws, their densities and both derivatives are finite for parameters from 0.0025 to 6."""
  family, heads = case.family, jnp.asarray([-6.0, -1.0, 0.0, 2.0, 6.0], jnp.float32)
  if case.name in ("pareto", "weibull", "gamma", "beta", "f", "chi_squared"):
    heads = heads[1:]  # the docstrings promise nothing for shapes of 0.0025
  etas = jax.vmap(lambda h: family.from_heads(*(jnp.full(n, h) for n in family.sizes)))(heads)
  noise = jax.vmap(family.noise)(jax.random.split(jax.random.key(0), 300))

  def one(eta, noise):
    z = family.transform(eta, noise)
    return family.log_prob(eta, z), z

  over_both = lambda f: jax.jit(jax.vmap(jax.vmap(f, (None, 0)), (0, None)))
  slopes, z = over_both(jax.grad(one, has_aux=True))(etas, noise)
  log_prob = jax.jit(jax.vmap(jax.vmap(family.log_prob, (None, 0))))
  values = log_prob(etas, z)
  assert_finite((slopes, z, values))
  with jax.enable_x64(True):
    double = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), tree)
    exact = log_prob(double(etas), double(z))
  np.testing.assert_allclose(values, exact, rtol=1e-5, atol=5e-5)


def test_uniform_noise_is_strictly_between():
  draw = lambda generator: generator(jax.random.key(4), (2**20,))  # includes a zero
  assert draw(jax.random.uniform).min() == 0
  u = draw(uniform_noise)
  assert u.dtype == jnp.float32 and 0 < u.min() and u.max() < 1


@pytest.mark.parametrize("u", [6e-8, 0.5, 1 - 6e-8])
@pytest.mark.parametrize("case", INVERSE_CDF, ids=lambda case: case.name)
def test_the_ends_of_the_noise(case, u):
  eta = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float32)), case.eta)
  noise = jnp.full(case.family.noise(jax.random.key(0)).shape, u, jnp.float32)
  assert_finite(jax.jacrev(case.family.transform)(eta, noise))
  z = case.family.transform(eta, noise)
  with jax.enable_x64(True):
    double = lambda a: jnp.asarray(np.asarray(a, np.float64))
    exact = case.family.transform(jax.tree.map(double, eta), double(noise))
  np.testing.assert_allclose(z, exact, rtol=1e-5, atol=1e-5)
