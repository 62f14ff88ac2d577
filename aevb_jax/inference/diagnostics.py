"""Diagnostics of a model and its training: how noisy gradients are, and which latents are used.

Gradients of one fixed minibatch are drawn many times, in B batches of n. Each batch keeps its mean,
a vector, and its variance, a number for each block of parameters. The results are computed from
inner products of the means. The inner product of two different batches is unbiased, because their
noise is independent. Each result is an `Interval`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from aevb_jax.types import Array, Estimator, Key, Model, Params, PyTree

ACTIVE = 0.01  # a latent is used if the variance of E_q[z|x] over the data is larger


class Interval(NamedTuple):
  """An estimate and the ends of its confidence interval."""

  value: float
  low: float
  high: float


class GradientBatch(NamedTuple):
  """n gradients of the same minibatch with independent noise."""

  mean: PyTree  # {"theta": ..., "phi": ..., "value": of the estimate itself}
  variance: PyTree  # a number per leaf: the sum over coordinates of the unbiased variance


def gradient_batch(
  key: Key,
  estimator: Estimator,
  model: Model,
  params: Params,
  minibatch: Array,
  *,
  num_repeats: int,
) -> GradientBatch:
  """Draws the gradient of the mean over a minibatch (M, D) `num_repeats` times.

  Args:
    key: repeat i draws from `fold_in(key, i)`, so the same key gives the same noise to estimators
      that draw alike.
    estimator: an estimator of a bound for one data point.
    model: passed to the estimator.
    params: passed to the estimator.
    minibatch: M data points, shape (M, D).
    num_repeats: n, at least 2.

  Returns:
    The mean of the n gradients, by θ, φ and the value of the estimate itself, and their variance:
    for each array, the sum over its coordinates of the unbiased variance.
  """

  def gradient(i: Array | int) -> PyTree:
    keys = jax.random.split(jax.random.fold_in(key, i), len(minibatch))

    def mean(theta: PyTree, phi: PyTree) -> Array:
      p = params._replace(theta=theta, phi=phi)
      return jnp.mean(jax.vmap(lambda key, x: estimator(key, model, p, x))(keys, minibatch))

    value, (theta, phi) = jax.value_and_grad(mean, argnums=(0, 1))(params.theta, params.phi)
    return {"theta": theta, "phi": phi, "value": value}

  first = gradient(0)  # differences from it are summed, which loses no digits

  def add(sums: tuple[PyTree, PyTree], i: Array) -> tuple[tuple[PyTree, PyTree], None]:
    difference = jax.tree.map(jnp.subtract, gradient(i), first)
    squares = jax.tree.map(lambda d: jnp.sum(d**2), difference)
    return jax.tree.map(jnp.add, sums, (difference, squares)), None

  zeros = jax.tree.map(jnp.zeros_like, first), jax.tree.map(lambda g: jnp.zeros((), g.dtype), first)
  (sums, squares), _ = jax.lax.scan(add, zeros, jnp.arange(1, num_repeats))
  mean = jax.tree.map(lambda f, s: f + s / num_repeats, first, sums)
  variance = jax.tree.map(
    lambda s, q: (q - jnp.sum(s**2) / num_repeats) / (num_repeats - 1), sums, squares
  )
  return GradientBatch(mean, variance)


def blocks(gradient: PyTree) -> dict[str, list[int]]:
  """Groups the leaves of a gradient by block: theta, phi, value, and each layer of the networks."""
  named: dict[str, list[int]] = {}
  for i, (path, _) in enumerate(jax.tree_util.tree_flatten_with_path(gradient)[0]):
    names = [str(getattr(entry, "key", getattr(entry, "name", entry))) for entry in path]
    for name in {names[0], "/".join(names[:2])}:
      named.setdefault(name, []).append(i)
  return dict(sorted(named.items(), key=lambda item: (item[0].count("/"), item[0])))


def inner_products(
  first: Sequence[PyTree], second: Sequence[PyTree], leaves: list[int]
) -> np.ndarray:
  """Computes ⟨first_b, second_b'⟩ over some leaves, for every pair of batches; shape (B, B)."""
  total = np.zeros((len(first), len(second)))
  flat = [[jax.tree.leaves(tree) for tree in trees] for trees in (first, second)]
  for i in leaves:
    a, b = (np.stack([np.ravel(leaf[i]) for leaf in trees]).astype(np.float64) for trees in flat)
    total += a @ b.T
  return total


def variance(variances: Array, confidence: float = 0.95) -> Interval:
  """Computes the mean of B independent variances (B,), with Student's interval."""
  variances = np.asarray(variances, np.float64)
  error = variances.std(ddof=1) / np.sqrt(len(variances))
  return _around(variances.mean(), error, len(variances), confidence)


def signal_to_noise(products: Array, variances: Array, confidence: float = 0.95) -> Interval:
  """Estimates ‖E g‖ / √(tr Var g) of one gradient, from inner products and variances of batches.

  For a block of one coordinate it is the ratio of Rainforth et al. (2018), section 3. The products
  of different batches estimate ‖E g‖² without bias.

  Args:
    products: ⟨mean_b, mean_b'⟩ of the means of B batches, shape (B, B).
    variances: the variance of each batch, shape (B,).
    confidence: probability of the interval.

  Returns:
    The ratio, and a jackknife interval over batches.

  Source: Rainforth et al. (2018), section 3.
  """

  def squared(kept: Array) -> np.floating:
    signal = off_diagonal_mean(products[np.ix_(kept, kept)])
    return signal / np.mean(variances[kept])

  with np.errstate(divide="ignore", invalid="ignore"):  # inf without noise, NaN without both
    return _root(_jackknife(squared, len(variances), confidence))


def relative_bias(
  differences: Array, reference_products: Array, confidence: float = 0.95
) -> Interval:
  """Estimates ‖E g − E r‖ / ‖E r‖ for a reference r, from inner products (B, B) of batches.

  The estimate is the root of a ratio of two unbiased estimates of squares. If the interval starts
  at 0, no bias was found.

  Args:
    differences: inner products of the means of g − r, on common keys, shape (B, B).
    reference_products: inner products of the means of r, shape (B, B).
    confidence: probability of the interval.

  Returns:
    The relative bias, and a jackknife interval over batches.
  """

  def squared(kept: Array) -> float:
    chosen = np.ix_(kept, kept)
    return off_diagonal_mean(differences[chosen]) / off_diagonal_mean(reference_products[chosen])

  with np.errstate(divide="ignore", invalid="ignore"):
    return _root(_jackknife(squared, len(differences), confidence))


def off_diagonal_mean(products: Array) -> float:
  """Computes the mean of the entries (b, b') with b ≠ b'."""
  n = len(products)
  return (products.sum() - np.trace(products)) / (n * (n - 1))


def active_units(posterior_means: Array, threshold: float = ACTIVE) -> Array:
  """Finds the latents that carry information on x: their E_q[z|x] varies over the data.

  Source: Burda, Grosse & Salakhutdinov (2015), section 5.2.

  Args:
    posterior_means: E_q[z|x] of N data points, shape (N, J).
    threshold: a latent is active if the variance of its means over the data is larger.

  Returns:
    Booleans, shape (J,).
  """
  return posterior_means.var(axis=0) > threshold


def _root(square: Interval) -> Interval:
  """Takes the root of an interval for a square, whose unbiased estimates may be negative."""
  return Interval(*(float(np.sqrt(np.maximum(value, 0.0))) for value in square))


def _jackknife(statistic, num_batches: int, confidence: float) -> Interval:
  everything = np.arange(num_batches)
  value = statistic(everything)
  left_out = np.array([statistic(np.delete(everything, b)) for b in everything])
  if not np.isfinite(left_out).all():
    return Interval(float(value), float(value), float(value))
  error = np.sqrt((num_batches - 1) * left_out.var())
  return _around(value, error, num_batches, confidence)


def _around(value: float, error: float, num_batches: int, confidence: float) -> Interval:
  half = error * scipy.special.stdtrit(num_batches - 1, (1 + confidence) / 2)
  return Interval(float(value), float(value - half), float(value + half))
