"""Right values of every family in both precisions, from tests/contracts/conformance.json."""

import json
import math
import pathlib
import sys

import numpy as np
import pytest
from mpmath import mp

sys.path.append(str(pathlib.Path(__file__).parents[2] / "scripts"))

import conformance
from conformances import exact, exact_kl, inputs, making, ours
from conformances.pairs import Member
from conformances.score import cases, is_right, numbers

POINTS = json.loads(conformance.SUITE.read_text())
FAMILIES = sorted({point["family"] for point in POINTS})


# What has no closed form here.
NOT_THERE = {
  "gompertz": ("variance",),
  "continuous_bernoulli": ("variance", "entropy"),
}

# What float32 misses, by how it is printed: a difference, 0, of two terms of 57.
MISSED = {
  ("discretized_gaussian", "float32"): ["at 0.375: d log_prob/d mean"],
}


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_values(family, precision):
  points = [point for point in POINTS if point["family"] == family]
  wrong, checked = [], 0
  for point, values in zip(points, ours.evaluate(points, precision), strict=True):
    for name in cases(point, precision):
      if name not in values:
        assert name in NOT_THERE.get(family, ()), f"{family} has no {name}"
        continue
      checked += 1
      if not is_right(name, values[name], point["right"][name], precision):
        wrong.append(conformance.in_words(point, name, values[name]))
  missed = MISSED.get((family, precision), [])
  unknown = [line for line in wrong if not any(words in line for words in missed)]
  assert checked and not unknown, f"{len(unknown)} of {checked}:\n" + "\n".join(unknown)
  assert len(wrong) == len(missed), "what was missed is right now: take it off the list"


def test_inputs_are_exact_in_single_precision():
  def leaves(tree):
    if isinstance(tree, dict):
      tree = list(tree.values())
    if isinstance(tree, list):
      return [leaf for branch in tree for leaf in leaves(branch)]
    return [float(tree)]

  for point in POINTS:
    numbers = leaves([point["eta"], point.get("z", []), point.get("p", {}).get("eta", {})])
    assert all(math.isnan(n) or inputs.single(n) == n for n in numbers), point


def remade(point):
  """Computes the right values of a point again; None if they are not from a formula."""
  of = [point[name] for name in ("family", "options", "eta")]
  if point["kind"] == "divergence":
    return making.divergence(Member(*of), Member(*point["p"].values()))
  if point["kind"] == "density" and point["how"] == making.FORMULA:
    univariate = point["family"] in exact.LOG_DENSITY
    return making.density(*of, point["z"][0]) if univariate else None
  return (
    making.moments(*of) if point["family"] in exact.MOMENTS and "mean" in point["right"] else None
  )


@mp.workdps(60)  # other tests of the same process set another precision
def test_the_file_has_what_the_formulas_give():
  """Not the z, which SciPy's quantiles chose: another version may round them otherwise."""
  checked = 0
  for point in POINTS:
    if (again := remade(point)) is None:
      continue
    right = making.finished(again)["right"]
    for name, value in point["right"].items():
      if name == "d mean/d logits":  # which is the variance
        continue
      checked += 1
      close = dict(rtol=1e-14, atol=1e-40)
      np.testing.assert_allclose([*numbers(value)], [*numbers(right[name])], **close)
  assert checked > 2000


# A member of each family in the middle of its range, and the ends between which it has its mass.
MIDDLE = {
  "exponential": ({}, (1.7,), (0, 50)),
  "cauchy": ({}, (0.5, 1.75), (-mp.inf, mp.inf)),
  "logistic": ({}, (0.5, 1.75), (-150, 0.5, 150)),
  "rayleigh": ({}, (2.3,), (0, 40)),
  "pareto": ({}, (2, 6.5), (2, mp.inf)),
  "weibull": ({}, (2.3, 1.7), (0, 40)),
  "reciprocal": ({}, (0.3, 7), (0.3, 7)),
  "gompertz": ({}, (0.7, 1.3), (0, 5)),
  "gumbel": ({}, (0.5, 1.75), (-10, 150)),
  "erlang": (dict(count=7), (1.3,), (0, 80)),
  "laplace": ({}, (0.5, 1.75), (-150, 0.5, 150)),
  "student_t": (dict(degrees_of_freedom=9), (0.5, 1.75), (-mp.inf, 0.5, mp.inf)),
  "uniform": ({}, (0.25, 3), (0.25, 3)),
  "triangular": ({}, (0.25, 3), (0.25, 1.75, 3.25)),
  "gaussian": ({}, (0.5, 1.1), (-30, 30)),
  "log_normal": ({}, (0.5, 0.75), (0, 1, 10, mp.inf)),
  "gamma": ({}, (2.5, 1.3), (0, 80)),
  "chi_squared": ({}, (3.7,), (0, 200)),
  "f": ({}, (7.3, 31), (0, 1, 10, mp.inf)),
  "beta": ({}, (2, 9), (0, 1)),
  "continuous_bernoulli": ({}, (1.5,), (0, 1)),
}


@pytest.mark.parametrize("family", MIDDLE)
def test_right_values_are_those_of_the_density(family):
  """The formulas of mass, mean, variance and entropy against integrals of the density."""
  options, eta, ends = MIDDLE[family]
  eta = [mp.mpf(value) for value in eta]
  log_density = lambda z: exact.LOG_DENSITY[family](options, z, *eta)
  mean, variance, entropy = exact.MOMENTS[family](options, *eta)

  def expected(function):
    with mp.workdps(20):
      return mp.quad(lambda z: function(z) * mp.exp(log_density(z)), ends)

  assert abs(expected(lambda z: 1) - 1) < 1e-7
  assert abs(expected(lambda z: -log_density(z)) - entropy) < 1e-6
  if mean is not None:
    assert abs(expected(lambda z: z) - mean) < 1e-6
    assert abs(expected(lambda z: (z - mean) ** 2) - variance) < 1e-6


# (q, p) of one dimension, whose families `MIDDLE` has, and the ends of q.
PAIRS = [
  (("gamma", (2.5, 1.3)), ("chi_squared", (3.7,)), (0, 80)),
  (("exponential", (1.7,)), ("gamma", (2.5, 1.3)), (0, 60)),
  (("weibull", (2.3, 1.7)), ("gamma", (2.5, 1.3)), (0, 40)),
  (("weibull", (2.3, 1.7)), ("weibull", (1.5, 1.25)), (0, 40)),
  (("beta", (2, 9)), ("beta", (3.5, 4)), (0, 1)),
  (("laplace", (0.5, 1.75)), ("laplace", (-1, 3)), (-150, -1, 0.5, 150)),
  (("gaussian", (0.5, 1.1)), ("gaussian", (-1, 0.25)), (-30, 30)),
  (("log_normal", (0.5, 0.75)), ("log_normal", (0, 1.25)), (0, 1, 10, mp.inf)),
  (("uniform", (0.25, 3)), ("uniform", (-1, 5)), (0.25, 3)),
]


@pytest.mark.parametrize("q, p, ends", PAIRS, ids=lambda value: str(value[0]))
def test_right_divergences_are_those_of_the_densities(q, p, ends):
  log_density = lambda of, z: exact.LOG_DENSITY[of[0]]({}, z, *map(mp.mpf, of[1]))
  named = lambda of: {str(i): [mp.mpf(value)] for i, value in enumerate(of[1])}
  difference = lambda z: mp.exp(log_density(q, z)) * (log_density(q, z) - log_density(p, z))
  with mp.workdps(20):
    expected = mp.quad(difference, ends)
  assert abs(exact_kl.kl(q[0], named(q), p[0], named(p)) - expected) < 1e-7


@pytest.mark.parametrize("quantity", ["log_prob", "kl"])
@pytest.mark.parametrize("right", ["inf", "-inf", "nan", 0.0, 3.0])
def test_what_counts_as_right(quantity, right):
  assert is_right(quantity, float(right), right, "float32")
  others = {"inf", "-inf", "nan", 0.0, 3.0} - {right}
  assert not any(is_right(quantity, float(other), right, "float32") for other in others)
  assert not is_right(quantity, [float(right)] * 2, right, "float32")  # of another shape


def test_the_tolerance_of_a_divergence_is_relative():
  assert is_right("log_prob", 1e-4 + 9e-6, 1e-4, "float32")
  assert not is_right("kl", 1e-4 + 2e-9, 1e-4, "float32") and is_right("kl", 1e-4, 1e-4, "float32")
  assert is_right("kl", 9e-8, 0.0, "float32") and not is_right("kl", 2e-7, 0.0, "float32")
  assert not is_right("log_prob", 1 + 3e-10, 1.0, "float64")


def test_rows_of_the_page_are_replaced_by_library():
  page = "a\n<!-- table -->\n| h |\n| - |\n| SciPy | 1 |\n| distrax | 2 |\n<!-- end -->\nb\n"
  filled = conformance.fill(page, [("SciPy", "3")])
  assert "| SciPy | 3 |" in filled and "| distrax | 2 |" in filled and "| SciPy | 1 |" not in filled
