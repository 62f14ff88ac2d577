"""Estimators that a user might pass to --estimator, right and wrong."""

import sys

import jax
import jax.numpy as jnp

from aevb_jax import elbo_a, kl_divergence, log_joint, replace_gradient
from aevb_jax.families.base import distribution
from aevb_jax.families.binary import Bernoulli, bernoulli

BRIGHT = 28  # of 64 pixels; 3 of the digits have more


def importance_bound(key, model, params, x, *, num_samples=1):
  q = model.encoder.given(params.phi, x)

  def log_weight(key):
    z = q.sample(key)
    return log_joint(model, params, x, z) - q.log_prob(z)

  log_w = jax.vmap(log_weight)(jax.random.split(key, num_samples))
  return jax.nn.logsumexp(log_w) - jnp.log(num_samples)


def without_closed_form(key, model, params, x, *, num_samples=1):
  q = model.encoder.given(params.phi, x)
  p = distribution(bernoulli(2), Bernoulli(jnp.zeros(2)))
  return -kl_divergence(q, p)


def not_a_scalar(key, model, params, x, *, num_samples=1):
  return x


def without_num_samples(key, model, params, x):
  return jnp.sum(x)


def never_finite(key, model, params, x, *, num_samples=1):
  return jnp.log(-jnp.sum(x) - 1)


not_a_function = 3


def broken(key, model, params, x, *, num_samples=1):
  return jnp.sum(x) * (1 / (num_samples - num_samples))


def without_a_gradient(key, model, params, x, *, num_samples=1):
  start = jnp.sum(params.phi["head_0"]["bias"])
  return jax.lax.while_loop(lambda v: v < 1, lambda v: v + 1.0, start)


def without_a_gradient_where_bright(key, model, params, x, *, num_samples=1):
  """Returns `elbo_a` with a NaN gradient for images of many bright pixels."""
  value = elbo_a(key, model, params, x, num_samples=num_samples)
  bright = jnp.sum(x) > BRIGHT
  return replace_gradient(value, jnp.where(bright, jnp.nan, 1.0) * value)


def ends_the_program(key, model, params, x, *, num_samples=1):
  sys.exit(0)


class Shy:
  """A callable whose other attributes cannot be read."""

  def __call__(self, key, model, params, x, *, num_samples=1):
    return jnp.sum(x)

  def __getattr__(self, name):
    raise RuntimeError("not yours")


shy = Shy()
