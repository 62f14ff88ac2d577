"""Wake-sleep and its reweighted form, as estimators.

Their gradient for φ is not the gradient of a bound. The wake phase improves the model on z from the
recognition model. The sleep phase teaches the recognition model to invert the model's dreams. Both
estimators need no reparameterization, and have the paper's cost per data point (section 4).
"""

import jax
import jax.numpy as jnp

from aevb_jax.estimators.bounds import log_mean_exp
from aevb_jax.estimators.sgvb import check_num_samples, map_samples
from aevb_jax.estimators.surrogate import replace_gradient
from aevb_jax.models.joint import log_joint, simulate
from aevb_jax.ops.weights import normalized_weights
from aevb_jax.types import Array, Key, Model, Params


def wake_sleep(key: Key, model: Model, params: Params, x: Array, *, num_samples: int = 1) -> Array:
  """Estimates equation 3, with the wake-sleep gradients for θ and φ.

  θ follows ∇θ log p(x, z), z ~ q(z|x), which is the gradient of equation 3. φ follows ∇φ log
  q(z'|x') of dreams x', z' ~ p, which is the gradient of −E_p(x)[KL(p(z|x) ‖ q(z|x))], under the
  model's own x. Dreams are sampled, so the dreams of a Bernoulli decoder are binary.

  Source: Hinton, Dayan, Frey & Neal (1995).

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), of any family.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L, samples of z and as many dreams.

  Returns:
    The value of `elbo_a` on the same key in nats, shape (), unbiased for equation 3. The gradients
    are unbiased for the two above. Costs L + 1 passes through the encoder and 2 L through the
    decoder, L of them forward only.

  Raises:
    ValueError: if num_samples is not positive.
  """
  q = model.encoder.given(params.phi, x)
  z_keys, dream_key = _keys_of_both_phases(key, num_samples)
  z = jax.lax.stop_gradient(jax.vmap(q.sample)(z_keys))
  log_p = map_samples(lambda z: log_joint(model, params, x, z), z)
  value = jnp.mean(log_p - map_samples(q.log_prob, z))
  dreams = log_q_of_dreams(dream_key, model, params, num_samples)
  return replace_gradient(value, jnp.mean(log_p) + dreams)


def reweighted_wake_sleep(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int,
  wake: float = 1.0,
  sleep: float = 0.0,
) -> Array:
  """Estimates the bound of `iwae`, with wake-θ, and wake-φ and sleep-φ in any proportion.

  Let w̃_k be the normalized weights of K samples z_k ~ q(z|x). θ follows Σ_k w̃_k ∇θ log p(x, z_k).
  φ follows `wake` times Σ_k w̃_k ∇φ log q(z_k|x) plus `sleep` times the sleep-φ gradient of
  `wake_sleep`.

  Source: Bornschein & Bengio (2015), section 2.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), of any family.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: K, samples of z, and as many dreams if `sleep` is not 0.
    wake: weight of wake-φ.
    sleep: weight of sleep-φ; the source combines both with weights of 1/2.

  Returns:
    The value of `iwae` on the same key in nats, shape (). The gradient in θ is unbiased for the
    gradient of the value's expectation. The wake-φ gradient tends to the gradient of −KL(p(z|x) ‖
    q(z|x)) as K grows, and is biased for it at any K. Costs one pass through the encoder and K
    through the decoder; with `sleep`, K more through each. If z can be reparameterized, `dreg_wake`
    has the expectation of wake-φ and usually less variance.

  Raises:
    ValueError: if num_samples is not positive.
  """
  q = model.encoder.given(params.phi, x)
  z_keys, dream_key = _keys_of_both_phases(key, num_samples)
  z = jax.lax.stop_gradient(jax.vmap(q.sample)(z_keys))
  log_p = map_samples(lambda z: log_joint(model, params, x, z), z)
  log_q = map_samples(q.log_prob, z)
  log_w = jax.lax.stop_gradient(log_p - log_q)
  surrogate = jnp.vdot(normalized_weights(log_w), log_p + wake * log_q)
  if sleep:
    dreams = log_q_of_dreams(dream_key, model, params, num_samples)
    surrogate += sleep * dreams
  return replace_gradient(log_mean_exp(log_w), surrogate)


def log_q_of_dreams(key: Key, model: Model, params: Params, num_samples: int) -> Array:
  """Computes the mean of log q(z|x; φ) over L dreams z ~ p(z), x ~ p(x|z), in nats, shape ().

  No gradient flows through the dreams, neither to φ nor to θ.
  """
  frozen = jax.lax.stop_gradient(params)

  def log_q(key: Key) -> Array:
    z, x = simulate(key, model, frozen)
    return model.encoder.given(params.phi, x).log_prob(z)

  return jnp.mean(map_samples(log_q, jax.random.split(key, num_samples)))


def _keys_of_both_phases(key: Key, num_samples: int) -> tuple[Key, Key]:
  """Splits a key into the L keys of the wake phase, which `elbo_a` also uses, and the dreams' key.

  The first L keys of a split into L + 1 are the keys of a split into L.
  """
  check_num_samples(num_samples)
  keys = jax.random.split(key, num_samples + 1)
  return keys[:num_samples], keys[num_samples]
