"""Section 2.4, third construction: z as a function of auxiliary variables that can be drawn.

A Gamma variable of real shape is not an elementary function of noise without parameters. It is
drawn by rejection, and `jax.random.gamma` gives it the implicit derivative dz/dη = −(∂F/∂η) / p(z)
(Figurnov, Mohamed & Mnih 2018). The noise is random bits, which determine all the sampler's draws.

Densities outside the support are −inf. In float32 log_prob is within 1e-5 of its value, relative to
the largest of its terms, for parameters from 1e-2 to 1e3. Gamma draws below the smallest normal
number, 1e-38 in float32, are raised to it: 1 in 1e11 at shape 0.3, and 1 in 100 at shape 0.05.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, digamma, gammaln, xlog1py, xlogy

from aevb_jax.families.base import LOG_2PI, check_shape
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

  def log_prob(eta: LogNormal, z: Array) -> Array:
    y = jnp.log(jnp.maximum(z, jnp.finfo(z.dtype).tiny))  # at 0 the density is almost 0, not NaN
    t = (y - eta.location) / eta.scale
    return -0.5 * (LOG_2PI + t**2) - jnp.log(eta.scale) - y

  def mean(eta: LogNormal) -> Array:
    return jnp.exp(eta.location + 0.5 * eta.scale**2)

  return independent(
    size,
    LogNormal,
    (real, positive),
    noise=jax.random.normal,
    transform=lambda eta, noise: jnp.exp(eta.location + eta.scale * noise),
    log_prob=log_prob,
    mean=mean,
    variance=lambda eta: jnp.expm1(eta.scale**2) * mean(eta) ** 2,
    entropy=lambda eta: eta.location + 0.5 * (1 + LOG_2PI) + jnp.log(eta.scale),
    support=POSITIVE,
  )


def random_bits(key: Key, shape: tuple[int, ...] = ()) -> Array:
  """Draws the noise of a rejection sampler: two words, from which the sampler makes its key."""
  del shape
  return jax.random.bits(key, (2,), jnp.uint32)


def _log_gamma_variables(noise: Array, *shapes: Array) -> list[Array]:
  """Draws log y for independent y ~ Gamma(shape, 1), one differentiable array for each shape."""
  key = jax.random.wrap_key_data(noise, impl="threefry2x32")
  keys = jax.random.split(key, len(shapes))
  return [jax.random.loggamma(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def _positive_exp(log_z: Array) -> Array:
  return jnp.maximum(jnp.exp(log_z), jnp.finfo(log_z.dtype).tiny)


def gamma(size: int) -> Family:
  """Makes the Gamma family (section 2.4), p(z) = rᵃ zᵃ⁻¹ exp(−r z) / Γ(a), z ≥ 0.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, shape a and rate r in inverse units of z.
  """
  return independent(
    size,
    Gamma,
    (positive, positive),
    noise=random_bits,
    transform=lambda eta, noise: _positive_exp(
      _log_gamma_variables(noise, eta.shape)[0] - jnp.log(eta.rate)
    ),
    log_prob=_gamma_log_prob,
    mean=lambda eta: eta.shape / eta.rate,
    variance=lambda eta: eta.shape / eta.rate**2,
    entropy=_gamma_entropy,
    support=POSITIVE,
  )


def _gamma_log_prob(eta: Gamma, z: Array) -> Array:
  a, y = eta.shape, eta.rate * z
  return xlogy(a - 1, y) - y - gammaln(a) + jnp.log(eta.rate)


def _gamma_entropy(eta: Gamma) -> Array:
  a = eta.shape
  return a - jnp.log(eta.rate) + gammaln(a) + (1 - a) * digamma(a)


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

  def transform(eta: ChiSquared, noise: Array) -> Array:
    log_y = _log_gamma_variables(noise, 0.5 * eta.degrees_of_freedom)[0]
    return _positive_exp(log_y + math.log(2))

  return independent(
    size,
    ChiSquared,
    (positive,),
    noise=random_bits,
    transform=transform,
    log_prob=lambda eta, z: _gamma_log_prob(chi_squared_as_gamma(eta), z),
    mean=lambda eta: eta.degrees_of_freedom,
    variance=lambda eta: 2 * eta.degrees_of_freedom,
    entropy=lambda eta: _gamma_entropy(chi_squared_as_gamma(eta)),
    support=POSITIVE,
  )


def f(size: int) -> Family:
  """Makes the F family (section 2.4): (x₁/d₁) / (x₂/d₂) with chi-squared x₁ and x₂.

  The mean is infinite for d₂ ≤ 2, and the variance for d₂ ≤ 4.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, the degrees of freedom d₁ and d₂.
  """

  def transform(eta: F, noise: Array) -> Array:
    above, below = _log_gamma_variables(noise, 0.5 * eta.numerator, 0.5 * eta.denominator)
    return _positive_exp(above - below + jnp.log(eta.denominator / eta.numerator))

  def log_prob(eta: F, z: Array) -> Array:
    a, b = 0.5 * eta.numerator, 0.5 * eta.denominator
    ratio = eta.numerator / eta.denominator
    log_odds = jnp.log(ratio) + jnp.log(z)
    return a * jnp.log(ratio) + xlogy(a - 1, z) - (a + b) * jax.nn.softplus(log_odds) - betaln(a, b)

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
    # This is the entropy of a Beta variable's odds, then the change that the scale makes.
    value = betaln(a, b) + (1 - a) * digamma(a) - (1 + b) * digamma(b) + (a + b) * digamma(a + b)
    return value + jnp.log(eta.denominator / eta.numerator)

  return independent(
    size,
    F,
    (positive, positive),
    noise=random_bits,
    transform=transform,
    log_prob=log_prob,
    mean=mean,
    variance=variance,
    entropy=entropy,
    support=POSITIVE,
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

  def transform(eta: Beta, noise: Array) -> Array:
    above, below = _log_gamma_variables(noise, eta.a, eta.b)
    z = jax.nn.sigmoid(above - below)
    limits = jnp.finfo(z.dtype)
    return jnp.clip(z, limits.tiny, 1 - limits.epsneg)

  def entropy(eta: Beta) -> Array:
    a, b = eta
    spread = (a - 1) * digamma(a) + (b - 1) * digamma(b) - (a + b - 2) * digamma(a + b)
    return betaln(a, b) - spread

  return independent(
    size,
    Beta,
    (positive, positive),
    noise=random_bits,
    transform=transform,
    log_prob=lambda eta, z: xlogy(eta.a - 1, z) + xlog1py(eta.b - 1, -z) - betaln(eta.a, eta.b),
    mean=lambda eta: eta.a / (eta.a + eta.b),
    variance=lambda eta: eta.a * eta.b / ((eta.a + eta.b) ** 2 * (eta.a + eta.b + 1)),
    entropy=entropy,
    support=UNIT,
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

  def log_constant(eta: Dirichlet) -> Array:
    return jnp.sum(gammaln(eta.concentration)) - gammaln(jnp.sum(eta.concentration))

  def log_prob(eta: Dirichlet, z: Array) -> Array:
    check_shape("z", z, size)
    tolerance = math.sqrt(jnp.finfo(z.dtype).eps)
    inside = jnp.all(z >= 0) & (jnp.abs(jnp.sum(z) - 1) < tolerance)
    z = jnp.where(inside, z, 1 / size)
    return jnp.where(inside, jnp.sum(xlogy(eta.concentration - 1, z)) - log_constant(eta), -jnp.inf)

  def transform(eta: Dirichlet, noise: Array) -> Array:
    z = jax.nn.softmax(_log_gamma_variables(noise, eta.concentration)[0])
    return jnp.maximum(z, jnp.finfo(z.dtype).tiny)

  def entropy(eta: Dirichlet) -> Array:
    a, total = eta.concentration, jnp.sum(eta.concentration)
    surprise = (total - size) * digamma(total) - jnp.sum((a - 1) * digamma(a))
    return log_constant(eta) + surprise

  def variance(eta: Dirichlet) -> Array:
    total = jnp.sum(eta.concentration)
    mean = eta.concentration / total
    return mean * (1 - mean) / (total + 1)

  simplex = Support(0.0, 1.0, "simplex")
  return Family(
    sizes=(size,),
    from_heads=from_heads,
    noise=random_bits,
    transform=transform,
    log_prob=log_prob,
    mean=lambda eta: eta.concentration / jnp.sum(eta.concentration),
    support=lambda eta: simplex,
    widest=simplex,
    variance=variance,
    entropy=entropy,
  )
