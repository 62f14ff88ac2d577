"""The linear-Gaussian state-space model, whose log p(x) and p(z|x) have closed forms.

z_1 ~ N(0, I), z_t = z_{t−1}F + b + N(0, Q) with F = I + A, and x_t = z_tC + d + N(0, R), with
diagonal Q and R. Vectors are rows. The Kalman filter gives log p(x). The smoother of Rauch, Tung &
Striebel (1965) gives the mean and covariance of every z_t given x. p(z|x) itself is a Markov chain,
so structured inference with full covariances has log p(x) as its best bound.

θ is {"decoder": {"mean": {"kernel": C (J, D), "bias": d (D,)}, "log_var": log R (D,)}, "prior":
{"mean": {"kernel": A (J, J), "bias": b (J,)}, "log_var": log Q (J,)}}. φ has the same structure:
q(z|x; φ) is the posterior of a model with the parameters φ, and the bound is log p(x) at φ = θ.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import multivariate_normal

from aevb_jax.families.base import distribution, holding
from aevb_jax.families.gaussians import Gaussian, full_gaussian, gaussian
from aevb_jax.families.markov import Markov, markov
from aevb_jax.models.linear_gaussian import AffineHeads
from aevb_jax.models.networks import conditional
from aevb_jax.models.state_space import as_frames, state_space
from aevb_jax.types import Array, Conditional, Distribution, Model, PyTree

Moments = tuple[Array, Array]  # a mean (J,) and a covariance (J, J), or η and Λ of `posterior`


def linear_state_space_vae(num_steps: int, data_dim: int, latent_dim: int) -> Model:
  """Makes the linear-Gaussian state-space model with structured inference of full covariances.

  Args:
    num_steps: T, the frames of every sequence.
    data_dim: D, numbers in a frame.
    latent_dim: J, numbers in z_t.

  Returns:
    A model of x (T·D,) and z (T·J,), whose θ and φ have the structure that this module's docstring
    gives.

  Raises:
    ValueError: if num_steps is below 1.
  """
  frame = conditional(AffineHeads(data_dim), gaussian(data_dim), latent_dim)
  change = conditional(AffineHeads(latent_dim), gaussian(latent_dim), latent_dim)
  sizes = dict(num_steps=num_steps, latent_dim=latent_dim)
  q = lambda phi, x: posterior(phi, x, num_steps)
  model = state_space(gaussian(data_dim), frame, change, Conditional(lambda key: (), q), **sizes)
  return model._replace(encoder=Conditional(model.decoder.init, q))


class Filtered(NamedTuple):
  """Gaussians of z_t, given the frames before t and given also x_t; the first axis is t."""

  predicted_mean: Array  # (T, J)
  predicted_cov: Array  # (T, J, J)
  mean: Array  # (T, J)
  cov: Array  # (T, J, J)
  log_prob: Array  # (T,), log p(x_t|x_1, …, x_{t−1}) in nats


def kalman_filter(theta: PyTree, x: Array, num_steps: int) -> Filtered:
  """Computes p(z_t|x_1, …, x_t) for all t, from the first step to the last.

  Source: Kalman (1960).

  Args:
    theta: as in this module's docstring.
    x: one sequence, shape (T·D,).
    num_steps: T.

  Returns:
    The means and covariances of every step; the sum of `log_prob` is log p(x).

  Raises:
    ValueError: if x has another length.
  """
  f, b, q = _affine(theta["prior"], identity=True)
  c, d, r = _affine(theta["decoder"])

  def step(predicted: Moments, x_t: Array) -> tuple[Moments, Filtered]:
    mean, cov = predicted
    of_x = c.T @ cov @ c + jnp.diag(r)
    gain = jnp.linalg.solve(of_x, c.T @ cov)  # (D, J)
    found, left = mean + (x_t - mean @ c - d) @ gain, cov - cov @ c @ gain
    log_prob = multivariate_normal.logpdf(x_t, mean @ c + d, of_x)
    ahead = found @ f + b, f.T @ left @ f + jnp.diag(q)
    return ahead, Filtered(mean, cov, found, left, jnp.asarray(log_prob))

  first = jnp.zeros(len(f)), jnp.eye(len(f))
  return jax.lax.scan(step, first, as_frames(x, num_steps, len(d)))[1]


def log_marginal(theta: PyTree, x: Array, num_steps: int) -> Array:
  """Computes log p(x) in nats, shape (), for one sequence x (T·D,) of T = num_steps frames."""
  return jnp.sum(kalman_filter(theta, x, num_steps).log_prob)


def smoother(theta: PyTree, x: Array, num_steps: int) -> Moments:
  """Computes the mean (T, J) and covariance (T, J, J) of p(z_t|x) for all t, backwards.

  Source: Rauch, Tung & Striebel (1965).

  Args:
    theta: as in this module's docstring.
    x: one sequence, shape (T·D,).
    num_steps: T.

  Returns:
    The means and covariances, in units of z.

  Raises:
    ValueError: if x has another length.
  """
  f = _affine(theta["prior"], identity=True)[0]
  found = kalman_filter(theta, x, num_steps)

  def step(later: Moments, at: tuple[Filtered, Filtered]) -> tuple[Moments, Moments]:
    now, after = at
    gain = jnp.linalg.solve(after.predicted_cov, f.T @ now.cov)  # (J, J)
    mean = now.mean + (later[0] - after.predicted_mean) @ gain
    cov = now.cov + gain.T @ (later[1] - after.predicted_cov) @ gain
    return (mean, cov), (mean, cov)

  last = found.mean[-1], found.cov[-1]
  now, after = (jax.tree.map(pick, found) for pick in (lambda a: a[:-1], lambda a: a[1:]))
  _, rest = jax.lax.scan(step, last, (now, after), reverse=True)
  mean, cov = (jnp.concatenate([a, end[None]]) for a, end in zip(rest, last))
  return mean, cov


def posterior(theta: PyTree, x: Array, num_steps: int) -> Distribution:
  """Makes p(z|x) as a Markov chain, q(z_t|z_{t−1}) = p(z_t|z_{t−1}, x_t, …, x_T).

  p(x_t, …, x_T|z_t) is, up to a factor, exp(η_t·z_t − z_tΛ_tz_tᵀ / 2). Λ and η are computed from
  the last step to the first.

  Args:
    theta: as in this module's docstring.
    x: one sequence, shape (T·D,).
    num_steps: T.

  Returns:
    The distribution of z, shape (T·J,). Gradients flow to theta.

  Raises:
    ValueError: if x has another length.
  """
  f, b, q = _affine(theta["prior"], identity=True)
  c, d, r = _affine(theta["decoder"])
  size = len(f)

  def step(later: Moments, x_t: Array) -> tuple[Moments, Moments]:
    linear, square = later  # η and Λ of the frames after t, as a function of z_t
    linear, square = linear + ((x_t - d) / r) @ c.T, square + (c / r[None]) @ c.T
    # ∫ N(z; u, Q) exp(η·z − zΛzᵀ / 2) dz at the mean u = z_{t−1}F + b.
    shrink = jnp.linalg.inv(jnp.eye(size) + square * q[None])  # (I + ΛQ)⁻¹
    of_mean, spread = linear @ shrink.T, shrink @ square
    return ((of_mean - b @ spread) @ f.T, f @ spread @ f.T), (linear, square)

  start = jnp.zeros(size), jnp.zeros((size, size))
  frames = as_frames(x, num_steps, len(d))
  _, (linear, square) = jax.lax.scan(step, start, frames, reverse=True)
  follows = jnp.ones(num_steps).at[0].set(0)
  given = holding(_product, f, b, q)
  return markov(Markov(given, (linear, square, follows), start=jnp.zeros(size)))


def _product(f: Array, b: Array, q: Array, z: Array, of_step: tuple[Array, ...]) -> Distribution:
  """The normalized product of p(z_t|z_{t−1}) and exp(η·z_t − z_tΛz_tᵀ / 2): precisions add."""
  linear, square, follows = of_step
  precision = jnp.where(follows, 1 / q, 1.0)
  cov = jnp.linalg.inv(jnp.diag(precision) + square)
  mean = (follows * (z @ f + b) * precision + linear) @ cov
  return distribution(full_gaussian(len(z)), Gaussian(mean, jnp.linalg.cholesky(cov)))


def _affine(params: PyTree, identity: bool = False) -> tuple[Array, Array, Array]:
  """Returns the matrix, with 1 added to the diagonal if `identity`, the shift and the variances."""
  kernel, bias = params["mean"]["kernel"], params["mean"]["bias"]
  return kernel + jnp.eye(len(kernel)) if identity else kernel, bias, jnp.exp(params["log_var"])
