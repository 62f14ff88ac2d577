"""The Bernoulli log-probability has derivatives of its own: every way of asking for them."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, log_expit

from aevb_jax import bernoulli, elbo_b, mlp_vae
from aevb_jax.models.vae import init_params

LOGITS = np.array([-40.0, -3.0, 0.5, 30.0])
X = np.array([0.0, 1.0, 0.25, 1.0])
BERNOULLI = bernoulli(4)


def log_prob(logits, x):
  return BERNOULLI.log_prob(BERNOULLI.from_heads(logits), x)


def test_value_and_derivatives_are_those_of_the_closed_form():
  value = np.sum(X * log_expit(LOGITS) + (1 - X) * log_expit(-LOGITS))
  np.testing.assert_allclose(log_prob(LOGITS, X), value, rtol=1e-14)
  by_logits, by_x = jax.grad(log_prob, (0, 1))(LOGITS, X)
  np.testing.assert_allclose(by_logits, X - expit(LOGITS), rtol=1e-12, atol=1e-15)
  np.testing.assert_allclose(by_x, LOGITS)
  (hh, hx), (xh, xx) = jax.hessian(log_prob, (0, 1))(LOGITS, X)
  np.testing.assert_allclose(hh, np.diag(-expit(LOGITS) * expit(-LOGITS)), rtol=1e-12, atol=1e-15)
  np.testing.assert_array_equal(hx, np.eye(4))
  np.testing.assert_array_equal(xh, np.eye(4))
  np.testing.assert_array_equal(xx, np.zeros((4, 4)))


def test_slope_of_the_entropy():
  eta = BERNOULLI.from_heads(LOGITS)
  slope = jax.grad(lambda eta: BERNOULLI.entropy(eta))(eta).logits
  np.testing.assert_allclose(slope, -LOGITS * expit(LOGITS) * expit(-LOGITS), rtol=1e-9, atol=1e-13)


def test_forward_mode_is_reverse_mode():
  tangents = jnp.array([0.3, -1.0, 2.0, 0.7]), jnp.array([1.0, 0.1, -0.2, 0.0])
  _, forward = jax.jvp(log_prob, (LOGITS, X), tangents)
  backward = jax.grad(log_prob, (0, 1))(LOGITS, X)
  np.testing.assert_allclose(forward, sum(g @ t for g, t in zip(backward, tangents)), rtol=1e-12)


def test_an_array_of_numpy_in_a_loop():
  model = mlp_vae(BERNOULLI, data_dim=4, latent_dim=2, hidden_dim=3)
  params, batch = init_params(jax.random.key(0), model), np.stack([X, 1 - X])

  def bound(batch):
    of_seed = lambda s: jax.vmap(lambda x: elbo_b(jax.random.key(s), model, params, x))(batch)
    return jax.jit(lambda seeds: jax.lax.map(of_seed, seeds))(jnp.arange(5))

  np.testing.assert_array_equal(bound(batch), bound(jnp.asarray(batch)))
