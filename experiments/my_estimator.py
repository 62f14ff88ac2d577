"""A template for an estimator of your own: copy it, and change the middle.

  python -m experiments.train --estimator=experiments.my_estimator:tempered --num_samples=10
  python -m experiments.gradients --estimators=iwae,dreg,experiments.my_estimator:tempered \
      --samples=2,10,50

This one protects the importance-weighted bound from overconfident weights: its gradient
follows weights w̃_k flattened to a power, while its value stays the bound. experiments.gradients
measures the effect: less variance, and a bias. Arguments of your own are given after
colons: --estimator=experiments.my_estimator:tempered:power=0.7.
"""

import jax
import jax.numpy as jnp

from aevb_jax import log_mean_exp, log_weights, replace_gradient
from aevb_jax.types import Array, Key, Model, Params


def tempered(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int, power: float = 0.5
) -> Array:
  """Estimates log (1/K) Σ_k w_k, with the gradient Σ_k v_k ∇log w_k, v_k ∝ w_k^power.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), the latter reparameterized.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: K.
    power: 1 is `iwae`, 0 trains as `elbo_a`.

  Returns:
    The estimate of the bound in nats, a scalar.
  """
  log_w = log_weights(key, model, params, x, num_samples=num_samples)
  v = jax.nn.softmax(power * jax.lax.stop_gradient(log_w))
  return replace_gradient(log_mean_exp(log_w), jnp.vdot(v, log_w))
