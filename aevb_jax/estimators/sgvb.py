"""Estimators of the variational bound of equation 3, for one data point.

Each has the signature (key, model, params, x, *, num_samples) -> (). Its value is an unbiased
estimate of the bound in nats, and its gradient with respect to `params` is an unbiased estimate of
the bound's gradient. These three take the gradient through z = g(ε, x); `score_function` does not.
`importance` has estimators of tighter bounds.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.surrogate import freeze
from aevb_jax.families.chains import kl_given
from aevb_jax.families.kl import kl_divergence
from aevb_jax.models.joint import log_joint, log_weight
from aevb_jax.ops.keys import as_words
from aevb_jax.types import Array, Distribution, Key, Model, Params, PyTree

SAMPLES_AT_ONCE = 50  # samples of z whose passes through the decoder are in memory together


def posterior_samples(key: Key, q: Distribution, num_samples: int) -> Array:
  """Draws L samples z_l = g(ε_l, x) of q = q(z|x), through which gradients flow.

  Args:
    key: consumed.
    q: a reparameterized distribution over z (J,).
    num_samples: L.

  Returns:
    z, shape (L, J).

  Raises:
    UnsupportedError: if q is not reparameterized.
    ValueError: if num_samples is not positive.
  """
  _check_reparameterized(q)
  return draw(key, q, num_samples)


def posterior_samples_with_log_prob(
  key: Key, q: Distribution, num_samples: int
) -> tuple[Array, Array]:
  """Draws L samples of q(z|x) as `posterior_samples` does, and computes log q(z_l|x) of each.

  For an autoregressive flow one pass gives both; `q.log_prob` of another z would take J passes.

  Returns:
    (z, log q), shapes (L, J) and (L,), the latter in nats.

  Raises:
    UnsupportedError: if q is not reparameterized.
    ValueError: if num_samples is not positive.
  """
  _check_reparameterized(q)
  return jax.vmap(q.sample_with_log_prob)(sample_keys(key, num_samples))


def _check_reparameterized(q: Distribution) -> None:
  if not q.reparameterized:
    raise UnsupportedError(
      "the estimator differentiates through samples of q(z|x), and the family "
      f"{type(q.eta).__name__} has no reparameterization that allows it; "
      "score_function, vimco, wake_sleep and reweighted_wake_sleep need none"
    )


def draw(key: Key, q: Distribution, num_samples: int) -> Array:
  """Draws L samples of any q; gradients through them may be missing or wrong.

  Args:
    key: consumed.
    q: any distribution over z (J,).
    num_samples: L.

  Returns:
    z, shape (L, J).

  Raises:
    ValueError: if num_samples is not positive.
  """
  return jax.vmap(q.sample)(sample_keys(key, num_samples))


def sample_keys(key: Key, num_samples: int) -> Key:
  """Splits a key into the keys (L,) that samples are drawn from.

  Raises:
    ValueError: if num_samples is not positive.
  """
  check_num_samples(num_samples)
  return jax.random.split(key, num_samples)


def check_num_samples(num_samples: int) -> None:
  """Raises ValueError if num_samples is not positive."""
  if num_samples < 1:
    raise ValueError(f"num_samples is {num_samples}, expected at least 1")


def map_samples(function: Callable[[Array], PyTree], samples: Array | Key) -> PyTree:
  """Maps `function` over L samples, as `jax.vmap` does, in bounded memory.

  More than SAMPLES_AT_ONCE samples are taken in parts of that size, and computed again in the
  backward pass instead of being kept. The memory of a gradient then does not grow with L, and its
  time grows by a tenth on CPU. Every estimator uses this function for its L passes.

  Args:
    function: a function of one sample.
    samples: L samples z, shape (L, J), or L keys.

  Returns:
    The values of `function`, with a leading axis L.
  """
  if len(samples) <= SAMPLES_AT_ONCE:
    return jax.vmap(function)(samples)
  words, with_keys = as_words(samples)
  of_words = jax.checkpoint(lambda words: function(with_keys(words)))
  return jax.lax.map(of_words, words, batch_size=SAMPLES_AT_ONCE)


def log_weights(key: Key, model: Model, params: Params, x: Array, *, num_samples: int) -> Array:
  """Computes log w_l = log p(x, z_l) − log q(z_l|x) of L samples z_l ~ q(z|x).

  Automatic differentiation of any continuous function of them is correct on average, with respect
  to θ and φ. Most estimators are therefore one line on top of this function: `elbo_a` is the mean
  of the log-weights, and `iwae` the log of the mean of the weights.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), the latter reparameterized.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L.

  Returns:
    The log-weights in nats, shape (L,). Costs one pass through the encoder and L through the
    decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is not positive.
  """
  q = model.encoder.given(params.phi, x)
  z, log_q = posterior_samples_with_log_prob(key, q, num_samples)
  return map_samples(lambda z: log_joint(model, params, x, z), z) - log_q


def elbo_a(key: Key, model: Model, params: Params, x: Array, *, num_samples: int = 1) -> Array:
  """Computes SGVB estimator A, equation 6: (1/L) Σ_l log p(x, z_l) − log q(z_l|x).

  Source: section 2.3, equation 6.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), the latter reparameterized.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L.

  Returns:
    An unbiased estimate of the bound of equation 3 in nats, shape (), with an unbiased gradient.
    Costs one pass through the encoder and L through the decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is not positive.
  """
  return jnp.mean(log_weights(key, model, params, x, num_samples=num_samples))


def elbo_b(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int = 1,
  kl: Callable[[Distribution, Distribution], Array] = kl_divergence,
) -> Array:
  """Computes SGVB estimator B, equation 7: −KL(q(z|x) ‖ p(z)) + (1/L) Σ_l log p(x|z_l).

  If z is made of layers, the KL of each layer is in closed form given the layers before it, where
  there is one, and is averaged over the samples (`families.kl_given`).

  Source: section 2.3, equation 7.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), the latter reparameterized.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L.
    kl: (q, p) -> KL(q ‖ p) in nats, exact.

  Returns:
    An unbiased estimate of the bound of equation 3 in nats, shape (), with an unbiased gradient.
    Its variance is usually lower than that of `elbo_a`, at the same cost. Near the optimum, where
    log p(x, z) − log q(z|x) hardly varies, its variance is higher.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized, or `kl` has no closed form for the pair of
      q(z|x) and p(z).
    ValueError: if num_samples is not positive.
  """
  q = model.encoder.given(params.phi, x)
  z = posterior_samples(key, q, num_samples)
  reconstructions = map_samples(lambda z: model.decoder.given(params.theta, z).log_prob(x), z)
  p = model.prior(params)
  return jnp.mean(reconstructions) - jnp.mean(map_samples(lambda z: kl_given(q, p, z, kl=kl), z))


def sticking_the_landing(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int = 1
) -> Array:
  """Computes `elbo_a` with a gradient that lacks the score ∇φ log q(z|x), whose mean is zero.

  The estimate is (1/L) Σ_l log p(x, z_l) − log q(z_l|x; φ held fixed), z_l = g(ε_l, x; φ). At the
  exact posterior its gradient with respect to φ is zero for every ε, while the gradient of `elbo_a`
  still has the noise of the score. Away from the posterior, either may have the lower variance.

  Source: Roeder, Wu & Duvenaud (2017), section 3.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), the latter reparameterized.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L.

  Returns:
    The value of `elbo_a` on the same key in nats, shape (), with an unbiased gradient of the bound
    of equation 3. Costs one pass through the encoder and L through the decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
    ValueError: if num_samples is not positive.
  """
  q = model.encoder.given(params.phi, x)
  z = posterior_samples(key, q, num_samples)
  return jnp.mean(map_samples(lambda z: log_weight(model, params, freeze(q), x, z), z))
