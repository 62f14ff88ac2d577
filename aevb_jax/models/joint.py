"""The joint density of x and z that a model defines, and draws from it."""

import jax

from aevb_jax.types import Array, Distribution, Key, Model, Params


def log_joint(model: Model, params: Params, x: Array, z: Array) -> Array:
  """Computes log p(x, z; θ) = log p(z) + log p(x|z).

  Args:
    model: its p(z) and p(x|z) are used.
    params: θ (and φ, if the prior depends on it).
    x: one data point, shape (D,).
    z: its latents, shape (J,).

  Returns:
    log p(x, z; θ) in nats, shape ().
  """
  return model.prior(params).log_prob(z) + model.decoder.given(params.theta, z).log_prob(x)


def log_weight(model: Model, params: Params, q: Distribution, x: Array, z: Array) -> Array:
  """Computes log w = log p(x, z; θ) − log q(z).

  For z ~ q = q(z|x), E[log w] is the bound of equation 3, and E[w] is p(x).

  Args:
    model: its p(z) and p(x|z) are used.
    params: θ (and φ, if the prior depends on it).
    q: the distribution of z, such as q(z|x).
    x: one data point, shape (D,).
    z: its latents, shape (J,).

  Returns:
    log w in nats, shape ().
  """
  return log_joint(model, params, x, z) - q.log_prob(z)


def simulate(key: Key, model: Model, params: Params) -> tuple[Array, Array]:
  """Draws z ~ p(z) and x ~ p(x|z) from the model.

  Given x, z is an exact sample of p(z|x).

  Args:
    key: consumed.
    model: its p(z) and p(x|z) are used.
    params: θ (and φ, if the prior depends on it).

  Returns:
    (z, x), shapes (J,) and (D,).
  """
  z_key, x_key = jax.random.split(key)
  z = model.prior(params).sample(z_key)
  return z, model.decoder.given(params.theta, z).sample(x_key)
