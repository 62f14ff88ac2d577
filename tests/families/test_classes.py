"""Classes as one-hot vectors, compared with scipy's multinomial distribution of one trial."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from aevb_jax.families import distribution, one_hot
from tests.support.statistics import assert_unbiased

LOGITS = np.array([0.3, -2.0, 1.5])
FAMILY = one_hot(4)


def test_log_probabilities_mean_variance_and_entropy():
  p = scipy.special.softmax(LOGITS)
  q = distribution(one_hot(3), one_hot(3).from_heads(jnp.asarray(LOGITS)))
  expected = [scipy.stats.multinomial.logpmf(y, 1, p) for y in np.eye(3)]
  np.testing.assert_allclose([q.log_prob(y) for y in jnp.eye(3)], expected, rtol=1e-12)
  np.testing.assert_allclose(q.mean, p, rtol=1e-12)
  np.testing.assert_allclose(one_hot(3).variance(q.eta), p * (1 - p), rtol=1e-12)
  np.testing.assert_allclose(one_hot(3).entropy(q.eta), scipy.stats.entropy(p), rtol=1e-12)
  slope = jax.grad(lambda eta: one_hot(3).log_prob(eta, jnp.eye(3)[1]))(q.eta).logits
  np.testing.assert_allclose(slope, np.eye(3)[1] - p, rtol=1e-12)
  y = jax.vmap(q.sample)(jax.random.split(jax.random.key(0), 20000))
  assert set(np.unique(y)) == {0, 1} and np.all(np.sum(y, axis=1) == 1)
  assert_unbiased(y, p, detects_shift=0.03)


def test_extreme_logits_stay_finite():
  eta = FAMILY.from_heads(jnp.array([0.0, 800.0, -800.0, 0.0]))
  log_p = jax.vmap(lambda y: FAMILY.log_prob(eta, y))(jnp.eye(4))
  np.testing.assert_allclose(log_p, [-800, 0, -1600, -800])
  slope = jax.grad(lambda logits: FAMILY.entropy(FAMILY.from_heads(logits)))(eta.logits)
  assert FAMILY.entropy(eta) == 0 and np.all(np.isfinite(slope))


@pytest.mark.parametrize("y", [[0, 0, 0, 0], [1, 1, 0, 0], [0.5, 0.5, 0, 0], [2, -1, 0, 0]])
def test_other_vectors_have_no_probability(y):
  eta = FAMILY.from_heads(jnp.zeros(4))
  assert FAMILY.log_prob(eta, jnp.asarray(y, float)) == -jnp.inf


def test_nan_is_not_hidden():
  eta, y = FAMILY.from_heads(jnp.zeros(4)), jnp.eye(4)[0]
  assert np.isnan(FAMILY.log_prob(eta, y.at[2].set(jnp.nan)))
  assert np.isnan(FAMILY.log_prob(FAMILY.from_heads(y * jnp.nan), y))


@pytest.mark.parametrize(
  "call, words",
  [
    (lambda: one_hot(1), "num_classes is 1, expected at least 2"),
    (lambda: FAMILY.from_heads(jnp.zeros(3)), "expected .4,."),
    (lambda: FAMILY.log_prob(FAMILY.from_heads(jnp.zeros(4)), jnp.zeros(())), "y has shape"),
  ],
)
def test_other_sizes_are_refused(call, words):
  with pytest.raises(ValueError, match=words):
    call()
