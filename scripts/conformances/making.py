"""Makes the points of the suite: inputs, right values, and how the right values were found."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from conformances import exact, exact_kl, exact_vectors
from conformances.borders import borders
from conformances.inputs import (
  CONTINUOUS_LOGITS,
  LARGEST,
  LOGITS,
  SMALLEST,
  levels,
  places,
  single,
  univariate,
  vectors,
)
from conformances.pairs import Member, pairs
from conformances.score import RELATIVE
from mpmath import mp, mpf

FORMULA = "formula; derivatives by mpmath.diff"
WITHOUT_SLOPE_IN_Z = ("bernoulli", "discretized_logistic", "discretized_gaussian")
ROUNDING = mpf(10) ** -50  # what 60 digits leave of a difference that is 0
HARD_SLOPES = 1e3  # ratio of variances from which slopes of a Gaussian are asked in float64 only


def points() -> list[dict]:
  """Returns all points, with numbers as JSON has them."""
  made = [*densities(), *ends(), *of_levels(), *of_vectors(), *divergences()]
  made += [dict(p, how="by hand", kind="border") for p in borders()]
  return [finished(point) for point in [*made, *unknown(made)]]


def lifted(value: Any) -> Any:
  """Turns the numbers of nested lists and dicts into mpmath's."""
  if isinstance(value, dict):
    return {name: lifted(v) for name, v in value.items()}
  return [lifted(v) for v in value] if isinstance(value, list) else mpf(value)


def slope(function: Callable[[mpf], mpf], at: mpf) -> mpf:
  # The steps of mpmath itself would reach across 0 where `at` is tiny.
  return mp.diff(function, at, h=mp.ldexp(1, -mp.prec - 10) * (abs(at) or 1))


def slopes(function: Callable[[dict], mpf], eta: dict) -> dict[str, list]:
  """Differentiates a function of parameters with respect to each of their numbers."""
  return {name: along(function, eta, (name,), values) for name, values in eta.items()}


def along(function: Callable, eta: dict, path: tuple, values: Any) -> Any:
  if isinstance(values, list):
    return [along(function, eta, (*path, i), v) for i, v in enumerate(values)]
  if path[0] == "scale_tril" and path[1] < path[2]:
    return mpf(0)  # not a parameter
  return slope(lambda x: function(replaced(eta, path, x)), values)


def replaced(tree: Any, path: tuple, value: Any) -> Any:
  if not path:
    return value
  copy = dict(tree) if isinstance(tree, dict) else list(tree)
  copy[path[0]] = replaced(tree[path[0]], path[1:], value)
  return copy


def density(family: str, options: dict, eta: dict, z: float, sloped: bool = True) -> dict:
  """Makes a point of one dimension, at one place."""
  exact_z, of_eta = mpf(z), lifted(eta)
  flat = lambda e: [v for (v,) in e.values()]
  log_prob = lambda e, at: exact.LOG_DENSITY[family](options, at, *flat(e))
  right: dict[str, Any] = {"log_prob": log_prob(of_eta, exact_z)}
  if sloped:
    if family not in WITHOUT_SLOPE_IN_Z:
      right["d log_prob/d z"] = [slope(lambda at: log_prob(of_eta, at), exact_z)]
    found = slopes(lambda e: log_prob(e, exact_z), of_eta)
    right |= {f"d log_prob/d {name}": value for name, value in found.items()}
  point = dict(family=family, options=options, eta=eta, z=[z], right=right)
  return point | dict(how=FORMULA, kind="density")


def moments(family: str, options: dict, eta: dict) -> dict:
  mean, variance, entropy = exact.MOMENTS[family](options, *(mpf(v) for (v,) in eta.values()))
  right = {n: [v] for n, v in (("mean", mean), ("variance", variance)) if v is not None}
  right["entropy"] = entropy
  how = "formula; integral" if family == "gompertz" else "formula"
  return dict(family=family, options=options, eta=eta, right=right, how=how, kind="moments")


def densities() -> Iterator[dict]:
  for family, options, eta, distribution in univariate():
    yield moments(family, options, eta)
    for z in places(distribution):
      at_kink = family == "laplace" and [z] == eta["location"]
      at_kink |= family == "triangular" and z == eta["low"][0] + eta["width"][0] / 2
      yield density(family, options, eta, z, sloped=not at_kink)


def ends() -> Iterator[dict]:
  """Yields points of the Bernoulli and the continuous Bernoulli."""
  for logit in LOGITS:
    eta = dict(logits=[single(logit)])
    yield moments("bernoulli", {}, eta)
    for x in (0.0, 1.0):
      yield density("bernoulli", {}, eta, x)
  for logit in CONTINUOUS_LOGITS:
    eta = dict(logits=[single(logit)])
    point = moments("continuous_bernoulli", {}, eta)
    # The derivative of the mean of an exponential family is its variance.
    point["right"]["d mean/d logits"] = point["right"]["variance"]
    yield point
    for x in (0.0, 0.25, 1.0):
      point = density("continuous_bernoulli", {}, eta, x, sloped=False)
      centred = mpf(x) - exact.continuous_bernoulli_mean(mpf(eta["logits"][0]))
      point["right"] |= {"d log_prob/d z": [mpf(eta["logits"][0])]}
      point["right"] |= {"d log_prob/d logits": [centred]}
      yield point | dict(how="formula; derivatives by closed form")


def of_levels() -> Iterator[dict]:
  for family, options, eta, zs in levels():
    total = dict(family=family, options=options, eta=eta, right={"total_mass": mpf(1)})
    yield total | dict(how="by definition", kind="moments")
    for z in zs:
      yield density(family, options, eta, z)


def of_vectors() -> Iterator[dict]:
  for family, options, eta, z in vectors():
    yield vector_density(family, options, eta, z)
    mean, variance, entropy = exact_vectors.moments(family, lifted(eta))
    right = dict(mean=mean, variance=variance) | ({} if entropy is None else dict(entropy=entropy))
    kind = dict(right=right, how="formula", kind="moments")
    yield dict(family=family, options=options, eta=eta) | kind


def vector_density(family: str, options: dict, eta: dict, z: list) -> dict:
  """Makes a point of a distribution over vectors, at one place."""
  exact_z, of_eta = lifted(z), lifted(eta)
  log_prob = lambda e, at: exact_vectors.log_density(family, at, e)
  point = dict(family=family, options=options, eta=eta, z=z, how=FORMULA, kind="density")
  if family == "low_rank_gaussian":
    found = exact_vectors.low_rank_gradients(exact_z, of_eta)
    point |= dict(how="formula; derivatives by closed form")
    point |= dict(hard_slopes=max(map(mp.exp, map(abs, of_eta["log_var"]))) > HARD_SLOPES)
  else:
    found = slopes(lambda e: log_prob(of_eta, e["z"]), dict(z=exact_z))
    found |= slopes(lambda e: log_prob(e, exact_z), of_eta)
  right = {f"d log_prob/d {name}": value for name, value in found.items()}
  return point | dict(right={"log_prob": log_prob(of_eta, exact_z)} | right)


def divergences() -> Iterator[dict]:
  for q, p in pairs():
    yield divergence(q, p)


def divergence(q: Member, p: Member) -> dict:
  """Makes a point of a pair, with the derivatives in all parameters of both."""
  of_q, of_p = lifted(q.eta), lifted(p.eta)
  value = exact_kl.kl(q.family, of_q, p.family, of_p)
  right: dict[str, Any] = {"kl": value}
  if q.family != "uniform" or (value > 0 and mp.isfinite(value)):  # elsewhere it has a kink
    of = slopes(lambda e: exact_kl.kl(q.family, e, p.family, of_p), of_q)
    right |= {f"d kl/d q.{name}": slope for name, slope in of.items()}
    of = slopes(lambda e: exact_kl.kl(q.family, of_q, p.family, e), of_p)
    right |= {f"d kl/d p.{name}": slope for name, slope in of.items()}
  first = dict(family=q.family, options=q.options, eta=q.eta, right=right)
  return first | dict(p=p._asdict(), how=FORMULA, kind="divergence")


def unknown(made: list[dict]) -> Iterator[dict]:
  """Yields a point of each family with z = NaN, and one with each parameter NaN."""
  representatives = {}
  for point in made:
    if point["kind"] == "density" and len(point["z"]) < 20:
      representatives.setdefault(point["family"], []).append(point)
  for of_family in representatives.values():
    point = of_family[len(of_family) // 2]
    plain = {name: point[name] for name in ("family", "options", "eta", "z")}
    plain |= dict(right={"log_prob": "nan"}, how="by definition", kind="nan")
    yield plain | dict(z=["nan", *point["z"][1:]])
    for name, value in point["eta"].items():
      first = ["nan", *value[1:]] if not isinstance(value[0], list) else None
      first = first or [["nan", *value[0][1:]], *value[1:]]
      yield plain | dict(eta=point["eta"] | {name: first})


def finished(point: dict) -> dict:
  """Rounds the right values to double precision, and marks those that float32 cannot hold."""
  point = dict(point)
  hard = point.pop("hard_slopes", False)
  right, only = {}, []
  for name, value in point["right"].items():
    numbers = list(flattened(value))
    finite = [abs(n) for n in numbers if not isinstance(n, str) and mp.isfinite(n)]
    if any(n > 1e300 for n in finite) or (name in RELATIVE and any(0 < n < 1e-300 for n in finite)):
      continue  # float64 cannot hold it
    out = any(n > LARGEST for n in finite)
    out |= name in RELATIVE and any(0 < n < SMALLEST for n in finite)
    if out or (hard and name.startswith("d ")):
      only.append(name)
    right[name] = plain(value)
  return point | dict(right=right) | (dict(float64_only=only) if only else {})


def flattened(value: Any) -> Iterator[Any]:
  if isinstance(value, list):
    for v in value:
      yield from flattened(v)
  else:
    yield value


def plain(value: Any) -> Any:
  """Turns a number into a float, which JSON writes with up to 17 digits, or "inf", "nan"."""
  if isinstance(value, list):
    return [plain(v) for v in value]
  if isinstance(value, str):
    return value
  if not mp.isfinite(value):
    return "nan" if mp.isnan(value) else "inf" if value > 0 else "-inf"
  return float(value) if abs(value) > ROUNDING else 0.0


def text(made: list[dict]) -> str:
  """Writes the points as JSON, one a line."""
  return "[\n" + ",\n".join(json.dumps(point) for point in made) + "\n]\n"
