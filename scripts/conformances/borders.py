"""The border of the support: values and one-sided derivatives, each worked out by hand.

Where the log-density is finite at the border, its derivative in z is the one from inside, and its
derivative in a parameter is the limit of the formula. Where it is infinite only the value counts.
"""

from collections.abc import Iterator

from mpmath import mp, mpf

FINITE = [  # (family, options, parameters, z, right)
  ("beta", {}, dict(a=[1], b=[8]), 0, lambda: (mp.log(8), -7, dict(a="-inf", b=mpf(1) / 8))),
  ("beta", {}, dict(a=[8], b=[1]), 1, lambda: (mp.log(8), 7, dict(a=mpf(1) / 8, b="-inf"))),
  ("gamma", {}, dict(shape=[1], rate=[3]), 0,
   lambda: (mp.log(3), -3, dict(shape="-inf", rate=mpf(1) / 3))),
  ("chi_squared", {}, dict(degrees_of_freedom=[2]), 0,
   lambda: (-mp.log(2), mpf(-1) / 2, dict(degrees_of_freedom="-inf"))),
  ("weibull", {}, dict(scale=[2], shape=[1]), 0,
   lambda: (-mp.log(2), mpf(-1) / 2, dict(scale=mpf(-1) / 2, shape="-inf"))),
  ("erlang", dict(count=1), dict(rate=[3]), 0, lambda: (mp.log(3), -3, dict(rate=mpf(1) / 3))),
  ("f", {}, dict(numerator=[2], denominator=[5]), 0,
   lambda: (mpf(0), mpf(-7) / 5, dict(numerator="-inf", denominator=mpf(0)))),
  ("exponential", {}, dict(rate=[3]), 0, lambda: (mp.log(3), -3, dict(rate=mpf(1) / 3))),
  ("gompertz", {}, dict(shape=[0.5], rate=[4]), 0,
   lambda: (mp.log(2), 2, dict(shape=mpf(2), rate=mpf(1) / 4))),
  ("pareto", {}, dict(scale=[2], shape=[4]), 2, lambda: (mp.log(2), mpf(-5) / 2,
   dict(shape=mpf(1) / 4))),
  ("reciprocal", {}, dict(low=[0.5], high=[4]), 0.5,
   lambda: (mp.log(2) - mp.log(mp.log(8)), -2, {})),
  ("reciprocal", {}, dict(low=[0.5], high=[4]), 4,
   lambda: (-mp.log(4) - mp.log(mp.log(8)), mpf(-1) / 4, {})),
  ("uniform", {}, dict(low=[0.25], high=[3]), 0.25, lambda: (-mp.log(mpf(11) / 4), 0, {})),
]  # fmt: skip
INFINITE = [  # (family, options, parameters, z, log-density)
  ("rayleigh", {}, dict(scale=[2]), 0, "-inf"),
  ("triangular", {}, dict(low=[0.25], width=[3]), 0.25, "-inf"),
  ("triangular", {}, dict(low=[0.25], width=[3]), 3.25, "-inf"),
  ("log_normal", {}, dict(location=[0], scale=[1]), 0, "-inf"),
  ("gamma", {}, dict(shape=[2.5], rate=[3]), 0, "-inf"),
  ("gamma", {}, dict(shape=[0.5], rate=[3]), 0, "inf"),
  ("erlang", dict(count=3), dict(rate=[3]), 0, "-inf"),
  ("chi_squared", {}, dict(degrees_of_freedom=[5]), 0, "-inf"),
  ("chi_squared", {}, dict(degrees_of_freedom=[1]), 0, "inf"),
  ("weibull", {}, dict(scale=[2], shape=[2]), 0, "-inf"),
  ("weibull", {}, dict(scale=[2], shape=[0.5]), 0, "inf"),
  ("f", {}, dict(numerator=[7], denominator=[31]), 0, "-inf"),
  ("f", {}, dict(numerator=[1], denominator=[5]), 0, "inf"),
  ("beta", {}, dict(a=[2], b=[9]), 0, "-inf"),
  ("beta", {}, dict(a=[2], b=[9]), 1, "-inf"),
  ("beta", {}, dict(a=[0.5], b=[0.25]), 0, "inf"),
  ("beta", {}, dict(a=[0.5], b=[0.25]), 1, "inf"),
]


def borders() -> Iterator[dict]:
  """Yields points at the border, with right values as mpmath numbers."""
  for family, options, eta, z, right in FINITE:
    value, slope, slopes = right()
    found = {"log_prob": value, "d log_prob/d z": [mpf(slope)]}
    found |= {f"d log_prob/d {name}": [s] for name, s in slopes.items()}
    yield dict(family=family, options=options, eta=eta, z=[z], right=found)
  for family, options, eta, z, value in INFINITE:
    yield dict(family=family, options=options, eta=eta, z=[z], right={"log_prob": value})
  at_zero = mp.log(mpf(1) / 2) + mpf(3) / 2  # log z - ψ(1) + ψ(3)
  flat = {
    "log_prob": mp.log(2),
    "d log_prob/d z": [mpf(0)] * 3,
    "d log_prob/d concentration": ["-inf", at_zero, at_zero],
  }
  point = dict(family="dirichlet", options={}, z=[0, 0.5, 0.5])
  yield point | dict(eta=dict(concentration=[1, 1, 1]), right=flat)
  yield point | dict(eta=dict(concentration=[2, 1, 1]), right={"log_prob": "-inf"})
  yield point | dict(eta=dict(concentration=[0.5, 1, 1]), right={"log_prob": "inf"})
