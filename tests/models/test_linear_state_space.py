"""The linear-Gaussian state-space model: closed forms compared with the dense joint Gaussian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aevb_jax import Params, elbo_a, elbo_b, simulate
from aevb_jax.estimators.importance import iwae
from aevb_jax.estimators.sgvb import sticking_the_landing
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.families.markov import independent_steps
from aevb_jax.inference.annealing import annealed_importance_sampling
from aevb_jax.inference.evidence import observed
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.inference.reciprocal import reciprocal_importance_sampling
from aevb_jax.models.joint import log_joint
from aevb_jax.models.linear_state_space import (
  kalman_filter,
  linear_state_space_vae,
  log_marginal,
  posterior,
  smoother,
)
from tests.support.oracles import assert_annealing_encloses, exact_bound, precision
from tests.support.statistics import assert_errors_are_right, assert_unbiased

T, D, J = 4, 3, 2
MODEL = linear_state_space_vae(T, D, J)


def some(key, like, scale=0.4):
  """Draws a tree of numbers of the shapes of another."""
  leaves, structure = jax.tree.flatten(like)
  keys = jax.random.split(key, len(leaves))
  return jax.tree.unflatten(
    structure, [scale * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves)]
  )


THETA = some(jax.random.key(1), MODEL.decoder.init(jax.random.key(0)))
PHI = jax.tree.map(jnp.add, THETA, some(jax.random.key(10), THETA, 0.15))
PARAMS = Params(THETA, PHI)
EXACT = Params(THETA, THETA)  # q(z|x) is p(z|x)
X = simulate(jax.random.key(2), MODEL, PARAMS)[1]
exact_value_and_slope = jax.jit(jax.value_and_grad(lambda params: exact_bound(MODEL, params, X)))


def joint(theta, num_steps=T):
  """Returns the mean and the covariance of (z, x) by the definition of the model, step by step."""
  matrix = lambda of: (np.asarray(theta[of]["mean"][n]) for n in ("kernel", "bias"))
  (a, b), (c, d) = matrix("prior"), matrix("decoder")
  f, q, r = np.eye(J) + a, *(np.diag(np.exp(theta[of]["log_var"])) for of in ("prior", "decoder"))
  # All of (z, x) is mean + noise @ root, with the noises of z_1 … z_T and of x_1 … x_T.
  n = num_steps * (J + D)
  mean, root = np.zeros(n), np.zeros((n, n))
  for t in range(num_steps):
    now, before = slice(t * J, (t + 1) * J), slice((t - 1) * J, t * J)
    frame = slice(num_steps * J + t * D, num_steps * J + (t + 1) * D)
    if t > 0:
      mean[now], root[:, now] = mean[before] @ f + b, root[:, before] @ f
    root[now, now] = np.sqrt(q) if t > 0 else np.eye(J)
    mean[frame], root[:, frame] = mean[now] @ c + d, root[:, now] @ c
    root[frame, frame] = np.sqrt(r)
  return mean, root.T @ root


def conditioned(theta, x):
  """Returns the mean and the covariance of z given x."""
  mean, cov = joint(theta)
  z, of_x = slice(0, T * J), slice(T * J, None)
  gain = np.linalg.solve(cov[of_x, of_x], cov[of_x, z])
  return mean[z] + (x - mean[of_x]) @ gain, cov[z, z] - cov[z, of_x] @ gain


def test_joint_density_is_that_of_the_dense_gaussian():
  z, x = simulate(jax.random.key(3), MODEL, PARAMS)
  mean, cov = joint(THETA)
  expected = scipy.stats.multivariate_normal(mean, cov).logpdf(np.concatenate([z, x]))
  np.testing.assert_allclose(log_joint(MODEL, PARAMS, x, z), expected, rtol=1e-10)


@pytest.mark.parametrize("num_steps", [1, 2, T])
def test_filter_finds_log_p(num_steps):
  mean, cov = (part[..., num_steps * J :] for part in joint(THETA, num_steps))
  x = X[: num_steps * D]
  exact = scipy.stats.multivariate_normal(mean, cov[num_steps * J :]).logpdf(x)
  np.testing.assert_allclose(log_marginal(THETA, x, num_steps), exact, rtol=1e-10)


def test_smoother_is_the_joint_gaussian_conditioned_on_x():
  mean, cov = smoother(THETA, X, T)
  exact_mean, exact_cov = conditioned(THETA, np.asarray(X))
  np.testing.assert_allclose(mean.ravel(), exact_mean, rtol=1e-9, atol=1e-12)
  for t in range(T):
    now = slice(t * J, (t + 1) * J)
    np.testing.assert_allclose(cov[t], exact_cov[now, now], rtol=1e-9, atol=1e-12)
  filtered = kalman_filter(THETA, X, T)
  np.testing.assert_allclose(mean[-1], filtered.mean[-1])  # the last step has no later frames
  assert np.max(np.abs(mean[0] - filtered.mean[0])) > 0.01


def test_posterior_is_a_markov_chain():
  q = posterior(THETA, X, T)
  exact_mean, exact_cov = conditioned(THETA, np.asarray(X))
  np.testing.assert_allclose(q.mean, exact_mean, rtol=1e-9, atol=1e-12)
  z, log_q = jax.vmap(q.sample_with_log_prob)(jax.random.split(jax.random.key(4), 20000))
  exact = scipy.stats.multivariate_normal(exact_mean, exact_cov).logpdf(z)
  np.testing.assert_allclose(log_q, exact, rtol=1e-9, atol=1e-9)
  np.testing.assert_allclose(jax.vmap(q.log_prob)(z), exact, rtol=1e-9, atol=1e-9)
  centred = np.asarray(z) - exact_mean[None]
  assert_unbiased(centred, np.zeros(T * J), detects_shift=0.05)
  assert_unbiased(centred[:, :, None] * centred[:, None], exact_cov, detects=0.1)


@pytest.mark.parametrize("estimator", [elbo_a, sticking_the_landing, iwae])
def test_at_the_posterior_every_bound_is_log_p(estimator):
  bound = lambda params, key: estimator(key, MODEL, params, X, num_samples=2)
  value, slope = jax.jit(jax.value_and_grad(bound))(EXACT, jax.random.key(5))
  exact, of_theta = jax.value_and_grad(log_marginal)(THETA, X, T)
  np.testing.assert_allclose(value, exact, rtol=1e-10)
  if estimator is sticking_the_landing:  # its gradient has no score of q
    assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(slope.phi)) < 1e-10
  assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(of_theta)) > 0.1


def test_best_bound_of_structured_inference_is_log_p():
  exact, (bound, slope) = log_marginal(THETA, X, T), exact_value_and_slope(EXACT)
  np.testing.assert_allclose(bound, exact, rtol=1e-10)
  assert exact_value_and_slope(PARAMS)[0] < exact - 0.1
  for leaf in jax.tree.leaves(slope.phi):
    np.testing.assert_allclose(leaf, 0, atol=1e-9)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9),
    slope.theta,
    jax.grad(log_marginal)(THETA, X, T),
  )


def test_best_mean_field_bound():
  """The best q(z|x) = Π q(z_t|x) has the posterior's means and the inverses of its precisions."""
  _, cov = conditioned(THETA, np.asarray(X))
  root = np.linalg.inv(cov)
  mean, _ = smoother(THETA, X, T)
  log_var = -np.log(np.diag(root)).reshape(T, J)
  q = lambda phi, x: independent_steps(gaussian(J), DiagonalGaussian(*phi))
  model = MODEL._replace(encoder=MODEL.encoder._replace(given=q))
  params = Params(THETA, (mean, jnp.asarray(log_var)))
  gap = 0.5 * (np.sum(np.log(np.diag(root))) - np.linalg.slogdet(root)[1])
  expected = log_marginal(THETA, X, T) - gap
  np.testing.assert_allclose(exact_bound(model, params, X), expected, rtol=1e-9)
  assert gap > 0.1
  keys = jax.random.split(jax.random.key(6), 4000)
  values = jax.vmap(lambda key: elbo_b(key, model, params, X))(keys)
  assert_unbiased(values, expected, detects_shift=0.2)


def test_bound_of_another_posterior():
  exact, slope = exact_value_and_slope(PARAMS)
  flat, unravel = jax.flatten_util.ravel_pytree(PARAMS)
  bound = lambda flat, key: elbo_b(key, MODEL, unravel(flat), X)
  keys = jax.random.split(jax.random.key(7), 20000)
  values, slopes = jax.jit(jax.vmap(jax.value_and_grad(bound), (None, 0)))(flat, keys)
  assert_unbiased(values, exact, detects_shift=0.1)
  assert_unbiased(slopes, jax.flatten_util.ravel_pytree(slope)[0], detects=0.1)


def test_annealing_from_both_sides():
  model = linear_state_space_vae(3, 2, 1)
  params = Params(some(jax.random.key(1), model.decoder.init(jax.random.key(0))), ())
  exact = jax.jit(lambda x: log_marginal(params.theta, x, 3))
  assert_annealing_encloses(model, params, exact, seed=8)


def estimates(estimate, model, params, num_steps, n=400, seed=11):
  """Returns estimates for n sequences drawn from a model, and the log p(x) of its filter."""
  simulated = jax.vmap(lambda key: simulate(key, model, params)[1])
  x = simulated(jax.random.split(jax.random.key(seed), n))
  keys = jax.random.split(jax.random.key(seed + 1), n)
  of_all = jax.jit(lambda keys, x: jax.lax.map(lambda a: estimate(*a), (keys, x), batch_size=50))
  return of_all(keys, x), jax.vmap(lambda x: log_marginal(params.theta, x, num_steps))(x)


def test_importance_sampling_agrees_with_the_filter():
  """q(z|x) has the posterior's means and twice its covariances, so that weights have a variance."""

  def wide(phi, x):
    q = posterior(phi, x, T)
    spread = lambda z: q.mean + jnp.sqrt(2.0) * (z - q.mean)
    shrink = lambda z: q.mean + (z - q.mean) / jnp.sqrt(2.0)
    log_prob = lambda z: q.log_prob(shrink(z)) - 0.5 * T * J * jnp.log(2.0)

    def sample_with_log_prob(key):
      z = spread(q.sample(key))
      return z, log_prob(z)

    return q._replace(
      sample=lambda key: spread(q.sample(key)),
      sample_with_log_prob=sample_with_log_prob,
      log_prob=log_prob,
    )

  model = MODEL._replace(encoder=MODEL.encoder._replace(given=wide))
  of_squares = 2 * precision(functools.partial(log_joint, model, EXACT, X), jnp.zeros(T * J))
  of_squares -= precision(wide(THETA, X).log_prob, jnp.zeros(T * J))
  assert np.all(np.linalg.eigvalsh(of_squares) > 0)  # w has a variance under q
  estimate = lambda key, x: importance_sampling(key, model, EXACT, x, num_samples=1000)
  found, log_p = estimates(estimate, model, EXACT, T)
  assert_unbiased(np.exp(found.value - log_p), 1.0, detects=0.02)
  assert_errors_are_right(found.value - log_p, found.standard_error)


def test_annealing_agrees_with_the_filter():
  model = linear_state_space_vae(3, 2, 1)
  params = Params(some(jax.random.key(1), model.decoder.init(jax.random.key(0))), ())
  how = dict(num_temperatures=40, num_leapfrogs=4, num_chains=16)
  estimate = lambda key, x: annealed_importance_sampling(key, model, params, x, **how)
  found, log_p = estimates(estimate, model, params, 3)
  assert_unbiased(np.exp(found.value - log_p), 1.0, detects=0.05)
  assert_errors_are_right(found.value - log_p, found.standard_error)


def test_reciprocal_agrees_with_the_filter():
  model = linear_state_space_vae(3, 2, 1)
  params = Params(some(jax.random.key(1), model.decoder.init(jax.random.key(0))), ())
  how = dict(num_samples=25, num_chains=8, num_temperatures=30, num_warmup=50)
  estimate = lambda key, x: reciprocal_importance_sampling(key, model, params, x, **how)
  found, log_p = estimates(estimate, model, params, 3)
  assert_unbiased(np.exp(log_p - found.value), 1.0, detects=0.05)


def test_evidence_of_some_frames_and_pixels():
  """The second frame and a pixel of the last are unknown: p(y) is a marginal of the Gaussian."""
  mask = jnp.ones(T * D, bool).at[D : 2 * D].set(False).at[-1].set(False)
  evidence = observed(jnp.where(mask, X, jnp.nan), mask)
  mean, cov = (part[..., T * J :] for part in joint(THETA))
  known = np.flatnonzero(mask)
  marginal = scipy.stats.multivariate_normal(mean[known], cov[T * J :][np.ix_(known, known)])
  prior = MODEL.prior(PARAMS)
  log_w = lambda key: evidence.log_prob(MODEL.decoder.given(THETA, prior.sample(key)))
  log_w = jax.jit(jax.vmap(log_w))(jax.random.split(jax.random.key(13), 40000))
  assert_unbiased(np.exp(log_w - marginal.logpdf(X[known])), 1.0, detects=0.2)


def test_sequences_that_do_not_fit_are_refused():
  for call in (log_marginal, smoother, posterior):
    with pytest.raises(ValueError, match=r"shape \(11,\), expected \(12,\): 4 frames of 3 numbers"):
      call(THETA, X[:-1], T)
  with pytest.raises(ValueError, match="num_steps is 0, expected at least 1"):
    linear_state_space_vae(0, D, J)


def test_precision_of_the_prior_is_that_of_the_chain():
  p = MODEL.prior(PARAMS)
  cov = joint(THETA)[1][: T * J, : T * J]
  np.testing.assert_allclose(precision(p.log_prob, p.mean), np.linalg.inv(cov), atol=1e-9)
