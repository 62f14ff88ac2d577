"""families.check passes every family of the package, and names each error planted in a new one."""

import re
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import betaln, xlog1py, xlogy

from aevb_jax import families
from aevb_jax.errors import FamilyError
from aevb_jax.families import table
from aevb_jax.families.verification import comparisons
from aevb_jax.types import Support

FEW = 20_000
long = pytest.mark.long
FAST = ("exponential", "uniform", "bernoulli")


class Kumaraswamy(NamedTuple):
  a: jax.Array
  b: jax.Array


def inverse(a, b, u):
  z = (-jnp.expm1(jnp.log1p(-u) / b)) ** (1 / a)
  return jnp.minimum(z, 1 - jnp.finfo(z.dtype).epsneg)


def log_density(a, b, z):
  log_z = jnp.log(z)
  return jnp.log(a) + jnp.log(b) + (a - 1) * log_z + (b - 1) * jnp.log(-jnp.expm1(a * log_z))


def kumaraswamy(size=1, **changes):
  """Makes the recipe's family; a change replaces an argument of `families.independent`."""
  arguments = dict(
    noise=families.uniform_noise,
    transform=lambda eta, u: inverse(eta.a, eta.b, u),
    log_prob=lambda eta, z: log_density(eta.a, eta.b, z),
    mean=lambda eta: eta.b * jnp.exp(betaln(1 + 1 / eta.a, eta.b)),
    support=Support(0.0, 1.0),
  )
  links = families.positive, families.positive
  return families.independent(size, Kumaraswamy, links, **arguments | changes)


def entropy(eta):
  harmonic = jax.scipy.special.digamma(eta.b + 1) - jax.scipy.special.digamma(1.0)
  return 1 - 1 / eta.b + (1 - 1 / eta.a) * harmonic - jnp.log(eta.a) - jnp.log(eta.b)


def second_moment(eta):
  return eta.b * jnp.exp(betaln(1 + 2 / eta.a, eta.b))


def variance(eta):
  return second_moment(eta) - (eta.b * jnp.exp(betaln(1 + 1 / eta.a, eta.b))) ** 2


def checked(family, **how):
  """Checks a family and asserts that everything could be decided."""
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    families.check(family, **how)


@pytest.mark.parametrize("size", [1, pytest.param(3, marks=long)])
def test_a_right_family_passes(size):
  checked(kumaraswamy(size, entropy=entropy, variance=variance), num_draws=100_000)


def twice(eta, z):
  return 2 * log_density(eta.a, eta.b, z)


@jax.custom_jvp
def sloped(x):
  return x


sloped.defjvps(lambda tangent, value, x: 1.1 * tangent)


def stopped(eta, u):
  return inverse(jax.lax.stop_gradient(eta.a), eta.b, u)


def of_float32(eta, z):
  return log_density(eta.a, eta.b, z) + (0.01 if z.dtype == jnp.float32 else 0.0)


def overflows(eta, z):
  value = log_density(eta.a, eta.b, z)
  return value + 0 * jnp.exp(60 * value)


def rounded(eta, u):
  return (-jnp.expm1(jnp.log1p(-u) / eta.b)) ** (1 / eta.a)


def by_difference(eta, z):
  rest = jnp.log1p(-jnp.exp(eta.a * jnp.log(z)))
  return log_density(eta.a, 1.0, z) + jnp.log(eta.b) + (eta.b - 1) * rest


def fails(eta, z):
  raise KeyError("no such shape")


def compares(eta, z):
  return log_density(eta.a, eta.b, z) if z[0] > 0 else 0.0


WRONG = {  # the change, and what the sentence has to name
  "a constant": (
    dict(log_prob=lambda eta, z: log_density(eta.a, eta.b, z) + 0.1),
    r"log_prob is too large by 0\.\d+ \(± .*\) nats .* everywhere, at Kumaraswamy\(a=\[.*\], "
    r"b=\[.*\]\) in float64: look at the normalization constant",
  ),
  "a factor of z": (
    dict(log_prob=lambda eta, z: log_density(eta.a, eta.b, z) + 0.4 * jnp.log(z)),
    r"log_prob is too .* where z\[0\] is from .*: look at how log_prob depends on z",
  ),
  "density of twice": (dict(log_prob=twice), "log_prob is too "),
  "pathwise derivative": (
    dict(transform=stopped),
    r"derivative of transform in head 0 is wrong: .* slope 0, and by log_prob .*stops gradients",
  ),
  "pathwise derivative by a fifth": (
    dict(transform=lambda eta, u: inverse(sloped(sloped(eta.a)), eta.b, u)),
    "derivative of transform in head 0 is wrong",
  ),
  "derivative of log_prob in eta": (
    dict(log_prob=lambda eta, z: log_density(eta.a, jax.lax.stop_gradient(eta.b), z)),
    r"derivative of log_prob in head 1 is 0, but differences of log_prob give",
  ),
  "derivative of log_prob in z": (
    dict(log_prob=lambda eta, z: log_density(eta.a, eta.b, sloped(z))),
    r"derivative of log_prob in z\[0\] is .*, but differences",
  ),
  "support too small": (
    dict(support=Support(0.0, 0.7)),
    r"transform draws z\[0\] = .*, outside the support, the numbers from 0 to 0.7",
  ),
  "support too large": (
    dict(support=Support(0.0, 2.0)),
    r"log_prob is nan where z\[0\] = 1\..*, although that is in the support",
  ),
  "support of all numbers": (
    dict(support=Support()),
    r"log_prob is nan where z\[0\] = .*, although that is in the support, all numbers",
  ),
  "support of positive numbers": (
    dict(support=Support(low=0.0)),
    r"log_prob is .* although that is in the support",
  ),
  "widest": (
    dict(support=lambda eta: Support(0.0, 1.0), widest=Support(0.0, 0.5)),
    "support is the numbers from 0 to 1 .*, and widest, .* from 0 to 0.5, does not contain it",
  ),
  "mean": (
    dict(mean=lambda eta: eta.b * jnp.exp(betaln(1 + 1 / eta.a, eta.b)) + 0.05),
    r"mean\[0\] is .*, and draws have .* \(± .*look at the family's mean",
  ),
  "variance": (dict(variance=second_moment), r"variance\[0\] is .*, and draws have"),
  "entropy": (dict(entropy=lambda eta: -entropy(eta)), "entropy is .*, and draws have"),
  "shape of the mean": (
    dict(mean=lambda eta: jnp.sum(eta.a)),
    r"mean returns shape \(\), expected shape \(1,\)",
  ),
  "shape of z": (
    dict(transform=lambda eta, u: inverse(eta.a, eta.b, u)[None]),
    r"transform returns shape \(1, 1\), expected one z of shape \(J,\)",
  ),
  "overflow in float32": (
    dict(log_prob=overflows),
    "log_prob is nan at the draw z = .* in float32: look at overflow",
  ),
  "draws on the border": (
    dict(transform=rounded),
    r"log_prob is inf at the draw z = \[1.\] .* in float32: keep draws off the border",
  ),
  "another value in float32": (
    dict(log_prob=of_float32),
    "log_prob is .* in float32 and .* in float64 at z = .*",
  ),
  "cancellation near a border": (
    dict(log_prob=by_difference),
    "log_prob is .* in float32 and .* in float64 at z = .* look at differences",
  ),
  "precision of its own": (
    dict(transform=lambda eta, u: inverse(eta.a, eta.b, u).astype(jnp.float32)),
    "transform returns float32 for parameters in float64",
  ),
  "an exception": (
    dict(log_prob=fails),
    r"log_prob fails: KeyError: 'no such shape' \(.*test_verification.py, line \d+",
  ),
  "a branch of Python": (
    dict(log_prob=compares),
    r"log_prob fails: TracerBoolConversionError: .*\(.*test_verification.py, line \d+",
  ),
  "transform_with_log_prob": (
    dict(
      transform_with_log_prob=lambda eta, u: (
        inverse(eta.a, eta.b, u),
        log_density(eta.a, eta.b, inverse(eta.a, eta.b, u)) + 0.01,
      )
    ),
    "transform_with_log_prob gives z = .* with log_prob .*, and transform and log_prob give",
  ),
}


def message(family, **how):
  with pytest.raises(FamilyError) as caught:
    families.check(family, **how)
  text = str(caught.value)
  assert "\n" not in text
  return text


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_family_is_refused_with_its_reason(name):
  change, expected = WRONG[name]
  text = message(kumaraswamy(**change), num_draws=FEW)
  assert re.search(expected, text), text


def test_only_the_wrong_part_is_named():
  """A density that is too high in the lower third and too low elsewhere has a whole of 1."""
  tilted = lambda eta, z: log_density(eta.a, eta.b, z) + jnp.where(z < 0.4, 0.3, -0.15)
  assert " where z[0] is " in message(kumaraswamy(log_prob=tilted), num_draws=FEW)


def test_a_family_is_a_tuple_of_its_own_kind():
  family = kumaraswamy()
  plain = lambda a, b: (families.positive(a), families.positive(b))
  assert "from_heads returns a tuple, expected a NamedTuple" in message(
    family._replace(from_heads=plain)
  )
  assert "takes a Family, not function" in message(kumaraswamy)
  assert "sizes is [1, 1]" in message(family._replace(sizes=[1, 1]))
  assert "support is Family, expected a Support" in message(
    family._replace(support=lambda eta: family)
  )
  assert "has the kind 'ball'" in message(family._replace(widest=Support(0.0, 1.0, "ball")))
  assert "eta is a tuple" in message(family, eta=(1.0, 2.0))
  with pytest.raises(ValueError, match="num_draws is 10"):
    families.check(family, num_draws=10)


def test_outside_and_nan():
  family = kumaraswamy()
  inside = lambda z: jnp.clip(z, 0.001, 0.999)
  clipped = family._replace(log_prob=lambda eta, z: family.log_prob(eta, inside(z)))
  assert re.search(r"log_prob is .* outside the support.*has to be -inf", message(clipped))
  number = lambda eta, z: jnp.nan_to_num(family.log_prob(eta, z), nan=-5.0, neginf=-jnp.inf)
  assert re.search(r"log_prob is -5 where z\[0\] is NaN", message(family._replace(log_prob=number)))
  link = lambda head: families.positive(jnp.where(head > -9, head, -9.0))
  hidden = family._replace(from_heads=lambda a, b: Kumaraswamy(families.positive(a), link(b)))
  assert re.search(r"log_prob is .* where head 1 is NaN", message(hidden))


def test_the_given_member_is_checked():
  family, eta = kumaraswamy(), Kumaraswamy(jnp.array([2.0]), jnp.array([3.0]))
  families.check(family, eta=eta, num_draws=FEW)
  wrong = lambda eta, z: log_density(eta.a, eta.b, z) + jnp.where(eta.a == 2, 0.2, 0.0)
  text = message(kumaraswamy(log_prob=wrong), eta=eta, num_draws=FEW)
  assert "too large by 0.2" in text and "Kumaraswamy(a=[2.], b=[3.])" in text


class ZeroInflated(NamedTuple):
  weight: jax.Array
  a: jax.Array
  b: jax.Array


def zero_inflated(size=1, error=0.0, safe=True):
  """Makes a likelihood: 0 with a probability, and otherwise Kumaraswamy's density on (0, 1)."""

  def transform(eta, u):
    rest = jnp.clip((u - eta.weight) / (1 - eta.weight), 1e-12, 1 - 1e-7)
    return jnp.where(u < eta.weight, 0.0, inverse(eta.a, eta.b, rest))

  def log_prob(eta, x):
    of_rest = log_density(eta.a, eta.b, jnp.where(x == 0, 0.5, x) if safe else x)
    return jnp.where(x == 0, jnp.log(eta.weight) + error, jnp.log1p(-eta.weight) + of_rest)

  def mean(eta):
    return (1 - eta.weight) * eta.b * jnp.exp(betaln(1 + 1 / eta.a, eta.b))

  family = families.independent(
    size,
    ZeroInflated,
    (jax.nn.sigmoid, families.positive, families.positive),
    noise=families.uniform_noise,
    transform=transform,
    log_prob=log_prob,
    mean=mean,
    support=Support(0.0, 1.0),
  )
  return family._replace(reparameterized=False)


@pytest.mark.parametrize("size", [1, pytest.param(2, marks=long)])
def test_a_point_mass_beside_a_density_passes(size):
  checked(zero_inflated(size))


def test_a_wrong_weight_of_a_point_mass_is_named():
  text = message(zero_inflated(error=0.1), num_draws=FEW)
  assert re.search(r"log_prob is too large by 0\.\d+ .* where z\[0\] is 0, at Zero", text), text


def test_the_derivative_beside_a_point_mass_is_finite():
  text = message(zero_inflated(safe=False), num_draws=FEW)
  assert re.search(r"derivative of log_prob in head \d is nan", text), text


def test_a_point_mass_is_not_reparameterized():
  family = zero_inflated()._replace(reparameterized=True)
  assert "a family that jumps needs reparameterized=False" in message(family, num_draws=FEW)


class Binomial(NamedTuple):
  p: jax.Array


def test_whole_numbers():
  """A binomial of 4, whose probabilities lack the number of ways when they are wrong."""

  def binomial(ways):
    return families.independent(
      2,
      Binomial,
      (jax.nn.sigmoid,),
      noise=lambda key, shape: jax.random.uniform(key, (*shape, 4)),
      transform=lambda eta, u: jnp.sum(u < eta.p[:, None], axis=1).astype(eta.p.dtype),
      log_prob=lambda eta, z: (
        jnp.log(ways)[jnp.nan_to_num(z).astype(int)] + xlogy(z, eta.p) + xlog1py(4 - z, -eta.p)
      ),
      mean=lambda eta: 4 * eta.p,
      variance=lambda eta: 4 * eta.p * (1 - eta.p),
      support=Support(0.0, 4.0, "integers"),
    )._replace(reparameterized=False)

  ways = lambda *n: np.array(n, np.float32)
  checked(binomial(ways(1, 4, 6, 4, 1)))
  text = message(binomial(ways(1, 4, 5, 4, 1)), num_draws=FEW)
  assert re.search(r"log_prob is too small .* where z\[[01]\] is", text), text


def test_what_cannot_be_decided_is_said():
  with pytest.warns(UserWarning, match=r"would not have found a small error in .*variance\[0\]"):
    heavy = table.FIXED_PRIORS["log_normal"].make(1)
    member = type(heavy.from_heads(jnp.zeros(1), jnp.zeros(1)))
    families.check(heavy, eta=member(jnp.zeros(1), jnp.full(1, 2.0)), num_draws=FEW)


def test_a_comparison_has_its_rate_of_false_alarms_and_its_power():
  rng = np.random.default_rng(0)
  samples = rng.exponential(size=(200, 20_000))
  right = [comparisons.compare(column, 1.0, 0.3) for column in samples]
  assert all(d.decided and not d.is_wrong for d in right)
  assert all(comparisons.compare(column, 1.4, 0.3).is_wrong for column in samples[:100])
  heavy = rng.pareto(1.1, size=(200, 20_000)) + 1
  assert not any(comparisons.compare(column, 11.0, 0.3).is_wrong for column in heavy)


OF_THE_PACKAGE = table.POSTERIORS | {n: table.Entry(m) for n, m in table.PIXELS.items()}


@pytest.mark.parametrize(
  "name, size",
  [pytest.param(n, 1 if n != "dirichlet" else 2, marks=() if n in FAST else long)
   for n in OF_THE_PACKAGE]
  + [pytest.param(n, 3, marks=long) for n in OF_THE_PACKAGE],
)  # fmt: skip
def test_the_families_of_the_package_pass(name, size):
  families.check(OF_THE_PACKAGE[name].make(size), num_draws=FEW if size == 1 else 100_000)
