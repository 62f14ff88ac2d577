"""The pairs of members whose divergence is asked for: equal, near and far from each other."""

from collections.abc import Iterator
from typing import NamedTuple

from conformances.inputs import single

NEAR = 1.001


class Member(NamedTuple):
  family: str
  options: dict
  eta: dict


FIELDS = {
  "exponential": ("rate",),
  "gamma": ("shape", "rate"),
  "chi_squared": ("degrees_of_freedom",),
  "weibull": ("scale", "shape"),
  "beta": ("a", "b"),
  "laplace": ("location", "scale"),
  "gaussian": ("mean", "log_var"),
  "log_normal": ("location", "scale"),
  "bernoulli": ("logits",),
  "uniform": ("low", "high"),
}
# Members of which each is paired with itself, with one near it, and with the next.
ROUNDS = {
  "exponential": [(0.01,), (1.7,), (1000,)],
  "gamma": [(0.01, 0.01), (2.5, 1.3), (1000, 1), (30, 1000)],
  "chi_squared": [(0.01,), (3.7,), (1000,)],
  "weibull": [(0.01, 2), (2.3, 1.7), (1, 1000), (100, 30)],
  "beta": [(0.01, 0.01), (2, 9), (240, 240), (1000, 1000), (1000, 3)],
  "laplace": [(-20, 0.01), (0.5, 1.75), (1000, 1000)],
  "gaussian": [(-2, -9.25), (0.5, 1.25), (1000, 13.75), (3, 0)],
  "log_normal": [(-3, 0.01), (0.5, 0.75), (100, 1000)],
  "bernoulli": [(-17,), (0.7,), (10,), (-3,)],
}
OTHERS = [
  ("gamma", (1000, 1), "gamma", (1001, 1)),
  ("gamma", (1e4, 1), "gamma", (10001, 1)),
  ("beta", (1000, 1000), "beta", (1010, 1010)),
  ("weibull", (1, 1000), "weibull", (1, 1001)),
  ("gaussian", (1, 0), "gaussian", (1.001, 0)),
  ("gaussian", (0.3, -1.5), "gaussian", (0, 0)),
  ("bernoulli", (-100,), "bernoulli", (100,)),
  ("bernoulli", (100,), "bernoulli", (0,)),
  ("uniform", (0.25, 3), "uniform", (0.25, 3)),
  ("uniform", (0.25, 3), "uniform", (0.249, 3.001)),
  ("uniform", (0.25, 3), "uniform", (-100, 1000)),
  ("uniform", (0.25, 3), "uniform", (0.5, 3)),
  ("exponential", (0.5,), "chi_squared", (2,)),
  ("chi_squared", (2,), "exponential", (0.5,)),
  ("exponential", (3,), "gamma", (1, 3)),
  ("gamma", (1, 3), "exponential", (3.003,)),
  ("gamma", (500, 0.5), "chi_squared", (1001,)),
  ("chi_squared", (7,), "gamma", (0.01, 30)),
  ("exponential", (0.01,), "gamma", (50, 2)),
  ("gamma", (2.5, 1.3), "exponential", (0.01,)),
  ("weibull", (2, 1), "gamma", (1, 0.5)),
  ("weibull", (2, 1.001), "gamma", (1, 0.5)),
  ("weibull", (2.3, 1.7), "gamma", (50, 100)),
  ("weibull", (0.25, 1), "exponential", (4,)),
  ("weibull", (0.25, 0.999), "exponential", (4,)),
  ("weibull", (2.3, 30), "exponential", (0.01,)),
  ("weibull", (2, 1), "chi_squared", (2,)),
  ("weibull", (0.3, 0.75), "chi_squared", (0.3,)),
]
CONCENTRATIONS = [
  ([100] * 10, [101] * 10),
  ([10] * 10, [10.1] * 10),
  ([0.7, 1.5, 4.25], [0.7, 1.5, 4.25]),
  ([0.7, 1.5, 4.25], [0.7007, 1.5015, 4.254]),
  ([0.7, 1.5, 4.25], [30, 0.01, 1]),
  ([1000, 1000, 1000], [1, 1, 1]),
  ([0.01, 0.01], [1000, 3]),
]
DIAGONAL = Member("gaussian", {}, dict(mean=[0.0, 0.0], log_var=[0.0, 0.0]))
WIDE = Member("gaussian", {}, dict(mean=[0.5, -1.0], log_var=[1.25, -0.5]))
FULL = Member("full_gaussian", {}, dict(mean=[0.5, -1.0], scale_tril=[[0.75, 0.0], [-0.5, 1.25]]))
NEAR_FULL = Member(
  "full_gaussian",
  {},
  dict(mean=single([0.5005, -1.001]), scale_tril=single([[0.75075, 0.0], [-0.5005, 1.25125]])),
)
LOW_RANK = Member(
  "low_rank_gaussian",
  dict(rank=1),
  dict(mean=[0.25, 1.0], log_var=[-1.0, 0.5], factor=[[1.0], [-0.75]]),
)
GAUSSIANS = [(a, b) for a in (WIDE, FULL, LOW_RANK) for b in (WIDE, FULL, LOW_RANK)]
GAUSSIANS += [(FULL, NEAR_FULL), (FULL, DIAGONAL)]


def member(family: str, values: tuple) -> Member:
  rounded = single(list(values))
  return Member(family, {}, {n: [v] for n, v in zip(FIELDS[family], rounded, strict=True)})


def narrow(log_var: float) -> Member:
  """Makes the low-rank Gaussian of two dimensions, of which one direction has no room."""
  eta = dict(mean=[0.0, 0.0], log_var=[log_var] * 2, factor=[[1.0], [1.0]])
  return Member("low_rank_gaussian", dict(rank=1), eta)


def pairs() -> Iterator[tuple[Member, Member]]:
  """Yields (q, p)."""
  for family, members in ROUNDS.items():
    for this, following in zip(members, members[1:] + members[:1], strict=True):
      near = tuple(value * NEAR for value in this)
      for other in (this, near, following):
        yield member(family, this), member(family, other)
  for q, of_q, p, of_p in OTHERS:
    yield member(q, of_q), member(p, of_p)
  for a, b in CONCENTRATIONS:
    eta = lambda c: dict(concentration=single(c))
    yield Member("dirichlet", {}, eta(a)), Member("dirichlet", {}, eta(b))
  yield from GAUSSIANS
  for log_var in (-12.0, -16.0, -18.0, -20.0):
    yield narrow(log_var), DIAGONAL
