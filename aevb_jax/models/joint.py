"""The densities that a model defines over x and z together, and draws of both."""

import jax

from aevb_jax.types import Array, Distribution, Key, Model, Params


def log_joint(model: Model, params: Params, x: Array, z: Array) -> Array:
  """log p(x, z; θ) = log p(z) + log p(x|z) in nats, for one x (D,) and z (J,)."""
  return model.prior(params).log_prob(z) + model.decoder.given(params.theta, z).log_prob(x)


def log_weight(model: Model, params: Params, q: Distribution, x: Array, z: Array) -> Array:
  """log w = log p(x, z; θ) − log q(z) in nats, shape (), for one x (D,) and z (J,).

  With z ~ q = q(z|x) its expectation is the bound of equation 3, and that of w is
  p(x).
  """
  return log_joint(model, params, x, z) - q.log_prob(z)


def simulate(key: Key, model: Model, params: Params) -> tuple[Array, Array]:
  """A draw (z, x) of the model itself, shapes (J,) and (D,): z is an exact sample of p(z|x)."""
  z_key, x_key = jax.random.split(key)
  z = model.prior(params).sample(z_key)
  return z, model.decoder.given(params.theta, z).sample(x_key)
