"""Log-densities of one number that lose no digits: Gamma, Beta, F, Weibull and Log-Normal.

For large shapes a log-density is a small difference of large terms. Near the mode it is therefore
written with Stirling's formula, whose large terms cancel by hand (Loader 2000). The derivatives are
written out: they hold at the borders of the support too, as the limits of their formulas.

Each function takes log z beside z. Where a draw z is below the smallest float its logarithm still
says where it was. All of the derivative is given to z.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from aevb_jax.families.special import (
  HALF_LOG_2PI,
  SHIFT,
  log_beta,
  stirling_series,
  u_minus_log_near,
  with_slopes,
  xdivy,
)
from aevb_jax.types import Array


def _times_log(factor: Array, log: Array) -> Array:
  """Computes factor · log, which is 0 for a factor of 0, also where log is −∞."""
  return jnp.where((factor == 0) & jnp.isneginf(log), 0.0, factor * log)


def _nothing(*arguments: Array) -> Array:
  return jnp.zeros_like(arguments[-1])


def _near_mode(u: Array) -> Array:
  return jnp.abs(u) < 0.5


def product_minus(x: Array, y: Array, c: Array) -> Array:
  """Computes x y − c, right to the last digits where the product is close to c.

  Args:
    x, y, c: any numbers.

  Returns:
    x y − c. In float32 its error is 1e-7 of the value and 1e-10 of c.
  """
  x, y = jnp.broadcast_arrays(x, y)
  if x.dtype != jnp.float32:
    return x * y - c
  # Halves of the factors, whose products are exact.
  high = lambda a: jax.lax.bitcast_convert_type(
    jax.lax.bitcast_convert_type(a, jnp.int32) & ~0xFFF, jnp.float32
  )
  x_0, y_0 = high(x), high(y)
  x_1, y_1 = x - x_0, y - y_0
  value = ((x_0 * y_0 - c) + (x_0 * y_1 + x_1 * y_0)) + x_1 * y_1
  return jnp.where(jnp.isfinite(value), value, x * y - c)


def _gamma_slope(a: Array, rate: Array, z: Array, log_z: Array) -> Array:
  at_zero = xdivy(a - 1, z) - rate
  return jnp.where(z == 0, at_zero, -product_minus(rate, z, a - 1) / jnp.where(z == 0, 1.0, z))


@with_slopes(
  lambda a, rate, z, log_z: log_z + jnp.log(rate) - digamma(a),
  lambda a, rate, z, log_z: -product_minus(rate, z, a) / rate,
  _gamma_slope,
  _nothing,
)
def gamma_log_density(a: Array, rate: Array, z: Array, log_z: Array) -> Array:
  """Computes the log-density of Gamma(a, rate) at z ≥ 0, in nats, number by number.

  Args:
    a, rate: the shape, and the rate in inverse units of z.
    z, log_z: the place and its logarithm.

  Returns:
    log p(z), within 1e-5 (1 + |value|) in float32 and 1e-10 (1 + |value|) in float64 for shapes
    from 1e-2 to 1e3.
  """
  u = (rate * z - a) / a
  near_mode = 0.5 * jnp.log(a) - HALF_LOG_2PI - stirling_series(a) - a * u_minus_log_near(u) - log_z
  elsewhere = _times_log(a - 1, log_z) + a * jnp.log(rate) - rate * z - gammaln(a)
  return jnp.where((a >= SHIFT) & _near_mode(u), near_mode, elsewhere)


def dirichlet_log_density(concentration: Array, z: Array, log_z: Array) -> Array:
  """Computes the log-density of a Dirichlet distribution, of the first J − 1 numbers, in nats.

  z are independent Gammas with these shapes and their sum n as the rate, given that they sum to 1.

  Args:
    concentration: shape (J,).
    z, log_z: the place on the simplex and its logarithm, shape (J,). A sum of z that rounding moved
      off 1 is taken for 1.

  Returns:
    log p(z), shape (), within 1e-5 (J + |value|) in float32 for concentrations from 1e-2 to 1e3.
  """
  n, one = jnp.sum(concentration), jnp.ones((), z.dtype)
  gammas = jnp.sum(gamma_log_density(concentration, n, z, log_z))
  # Their density falls with the sum, that of the Dirichlet does not; in value the sum is 1.
  rise = n * (jnp.sum(z) - jax.lax.stop_gradient(jnp.sum(z)))
  return gammas - gamma_log_density(n, n, one, jnp.zeros_like(one)) + rise


def _beta_kernel(a: Array, b: Array, u: Array, v: Array) -> Array:
  """Computes log(wᵃ (1 − w)ᵇ / B(a, b)) near the mode: u = n w / a − 1, v = n (1 − w) / b − 1."""
  n = a + b
  spread = 0.5 * (jnp.log(a) + jnp.log(b) - jnp.log(n)) - HALF_LOG_2PI
  tails = stirling_series(n) - stirling_series(a) - stirling_series(b)
  return spread + tails - a * u_minus_log_near(u) - b * u_minus_log_near(v)


def _beta_slope(a: Array, b: Array, z: Array, log_z: Array, log_rest: Array) -> Array:
  return xdivy(a - 1, z) - xdivy(b - 1, 1 - z)


@with_slopes(
  lambda a, b, z, log_z, log_rest: log_z - digamma(a) + digamma(a + b),
  lambda a, b, z, log_z, log_rest: log_rest - digamma(b) + digamma(a + b),
  _beta_slope,
  _nothing,
  _nothing,
)
def beta_log_density(a: Array, b: Array, z: Array, log_z: Array, log_rest: Array) -> Array:
  """Computes the log-density of Beta(a, b) at z from 0 to 1, in nats, number by number.

  Args:
    a, b: the shapes.
    z, log_z, log_rest: the place, log z and log(1 − z).

  Returns:
    log p(z), within 1e-5 (1 + |value|) in float32 and 1e-10 (1 + |value|) in float64 for shapes
    from 1e-2 to 1e3.
  """
  excess = b * z - a * (1 - z)  # n z − a
  u, v = excess / a, -excess / b
  near = (jnp.minimum(a, b) >= SHIFT) & _near_mode(u) & _near_mode(v)
  elsewhere = _times_log(a - 1, log_z) + _times_log(b - 1, log_rest) - log_beta(a, b)
  return jnp.where(near, _beta_kernel(a, b, u, v) - log_z - log_rest, elsewhere)


def _from_mode(d_1: Array, d_2: Array, z: Array) -> Array:
  """Computes (z − 1) / (1 + d_1 z / d_2), also for z so large that products overflow."""
  large = z > 1
  inverse = 1 / jnp.where(large, z, 1.0)
  far = (1 - inverse) / (inverse + d_1 / d_2)
  return jnp.where(large, far, (z - 1) / (1 + d_1 / d_2 * z))


def _log1p_odds(d_1: Array, d_2: Array, log_z: Array) -> Array:
  """Computes log(1 + d_1 z / d_2)."""
  return jax.nn.softplus(jnp.log(d_1) - jnp.log(d_2) + log_z)


def _f_slope_1(d_1: Array, d_2: Array, z: Array, log_z: Array) -> Array:
  a, b = 0.5 * d_1, 0.5 * d_2
  log_w = log_z + jnp.log(d_1) - jnp.log(d_2) - _log1p_odds(d_1, d_2, log_z)
  return 0.5 * (log_w - digamma(a) + digamma(a + b) - _from_mode(d_1, d_2, z))


def _f_slope_2(d_1: Array, d_2: Array, z: Array, log_z: Array) -> Array:
  a, b = 0.5 * d_1, 0.5 * d_2
  logs = digamma(a + b) - digamma(b) - _log1p_odds(d_1, d_2, log_z)
  return 0.5 * (logs + d_1 / d_2 * _from_mode(d_1, d_2, z))


def _f_slope_z(d_1: Array, d_2: Array, z: Array, log_z: Array) -> Array:
  at_zero = xdivy(0.5 * d_1 - 1, z) - 0.5 * (d_1 + d_2) * d_1 / d_2
  elsewhere = (-0.5 * d_1 * _from_mode(d_1, d_2, z) - 1) / jnp.where(z == 0, 1.0, z)
  return jnp.where(z == 0, at_zero, elsewhere)


@with_slopes(_f_slope_1, _f_slope_2, _f_slope_z, _nothing)
def f_log_density(d_1: Array, d_2: Array, z: Array, log_z: Array) -> Array:
  """Computes the log-density of F(d₁, d₂) at z ≥ 0, in nats, number by number.

  Args:
    d_1, d_2: the degrees of freedom.
    z, log_z: the place and its logarithm.

  Returns:
    log p(z), within 1e-5 (1 + |value|) in float32 and 1e-10 (1 + |value|) in float64 for degrees of
    freedom from 1e-2 to 1e3.
  """
  a, b, x = 0.5 * d_1, 0.5 * d_2, d_1 / d_2 * z
  u = _from_mode(d_1, d_2, z)
  v = -d_1 / d_2 * u
  near = (jnp.minimum(a, b) >= SHIFT) & _near_mode(u) & _near_mode(v)
  log_odds = jnp.log(d_1) - jnp.log(d_2)
  low = _times_log(a - 1, log_z) + a * log_odds - (a + b) * jnp.log1p(x)
  rest = jnp.log1p(1 / x)
  high = -(a + b) * rest - b * (log_odds + log_z) - log_z
  elsewhere = jnp.where(x < 1, low, high) - log_beta(a, b)
  return jnp.where(near, _beta_kernel(a, b, u, v) - log_z, elsewhere)


def _weibull_slope(scale: Array, k: Array, z: Array, log_t: Array) -> Array:
  return xdivy(k - 1, z) - k / scale * jnp.exp(_times_log(k - 1, log_t))


@with_slopes(
  lambda scale, k, z, log_t: k / scale * jnp.expm1(k * log_t),
  lambda scale, k, z, log_t: 1 / k - log_t * jnp.expm1(k * log_t),
  _weibull_slope,
  _nothing,
)
def weibull_log_density(scale: Array, k: Array, z: Array, log_t: Array) -> Array:
  """Computes the log-density of the Weibull distribution at z ≥ 0, in nats, number by number.

  Args:
    scale, k: the scale in units of z, and the shape.
    z, log_t: the place, and log(z / scale).

  Returns:
    log p(z), within 1e-5 (1 + |value|) in float32 and 1e-10 (1 + |value|) in float64 for
    parameters from 1e-2 to 1e3.
  """
  return jnp.log(k) - jnp.log(scale) + _times_log(k - 1, log_t) - jnp.exp(k * log_t)


@with_slopes(lambda z, m: 1 / z, lambda z, m: -jnp.ones_like(z))
def log_minus(z: Array, m: Array) -> Array:
  """Computes log z − m, right to the last digits where the two are close.

  Args:
    z: positive, normal numbers.
    m: any numbers.

  Returns:
    log z − m, with an error of 1e-7 |value| and 3e-8 in float32.
  """
  if z.dtype != jnp.float32:
    return jnp.log(z) - m
  bits = jax.lax.bitcast_convert_type(z, jnp.int32)
  power = (bits - 0x3F3504F3) >> 23  # z is 2^power times a fraction from √½ to √2
  fraction = jax.lax.bitcast_convert_type(bits - (power << 23), z.dtype)
  exponent = power.astype(z.dtype)
  # log(1 + u) = 2 (s + s³ / 3 + …) with s = u / (2 + u), whose rounding error is taken along.
  u, below = fraction - 1, fraction + 1
  inverse = 1 / below
  s = u * inverse
  square = s * s
  series = square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square * (1 / 9 + square / 11))))
  rest = 2 * (s * series - product_minus(s, below, u) * inverse)
  # 355 / 512 is close to log 2 and has few bits, so its multiples are exact.
  whole = exponent * (355 / 512) - m
  return (whole + 2 * s) + (rest - exponent * 2.12194440e-4) + 0 * z  # NaN stays NaN


def smallest_to_largest(z: Array) -> Array:
  """Raises positive numbers to the smallest normal float, and lowers them to the largest."""
  limits = jnp.finfo(z.dtype)
  return jnp.clip(z, limits.tiny, limits.max)


@jax.custom_jvp
def exp_within(log_z: Array) -> Array:
  """Computes exp(log z) between the smallest normal and the largest float.

  Its derivative is z d log z, also where z was raised or lowered to a limit. So the derivative of
  log z is right there, which those of log-densities need.

  Args:
    log_z: any numbers.

  Returns:
    z, never 0 and never infinite.
  """
  return smallest_to_largest(jnp.exp(log_z))


exp_within.defjvps(lambda tangent, z, log_z: z * tangent)


@jax.custom_jvp
def sigmoid_within(logit: Array) -> Array:
  """Computes sigmoid(logit), between the smallest normal float and the largest one below 1.

  Its derivative is z (1 − z) d logit, also at these limits.

  Args:
    logit: any numbers.

  Returns:
    z, never 0 and never 1.
  """
  limits = jnp.finfo(logit.dtype)
  return jnp.clip(jax.nn.sigmoid(logit), limits.tiny, 1 - limits.epsneg)


sigmoid_within.defjvps(lambda tangent, z, logit: z * (1 - z) * tangent)


@jax.custom_jvp
def softmax_within(log_y: Array) -> Array:
  """Computes softmax(log y), of which no number is below the smallest normal float.

  Its derivative is zⱼ (d log yⱼ − Σ z d log y), also at that limit.

  Args:
    log_y: any numbers, shape (J,).

  Returns:
    z, shape (J,).
  """
  z = jax.nn.softmax(log_y)
  return jnp.maximum(z, jnp.finfo(z.dtype).tiny)


softmax_within.defjvps(lambda tangent, z, log_y: z * (tangent - jnp.sum(z * tangent)))


@jax.custom_jvp
def log_gamma_draws(noise: Array, a: Array) -> Array:
  """Draws log y, y ~ Gamma(a, 1), with the implicit derivative with respect to a.

  `jax.random.loggamma` has a derivative too, but not of draws y below 1e-38, which are most of them
  for shapes below 0.01. For small y the derivative is the one of the series of y's distribution.

  Source: Figurnov, Mohamed & Mnih (2018).

  Args:
    noise: random words, shape (2,); see `random_bits`.
    a: the shapes, shape (J,).

  Returns:
    log y, shape (J,).
  """
  return _loggamma(noise, a)


def _loggamma(noise: Array, a: Array) -> Array:
  key = jax.random.wrap_key_data(noise, impl="threefry2x32")
  return jax.random.loggamma(key, a, dtype=a.dtype)


@log_gamma_draws.defjvp
def _log_gamma_draws_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (noise, a), (_, tangent) = primals, tangents
  log_y, slope = jax.jvp(lambda a: _loggamma(noise, a), (a,), (jnp.ones_like(a),))
  small = log_y < SMALL_LOG_DRAW
  return log_y, jnp.where(small, _slope_of_small(jnp.where(small, log_y, 0.0), a), slope) * tangent


SMALL_LOG_DRAW = -7.0  # y < 1e-3: five terms of the series have every digit of float64


def _slope_of_small(log_y: Array, a: Array) -> Array:
  """Computes d log y / da from F(y; a) = yᵃ Σ_n (−y)ⁿ / (n! (a + n)) / Γ(a)."""
  y = jnp.exp(log_y)
  score = log_y - digamma(a + 1)  # log y − ψ(a) is this plus 1 / a, which cancels for n = 0
  total, term = score / a, jnp.ones_like(y)
  for n in range(1, 5):
    term = -term * y / n
    total += term / (a + n) * (score + 1 / a - 1 / (a + n))
  return -jnp.exp(y) * total
