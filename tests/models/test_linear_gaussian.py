"""The linear-Gaussian VAE: closed forms compared with SciPy and samples, and its training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from aevb_jax import Params, elbo_a, elbo_b, fit, init_params
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.models.linear_gaussian import (
  bound,
  linear_gaussian_vae,
  log_marginal,
  ml_theta,
  optimal_bound,
  optimal_phi,
  posterior,
  principal_angles,
)
from tests.support import oracles
from tests.support.statistics import assert_unbiased

WORLD = oracles.affine_world()  # D = 5, J = 3
THETA = WORLD.params.theta
XS = jnp.asarray(np.random.default_rng(3).normal(size=(20, 5)))


def isotropic(theta):
  return theta | {"log_var": jnp.asarray(-0.7)}


def mean_over(xs, f, *args):
  return jnp.mean(jax.vmap(lambda x: f(*args, x))(xs))


def covariance_of(theta):
  """Returns the covariance of x by its definition, (D, D)."""
  w, b = (np.asarray(theta["mean"][name]) for name in ("kernel", "bias"))
  return w.T @ w + np.diag(np.broadcast_to(np.exp(theta["log_var"]), b.shape))


def perturbations(tree, size, count=30):
  """Yields copies of a tree with random changes, of both signs, to all its leaves."""
  rng = np.random.default_rng(0)
  for _ in range(count):
    yield jax.tree.map(lambda leaf: leaf + size * rng.normal(size=np.shape(leaf)), tree)


BOTH_KINDS = pytest.mark.parametrize(
  "theta", [THETA, isotropic(THETA)], ids=["diagonal", "isotropic"]
)


@BOTH_KINDS
def test_log_marginal_is_that_of_scipy(theta):
  exact = scipy.stats.multivariate_normal(theta["mean"]["bias"], covariance_of(theta))
  np.testing.assert_allclose(
    jax.vmap(lambda x: log_marginal(theta, x))(XS), exact.logpdf(XS), rtol=1e-12
  )


@BOTH_KINDS
def test_posterior_is_the_joint_gaussian_conditioned_on_x(theta):
  w, c = np.asarray(theta["mean"]["kernel"]), covariance_of(theta)
  mean, covariance = posterior(theta, XS[0])
  residual = np.asarray(XS[0] - theta["mean"]["bias"])
  np.testing.assert_allclose(mean, w @ np.linalg.solve(c, residual), rtol=1e-10)
  np.testing.assert_allclose(
    covariance, np.eye(3) - w @ np.linalg.solve(c, w.T), rtol=1e-10, atol=1e-14
  )


@BOTH_KINDS
def test_bound_is_that_by_hand(theta):
  params = WORLD.params._replace(theta=theta)
  exact, exact_gradient = jax.value_and_grad(oracles.affine_bound)(params, WORLD.x)
  value, gradient = jax.value_and_grad(bound)(params, WORLD.x)
  np.testing.assert_allclose(value, exact, rtol=1e-12)
  np.testing.assert_allclose(oracles.flat(gradient), oracles.flat(exact_gradient), rtol=1e-10)


@BOTH_KINDS
def test_bound_is_the_mean_of_elbo_a(theta):
  model = linear_gaussian_vae(5, 3, isotropic=jnp.ndim(theta["log_var"]) == 0)
  world = oracles.World(model, WORLD.params._replace(theta=theta), WORLD.x)
  exact, exact_gradient = jax.value_and_grad(bound)(world.params, world.x)
  values, gradients = oracles.draws(elbo_a, world, 80_000)
  assert_unbiased(values, exact, detects=0.02)
  for block in ("theta", "phi"):
    samples = oracles.rows(getattr(gradients, block))
    assert_unbiased(samples, oracles.flat(getattr(exact_gradient, block)), detects=0.05)


@BOTH_KINDS
def test_optimal_phi_attains_the_optimal_bound_at_every_x(theta):
  best = Params(theta, optimal_phi(theta))
  values = jax.vmap(lambda x: bound(best, x))(XS)
  np.testing.assert_allclose(values, jax.vmap(lambda x: optimal_bound(theta, x))(XS), rtol=1e-12)
  gap = jax.vmap(lambda x: log_marginal(theta, x))(XS) - values
  np.testing.assert_allclose(gap, gap[0], rtol=1e-8)
  assert gap[0] > 0.05  # W's rows are not orthogonal here


@BOTH_KINDS
def test_no_other_phi_is_better(theta):
  phi = optimal_phi(theta)
  mean_bound = lambda phi: mean_over(XS, bound, Params(theta, phi))
  np.testing.assert_allclose(oracles.flat(jax.grad(mean_bound)(phi)), 0, atol=1e-12)
  for size in (0.01, 0.3):
    others = [mean_bound(other) for other in perturbations(phi, size)]
    assert max(others) < mean_bound(phi) - size**2 / 10
  # The marginal variances of the posterior are not the best variances of a diagonal q.
  _, covariance = posterior(theta, XS[0])
  assert jnp.all(jnp.diagonal(covariance) > 1.01 * jnp.exp(phi["log_var"]))


def test_the_optimal_bound_is_tight_where_the_rows_are_orthogonal():
  world = oracles.exact_posterior_world()
  for theta in (world.params.theta, isotropic(world.params.theta)):
    np.testing.assert_allclose(
      optimal_bound(theta, world.x), log_marginal(theta, world.x), rtol=1e-12
    )
  np.testing.assert_allclose(
    oracles.flat(optimal_phi(world.params.theta)), oracles.flat(world.params.phi), rtol=1e-10
  )
  # A rotation of W keeps log p(x) but changes the bound.
  kernel = world.params.theta["mean"]["kernel"]
  rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
  rotated = world.params.theta | {
    "mean": world.params.theta["mean"] | {"kernel": rotation @ kernel}
  }
  np.testing.assert_allclose(
    log_marginal(rotated, world.x), log_marginal(world.params.theta, world.x), rtol=1e-12
  )
  assert optimal_bound(rotated, world.x) < log_marginal(rotated, world.x) - 0.02


@pytest.mark.parametrize("function", [log_marginal, posterior, optimal_bound])
def test_takes_one_data_point_at_a_time(function):
  with pytest.raises(ValueError, match=r"shape \(20, 5\), expected \(5,\)"):
    function(THETA, XS)
  with pytest.raises(ValueError, match=r"shape \(20, 5\), expected \(5,\)"):
    bound(WORLD.params, XS)


def test_single_precision_with_little_noise_and_many_pixels():
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(8, 784))
  kernel[1] = kernel[0] + 1e-2 * kernel[1]  # nearly the same direction twice
  bias, noise_std = rng.normal(size=784), 1e-3
  x = rng.normal(size=8) @ kernel + bias + noise_std * rng.normal(size=784)
  theta = {"mean": {"kernel": kernel, "bias": bias}, "log_var": np.log(noise_std**2)}

  def results(dtype):
    arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (theta, x))
    value_and_grad = jax.jit(jax.value_and_grad(log_marginal))(*arrays)
    best = jax.jit(lambda theta, x: bound(Params(theta, optimal_phi(theta)), x))(*arrays)
    return *value_and_grad, best, jax.jit(optimal_bound)(*arrays)

  exact, exact_gradient, *exact_bounds = results(jnp.float64)
  with jax.enable_x64(False):
    value, gradient, *bounds = results(jnp.float32)
  # The remaining error is the rounding of x, W and b, by up to 3e-4 of the noise.
  assert value.dtype == jnp.float32 and exact > 4000
  np.testing.assert_allclose(value, exact, atol=0.02)
  np.testing.assert_allclose(bounds, exact_bounds, atol=0.02)
  np.testing.assert_allclose(gradient["log_var"], exact_gradient["log_var"], atol=0.02)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def data(n=400, data_dim=7, seed=0):
  """Draws data, (n, D), with a covariance whose eigenvalues are far apart."""
  rng = np.random.default_rng(seed)
  scales = np.array([3.0, 2.0, 1.5, 0.6, 0.5, 0.4, 0.2])[:data_dim]
  axes = np.linalg.qr(rng.normal(size=(data_dim, data_dim)))[0]
  return rng.normal(size=(n, data_dim)) * scales @ axes + rng.normal(size=data_dim)


def eigenvalues(x):
  centred = x - x.mean(axis=0)
  return np.linalg.svd(centred, compute_uv=False) ** 2 / len(x)


def closed_form_maximum(x, latent_dim):
  """The maximum of the mean log p(x): Tipping & Bishop (1999), equation 4 at the best C."""
  variances = eigenvalues(x)
  noise_var = variances[latent_dim:].mean()
  log_det = np.sum(np.log(variances[:latent_dim]))
  log_det += (len(variances) - latent_dim) * np.log(noise_var)
  return -0.5 * (len(variances) * (np.log(2 * np.pi) + 1) + log_det)


@pytest.mark.parametrize("latent_dim", [1, 3, 6])
def test_ml_theta_is_the_maximum_of_the_likelihood(latent_dim):
  x = data()
  theta = ml_theta(x, latent_dim)
  mean_log_p = lambda theta: mean_over(x, log_marginal, theta)
  best, gradient = jax.value_and_grad(mean_log_p)(theta)
  np.testing.assert_allclose(best, closed_form_maximum(x, latent_dim), rtol=1e-12)
  np.testing.assert_allclose(oracles.flat(gradient), 0, atol=1e-10)
  for size in (0.003, 0.1):
    assert max(map(mean_log_p, perturbations(theta, size, count=10))) < best - size**2 / 10
  # Its posterior is diagonal, so the bound has the same maximum.
  np.testing.assert_allclose(mean_over(x, optimal_bound, theta), best, rtol=1e-12)
  np.testing.assert_allclose(jnp.exp(theta["log_var"]), eigenvalues(x)[latent_dim:].mean())


def test_other_eigenvectors_are_stationary_but_worse():
  # Therefore a zero gradient is not enough to show a maximum.
  x = data()
  theta = ml_theta(x, 2)
  axes = np.linalg.svd(x - x.mean(axis=0))[2]
  variances = eigenvalues(x)
  noise_var = np.delete(variances, [0, 2]).mean()
  kernel = np.sqrt(variances[[0, 2], None] - noise_var) * axes[[0, 2]]
  saddle = theta | {
    "mean": theta["mean"] | {"kernel": jnp.asarray(kernel)},
    "log_var": jnp.log(noise_var),
  }
  value, gradient = jax.value_and_grad(lambda theta: mean_over(x, log_marginal, theta))(saddle)
  np.testing.assert_allclose(oracles.flat(gradient), 0, atol=1e-10)
  assert value < closed_form_maximum(x, 2) - 0.1


def test_ml_theta_where_nothing_is_left_over_for_the_noise():
  x = data()
  x[:, 2] = 1.0  # six dimensions are left
  ml_theta(x, 5)
  for latent_dim in (0, 6, 7):
    with pytest.raises(ValueError, match=f"{latent_dim} latents for 400 data points that span 6"):
      ml_theta(x, latent_dim)
  ml_theta(data(n=4), 2)
  with pytest.raises(ValueError, match="3 latents for 4 data points that span 3"):
    ml_theta(data(n=4), 3)


def test_without_noise_the_posterior_mean_is_pca():
  x = data()
  theta = ml_theta(x, 3)
  mean = x.mean(axis=0)
  axes = np.linalg.svd(x - mean)[2][:3]
  projections = mean + (x - mean) @ axes.T @ axes

  def error(log_var):
    theta_now = theta | {"log_var": jnp.asarray(log_var)}
    z = jax.vmap(lambda x: posterior(theta_now, x)[0])(x)
    return np.max(np.abs(z @ theta["mean"]["kernel"] + (mean - projections)))

  assert error(np.log(1e-14)) < 1e-12
  assert error(np.log(0.1)) > 0.1  # shrunk towards the mean


def test_principal_angles():
  rng = np.random.default_rng(0)
  a = rng.normal(size=(3, 8))
  np.testing.assert_allclose(principal_angles(a, rng.normal(size=(3, 3)) @ a), 0, atol=1e-14)
  e = np.eye(8)
  tilted = [
    np.cos(0.3) * e[0] + np.sin(0.3) * e[4],
    np.cos(1e-9) * e[1] + np.sin(1e-9) * e[5],
    e[6],
  ]
  angles = principal_angles(2 * e[:3] + e[[1, 2, 0]], np.stack(tilted))
  np.testing.assert_allclose(angles, [np.pi / 2, 0.3, 1e-9], rtol=1e-6)
  for other in (a[[0, 1, 0]], a[:2], a[:, :7]):
    with pytest.raises(ValueError, match="not two bases"):
      principal_angles(a, other)


def test_starts_from_something_sensible():
  params = init_params(jax.random.key(0), linear_gaussian_vae(50, 4))
  pca = init_params(jax.random.key(0), linear_gaussian_vae(50, 4, isotropic=True))
  assert jax.tree.map(jnp.shape, params.theta) == {
    "mean": {"kernel": (4, 50), "bias": (50,)},
    "log_var": (50,),
  }
  assert pca.theta["log_var"].shape == () and pca.phi["log_var"].shape == (4,)
  assert np.std(params.theta["mean"]["kernel"]) == pytest.approx(1 / 2, rel=0.2)
  assert np.std(params.phi["mean"]["kernel"]) == pytest.approx(50**-0.5, rel=0.2)
  assert not np.any(params.theta["log_var"]) and not np.any(params.phi["log_var"])


def test_training_arrives_at_pca():
  x, latent_dim = data(n=2000), 2
  optimum, pca = closed_form_maximum(x, latent_dim), ml_theta(x, latent_dim)
  algorithm = aevb(
    linear_gaussian_vae(7, latent_dim, isotropic=True),
    elbo_b,
    optax.adam(optax.exponential_decay(0.1, 4000, 1e-3)),
    num_data=len(x),
  )
  state = algorithm.init(jax.random.key(0))
  before = mean_over(x, bound, state.params)
  state, _ = fit(
    algorithm, state, jax.random.key(1), jnp.asarray(x), batch_size=100, num_steps=4000
  )
  after = mean_over(x, bound, state.params)
  log_p = mean_over(x, log_marginal, state.params.theta)
  assert before < optimum - 2
  assert optimum - 0.005 < after < log_p < optimum
  kernel = state.params.theta["mean"]["kernel"]
  assert principal_angles(kernel, pca["mean"]["kernel"]).max() < np.radians(1)
  assert jnp.exp(0.5 * (state.params.theta["log_var"] - pca["log_var"])) == pytest.approx(
    1, abs=0.01
  )
  # The bound prefers, of all bases of that subspace, the principal axes; they are learned last.
  axes = pca["mean"]["kernel"]
  lengths = [np.linalg.norm(w, axis=1) for w in (kernel, axes)]
  cosines = np.abs(kernel @ axes.T) / np.outer(*lengths)
  assert cosines.max(axis=1) == pytest.approx(1, abs=1 - np.cos(np.radians(10)))
