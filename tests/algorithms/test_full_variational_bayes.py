"""Full variational Bayes compared with exact values, and its local reparameterization."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from aevb_jax import (
  Model,
  Params,
  bernoulli,
  elbo_a,
  elbo_b,
  fit,
  gaussian,
  mlp_vae,
  standard_normal,
)
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.full_variational_bayes import (
  averaged_over_theta,
  full_vb,
  init_params,
  mean_params,
  unravel,
  weight_posterior,
  with_local_noise,
)
from aevb_jax.errors import UnsupportedError
from aevb_jax.families.gaussians import DiagonalGaussian
from aevb_jax.models import conditional
from aevb_jax.models import vae as models
from aevb_jax.models.networks import MLP
from tests.support import oracles
from tests.support.statistics import assert_greater, assert_unbiased

N = 80_000
NUM_DATA = 10  # few, so that the KL of θ is large and an error in it shows
X_VAR = 0.4
WAYS = {
  "eq. 24": (elbo_b, dict()),
  "eq. 21": (elbo_a, dict(closed_form=False)),
  "local": (elbo_b, dict(local=True)),
}


class KnownNoise(nn.Module):
  """A network whose mean is affine in the input and whose log-variance is constant."""

  size: int

  @nn.compact
  def __call__(self, z):
    mean = nn.Dense(self.size, param_dtype=float, name="mean")(z)
    return mean, jnp.full(self.size, np.log(X_VAR))


def linear_world(data_dim=4, latent_dim=2):
  """Makes p(x|z) = N(zW + b, X_VAR I), an affine-Gaussian q(z|x) and an arbitrary q(W, b)."""
  rng = np.random.default_rng(4)
  model = Model(
    prior=lambda theta: standard_normal(latent_dim),
    decoder=conditional(KnownNoise(data_dim), gaussian(data_dim), latent_dim),
    encoder=conditional(oracles.AffineHeads(latent_dim), gaussian(latent_dim), data_dim),
  )
  size = data_dim * (latent_dim + 1)
  theta = DiagonalGaussian(rng.normal(size=size) * 0.7, rng.normal(size=size) * 0.3 - 1.0)
  phi = {
    "mean": {
      "kernel": rng.normal(size=(data_dim, latent_dim)) * 0.5,
      "bias": rng.normal(size=latent_dim) * 0.3,
    },
    "log_var": rng.normal(size=latent_dim) * 0.3 - 0.5,
  }
  params = jax.tree.map(jnp.asarray, Params(theta, phi))
  return oracles.World(model, params, jnp.asarray(rng.normal(size=data_dim)))


def weight_kl(theta):
  """KL(q(θ) ‖ N(0, I)), as appendix B writes it."""
  return -0.5 * jnp.sum(1 + theta.log_var - theta.mean**2 - jnp.exp(theta.log_var))


def linear_expectation(params, x):
  """The first terms of equation 24: E over q(θ) and q(z|x) of the bound at θ, by hand."""
  data_dim, latent_dim = params.phi["mean"]["kernel"].shape
  # The biases come first in the vector of θ, because Flax sorts the names.
  of_bias = lambda vector: vector[:data_dim]
  of_kernel = lambda vector: vector[data_dim:].reshape(latent_dim, data_dim)
  mean, var = params.theta.mean, jnp.exp(params.theta.log_var)
  z_mean = x @ params.phi["mean"]["kernel"] + params.phi["mean"]["bias"]
  z_var = jnp.exp(params.phi["log_var"])
  error = x - z_mean @ of_kernel(mean) - of_bias(mean)
  spread = of_bias(var) + (z_mean**2 + z_var) @ of_kernel(var) + z_var @ of_kernel(mean) ** 2
  reconstruction = -0.5 * jnp.sum(jnp.log(2 * jnp.pi * X_VAR) + (error**2 + spread) / X_VAR)
  return reconstruction + 0.5 * jnp.sum(1 + params.phi["log_var"] - z_mean**2 - z_var)


def network_world():
  """Makes a model of one latent, one hidden tanh unit and one pixel, exact by quadrature."""
  model = mlp_vae(bernoulli(1), data_dim=1, latent_dim=1, hidden_dim=1)
  params = init_params(jax.random.key(2), model)
  mean = jnp.asarray([0.4, 0.3, 1.6, 1.3])  # bias and kernel of the head, then of the hidden unit
  assert params.theta.mean.shape == mean.shape
  log_var = jnp.asarray([-1.0, -0.5, -0.3, 0.2])
  weights = {"hidden_0": (0.9, 0.2), "head_0": (0.8, 0.5), "head_1": (-0.5, -1.0)}
  phi = {
    name: {"kernel": jnp.full((1, 1), kernel), "bias": jnp.full(1, bias)}
    for name, (kernel, bias) in weights.items()
  }
  return oracles.World(model, Params(DiagonalGaussian(mean, log_var), phi), jnp.ones(1))


def network_expectation(params, x, model, step=0.2):
  """Computes the bound layer by layer: a pre-activation is Gaussian given its layer's input."""
  nodes = jnp.arange(-7, 7 + step / 2, step)
  weights = jnp.exp(-0.5 * nodes**2) * step / jnp.sqrt(2 * jnp.pi)
  q = model.encoder.given(params.phi, x)
  b_0, w_0, b_1, w_1 = params.theta.mean
  b_0_var, w_0_var, b_1_var, w_1_var = jnp.exp(params.theta.log_var)
  expectation = lambda f: weights @ jax.vmap(f)(nodes)

  def of_z(noise):
    z = q.eta.mean[0] + jnp.exp(0.5 * q.eta.log_var[0]) * noise
    of_h = lambda noise: of_hidden(
      jnp.tanh(z * w_1 + b_1 + jnp.sqrt(z**2 * w_1_var + b_1_var) * noise)
    )
    return expectation(of_h)

  def of_hidden(h):
    std = jnp.sqrt(h**2 * w_0_var + b_0_var)
    return expectation(lambda noise: -jax.nn.softplus(-(h * w_0 + b_0 + std * noise)))

  kl = -0.5 * jnp.sum(1 + q.eta.log_var - q.eta.mean**2 - jnp.exp(q.eta.log_var))
  return expectation(of_z) - kl


def draws(estimator, world, n=N, seed=0, **kwargs):
  """The values and gradients of n independent estimates."""

  def value_and_grad(key):
    return jax.value_and_grad(lambda p: estimator(key, world.model, p, world.x, **kwargs))(
      world.params
    )

  return jax.jit(jax.vmap(value_and_grad))(jax.random.split(jax.random.key(seed), n))


@functools.cache
def linear_draws(way):
  estimator, options = WAYS[way]
  return draws(full_vb(estimator, num_data=NUM_DATA, **options), linear_world())


def blocks(params):
  """Separates the mean of q(θ), its log-variances and φ, so that none hides another's error."""
  leaves = {"mean": [params.theta.mean], "log_var": [params.theta.log_var]}
  return leaves | {"phi": jax.tree.leaves(params.phi)}


DETECTS = {"mean": 0.05, "log_var": 0.15, "phi": 0.05}  # log-variances have the noisiest gradient


def assert_gradients_unbiased(gradients, exact):
  for block, leaves in blocks(exact).items():
    samples = [np.reshape(g, (len(g), -1)) for g in blocks(gradients)[block]]
    expected = np.concatenate([np.ravel(g) for g in leaves])
    assert_unbiased(np.concatenate(samples, axis=1), expected, detects=DETECTS[block])


@pytest.mark.parametrize("way", WAYS)
def test_unbiased_in_the_linear_world(way):
  world = linear_world()
  exact, exact_gradient = oracles.value_and_grad(
    lambda params: linear_expectation(params, world.x) - weight_kl(params.theta) / NUM_DATA
  )(world.params)
  values, gradients = linear_draws(way)
  assert_unbiased(values, exact, detects=0.02)
  assert_gradients_unbiased(gradients, exact_gradient)


@pytest.mark.parametrize("way", WAYS)
def test_unbiased_with_a_hidden_layer(way):
  world = network_world()
  exact, exact_gradient = oracles.value_and_grad(
    lambda params: (
      network_expectation(params, world.x, world.model) - weight_kl(params.theta) / NUM_DATA
    )
  )(world.params)
  estimator, options = WAYS[way]
  values, gradients = draws(full_vb(estimator, num_data=NUM_DATA, **options), world)
  assert_unbiased(values, exact, detects=0.02)
  assert_gradients_unbiased(gradients, exact_gradient)


def test_the_oracle_by_quadrature_has_converged():
  world = network_world()
  exact = [network_expectation(world.params, world.x, world.model, step) for step in (0.2, 0.1)]
  np.testing.assert_allclose(*exact, rtol=1e-7)


@pytest.mark.parametrize("local", [False, True])
def test_the_average_over_theta_leaves_the_kl_out(local):
  world = linear_world()
  values, _ = draws(averaged_over_theta(elbo_b, local=local), world)
  assert_unbiased(values, linear_expectation(world.params, world.x), detects=0.02)


def test_local_noise_varies_less():
  # For one layer, the local gradient is the gradient at a drawn θ, averaged over all θ with
  # the same pre-activation. With respect to the mean of q(θ), the two gradients are the same.
  (_, drawn), (_, local) = linear_draws("eq. 24"), linear_draws("local")
  for block in ("log_var", "phi"):
    squares = []
    for gradients in (drawn, local):
      leaves = [np.reshape(np.asarray(g), (N, -1)) for g in blocks(gradients)[block]]
      squares.append(sum(np.sum((g - g.mean(0)) ** 2, axis=1) for g in leaves))
    assert_greater(0.9 * squares[0], squares[1])


def at_the_mean_of_z(key, model, params, x):
  """A bound that draws only θ."""
  z = model.encoder.given(params.phi, x).mean
  return model.decoder.given(params.theta, z).log_prob(x)


@pytest.mark.parametrize("local", [False, True])
def test_a_narrow_posterior_is_its_mean_and_the_kl(local):
  world = oracles.bernoulli_world()
  std = 1e-9
  params = init_params(jax.random.key(1), world.model, std=std)
  point = models.init_params(jax.random.key(1), world.model)
  estimate = full_vb(at_the_mean_of_z, num_data=1000, local=local)
  value = estimate(jax.random.key(0), world.model, params, world.x)
  theta = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(point.theta)])
  kl = 0.5 * np.sum(theta**2 + std**2 - 1 - 2 * np.log(std))
  expected = at_the_mean_of_z(None, world.model, point, world.x) - kl / 1000
  np.testing.assert_allclose(value, expected, rtol=1e-8)


@pytest.mark.parametrize("local", [False, True])
def test_n_divides_the_kl_and_nothing_else(local):
  world = linear_world()
  kl = weight_kl(world.params.theta)
  value = lambda num_data: full_vb(elbo_b, num_data=num_data, local=local)(
    jax.random.key(0), *world, num_samples=3
  )
  np.testing.assert_allclose(value(1000) - value(10), kl * (1 / 10 - 1 / 1000), rtol=1e-9)


def test_the_sampled_kl_is_that_of_the_drawn_theta():
  # An estimator that returns one coordinate of its θ shows which θ was drawn.
  world = linear_world()
  drawn = lambda key, model, params, x: params.theta["mean"]["bias"][0]
  estimate = lambda n: full_vb(drawn, num_data=n, closed_form=False)(jax.random.key(0), *world)
  assert abs(estimate(10**12) - world.params.theta.mean[0]) > 1e-3
  theta = weight_posterior(world.params).sample(jax.random.split(jax.random.key(0))[0])
  mean, std = world.params.theta.mean, np.exp(0.5 * world.params.theta.log_var)
  log_ratio = np.sum(scipy.stats.norm.logpdf(theta) - scipy.stats.norm.logpdf(theta, mean, std))
  np.testing.assert_allclose(estimate(2), theta[0] + log_ratio / 2, rtol=1e-9)


def test_parameters_survive_the_round_trip():
  model = mlp_vae(gaussian(5), data_dim=5, latent_dim=2, hidden_dim=(4, 3))
  point = models.init_params(jax.random.key(1), model)
  params = init_params(jax.random.key(1), model, std=0.3)
  size = sum(leaf.size for leaf in jax.tree.leaves(point.theta))
  assert params.theta.mean.shape == params.theta.log_var.shape == (size,)
  np.testing.assert_allclose(jnp.exp(0.5 * params.theta.log_var), 0.3, rtol=1e-12)
  jax.tree.map(np.testing.assert_array_equal, mean_params(model, params), point)
  # Every entry of the vector has its own place in the tree.
  leaves = jax.tree.leaves(unravel(model, jnp.arange(size)))
  assert sorted(int(i) for leaf in leaves for i in np.ravel(leaf)) == list(range(size))


@pytest.mark.parametrize("way", WAYS)
def test_vmapped_is_looped(way):
  world = linear_world()
  estimator, options = WAYS[way]
  estimate = full_vb(estimator, num_data=NUM_DATA, **options)
  xs = world.x[None] + jnp.arange(3.0)[:, None]
  one = lambda key, x: estimate(key, world.model, world.params, x)
  keys = lambda: jax.random.split(jax.random.key(0), 3)
  looped = [one(key, x) for key, x in zip(keys(), xs)]
  np.testing.assert_allclose(jax.vmap(one)(keys(), xs), jnp.stack(looped), rtol=1e-12)


@pytest.mark.parametrize("local", [False, True])
def test_learns(local):
  # One latent can distinguish the two kinds of images: a bound of −log 2 per image is
  # possible, far above the −6 log 2 of a model that has learned nothing.
  pixels = np.repeat(np.asarray([[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]], np.uint8) * 255, 200, 0)
  model = mlp_vae(bernoulli(6), data_dim=6, latent_dim=1, hidden_dim=8)
  algorithm = aevb(
    model,
    full_vb(elbo_b, num_data=len(pixels), local=local),
    optax.adam(0.02),
    num_data=len(pixels),
    init=functools.partial(init_params, std=0.05),
  )
  state = algorithm.init(jax.random.key(0))
  before = jax.tree.map(jnp.copy, state.params)
  state, metrics = fit(algorithm, state, jax.random.key(1), pixels, batch_size=20, num_steps=400)
  bound = np.asarray(metrics["bound"])
  assert bound[:10].mean() < -4 and bound[-50:].mean() > -2.5
  for old, new in zip(before.theta, state.params.theta, strict=True):
    assert np.all(old != new)


def test_misuse_is_one_sentence():
  with pytest.raises(ValueError, match="num_data is 0, expected at least 1"):
    full_vb(elbo_b, num_data=0)
  with pytest.raises(ValueError, match="takes closed_form=True"):
    full_vb(elbo_b, num_data=1, closed_form=False, local=True)
  for std in (0.0, -1.0, float("nan")):
    with pytest.raises(ValueError, match="std is .*, expected a positive number"):
      init_params(jax.random.key(0), linear_world().model, std=std)


def test_local_noise_refuses_what_is_no_dense_layer():
  model = oracles.affine_model(4, 2)
  params = init_params(jax.random.key(0), model)
  estimate = lambda **options: full_vb(elbo_b, num_data=1, **options)(
    jax.random.key(0), model, params, jnp.zeros(4)
  )
  assert jnp.isfinite(estimate())
  with pytest.raises(UnsupportedError, match="only dense layers, and log_var belongs to none"):
    estimate(local=True)


class Twice(nn.Module):
  """A layer that is applied to its own output."""

  @nn.compact
  def __call__(self, z):
    layer = nn.Dense(2, param_dtype=float, name="layer")
    return (layer(nn.tanh(layer(z))),)


def test_local_noise_refuses_a_layer_used_twice():
  decoder = conditional(Twice(), bernoulli(2), 2)
  params = decoder.init(jax.random.key(0))
  with pytest.raises(UnsupportedError, match="takes each layer once, and layer is used again"):
    with_local_noise(jax.random.key(0), decoder, params).given(params, jnp.ones(2))


class NoBiases(nn.Module):
  @nn.compact
  def __call__(self, z):
    return (nn.Dense(3, use_bias=False, param_dtype=float)(z),)


def test_local_noise_without_biases():
  decoder = conditional(NoBiases(), bernoulli(3), 2)
  params = decoder.init(jax.random.key(0))
  var = jax.tree.map(lambda w: jnp.full_like(w, 0.25), params)

  def logits(key, z, var=var):
    return with_local_noise(key, decoder, var).given(params, z).eta.logits

  # An input of zeros gives a pre-activation of variance zero, and the gradient is finite.
  gradient = jax.grad(lambda var: logits(jax.random.key(0), jnp.zeros(2), var)[0])(var)
  assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
  z = jnp.asarray([1.0, -2.0])
  samples = jax.vmap(logits, (0, None))(jax.random.split(jax.random.key(0), 10_000), z)
  mean = z @ params["Dense_0"]["kernel"]
  for i in range(3):
    assert scipy.stats.kstest(samples[:, i], "norm", (mean[i], np.sqrt(1.25))).pvalue > 1e-6


def test_layers_and_units_have_noise_of_their_own():
  decoder = conditional(MLP((), (2, 2)), gaussian(2), 1)
  params = decoder.init(jax.random.key(0))
  var = jax.tree.map(jnp.ones_like, params)

  def heads(key):
    eta = with_local_noise(key, decoder, var).given(params, jnp.ones(1)).eta
    return jnp.concatenate([eta.mean, eta.log_var])

  samples = jax.vmap(heads)(jax.random.split(jax.random.key(0), 10_000))
  samples = np.asarray(samples)
  samples = samples - samples.mean(0)
  products = samples[:, [0, 0, 0, 1, 1, 2]] * samples[:, [1, 2, 3, 2, 3, 3]]
  assert_unbiased(products, np.zeros(6), detects_shift=0.2)  # each variance is 2
