"""The reparameterization trick (section 2.4), and the two families of appendix C.

The other families of section 2.4 are in `inverse_cdf`, `location_scale` and `composition`,
after the paper's three constructions; Gaussians of other covariances in `gaussians`.
"""

import functools
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.errors import UnsupportedError
from aevb_jax.types import Array, Distribution, Eta, Family, Key, Support

LOG_2PI = math.log(2 * math.pi)


def reparameterize(key: Key, family: Family, eta: Eta) -> Array:
  """Draws z = g(eta, noise), noise ~ p(noise): section 2.4, the trick itself.

  All randomness comes from `key` and all dependence on the parameters goes
  through the deterministic `family.transform`, so that `jax.grad` of a function
  of z with respect to eta is the pathwise derivative.
  """
  return family.transform(eta, family.noise(key))


def distribution(family: Family, eta: Eta) -> Distribution:
  """The member of `family` that has parameters `eta`."""

  def sample_with_log_prob(key: Key) -> tuple[Array, Array]:
    if family.transform_with_log_prob:
      return family.transform_with_log_prob(eta, family.noise(key))
    z = reparameterize(key, family, eta)
    return z, family.log_prob(eta, z)

  return Distribution(
    sample=lambda key: reparameterize(key, family, eta),
    sample_with_log_prob=sample_with_log_prob,
    log_prob=lambda z: family.log_prob(eta, z),
    mean=family.mean(eta),
    eta=eta,
    reparameterized=family.reparameterized,
    support=family.support(eta),
    at=functools.partial(distribution, family),
  )


def check_shape(what: str, array: Array, size: int) -> None:
  """Raises ValueError unless `array` is one event or head, of shape (size,)."""
  # Without this check a batch would broadcast against one event, and the sum
  # over dimensions would silently run over the batch as well.
  if jnp.shape(array) != (size,):
    raise ValueError(
      f"{what} has shape {jnp.shape(array)}, expected ({size},): "
      "families take one event at a time; use jax.vmap over many"
    )


class DiagonalGaussian(NamedTuple):
  """Parameters of N(mean, diag(exp(log_var))); both have shape (J,)."""

  mean: Array
  log_var: Array


def diagonal_gaussian(
  size: int,
  *,
  mean_link: Callable[[Array], Array] = lambda head: head,
  min_std: float = 0.0,
) -> Family:
  """The Gaussian with diagonal covariance: appendix C.2, equations 9 and 12.

  Args:
    size: number of dimensions J (or D, as a likelihood).
    mean_link: maps the first head to the mean; `jax.nn.sigmoid` for pixels, as
      the paper does for Frey Face.
    min_std: floor on the standard deviation, in units of z: the variance is
      exp(second head) + min_std². Zero, the paper's choice, leaves the density
      of discrete data unbounded.

  Two heads: the mean, and the log-*variance*. In float32 both z and log_prob are
  finite for |log_var| up to 160, while log_prob of a z drawn from it is accurate
  as long as the standard deviation is not lost against the mean (1e-6 of it).
  """

  def from_heads(mean: Array, log_var: Array) -> DiagonalGaussian:
    check_shape("the head for the mean", mean, size)
    check_shape("the head for the log-variance", log_var, size)
    if min_std:
      log_var = jnp.logaddexp(log_var, 2 * math.log(min_std))
    return DiagonalGaussian(mean_link(mean), log_var)

  def log_prob(eta: DiagonalGaussian, z: Array) -> Array:
    check_shape("z", z, size)
    # Dividing before squaring keeps tiny and huge variances inside float32.
    standardized = (z - eta.mean) * jnp.exp(-0.5 * eta.log_var)
    return -0.5 * jnp.sum(LOG_2PI + eta.log_var + standardized**2)

  return Family(
    sizes=(size, size),
    from_heads=from_heads,
    noise=lambda key: jax.random.normal(key, (size,)),
    transform=lambda eta, noise: eta.mean + jnp.exp(0.5 * eta.log_var) * noise,
    log_prob=log_prob,
    mean=lambda eta: eta.mean,
    variance=lambda eta: jnp.exp(eta.log_var),
    entropy=lambda eta: 0.5 * jnp.sum(1 + LOG_2PI + eta.log_var),
  )


class Bernoulli(NamedTuple):
  """Parameters of independent Bernoullis with P(x = 1) = sigmoid(logits), (D,)."""

  logits: Array


@jax.custom_jvp
def _softplus(logits: Array) -> Array:
  # Its derivative needs the logits alone, and that of jax.nn.softplus its value too.
  return jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


_softplus.defjvps(lambda tangent, value, logits: jax.nn.sigmoid(logits) * tangent)


@jax.checkpoint
def _bernoulli_log_prob(logits: Array, x: Array) -> Array:
  # x log y + (1 - x) log(1 - y) with y = sigmoid(logits), finite at any logit. The
  # checkpoint keeps the logits alone for the backward pass: of K samples and M
  # examples, K x M x D numbers.
  return jnp.sum(x * logits - _softplus(logits))


def bernoulli(size: int) -> Family:
  """Independent Bernoullis: appendix C.1, equation 11, computed from logits.

  log_prob takes x in [0, 1]. For x strictly between, as the paper's real-valued
  pixels are, it is the cross-entropy and not the log-density of anything.
  `transform` compares the logits with logistic noise: right as a sampler, but
  with derivative zero everywhere, so the family is not reparameterized.
  """

  def from_heads(logits: Array) -> Bernoulli:
    check_shape("the head for the logits", logits, size)
    return Bernoulli(logits)

  def log_prob(eta: Bernoulli, x: Array) -> Array:
    check_shape("x", x, size)
    return _bernoulli_log_prob(eta.logits, x)

  return Family(
    sizes=(size,),
    from_heads=from_heads,
    noise=lambda key: jax.random.logistic(key, (size,)),
    transform=lambda eta, noise: (eta.logits + noise > 0).astype(eta.logits.dtype),
    log_prob=log_prob,
    mean=lambda eta: jax.nn.sigmoid(eta.logits),
    reparameterized=False,
    support=lambda eta: Support(0, 1, "integers"),
    widest=Support(0, 1, "integers"),
    variance=lambda eta: jax.nn.sigmoid(eta.logits) * jax.nn.sigmoid(-eta.logits),
    entropy=lambda eta: jnp.sum(_softplus(eta.logits) - eta.logits * jax.nn.sigmoid(eta.logits)),
  )


_OF_ONE_DIMENSION = MappingProxyType(
  {Bernoulli: bernoulli(1), DiagonalGaussian: diagonal_gaussian(1)}
)


def log_prob_per_dimension(p: Distribution, x: Array) -> Array:
  """The terms of `p.log_prob(x)`, one for each of D independent dimensions; shape (D,).

  Raises:
    UnsupportedError: for a family whose dimensions are not known to be independent.
  """
  if type(p.eta) not in _OF_ONE_DIMENSION:
    raise UnsupportedError(f"the dimensions of a {type(p.eta).__name__} are not known to be apart")
  family = _OF_ONE_DIMENSION[type(p.eta)]
  alone = lambda tree: jax.tree.map(lambda leaf: leaf[None], tree)
  return jax.vmap(lambda eta, x: family.log_prob(alone(eta), alone(x)))(p.eta, x)
