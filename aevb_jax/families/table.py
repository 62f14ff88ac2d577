"""The names that --posterior, --prior and --likelihood take, and the families behind them."""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax import names
from aevb_jax.families import (
  bijections,
  binary,
  composition,
  flows,
  gaussians,
  inverse_cdf,
  location_scale,
  mixtures,
  own,
  pixels,
)
from aevb_jax.families.base import distribution
from aevb_jax.types import Distribution, Family


class Entry(NamedTuple):
  """A family that a command line can name.

  Attributes:
    make: (size, **arguments) -> the family.
    standard: the parameters of the member that is the prior if no others are given; None for the
      member that heads of all zeros give.
    prior: the name of the prior for a posterior of this family, if no other is given.
  """

  make: Callable[..., Family]
  standard: dict[str, float] | None = None
  prior: str = "gaussian"


def _uniform(size: int, low: float = 0.0, high: float = 1.0) -> Family:
  return location_scale.uniform(size, within=(low, high))


def _flow(
  bijection: Callable, size: int, steps: int, hidden: int, context: int, **spline: int
) -> Family:
  """Makes a flow of `steps` bijections, whose networks have one hidden layer.

  The networks receive `context` numbers that depend on x. If `context` is 0, the map is the same
  for every x, and so only changes the coordinates of z.
  """
  if steps < 1 or hidden < 1 or context < 0:
    raise ValueError(
      f"steps is {steps}, hidden is {hidden}, context is {context}, expected at least 1, 1 and 0"
    )
  step = bijection(size, (hidden,), context_size=context, **spline)
  base = gaussians.gaussian(size)
  return flows.flow(base, flows.stack(step, steps), context_size=context)


def iaf(size: int, steps: int = 2, hidden: int | None = None, context: int = 64) -> Family:
  """Makes an inverse autoregressive flow, whose networks have max(64, J) units by default.

  A network that is narrower than J cannot use every input.
  """
  hidden = max(64, size) if hidden is None else hidden
  return _flow(bijections.inverse_autoregressive, size, steps, hidden, context)


def affine_flow(size: int, steps: int = 4, hidden: int = 64, context: int = 64) -> Family:
  return _flow(bijections.affine_coupling, size, steps, hidden, context)


def spline_flow(
  size: int, steps: int = 4, hidden: int = 64, context: int = 64, bins: int = 8
) -> Family:
  return _flow(bijections.spline_coupling, size, steps, hidden, context, num_bins=bins)


def low_rank_gaussian(size: int, rank: int = 1) -> Family:
  return gaussians.low_rank_gaussian(size, rank)


def erlang(size: int, count: int = 2) -> Family:
  return inverse_cdf.erlang(size, count)


def mixture(size: int, components: int = 5) -> Family:
  return mixtures.gaussian_mixture(size, components)


UNIT_SCALE = dict(location=0.0, scale=1.0)
# The 22 families of section 2.4, in the paper's order.
REPARAMETERIZABLE = {
  "exponential": Entry(inverse_cdf.exponential, dict(rate=1.0), "exponential"),
  "cauchy": Entry(inverse_cdf.cauchy, UNIT_SCALE),
  "logistic": Entry(inverse_cdf.logistic, UNIT_SCALE),
  "rayleigh": Entry(inverse_cdf.rayleigh, dict(scale=1.0), "exponential"),
  "pareto": Entry(inverse_cdf.pareto, dict(scale=1.0, shape=1.0), "exponential"),
  "weibull": Entry(inverse_cdf.weibull, dict(scale=1.0, shape=1.0), "exponential"),
  "reciprocal": Entry(inverse_cdf.reciprocal, dict(low=0.1, high=10.0), "exponential"),
  "gompertz": Entry(inverse_cdf.gompertz, dict(shape=1.0, rate=1.0), "exponential"),
  "gumbel": Entry(inverse_cdf.gumbel, UNIT_SCALE),
  "erlang": Entry(erlang, dict(rate=1.0), "exponential"),
  "laplace": Entry(location_scale.laplace, UNIT_SCALE),
  "elliptical": Entry(location_scale.elliptical),
  "student_t": Entry(location_scale.student_t, UNIT_SCALE),
  "uniform": Entry(_uniform, dict(low=0.0, high=1.0), "uniform"),
  "triangular": Entry(location_scale.triangular, dict(low=-1.0, width=2.0)),
  "gaussian": Entry(gaussians.gaussian, dict(mean=0.0, log_var=0.0)),
  "log_normal": Entry(composition.log_normal, UNIT_SCALE, "log_normal"),
  "gamma": Entry(composition.gamma, dict(shape=1.0, rate=1.0), "gamma"),
  "dirichlet": Entry(composition.dirichlet, dict(concentration=1.0), "dirichlet"),
  "beta": Entry(composition.beta, dict(a=1.0, b=1.0), "beta"),
  "chi_squared": Entry(composition.chi_squared, dict(degrees_of_freedom=1.0), "exponential"),
  "f": Entry(composition.f, dict(numerator=2.0, denominator=5.0), "exponential"),
}
OTHERS = {
  "bernoulli": Entry(binary.bernoulli, dict(logits=0.0), "bernoulli"),
  "full_gaussian": Entry(gaussians.full_gaussian),
  "low_rank_gaussian": Entry(low_rank_gaussian),
}
POSTERIORS = (
  REPARAMETERIZABLE
  | OTHERS
  | {
    "mixture": Entry(mixture),
    "iaf": Entry(iaf),
    "affine_flow": Entry(affine_flow),
    "spline_flow": Entry(spline_flow),
  }
)
FIXED_PRIORS = REPARAMETERIZABLE | OTHERS
LEARNED_PRIORS = ("mixture", "vamp")
PRIORS = [*FIXED_PRIORS, *LEARNED_PRIORS]
# Likelihoods of levels or of [0, 1]; other flags set their arguments.
PIXELS = {
  "continuous_bernoulli": pixels.continuous_bernoulli,
  "discretized_logistic": pixels.discretized_logistic,
  "discretized_gaussian": pixels.discretized_gaussian,
  "categorical": pixels.categorical,
}
LEVELS = ("discretized_logistic", "discretized_gaussian", "categorical")
LIKELIHOODS = ["bernoulli", "gaussian", *PIXELS, *(n for n in REPARAMETERIZABLE if n != "gaussian")]


def parse(text: str, known: Collection[str]) -> tuple[str, dict[str, Any]]:
  """Splits a name from the arguments after colons, such as gamma:shape=2:rate=0.5.

  Raises:
    ValueError: if there is no such name, or an argument is not a number.
  """
  if names.is_own(text, known):
    return names.split(text, known)
  name, *rest = text.split(":")
  if name not in known:
    own = "or package.module:function"
    raise ValueError(f"takes one of {', '.join(known)}, {own}; not {name!r}")
  arguments = {}
  for argument in rest:
    key, _, value = argument.partition("=")
    try:
      number = float(value)
    except ValueError:
      number = float("nan")
    if number != number:
      raise ValueError(f"arguments are written name=number, not {argument!r}")
    arguments[key] = int(number) if value.lstrip("+-").isdigit() else number
  return name, arguments


def make_family(text: str, entries: dict[str, Entry], size: int, **offered: Any) -> Family:
  """Makes the family that `text` names, in `size` dimensions.

  Args:
    text: a name among `entries`, or package.module:function; arguments follow after colons.
    entries: the families of this package that may be named.
    size: the number of dimensions.
    offered: arguments that a user's function gets if its signature names them.

  Raises:
    ValueError: if there is no such family.
  """
  name, arguments = parse(text, entries)
  if name not in entries:
    return own.make_family(name, arguments, size, **offered)
  return _make(name, entries[name], size, arguments)


def default_prior(posterior: str, size: int) -> str:
  """Returns the name of the prior that is used with a posterior if no other is given.

  Raises:
    ValueError: if there is no such posterior, or no standard prior for it.
  """
  name, _ = parse(posterior, POSTERIORS)
  if name in POSTERIORS:
    return POSTERIORS[name].prior
  return own.standard_prior(make_family(posterior, POSTERIORS, size))


def make_prior(text: str, size: int) -> Distribution:
  """Makes the fixed p(z) that `text` names, in `size` dimensions.

  The arguments in `text` are arguments of the family, or parameters of the member.

  Raises:
    ValueError: if there is no such prior.
  """
  name, arguments = parse(text, PRIORS)
  if name not in FIXED_PRIORS:
    return own.make_prior(name, arguments, size)
  entry = FIXED_PRIORS[name]
  standard, of_family = entry.standard or {}, _takes(entry.make)
  of_member = {key: value for key, value in arguments.items() if key in standard}
  rest = {key: value for key, value in arguments.items() if key in of_family or key not in standard}
  family = _make(name, entry, size, rest, standard)
  member = family.from_heads(*(jnp.zeros(width) for width in family.sizes))
  if standard:
    values = (standard | of_member).items()
    member = type(member)(**{key: jnp.full(size, float(value)) for key, value in values})
  return distribution(family, member)


def try_prior(text: str, size: int) -> Distribution:
  """Makes a prior as `make_prior` does, and checks that one draw has a finite log-density.

  Raises:
    ValueError: if there is no such prior, or it has no density.
  """
  p = make_prior(text, size)
  if not jnp.isfinite(p.log_prob(p.sample(jax.random.key(0)))):
    raise ValueError(f"{text} has no density: a parameter is out of its range")
  return p


def is_made_from_model(text: str) -> bool:
  """Reports whether `text` names a user's function that makes a model with another prior.

  Raises:
    ValueError: if there is no such function.
  """
  return names.is_own(text, PRIORS) and own.takes_model(parse(text, PRIORS)[0])


def learned_prior(text: str) -> tuple[str, int] | None:
  """Returns the name and the number of components of a learned prior; None for any other prior.

  Raises:
    ValueError: if there is no such prior, or a learned prior does not take its arguments.
  """
  name, arguments = parse(text, PRIORS)
  if name not in LEARNED_PRIORS:
    return None
  components = arguments.pop("components", 10)
  if arguments or not isinstance(components, int) or components < 1:
    raise ValueError(f"{name} takes only components=, a whole number of at least 1")
  return name, components


def _make(
  name: str, entry: Entry, size: int, arguments: dict[str, float], parameters: Collection[str] = ()
) -> Family:
  takes = _takes(entry.make)
  if unknown := [key for key in arguments if key not in takes]:
    known = ", ".join(dict.fromkeys([*takes, *parameters]))
    raise ValueError(f"{name} takes {known or 'no arguments'}, not {unknown[0]}")
  for key, value in arguments.items():
    if isinstance(takes[key], int | None) and not isinstance(value, int):
      raise ValueError(f"{key} takes a whole number, not {value:g}")
  return entry.make(size, **arguments)


@functools.cache
def _takes(make: Callable[..., Family]) -> dict[str, int | float | None]:
  """Returns the numbers that a family takes in addition to its size, with their defaults."""
  parameters = list(inspect.signature(make).parameters.values())[1:]
  is_number = lambda p: isinstance(p.default, int | float) or p.annotation == int | None
  return {p.name: p.default for p in parameters if is_number(p)}
