"""Mixtures as posteriors, by implicit gradients or stratified sampling, and learned priors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from aevb_jax import bernoulli, elbo_a, elbo_b, init_params, iwae, mlp_vae, standard_normal
from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.stratified import stratified_elbo, stratified_iwae
from aevb_jax.families.base import distribution
from aevb_jax.families.mixtures import GaussianMixture, gaussian_mixture
from aevb_jax.inference.checks import check_continuous
from aevb_jax.inference.exact import exact_log_marginal, gaussian_expectation
from aevb_jax.models.joint import log_joint, log_weight, simulate
from aevb_jax.models.priors import with_mixture_prior, with_vamp_prior
from tests.support.statistics import FALSE_ALARM, assert_greater, assert_unbiased

A = jnp.asarray
INF = float("inf")
ETA = GaussianMixture(
  jnp.log(A([0.2, 0.5, 0.3])),
  A([[-2.0, 0.5], [1.0, 1.0], [0.3, -3.0]]),
  A([[-1.0, 0.2], [0.3, -0.7], [0.1, 0.4]]),
)
FAMILY = gaussian_mixture(2, 3)


def test_log_prob_and_moments():
  z = np.random.default_rng(0).normal(size=(20, 2)) * 3
  expected = 0.0
  for log_pi, mean, log_var in zip(*map(np.asarray, ETA)):
    expected += np.exp(log_pi + scipy.stats.norm(mean, np.exp(log_var / 2)).logpdf(z).sum(axis=1))
  value = jax.vmap(lambda z: FAMILY.log_prob(ETA, z))(A(z))
  np.testing.assert_allclose(value, np.log(expected), rtol=1e-10)
  q = distribution(FAMILY, ETA)
  samples = jax.jit(jax.vmap(q.sample))(jax.random.split(jax.random.key(0), 200_000))
  assert_unbiased(samples, q.mean, detects=0.1)
  assert_unbiased((samples - q.mean[None]) ** 2, FAMILY.variance(ETA), detects=0.02)
  marginal = lambda z: sum(
    np.exp(log_pi) * scipy.stats.norm.cdf(z, mean[0], np.exp(log_var[0] / 2))
    for log_pi, mean, log_var in zip(*map(np.asarray, ETA))
  )
  assert scipy.stats.kstest(samples[:, 0], marginal).pvalue > FALSE_ALARM


def test_the_implicit_gradient_is_unbiased():
  # Quadrature over each component gives E[f(z)] of a smooth f and its exact gradient.
  f = lambda z: jnp.sin(z[0]) * z[1] + 0.3 * z[0] ** 2

  def expected(eta):
    def of_component(mean, log_var):
      std = jnp.exp(0.5 * log_var)
      at = lambda a, b: f(mean + std * jnp.stack([a, b]))
      coarse = lambda g: gaussian_expectation(g, step=0.1)
      return coarse(lambda a: coarse(lambda b: at(a, b)))

    return jnp.exp(eta.log_weights) @ jax.vmap(of_component)(eta.mean, eta.log_var)

  exact = jax.jit(jax.grad(expected))(ETA)
  of_key = lambda key: jax.grad(lambda eta: f(FAMILY.transform(eta, FAMILY.noise(key))))(ETA)
  draws = jax.jit(jax.vmap(of_key))(jax.random.split(jax.random.key(1), 200_000))
  for ours, truth in zip(draws[1:], exact[1:]):
    assert_unbiased(ours, truth, detects=0.1)
  # For log π, only directions that keep Σ π = 1 are derivatives of the mixture.
  pi = np.exp(ETA.log_weights)
  tangent = lambda g: g - pi * np.sum(g, axis=-1, keepdims=True)
  assert_unbiased(tangent(np.asarray(draws[0])), tangent(np.asarray(exact[0])), detects=0.1)


def test_log_prob_and_gradient_of_unlikely_and_impossible_components():
  family = gaussian_mixture(1, 2)
  rest = A([3.0, -1.0]), A([0.0, 0.5])
  log_prob = lambda logits, z: family.log_prob(family.from_heads(logits, *rest), z[None])
  for logit in (-200.0, -INF):
    for z in (-1.0, 3.0, 40.0):
      value, (of_logits, slope) = jax.value_and_grad(log_prob, (0, 1))(A([logit, 0.0]), A(z))
      first = logit + scipy.stats.norm(3, 1).logpdf(z)
      second = scipy.stats.norm(-1, np.exp(0.25)).logpdf(z)
      exact, share = np.logaddexp(first, second), scipy.special.expit(second - first)
      np.testing.assert_allclose(value, exact, rtol=1e-13)
      expected = -share * (z + 1) / np.exp(0.5) - (1 - share) * (z - 3)
      np.testing.assert_allclose(slope, expected, rtol=1e-12, atol=1e-12)
      np.testing.assert_allclose(of_logits, [1 - share, share - 1], atol=1e-12)


def test_draws_beside_an_impossible_component():
  family = gaussian_mixture(2, 2)
  heads = A([-INF, 0.0]), A([3.0, 1e6, -1.0, 0.5]), A([0.0, -20.0, 0.5, 0.3])
  noise = family.noise(jax.random.key(0))
  moved = lambda *heads: family.transform(family.from_heads(*heads), noise)
  exact = np.asarray([-1.0, 0.5]) + np.exp([0.25, 0.15]) * noise.normal
  np.testing.assert_allclose(moved(*heads), exact, rtol=1e-13)
  of_logits, of_mean, of_log_var = jax.jacrev(moved, argnums=(0, 1, 2))(*heads)
  np.testing.assert_array_equal(of_logits, 0)
  np.testing.assert_allclose(of_mean, [[0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-12)
  half = np.diag(0.5 * np.exp([0.25, 0.15]) * noise.normal)
  np.testing.assert_allclose(of_log_var, np.hstack([np.zeros((2, 2)), half]), atol=1e-12)


def test_where_all_components_underflow():
  with jax.enable_x64(False):
    eta = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float32), ETA)
    value, slopes = jax.value_and_grad(FAMILY.log_prob)(eta, jnp.full(2, 3e19))
    assert value == -INF  # some -1e39, below the least number of float32
    assert all(np.isfinite(leaf).all() for leaf in slopes)
    value, slope = jax.value_and_grad(FAMILY.log_prob, argnums=1)(eta, jnp.full(2, 1e15))
    # Far away the component with the least Σ 1/variance has all the weight.
    inverse = np.exp(-np.asarray(ETA.log_var))
    nearest = inverse[inverse.sum(axis=1).argmin()]
    np.testing.assert_allclose(value, -0.5e30 * nearest.sum(), rtol=1e-6)
    np.testing.assert_allclose(slope, -1e15 * nearest, rtol=1e-6)
    assert jnp.isnan(FAMILY.log_prob(eta, jnp.asarray([jnp.nan, 0.0])))


@pytest.mark.parametrize("estimator", [stratified_elbo, stratified_iwae])
def test_stratified_samples_of_an_impossible_component_do_not_count(estimator):
  model, params = world()
  heads = A([0.3, -0.2]), A([0.5, -1.0]), A([-0.4, 0.1])
  # Nothing can be said about draws from N(1e200, 1), where the mixture's density underflows.
  impossible = A([-INF, 0.3, -0.2]), A([1e200, 0.5, -1.0]), A([0.0, -0.4, 0.1])

  def run(heads, keep):
    family = gaussian_mixture(1, len(heads[0]))
    given = lambda phi, x: distribution(family, family.from_heads(*phi))
    other = model._replace(encoder=model.encoder._replace(given=given))
    function = lambda p: estimator(jax.random.key(1), other, p, X, num_samples=4000)
    value, gradients = jax.jit(jax.value_and_grad(function))(params._replace(phi=heads))
    for leaf in jax.tree.leaves(gradients):
      assert np.isfinite(leaf).all()
    return value, [leaf[keep] for leaf in gradients.phi]

  (value, slopes), (expected, of_two) = run(impossible, slice(1, 3)), run(heads, slice(None))
  np.testing.assert_allclose(value, expected, atol=0.1)
  for slope, other in zip(slopes, of_two):
    np.testing.assert_allclose(slope, other, atol=0.15)


def world(num_components=3):
  model = mlp_vae(
    bernoulli(6),
    data_dim=6,
    latent_dim=1,
    hidden_dim=5,
    posterior=lambda size: gaussian_mixture(size, num_components),
  )
  params = init_params(jax.random.key(0), model)
  return model, jax.tree.map(lambda w: 1.5 * w + 0.1, params)


X = A([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])


def exact_bound(model, params, x):
  q = model.encoder.given(params.phi, x)

  def of_component(mean, log_var):
    z = lambda noise: mean + jnp.exp(0.5 * log_var) * noise[None]
    return gaussian_expectation(lambda noise: log_weight(model, params, q, x, z(noise)))

  return jnp.exp(q.eta.log_weights) @ jax.vmap(of_component)(q.eta.mean, q.eta.log_var)


@pytest.mark.parametrize("estimator", [elbo_a, stratified_elbo])
def test_bounds_of_a_mixture_and_their_gradients_are_unbiased(estimator):
  model, params = world()
  value, gradient = jax.jit(
    jax.value_and_grad(lambda p: exact_bound(model, p, X))
  )(params)  # fmt: skip
  of_key = lambda key: jax.value_and_grad(lambda p: estimator(key, model, p, X))(params)
  values, gradients = jax.jit(jax.vmap(of_key))(jax.random.split(jax.random.key(0), 40_000))
  assert_unbiased(values, value, detects=0.02)
  for block in ("theta", "phi"):
    ours, truth = (
      np.concatenate([np.reshape(a, (*lead, -1)) for a in jax.tree.leaves(getattr(of, block))], -1)
      for of, lead in ((gradients, (40_000,)), (gradient, ()))
    )
    assert_unbiased(ours, truth, detects=0.2)


def test_strata_take_away_the_noise_of_the_choice():
  # If components are far apart, nearly all the noise is in the choice of z's component.
  model, params = world(2)
  heads = jax.tree.map(jnp.zeros_like, {name: params.phi[name] for name in ("head_1", "head_2")})
  heads["head_1"]["bias"], heads["head_2"]["bias"] = A([-3.0, 0.5]), A([-4.0, -4.0])
  params = params._replace(phi=params.phi | heads)
  keys, other_keys = jax.random.split(jax.random.key(1), (2, 20_000))
  each = jax.jit(jax.vmap(lambda key: stratified_elbo(key, model, params, X)))
  any_two = jax.jit(jax.vmap(lambda key: elbo_a(key, model, params, X, num_samples=2)))
  one_of_each, two_of_any = each(keys), any_two(other_keys)
  assert one_of_each.var() < 0.5 * two_of_any.var()


def test_the_stratified_importance_bound_is_between():
  model, params = world()

  def of(estimator, seed):
    of_key = lambda key: estimator(key, model, params, X, num_samples=2)
    return np.asarray(jax.jit(jax.vmap(of_key))(jax.random.split(jax.random.key(seed), 20_000)))

  tight, loose = of(stratified_iwae, 2), of(iwae, 3)
  assert_greater(tight, loose)
  assert_greater(np.full(20_000, exact_log_marginal(model, params, X)), tight)
  w = np.exp(tight - exact_log_marginal(model, params, X))
  assert_unbiased(w, 1.0, detects=0.05)


def test_strata_of_what_is_no_mixture_are_refused():
  model = mlp_vae(bernoulli(6), data_dim=6, latent_dim=1, hidden_dim=5)
  with pytest.raises(UnsupportedError, match="a GaussianMixture, not a DiagonalGaussian"):
    stratified_elbo(jax.random.key(0), model, init_params(jax.random.key(1), model), X)


def plain(latent_dim=1):
  return mlp_vae(bernoulli(6), data_dim=6, latent_dim=latent_dim, hidden_dim=5)


def learned_priors():
  rng = np.random.default_rng(0)
  return {
    "mixture": with_mixture_prior(plain(), 1, 3),
    "vamp": with_vamp_prior(plain(), A(rng.normal(size=(4, 6))), link=jax.nn.sigmoid),
  }


@pytest.mark.parametrize("name", ["mixture", "vamp"])
def test_a_learned_prior_is_a_density_that_samples_follow(name):
  model = learned_priors()[name]
  params = jax.tree.map(lambda w: 1.5 * w + 0.1, init_params(jax.random.key(0), model))
  p = model.prior(params)
  check_continuous("annealing", p)  # HMC may move its z, reparameterized or not
  grid = np.linspace(-15, 15, 6001)
  density = np.exp(jax.vmap(lambda z: p.log_prob(z[None]))(A(grid)))
  cdf = scipy.integrate.cumulative_trapezoid(density, grid, initial=0)
  np.testing.assert_allclose(cdf[-1], 1, rtol=1e-6)
  z, log_p = jax.jit(jax.vmap(p.sample_with_log_prob))(jax.random.split(jax.random.key(1), 50_000))
  np.testing.assert_allclose(log_p[:9], jax.vmap(p.log_prob)(z[:9]), rtol=1e-12)
  result = scipy.stats.kstest(z[:, 0], lambda z: np.interp(z, grid, cdf))
  assert result.pvalue > FALSE_ALARM
  assert scipy.stats.kstest(1.1 * z[:, 0], lambda z: np.interp(z, grid, cdf)).pvalue < FALSE_ALARM
  np.testing.assert_allclose(p.mean[0], np.trapezoid(grid * density, grid), atol=1e-6)


def test_the_vamp_prior_is_the_mean_of_the_posteriors():
  model = learned_priors()["vamp"]
  params = init_params(jax.random.key(0), model)
  z = A([0.3])
  u = jax.nn.sigmoid(params.theta["prior"]["pseudo_inputs"].reshape(4, 6))
  each = [np.exp(model.encoder.given(params.phi, one).log_prob(z)) for one in u]
  np.testing.assert_allclose(model.prior(params).log_prob(z), np.log(np.mean(each)), rtol=1e-10)


@pytest.mark.parametrize("name", ["mixture", "vamp"])
def test_training_moves_a_learned_prior_and_the_gradient_is_unbiased(name):
  model = learned_priors()[name]
  params = jax.tree.map(lambda w: 1.5 * w + 0.1, init_params(jax.random.key(0), model))

  def exact(params):
    q = model.encoder.given(params.phi, X)
    at = lambda noise: q.mean + jnp.exp(0.5 * q.eta.log_var) * noise[None]
    return gaussian_expectation(lambda noise: log_weight(model, params, q, X, at(noise)))

  truth = jax.jit(jax.grad(exact))(params)
  of_key = lambda key: jax.grad(lambda p: elbo_a(key, model, p, X))(params)
  ours = jax.jit(jax.vmap(of_key))(jax.random.split(jax.random.key(0), 40_000))
  for leaf, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(truth)):
    assert_unbiased(leaf, expected, detects=0.5)
  assert any(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(truth.theta["prior"]))


def test_a_learned_prior_has_no_closed_form():
  for model in learned_priors().values():
    params = init_params(jax.random.key(0), model)
    with pytest.raises(UnsupportedError, match="no closed form is known for KL"):
      elbo_b(jax.random.key(1), model, params, X)


def test_simulating_uses_the_learned_prior():
  model = with_mixture_prior(plain(), 1, 2)
  params = init_params(jax.random.key(0), model)
  prior = params.theta["prior"] | {"mean": A([50.0, 50.0])}
  params = params._replace(theta=params.theta | {"prior": prior})
  z, x = simulate(jax.random.key(1), model, params)
  assert z[0] > 40 and np.isfinite(log_joint(model, params, x, z))
  assert standard_normal(1).log_prob(z) < -500
