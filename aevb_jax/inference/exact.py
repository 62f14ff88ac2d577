"""The bound and log p(x) without sampling, for a small z.

One Gaussian latent takes quadrature over the noise, and a few binary latents take enumeration. Both
are references for the estimators that sample.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.errors import UnsupportedError
from aevb_jax.families.binary import Bernoulli
from aevb_jax.families.gaussians import DiagonalGaussian
from aevb_jax.models.joint import log_joint, log_weight
from aevb_jax.ops.weights import log_sum_exp
from aevb_jax.types import Array, Model, Params

MAX_BINARY_LATENTS = 12  # 4096 passes through the decoder


def exact_elbo(model: Model, params: Params, x: Array) -> Array:
  """Computes the bound of equation 3 without sampling; the result is differentiable.

  Args:
    model: its q(z|x) has one Gaussian latent or at most 12 binary ones.
    params: θ and φ.
    x: one data point, shape (D,).

  Returns:
    The bound in nats, shape ().

  Raises:
    UnsupportedError: unless z is one Gaussian latent or at most 12 binary ones.

  Source: equation 3.
  """
  q = model.encoder.given(params.phi, x)

  def term(z: Array) -> Array:
    return log_weight(model, params, q, x, z)

  if isinstance(q.eta, DiagonalGaussian) and q.eta.mean.shape == (1,):
    std = jnp.exp(0.5 * q.eta.log_var)
    return gaussian_expectation(lambda noise: term(q.eta.mean + std * noise[None]))
  if isinstance(q.eta, Bernoulli) and q.eta.logits.size <= MAX_BINARY_LATENTS:
    z = binary_vectors(q.eta.logits.size)
    return jnp.vdot(jnp.exp(jax.vmap(q.log_prob)(z)), jax.vmap(term)(z))
  raise UnsupportedError(
    "the exact bound is known for one Gaussian latent and for at most "
    f"{MAX_BINARY_LATENTS} binary ones, not for {type(q.eta).__name__} of shape {q.mean.shape}"
  )


def exact_log_marginal(model: Model, params: Params, x: Array) -> Array:
  """Computes log p(x) without sampling, for one Gaussian or a few binary latents.

  The quadrature may miss a likelihood that is narrower in z than some hundredths of the prior's
  standard deviation, because the likelihood then lies between the nodes.

  Args:
    model: its p(z) has one Gaussian latent or at most 12 binary ones. Its encoder is not used.
    params: θ.
    x: one data point, shape (D,).

  Returns:
    log p(x) in nats, shape ().

  Raises:
    UnsupportedError: for any other prior.
  """
  p = model.prior(params)
  if isinstance(p.eta, DiagonalGaussian) and p.eta.mean.shape == (1,):
    std = jnp.exp(0.5 * p.eta.log_var)

    def log_likelihood(noise: Array) -> Array:
      return model.decoder.given(params.theta, p.eta.mean + std * noise[None]).log_prob(x)

    nodes, weights = _quadrature()
    return log_sum_exp(jax.vmap(log_likelihood)(nodes) + jnp.log(weights))
  if isinstance(p.eta, Bernoulli) and p.eta.logits.size <= MAX_BINARY_LATENTS:
    z = binary_vectors(p.eta.logits.size)
    return log_sum_exp(jax.vmap(lambda z: log_joint(model, params, x, z))(z))
  raise UnsupportedError(
    "log p(x) is exact under one Gaussian latent and under at most "
    f"{MAX_BINARY_LATENTS} binary ones, not under {type(p.eta).__name__} of shape {p.mean.shape}"
  )


def binary_vectors(size: int) -> Array:
  """Returns all vectors of zeros and ones, shape (2^size, size)."""
  bits = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
  return jnp.asarray(bits, jnp.result_type(float))


def gaussian_expectation(f: Callable[[Array], Array], step: float = 0.02) -> Array:
  """Computes E[f(ε)] for ε ~ N(0, 1) and an analytic f of one number, by the trapezoidal rule.

  Its error falls like exp(−2π d / step), where d is the distance of f's nearest pole from the real
  line. For tanh units of slope up to 10 it is far below rounding, while Gauss–Hermite quadrature
  with 100 nodes is right to only three digits.
  """
  nodes, weights = _quadrature(step)
  return weights @ jax.vmap(f)(nodes)


def _quadrature(step: float = 0.02) -> tuple[Array, Array]:
  nodes = np.arange(-12, 12 + step / 2, step)
  weights = np.exp(-0.5 * nodes**2) * step / np.sqrt(2 * np.pi)
  dtype = jnp.result_type(float)
  return jnp.asarray(nodes, dtype), jnp.asarray(weights, dtype)
