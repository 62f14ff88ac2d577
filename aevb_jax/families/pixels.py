"""Likelihoods of pixels that appendix C does not have: for 8-bit levels, and for [0, 1].

The likelihoods of levels are probabilities and not densities: log p(x) is below zero, and
−log₂ p(x) / D are bits per dimension. x is a level times `step`, as data sets scale it: k/255 or
k/256.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.families.base import LOG_2PI, check_shape
from aevb_jax.families.special import log_ndtr
from aevb_jax.families.univariate import UNIT, independent, real, uniform_noise
from aevb_jax.types import Array, Eta, Family, Key, Support

STEP = 1 / 255


class ContinuousBernoulli(NamedTuple):
  """Parameters of p(x) = C λˣ (1 − λ)¹⁻ˣ on [0, 1], λ = sigmoid(logits); shape (D,)."""

  logits: Array


class DiscretizedLogistic(NamedTuple):
  """Parameters of a logistic density cut into the bins of the levels; both have shape (D,)."""

  mean: Array
  log_scale: Array


class DiscretizedGaussian(NamedTuple):
  """Parameters of a Gaussian density cut into the bins of the levels; both have shape (D,)."""

  mean: Array
  log_var: Array


class Categorical(NamedTuple):
  """Unnormalized log-probabilities of each level; shape (D, levels)."""

  logits: Array


def continuous_bernoulli(size: int) -> Family:
  """Makes the continuous Bernoulli family p(x) = C λˣ (1 − λ)¹⁻ˣ on [0, 1], C = l / tanh(l/2).

  l = logit(λ). The Bernoulli's formula lacks C, so it is not a density of real-valued pixels. The
  inverse CDF is elementary, log(1 + ε (eˡ − 1)) / l, so this family is reparameterized.

  Source: Loaiza-Ganem & Cunningham (2019).

  Args:
    size: the number of pixels D.

  Returns:
    a family with one head of D numbers, the logits.
  """

  def log_prob(eta: ContinuousBernoulli, x: Array) -> Array:
    # x l − softplus(l), from the end that the logit points to, where large terms would cancel.
    l = eta.logits
    off = jnp.where(l > 0, (x - 1) * l, x * l)
    return off - jnp.log1p(jnp.exp(jnp.where(l > 0, -l, l))) + _log_normalizer(l)

  def mean(eta: ContinuousBernoulli) -> Array:
    l = eta.logits
    small = jnp.abs(l) < 1
    square = jnp.where(small, l, 0.0) ** 2
    series = jnp.zeros_like(l)
    for c in reversed(_MEAN_SERIES):
      series = series * square + c
    a = jnp.where(small, 1.0, jnp.abs(l))
    below = 1 / a + jnp.exp(-a) / jnp.expm1(-a)  # the mean for the logit −a
    return jnp.where(small, 0.5 + l * series, jnp.where(l < 0, below, 1 - below))

  def transform(eta: ContinuousBernoulli, u: Array) -> Array:
    # By symmetry negative logits suffice, and their exponential does not overflow.
    l = -jnp.abs(eta.logits)
    v, w = jnp.where(eta.logits < 0, u, 1 - u), jnp.where(eta.logits < 0, 1 - u, u)
    small = l > -0.05
    safe = jnp.where(small, -1.0, l)
    # log(1 + v (eˡ − 1)), which is log(w + v eˡ), by the form that keeps its digits.
    change, rest = v * jnp.expm1(safe), w + v * jnp.exp(safe)
    near = change > -0.5
    log = jnp.where(near, jnp.log1p(jnp.where(near, change, 0.0)), jnp.log(rest))
    x = jnp.where(small, _small_draw(v, w, l), log / safe)
    return jnp.where(eta.logits < 0, x, 1 - x)

  return independent(
    size,
    ContinuousBernoulli,
    (real,),
    noise=uniform_noise,
    transform=transform,
    log_prob=log_prob,
    mean=mean,
    support=UNIT,
  )


# B_2k / (2k)!, of 1 / (1 − exp(−l)) − 1 / l = 1/2 + l / 12 − l³ / 720 + …
_MEAN_SERIES = (
  1 / 12,
  -1 / 720,
  1 / 30240,
  -1 / 1209600,
  1 / 47900160,
  -691 / 1307674368000,
  1 / 74724249600,
)


def _small_draw(v: Array, w: Array, l: Array) -> Array:
  """Computes log(1 + v (eˡ − 1)) / l near l = 0, by the cumulants of a Bernoulli; w is 1 − v."""
  s, skew = v * w, w - v
  # κ_n / (s n!) for n = 2 … 6
  cumulants = (
    1 / 2,
    skew / 6,
    (1 - 6 * s) / 24,
    skew * (1 - 12 * s) / 120,
    (1 - 30 * s * (1 - 4 * s)) / 720,
  )
  total = jnp.zeros_like(l)
  for c in reversed(cumulants):
    total = total * l + c
  return v + l * s * total


def _log_normalizer(logits: Array) -> Array:
  """Computes log(l / tanh(l/2)), near 0 by its series."""
  small = jnp.abs(logits) < 0.1
  l = jnp.where(small, 1.0, jnp.abs(logits))
  square = jnp.where(small, logits**2, 0.0)
  series = math.log(2) + square * (1 / 12 - square * (7 / 1440 - square * 31 / 90720))
  return jnp.where(small, series, jnp.log(l) - jnp.log(jnp.tanh(0.5 * l)))


def discretized_logistic(
  size: int,
  *,
  levels: int = 256,
  step: float = STEP,
  mean_link: Callable[[Array], Array] = lambda head: head,
) -> Family:
  """Makes the family P(x) = F(x + step/2) − F(x − step/2) with a logistic F.

  The bins of the first and the last level are open. The family is not reparameterized. Scales
  below exp(−84) in float32, exp(−674) in float64, count as that, and have no derivative.

  Source: Salimans, Karpathy, Chen & Kingma (2017), section 2.1; Kingma et al. (2016).

  Args:
    size: D.
    levels: the number of levels.
    step: the distance between levels in units of x.
    mean_link: a function from the first head to the mean.

  Returns:
    a family with two heads of D numbers, the mean and the log-scale, in units of x.

  Raises:
    ValueError: if levels is below 2, or step is not positive and finite.
  """

  def log_mass(a: Array, b: Array, log_width: Array) -> Array:
    # σ(b) − σ(a) = σ(b) σ(−a) (1 − exp(a − b)), in which no digits cancel.
    narrow = log_width < -7  # there log(1 − exp(−w)) is log w − w / 2 + w² / 24
    width = jnp.exp(log_width)
    series = log_width - width / 2 + width**2 / 24
    share = jnp.where(narrow, series, _log1mexp(jnp.where(narrow, 1.0, width)))
    return jax.nn.log_sigmoid(b) + jax.nn.log_sigmoid(-a) + share

  return _discretized(
    size,
    DiscretizedLogistic,
    levels,
    step,
    mean_link=mean_link,
    log_scale=lambda eta: eta.log_scale,
    share=0.95,
    log_cdf=jax.nn.log_sigmoid,
    log_mass=log_mass,
    noise=jax.random.logistic,
    transform=lambda eta, noise: eta.mean + jnp.exp(eta.log_scale) * noise,
  )


def discretized_gaussian(
  size: int,
  *,
  levels: int = 256,
  step: float = STEP,
  mean_link: Callable[[Array], Array] = lambda head: head,
) -> Family:
  """Makes the family P(x) = F(x + step/2) − F(x − step/2) with a Gaussian F.

  The bins of the first and the last level are open. The family is not reparameterized. Scales
  below exp(−42) in float32, exp(−340) in float64, count as that, and have no derivative.

  Source: Ho, Jain & Abbeel (2020), equation 13.

  Args:
    size: D.
    levels: the number of levels.
    step: the distance between levels in units of x.
    mean_link: a function from the first head to the mean.

  Returns:
    a family with two heads of D numbers, the mean and the log-variance, in units of x.

  Raises:
    ValueError: if levels is below 2, or step is not positive and finite.
  """

  def log_mass(a: Array, b: Array, log_width: Array) -> Array:
    # The upper tail, where Φ is close to 1, is mapped to the lower one by symmetry.
    flip = a + b > 0
    a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
    middle = 0.5 * (a + b)
    narrow = jnp.exp(log_width) * (1 + jnp.abs(middle)) < 0.2
    upper = log_ndtr(b)
    difference = jnp.where(narrow, 1.0, upper - log_ndtr(a))
    flat = _log_narrow_mass(jnp.where(narrow, middle, 0.0), jnp.where(narrow, log_width, -2.0))
    return jnp.where(narrow, flat, upper + _log1mexp(difference))

  return _discretized(
    size,
    DiscretizedGaussian,
    levels,
    step,
    mean_link=mean_link,
    log_scale=lambda eta: 0.5 * eta.log_var,
    share=0.48,
    log_cdf=log_ndtr,
    log_mass=log_mass,
    noise=jax.random.normal,
    transform=lambda eta, noise: eta.mean + jnp.exp(0.5 * eta.log_var) * noise,
  )


def _log1mexp(x: Array) -> Array:
  """Computes log(1 − exp(−x)) for x > 0; it is 0 at x = ∞."""
  tiny = jnp.finfo(x.dtype).tiny
  return jnp.log(jnp.maximum(-jnp.expm1(-jnp.maximum(x, tiny)), tiny))


def _log_narrow_mass(middle: Array, log_width: Array) -> Array:
  """Computes the log-mass of N(0, 1) in a bin by the midpoint rule and two corrections of it."""
  width = jnp.exp(log_width)
  w, m = width**2, (middle * width) ** 2
  change = (m - w) / 24 + (m**2 - 6 * m * w + 3 * w**2) / 1920
  return log_width - 0.5 * (LOG_2PI + middle**2) + jnp.log1p(change)


def _discretized(
  size: int,
  eta_type: Any,
  levels: int,
  step: float,
  *,
  mean_link: Callable[[Array], Array],
  log_scale: Callable[..., Array],
  share: float,
  log_cdf: Callable[[Array], Array],
  log_mass: Callable[[Array, Array, Array], Array],
  noise: Callable[[Key, tuple[int, ...]], Array],
  transform: Callable[..., Array],
) -> Family:
  """Cuts a density into bins; the parameters eta are a mean and a spread.

  log_mass: (lower end, upper end, log of the width) of a bin, the lengths in units of the scale ->
    its log-probability.
  share: of the logarithm of the largest float, that of the largest distance in units of the scale.
  """
  _check_levels(levels, step)
  top = (levels - 1) * step
  support = Support(0.0, top, "levels")

  def from_heads(mean: Array, log_spread: Array) -> Eta:
    check_shape("the head for the mean", mean, size)
    check_shape(f"the head for the {eta_type._fields[1]}", log_spread, size)
    return eta_type(mean_link(mean), log_spread)

  def masses(eta: Eta, x: Array) -> Array:
    # Neighbouring bins have the same end, to the last digit, so the masses add up to 1.
    floor = -share * math.log(jnp.finfo(x.dtype).max)
    spread = jnp.maximum(log_scale(eta), floor)
    level, inverse = jnp.round(x / step), jnp.exp(-spread)
    end = lambda level: (level * step - eta.mean) * inverse
    a, b = end(level - 0.5), end(level + 0.5)
    ends = jnp.where(level < 0.5, log_cdf(b), log_cdf(-a))
    inner = (level > 0.5) & (level < levels - 1.5)
    return jnp.where(inner | jnp.isnan(level), log_mass(a, b, math.log(step) - spread), ends)

  def log_prob(eta: Eta, x: Array) -> Array:
    check_shape("x", x, size)
    return jnp.sum(masses(eta, x))

  def mean(eta: Eta) -> Array:
    def add(total: Array, x: Array) -> tuple[Array, None]:
      return total + x * jnp.exp(masses(eta, jnp.full_like(eta.mean, x))), None

    grid = step * jnp.arange(levels, dtype=eta.mean.dtype)
    return jax.lax.scan(add, jnp.zeros_like(eta.mean), grid)[0]

  def nearest_level(eta: Eta, noise: Array) -> Array:
    return step * jnp.clip(jnp.round(transform(eta, noise) / step), 0, levels - 1)

  return Family(
    sizes=(size, size),
    from_heads=from_heads,
    noise=lambda key: noise(key, (size,)),
    transform=nearest_level,
    log_prob=log_prob,
    mean=mean,
    reparameterized=False,
    support=lambda eta: support,
    widest=support,
  )


def categorical(size: int, *, levels: int = 256, step: float = STEP) -> Family:
  """Makes the family in which each level of each pixel has its own probability.

  Args:
    size: D.
    levels: the number of levels.
    step: the distance between levels in units of x.

  Returns:
    a family with one head of D · `levels` logits; it is not reparameterized.

  Raises:
    ValueError: if levels is below 2, or step is not positive and finite.
  """
  _check_levels(levels, step)

  def from_heads(logits: Array) -> Categorical:
    check_shape("the head for the logits", logits, size * levels)
    return Categorical(logits.reshape(size, levels))

  def log_prob(eta: Categorical, x: Array) -> Array:
    check_shape("x", x, size)
    level = jnp.clip(jnp.round(x / step), 0, levels - 1)
    index = jnp.where(jnp.isnan(level), 0, level).astype(jnp.int32)
    chosen = jnp.take_along_axis(eta.logits, index[:, None], axis=1)[:, 0] + 0 * level  # NaN stays
    return jnp.sum(chosen - jax.nn.logsumexp(eta.logits, axis=1))

  def entropy(eta: Categorical) -> Array:
    log_p = jax.nn.log_softmax(eta.logits, axis=1)
    return -jnp.sum(jnp.exp(log_p) * log_p)

  return Family(
    sizes=(size * levels,),
    from_heads=from_heads,
    noise=lambda key: jax.random.gumbel(key, (size, levels)),
    transform=lambda eta, noise: (
      step * jnp.argmax(eta.logits + noise, axis=1).astype(eta.logits.dtype)
    ),
    log_prob=log_prob,
    mean=lambda eta: (
      jax.nn.softmax(eta.logits, axis=1) @ (step * jnp.arange(levels, dtype=eta.logits.dtype))
    ),
    reparameterized=False,
    support=lambda eta: Support(0.0, (levels - 1) * step, "levels"),
    widest=Support(0.0, (levels - 1) * step, "levels"),
    entropy=entropy,
  )


def _check_levels(levels: int, step: float) -> None:
  if levels < 2 or not 0 < step < math.inf:
    raise ValueError(f"levels is {levels}, step is {step}, expected at least 2, and positive")
