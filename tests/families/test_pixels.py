"""Likelihoods of pixels compared with scipy, sums over their levels, and quadrature."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from aevb_jax.families.base import distribution
from aevb_jax.families.pixels import (
  Categorical,
  ContinuousBernoulli,
  DiscretizedGaussian,
  DiscretizedLogistic,
  categorical,
  continuous_bernoulli,
  discretized_gaussian,
  discretized_logistic,
)
from tests.support.statistics import FALSE_ALARM, assert_unbiased

A = jnp.asarray
mp.mp.dps = 50
LOGITS = [-30.0, -2.0, -0.11, -0.05, -1e-4, 0.0, 1e-5, 0.02, 0.5, 8.0, 200.0]


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_is_a_density(logit):
  family, eta = continuous_bernoulli(1), ContinuousBernoulli(A([logit]))
  density = jax.jit(lambda x: jnp.exp(family.log_prob(eta, x[None])))
  how = dict(epsabs=1e-12, points=[0.01, 0.1, 0.9, 0.99], limit=200)
  total = scipy.integrate.quad(lambda x: float(density(A(x))), 0, 1, **how)[0]
  np.testing.assert_allclose(total, 1, atol=1e-8)
  mean = scipy.integrate.quad(lambda x: x * float(density(A(x))), 0, 1, **how)[0]
  np.testing.assert_allclose(family.mean(eta)[0], mean, atol=1e-8)
  for outside in (-0.1, 1.1):
    assert family.log_prob(eta, A([outside])) == -np.inf


@pytest.mark.parametrize("logit", [-300.0, -3.0, -1e-4, 0.0, 0.7, 6.0, 300.0])
def test_continuous_bernoulli_inverts_its_cdf(logit):
  family, eta = continuous_bernoulli(1), ContinuousBernoulli(A([logit]))
  u = np.array([0.001, 0.2, 0.5, 0.9, 0.999])
  x = jax.vmap(lambda u: family.transform(eta, u[None])[0])(A(u))
  assert np.all((x > 0) & (x < 1))
  l = logit if abs(logit) > 1e-6 else 1e-6
  cdf = np.expm1(l * x) / np.expm1(l) if l < 50 else np.exp(l * (x - 1))
  np.testing.assert_allclose(cdf, u, rtol=1e-6)
  slope = jax.jacfwd(lambda l: family.transform(ContinuousBernoulli(l), A([0.3])))(A([logit]))
  assert np.isfinite(slope).all() and slope[0, 0] > 0


GRID = np.arange(256) / 255
DISCRETIZED = {
  "logistic": (
    discretized_logistic,
    lambda mean, scale: DiscretizedLogistic(A([mean]), jnp.log(A([scale]))),
    scipy.stats.logistic,
  ),
  "gaussian": (
    discretized_gaussian,
    lambda mean, scale: DiscretizedGaussian(A([mean]), 2 * jnp.log(A([scale]))),
    scipy.stats.norm,
  ),
}


@pytest.mark.parametrize("mean, scale", [(0.4, 0.1), (0.0, 0.003), (1.3, 0.2), (-5.0, 0.5)])
@pytest.mark.parametrize("name", DISCRETIZED)
def test_a_level_has_the_mass_of_its_bin(name, mean, scale):
  make, eta_of, frozen = DISCRETIZED[name]
  family, eta = make(1), eta_of(mean, scale)
  log_p = np.asarray(jax.vmap(lambda x: family.log_prob(eta, x[None]))(A(GRID)))
  np.testing.assert_allclose(np.exp(log_p).sum(), 1, rtol=1e-10)
  ends = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
  t = (ends - mean) / scale
  # The upper tail uses the survival function, because the CDF is close to 1 there.
  mass = np.where(t[:-1] + t[1:] > 0, frozen.sf(t[:-1]) - frozen.sf(t[1:]), np.diff(frozen.cdf(t)))
  seen = mass > 1e-250
  np.testing.assert_allclose(log_p[seen], np.log(mass[seen]), rtol=1e-7, atol=1e-9)
  assert np.isfinite(log_p).all()
  np.testing.assert_allclose(family.mean(eta)[0], np.exp(log_p) @ GRID, rtol=1e-9)


@pytest.mark.parametrize("name", DISCRETIZED)
def test_levels_are_drawn_as_often_as_they_are_likely(name):
  make, eta_of, _ = DISCRETIZED[name]
  family, eta = make(1, levels=8, step=1 / 7), eta_of(0.3, 0.2)
  q = distribution(family, eta)
  x = jax.jit(jax.vmap(q.sample))(jax.random.split(jax.random.key(0), 100_000))
  grid = np.arange(8) / 7
  expected = np.exp(jax.vmap(lambda x: family.log_prob(eta, x[None]))(A(grid)))
  counts = np.sum(np.abs(np.asarray(x) - grid) < 1e-9, axis=0)
  assert counts.sum() == 100_000
  assert scipy.stats.chisquare(counts, 100_000 * expected).pvalue > FALSE_ALARM


@pytest.mark.parametrize("make, eta_of, frozen", DISCRETIZED.values(), ids=DISCRETIZED)
def test_a_heads_gradient_lives_far_from_the_data(make, eta_of, frozen):
  family, eta = make(1), eta_of(0.0, 0.01)
  slope = jax.grad(lambda mean: family.log_prob(eta._replace(mean=mean), A([0.2])))(A([0.9]))
  assert np.isfinite(slope).all() and slope[0] < 0


def test_categorical_is_a_table():
  rng = np.random.default_rng(0)
  family = categorical(2, levels=4, step=1 / 3)
  eta = family.from_heads(A(rng.normal(size=8)))
  assert isinstance(eta, Categorical) and eta.logits.shape == (2, 4)
  p = np.exp(eta.logits) / np.exp(eta.logits).sum(axis=1, keepdims=True)
  for i in range(4):
    for j in range(4):
      value = family.log_prob(eta, A([i / 3, j / 3]))
      np.testing.assert_allclose(value, np.log(p[0, i] * p[1, j]), rtol=1e-10)
  q = distribution(family, eta)
  x = jax.vmap(q.sample)(jax.random.split(jax.random.key(0), 50_000))
  assert_unbiased(x, p @ np.arange(4) / 3, detects=0.03)
  np.testing.assert_allclose(q.mean, p @ np.arange(4) / 3, rtol=1e-12)
  np.testing.assert_allclose(family.entropy(eta), scipy.stats.entropy(p, axis=1).sum(), rtol=1e-12)


def test_all_levels_at_once_are_256():
  family = categorical(3)
  eta = family.from_heads(jnp.zeros(3 * 256))
  value = family.log_prob(eta, A([0.0, 100 / 255, 1.0]))
  np.testing.assert_allclose(value, -3 * np.log(256), rtol=1e-12)


@pytest.mark.parametrize("make", [categorical, discretized_gaussian, discretized_logistic])
def test_no_such_levels(make):
  with pytest.raises(ValueError, match="levels is 1, step is"):
    make(2, levels=1)
  with pytest.raises(ValueError, match="step is 0"):
    make(2, step=0.0)


def single(value):
  return jnp.full(1, value, jnp.float32)


# The mean is 1 / (1 − exp(−l)) − 1 / l, and its derivative 1 / l² − 1 / (4 sinh² l/2).
@pytest.mark.parametrize("logit", [-1e4, -100.0, -30.0, -1.01, -0.99, 0.01, 0.5, 100.0, 1e4])
def test_the_mean_of_a_continuous_bernoulli_and_its_slope(logit):
  family = continuous_bernoulli(1)
  l = mp.mpf(float(np.float32(logit)))
  mean, slope = 1 / (1 - mp.exp(-l)) - 1 / l, 1 / l**2 - 1 / (4 * mp.sinh(l / 2) ** 2)
  for dtype, rtol in ((np.float32, 1e-5), (np.float64, 1e-10)):
    l = jnp.full(1, np.float32(logit), dtype)
    value, gradient = jax.value_and_grad(lambda l: family.mean(ContinuousBernoulli(l))[0])(l)
    np.testing.assert_allclose(value, float(mean), rtol=rtol)
    np.testing.assert_allclose(gradient[0], float(slope), rtol=rtol)


@pytest.mark.parametrize("logit", [-1e3, -20.0, 3.0, 1e3])
def test_a_continuous_bernoulli_in_float32(logit):
  family, x = continuous_bernoulli(1), np.float32(0.99 if logit > 0 else 0.004)
  l, exact = mp.mpf(logit), mp.mpf(float(x))
  expected = exact * l - mp.log(1 + mp.exp(l)) + mp.log(l / mp.tanh(l / 2))
  value = family.log_prob(ContinuousBernoulli(single(logit)), single(x))
  np.testing.assert_allclose(value, float(expected), rtol=1e-5, atol=1e-5)


KINDS = {
  "gaussian": (discretized_gaussian(1), lambda m, s: DiscretizedGaussian(single(m), single(2 * s))),
  "logistic": (discretized_logistic(1), lambda m, s: DiscretizedLogistic(single(m), single(s))),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("log_scale", [-100.0, -60.0, -12.0, 12.0, 40.0])
def test_extreme_scales_are_finite(name, log_scale):
  family, make = KINDS[name]
  for pixel in (0, 1, 100, 127, 128, 254, 255):
    x = single(pixel / 255)
    value, slopes = jax.value_and_grad(family.log_prob)(make(0.5, log_scale), x)
    assert np.isfinite(value) and value <= 0
    for slope in slopes:
      assert np.isfinite(slope).all()
  assert np.isnan(family.log_prob(make(0.5, log_scale), single(np.nan)))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("mean, log_scale", [(0.5, -9), (1, -5), (0, -3), (0.3, 0), (0.5, 5)])
def test_the_masses_add_up_to_1_in_float32(name, mean, log_scale):
  family, make = KINDS[name]
  x = jnp.float32(np.arange(256) / 255)[:, None]
  log_masses = jax.vmap(family.log_prob, (None, 0))(make(mean, log_scale), x)
  np.testing.assert_allclose(np.exp(np.float64(np.asarray(log_masses))).sum(), 1, atol=1.5e-6)


@pytest.mark.parametrize(
  "log_scale, expected", [(10, -16.4602021), (20, -26.4602021), (40, -46.4602021)]
)
def test_a_wide_gaussian_is_flat_over_a_bin(log_scale, expected):
  # log(1/255) − ½ log 2π − log_scale, as the exponent is 0 to rounding.
  family, make = KINDS["gaussian"]
  value = family.log_prob(make(0.5, log_scale), single(100 / 255))
  np.testing.assert_allclose(value, expected, rtol=1e-7)


@pytest.mark.parametrize(
  "mean, log_scale, pixel", [(0.5, -3, 100), (0.5, -1, 3), (0.1, -5, 40), (2, 0, 9)]
)
def test_the_mass_of_a_gaussian_bin(mean, log_scale, pixel):
  family, make = KINDS["gaussian"]
  scale, middle = mp.exp(log_scale), mp.mpf(float(np.float32(mean)))
  ends = [
    ((pixel + side) * mp.mpf(float(np.float32(1 / 255))) - middle) / scale for side in (-0.5, 0.5)
  ]
  expected = mp.log(mp.ncdf(ends[1]) - mp.ncdf(ends[0]))
  value = family.log_prob(make(mean, log_scale), single(pixel / 255))
  np.testing.assert_allclose(value, float(expected), rtol=2e-5)


def test_nan_pixels_of_a_categorical():
  family = categorical(2, levels=3, step=0.5)
  eta = Categorical(jnp.zeros((2, 3)))
  np.testing.assert_allclose(family.log_prob(eta, A([0.0, 1.0])), -2 * np.log(3))
  assert np.isnan(family.log_prob(eta, A([0.0, np.nan])))


@pytest.mark.parametrize("name, expected", [("logistic", -96.9275579), ("gaussian", -96.4602021)])
def test_a_bin_far_narrower_than_the_scale(name, expected):
  # log(1/255) − log_scale + the log-density of the standard member at 0: −log 4, or −½ log 2π.
  family, make = KINDS[name]
  value, slopes = jax.value_and_grad(family.log_prob)(make(0.5, 90), single(100 / 255))
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(slopes[1], {"logistic": -1, "gaussian": -0.5}[name], rtol=1e-5)


@pytest.mark.parametrize("logit", [-17.0, -1.0, -0.051, -0.049, -1e-6, 1e-6, 0.03, 2.0, 17.0])
@pytest.mark.parametrize("u", [6e-8, 0.3, 0.5])
def test_draws_of_a_continuous_bernoulli_and_their_slopes(logit, u):
  family = continuous_bernoulli(1)
  l, v = mp.mpf(float(np.float32(logit))), mp.mpf(float(np.float32(u)))
  draw = lambda l, v: mp.log(1 + v * mp.expm1(l)) / l
  draws = lambda l, u: family.transform(ContinuousBernoulli(l), u)[0]
  for dtype, rtol, atol in ((np.float32, 1e-5, 3e-6), (np.float64, 1e-9, 1e-10)):
    args = jnp.full(1, np.float32(logit), dtype), jnp.full(1, np.float32(u), dtype)
    np.testing.assert_allclose(draws(*args), float(draw(l, v)), rtol=rtol, atol=atol)
    slope = float(mp.diff(lambda l: draw(l, v), l))
    np.testing.assert_allclose(jax.grad(draws)(*args)[0], slope, rtol=10 * rtol, atol=atol)
