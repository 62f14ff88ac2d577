"""Section 2.4, second construction: z = location + scale · ε, ε from the standard distribution.

The Gaussian is `gaussians.gaussian`, or `gaussians.full_gaussian` for any covariance. The Logistic
is `inverse_cdf.logistic`, which belongs to both constructions. Every family here except the
Elliptical has `size` independent dimensions. Densities outside the support are −inf.

In float32 log_prob is within 1e-5 of its value, relative to the largest of its terms, for scales
and degrees of freedom from 1e-3 to 1e3, where |location| is below 10 scales.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import scipy.special
from jax.scipy.linalg import solve_triangular

from aevb_jax.families.base import LOG_2PI, check_shape
from aevb_jax.families.gaussians import log_det, scale_tril, tril_sizes
from aevb_jax.families.special import rounded
from aevb_jax.families.univariate import (
  REAL,
  SMALLEST,
  independent,
  positive,
  real,
  uniform_noise,
  with_ordered_ends,
)
from aevb_jax.types import Array, Family, Key, Support


class Laplace(NamedTuple):
  location: Array
  scale: Array


class StudentT(NamedTuple):
  location: Array
  scale: Array  # the degrees of freedom belong to the family


class Uniform(NamedTuple):
  low: Array
  high: Array


class Triangular(NamedTuple):
  low: Array
  width: Array  # the position of the mode between the ends belongs to the family


class Elliptical(NamedTuple):
  """Parameters of z = location + L r u: shapes (J,) and (J, J), L lower triangular."""

  location: Array
  scale_tril: Array


class Radius(NamedTuple):
  """The distribution of the distance of an elliptical family's standard member from its centre."""

  sample: Callable[[Key], Array]  # key -> r ≥ 0, shape ()
  log_density: Callable[[Array], Array]  # r² -> log p(ε) in nats, for any ε with |ε|² = r²
  variance: float  # of each dimension of ε, E[r²] / J; inf if it does not exist


def laplace(size: int) -> Family:
  """Makes the Laplace family (section 2.4), p(z) = exp(−|t|) / 2s, t = (z − m) / s.

  Args:
    size: the number of dimensions J.

  Returns:
    a family with two heads of J numbers, location m and scale s, in units of z.
  """
  return independent(
    size,
    Laplace,
    (real, positive),
    noise=jax.random.laplace,
    transform=lambda eta, noise: eta.location + eta.scale * noise,
    log_prob=lambda eta, z: -jnp.abs(z - eta.location) / eta.scale - jnp.log(2 * eta.scale),
    mean=lambda eta: eta.location,
    variance=lambda eta: 2 * eta.scale**2,
    entropy=lambda eta: 1 + jnp.log(2 * eta.scale),
  )


def student_t(size: int, degrees_of_freedom: float = 5.0) -> Family:
  """Makes the family of Student's t (section 2.4) with ν degrees of freedom.

  ν is fixed, because the noise ε must be free of parameters. The mean is NaN for ν ≤ 1, and the
  variance is infinite for ν ≤ 2.

  Args:
    size: the number of dimensions J.
    degrees_of_freedom: ν.

  Returns:
    a family with two heads of J numbers, location m and scale s, in units of z.

  Raises:
    ValueError: unless ν is positive and finite.
  """
  nu = degrees_of_freedom
  if not 0 < nu < math.inf:
    raise ValueError(f"degrees_of_freedom is {nu}, expected a positive number")
  log_constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
  variance = nu / (nu - 2) if nu > 2 else math.inf

  half = 0.5 * (nu + 1)
  # The hypotenuse does not overflow, and its rounding, times ν + 1, counts only for large ν.
  log1p_square = lambda u: 2 * jnp.log(jnp.hypot(1.0, u)) if nu < 10 else jnp.log1p(u * u)
  entropy = half * float(scipy.special.digamma(half) - scipy.special.digamma(0.5 * nu))
  entropy += 0.5 * math.log(nu) + float(scipy.special.betaln(0.5 * nu, 0.5))

  return independent(
    size,
    StudentT,
    (real, positive),
    noise=lambda key, shape: jax.random.t(key, nu, shape),
    transform=lambda eta, noise: eta.location + eta.scale * noise,
    log_prob=lambda eta, z: (
      log_constant
      - jnp.log(eta.scale)
      - half * log1p_square((z - eta.location) / (eta.scale * math.sqrt(nu)))
    ),
    mean=lambda eta: eta.location if nu > 1 else jnp.full_like(eta.location, jnp.nan),
    variance=lambda eta: variance * eta.scale**2,
    entropy=lambda eta: entropy + jnp.log(eta.scale),
  )


def uniform(size: int, within: tuple[float, float] | None = None) -> Family:
  """Makes the Uniform family (section 2.4), p(z) = 1 / (b − a), a ≤ z ≤ b: z = a + (b − a) ε.

  The first head is a, and the second makes b = a + softplus(head) + 1e-6. With `within`, both heads
  are logits: softmax(first head, second head, 0) is the shares of the interval that a − low, b − a
  and high − b take, so that low ≤ a < b ≤ high.

  The log-density jumps at a and b, and its derivatives with respect to a and b miss the jumps. An
  estimator that differentiates E[f(z)] through z is right. An estimator that uses ∇ log q(z), such
  as `score_function`, is wrong.

  Args:
    size: the number of dimensions J.
    within: (low, high) in units of z, or None.

  Returns:
    a family with two heads of J numbers, for a and b in units of z.

  Raises:
    ValueError: if `within` is not an interval of two finite numbers.
  """
  family = independent(
    size,
    Uniform,
    (real, positive),
    noise=uniform_noise,
    transform=lambda eta, u: eta.low + (eta.high - eta.low) * u,
    log_prob=lambda eta, z: -jnp.log(eta.high - eta.low) + 0 * z,
    mean=lambda eta: 0.5 * (eta.low + eta.high),
    variance=lambda eta: (eta.high - eta.low) ** 2 / 12,
    entropy=lambda eta: jnp.log(eta.high - eta.low),
    support=lambda eta: Support(eta.low, eta.high),
    widest=REAL if within is None else Support(*within),
  )
  if within is None:
    return with_ordered_ends(family)
  if not -math.inf < within[0] < within[1] < math.inf:
    raise ValueError(f"within is {within}, expected two finite numbers, the smaller first")

  def divided(*heads: Array) -> Uniform:
    for name, head in zip(("lower end", "width"), heads, strict=True):
      check_shape(f"the head for the {name}", head, size)
    below, width, _ = jax.nn.softmax(jnp.stack([*heads, jnp.zeros_like(heads[0])]), axis=0)
    start, length = within[0], within[1] - within[0]
    # Rounding could make the ends of a narrower interval equal.
    width = jnp.maximum(width, SMALLEST)
    below = jnp.minimum(below, 1 - width)
    return Uniform(start + length * below, start + length * (below + width))

  return family._replace(from_heads=divided)


def triangular(size: int, mode: float = 0.5) -> Family:
  """Makes the Triangular family (section 2.4) on [a, a + w], with its mode at a + c w.

  z = a + w ε.

  Args:
    size: the number of dimensions J.
    mode: c, which is fixed.

  Returns:
    a family with two heads of J numbers, a and w > 0, in units of z.

  Raises:
    ValueError: unless 0 ≤ mode ≤ 1.
  """
  if not 0 <= mode <= 1:
    raise ValueError(f"mode is {mode}, expected from 0 to 1")

  def noise(key: Key, shape: tuple[int, ...]) -> Array:
    u = uniform_noise(key, shape)
    rising, falling = jnp.sqrt(mode * u), 1 - jnp.sqrt((1 - mode) * (1 - u))
    return jnp.where(u < mode, rising, falling)

  def log_prob(eta: Triangular, z: Array) -> Array:
    t, rest = (z - eta.low) / eta.width, _below_upper_end(eta, z) / eta.width
    left, right = t / mode if mode else t, rest / (1 - mode) if mode < 1 else rest
    side = jnp.where(t < mode if mode < 1 else t <= 1, left, right)
    return jnp.log(2 * side) - jnp.log(eta.width)

  return independent(
    size,
    Triangular,
    (real, positive),
    noise=noise,
    transform=lambda eta, noise: eta.low + eta.width * noise,
    log_prob=log_prob,
    mean=lambda eta: eta.low + eta.width * (1 + mode) / 3,
    variance=lambda eta: eta.width**2 * (1 - mode + mode**2) / 18,
    entropy=lambda eta: 0.5 + jnp.log(0.5 * eta.width),
    support=lambda eta: Support(eta.low, eta.low + eta.width),
    widest=REAL,
  )


def _below_upper_end(eta: Triangular, z: Array) -> Array:
  """Computes low + width − z without the rounding of the sum, which matters close to the end."""
  high = rounded(eta.low + eta.width)
  width = high - eta.low
  rounding = (eta.low - (high - width)) + (eta.width - width)
  return (high - z) + rounding


def gaussian_radius(size: int) -> Radius:
  """Makes the radius of N(0, I): r² is chi-squared with J degrees of freedom."""
  return Radius(
    sample=lambda key: jnp.sqrt(2 * jax.random.gamma(key, 0.5 * size)),
    log_density=lambda r2: -0.5 * (size * LOG_2PI + r2),
    variance=1.0,
  )


def student_radius(size: int, degrees_of_freedom: float) -> Radius:
  """Makes the radius of the multivariate t: r² / J is F with J and ν degrees of freedom."""
  nu = degrees_of_freedom
  log_constant = math.lgamma((nu + size) / 2) - math.lgamma(nu / 2)
  log_constant -= 0.5 * size * math.log(nu * math.pi)

  def sample(key: Key) -> Array:
    gaussian_key, chi_key = jax.random.split(key)
    numerator = jax.random.gamma(gaussian_key, 0.5 * size)
    return jnp.sqrt(nu * numerator / jax.random.gamma(chi_key, 0.5 * nu))

  return Radius(
    sample,
    log_density=lambda r2: log_constant - 0.5 * (nu + size) * jnp.log1p(r2 / nu),
    variance=nu / (nu - 2) if nu > 2 else math.inf,
  )


def elliptical(size: int, radius: Callable[[int], Radius] | None = None) -> Family:
  """Makes the Elliptical family (section 2.4): z = m + L r u, u uniform on the unit sphere.

  Its densities are constant on ellipsoids. p(z) = p(ε) / |L|, where ε = L⁻¹(z − m). `radius` gives
  p(ε), which depends only on |ε|².

  Args:
    size: J.
    radius: J -> the distribution of |ε|, such as `gaussian_radius`; by default the multivariate t
      with 5 degrees of freedom.

  Returns:
    A family with three heads: m (J,), log L_jj² (J,), and L below its diagonal, J(J − 1)/2
    numbers in units of z. For J = 1 it has the first two heads only.
  """
  standard = radius(size) if radius else student_radius(size, 5.0)

  def from_heads(location: Array, *of_tril: Array) -> Elliptical:
    check_shape("the head for the location", location, size)
    return Elliptical(location, scale_tril(size, *of_tril))

  def noise(key: Key) -> Array:
    direction_key, radius_key = jax.random.split(key)
    direction = jax.random.normal(direction_key, (size,))
    return standard.sample(radius_key) * direction / jnp.linalg.norm(direction)

  def log_prob(eta: Elliptical, z: Array) -> Array:
    check_shape("z", z, size)
    noise = solve_triangular(eta.scale_tril, z - eta.location, lower=True)
    return standard.log_density(jnp.sum(noise**2)) - log_det(eta.scale_tril)

  return Family(
    sizes=(size, *tril_sizes(size)),
    from_heads=from_heads,
    noise=noise,
    transform=lambda eta, noise: eta.location + eta.scale_tril @ noise,
    log_prob=log_prob,
    mean=lambda eta: eta.location,
    variance=lambda eta: standard.variance * jnp.sum(eta.scale_tril**2, axis=1),
  )
