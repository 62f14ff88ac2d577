"""Section 2.4, third construction: z as a function of auxiliary variables that can be drawn.

A Gamma variable of real shape is not an elementary function of noise without parameters. It is
drawn by rejection, and `jax.random.gamma` gives it the implicit derivative dz/dη = −(∂F/∂η) / p(z)
(Figurnov, Mohamed & Mnih 2018). The noise is random bits, which determine all the sampler's draws.

Densities outside the support are −inf. In float32 log_prob is within 1e-5 (1 + |value|) of its
value for parameters from 1e-2 to 1e3, and each derivative within 1e-5 of the largest of its terms.

Draws below the smallest normal number, 1e-38 in float32, are raised to it: of a Gamma 1 in 1e11 at
shape 0.3, 1 in 80 at shape 0.05, 2 in 5 at shape 0.01. Their derivatives are those of the draw
itself, and `sample_with_log_prob` gives the log-density of the draw itself, so E[log q] and its
gradient are right. `log_prob` of the raised z is that of another number.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.families.base import LOG_2PI, check_shape
from aevb_jax.families.densities import (
  beta_log_density,
  dirichlet_log_density,
  exp_within,
  f_log_density,
  gamma_log_density,
  log_gamma_draws,
  log_minus,
  sigmoid_within,
  softmax_within,
)
from aevb_jax.families.special import (
  HALF_LOG_2PI,
  digamma_tail,
  log_gamma_tail,
  log_of,
  log_of_rest,
)
from aevb_jax.families.univariate import POSITIVE, UNIT, independent, positive, real
from aevb_jax.types import Array, Family, Key, Support


class LogNormal(NamedTuple):
  """Parameters of z = exp(y), y ~ N(location, scale²); both are in units of log z."""

  location: Array
  scale: Array


class Gamma(NamedTuple):
  shape: Array
  rate: Array  # 1 / units of z


class ChiSquared(NamedTuple):
  degrees_of_freedom: Array


class F(NamedTuple):
  numerator: Array  # degrees of freedom
  denominator: Array


class Beta(NamedTuple):
  a: Array
  b: Array


class Dirichlet(NamedTuple):
  concentration: Array


def log_normal(size: int) -> Family:
  """Makes the Log-Normal family (section 2.4): z = exp(y) for a Gaussian y.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, location and scale of y = log z.
  """

  def of_standard(eta: LogNormal, t: Array, y: Array) -> Array:
    return -0.5 * (LOG_2PI + t**2) - jnp.log(eta.scale) - y

  def log_prob(eta: LogNormal, z: Array) -> Array:
    at_zero = z == 0  # where the density is 0, and its logarithm would be −∞ + ∞
    z = jnp.where(at_zero, 1.0, z)
    from_location = log_minus(z, eta.location)
    density = of_standard(eta, from_location / eta.scale, from_location + eta.location)
    return jnp.where(at_zero & ~jnp.isnan(density), -jnp.inf, density)

  def transform_with_log_prob(eta: LogNormal, noise: Array) -> tuple[Array, Array]:
    y = eta.location + eta.scale * noise
    return exp_within(y), of_standard(eta, noise, y)

  def mean(eta: LogNormal) -> Array:
    return jnp.exp(eta.location + 0.5 * eta.scale**2)

  return independent(
    size,
    LogNormal,
    (real, positive),
    noise=jax.random.normal,
    transform=lambda eta, noise: exp_within(eta.location + eta.scale * noise),
    log_prob=log_prob,
    mean=mean,
    variance=lambda eta: jnp.expm1(eta.scale**2) * mean(eta) ** 2,
    entropy=lambda eta: eta.location + 0.5 * (1 + LOG_2PI) + jnp.log(eta.scale),
    support=POSITIVE,
    transform_with_log_prob=transform_with_log_prob,
  )


def random_bits(key: Key, shape: tuple[int, ...] = ()) -> Array:
  """Draws the noise of a rejection sampler: two words, from which the sampler makes its key."""
  del shape
  return jax.random.bits(key, (2,), jnp.uint32)


def _log_gammas(noise: Array, *shapes: Array) -> list[Array]:
  """Draws log y for independent y ~ Gamma(shape, 1), one differentiable array for each shape."""
  keys = jax.random.split(jax.random.wrap_key_data(noise, impl="threefry2x32"), len(shapes))
  return [log_gamma_draws(jax.random.key_data(k), a) for k, a in zip(keys, shapes, strict=True)]


def gamma(size: int) -> Family:
  """Makes the Gamma family (section 2.4), p(z) = rᵃ zᵃ⁻¹ exp(−r z) / Γ(a), z ≥ 0.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, shape a and rate r in inverse units of z.
  """

  def transform_with_log_prob(eta: Gamma, noise: Array) -> tuple[Array, Array]:
    return _gamma_draw(eta, _log_gammas(noise, eta.shape)[0] - jnp.log(eta.rate))

  return independent(
    size,
    Gamma,
    (positive, positive),
    noise=random_bits,
    transform=lambda eta, noise: transform_with_log_prob(eta, noise)[0],
    log_prob=_gamma_log_prob,
    mean=lambda eta: eta.shape / eta.rate,
    variance=lambda eta: eta.shape / eta.rate**2,
    entropy=_gamma_entropy,
    support=POSITIVE,
    transform_with_log_prob=transform_with_log_prob,
  )


def _gamma_draw(eta: Gamma, log_z: Array) -> tuple[Array, Array]:
  """Returns a draw z and its log-density, from log z, which may be below that of any float."""
  z = exp_within(log_z)
  return z, gamma_log_density(eta.shape, eta.rate, z, log_z)


def _gamma_log_prob(eta: Gamma, z: Array) -> Array:
  return gamma_log_density(eta.shape, eta.rate, z, log_of(z))


def _gamma_entropy(eta: Gamma) -> Array:
  a = eta.shape
  return _log_spread(a) + HALF_LOG_2PI - jnp.log(eta.rate)


def _log_spread(a: Array) -> Array:
  """Computes the entropy of Gamma(a, 1) less ½ log 2π: ½ log a where a is large."""
  return 0.5 * jnp.log(a) + log_gamma_tail(a) - (a - 1) * digamma_tail(a)


def chi_squared_as_gamma(eta: ChiSquared) -> Gamma:
  """Returns the parameters of the same distribution as a Gamma: Gamma(ν/2, 1/2)."""
  half = 0.5 * eta.degrees_of_freedom
  return Gamma(half, jnp.full_like(half, 0.5))


def chi_squared(size: int) -> Family:
  """Makes the Chi-Squared family (section 2.4), Gamma(ν/2, 1/2), for real ν > 0.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with one head of J numbers, the degrees of freedom ν.
  """

  def transform_with_log_prob(eta: ChiSquared, noise: Array) -> tuple[Array, Array]:
    as_gamma = chi_squared_as_gamma(eta)
    return _gamma_draw(as_gamma, _log_gammas(noise, as_gamma.shape)[0] + math.log(2))

  return independent(
    size,
    ChiSquared,
    (positive,),
    noise=random_bits,
    transform=lambda eta, noise: transform_with_log_prob(eta, noise)[0],
    log_prob=lambda eta, z: _gamma_log_prob(chi_squared_as_gamma(eta), z),
    mean=lambda eta: eta.degrees_of_freedom,
    variance=lambda eta: 2 * eta.degrees_of_freedom,
    entropy=lambda eta: _gamma_entropy(chi_squared_as_gamma(eta)),
    support=POSITIVE,
    transform_with_log_prob=transform_with_log_prob,
  )


def f(size: int) -> Family:
  """Makes the F family (section 2.4): (x₁/d₁) / (x₂/d₂) with chi-squared x₁ and x₂.

  The mean is infinite for d₂ ≤ 2, and the variance for d₂ ≤ 4.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, the degrees of freedom d₁ and d₂.
  """

  def transform_with_log_prob(eta: F, noise: Array) -> tuple[Array, Array]:
    above, below = _log_gammas(noise, 0.5 * eta.numerator, 0.5 * eta.denominator)
    log_z = above - below + jnp.log(eta.denominator) - jnp.log(eta.numerator)
    z = exp_within(log_z)
    return z, f_log_density(eta.numerator, eta.denominator, z, log_z)

  def mean(eta: F) -> Array:
    exists = eta.denominator > 2
    d = jnp.where(exists, eta.denominator, 3.0)
    return jnp.where(exists, d / (d - 2), jnp.inf)

  def variance(eta: F) -> Array:
    exists, n = eta.denominator > 4, eta.numerator
    d = jnp.where(exists, eta.denominator, 5.0)
    value = 2 * d**2 * (n + d - 2) / (n * (d - 2) ** 2 * (d - 4))
    return jnp.where(exists, value, jnp.inf)

  def entropy(eta: F) -> Array:
    a, b = 0.5 * eta.numerator, 0.5 * eta.denominator
    # The entropy of a Beta variable's odds, plus that of a change of scale: b / a.
    n = a + b
    value = HALF_LOG_2PI + _log_spread(a) + log_gamma_tail(b) - (b + 1) * digamma_tail(b)
    logs = 0.5 * (jnp.log(n) - jnp.log(b)) - jnp.log(a)
    return value + logs - log_gamma_tail(n) + n * digamma_tail(n)

  return independent(
    size,
    F,
    (positive, positive),
    noise=random_bits,
    transform=lambda eta, noise: transform_with_log_prob(eta, noise)[0],
    log_prob=lambda eta, z: f_log_density(eta.numerator, eta.denominator, z, log_of(z)),
    mean=mean,
    variance=variance,
    entropy=entropy,
    support=POSITIVE,
    transform_with_log_prob=transform_with_log_prob,
  )


def beta(size: int) -> Family:
  """Makes the Beta family (section 2.4), p(z) = zᵃ⁻¹ (1 − z)ᵇ⁻¹ / B(a, b), 0 ≤ z ≤ 1.

  z = y₁ / (y₁ + y₂) for Gamma variables y. A draw is at least the smallest normal number, and at
  most 1 − half the machine epsilon.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, a and b.
  """

  def transform_with_log_prob(eta: Beta, noise: Array) -> tuple[Array, Array]:
    above, below = _log_gammas(noise, eta.a, eta.b)
    logit = above - below
    z = sigmoid_within(logit)
    logs = jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit)
    return z, beta_log_density(eta.a, eta.b, z, *logs)

  def entropy(eta: Beta) -> Array:
    n = eta.a + eta.b
    tails = log_gamma_tail(n) - (n - 2) * digamma_tail(n)
    return HALF_LOG_2PI + _log_spread(eta.a) + _log_spread(eta.b) - 1.5 * jnp.log(n) - tails

  return independent(
    size,
    Beta,
    (positive, positive),
    noise=random_bits,
    transform=lambda eta, noise: transform_with_log_prob(eta, noise)[0],
    log_prob=lambda eta, z: beta_log_density(eta.a, eta.b, z, log_of(z), log_of_rest(z)),
    mean=lambda eta: eta.a / (eta.a + eta.b),
    variance=lambda eta: eta.a * eta.b / ((eta.a + eta.b) ** 2 * (eta.a + eta.b + 1)),
    entropy=entropy,
    support=UNIT,
    transform_with_log_prob=transform_with_log_prob,
  )


def dirichlet(size: int) -> Family:
  """Makes the Dirichlet family (section 2.4), p(z) ∝ Π zⱼ^(αⱼ − 1) where Σ zⱼ = 1.

  z = y / Σ yⱼ for Gamma variables y. The density is that of the first J − 1 numbers, and 0 if z is
  off the simplex by more than rounding.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with one head of J numbers, the concentration α.

  Raises:
    ValueError: if size is below 2.
  """
  if size < 2:
    raise ValueError(f"size is {size}, expected at least 2: one number of a simplex is always 1")

  def from_heads(head: Array) -> Dirichlet:
    check_shape("the head for the concentration", head, size)
    return Dirichlet(positive(head))

  def log_prob(eta: Dirichlet, z: Array) -> Array:
    check_shape("z", z, size)
    tolerance = math.sqrt(jnp.finfo(z.dtype).eps)
    outside = jnp.any(z < 0) | (jnp.abs(jnp.sum(z) - 1) >= tolerance)
    z = jnp.where(outside, 1 / size, z)
    value = dirichlet_log_density(eta.concentration, z, log_of(z))
    return jnp.where(outside & ~jnp.isnan(value), -jnp.inf, value)

  def transform_with_log_prob(eta: Dirichlet, noise: Array) -> tuple[Array, Array]:
    log_y = _log_gammas(noise, eta.concentration)[0]
    z = softmax_within(log_y)
    return z, dirichlet_log_density(eta.concentration, z, jax.nn.log_softmax(log_y))

  def entropy(eta: Dirichlet) -> Array:
    n = jnp.sum(eta.concentration)
    value = jnp.sum(_log_spread(eta.concentration)) - (size - 0.5) * jnp.log(n)
    tails = log_gamma_tail(n) - (n - size) * digamma_tail(n)
    return value + (size - 1) * HALF_LOG_2PI - tails

  def variance(eta: Dirichlet) -> Array:
    total = jnp.sum(eta.concentration)
    mean = eta.concentration / total
    return mean * (1 - mean) / (total + 1)

  simplex = Support(0.0, 1.0, "simplex")
  return Family(
    sizes=(size,),
    from_heads=from_heads,
    noise=random_bits,
    transform=lambda eta, noise: transform_with_log_prob(eta, noise)[0],
    log_prob=log_prob,
    mean=lambda eta: eta.concentration / jnp.sum(eta.concentration),
    support=lambda eta: simplex,
    widest=simplex,
    variance=variance,
    entropy=entropy,
    transform_with_log_prob=transform_with_log_prob,
  )
