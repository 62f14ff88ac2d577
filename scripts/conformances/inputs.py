"""The members and the places that the suite asks for; each number is rounded to float32 first."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.stats as st

QUANTILES = (1e-12, 0.01, 0.5, 0.99, 1 - 1e-12)
SMALLEST, LARGEST = 1.2e-38, 3e38  # normal numbers of float32, with a little room
INFINITE = math.inf


def single(value: Any) -> Any:
  """Rounds a number, or the numbers of nested lists, to float32."""
  return [single(v) for v in value] if isinstance(value, list) else float(np.float32(value))


# The parameters by name, members from low to high, and SciPy's distribution for the quantiles.
LOCATIONS = [(-20, 0.01), (0.5, 1.75), (1000, 1000)]
MEMBERS: dict[str, tuple[tuple[str, ...], list[tuple], Callable]] = {
  "exponential": (("rate",), [(0.01,), (1.7,), (1000,)], lambda r: st.expon(scale=1 / r)),
  "cauchy": (("location", "scale"), LOCATIONS, st.cauchy),
  "logistic": (("location", "scale"), LOCATIONS, st.logistic),
  "rayleigh": (("scale",), [(0.01,), (2.3,), (1000,)], lambda s: st.rayleigh(scale=s)),
  "pareto": (
    ("scale", "shape"),
    [(0.01, 0.3), (2, 1.5), (1.5, 2.7), (1000, 0.01), (1000, 1000)],
    lambda s, a: st.pareto(a, scale=s),
  ),
  "weibull": (
    ("scale", "shape"),
    [(0.01, 0.3), (1, 0.01), (2.3, 1.7), (7.3, 240), (1000, 1000)],
    lambda s, k: st.weibull_min(k, scale=s),
  ),
  "reciprocal": (
    ("low", "high"),
    [(0.01, 0.0101), (0.013, 0.01313), (0.3, 7), (0.01, 1000), (999, 1000)],
    st.loguniform,
  ),
  "gompertz": (
    ("shape", "rate"),
    [(0.01, 0.01), (0.7, 1.3), (0.01, 1000), (1000, 0.01), (1000, 1000)],
    lambda c, b: st.gompertz(c, scale=1 / b),
  ),
  "gumbel": (("location", "scale"), LOCATIONS, st.gumbel_r),
  "laplace": (("location", "scale"), LOCATIONS, st.laplace),
  "uniform": (
    ("low", "high"),
    [(-20, -19.99), (0.25, 3), (1000, 2000)],
    lambda a, b: st.uniform(a, b - a),
  ),
  # The upper end is exact, too.
  "triangular": (
    ("low", "width"),
    [(-20, 2.0**-7), (0.25, 3), (1000, 1000)],
    lambda a, w: st.triang(0.5, a, w),
  ),
  "gaussian": (
    ("mean", "log_var"),
    [(-20, -9.2), (0.5, 1.1), (1000, 13.8)],
    lambda m, v: st.norm(m, np.exp(v / 2)),
  ),
  "log_normal": (
    ("location", "scale"),
    [(-3, 0.01), (0.5, 0.75), (10, 10)],
    lambda m, s: st.lognorm(s, scale=np.exp(m)),
  ),
  "gamma": (
    ("shape", "rate"),
    [(0.01, 0.01), (0.3, 100), (2.5, 1.3), (50, 2), (1000, 0.01), (1000, 1000)],
    lambda a, r: st.gamma(a, scale=1 / r),
  ),
  "chi_squared": (("degrees_of_freedom",), [(0.01,), (3.7,), (1000,)], st.chi2),
  "f": (
    ("numerator", "denominator"),
    [(0.01, 0.01), (0.5, 3), (7.3, 31), (1000, 5), (3, 1000), (1000, 1000)],
    st.f,
  ),
  "beta": (
    ("a", "b"),
    [
      (0.01, 0.01), (2, 9), (8, 9), (3.65, 15.5), (7.3, 31),
      (240, 240), (0.01, 1000), (1000, 0.3), (1000, 1000),
    ],
    st.beta,
  ),
}  # fmt: skip
COUNTS = {2: (0.01,), 7: (1.3,), 300: (1000,)}
FREEDOM = {0.01: (0, 1), 0.75: (0.5, 1.75), 5: (-20, 0.01), 1000: (1000, 1000)}
LOGITS = (-100, -10, 0, 0.7, 17, 100)
CONTINUOUS_LOGITS = (-100, -3, -0.05, 0, 1e-3, 1.5, 20, 100)
# Levels are 256ths, which float32 holds exactly: (log-scale, mean, levels). 127.5 / 256 is the
# border between two levels.
EDGE = 127.5 / 256
SPREADS = [
  (-100, 0.5, (0, 100, 128, 255)),
  (-60, 0.5, (0, 100, 128, 255)),
  (-40, EDGE, (0, 100, 127, 255)),
  (-9, EDGE, (0, 126, 127, 128, 255)),
  (-9, 0.5, (127, 128)),
  (-5, 1.0, (0, 250, 254, 255)),
  (-5, 0.375, (0, 90, 96, 255)),
  (-2, 0.25, (0, 64, 100, 255)),
  (0, 0.5, (0, 100, 255)),
  (10, 0.5, (0, 100, 255)),
  (20, 0.5, (0, 100, 255)),
  (40, 0.5, (0, 100, 255)),
]
# Levels are 255ths, rounded: only where the rounding does not matter.
SPREADS_OF_255 = [(-9, 0.5, ()), (-5, 1.0, ()), (10, 0.5, (100,)), (20, 0.5, (100,))]
SPREADS_OF_255 += [(40, 0.5, (100,))]


def univariate() -> Iterator[tuple[str, dict, dict, Any]]:
  """Yields (family, options, parameters, SciPy's distribution) of one dimension."""
  for family, (names, members, scipy_of) in MEMBERS.items():
    for member in members:
      values = single(list(member))
      yield family, {}, {n: [v] for n, v in zip(names, values, strict=True)}, scipy_of(*values)
  for count, (rate,) in COUNTS.items():
    rate = single(rate)
    yield "erlang", dict(count=count), dict(rate=[rate]), st.gamma(count, scale=1 / rate)
  for nu, member in FREEDOM.items():
    location, scale = single(list(member))
    eta = dict(location=[location], scale=[scale])
    nu = single(nu)
    yield "student_t", dict(degrees_of_freedom=nu), eta, st.t(nu, location, scale)


def places(distribution: Any) -> list[float]:
  """Returns z at the quantiles, where float32 can hold them, strictly inside the support."""
  low, high = distribution.support()
  found = []
  for q in QUANTILES:
    with np.errstate(over="ignore"):
      z = distribution.isf(1e-12) if q == QUANTILES[-1] else distribution.ppf(q)
    z = single(z) if abs(z) < LARGEST else INFINITE
    if SMALLEST < abs(z) < LARGEST and low < z < high and z not in found:
      found.append(z)
  return found


def vectors() -> Iterator[tuple[str, dict, dict, list]]:
  """Yields (family, options, parameters, z) of distributions over vectors."""
  simplex = [
    ([0.01, 0.01, 0.01], [0.25, 0.25, 0.5]),
    ([0.7, 1.5, 4.25], [0.25, 0.5, 0.25]),
    ([2, 9], [0.125, 0.875]),
    ([100] * 10, [0.125, 0.0625, 0.0625] + [0.125] * 5 + [0.0625, 0.0625]),
    ([1000, 0.01, 30], [0.96875, 2.0**-20, 0.03125 - 2.0**-20]),
    ([1000, 1000, 1000], [0.25, 0.375, 0.375]),
  ]
  for a, z in simplex:
    yield "dirichlet", {}, dict(concentration=single(a)), z
  trils = {
    "low": ([[0.01, 0], [0.003, 0.02]], [-20, 3], [-20.015, 3.03]),
    "middle": ([[0.7, 0], [-0.4, 1.3]], [0.5, -1], [1.25, 2]),
    "near singular": ([[1, 0], [1, 2.0**-10]], [0, 0], [1, 1]),
    "high": ([[900, 0], [-300, 1000]], [1000, 0], [-400, 3000]),
  }
  for tril, location, z in trils.values():
    for family, name in (("full_gaussian", "mean"), ("elliptical", "location")):
      eta = {name: single(location), "scale_tril": single(tril)}
      yield family, {}, eta, single(z)
  mild = dict(mean=[0.5, -1, 0.25], log_var=[-1, 0.5, 1], factor=[[1, 0], [0.5, -1], [2, 0.3]])
  yield "low_rank_gaussian", dict(rank=2), single_values(mild), [1.25, 0.0, -3.0]
  for log_var in (-12, -16, -18, -20):
    eta = dict(mean=[0.0, 0.0], log_var=[float(log_var)] * 2, factor=[[1.0], [1.0]])
    yield "low_rank_gaussian", dict(rank=1), eta, [1.0, 1.0]
  for size, rank, log_var in ((20, 2, -10), (20, 2, -12), (50, 5, -8), (50, 5, -12)):
    yield "low_rank_gaussian", dict(rank=rank), *own_draw(size, rank, log_var)


def single_values(eta: dict) -> dict:
  return {name: single(value) for name, value in eta.items()}


def own_draw(size: int, rank: int, log_var: float) -> tuple[dict, list]:
  """Makes a low-rank Gaussian and a draw of it, rounded to float32."""
  rng = np.random.default_rng(size * rank)
  factor, own, common = rng.normal(size=(size, rank)), rng.normal(size=size), rng.normal(size=rank)
  factor = single(factor.tolist())
  z = np.exp(log_var / 2) * own + np.array(factor) @ common
  eta = dict(mean=[0.0] * size, log_var=[float(log_var)] * size, factor=factor)
  return eta, single(z.tolist())


def levels() -> Iterator[tuple[str, dict, dict, list[float]]]:
  """Yields (family, options, parameters, zs) of likelihoods of 256 levels, each z a level."""
  for per_unit, spreads in ((256, SPREADS), (255, SPREADS_OF_255)):
    options = dict(levels_per_unit=per_unit)
    for log_scale, mean, of_levels in spreads:
      zs = [single(level / per_unit) for level in of_levels]
      scale, variance = float(log_scale), 2.0 * log_scale
      yield "discretized_logistic", options, dict(mean=[mean], log_scale=[scale]), zs
      yield "discretized_gaussian", options, dict(mean=[mean], log_var=[variance]), zs
