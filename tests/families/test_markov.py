"""Markov chains: draws, densities and KL divergences compared with loops over the steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.surrogate import freeze
from aevb_jax.families.base import distribution, holding
from aevb_jax.families.binary import Bernoulli, bernoulli
from aevb_jax.families.chains import kl_given
from aevb_jax.families.composition import Gamma, gamma
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.families.kl import kl_divergence
from aevb_jax.families.markov import Markov, independent_steps, markov
from tests.support.statistics import assert_unbiased

T, J = 4, 2
RNG = np.random.default_rng(0)
W, INPUTS = jnp.asarray(RNG.normal(size=(J, J))), jnp.asarray(RNG.normal(size=(T, J)))


def gaussian_step(w, before, of_step):
  mean = jnp.tanh(before @ w) + of_step
  return distribution(gaussian(J), DiagonalGaussian(mean, 0.3 * before - 0.5))


def gamma_step(w, before, of_step):
  shape = jnp.exp(0.2 * (before @ w) + of_step)
  return distribution(gamma(J), Gamma(shape, 1 + before))


def coin_step(w, before, of_step):
  return distribution(bernoulli(J), Bernoulli(before @ w + of_step))


STEPS = {"gaussian": gaussian_step, "gamma": gamma_step, "coins": coin_step}
DENSITIES = {
  "gaussian": lambda eta, z: scipy.stats.norm(eta.mean, np.exp(eta.log_var / 2)).logpdf(z),
  "gamma": lambda eta, z: scipy.stats.gamma(eta.shape, scale=1 / eta.rate).logpdf(z),
  "coins": lambda eta, z: scipy.stats.bernoulli(jax.nn.sigmoid(eta.logits)).logpmf(z),
}


def make(name, w=W, inputs=INPUTS, start=None):
  start = jnp.full(J, 0.5) if start is None else start
  return markov(Markov(holding(STEPS[name], w), inputs, start))


@pytest.mark.parametrize("name", STEPS)
def test_density_is_the_product_over_the_steps(name):
  q, key = make(name), jax.random.key(0)
  z, log_q = q.sample_with_log_prob(key)
  assert z.shape == q.mean.shape == (T * J,)
  expected, before = 0.0, jnp.full(J, 0.5)
  for of_step, z_t in zip(INPUTS, z.reshape(T, J)):
    expected += np.sum(DENSITIES[name](STEPS[name](W, before, of_step).eta, z_t))
    before = z_t
  np.testing.assert_allclose([log_q, q.log_prob(z)], expected, rtol=1e-10)
  np.testing.assert_allclose(q.sample(jax.random.clone(key)), z, rtol=1e-12)


def test_draws_follow_the_step_before():
  w = jnp.array([[0.9, 0.0], [0.4, -0.6]])
  step = lambda w, z, shift: distribution(
    gaussian(J), DiagonalGaussian(z @ w + shift, jnp.zeros(J))
  )
  q = markov(Markov(holding(step, w), INPUTS, jnp.ones(J)))
  mean, cov, means, covs = np.ones(J), np.zeros((J, J)), [], []
  for shift in np.asarray(INPUTS):
    mean, cov = mean @ w + shift, w.T @ cov @ w + np.eye(J)
    means.append(mean)
    covs.append(cov)
  np.testing.assert_allclose(q.mean, np.ravel(means), rtol=1e-10)  # the means are linear
  z = jax.vmap(q.sample)(jax.random.split(jax.random.key(1), 20000))
  assert_unbiased(z, q.mean, detects_shift=0.1)
  centred = (np.asarray(z) - np.asarray(q.mean)[None]).reshape(-1, T, J)
  products = centred[..., None] * centred[:, :, None]  # within each step
  assert_unbiased(products, covs, detects=0.1)
  lagged = centred[:, :-1, :, None] * centred[:, 1:, None]  # of each step and the next
  assert_unbiased(lagged, [c @ np.asarray(w) for c in covs[:-1]], detects=0.2)


def test_independent_steps_are_a_product():
  etas = DiagonalGaussian(INPUTS, 0.1 * INPUTS)
  q = independent_steps(gaussian(J), etas)
  whole = distribution(gaussian(T * J), DiagonalGaussian(INPUTS.ravel(), 0.1 * INPUTS.ravel()))
  z, log_q = q.sample_with_log_prob(jax.random.key(2))
  np.testing.assert_allclose([log_q, q.log_prob(z)], whole.log_prob(z), rtol=1e-12)
  np.testing.assert_allclose(q.mean, whole.mean)
  assert len(set(np.round(z - q.mean, 6).tolist())) == T * J  # every step has noise of its own
  assert "scan" not in str(jax.make_jaxpr(q.sample)(jax.random.key(3)))
  draws = jax.vmap(q.sample)(jax.random.split(jax.random.key(4), 20000))
  standardized = (np.asarray(draws) - np.asarray(whole.mean)[None]).reshape(-1, T * J)
  assert_unbiased(standardized[:, 0] * standardized[:, 2], 0.0, detects_shift=0.1)


def test_kl_is_the_sum_over_the_steps():
  q = make("gaussian")
  p = make("gaussian", w=0.5 * W, inputs=jnp.zeros((T, J)), start=jnp.zeros(J))
  z = q.sample(jax.random.key(5))
  expected, before = 0.0, (jnp.full(J, 0.5), jnp.zeros(J))
  for of_step, z_t in zip(INPUTS, z.reshape(T, J)):
    mine, theirs = gaussian_step(W, before[0], of_step), gaussian_step(0.5 * W, before[1], 0.0)
    expected += kl_divergence(mine, theirs)
    before = z_t, z_t
  np.testing.assert_allclose(kl_given(q, p, z), expected, rtol=1e-10)
  np.testing.assert_allclose(kl_given(q, q, z), 0, atol=1e-12)
  mean_field = independent_steps(gaussian(J), DiagonalGaussian(INPUTS, INPUTS))
  for other in (q, mean_field):
    keys = jax.random.split(jax.random.key(6), 20000)
    z, log_q = jax.vmap(other.sample_with_log_prob)(keys)
    in_part = jax.vmap(functools.partial(kl_given, other, p))(z)
    difference = in_part - (log_q - jax.vmap(p.log_prob)(z))
    assert_unbiased(difference, 0.0, detects_shift=0.4)
    assert np.var(in_part) < 0.9 * np.var(in_part - difference)


def test_as_a_constant_only_the_gradient_through_z_is_left():
  def log_q(arrays, z, stop):
    q = make("gaussian", *arrays)
    return (freeze(q) if stop else q).log_prob(z)

  arrays = W, INPUTS, jnp.full(J, 0.5)
  z = make("gaussian").sample(jax.random.key(7))
  for stop in (True, False):
    of_arrays, of_z = jax.grad(log_q, (0, 1))(arrays, z, stop)
    assert all(np.all((leaf == 0) == stop) for leaf in of_arrays)
    assert np.all(of_z != 0)


def test_one_step():
  q = make("gaussian", inputs=INPUTS[:1])
  z, log_q = q.sample_with_log_prob(jax.random.key(8))
  only = gaussian_step(W, jnp.full(J, 0.5), INPUTS[0])
  np.testing.assert_allclose([log_q, q.log_prob(z)], only.log_prob(z), rtol=1e-12)


def test_what_is_known_of_the_steps():
  positive, coins = make("gamma"), make("coins")
  assert positive.reparameterized and not coins.reparameterized
  np.testing.assert_array_equal(positive.support.low, np.zeros(T * J))
  assert coins.support.kind == "integers" and coins.support.high.shape == (T * J,)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r"shape \(7,\), expected \(8,\): 4 steps of 2 numbers"):
    make("gaussian").log_prob(jnp.zeros(T * J - 1))
  with pytest.raises(ValueError, match="inputs for 0 steps"):
    make("gaussian", inputs=INPUTS[:0])
  with pytest.raises(ValueError, match="inputs for 3, 4 steps"):
    independent_steps(gaussian(J), DiagonalGaussian(INPUTS, INPUTS[1:]))
  with pytest.raises(UnsupportedError, match=r"q\(z\|x\) has 4 steps, and p\(z\) 3"):
    kl_given(make("gaussian"), make("gaussian", inputs=INPUTS[1:]), jnp.zeros(T * J))
  with pytest.raises(UnsupportedError, match="no closed form"):
    kl_given(make("gaussian"), make("gamma"), jnp.ones(T * J))
