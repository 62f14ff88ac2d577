"""M2's objective: exact where x is linear and Gaussian given its class, and by enumeration."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from aevb_jax import (
  aevb,
  elbo_a,
  elbo_b,
  evaluate,
  fit,
  iwae,
  score_function,
  sticking_the_landing,
)
from aevb_jax.estimators import is_mistaken, label_log_prob, semi_supervised_bound
from aevb_jax.families import bernoulli, gaussian
from aevb_jax.inference.exact import exact_elbo, exact_log_marginal
from aevb_jax.models import (
  fair_coins,
  given_condition,
  init_params,
  labelled_rows,
  m2_vae,
)
from aevb_jax.training.sharding import make_shardings
from aevb_jax.types import Params
from tests.support import conditional_worlds as world
from tests.support.conditional_worlds import D, J, X
from tests.support.statistics import assert_unbiased

K = world.C
CLASSES = jnp.eye(K)
MODEL, CLASSIFIER = m2_vae(gaussian(D), data_dim=D, num_classes=K, latent_dim=J, hidden_dim=())
LABELS = {"labelled": CLASSES[1], "unlabelled": jnp.zeros(K)}
ALPHA = 1.7


def draw_free(seed=0):
  """Draws the numbers of the world and those of a linear classifier."""
  keys = jax.random.split(jax.random.key(seed + 100))
  logits = {"kernel": jax.random.normal(keys[0], (D, K)), "bias": jax.random.normal(keys[1], (K,))}
  return world.draw_free(seed), logits


def params_of(free):
  params = world.params_of(free[0])
  return params._replace(phi={"encoder": params.phi, "classifier": {"head_0": free[1]}})


def log_q(free, x):
  return jax.nn.log_softmax(x @ free[1]["kernel"] + free[1]["bias"])


def exact_objective(free, x, y, alpha=0.0):
  """Computes the objective of one data point from the closed form of the bound given each class."""
  bounds = jnp.stack([world.exact_bound(free[0], x, c) for c in CLASSES]) - jnp.log(K)
  q = log_q(free, x)
  return jnp.vdot(y, bounds + alpha * q) if y.any() else jnp.vdot(jnp.exp(q), bounds - q)


def test_the_parameters_are_those_of_the_world():
  shapes = functools.partial(jax.tree.map, jnp.shape)
  assert shapes(init_params(jax.random.key(0), MODEL)) == shapes(params_of(draw_free()))


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("estimator", [elbo_a, elbo_b, sticking_the_landing])
def test_value_and_gradient(estimator, label):
  free, y = draw_free(), LABELS[label]
  exact, slope = jax.value_and_grad(exact_objective)(free, X, y, ALPHA)
  of_pair = semi_supervised_bound(estimator, CLASSIFIER, data_dim=D, alpha=ALPHA)
  pair = jnp.concatenate([X, y])
  bound = lambda free, key: of_pair(key, MODEL, params_of(free), pair, num_samples=2)
  keys = jax.random.split(jax.random.key(3), 20000)
  values, slopes = jax.jit(jax.vmap(jax.value_and_grad(bound), (None, 0)))(free, keys)
  assert_unbiased(values, exact, detects_shift=0.15)
  for found, expected in zip(jax.tree.leaves(slopes), jax.tree.leaves(slope)):
    assert_unbiased(found, expected, detects=0.2)


@pytest.mark.parametrize("label", LABELS)
def test_a_score_function_and_binary_latents(label):
  """No draw of z is reparameterized; z and y are both enumerated for the exact value."""
  dims = dict(data_dim=D, num_classes=K, latent_dim=2, hidden_dim=3)
  model, classifier = m2_vae(bernoulli(D), posterior=bernoulli, prior=fair_coins, **dims)
  params = jax.tree.map(lambda w: 1.5 * w + 0.1, init_params(jax.random.key(5), model))
  x, y = jnp.array([1.0, 0.0, 1.0, 1.0]), LABELS[label]

  def exact(params):
    of_class = lambda c: exact_elbo(given_condition(model, c), params, x) - jnp.log(K)
    bounds, q = jax.vmap(of_class)(CLASSES), classifier.given(params.phi, x).mean
    return jnp.vdot(y, bounds) if y.any() else jnp.vdot(q, bounds - jnp.log(q))

  value, slope = jax.value_and_grad(exact)(params)
  of_pair = semi_supervised_bound(score_function, classifier, data_dim=D)
  bound = lambda params, key: of_pair(key, model, params, jnp.concatenate([x, y]), num_samples=2)
  keys = jax.random.split(jax.random.key(6), 20000)
  values, slopes = jax.jit(jax.vmap(jax.value_and_grad(bound), (None, 0)))(params, keys)
  assert_unbiased(values, value, detects_shift=0.1)
  rows = lambda tree: np.concatenate([np.reshape(a, (20000, -1)) for a in jax.tree.leaves(tree)], 1)
  flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(slope)])
  assert_unbiased(rows(slopes), flat, detects=0.2)


def exact_posterior():
  """Makes a model of one latent whose q(z|x, y) and q(y|x) are its exact posteriors.

  Returns:
    The model, the classifier, Params, and the means (K, D) and the covariance of x given y.
  """
  free, variance = world.draw_free(7, scale=0.8), 0.4
  w, means = free["w"][:1], free["w_c"] + free["b"][None]
  covariance = w.T @ w + variance * jnp.eye(D)
  precision = 1 + jnp.vdot(w, w) / variance
  v = w.T / (variance * precision)  # z given x and y is N((x − mean of y) v, 1 / precision)
  flat = jnp.zeros((1, D)), jnp.zeros((K, D)), jnp.full(D, jnp.log(variance))
  theta = world.heads((w, means, jnp.zeros(D)), flat)
  flat = jnp.zeros((D, 1)), jnp.zeros((K, 1)), -jnp.log(precision)[None]
  encoder = world.heads((v, -means @ v, jnp.zeros(1)), flat)
  slopes = jnp.linalg.solve(covariance, means.T)  # log p(y|x) is linear in x: one covariance
  logits = {"kernel": slopes, "bias": -0.5 * jnp.sum(means.T * slopes, axis=0)}
  dims = dict(data_dim=D, num_classes=K, latent_dim=1, hidden_dim=())
  phi = {"encoder": encoder, "classifier": {"head_0": logits}}
  return *m2_vae(gaussian(D), **dims), Params(theta, phi), means, covariance


@pytest.mark.parametrize("estimator", [elbo_a, functools.partial(iwae, num_samples=3)])
def test_at_the_exact_posterior_every_draw_is_log_p(estimator):
  model, classifier, params, means, covariance = exact_posterior()
  of_pair = semi_supervised_bound(estimator, classifier, data_dim=D)
  log_p = [scipy.stats.multivariate_normal.logpdf(X, m, covariance) - np.log(K) for m in means]
  assert np.ptp(log_p) > 0.5
  expected = [*log_p, scipy.special.logsumexp(log_p)]
  for key, y, exact in zip(jax.random.split(jax.random.key(1), 4), [*CLASSES, 0 * X[:K]], expected):
    value = of_pair(key, model, params, jnp.concatenate([X, y]))
    np.testing.assert_allclose(value, exact, rtol=1e-9)


def test_the_bound_is_never_above_log_p():
  """The gap is KL(q(y, z|x) ‖ p(y, z|x)), here of tanh networks, by quadrature over z."""
  dims = dict(data_dim=D, num_classes=K, latent_dim=1, hidden_dim=4)
  model, classifier = m2_vae(bernoulli(D), **dims)
  exact = lambda key, model, params, x: exact_elbo(model, params, x)
  of_pair = jax.jit(
    lambda params, x: semi_supervised_bound(exact, classifier, data_dim=D)(
      jax.random.key(0), model, params, jnp.concatenate([x, jnp.zeros(K)])
    )
  )
  log_p_of = jax.jit(
    lambda params, x, c: exact_log_marginal(given_condition(model, c), params, x) - jnp.log(K)
  )
  gaps = []
  for key in jax.random.split(jax.random.key(2), 20):
    init_key, scale_key, x_key = jax.random.split(key, 3)
    scale = jax.random.uniform(scale_key, (), minval=0.1, maxval=3.0)
    params = jax.tree.map(functools.partial(jnp.multiply, scale), init_params(init_key, model))
    x = jax.random.bernoulli(x_key, 0.5, (D,)).astype(float)
    log_p = scipy.special.logsumexp([log_p_of(params, x, c) for c in CLASSES])
    gaps.append(log_p - of_pair(params, x))
  assert np.min(gaps) > -1e-6 and np.max(gaps) > 0.1


def affine_elbo(key, model, params, x):
  """Computes the bound in closed form for a model whose p(x|z) has a mean affine in z."""
  del key
  q, origin = model.encoder.given(params.phi, x).eta, jnp.zeros(J)
  mean_of = lambda z: model.decoder.given(params.theta, z).eta.mean
  log_var, slopes = model.decoder.given(params.theta, origin).eta.log_var, jax.jacobian(mean_of)
  square = (x - mean_of(q.mean)) ** 2 + slopes(origin) ** 2 @ jnp.exp(q.log_var)
  log_p = -0.5 * jnp.sum(jnp.log(2 * jnp.pi) + log_var + square * jnp.exp(-log_var))
  return log_p + 0.5 * jnp.sum(1 + q.log_var - q.mean**2 - jnp.exp(q.log_var))


def small_data():
  """Makes 5 labelled and 8 unlabelled data points."""
  x = np.random.default_rng(0).normal(size=(13, D))
  labels = np.full(13, -1)
  labels[[0, 3, 4, 9, 12]] = [2, 0, 1, 1, 0]
  return x, labels


@pytest.mark.parametrize("copies", [1, 3])
def test_an_epoch_has_the_objective_of_the_paper(copies):
  """The mean over an epoch of minibatches is exact, and does not depend on `copies`."""
  x, labels = small_data()
  free = draw_free()
  params, known = params_of(free), labels >= 0
  whole = sum(exact_objective(free, x[i], CLASSES[labels[i]]) for i in np.flatnonzero(known))
  whole += sum(exact_objective(free, x[i], jnp.zeros(K)) for i in np.flatnonzero(~known))
  # α in the paper is 0.1 N, and multiplies the mean of log q(y|x) over labelled data.
  of_labels = np.array([log_q(free, x[i])[labels[i]] for i in np.flatnonzero(known)])
  whole += 0.1 * 13 * np.mean(of_labels)

  rows = labelled_rows(x, labels, num_classes=K, copies=copies)
  assert rows.shape == (8 + 5 * copies, D + K)
  estimator = semi_supervised_bound(
    affine_elbo, CLASSIFIER, data_dim=D, alpha=0.1 * 13 / 5, copies=copies
  )
  still = aevb(MODEL, estimator, optax.sgd(0.0), num_data=len(rows), init=lambda *_: params)
  size = {1: 1, 3: 23}[copies]  # minibatches of 1 and of all
  _, metrics = fit(
    still,
    still.init(jax.random.key(0)),
    jax.random.key(1),
    jnp.asarray(rows),
    batch_size=size,
    num_steps=len(rows) // size,
  )
  np.testing.assert_allclose(np.mean(metrics["bound"]) * len(rows), whole, rtol=1e-9)


def test_eight_devices_learn_what_one_learns():
  x, labels = small_data()
  rows = jnp.asarray(labelled_rows(x, labels, num_classes=K, copies=2))
  estimator = semi_supervised_bound(elbo_b, CLASSIFIER, data_dim=D, alpha=1.0, copies=2)
  algorithm = aevb(MODEL, estimator, optax.adam(1e-2), num_data=len(rows))
  how = dict(batch_size=16, num_steps=3)
  states = []
  for sharding in (None, make_shardings(jax.devices()[:8])):
    state, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
    if sharding:
      state = jax.device_put(state, sharding.replicated)
    states.append(fit(algorithm, state, key, rows, sharding=sharding and sharding.minibatch, **how))
  for a, b in zip(jax.tree.leaves(states[0][0].params), jax.tree.leaves(states[1][0].params)):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)


def clusters(number, seed):
  """Draws x of three classes, each a line of 4 dimensions, the lines 2.5 apart."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, K, number)
  along = rng.normal(size=(number, 1)) * np.array([[0.0, 0.0, 0.0, 3.0]])
  means = np.eye(K, D)[labels] * 2.5
  return means + along + 0.4 * rng.normal(size=(number, D)), labels


def mistakes(classifier, params, x, labels):
  rows = labelled_rows(x, labels, num_classes=K)
  function = lambda key, params, xy: is_mistaken(classifier, params, xy, data_dim=D)
  return float(np.mean(evaluate(function, jax.random.key(9), params, jnp.asarray(rows))))


def test_unlabelled_data_help_to_classify():
  """One label for each class does not show where the classes are; the unlabelled data do."""
  (x, labels), (test_x, test_labels) = clusters(600, 0), clusters(1000, 1)
  few = np.full(600, -1)
  for k in range(K):
    few[np.flatnonzero(labels == k)[0]] = k
  errors = {}
  for name in ("labels only", "m2"):
    dims = dict(data_dim=D, num_classes=K, latent_dim=1, hidden_dim=())
    small = nn.initializers.normal(0.01)
    model, classifier = m2_vae(gaussian(D), kernel_init=small, **dims)
    if name == "m2":
      rows = labelled_rows(x, few, num_classes=K, copies=20)
      how = dict(data_dim=D, alpha=0.1 * 600 / 3, copies=20)
      estimator = semi_supervised_bound(elbo_b, classifier, **how)
    else:
      rows = labelled_rows(x[few >= 0], few[few >= 0], num_classes=K)
      estimator = label_log_prob(classifier, data_dim=D)
    algorithm = aevb(model, estimator, optax.adam(0.02), num_data=len(rows))
    state, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
    size = min(60, len(rows))
    state, _ = fit(algorithm, state, key, jnp.asarray(rows), batch_size=size, num_steps=1000)
    errors[name] = mistakes(classifier, state.params, test_x, test_labels)
  assert errors["m2"] < 0.02 and errors["labels only"] > 0.1, errors


def test_label_log_prob_is_0_without_a_label():
  free, log_prob = draw_free(), label_log_prob(CLASSIFIER, data_dim=D)
  of_pair = lambda y: log_prob(None, MODEL, params_of(free), jnp.concatenate([X, y]))
  np.testing.assert_allclose(of_pair(CLASSES[2]), log_q(free, X)[2], rtol=1e-12)
  assert of_pair(jnp.zeros(K)) == 0


@pytest.mark.parametrize("numbers", [dict(alpha=-1.0), dict(alpha=np.nan), dict(copies=0)])
def test_weights_that_are_none_are_refused(numbers):
  with pytest.raises(ValueError, match="expected at least 0 and at least 1"):
    semi_supervised_bound(elbo_b, CLASSIFIER, data_dim=D, **numbers)


def test_a_data_point_without_classes_is_refused():
  of_pair = semi_supervised_bound(elbo_b, CLASSIFIER, data_dim=D)
  with pytest.raises(ValueError, match="has 4 numbers, expected 4 and one for each class"):
    of_pair(jax.random.key(0), MODEL, params_of(draw_free()), X)
