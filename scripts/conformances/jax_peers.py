"""NumPyro, the JAX substrate of TensorFlow Probability, and distrax, in the suite's parameters."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from conformances import jax_engine
from conformances.jax_engine import Member, floats
from conformances.score import loses_input

HALF = 0.5


def _scale(log_var: Any) -> Any:
  return jnp.exp(HALF * log_var)


def _several(eta: dict) -> bool:
  return next(iter(eta.values())).shape[0] > 1


def numpyro_distribution(family: str, options: dict, e: dict) -> Any:
  """Makes NumPyro's distribution of a member; raises NotImplementedError if it has none."""
  import numpyro.distributions as d

  if family == "gaussian" and _several(e):
    return d.MultivariateNormal(e["mean"], scale_tril=jnp.diag(_scale(e["log_var"])))
  table: dict[str, Callable] = {
    "exponential": lambda: d.Exponential(e["rate"]),
    "cauchy": lambda: d.Cauchy(e["location"], e["scale"]),
    "logistic": lambda: d.Logistic(e["location"], e["scale"]),
    "pareto": lambda: d.Pareto(e["scale"], e["shape"]),
    "weibull": lambda: d.Weibull(e["scale"], e["shape"]),
    "reciprocal": lambda: d.LogUniform(e["low"], e["high"]),
    "gompertz": lambda: d.Gompertz(e["shape"], e["rate"]),
    "gumbel": lambda: d.Gumbel(e["location"], e["scale"]),
    "erlang": lambda: d.Gamma(float(options["count"]), e["rate"]),
    "laplace": lambda: d.Laplace(e["location"], e["scale"]),
    "student_t": lambda: d.StudentT(options["degrees_of_freedom"], e["location"], e["scale"]),
    "uniform": lambda: d.Uniform(e["low"], e["high"]),
    "gaussian": lambda: d.Normal(e["mean"], _scale(e["log_var"])),
    "log_normal": lambda: d.LogNormal(e["location"], e["scale"]),
    "gamma": lambda: d.Gamma(e["shape"], e["rate"]),
    "chi_squared": lambda: d.Chi2(e["degrees_of_freedom"]),
    "beta": lambda: d.Beta(e["a"], e["b"]),
    "bernoulli": lambda: d.BernoulliLogits(e["logits"]),
    "dirichlet": lambda: d.Dirichlet(e["concentration"]),
    "elliptical": lambda: d.MultivariateStudentT(5.0, e["location"], e["scale_tril"]),
    "full_gaussian": lambda: d.MultivariateNormal(e["mean"], scale_tril=e["scale_tril"]),
    "low_rank_gaussian": lambda: d.LowRankMultivariateNormal(
      e["mean"], e["factor"], jnp.exp(e["log_var"])
    ),
  }
  return _of(table, family)


def tfp_distribution(family: str, options: dict, e: dict) -> Any:
  """Makes TensorFlow Probability's distribution of a member, or raises NotImplementedError."""
  from tensorflow_probability.substrates import jax as tfp

  d, linalg = tfp.distributions, tfp.tf2jax.linalg
  if family == "gaussian" and _several(e):
    return d.MultivariateNormalDiag(e["mean"], _scale(e["log_var"]))
  table: dict[str, Callable] = {
    "exponential": lambda: d.Exponential(e["rate"]),
    "cauchy": lambda: d.Cauchy(e["location"], e["scale"]),
    "logistic": lambda: d.Logistic(e["location"], e["scale"]),
    "pareto": lambda: d.Pareto(concentration=e["shape"], scale=e["scale"]),
    "weibull": lambda: d.Weibull(concentration=e["shape"], scale=e["scale"]),
    "gumbel": lambda: d.Gumbel(e["location"], e["scale"]),
    "erlang": lambda: d.Gamma(jnp.full_like(e["rate"], options["count"]), e["rate"]),
    "laplace": lambda: d.Laplace(e["location"], e["scale"]),
    "student_t": lambda: d.StudentT(
      jnp.full_like(e["scale"], options["degrees_of_freedom"]), e["location"], e["scale"]
    ),
    "uniform": lambda: d.Uniform(e["low"], e["high"]),
    "triangular": lambda: d.Triangular(
      e["low"], e["low"] + e["width"], e["low"] + HALF * e["width"]
    ),
    "gaussian": lambda: d.Normal(e["mean"], _scale(e["log_var"])),
    "log_normal": lambda: d.LogNormal(e["location"], e["scale"]),
    "gamma": lambda: d.Gamma(e["shape"], e["rate"]),
    "chi_squared": lambda: d.Chi2(e["degrees_of_freedom"]),
    "beta": lambda: d.Beta(e["a"], e["b"]),
    "bernoulli": lambda: d.Bernoulli(logits=e["logits"]),
    "continuous_bernoulli": lambda: d.ContinuousBernoulli(logits=e["logits"]),
    "discretized_logistic": lambda: _quantized(d.QuantizedDistribution, d.Logistic, options, e),
    "discretized_gaussian": lambda: _quantized(d.QuantizedDistribution, d.Normal, options, e),
    "dirichlet": lambda: d.Dirichlet(e["concentration"]),
    "elliptical": lambda: d.MultivariateStudentTLinearOperator(
      jnp.asarray(5.0, e["location"].dtype),
      e["location"],
      linalg.LinearOperatorLowerTriangular(e["scale_tril"]),
    ),
    "full_gaussian": lambda: d.MultivariateNormalTriL(e["mean"], e["scale_tril"]),
    "low_rank_gaussian": lambda: d.MultivariateNormalDiagPlusLowRankCovariance(
      e["mean"], jnp.exp(e["log_var"]), e["factor"]
    ),
  }
  return _of(table, family)


def distrax_distribution(family: str, options: dict, e: dict) -> Any:
  """Makes distrax's distribution of a member; raises NotImplementedError if it has none."""
  import distrax as d

  if family == "gaussian" and _several(e):
    return d.MultivariateNormalDiag(e["mean"], _scale(e["log_var"]))
  table: dict[str, Callable] = {
    "logistic": lambda: d.Logistic(e["location"], e["scale"]),
    "gumbel": lambda: d.Gumbel(e["location"], e["scale"]),
    "erlang": lambda: d.Gamma(jnp.full_like(e["rate"], options["count"]), e["rate"]),
    "laplace": lambda: d.Laplace(e["location"], e["scale"]),
    "uniform": lambda: d.Uniform(e["low"], e["high"]),
    "gaussian": lambda: d.LogStddevNormal(e["mean"], HALF * e["log_var"]),
    "gamma": lambda: d.Gamma(e["shape"], e["rate"]),
    "beta": lambda: d.Beta(e["a"], e["b"]),
    "bernoulli": lambda: d.Bernoulli(logits=e["logits"]),
    "discretized_logistic": lambda: _quantized(d.Quantized, d.Logistic, options, e),
    "discretized_gaussian": lambda: _quantized(d.Quantized, d.Normal, options, e),
    "dirichlet": lambda: d.Dirichlet(e["concentration"]),
    "full_gaussian": lambda: d.MultivariateNormalTri(e["mean"], e["scale_tril"]),
  }
  return _of(table, family)


def _of(table: dict[str, Callable], family: str) -> Any:
  if family not in table:
    raise NotImplementedError(family)
  return table[family]()


def _quantized(quantized: Any, continuous: Any, options: dict, e: dict) -> Any:
  """Makes a distribution over the levels 0 to 255, whose bins are (k - 1, k] in theirs."""
  per_unit = options["levels_per_unit"]
  scale = jnp.exp(e["log_scale"]) if "log_scale" in e else _scale(e["log_var"])
  return quantized(continuous(per_unit * e["mean"] - HALF, per_unit * scale), 0.0, 255.0)


def _methods(make: Callable, called: bool) -> Callable:
  """Makes `Member` of a library whose moments are methods, or properties."""

  def member(family: str, options: dict, eta: dict) -> Member:
    made = make(family, options, eta)
    moment = lambda name: getattr(made, name)() if called else getattr(made, name)
    levels = options.get("levels_per_unit")
    return Member(
      log_prob=lambda z: made.log_prob(jnp.round(levels * z) if levels else z),
      mean=lambda: moment("mean"),
      variance=lambda: moment("variance"),
      entropy=lambda: made.entropy(),
      distribution=made,
    )

  return member


def evaluate_numpyro(points: list[dict], precision: str) -> list[dict]:
  """Computes the quantities of points by NumPyro."""
  from numpyro.distributions.kl import kl_divergence

  member = _methods(numpyro_distribution, called=False)
  found = jax_engine.evaluate(points, precision, member, kl_divergence)
  unasked = lambda point: (
    loses_input(point, precision) or (point["kind"] == "border" and _is_outside(point))
  )
  return [{} if unasked(point) else values for point, values in zip(points, found, strict=True)]


def _is_outside(point: dict) -> bool:
  """Tells whether z, at the border, is outside the support that NumPyro gives a distribution."""
  arrays = {name: jnp.asarray(floats(v)) for name, v in point["eta"].items()}
  try:
    support = numpyro_distribution(point["family"], point["options"], arrays).support
  except NotImplementedError:
    return False
  return not bool(jnp.all(support(jnp.asarray(floats(point["z"])))))


def evaluate_tfp(points: list[dict], precision: str) -> list[dict]:
  """Computes the quantities of points by the JAX substrate of TensorFlow Probability."""
  from tensorflow_probability.substrates import jax as tfp

  member = _methods(tfp_distribution, called=True)
  found = jax_engine.evaluate(points, precision, member, tfp.distributions.kl_divergence)
  unasked = lambda point: loses_input(point, precision)
  return [{} if unasked(point) else values for point, values in zip(points, found, strict=True)]


def evaluate_distrax(points: list[dict], precision: str) -> list[dict]:
  """Computes the quantities of points by distrax."""
  member = _methods(distrax_distribution, called=True)
  return jax_engine.evaluate(points, precision, member, lambda q, p: q.kl_divergence(p))
