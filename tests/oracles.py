"""Exact worlds: models whose bound, gradients and log p(x) are known."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from aevb_jax import (
  Model,
  Params,
  bernoulli,
  conditional,
  diagonal_gaussian,
  init_params,
  log_joint,
  mlp_vae,
  standard_normal,
)


class AffineHeads(nn.Module):
  """A mean affine in the input, and a log-variance that does not depend on it."""

  size: int

  @nn.compact
  def __call__(self, x):
    mean = nn.Dense(self.size, param_dtype=float, name="mean")(x)
    log_var = self.param("log_var", nn.initializers.zeros_init(), (self.size,), float)
    return mean, log_var


def affine_model(data_dim, latent_dim):
  """p(z) = N(0, I), p(x|z) and q(z|x) affine-Gaussian: factor analysis."""
  return Model(
    prior=lambda theta: standard_normal(latent_dim),
    decoder=conditional(AffineHeads(data_dim), diagonal_gaussian(data_dim), latent_dim),
    encoder=conditional(AffineHeads(latent_dim), diagonal_gaussian(latent_dim), data_dim),
  )


def affine_params(w, b, x_log_var, v, c, z_log_var):
  """x ~ N(zW + b, exp(x_log_var)), z|x ~ N(xV + c, exp(z_log_var))."""
  return Params(
    theta={"mean": {"kernel": w, "bias": b}, "log_var": x_log_var},
    phi={"mean": {"kernel": v, "bias": c}, "log_var": z_log_var},
  )


def affine_bound(params, x):
  """The bound of equation 3, every expectation done by hand."""
  w, b = params.theta["mean"]["kernel"], params.theta["mean"]["bias"]
  v, c = params.phi["mean"]["kernel"], params.phi["mean"]["bias"]
  x_var, z_var = jnp.exp(params.theta["log_var"]), jnp.exp(params.phi["log_var"])
  z_mean = x @ v + c
  expected_square = (x - z_mean @ w - b) ** 2 + z_var @ w**2
  reconstruction = -0.5 * jnp.sum(jnp.log(2 * jnp.pi * x_var) + expected_square / x_var)
  return reconstruction + 0.5 * jnp.sum(1 + jnp.log(z_var) - z_mean**2 - z_var)


def affine_log_marginal(params, x):
  """log N(x; b, WᵀW + diag(var)), by scipy."""
  w, b = np.asarray(params.theta["mean"]["kernel"]), np.asarray(params.theta["mean"]["bias"])
  covariance = w.T @ w + np.diag(np.exp(params.theta["log_var"]))
  return scipy.stats.multivariate_normal.logpdf(np.asarray(x), b, covariance)


class World(NamedTuple):
  model: Model
  params: Params
  x: jax.Array


def affine_world(data_dim=5, latent_dim=3):
  """An arbitrary affine-Gaussian model with a q(z|x) that is not its posterior."""
  rng = np.random.default_rng(1)
  params = affine_params(
    w=rng.normal(size=(latent_dim, data_dim)) * 0.7,
    b=rng.normal(size=data_dim) * 0.5,
    x_log_var=rng.normal(size=data_dim) * 0.3,
    v=rng.normal(size=(data_dim, latent_dim)) * 0.3,
    c=rng.normal(size=latent_dim) * 0.3,
    z_log_var=rng.normal(size=latent_dim) * 0.3 - 0.5,
  )
  params = jax.tree.map(jnp.asarray, params)
  return World(affine_model(data_dim, latent_dim), params, jnp.asarray(rng.normal(size=data_dim)))


def exact_posterior_world(data_dim=5, latent_dim=3):
  """An affine-Gaussian model with orthogonal columns, and q(z|x) its exact posterior."""
  rng = np.random.default_rng(2)
  orthonormal = np.linalg.qr(rng.normal(size=(data_dim, latent_dim)))[0].T
  w = np.diag([1.5, 0.8, 0.3][:latent_dim]) @ orthonormal
  b, noise_var = rng.normal(size=data_dim), 0.4
  # The posterior's precision I + WWᵀ/noise_var is diagonal because W's rows are orthogonal.
  z_var = 1 / (1 + np.sum(w**2, axis=1) / noise_var)
  v = w.T * z_var / noise_var
  params = affine_params(w, b, np.full(data_dim, np.log(noise_var)), v, -b @ v, np.log(z_var))
  params = jax.tree.map(jnp.asarray, params)
  return World(affine_model(data_dim, latent_dim), params, jnp.asarray(rng.normal(size=data_dim)))


def bernoulli_world(data_dim=6):
  """One latent, tanh networks, Bernoulli data: exact by quadrature."""
  model = mlp_vae(bernoulli(data_dim), data_dim=data_dim, latent_dim=1, hidden_dim=7)
  params = init_params(jax.random.key(3), model)
  # Larger weights than the initial ones make the bound's curvature felt.
  params = jax.tree.map(lambda w: 1.5 * w + 0.1, params)
  return World(model, params, jnp.asarray([1.0, 0.0, 0.0, 1.0, 1.0, 0.0]))


def gaussian_expectation(f, step=0.02):
  """E[f(ε)] for ε ~ N(0, 1) and analytic f, by the trapezoidal rule.

  Its error falls like exp(−2π d / step) where d is the distance of f's nearest
  pole from the real line: far below rounding for tanh units of slope up to 10,
  for which Gauss–Hermite with 100 nodes has three digits.
  """
  nodes = np.arange(-12, 12 + step / 2, step)
  weights = np.exp(-0.5 * nodes**2) * step / np.sqrt(2 * np.pi)
  return jnp.asarray(weights) @ jax.vmap(f)(jnp.asarray(nodes))


def quadrature_bound(model, params, x, step=0.02):
  """The bound of equation 3 for one latent, by quadrature over the noise."""
  q = model.encoder.given(params.phi, x)

  def term(noise):
    z = q.eta.mean + jnp.exp(0.5 * q.eta.log_var) * noise[None]
    return log_joint(model, params.theta, x, z) - q.log_prob(z)

  return gaussian_expectation(term, step)


def quadrature_log_marginal(model, params, x, step=0.02):
  """log p(x) for one latent, by quadrature over the prior."""

  def likelihood(z):
    return jnp.exp(model.decoder.given(params.theta, z[None]).log_prob(x))

  return jnp.log(gaussian_expectation(likelihood, step))
