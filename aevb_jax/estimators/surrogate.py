"""Functions that replace, scale or stop a gradient and leave the value unchanged.

An estimator is a scalar whose value estimates a bound and whose gradient estimates the bound's
gradient. Automatic differentiation of an unbiased value does not always give that gradient, or
gives one of more variance than necessary.
"""

import jax

from aevb_jax.types import Array, Distribution


@jax.custom_jvp
def replace_gradient(value: Array, surrogate: Array) -> Array:
  """Returns `value`, with the gradient of `surrogate` instead of its own.

  Args:
    value: shape ().
    surrogate: shape (); only its gradient is used.

  Returns:
    `value`, shape ().

  >>> def score_function(key, model, params, x, *, num_samples):  # section 2.2
  ...   ...
  ...   return replace_gradient(jnp.mean(f), jnp.mean(stop_gradient(f) * log_q))
  """
  del surrogate
  return value


@replace_gradient.defjvp
def _replace_gradient_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  return primals[0], tangents[1]


@jax.custom_jvp
def scale_gradient(z: Array, scale: Array) -> Array:
  """Returns `z`, through which gradients pass `scale` times as large.

  Args:
    z: of any shape.
    scale: shape (); no gradient flows into it.

  Returns:
    `z`.
  """
  del scale
  return z


@scale_gradient.defjvp
def _scale_gradient_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  z, scale = primals
  return z, scale * tangents[0]


def freeze(q: Distribution) -> Distribution:
  """Returns `q` with its parameters taken as constants.

  In log q(z|x) of a reparameterized z, the gradient through z remains. The gradient through the
  parameters, which is the score and has mean zero, is removed (Roeder, Wu & Duvenaud 2017).

  Args:
    q: any distribution.

  Returns:
    The same distribution, through whose parameters no gradient flows.
  """
  return q.at(jax.lax.stop_gradient(q.eta))
