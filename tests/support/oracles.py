"""Exact worlds: models whose bound, gradients and log p(x) are known."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from aevb_jax import Model, Params, bernoulli, init_params, log_joint, log_weight, mlp_vae
from aevb_jax.inference.annealing import bidirectional_monte_carlo
from aevb_jax.inference.exact import binary_vectors
from aevb_jax.models import fair_coins
from aevb_jax.models.joint import simulate
from aevb_jax.models.linear_gaussian import AffineHeads as AffineHeads
from aevb_jax.models.linear_gaussian import linear_gaussian_vae as affine_model
from tests.support.statistics import assert_unbiased


def affine_params(w, b, x_log_var, v, c, z_log_var):
  """Makes Params of x ~ N(zW + b, exp(x_log_var)), z|x ~ N(xV + c, exp(z_log_var))."""
  return Params(
    theta={"mean": {"kernel": w, "bias": b}, "log_var": x_log_var},
    phi={"mean": {"kernel": v, "bias": c}, "log_var": z_log_var},
  )


def affine_bound(params, x):
  """Computes the bound of equation 3 with every expectation in closed form."""
  w, b = params.theta["mean"]["kernel"], params.theta["mean"]["bias"]
  v, c = params.phi["mean"]["kernel"], params.phi["mean"]["bias"]
  x_var, z_var = jnp.exp(params.theta["log_var"]), jnp.exp(params.phi["log_var"])
  z_mean = x @ v + c
  expected_square = (x - z_mean @ w - b) ** 2 + z_var @ w**2
  reconstruction = -0.5 * jnp.sum(jnp.log(2 * jnp.pi * x_var) + expected_square / x_var)
  return reconstruction + 0.5 * jnp.sum(1 + jnp.log(z_var) - z_mean**2 - z_var)


def affine_log_marginal(params, x):
  """Computes log N(x; b, WᵀW + diag(var)) with scipy."""
  w, b = np.asarray(params.theta["mean"]["kernel"]), np.asarray(params.theta["mean"]["bias"])
  covariance = w.T @ w + np.diag(np.exp(params.theta["log_var"]))
  return scipy.stats.multivariate_normal.logpdf(np.asarray(x), b, covariance)


class World(NamedTuple):
  model: Model
  params: Params
  x: jax.Array


@functools.cache
def affine_world(data_dim=5, latent_dim=3):
  """Makes an arbitrary affine-Gaussian model with a q(z|x) that is not its posterior."""
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


@functools.cache
def exact_posterior_world(data_dim=5, latent_dim=3):
  """Makes an affine-Gaussian model with orthogonal rows of W; q(z|x) is its exact posterior."""
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


@functools.cache
def bernoulli_world(data_dim=6):
  """Makes a model with one latent, tanh networks and Bernoulli data: exact by quadrature."""
  model = mlp_vae(bernoulli(data_dim), data_dim=data_dim, latent_dim=1, hidden_dim=7)
  params = init_params(jax.random.key(3), model)
  # The weights are larger than the initial ones, so that the bound's curvature matters.
  params = jax.tree.map(lambda w: 1.5 * w + 0.1, params)
  return World(model, params, jnp.asarray([1.0, 0.0, 0.0, 1.0, 1.0, 0.0]))


@functools.cache
def binary_world(data_dim=4, latent_dim=3):
  """Makes a model with binary latents, tanh networks and Bernoulli data: exact by enumeration."""
  model = mlp_vae(
    bernoulli(data_dim),
    data_dim=data_dim,
    latent_dim=latent_dim,
    hidden_dim=5,
    posterior=bernoulli,
    prior=fair_coins,
  )
  params = init_params(jax.random.key(5), model)
  params = jax.tree.map(lambda w: 1.5 * w + 0.1, params)
  return World(model, params, jnp.asarray([1.0, 0.0, 1.0, 1.0]))


def exact_bound_of_two(bound, model, params, x, step=0.05):
  """Computes E[bound(log w_1, log w_2)] of two independent samples without sampling.

  For one Gaussian latent, it is a quadrature over both noises (the trapezoidal rule, see
  `exact.gaussian_expectation`); for binary latents, it is an enumeration of all pairs.
  """
  q = model.encoder.given(params.phi, x)
  if q.reparameterized:
    nodes = np.arange(-9, 9 + step / 2, step)
    probabilities = jnp.asarray(np.exp(-0.5 * nodes**2) * step / np.sqrt(2 * np.pi))
    z = at_noise(q, nodes)
  else:
    z = binary_vectors(q.eta.logits.size)
    probabilities = jnp.exp(jax.vmap(q.log_prob)(z))
  log_w = jax.vmap(lambda z: log_weight(model, params, q, x, z))(z)
  of_pair = jax.vmap(jax.vmap(lambda a, b: bound(jnp.stack([a, b])), (None, 0)), (0, None))
  return probabilities @ of_pair(log_w, log_w) @ probabilities


def at_noise(q, nodes):
  std = jnp.exp(0.5 * q.eta.log_var)
  return jax.vmap(lambda noise: q.eta.mean + std * noise)(jnp.asarray(nodes))


def wake_phi_of_two(model, params, x, step=0.05):
  """Computes E[Σ_k w̃_k ∇φ log q(z_k|x)] of two samples of one Gaussian latent by quadrature."""
  q = model.encoder.given(params.phi, x)
  nodes = np.arange(-9, 9 + step / 2, step)
  probabilities = jnp.asarray(np.exp(-0.5 * nodes**2) * step / np.sqrt(2 * np.pi))
  z = at_noise(q, nodes)
  w = jnp.exp(jax.vmap(lambda z: log_weight(model, params, q, x, z))(z))
  # By symmetry, the sum is twice the first sample's term.
  first_share = (w[:, None] / (w[:, None] + w[None, :])) @ probabilities

  def expected_log_q(phi):
    log_q = jax.vmap(model.encoder.given(phi, x).log_prob)(z)
    return 2 * jnp.vdot(probabilities * first_share, log_q)

  return grad(expected_log_q)(params.phi)


def sleep_phi(model, params):
  """Computes ∇φ E[log q(z|x)] under the model's own x and z, enumerating all of them."""
  z_size = model.prior(params).mean.size
  x_size = model.decoder.given(params.theta, jnp.zeros(z_size)).mean.size
  zs, xs = binary_vectors(z_size), binary_vectors(x_size)
  log_p = jax.vmap(lambda z: jax.vmap(lambda x: log_joint(model, params, x, z))(xs))(zs)

  def expected_log_q(phi):
    log_q = jax.vmap(lambda z: jax.vmap(lambda x: model.encoder.given(phi, x).log_prob(z))(xs))(zs)
    return jnp.sum(jnp.exp(log_p) * log_q)

  return grad(expected_log_q)(params.phi)


def grad(function, *args):
  """Compiles `jax.grad` whole, which takes less time than one program for each operation."""
  return jax.jit(jax.grad(function, *args))


def value_and_grad(function, *args):
  """Compiles `jax.value_and_grad` whole, like `grad`."""
  return jax.jit(jax.value_and_grad(function, *args))


def draws(estimator, world, n, seed=0, **kwargs):
  """Returns the values and gradients of n independent estimates."""

  def value_and_grad(key):
    return jax.value_and_grad(lambda p: estimator(key, world.model, p, world.x, **kwargs))(
      world.params
    )

  return jax.jit(jax.vmap(value_and_grad))(jax.random.split(jax.random.key(seed), n))


def flat(tree):
  """Returns the leaves of a tree as one NumPy row."""
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def rows(tree):
  """Returns the leaves of a tree of n values as n NumPy rows."""
  leaves = jax.tree.leaves(tree)
  return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves], axis=1)


def precision(log_density, z):
  """Returns minus the Hessian of a quadratic function, at any z."""
  return -jax.hessian(log_density)(z)


def exact_bound(model, params, x):
  """Computes E_q[log p(x, z)] + the entropy of q, where both densities are Gaussian."""
  q, joint = model.encoder.given(params.phi, x), lambda z: log_joint(model, params, x, z)
  root = precision(q.log_prob, q.mean)
  entropy = 0.5 * (len(q.mean) * (1 + jnp.log(2 * jnp.pi)) - jnp.linalg.slogdet(root)[1])
  spread = jnp.trace(jnp.linalg.solve(root, precision(joint, q.mean)))
  return joint(q.mean) - 0.5 * spread + entropy


def assert_annealing_encloses(model, params, exact_log_p, seed):
  """Asserts that annealing from both sides is unbiased for p(x) and for 1 / p(x).

  Data points x are drawn from the model with their z, which are draws of the posterior.

  Args:
    model: p(z) and p(x|z).
    params: θ and φ.
    exact_log_p: x -> log p(x) in nats.
    seed: of the draws; the annealing has the next one.

  Returns:
    The two estimates of log p(x), (400,) each.
  """
  draw = jax.vmap(lambda key: simulate(key, model, params))
  z, x = draw(jax.random.split(jax.random.key(seed), 400))
  how = dict(num_temperatures=50, num_leapfrogs=4, num_chains=4)
  sandwich = lambda key, x, z: bidirectional_monte_carlo(key, model, params, x, z, **how)
  keys = jax.random.split(jax.random.key(seed + 1), len(x))
  lower, upper = jax.jit(jax.vmap(sandwich))(keys, x, z)
  log_p = np.array([exact_log_p(one) for one in x])
  assert_unbiased(np.exp(lower.value - log_p), 1.0, detects=0.1)
  assert_unbiased(np.exp(log_p - upper.value), 1.0, detects=0.15)
  return lower.value, upper.value
