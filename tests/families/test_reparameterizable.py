"""The families of section 2.4 compared with scipy, quadrature and their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from aevb_jax.families import composition, location_scale, reparameterize
from aevb_jax.families.base import distribution
from aevb_jax.families.gaussians import (
  Gaussian,
  LowRankGaussian,
  covariance,
  full_gaussian,
  low_rank_gaussian,
)
from tests.support.family_table import COMPOSITION, SPECIES, UNIVARIATE, alone
from tests.support.statistics import FALSE_ALARM, assert_unbiased

QUANTILES = np.array([1e-12, 1e-6, 1e-3, 0.05, 0.3, 0.5, 0.7, 0.95, 0.999, 1 - 1e-6, 1 - 1e-12])
by_name = pytest.mark.parametrize("case", UNIVARIATE, ids=lambda case: case.name)


def test_there_are_22():
  assert sum(map(len, SPECIES.values())) == 22
  assert {name: len(rows) for name, rows in SPECIES.items()} == {
    "inverse CDF": 10, "location and scale": 6, "composition": 6
  }  # fmt: skip


@by_name
def test_log_prob_is_scipys(case):
  z = np.stack([frozen.ppf(QUANTILES) for frozen in case.scipy], axis=1)
  value = jax.jit(jax.vmap(lambda z: case.family.log_prob(case.eta, z)))(jnp.asarray(z))
  expected = sum(frozen.logpdf(z[:, j]) for j, frozen in enumerate(case.scipy))
  # A quantile may round to an end of the support, where the density is infinite or zero.
  known = np.isfinite(expected)
  assert known.sum() >= 8
  np.testing.assert_allclose(value[known], expected[known], rtol=1e-10, atol=1e-10)


@by_name
def test_outside_the_support_the_density_is_zero_and_so_is_its_gradient(case):
  slope = jax.jit(jax.value_and_grad(case.make(1).log_prob))
  for j, frozen in enumerate(case.scipy):
    low, high = frozen.support()
    support = case.family.support(case.eta)
    np.testing.assert_allclose(jnp.broadcast_to(support.low, (3,))[j], low, rtol=1e-12)
    np.testing.assert_allclose(jnp.broadcast_to(support.high, (3,))[j], high, rtol=1e-12)
    for outside in (low - 0.1, high + 0.1):
      if np.isfinite(outside):
        z = jnp.asarray([outside])
        value, gradient = slope(alone(case.eta, j), z)
        assert value == -np.inf
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@by_name
def test_the_density_integrates_to_one(case):
  one = case.make(1)
  density = jax.jit(jax.vmap(lambda eta, z: jnp.exp(one.log_prob(eta, z[None])), (None, 0)))
  tail = 10.0 ** np.arange(-10, 0)
  # Near 1, where this Beta's density diverges, the rounding of z is too coarse.
  upper = tail[4:] if case.name == "beta" else tail
  marks = [*tail, 0.3, 0.5, 0.7, *(1 - upper[::-1])]
  for j, frozen in enumerate(case.scipy):
    ends = list(frozen.ppf(marks))
    if case.name in ("triangular", "laplace"):  # add the tip
      ends.append(
        frozen.median() if case.name == "laplace" else case.eta[0][j] + 0.3 * case.eta[1][j]
      )
    low, high = frozen.support()
    total = sum(
      pieces(density, alone(case.eta, j), a, b, float(low), float(high))
      for a, b in zip(np.sort(ends)[:-1], np.sort(ends)[1:])
    )
    assert abs(total - (marks[-1] - marks[0])) < 1e-8


NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)


def pieces(density, eta, a, b, low, high):
  """Integrates from a to b, over the log-distance to an end of the support if one is close."""
  if np.isfinite(low) and 0 < a - low < 0.1 * (b - low):
    start, sign, near, far = low, 1, a - low, b - low
  elif np.isfinite(high) and 0 < high - b < 0.1 * (high - a):
    start, sign, near, far = high, -1, high - b, high - a
  else:
    z = 0.5 * (b - a) * (NODES + 1) + a
    return 0.5 * (b - a) * float(WEIGHTS @ np.asarray(density(eta, jnp.asarray(z))))
  width = np.log(far) - np.log(near)
  t = near * np.exp(0.5 * width * (NODES + 1))
  values = np.asarray(density(eta, jnp.asarray(start + sign * t))) * t
  return 0.5 * width * float(WEIGHTS @ values)


@by_name
def test_moments_and_entropy_are_scipys(case):
  family = case.family
  means = [frozen.mean() for frozen in case.scipy]
  np.testing.assert_allclose(family.mean(case.eta), means, rtol=1e-9, atol=1e-12)
  if family.variance is None:
    assert case.name == "gompertz"
  else:
    variances = np.array([frozen.var() for frozen in case.scipy])
    np.testing.assert_allclose(family.variance(case.eta), variances, rtol=1e-8)
  entropy = sum(frozen.entropy() for frozen in case.scipy)
  np.testing.assert_allclose(family.entropy(case.eta), entropy, rtol=1e-7)


@by_name
def test_the_pathwise_derivative_is_that_of_the_cdf(case):
  # z = F⁻¹(ε; η) for a fixed ε: 0 = ∂F/∂η + f dz/dη.
  if case.cdf is None:
    pytest.skip("composed of two noises: tested by its moments")
  family, keys = case.family, jax.random.split(jax.random.key(0), 50)

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(None, 0))
  def derivatives(eta, key):
    noise = family.noise(key)
    z = family.transform(eta, noise)
    moved = jax.grad(lambda eta: jnp.sum(family.transform(eta, noise)))(eta)
    return z, moved, jax.grad(lambda eta: jnp.sum(case.cdf(eta, z)))(eta)

  z, moved, of_the_cdf = derivatives(case.eta, keys)
  density = np.stack([frozen.pdf(z[:, j]) for j, frozen in enumerate(case.scipy)], axis=1)
  for name, ours, of_cdf in zip(case.eta._fields, moved, of_the_cdf):
    expected = -np.asarray(of_cdf) / density
    # JAX's derivative of the incomplete gamma function in its shape has errors of 1e-8.
    rtol = 1e-6 if case.name in ("gamma", "chi_squared") else 1e-9
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=1e-9, err_msg=name)


C = np.sqrt(0.5 * np.log(2 / FALSE_ALARM))  # the statistic of Kolmogorov and Smirnov is below C/√n


# An error of 2 % in scale moves the CDF of a Gaussian by 0.0048 at most. The CDF of 1e5 draws may
# be off by 0.0085 at this rate of false alarms, so the test draws as many as the error needs.
@pytest.mark.parametrize("error", [0.06, pytest.param(0.02, marks=pytest.mark.long)])
@by_name
def test_samples_follow_the_density(case, error):
  j = 1
  frozen, eta, family = case.scipy[j], alone(case.eta, j), case.make(1)
  grid = frozen.ppf(np.linspace(0.001, 0.999, 999))
  shift = np.max(np.abs(frozen.cdf(grid) - frozen.cdf(grid / (1 + error))))
  n = int((1.6 * C / shift) ** 2)
  draw = jax.jit(jax.vmap(lambda key: reparameterize(key, family, eta)[0]))
  z = np.asarray(draw(jax.random.split(jax.random.key(1), n)))
  p_value = lambda z: scipy.stats.kstest(z, frozen.cdf, mode="asymp").pvalue
  assert p_value(z) > FALSE_ALARM
  assert p_value((1 + error) * z) < FALSE_ALARM


@pytest.mark.parametrize("name", ["f", "beta"])
def test_pathwise_derivatives_of_two_noises_are_unbiased(name):
  case = next(case for case in COMPOSITION if case.name == name)
  family, eta, n = case.family, case.eta, 20_000
  bounded = lambda z: z / (1 + z)
  # E[bounded(z)] by quadrature over the quantiles at u = v³, which are smooth enough near 0.
  nodes, weights = scipy.special.roots_legendre(400)
  v = 0.5 * (nodes + 1)

  def expected(*parameters):
    return 0.5 * weights @ (bounded(getattr(scipy.stats, name).ppf(v**3, *parameters)) * 3 * v**2)

  def of_key(key):
    return jax.grad(lambda eta: jnp.sum(bounded(reparameterize(key, family, eta))))(eta)

  gradients = jax.jit(jax.vmap(of_key))(jax.random.split(jax.random.key(2), n))
  for j, frozen in enumerate(case.scipy):
    first, second = frozen.args
    step = 1e-4
    slopes = [
      expected(first * (1 + step), second) - expected(first * (1 - step), second),
      expected(first, second * (1 + step)) - expected(first, second * (1 - step)),
    ]
    slopes = np.array(slopes) / (2 * step * np.array([first, second]))
    assert_unbiased(np.stack([g[:, j] for g in gradients], axis=1), slopes, detects=0.15)


def dirichlet_case():
  eta = composition.Dirichlet(jnp.asarray([0.6, 1.0, 3.0]))
  return composition.dirichlet(3), eta, scipy.stats.dirichlet(np.asarray(eta.concentration))


def test_dirichlet_is_scipys():
  family, eta, frozen = dirichlet_case()
  rng = np.random.default_rng(0)
  for z in frozen.rvs(20, random_state=rng):
    np.testing.assert_allclose(family.log_prob(eta, jnp.asarray(z)), frozen.logpdf(z), rtol=1e-10)
  np.testing.assert_allclose(family.mean(eta), frozen.mean(), rtol=1e-12)
  np.testing.assert_allclose(family.variance(eta), frozen.var(), rtol=1e-12)
  np.testing.assert_allclose(family.entropy(eta), frozen.entropy(), rtol=1e-12)
  for off in ([0.2, 0.2, 0.2], [1.2, 0.4, -0.6]):
    assert family.log_prob(eta, jnp.asarray(off)) == -np.inf


def test_dirichlet_samples_and_their_derivative():
  family, eta, frozen = dirichlet_case()
  q = distribution(family, eta)
  keys = lambda seed: jax.random.split(jax.random.key(seed), 20_000)
  z = jax.jit(jax.vmap(q.sample))(keys(0))
  np.testing.assert_allclose(z.sum(axis=1), 1, rtol=1e-12)
  for j, a in enumerate(eta.concentration):
    marginal = scipy.stats.beta(a, eta.concentration.sum() - a)
    assert scipy.stats.kstest(z[:, j], marginal.cdf).pvalue > FALSE_ALARM
  # The derivative of Σ_j c_j E[z_j] in α_i is c_i / s − (c · α) / s², with s = Σ α.
  c, alpha = jnp.asarray([1.0, -2.0, 0.5]), eta.concentration
  of_key = lambda key: jax.grad(lambda eta: c @ reparameterize(key, family, eta))(eta)
  gradients = jax.jit(jax.vmap(of_key))(keys(1)).concentration
  assert_unbiased(gradients, c / alpha.sum() - c @ alpha / alpha.sum() ** 2, detects=0.1)


MEAN = jnp.asarray([0.3, -1.0, 2.0])
TRIL = jnp.asarray([[0.8, 0.0, 0.0], [0.4, 1.5, 0.0], [-1.2, 0.3, 0.5]])
FACTOR = jnp.asarray([[0.8, 0.1], [0.4, -1.5], [-1.2, 0.3]])


def members():
  t = scipy.stats.multivariate_t(np.asarray(MEAN), np.asarray(TRIL @ TRIL.T), df=5)
  normal = scipy.stats.multivariate_normal(np.asarray(MEAN), np.asarray(TRIL @ TRIL.T))
  low_rank = LowRankGaussian(MEAN, jnp.asarray([-1.0, 0.0, 0.7]), FACTOR)
  return [
    ("full", full_gaussian(3), Gaussian(MEAN, TRIL), normal),
    (
      "low rank",
      low_rank_gaussian(3, 2),
      low_rank,
      scipy.stats.multivariate_normal(np.asarray(MEAN), np.asarray(covariance(low_rank))),
    ),
    ("elliptical t", location_scale.elliptical(3), location_scale.Elliptical(MEAN, TRIL), t),
    (
      "elliptical Gaussian",
      location_scale.elliptical(3, location_scale.gaussian_radius),
      location_scale.Elliptical(MEAN, TRIL),
      normal,
    ),
  ]


@pytest.mark.parametrize(
  "name, family, eta, frozen", members(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_dependent_families(name, family, eta, frozen):
  z = np.random.default_rng(0).normal(size=(20, 3)) * np.array([1, 10, 100])
  value = jax.jit(jax.vmap(lambda z: family.log_prob(eta, z)))(jnp.asarray(z))
  np.testing.assert_allclose(value, frozen.logpdf(z), rtol=1e-10)
  np.testing.assert_allclose(family.mean(eta), MEAN, rtol=1e-12)
  if family.entropy is not None:
    np.testing.assert_allclose(family.entropy(eta), frozen.entropy(), rtol=1e-10)
  q = distribution(family, eta)
  keys = jax.random.split(jax.random.key(0), 50_000)
  samples, log_probs = jax.jit(jax.vmap(q.sample_with_log_prob))(keys)
  np.testing.assert_allclose(log_probs[:50], frozen.logpdf(samples[:50]), rtol=1e-9)
  spread = 5 / 3 if name == "elliptical t" else 1.0
  expected = spread * (frozen.shape if name == "elliptical t" else frozen.cov)
  np.testing.assert_allclose(family.variance(eta), np.diag(expected), rtol=1e-10)
  # The marginals along the axes and along one combination of them are exact.
  for direction in np.eye(3).tolist() + [[1.0, -1.0, 0.5]]:
    along = np.asarray(samples) @ direction
    scale = np.sqrt(direction @ expected @ direction / spread)
    one = scipy.stats.t(5) if name == "elliptical t" else scipy.stats.norm()
    standardized = (along - np.asarray(MEAN) @ direction) / scale
    assert scipy.stats.kstest(standardized, one.cdf).pvalue > FALSE_ALARM
    assert scipy.stats.kstest(1.08 * standardized, one.cdf).pvalue < FALSE_ALARM


def heads_of(family, fill):
  return [jnp.full(size, fill) for size in family.sizes]


@pytest.mark.parametrize("fill", [-30.0, 0.0, 30.0])
@by_name
def test_heads_of_any_size_give_a_member(case, fill):
  family = case.family
  eta = family.from_heads(*heads_of(family, fill))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(eta))
  low, high, _ = family.support(eta)
  widest = family.widest
  assert np.all(low < high) and np.all(low >= widest.low) and np.all(high <= widest.high)
  with pytest.raises(ValueError, match="expected"):
    family.from_heads(*[jnp.zeros(size + 1) for size in family.sizes])
  with pytest.raises(ValueError, match="expected"):
    family.log_prob(eta, jnp.zeros((2, 3)))


def test_uniform_within_stays_within():
  family = location_scale.uniform(3, within=(-1.0, 4.0))
  for heads in ([0.0, 0.0], [50.0, -50.0], [-50.0, 50.0], [-60.0, -60.0], [3.0, 700.0]):
    eta = family.from_heads(*[jnp.full(3, head) for head in heads])
    assert np.all(-1 <= eta.low) and np.all(eta.low < eta.high) and np.all(eta.high <= 4 + 1e-12)


@pytest.mark.parametrize("family", [full_gaussian(1), location_scale.elliptical(1)])
def test_one_dimension_has_nothing_below_its_diagonal(family):
  one = scipy.stats.norm(0.3, 2.0) if family.entropy else scipy.stats.t(5, 0.3, 2.0)
  assert family.sizes == (1, 1)
  eta = family.from_heads(jnp.asarray([0.3]), jnp.asarray([2 * np.log(2.0)]))
  for z in (-4.0, 0.3, 1.7):
    np.testing.assert_allclose(family.log_prob(eta, jnp.asarray([z])), one.logpdf(z), rtol=1e-10)
  np.testing.assert_allclose(family.variance(eta), one.var(), rtol=1e-10)


def test_a_diagonal_factor_is_the_diagonal_gaussian():
  from aevb_jax import gaussian

  heads = MEAN, jnp.asarray([0.2, -1.0, 0.5])
  full = full_gaussian(3).from_heads(*heads, jnp.zeros(3))
  z = jnp.asarray([0.1, 0.2, 0.3])
  diagonal = gaussian(3)
  expected = diagonal.log_prob(diagonal.from_heads(*heads), z)
  np.testing.assert_allclose(full_gaussian(3).log_prob(full, z), expected, rtol=1e-12)


@pytest.mark.parametrize(
  "make",
  [
    lambda: location_scale.triangular(2, 1.5),
    lambda: location_scale.student_t(2, -1.0),
    lambda: location_scale.uniform(2, within=(1.0, 1.0)),
    lambda: composition.dirichlet(1),
    lambda: low_rank_gaussian(3, 4),
  ],
)
def test_no_such_family(make):
  with pytest.raises(ValueError, match=" is .*, expected"):
    make()


@pytest.mark.parametrize("mode", [0.0, 1.0])
def test_triangles_with_the_tip_at_an_end(mode):
  family = location_scale.triangular(1, mode)
  eta = location_scale.Triangular(jnp.asarray([0.0]), jnp.asarray([2.0]))
  for z in (0.3, 1.0, 1.7):
    expected = scipy.stats.triang(mode, 0, 2).logpdf(z)
    np.testing.assert_allclose(family.log_prob(eta, jnp.asarray([z])), expected, rtol=1e-12)
  z = jax.jit(jax.vmap(lambda key: reparameterize(key, family, eta)[0]))(
    jax.random.split(jax.random.key(0), 20_000)
  )
  assert scipy.stats.kstest(z, scipy.stats.triang(mode, 0, 2).cdf).pvalue > FALSE_ALARM
