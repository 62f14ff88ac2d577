"""Special functions against mpmath, over the ranges and with the errors that they claim."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from aevb_jax.families import densities, special

mp.mp.dps = 50
N = 300


def spread(seed, low, high):
  """Draws numbers on a log scale, all exact in float32."""
  logs = np.random.default_rng(seed).uniform(np.log10(low), np.log10(high), N)
  return np.float32(10**logs).astype(float)


def pairs(seed, low, high):
  """Draws pairs: a third far apart, a third close in ratio, a third close in difference."""
  rng, p = np.random.default_rng(seed), spread(seed, low, high)
  ratios, steps = 1 + 10 ** rng.uniform(-6, -1, N), 10 ** rng.uniform(-4, 0, N)
  q = np.choose(np.arange(N) % 3, [spread(seed + 1, low, high), p * ratios, p + steps])
  return p, np.float32(q).astype(float)


def signed(values):
  return np.concatenate([values, -values])


P, Q = pairs(0, 1e-3, 1e5)
X = spread(1, 1e-3, 1e5)
SMALL = signed(spread(2, 1e-8, 0.4999))
ABOVE = np.concatenate([-spread(3, 1e-8, 0.999), spread(4, 1e-8, 1e3)])
RATES = spread(5, 1e-3, 1e3)


def stirling(x):
  return (x - 0.5) * mp.log(x) - x + mp.log(2 * mp.pi) / 2


def bregman(p, q):
  return mp.loggamma(p) - mp.loggamma(q) - mp.digamma(q) * (p - q)


def entropy_between(x, y):
  return x * mp.log(x / y) + y - x


def sinhs(h):
  return mp.sinh(h) / h - (2 * mp.sinh(h / 2) / h) ** 2


# name: our function, mpmath's, the arguments, the errors in float32 and float64, and what is added
# to |value| in the denominator of the error.
CASES = {
  "log_ratio": (special.log_ratio, lambda x, y: mp.log(x / y), (P, Q), 1e-6, 1e-14, 1),
  "log_above": (
    special.log_above, lambda x, y: mp.log(x / y), (np.maximum(P, Q), np.minimum(P, Q)),
    4e-7, 1e-15, 0,
  ),
  "u_minus_log": (
    lambda u: special.u_minus_log(u, 1 + u), lambda u: u - mp.log1p(u), (ABOVE,), 1e-6, 1e-14, 0,
  ),
  "u_minus_log_near": (
    special.u_minus_log_near, lambda u: u - mp.log1p(u), (SMALL,), 1e-6, 1e-14, 0,
  ),
  "expm1_minus": (
    special.expm1_minus, lambda x: mp.expm1(x) - x, (signed(spread(6, 1e-8, 80)),), 1e-6, 1e-14, 0,
  ),
  "digamma_tail": (special.digamma_tail, lambda x: mp.digamma(x) - mp.log(x), (X,), 4e-6, 1e-13, 0),
  "log_gamma_tail": (
    special.log_gamma_tail, lambda x: mp.loggamma(x) - stirling(x), (X,), 2e-6, 1e-14, 1,
  ),
  "stirling_series": (
    special.stirling_series, lambda x: mp.loggamma(x) - stirling(x), (X[X > 8],), 3e-7, 2e-13, 0,
  ),
  "log_beta": (
    special.log_beta, lambda a, b: mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b), (P, Q),
    2e-6, 1e-14, 1,
  ),
  "relative_entropy": (
    lambda x, y: special.relative_entropy(x, y, y - x), entropy_between, (P, Q), 1e-6, 1e-14, 0,
  ),
  "digamma_difference": (
    lambda p, q: special.digamma_difference(p, q, p - q),
    lambda p, q: mp.digamma(p) - mp.digamma(q), (P, Q), 2e-6, 1e-13, 0,
  ),
  "trigamma": (special.trigamma, lambda x: mp.polygamma(1, x), (X,), 1e-6, 1e-14, 0),
  "log_gamma_bregman": (
    lambda p, q: special.log_gamma_bregman(p, q, p - q), bregman, (P, Q), 1e-6, 1e-13, 0,
  ),
  "log_gamma_tail_bregman": (
    lambda p, q: special.log_gamma_tail_bregman(p, q, p - q),
    lambda p, q: bregman(p, q) - entropy_between(p, q), (P, Q), 1e-5, 1e-11, 0,
  ),
  "log_two_moments": (
    special.log_two_moments, lambda x: mp.loggamma(1 + 2 * x) - 2 * mp.loggamma(1 + x),
    (spread(7, 1e-4, 1e2),), 3e-6, 1e-13, 0,
  ),
  "exp_e1": (special.exp_e1, lambda x: mp.exp(x) * mp.e1(x), (RATES,), 2e-6, 1e-12, 0),
  "log_ndtr": (
    special.log_ndtr, lambda x: mp.log(mp.ncdf(x)), (signed(spread(9, 1e-3, 1e3))[N - 200 :],),
    1e-6, 1e-10, 1,
  ),
  "sinh_gap": (special.sinh_gap, sinhs, (spread(8, 1e-5, 20),), 5e-6, 1e-13, 0),
}  # fmt: skip
# The derivatives with respect to each argument, where they have a formula of their own.
SLOPES = {
  "relative_entropy 0": ("relative_entropy", 0, lambda x, y: mp.log(x / y)),
  "relative_entropy 1": ("relative_entropy", 1, lambda x, y: 1 - x / y),
  "log_ndtr 0": ("log_ndtr", 0, lambda x: mp.npdf(x) / mp.ncdf(x)),
  "log_gamma_bregman 0": ("log_gamma_bregman", 0, lambda p, q: mp.digamma(p) - mp.digamma(q)),
  "log_gamma_bregman 1": ("log_gamma_bregman", 1, lambda p, q: mp.polygamma(1, q) * (q - p)),
  "log_gamma_tail_bregman 0": (
    "log_gamma_tail_bregman", 0, lambda p, q: mp.digamma(p) - mp.digamma(q) - mp.log(p / q),
  ),
  "log_gamma_tail_bregman 1": (
    "log_gamma_tail_bregman", 1, lambda p, q: (mp.polygamma(1, q) - 1 / q) * (q - p),
  ),
  "u_minus_log 0": ("u_minus_log", 0, lambda u: u / (1 + u)),
  "expm1_minus 0": ("expm1_minus", 0, mp.expm1),
  "log_beta 0": ("log_beta", 0, lambda a, b: mp.digamma(a) - mp.digamma(a + b)),
}  # fmt: skip


def right(reference, arguments):
  rows = zip(*(np.asarray(a, float) for a in arguments), strict=True)
  return np.array([float(reference(*(mp.mpf(float(v)) for v in row))) for row in rows])


def assert_close(ours, reference, arguments, tolerances, plus):
  for dtype, tolerance in zip((np.float32, np.float64), tolerances, strict=True):
    given = [np.asarray(a, dtype) for a in arguments]
    value = np.asarray(ours(*map(jnp.asarray, given)))
    assert value.dtype == dtype
    expected = right(reference, given)
    scale = plus + np.abs(expected)
    error = np.abs(value - expected) / np.where(scale == 0, 1e-30, scale)
    assert error.max() < tolerance, (dtype, error.max(), [a[error.argmax()] for a in given])


@pytest.mark.parametrize("name", CASES)
def test_values(name):
  ours, reference, arguments, single, double, plus = CASES[name]
  assert_close(ours, reference, arguments, (single, double), plus)


@pytest.mark.parametrize("name", SLOPES)
def test_slopes(name):
  function, argument, reference = SLOPES[name]
  ours, _, arguments, *_ = CASES[function]
  plus = 1 if function in ("log_beta", "log_ndtr") else 0
  slope = jax.vmap(jax.grad(ours, argument))
  assert_close(slope, reference, arguments, (2e-5, 1e-10), plus)


def test_second_derivatives():
  breg = lambda p, q: special.log_gamma_bregman(p, q, p - q)
  second = jax.hessian(breg, (0, 1))(3.0, 4.0)
  expected = [
    [mp.polygamma(1, 3), -mp.polygamma(1, 4)],
    [-mp.polygamma(1, 4), mp.polygamma(1, 4) + mp.polygamma(2, 4)],
  ]
  np.testing.assert_allclose(second, np.array(expected, float), rtol=1e-10)


def test_borders():
  grad = lambda f, i, *x: jax.grad(f, i)(*map(jnp.float32, x))
  assert special.xdivy(jnp.float32(0), jnp.float32(0)) == 0
  assert special.log_of(jnp.float32(0)) == -np.inf and grad(special.log_of, 0, 0) == 0
  assert special.log_of_rest(jnp.float32(1)) == -np.inf and grad(special.log_of_rest, 0, 1) == 0
  for function in (special.log_ratio, special.log_beta):
    assert np.isnan(function(jnp.float32(np.nan), jnp.float32(1)))
    assert np.isnan(function(jnp.float32(1), jnp.float32(np.nan)))


@pytest.mark.parametrize(
  "name", ["log_gamma_bregman", "log_gamma_tail_bregman", "relative_entropy"]
)
def test_divergences_vanish_at_equality_and_nowhere_else(name):
  ours, _, (p, q), *_ = CASES[name]
  p, q = jnp.asarray(p, jnp.float32), jnp.asarray(q, jnp.float32)
  np.testing.assert_array_equal(ours(p, p), 0)
  assert (ours(p, q) >= 0).all() and (ours(p, q)[p != q] > 0).all()


def test_a_product_minus_a_number_close_to_it():
  x, y = spread(10, 0.1, 1e3), spread(11, 0.1, 1e3)
  c = np.float32(x * y * (1 + np.random.default_rng(12).normal(size=N) * 1e-5)).astype(float)
  value = densities.product_minus(*(jnp.asarray(a, jnp.float32) for a in (x, y, c)))
  exact = x * y - c  # in float64
  assert (np.abs(value - exact) <= 1e-7 * np.abs(exact) + 1e-10 * np.abs(c)).all()


def test_a_logarithm_minus_a_number_close_to_it():
  rng = np.random.default_rng(13)
  z = np.float32(np.exp(rng.uniform(-80, 80, N))).astype(float)
  m = np.float32(np.log(z) + rng.normal(size=N) * 10 ** rng.uniform(-6, 0, N)).astype(float)
  expected = right(lambda z, m: mp.log(z) - m, (z, m))
  value = densities.log_minus(jnp.asarray(z, jnp.float32), jnp.asarray(m, jnp.float32))
  np.testing.assert_allclose(value, expected, rtol=1e-7, atol=3e-8)
