"""Estimators of the variational bound: one data point, one scalar.

Each has the signature (key, model, params, x, *, num_samples) -> (). Its value
is an unbiased estimate of the bound in nats, and its gradient with respect to
`params` is an unbiased estimate of the bound's gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from aevb_jax.families import kl_divergence
from aevb_jax.model import log_joint
from aevb_jax.types import Array, Distribution, Key, Model, Params, UnsupportedError


def _require_reparameterized(name: str, q: Distribution) -> None:
  if not q.reparameterized:
    raise UnsupportedError(
      f"{name} differentiates through samples of q(z|x), and the family "
      f"{type(q.eta).__name__} has no reparameterization that allows it"
    )


def elbo_a(key: Key, model: Model, params: Params, x: Array, *, num_samples: int = 1) -> Array:
  """SGVB estimator A, equation 6: (1/L) Σ_l log p(x, z_l) − log q(z_l|x).

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), the latter reparameterized.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L.

  Returns:
    An estimate of the bound of equation 3 in nats, shape (). Costs one pass
    through the encoder and L through the decoder.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized.
  """
  q = model.encoder.given(params.phi, x)
  _require_reparameterized("elbo_a", q)

  def term(key: Key) -> Array:
    z = q.sample(key)
    return log_joint(model, params.theta, x, z) - q.log_prob(z)

  return jnp.mean(jax.vmap(term)(jax.random.split(key, num_samples)))


def elbo_b(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_samples: int = 1,
  kl: Callable[[Distribution, Distribution], Array] = kl_divergence,
) -> Array:
  """SGVB estimator B, equation 7: −KL(q(z|x) ‖ p(z)) + (1/L) Σ_l log p(x|z_l).

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x), the latter reparameterized.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L.
    kl: (q, p) -> KL(q ‖ p) in nats, exact.

  Returns:
    An estimate of the bound of equation 3 in nats, shape (). Usually of lower
    variance than `elbo_a`, at the same cost.

  Raises:
    UnsupportedError: if q(z|x) is not reparameterized, or `kl` knows no closed form
      for the pair of q(z|x) and p(z).
  """
  q = model.encoder.given(params.phi, x)
  _require_reparameterized("elbo_b", q)

  def reconstruction(key: Key) -> Array:
    return model.decoder.given(params.theta, q.sample(key)).log_prob(x)

  reconstructions = jax.vmap(reconstruction)(jax.random.split(key, num_samples))
  return jnp.mean(reconstructions) - kl(q, model.prior(params.theta))
