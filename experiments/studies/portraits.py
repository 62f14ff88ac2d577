"""The members of every reparameterizable family that experiments.families draws."""

import jax.numpy as jnp
import numpy as np

from aevb_jax.families import table
from experiments.plots.families import Drawn, Portrait

# Of each family what differs between the three members; other parameters are as given first.
MEMBERS = {
  "exponential": (dict(), "rate", (0.5, 1, 2)),
  "cauchy": (dict(location=0), "scale", (0.5, 1, 2)),
  "logistic": (dict(location=0), "scale", (0.5, 1, 2)),
  "rayleigh": (dict(), "scale", (0.5, 1, 2)),
  "pareto": (dict(scale=1), "shape", (1, 2, 4)),
  "weibull": (dict(scale=1), "shape", (0.8, 1.5, 4)),
  "reciprocal": (dict(low=1), "high", (3, 5, 10)),
  "gompertz": (dict(rate=1), "shape", (0.1, 0.5, 2)),
  "gumbel": (dict(location=0), "scale", (0.5, 1, 2)),
  "erlang": (dict(), "rate", (0.5, 1, 2)),
  "laplace": (dict(location=0), "scale", (0.5, 1, 2)),
  "elliptical": (None, "", ()),
  "student_t": (dict(location=0), "scale", (0.5, 1, 2)),
  "uniform": (dict(low=0), "high", (1, 2, 3)),
  "triangular": (dict(low=0), "width", (1, 2, 3)),
  "gaussian": (dict(mean=0), "log_var", (-1, 0, 1)),
  "log_normal": (dict(location=0), "scale", (0.25, 0.5, 1)),
  "gamma": (dict(rate=1), "shape", (0.8, 2, 5)),
  "dirichlet": (None, "", ()),
  "beta": (dict(b=2), "a", (0.8, 2, 5)),
  "chi_squared": (dict(), "degrees_of_freedom", (1.5, 3, 6)),
  "f": (dict(denominator=6), "numerator", (1.5, 4, 12)),
}
SYMBOLS = {"degrees_of_freedom": "ν", "log_var": "log σ²"}
HEAVY = ("cauchy", "pareto", "f", "student_t")  # of which 2 % of the draws are far away
CONSTRUCTIONS = ["inverse CDF"] * 10 + ["location + scale · ε"] * 6 + ["composition"] * 6


def make_portrait(name: str, group: str) -> Portrait:
  """Returns three members of a family, and how they are labelled."""
  make = table.REPARAMETERIZABLE[name].make
  title = name.replace("_", "-").title() if name != "student_t" else "Student's t"
  if name == "dirichlet":
    family = make(3)
    etas = [
      type(family.from_heads(jnp.zeros(3)))(jnp.asarray(a))
      for a in ([1.2, 1.2, 1.2], [4.0, 2.0, 2.0], [2.0, 6.0, 12.0])
    ]
    return Portrait(
      title, group, family, etas, ["α = 1.2, 1.2, 1.2", "α = 4, 2, 2", "α = 2, 6, 12"]
    )
  if name == "elliptical":
    family = make(2)
    heads = ((0.0, 0.0, 0.0), (0.5, -0.5, 0.8), (-1.0, 1.0, -1.2))
    etas = [
      family.from_heads(jnp.zeros(2), jnp.asarray([a, b]), jnp.asarray([c])) for a, b, c in heads
    ]
    return Portrait(title, group, family, etas, ["L = I", "L longer in z₁", "L longer in z₂"])
  family = make(1)
  fixed, changing, values = MEMBERS[name]
  eta_type = type(family.from_heads(*(jnp.zeros(size) for size in family.sizes)))
  number = lambda value: jnp.asarray([float(value)])
  etas = [
    eta_type(**{key: number(value) for key, value in (fixed | {changing: value}).items()})
    for value in values
  ]
  symbol = SYMBOLS.get(changing, changing)
  labels = [f"{symbol} {value:g}" for value in values]
  return Portrait(title, group, family, etas, labels, 0.9 if name in HEAVY else 0.98)


def moments(name: str, portrait: Portrait, drawn: Drawn) -> dict:
  """Returns closed forms of the first number of the second member, beside those of its draws."""
  family, eta, z = portrait.family, portrait.etas[1], drawn.z[:, 0]
  row = dict(family=name, construction=portrait.group)
  row |= dict(
    eta=" ".join(f"{k}={np.ravel(v).round(3).tolist()}" for k, v in eta._asdict().items())
  )
  row |= dict(mean=float(family.mean(eta)[0]), sample_mean=float(z.mean()))
  row |= dict(sample_mean_se=float(z.std(ddof=1) / np.sqrt(len(z))), sample_variance=float(z.var()))
  if family.variance:
    row |= dict(variance=float(family.variance(eta)[0]))
  if family.entropy:
    row |= dict(entropy=float(family.entropy(eta)))
  return row
