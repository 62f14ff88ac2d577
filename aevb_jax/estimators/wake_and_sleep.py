"""Wake-sleep and its reweighted form, as estimators.

Their φ does not climb a bound. The wake phase improves the model on z from the
recognition model, the sleep phase teaches the recognition model to invert the model's
dreams; they need no reparameterization, and at the paper's cost per data point
(section 4).
"""

import jax
import jax.numpy as jnp

from aevb_jax.estimators.bounds import log_mean_exp
from aevb_jax.estimators.sgvb import check_num_samples, map_samples
from aevb_jax.estimators.surrogate import replace_gradient
from aevb_jax.models.joint import log_joint, simulate
from aevb_jax.types import Array, Key, Model, Params


def wake_sleep(key: Key, model: Model, params: Params, x: Array, *, num_samples: int = 1) -> Array:
  """Wake-sleep: ∇θ log p(x, z), z ~ q(z|x), and ∇φ log q(z'|x') of dreams x', z' ~ p.

  The wake-θ gradient is that of equation 3; the sleep-φ gradient is that of
  −E_p(x)[KL(p(z|x) ‖ q(z|x))], under the model's own x. Dreams are sampled, so that
  those of a Bernoulli decoder are binary.

  Source: Hinton, Dayan, Frey & Neal (1995).

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), of any family.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L, samples of z and as many dreams.

  Returns:
    The value of `elbo_a` on the same key in nats, shape (), unbiased for equation 3; the gradients
    are unbiased for what is said above. Costs L + 1 passes through the encoder and 2 L
    through the decoder, L of them forward alone.

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
  """Reweighted wake-sleep: wake-θ, and wake-φ and sleep-φ in any proportion.

  With the normalized weights w̃_k of K samples z_k ~ q(z|x): θ follows
  Σ_k w̃_k ∇θ log p(x, z_k), and φ follows `wake` times Σ_k w̃_k ∇φ log q(z_k|x) and
  `sleep` times the sleep-φ gradient of `wake_sleep`.

  Source: Bornschein & Bengio (2015), section 2.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), of any family.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: K, samples of z, and as many dreams if `sleep` is not 0.
    wake: weight of wake-φ.
    sleep: weight of sleep-φ; both at 1/2 is the sources' combination.

  Returns:
    The value of `iwae` on the same key in nats, shape (). The θ-gradient is unbiased for
    that of its expectation; the wake-φ gradient tends to that of −KL(p(z|x) ‖ q(z|x)) as
    K grows, and is biased for it at any K. Costs one pass through the encoder and K
    through the decoder; with `sleep`, K more through each. Where z can be
    reparameterized, `dreg_wake` has the expectation of wake-φ and usually less variance.

  Raises:
    ValueError: if num_samples is not positive.
  """
  q = model.encoder.given(params.phi, x)
  z_keys, dream_key = _keys_of_both_phases(key, num_samples)
  z = jax.lax.stop_gradient(jax.vmap(q.sample)(z_keys))
  log_p = map_samples(lambda z: log_joint(model, params, x, z), z)
  log_q = map_samples(q.log_prob, z)
  log_w = jax.lax.stop_gradient(log_p - log_q)
  surrogate = jnp.vdot(jax.nn.softmax(log_w), log_p + wake * log_q)
  if sleep:
    dreams = log_q_of_dreams(dream_key, model, params, num_samples)
    surrogate += sleep * dreams
  return replace_gradient(log_mean_exp(log_w), surrogate)


def log_q_of_dreams(key: Key, model: Model, params: Params, num_samples: int) -> Array:
  """The mean of log q(z|x; φ) over L dreams z ~ p(z), x ~ p(x|z), shape (), in nats.

  No gradient flows through the dreams, neither to φ nor to θ.
  """
  frozen = jax.lax.stop_gradient(params)

  def log_q(key: Key) -> Array:
    z, x = simulate(key, model, frozen)
    return model.encoder.given(params.phi, x).log_prob(z)

  return jnp.mean(map_samples(log_q, jax.random.split(key, num_samples)))


def _keys_of_both_phases(key: Key, num_samples: int) -> tuple[Key, Key]:
  """Keys (L,) of the wake phase's samples, which are those of `elbo_a`, and one for the dreams.

  One split of L + 1 gives them all, and its first L are those of a split of L.
  """
  check_num_samples(num_samples)
  keys = jax.random.split(key, num_samples + 1)
  return keys[:num_samples], keys[num_samples]
