"""Layers of latents: exact where all conditionals are linear and Gaussian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import elbo_a, elbo_b
from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.importance import dreg, iwae
from aevb_jax.estimators.objectives import beta_weighted, free_bits, kl_warmup
from aevb_jax.estimators.score_functions import vimco
from aevb_jax.estimators.sgvb import sticking_the_landing
from aevb_jax.families.binary import bernoulli
from aevb_jax.families.chains import kl_given
from aevb_jax.families.gaussians import gaussian
from aevb_jax.families.kl import kl_divergence
from aevb_jax.models.hierarchical import DIRECTIONS, hierarchical_vae
from aevb_jax.models.joint import log_joint
from aevb_jax.models.vae import init_params
from tests.support.oracles import assert_annealing_encloses, exact_bound, precision
from tests.support.statistics import assert_unbiased

D, SIZES = 4, (3, 2)
X = jnp.array([0.3, -1.2, 0.8, 0.1])


def linear_model(direction):
  """Makes a model of linear means and constant variances.

  Returns:
    The model, the parameters that vary, as a vector, and the function that makes Params of it; the
    slopes of the log-variances stay 0.
  """
  model = hierarchical_vae(
    gaussian(D), data_dim=D, latent_dims=SIZES, hidden_dims=((), ()), inference=direction
  )
  leaves, structure = jax.tree.flatten_with_path(init_params(jax.random.key(0), model))
  names = [jax.tree_util.keystr(path) for path, _ in leaves]
  is_slope = ["kernel" in n and ("head_1" in n or "log_var" in n) for n in names]
  moving = [leaf for (_, leaf), slope in zip(leaves, is_slope) if not slope]
  flat, unravel = jax.flatten_util.ravel_pytree(moving)

  def params(flat):
    rest = iter(unravel(flat))
    every = [jnp.zeros_like(leaf) if s else next(rest) for (_, leaf), s in zip(leaves, is_slope)]
    return jax.tree.unflatten(structure, every)

  return model, 0.3 * jax.random.normal(jax.random.key(1), flat.shape), params


def exact_log_p(model, params, x):
  """log p(x) = log p(x, z) − log p(z|x), at any z: the joint density is Gaussian in z."""
  joint = lambda z: log_joint(model, params, x, z)
  start = jnp.zeros(sum(SIZES))
  p = precision(joint, start)
  mode = start + jnp.linalg.solve(p, jax.grad(joint)(start))
  log_posterior = 0.5 * (jnp.linalg.slogdet(p)[1] - len(start) * jnp.log(2 * jnp.pi))
  return joint(mode) - log_posterior


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_draws_follow_the_density(direction):
  model, flat, params = linear_model(direction)
  for q in (model.encoder.given(params(flat).phi, X), model.prior(params(flat))):
    covariance = jnp.linalg.inv(precision(q.log_prob, q.mean))
    z, log_q = jax.vmap(q.sample_with_log_prob)(jax.random.split(jax.random.key(2), 20000))
    np.testing.assert_allclose(log_q, jax.vmap(q.log_prob)(z), rtol=1e-10)
    np.testing.assert_allclose(jax.grad(q.log_prob)(q.mean), 0, atol=1e-12)  # the mode
    assert_unbiased(z, q.mean, detects_shift=0.1)
    centred = np.asarray(z) - np.asarray(q.mean)[None]
    assert_unbiased(centred[:, :, None] * centred[:, None], covariance, detects=0.2)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("estimator", [elbo_a, elbo_b, sticking_the_landing])
def test_value_and_gradient_of_the_bound(estimator, direction):
  model, flat, params = linear_model(direction)
  exact, slope = jax.value_and_grad(lambda flat: exact_bound(model, params(flat), X))(flat)
  bound = lambda flat, key: estimator(key, model, params(flat), X, num_samples=2)
  keys = jax.random.split(jax.random.key(3), 20000)
  values, slopes = jax.jit(jax.vmap(jax.value_and_grad(bound), (None, 0)))(flat, keys)
  assert_unbiased(values, exact, detects_shift=0.1)
  assert_unbiased(slopes, slope, detects=0.1)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_closed_forms_of_layers_lower_the_variance(direction):
  model, flat, params = linear_model(direction)
  q, p = model.encoder.given(params(flat).phi, X), model.prior(params(flat))
  z, log_q = jax.vmap(q.sample_with_log_prob)(jax.random.split(jax.random.key(4), 4000))
  sampled, in_part = log_q - jax.vmap(p.log_prob)(z), jax.vmap(lambda z: kl_given(q, p, z))(z)
  assert np.var(in_part) < 0.9 * np.var(sampled)
  assert_unbiased(in_part - sampled, 0.0, detects_shift=0.3)


def layer(chain, place, z):
  """Returns a layer of a chain, given the layers of z that are drawn before it."""
  return chain.eta.given[place](chain.eta.parts.drawn(z, place))


def test_from_the_top_down_every_layer_has_a_closed_form():
  model, flat, params = linear_model("top_down")
  q, p = model.encoder.given(params(flat).phi, X), model.prior(params(flat))
  with pytest.raises(UnsupportedError):
    kl_divergence(q, p)
  z = q.sample(jax.random.key(5))
  expected = sum(kl_divergence(layer(q, s, z), layer(p, s, z)) for s in range(2))
  np.testing.assert_allclose(kl_given(q, p, z), expected, rtol=1e-12)


def test_precisions_add_from_the_top_down():
  model, flat, params = linear_model("top_down")
  q, p = model.encoder.given(params(flat).phi, X), model.prior(params(flat))

  def from_x(z):
    """The Gaussian by which q(z_1|z_2, x) differs from p(z_1|z_2), by its natural parameters."""
    both, prior = layer(q, 0, z).eta, layer(p, 0, z).eta
    natural = lambda eta: (np.exp(-eta.log_var) * eta.mean, np.exp(-eta.log_var))
    return [a - b for a, b in zip(natural(both), natural(prior))]

  here, there = from_x(jnp.zeros(5)), from_x(jnp.arange(5.0))
  assert np.all(here[1] > 0)
  for a, b in zip(here, there):  # it does not depend on z
    np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_many_samples_find_log_p(direction):
  model, flat, params = linear_model(direction)
  keys, exact = jax.random.split(jax.random.key(7), 400), exact_log_p(model, params(flat), X)
  bound = lambda key: iwae(key, model, params(flat), X, num_samples=1000)
  weights = jnp.exp(jax.jit(jax.vmap(bound))(keys) - exact)  # their mean is 1
  assert_unbiased(weights, 1.0, detects_shift=0.3)


def test_annealing_finds_log_p_from_both_sides():
  """Exact draws of (x, z), so that annealing from z of the posterior gives the upper bound."""
  model, flat, params = linear_model("bottom_up")
  params = params(flat)
  exact = jax.jit(lambda x: exact_log_p(model, params, x))
  lower, upper = assert_annealing_encloses(model, params, exact, seed=11)
  assert np.mean(upper - lower) < 0.5  # nats


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_of_tighter_bounds_agree(direction):
  model, flat, params = linear_model(direction)
  slopes = {}
  for estimator in (iwae, dreg, vimco):
    keys = jax.random.split(jax.random.key(8), 20000)

    def bound(flat, key, estimator=estimator):
      return estimator(key, model, params(flat), X, num_samples=3)

    slopes[estimator] = jax.jit(jax.vmap(jax.grad(bound), (None, 0)))(flat, keys)
  for other in (dreg, vimco):
    assert_unbiased(slopes[other] - slopes[iwae], jnp.zeros(len(flat)), detects_shift=0.1)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_three_layers_of_networks(direction):
  model = hierarchical_vae(
    bernoulli(6),
    data_dim=6,
    latent_dims=(3, 2, 1),
    hidden_dims=((5, 4), (4,), (3,)),
    inference=direction,
  )
  params = init_params(jax.random.key(0), model)
  x = jnp.ones(6)
  bound = functools.partial(elbo_b, num_samples=3)
  value, slope = jax.value_and_grad(lambda p: bound(jax.random.key(1), model, p, x))(params)
  assert np.isfinite(value) and model.prior(params).mean.shape == (6,)
  assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slope))  # all networks are used


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_weighted_kl_is_the_kl_of_all_layers(direction):
  model, flat, params = linear_model(direction)
  log_p = exact_log_p(model, params(flat), X)

  def mean_of(estimator):
    keys = jax.random.split(jax.random.key(9), 20000)
    return jax.jit(jax.vmap(lambda key: estimator(key, model, params(flat), X)))(keys)

  # The bound at weight β is linear in β, with the KL of q and p as its slope.
  q, p = model.encoder.given(params(flat).phi, X), model.prior(params(flat))
  keys = jax.random.split(jax.random.key(10), 20000)
  z, log_q = jax.vmap(q.sample_with_log_prob)(keys)
  kl = np.mean(log_q - jax.vmap(p.log_prob)(z))
  exact = exact_bound(model, params(flat), X)
  assert exact < log_p
  assert_unbiased(mean_of(beta_weighted(elbo_b, 3.0)), exact - 2 * kl, detects_shift=0.5)
  scheduled = kl_warmup(elbo_b, 10).at(5)
  assert_unbiased(mean_of(scheduled), exact + 0.5 * kl, detects_shift=0.5)


def test_free_bits_take_layers_with_a_closed_form():
  model, flat, params = linear_model("top_down")
  key, x = jax.random.key(11), X
  floored = free_bits(elbo_b, 100.0)(key, model, params(flat), x)
  own, z_key = jax.random.split(jax.random.key(11))
  q, p = model.encoder.given(params(flat).phi, x), model.prior(params(flat))
  kl = kl_given(q, p, q.sample(z_key))
  expected = elbo_b(own, model, params(flat), x) + kl - 100.0 * sum(SIZES)
  np.testing.assert_allclose(floored, expected, rtol=1e-10)
  model, flat, params = linear_model("bottom_up")
  with pytest.raises(UnsupportedError, match="layer 1 has no closed-form KL.*from the top down"):
    free_bits(elbo_b, 100.0)(jax.random.key(12), model, params(flat), x)


BAD = {
  "no dimensions": (dict(latent_dims=(3, 0), hidden_dims=((), ())), "at least 1 for every layer"),
  "no layers": (dict(latent_dims=(), hidden_dims=()), "at least 1 for every layer"),
  "groups": (dict(latent_dims=(3, 2), hidden_dims=((5,),)), "hidden_dims has 1"),
  "direction": (dict(latent_dims=(3,), hidden_dims=((),), inference="up"), "one of bottom_up, top"),
}


@pytest.mark.parametrize("arguments, words", BAD.values(), ids=BAD)
def test_layers_that_do_not_fit_are_refused(arguments, words):
  with pytest.raises(ValueError, match=words):
    hierarchical_vae(bernoulli(6), data_dim=6, **arguments)
