"""PyTorch's distributions, in the suite's parameters."""

from collections.abc import Callable
from typing import Any

from conformances.jax_engine import NOT_THERE, floats
from conformances.score import loses_input


def distribution(family: str, options: dict, e: dict) -> Any:
  """Makes PyTorch's distribution of a member; raises NotImplementedError if it has none."""
  import torch
  import torch.distributions as d

  no = dict(validate_args=False)  # as in the other libraries, which do not look at z
  if family == "gaussian" and len(e["mean"]) > 1:
    tril = torch.diag(torch.exp(0.5 * e["log_var"]))
    return d.MultivariateNormal(e["mean"], scale_tril=tril, **no)
  table: dict[str, Callable] = {
    "exponential": lambda: d.Exponential(e["rate"], **no),
    "cauchy": lambda: d.Cauchy(e["location"], e["scale"], **no),
    "pareto": lambda: d.Pareto(e["scale"], e["shape"], **no),
    "weibull": lambda: d.Weibull(e["scale"], e["shape"], **no),
    "gumbel": lambda: d.Gumbel(e["location"], e["scale"], **no),
    "erlang": lambda: d.Gamma(torch.full_like(e["rate"], options["count"]), e["rate"], **no),
    "laplace": lambda: d.Laplace(e["location"], e["scale"], **no),
    "student_t": lambda: d.StudentT(
      torch.full_like(e["scale"], options["degrees_of_freedom"]), e["location"], e["scale"], **no
    ),
    "uniform": lambda: d.Uniform(e["low"], e["high"], **no),
    "gaussian": lambda: d.Normal(e["mean"], torch.exp(0.5 * e["log_var"]), **no),
    "log_normal": lambda: d.LogNormal(e["location"], e["scale"], **no),
    "gamma": lambda: d.Gamma(e["shape"], e["rate"], **no),
    "chi_squared": lambda: d.Chi2(e["degrees_of_freedom"], **no),
    "f": lambda: d.FisherSnedecor(e["numerator"], e["denominator"], **no),
    "beta": lambda: d.Beta(e["a"], e["b"], **no),
    "bernoulli": lambda: d.Bernoulli(logits=e["logits"], **no),
    "continuous_bernoulli": lambda: d.ContinuousBernoulli(logits=e["logits"], **no),
    "dirichlet": lambda: d.Dirichlet(e["concentration"], **no),
    "full_gaussian": lambda: d.MultivariateNormal(e["mean"], scale_tril=e["scale_tril"], **no),
    "low_rank_gaussian": lambda: d.LowRankMultivariateNormal(
      e["mean"], e["factor"], torch.exp(e["log_var"]), **no
    ),
  }
  if family not in table:
    raise NotImplementedError(family)
  return table[family]()


def evaluate(points: list[dict], precision: str) -> list[dict]:
  """Computes the quantities of points; what is not there is left out."""
  return [of_point(point, precision) for point in points]


def of_point(point: dict, precision: str) -> dict:
  if loses_input(point, precision) or (point["kind"] == "border" and is_outside(point)):
    return {}
  found = {}
  for name in point["right"]:
    try:
      found[name] = value_of(point, name, precision)
    except NOT_THERE:
      continue
    except (ValueError, RuntimeError):
      if point["kind"] == "nan":  # it refuses NaN, which is not a wrong answer
        continue
      found[name] = float("nan")  # such as of a Cholesky factor that it cannot find
  return found


def is_outside(point: dict) -> bool:
  """Tells whether z, at the border, is outside the support that PyTorch gives a distribution."""
  import torch

  tensor = lambda v: torch.tensor(floats(v), dtype=torch.float64)
  eta = {name: tensor(v) for name, v in point["eta"].items()}
  try:
    support = distribution(point["family"], point["options"], eta).support
    return not bool(support.check(tensor(point["z"])).all())
  except NOT_THERE:
    return False


def value_of(point: dict, name: str, precision: str) -> Any:
  """Computes one quantity of a point, or its derivative by autograd."""
  import torch

  tensor = lambda v: torch.tensor(floats(v), dtype=getattr(torch, precision), requires_grad=True)
  quantity, _, argument = name.removeprefix("d ").partition("/d ")
  eta = {k: tensor(v) for k, v in point["eta"].items()}
  z = tensor(point["z"]) if "z" in point else None
  of_p = {k: tensor(v) for k, v in point["p"]["eta"].items()} if "p" in point else {}
  q = distribution(point["family"], point["options"], eta)
  match quantity.strip():
    case "log_prob":
      value = q.log_prob(z).sum()
    case "kl":
      p = distribution(point["p"]["family"], point["p"]["options"], of_p)
      value = torch.distributions.kl_divergence(q, p).sum()
    case "entropy":
      value = q.entropy().sum()
    case other:
      value = getattr(q, other)
  if not argument:
    return value.detach().numpy()
  of, _, parameter = argument.rpartition(".")
  leaf = z if argument == "z" else (of_p if of == "p" else eta)[parameter]
  slope = None
  if value.requires_grad:
    (slope,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
  slope = torch.zeros_like(leaf) if slope is None else slope
  return (slope.tril() if parameter == "scale_tril" else slope).numpy()
