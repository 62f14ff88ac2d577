"""Conditional models: exact where everything is linear and Gaussian given the condition."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import aevb, data, elbo_a, elbo_b, evaluate, fit, iwae, sticking_the_landing
from aevb_jax.estimators import conditioned
from aevb_jax.families import bernoulli, gaussian, one_hot
from aevb_jax.inference.exact import exact_elbo, exact_log_marginal
from aevb_jax.models import (
  MLP,
  conditional,
  conditional_vae,
  given_condition,
  init_params,
  of_pairs,
  one_hot_labels,
)
from aevb_jax.models.conditions import ConditionedMLP
from tests.support import conditional_worlds as world
from tests.support.conditional_worlds import SHAPES, C, D, J, X
from tests.support.oracles import assert_annealing_encloses
from tests.support.statistics import assert_greater, assert_unbiased

MODEL = conditional_vae(gaussian(D), data_dim=D, condition_dim=C, latent_dim=J, hidden_dim=())
CONDITION = jnp.array([0.5, -1.0, 2.0])  # any vector, not only a class


def test_the_parameters_are_those_of_the_world():
  free = world.draw_free()
  shapes = functools.partial(jax.tree.map, jnp.shape)
  assert shapes(init_params(jax.random.key(0), MODEL)) == shapes(world.params_of(free))
  assert set(free) == set(SHAPES)


@pytest.mark.parametrize("hidden_dim", [(), (7,), (7, 5)])
def test_the_network_is_an_mlp_of_the_vector_of_both(hidden_dim):
  """Also `of_pairs`, which makes such a conditional of any network of the vector (x, c)."""
  pair, family = (X, CONDITION), gaussian(J)
  options = dict(kernel_init=nn.initializers.normal(0.3), bias_init=nn.initializers.normal(0.1))
  parts = conditional(ConditionedMLP(hidden_dim, family.sizes, size=D, **options), family, D + C)
  params = parts.init(jax.random.key(0))
  joined = {
    name: own | {"kernel": jnp.concatenate([own["kernel"], params[f"{name}_condition"]])}
    if f"{name}_condition" in params
    else own
    for name, own in params.items()
    if not name.endswith("_condition")
  }
  whole = of_pairs(conditional(MLP(hidden_dim, family.sizes), family, D + C))
  expected, found = whole.given(joined, pair), parts.given(params, pair)
  np.testing.assert_allclose(found.eta.mean, expected.eta.mean, rtol=1e-12)
  np.testing.assert_allclose(found.eta.log_var, expected.eta.log_var, rtol=1e-12)
  assert np.ptp(found.eta.mean) > 0.01
  np.testing.assert_array_equal(parts.given(params, jnp.concatenate(pair)).mean, found.mean)


@pytest.mark.parametrize("hidden_dim", [(), (7,)])
def test_the_product_of_x_is_computed_once_for_all_classes(hidden_dim):
  x, dims = jnp.ones(11), dict(data_dim=11, condition_dim=C, latent_dim=J)
  model = conditional_vae(gaussian(11), hidden_dim=hidden_dim, **dims)
  params = init_params(jax.random.key(0), model)
  of_class = lambda c: given_condition(model, c).encoder.given(params.phi, x).mean
  traced = jax.make_jaxpr(jax.vmap(of_class))(jnp.eye(C))
  rows = [e.invars[0].aval.shape for e in traced.eqns if e.primitive.name == "product"]
  assert (1, 11) in rows and (C, C) in rows  # x has no axis of classes, c has
  assert all(shape[-1] != 11 for shape in rows if shape != (1, 11))


@pytest.mark.parametrize("estimator", [elbo_a, elbo_b, sticking_the_landing])
def test_value_and_gradient_of_the_bound(estimator):
  free, pair = world.draw_free(), jnp.concatenate([X, CONDITION])
  exact, slope = jax.value_and_grad(world.exact_bound)(free, X, CONDITION)
  of_pair = conditioned(estimator, data_dim=D)
  bound = lambda f, key: of_pair(key, MODEL, world.params_of(f), pair, num_samples=2)
  keys = jax.random.split(jax.random.key(3), 20000)
  values, slopes = jax.jit(jax.vmap(jax.value_and_grad(bound), (None, 0)))(free, keys)
  assert_unbiased(values, exact, detects_shift=0.1)
  for name in SHAPES:
    assert_unbiased(slopes[name], slope[name], detects=0.15)


def test_importance_weights_find_log_p_given_c():
  free = world.draw_free()
  model, params = given_condition(MODEL, CONDITION), world.params_of(free)
  bound = lambda key: iwae(key, model, params, X, num_samples=50)
  log_p = jax.jit(jax.vmap(bound))(jax.random.split(jax.random.key(4), 4000))
  exact = world.exact_log_p(free, X, CONDITION)
  assert_unbiased(jnp.exp(log_p - exact), 1.0, detects_shift=0.1)
  assert abs(exact - world.exact_log_p(free, X, 0 * CONDITION)) > 0.5  # it depends on c


def test_annealing_finds_log_p_given_c_from_both_sides():
  free = world.draw_free()
  model, params = given_condition(MODEL, CONDITION), world.params_of(free)
  exact = lambda x: world.exact_log_p(free, x, CONDITION)
  lower, upper = assert_annealing_encloses(model, params, exact, seed=5)
  assert np.mean(upper - lower) < 0.5  # nats


def test_a_classifier_with_latents():
  """p(y|x, z) and q(z|x, y): the label is the data, and x the condition."""
  K, x = 3, jnp.array([1.0, -0.5, 0.2, 0.0])
  model = conditional_vae(one_hot(K), data_dim=K, condition_dim=4, latent_dim=1, hidden_dim=5)
  params = jax.tree.map(lambda w: 1.5 * w + 0.1, init_params(jax.random.key(1), model))
  of_x = given_condition(model, x)
  log_p = np.array([exact_log_marginal(of_x, params, y) for y in jnp.eye(K)])
  np.testing.assert_allclose(np.sum(np.exp(log_p)), 1, rtol=1e-6)
  assert np.ptp(log_p) > 0.1
  y, keys = jnp.eye(K)[1], jax.random.split(jax.random.key(2), 20000)
  exact = exact_elbo(of_x, params, y)
  values = jax.jit(jax.vmap(lambda key: elbo_b(key, of_x, params, y)))(keys)
  assert_unbiased(values, exact, detects_shift=0.1)
  assert exact < log_p[1]


def test_training_takes_pairs_of_pixels_and_labels():
  """One pixel is on in each image, as the label says; z cannot know it from p(z)."""
  labels = np.arange(200) % 3
  rows = np.concatenate([255 * np.eye(3)[labels], one_hot_labels(labels, 3)], axis=1)
  rows, preprocess = rows.astype(np.uint8), data.beside(data.binarize, 3)
  model = conditional_vae(bernoulli(3), data_dim=3, condition_dim=3, latent_dim=1, hidden_dim=8)
  estimator = conditioned(elbo_b, data_dim=3)
  algorithm = aevb(model, estimator, optax.adam(0.03), num_data=len(rows))
  state, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
  how = dict(batch_size=50, num_steps=400, preprocess=preprocess)
  state, _ = fit(algorithm, state, key, jnp.asarray(rows), **how)
  bound = lambda key, params, pair: estimator(key, model, params, pair)
  wrong = np.concatenate([rows[:, :3], np.roll(rows[:, 3:], 1, axis=1)], axis=1)
  with_right, with_wrong = (
    evaluate(bound, jax.random.key(2), state.params, jnp.asarray(r), preprocess=preprocess)
    for r in (rows, wrong)
  )
  assert np.mean(with_right) > -0.2  # log p(x) is 0 with the label, −log 3 without
  assert_greater(with_right, with_wrong + 2.0)


def test_labels_are_rows():
  expected = [[0, 1, 0], [0, 0, 0], [0, 0, 1]]
  found = one_hot_labels([1, -1, 2], 3, missing=True)
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == np.uint8


BAD = {
  "no labels": (None, "the data set has no labels"),
  "too large": ([0, 3], "label 3 of example 1 is out of range: 3 classes take 0 to 2"),
  "missing": ([-1, 0], "label -1 of example 0 is out of range: 3 classes take 0 to 2"),
  "fractions": ([0.5], "of shape .1,. and type float64, expected whole numbers"),
  "a table": ([[0], [1]], "of shape .2, 1. and type int"),
}


@pytest.mark.parametrize("labels, words", BAD.values(), ids=BAD)
def test_labels_that_are_none_are_refused(labels, words):
  with pytest.raises(ValueError, match=words) as raised:
    one_hot_labels(labels, 3)
  assert "\n" not in str(raised.value)


def test_below_missing_is_refused():
  with pytest.raises(ValueError, match="label -2 of example 0 .* take -1 for none, or 0 to 2"):
    one_hot_labels([-2], 3, missing=True)
