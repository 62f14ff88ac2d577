"""Estimators that take samples of every component of a mixture q(z|x), instead of drawing one."""

import math

import jax
import jax.numpy as jnp

from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.sgvb import draw, map_samples
from aevb_jax.families.base import distribution
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.families.mixtures import GaussianMixture
from aevb_jax.models.joint import log_joint
from aevb_jax.ops.weights import log_sum_exp
from aevb_jax.types import Array, Key, Model, Params


def stratified_elbo(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int = 1
) -> Array:
  """Computes SGVB estimator A with L samples of every component of a mixture q(z|x).

  The estimate is Σ_k π_k (1/L) Σ_l log p(x, z_kl) − log q(z_kl|x), for the bound of equation 3.
  Each component is reparameterized by itself, and π is differentiated as a weight. No component is
  drawn, so the noise of such a draw is absent, at K times the cost of `elbo_a`.

  Source: Morningstar et al. (2021), who stratify the importance-weighted bound in this way.

  Args:
    key: consumed.
    model: its q(z|x) is a `gaussian_mixture`.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L, for each component.

  Returns:
    An unbiased estimate of the bound in nats, shape (), with an unbiased gradient.

  Raises:
    UnsupportedError: if q(z|x) is of another family.
    ValueError: if num_samples is not positive.
  """
  log_pi, log_w = _stratified_log_weights(key, model, params, x, num_samples)
  return jnp.exp(log_pi) @ jnp.mean(log_w, axis=1)


def stratified_iwae(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int = 1
) -> Array:
  """Computes log (1/L) Σ_l Σ_k π_k w_kl with L samples of every component of a mixture q(z|x).

  The bound is at least as tight as `iwae` of L samples of the mixture. Here K is the number of
  components.

  Source: Morningstar et al. (2021).

  Args:
    key: consumed.
    model: its q(z|x) is a `gaussian_mixture`.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L, for each component.

  Returns:
    An unbiased estimate of this bound in nats, shape (), with an unbiased gradient.

  Raises:
    UnsupportedError: if q(z|x) is of another family.
    ValueError: if num_samples is not positive.
  """
  log_pi, log_w = _stratified_log_weights(key, model, params, x, num_samples)
  return log_sum_exp(jnp.ravel(log_pi[:, None] + log_w)) - math.log(num_samples)


def _stratified_log_weights(
  key: Key, model: Model, params: Params, x: Array, num_samples: int
) -> tuple[Array, Array]:
  """Computes log π, (K,), and log w of L samples of each component, (K, L)."""
  q = model.encoder.given(params.phi, x)
  if not isinstance(q.eta, GaussianMixture):
    raise UnsupportedError(
      f"the estimator takes a q(z|x) that is a GaussianMixture, not a {type(q.eta).__name__}"
    )
  component = gaussian(q.eta.mean.shape[1])

  def of_component(key: Key, mean: Array, log_var: Array) -> Array:
    z = draw(key, distribution(component, DiagonalGaussian(mean, log_var)), num_samples)
    return map_samples(lambda z: log_joint(model, params, x, z) - q.log_prob(z), z)

  keys = jax.random.split(key, len(q.eta.mean))
  log_w = jax.vmap(of_component)(keys, q.eta.mean, q.eta.log_var)
  # q(z|x) may be 0 at the draws of a component of weight 0, which do not count.
  log_w = jnp.where((q.eta.log_weights == -jnp.inf)[:, None], 0, log_w)
  return q.eta.log_weights, log_w
