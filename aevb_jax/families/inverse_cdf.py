"""Section 2.4, first construction: z = F⁻¹(ε; η), ε ~ U(0, 1), with a tractable inverse CDF.

Each family has `size` independent dimensions. Densities outside the support are −inf.

In float32, ε reaches from 6e-8 to 1 − 6e-8. log_prob is then within 1e-5 (1 + |value|) of its value
for parameters from 1e-2 to 1e3, unless a docstring says otherwise. Draws are between the smallest
normal and the largest float.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import gammaln
from scipy.special import digamma

from aevb_jax.families import densities, special
from aevb_jax.families.univariate import (
  POSITIVE,
  exponential_noise,
  independent,
  positive,
  real,
  uniform_noise,
  with_ordered_ends,
)
from aevb_jax.types import Array, Family, Support


class Exponential(NamedTuple):
  rate: Array  # 1 / units of z


class Cauchy(NamedTuple):
  location: Array
  scale: Array


class Logistic(NamedTuple):
  location: Array
  scale: Array


class Rayleigh(NamedTuple):
  scale: Array


class Pareto(NamedTuple):
  scale: Array  # the smallest z
  shape: Array


class Weibull(NamedTuple):
  scale: Array
  shape: Array


class Reciprocal(NamedTuple):
  low: Array
  high: Array


class Gompertz(NamedTuple):
  shape: Array
  rate: Array  # 1 / units of z


class Gumbel(NamedTuple):
  location: Array
  scale: Array


class Erlang(NamedTuple):
  rate: Array  # 1 / units of z; k belongs to the family


def exponential(size: int) -> Family:
  """Makes the Exponential family p(z) = λ exp(−λ z), z ≥ 0, with z = −log(1 − ε) / λ.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with one head of J numbers, the rate λ > 0 in inverse units of z.
  """
  return independent(
    size,
    Exponential,
    (positive,),
    noise=uniform_noise,
    transform=lambda eta, u: exponential_noise(u) / eta.rate,
    log_prob=lambda eta, z: jnp.log(eta.rate) - eta.rate * z,
    mean=lambda eta: 1 / eta.rate,
    variance=lambda eta: eta.rate**-2,
    entropy=lambda eta: 1 - jnp.log(eta.rate),
    support=POSITIVE,
  )


def cauchy(size: int) -> Family:
  """Makes the Cauchy family p(z) = 1 / (π s (1 + t²)), t = (z − m) / s.

  z = m + s tan π(ε − ½). The family has no mean and no variance: both are NaN.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, the location m and the scale s > 0 in units of z.
  """

  def log_prob(eta: Cauchy, z: Array) -> Array:
    t = (z - eta.location) / eta.scale
    # hypot does not overflow where t² would.
    return -math.log(math.pi) - jnp.log(eta.scale) - 2 * jnp.log(jnp.hypot(1.0, t))

  def standard(u: Array) -> Array:
    v = jnp.minimum(u, 1 - u)  # near 1 the product with π would round the tail away
    return jnp.where(u < 0.5, -1, 1) * jnp.cos(math.pi * v) / jnp.sin(math.pi * v)

  return independent(
    size,
    Cauchy,
    (real, positive),
    noise=uniform_noise,
    transform=lambda eta, u: eta.location + eta.scale * standard(u),
    log_prob=log_prob,
    mean=lambda eta: jnp.full_like(eta.location, jnp.nan),
    variance=lambda eta: jnp.full_like(eta.location, jnp.nan),
    entropy=lambda eta: jnp.log(4 * math.pi * eta.scale),
  )


def logistic(size: int) -> Family:
  """Makes the Logistic family F(z) = sigmoid(t), t = (z − m) / s.

  z = m + s (log ε − log(1 − ε)). The paper also lists this family under location and scale, where
  the transform is the same.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, the location m and the scale s > 0 in units of z.
  """

  def log_prob(eta: Logistic, z: Array) -> Array:
    t = jnp.abs(z - eta.location) / eta.scale
    return -t - 2 * jnp.log1p(jnp.exp(-t)) - jnp.log(eta.scale)

  return independent(
    size,
    Logistic,
    (real, positive),
    noise=uniform_noise,
    transform=lambda eta, u: eta.location + eta.scale * (jnp.log(u) - jnp.log1p(-u)),
    log_prob=log_prob,
    mean=lambda eta: eta.location,
    variance=lambda eta: (math.pi * eta.scale) ** 2 / 3,
    entropy=lambda eta: jnp.log(eta.scale) + 2,
  )


def rayleigh(size: int) -> Family:
  """Makes the Rayleigh family p(z) = z / s² exp(−z² / 2s²), z ≥ 0.

  z = s √(−2 log(1 − ε)).

  Args:
    size: the number of dimensions J.

  Returns:
    a family with one head of J numbers, the scale s > 0 in units of z.
  """

  def log_prob(eta: Rayleigh, z: Array) -> Array:
    return jnp.log(z) - 2 * jnp.log(eta.scale) - 0.5 * (z / eta.scale) ** 2

  return independent(
    size,
    Rayleigh,
    (positive,),
    noise=uniform_noise,
    transform=lambda eta, u: eta.scale * jnp.sqrt(2 * exponential_noise(u)),
    log_prob=log_prob,
    mean=lambda eta: eta.scale * math.sqrt(math.pi / 2),
    variance=lambda eta: (2 - math.pi / 2) * eta.scale**2,
    entropy=lambda eta: 1 + jnp.log(eta.scale) - 0.5 * math.log(2) + special.EULER / 2,
    support=POSITIVE,
  )


def pareto(size: int) -> Family:
  """Makes the Pareto family p(z) = α sᵅ / zᵅ⁺¹, z ≥ s, with z = s (1 − ε)^(−1/α).

  The mean is infinite for α ≤ 1, and the variance for α ≤ 2. In float32 z overflows for α < 0.19.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, the scale s > 0 in units of z and the shape α > 0.
  """

  def mean(eta: Pareto) -> Array:
    exists = eta.shape > 1
    return jnp.where(exists, eta.scale * eta.shape / jnp.where(exists, eta.shape - 1, 1), jnp.inf)

  def variance(eta: Pareto) -> Array:
    exists = eta.shape > 2
    a = jnp.where(exists, eta.shape, 3.0)
    return jnp.where(exists, eta.scale**2 * a / ((a - 1) ** 2 * (a - 2)), jnp.inf)

  return independent(
    size,
    Pareto,
    (positive, positive),
    noise=uniform_noise,
    transform=lambda eta, u: densities.smallest_to_largest(
      eta.scale * densities.exp_within(exponential_noise(u) / eta.shape)
    ),
    log_prob=lambda eta, z: (
      jnp.log(eta.shape / eta.scale) - (eta.shape + 1) * special.log_above(z, eta.scale)
    ),
    mean=mean,
    variance=variance,
    entropy=lambda eta: jnp.log(eta.scale / eta.shape) + 1 / eta.shape + 1,
    support=lambda eta: Support(eta.scale, jnp.inf),
    widest=POSITIVE,
  )


def weibull(size: int) -> Family:
  """Makes the Weibull family F(z) = 1 − exp(−(z/s)ᵏ), z ≥ 0, with z = s (−log(1 − ε))^(1/k).

  In float32 draws leave the floats for k < 0.2; z is then their limit. `sample_with_log_prob` gives
  the log-density of the draw itself.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, the scale s > 0 in units of z and the shape k > 0.
  """

  def log_prob(eta: Weibull, z: Array) -> Array:
    log_t = jnp.where(z == 0, -jnp.inf, special.log_ratio(jnp.where(z == 0, 1.0, z), eta.scale))
    return densities.weibull_log_density(eta.scale, eta.shape, z, log_t)

  def transform_with_log_prob(eta: Weibull, u: Array) -> tuple[Array, Array]:
    log_t = jnp.log(exponential_noise(u)) / eta.shape
    z = densities.exp_within(jnp.log(eta.scale) + log_t)
    return z, densities.weibull_log_density(eta.scale, eta.shape, z, log_t)

  def mean(eta: Weibull) -> Array:
    return eta.scale * jnp.exp(gammaln(1 + 1 / eta.shape))

  return independent(
    size,
    Weibull,
    (positive, positive),
    noise=uniform_noise,
    transform=lambda eta, u: transform_with_log_prob(eta, u)[0],
    log_prob=log_prob,
    mean=mean,
    variance=lambda eta: mean(eta) ** 2 * jnp.expm1(special.log_two_moments(1 / eta.shape)),
    entropy=lambda eta: (
      special.EULER * (1 - 1 / eta.shape) + jnp.log(eta.scale) - jnp.log(eta.shape) + 1
    ),
    support=POSITIVE,
    transform_with_log_prob=transform_with_log_prob,
  )


def reciprocal(size: int) -> Family:
  """Makes the Reciprocal family p(z) = 1 / (z log(b/a)), a ≤ z ≤ b, with z = a (b/a)^ε.

  log z is uniform. The links keep the ends in order: a = softplus(first head) + 1e-6 and
  b = a + softplus(second head) + 1e-6.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, the ends a and b in units of z.
  """

  def interval(eta: Reciprocal) -> Array:
    return jnp.log1p((eta.high - eta.low) / eta.low)

  family = independent(
    size,
    Reciprocal,
    (positive, positive),
    noise=uniform_noise,
    transform=lambda eta, u: eta.low * jnp.exp(u * interval(eta)),
    log_prob=lambda eta, z: -jnp.log(z) - jnp.log(interval(eta)),
    mean=lambda eta: (eta.high - eta.low) / interval(eta),
    variance=lambda eta: eta.low * eta.high * special.sinh_gap(interval(eta)),
    entropy=lambda eta: 0.5 * (jnp.log(eta.low) + jnp.log(eta.high)) + jnp.log(interval(eta)),
    support=lambda eta: Support(eta.low, eta.high),
    widest=POSITIVE,
  )

  return with_ordered_ends(family)


def gompertz(size: int) -> Family:
  """Makes the Gompertz family F(z) = 1 − exp(−η (exp(bz) − 1)), z ≥ 0.

  z = log(1 − log(1 − ε) / η) / b.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, shape η > 0 and rate b > 0 in inverse units of z.
  """

  def mean(eta: Gompertz) -> Array:
    return special.exp_e1(eta.shape) / eta.rate

  return independent(
    size,
    Gompertz,
    (positive, positive),
    noise=uniform_noise,
    transform=lambda eta, u: jnp.log1p(exponential_noise(u) / eta.shape) / eta.rate,
    log_prob=lambda eta, z: (
      jnp.log(eta.shape * eta.rate)
      + jnp.minimum(eta.rate * z, jnp.finfo(z.dtype).max)  # finite, beside −∞
      - eta.shape * jnp.expm1(eta.rate * z)
    ),
    mean=mean,
    entropy=lambda eta: 1 - jnp.log(eta.shape) - jnp.log(eta.rate) - special.exp_e1(eta.shape),
    support=POSITIVE,
  )


def gumbel(size: int) -> Family:
  """Makes the Gumbel family F(z) = exp(−exp(−t)), t = (z − m) / s, with z = m − s log(−log ε).

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, the location m and the scale s > 0 in units of z.
  """

  def log_prob(eta: Gumbel, z: Array) -> Array:
    t = (z - eta.location) / eta.scale
    return -t - jnp.exp(-t) - jnp.log(eta.scale)

  return independent(
    size,
    Gumbel,
    (real, positive),
    noise=uniform_noise,
    transform=lambda eta, u: eta.location - eta.scale * jnp.log(-jnp.log(u)),
    log_prob=log_prob,
    mean=lambda eta: eta.location + special.EULER * eta.scale,
    variance=lambda eta: (math.pi * eta.scale) ** 2 / 6,
    entropy=lambda eta: jnp.log(eta.scale) + special.EULER + 1,
  )


def erlang(size: int, count: int) -> Family:
  """Makes the Erlang family, sums of k exponentials of one rate λ: z = −Σᵢ log(1 − εᵢ) / λ.

  The inverse CDF of the sum is not elementary, but the inverse CDF of each term is. The noise has
  shape (J, k).

  Args:
    size: the number of dimensions J.
    count: k, the number of terms.

  Returns:
    a family with one head of J numbers, the rate λ > 0 in inverse units of z.

  Raises:
    ValueError: if count is not positive.
  """
  if count < 1:
    raise ValueError(f"count is {count}, expected at least 1")

  entropy = count + math.lgamma(count) + (1 - count) * float(digamma(count))

  def log_prob(eta: Erlang, z: Array) -> Array:
    return densities.gamma_log_density(jnp.full_like(z, count), eta.rate, z, special.log_of(z))

  return independent(
    size,
    Erlang,
    (positive,),
    noise=lambda key, shape: uniform_noise(key, (*shape, count)),
    transform=lambda eta, u: jnp.sum(exponential_noise(u), axis=-1) / eta.rate,
    log_prob=log_prob,
    mean=lambda eta: count / eta.rate,
    variance=lambda eta: count * eta.rate**-2,
    entropy=lambda eta: entropy - jnp.log(eta.rate),
    support=POSITIVE,
  )
