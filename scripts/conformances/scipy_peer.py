"""SciPy's distributions, in the suite's parameters: values in float64, no derivatives, no KL."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.stats as st
from conformances.jax_engine import NOT_THERE, floats

# (options, *parameters) -> the distribution of one dimension.
TABLE: dict[str, Callable] = {
  "exponential": lambda o, r: st.expon(scale=1 / r),
  "cauchy": lambda o, m, s: st.cauchy(m, s),
  "logistic": lambda o, m, s: st.logistic(m, s),
  "rayleigh": lambda o, s: st.rayleigh(scale=s),
  "pareto": lambda o, s, a: st.pareto(a, scale=s),
  "weibull": lambda o, s, k: st.weibull_min(k, scale=s),
  "reciprocal": lambda o, a, b: st.loguniform(a, b),
  "gompertz": lambda o, c, b: st.gompertz(c, scale=1 / b),
  "gumbel": lambda o, m, s: st.gumbel_r(m, s),
  "erlang": lambda o, r: st.gamma(o["count"], scale=1 / r),
  "laplace": lambda o, m, s: st.laplace(m, s),
  "student_t": lambda o, m, s: st.t(o["degrees_of_freedom"], m, s),
  "uniform": lambda o, a, b: st.uniform(a, b - a),
  "triangular": lambda o, a, w: st.triang(0.5, a, w),
  "gaussian": lambda o, m, v: st.norm(m, np.exp(v / 2)),
  "log_normal": lambda o, m, s: st.lognorm(s, scale=np.exp(m)),
  "gamma": lambda o, a, r: st.gamma(a, scale=1 / r),
  "chi_squared": lambda o, n: st.chi2(n),
  "f": lambda o, d1, d2: st.f(d1, d2),
  "beta": lambda o, a, b: st.beta(a, b),
}


def evaluate(points: list[dict], precision: str) -> list[dict]:
  """Computes the quantities of points; what is not there is left out."""
  assert precision == "float64"
  with warnings.catch_warnings(), np.errstate(all="ignore"):
    warnings.simplefilter("ignore")
    return [of_point(point) for point in points]


def of_point(point: dict) -> dict:
  found = {}
  for name in point["right"]:
    try:
      found[name] = value_of(point, name)
    except NOT_THERE:
      continue
  return found


def value_of(point: dict, name: str) -> Any:
  """Computes one quantity of a point."""
  if name.startswith("d ") or name in ("kl", "total_mass"):
    raise NotImplementedError(name)
  eta = {k: np.asarray(floats(v)) for k, v in point["eta"].items()}
  z = np.asarray(floats(point.get("z", [])))
  if point["family"] in TABLE:
    made = TABLE[point["family"]](point["options"], *(v[0] for v in eta.values()))
    if name == "log_prob":
      return made.logpdf(z[0])
    return {"mean": made.mean, "variance": made.var, "entropy": made.entropy}[name]()
  return of_vector(point["family"], eta, z, name)


def of_vector(family: str, eta: dict, z: np.ndarray, name: str) -> Any:
  if np.isnan(sum(v.sum() for v in eta.values())):
    raise NotImplementedError("refuses NaN among the parameters")
  match family:
    case "dirichlet":
      made: Any = st.dirichlet(eta["concentration"])
    case "elliptical":
      tril = eta["scale_tril"]
      made = st.multivariate_t(eta["location"], tril @ tril.T, df=5)
      if name != "log_prob":
        raise NotImplementedError(name)
    case "full_gaussian":
      covariance = st.Covariance.from_cholesky(eta["scale_tril"])
      made = st.multivariate_normal(eta["mean"], covariance)
    case _:
      raise NotImplementedError(family)
  if name == "log_prob":
    try:
      return made.logpdf(z)
    except ValueError:  # of a z that it refuses
      raise NotImplementedError("refuses z") from None
  if name == "entropy":
    return made.entropy()
  if family == "dirichlet":
    return {"mean": made.mean, "variance": made.var}[name]()
  return {"mean": made.mean, "variance": np.diag(made.cov)}[name]
