"""The families of section 2.4, one row each: ours, scipy's, and the CDF that ours must invert."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.scipy.special import gammainc, ndtr

from aevb_jax.families import composition, gaussians, inverse_cdf, location_scale

A = jnp.asarray


class Case(NamedTuple):
  """A family of three dimensions, a member of it, and scipy's distribution of each dimension."""

  name: str
  make: Callable[[int], Any]
  eta: Any
  scipy: list
  cdf: Callable[[Any, Any], Any] | None = None  # (eta, z) -> F(z), if z is one function of ε

  @property
  def family(self):
    return self.make(3)


def alone(eta, j):
  """Returns the parameters of dimension j, as a family of one dimension has them."""
  return jax.tree.map(lambda leaf: leaf[j, None], eta)


def case(name, make, eta, scipy_of, cdf=None):
  frozen = [scipy_of(*map(float, row)) for row in zip(*eta, strict=True)]
  return Case(name, make, eta, frozen, cdf)


LOC, SCALE = A([-1.5, 0.0, 2.0]), A([0.2, 1.0, 3.0])
SHAPE = A([0.7, 1.0, 4.5])


def student_cdf(eta, z):
  # The CDF is elementary for ν = 3.
  t = (z - eta.location) / (eta.scale * math.sqrt(3))
  return 0.5 + (t / (1 + t**2) + jnp.arctan(t)) / math.pi


def erlang_cdf(eta, z):
  y = eta.rate * z
  return 1 - jnp.exp(-y) * (1 + y + y**2 / 2 + y**3 / 6)


def triangular_cdf(eta, z):
  t = (z - eta.low) / eta.width
  return jnp.where(t < 0.3, t**2 / 0.3, 1 - (1 - t) ** 2 / 0.7)


def laplace_cdf(eta, z):
  t = (z - eta.location) / eta.scale
  half = 0.5 * jnp.exp(-jnp.abs(t))
  return jnp.where(t < 0, half, 1 - half)


st = scipy.stats
INVERSE_CDF = [
  case(
    "exponential",
    inverse_cdf.exponential,
    inverse_cdf.Exponential(SHAPE),
    lambda r: st.expon(scale=1 / r),
    lambda eta, z: -jnp.expm1(-eta.rate * z),
  ),
  case(
    "cauchy",
    inverse_cdf.cauchy,
    inverse_cdf.Cauchy(LOC, SCALE),
    st.cauchy,
    lambda eta, z: 0.5 + jnp.arctan((z - eta.location) / eta.scale) / math.pi,
  ),
  case(
    "logistic",
    inverse_cdf.logistic,
    inverse_cdf.Logistic(LOC, SCALE),
    st.logistic,
    lambda eta, z: 1 / (1 + jnp.exp(-(z - eta.location) / eta.scale)),
  ),
  case(
    "rayleigh",
    inverse_cdf.rayleigh,
    inverse_cdf.Rayleigh(SCALE),
    lambda s: st.rayleigh(scale=s),
    lambda eta, z: -jnp.expm1(-0.5 * (z / eta.scale) ** 2),
  ),
  case(
    "pareto",
    inverse_cdf.pareto,
    inverse_cdf.Pareto(SCALE, A([0.8, 1.5, 4.5])),
    lambda s, a: st.pareto(a, scale=s),
    lambda eta, z: 1 - (eta.scale / z) ** eta.shape,
  ),
  case(
    "weibull",
    inverse_cdf.weibull,
    inverse_cdf.Weibull(SCALE, SHAPE),
    lambda s, k: st.weibull_min(k, scale=s),
    lambda eta, z: -jnp.expm1(-((z / eta.scale) ** eta.shape)),
  ),
  case(
    "reciprocal",
    inverse_cdf.reciprocal,
    inverse_cdf.Reciprocal(SCALE, A([0.7, 1.5, 300.0])),
    st.loguniform,
    lambda eta, z: jnp.log(z / eta.low) / jnp.log(eta.high / eta.low),
  ),
  case(
    "gompertz",
    inverse_cdf.gompertz,
    inverse_cdf.Gompertz(SHAPE, SCALE),
    lambda c, r: st.gompertz(c, scale=1 / r),
    lambda eta, z: -jnp.expm1(-eta.shape * jnp.expm1(eta.rate * z)),
  ),
  case(
    "gumbel",
    inverse_cdf.gumbel,
    inverse_cdf.Gumbel(LOC, SCALE),
    st.gumbel_r,
    lambda eta, z: jnp.exp(-jnp.exp(-(z - eta.location) / eta.scale)),
  ),
  case(
    "erlang",
    lambda size: inverse_cdf.erlang(size, 4),
    inverse_cdf.Erlang(SCALE),
    lambda r: st.gamma(4, scale=1 / r),
    erlang_cdf,
  ),
]
LOCATION_SCALE = [
  case(
    "laplace", location_scale.laplace, location_scale.Laplace(LOC, SCALE), st.laplace, laplace_cdf
  ),
  case(
    "student_t",
    lambda size: location_scale.student_t(size, 3.0),
    location_scale.StudentT(LOC, SCALE),
    lambda m, s: st.t(3.0, m, s),
    student_cdf,
  ),
  case(
    "uniform",
    location_scale.uniform,
    location_scale.Uniform(LOC, LOC + SCALE),
    lambda a, b: st.uniform(a, b - a),
    lambda eta, z: (z - eta.low) / (eta.high - eta.low),
  ),
  case(
    "triangular",
    lambda size: location_scale.triangular(size, 0.3),
    location_scale.Triangular(LOC, SCALE),
    lambda a, w: st.triang(0.3, a, w),
    triangular_cdf,
  ),
  case(
    "gaussian",
    gaussians.gaussian,
    gaussians.DiagonalGaussian(LOC, 2 * jnp.log(SCALE)),
    lambda m, log_var: st.norm(m, np.exp(log_var / 2)),
    lambda eta, z: ndtr((z - eta.mean) * jnp.exp(-0.5 * eta.log_var)),
  ),
]
COMPOSITION = [
  case(
    "log_normal",
    composition.log_normal,
    composition.LogNormal(LOC, A([0.2, 1.0, 1.5])),
    lambda m, s: st.lognorm(s, scale=np.exp(m)),
    lambda eta, z: ndtr((jnp.log(z) - eta.location) / eta.scale),
  ),
  case(
    "gamma",
    composition.gamma,
    composition.Gamma(SHAPE, SCALE),
    lambda a, r: st.gamma(a, scale=1 / r),
    lambda eta, z: gammainc(eta.shape, eta.rate * z),
  ),
  case(
    "chi_squared",
    composition.chi_squared,
    composition.ChiSquared(A([1.4, 2.0, 9.0])),
    st.chi2,
    lambda eta, z: gammainc(0.5 * eta.degrees_of_freedom, 0.5 * z),
  ),
  case("f", composition.f, composition.F(A([1.4, 2.0, 9.0]), A([3.0, 5.0, 12.0])), st.f),
  case("beta", composition.beta, composition.Beta(SHAPE, A([0.6, 2.0, 3.0])), st.beta),
]
UNIVARIATE = INVERSE_CDF + LOCATION_SCALE + COMPOSITION
# These are 22 families with the Elliptical and the Dirichlet, which have several dimensions.
SPECIES = {
  "inverse CDF": [c.name for c in INVERSE_CDF],
  "location and scale": [c.name for c in LOCATION_SCALE] + ["elliptical"],
  "composition": [c.name for c in COMPOSITION] + ["dirichlet"],
}
