"""Flows: their inverses and Jacobians, their densities, and estimators that use them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import (
  bernoulli,
  dreg,
  elbo_a,
  elbo_b,
  gaussian,
  init_params,
  iwae,
  mlp_vae,
  sticking_the_landing,
)
from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.score_functions import score_function
from aevb_jax.families.base import distribution
from aevb_jax.families.bijections import affine_coupling, inverse_autoregressive, spline_coupling
from aevb_jax.families.flows import chain, flow, reverse, stack
from tests.support.statistics import assert_unbiased

J, CONTEXT = 5, 2
STEPS = {
  "reverse": lambda size=J: reverse(),
  "autoregressive": lambda size=J: inverse_autoregressive(size, (8, 7), context_size=CONTEXT),
  "affine": lambda size=J: affine_coupling(size, (8,), context_size=CONTEXT),
  "spline": lambda size=J: spline_coupling(size, (8,), context_size=CONTEXT),
  "chain": lambda size=J: chain(
    inverse_autoregressive(size, (8,), context_size=CONTEXT),
    reverse(),
    spline_coupling(size, (8,), context_size=CONTEXT),
  ),
  "in turn": lambda size=J: stack(affine_coupling(size, (8,), context_size=CONTEXT), 3),
}


def rough(tree, scale=1.0):
  """Moves the parameters far from their start, where a flow is near the identity."""
  leaves, treedef = jax.tree.flatten(tree)
  rng = np.random.default_rng(0)
  return treedef.unflatten([leaf + scale * rng.normal(size=leaf.shape) for leaf in leaves])


@pytest.mark.parametrize("name", STEPS)
def test_there_and_back_and_the_volume_between(name):
  bijection = STEPS[name]()
  params = rough(bijection.init(jax.random.key(0)))
  context = jnp.asarray([0.3, -1.0])

  @jax.jit
  def there_and_back(x):
    y, log_det = bijection.forward(params, context, x)
    jacobian = jax.jacfwd(lambda x: bijection.forward(params, context, x)[0])(x)
    return y, log_det, *bijection.inverse(params, context, y), jacobian

  rng = np.random.default_rng(1)
  # Some values are outside the splines' bound, and some are in every bin.
  for x in (*rng.normal(size=(5, J)) * 3, np.full(J, 40.0)):
    _, log_det, back, same_log_det, jacobian = there_and_back(jnp.asarray(x))
    np.testing.assert_allclose(back, x, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(same_log_det, log_det, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], log_det, rtol=1e-8, atol=1e-9)


def test_autoregression_uses_all_that_comes_before_and_nothing_else():
  bijection = STEPS["autoregressive"]()
  params = rough(bijection.init(jax.random.key(0)))
  forward = lambda x, context: bijection.forward(params, context, x)[0]
  x, context = jnp.linspace(-1.0, 1.0, J), jnp.asarray([0.3, -1.0])
  jacobian = np.asarray(jax.jit(jax.jacfwd(forward))(x, context))
  assert np.all(jacobian[np.triu_indices(J, 1)] == 0)
  assert np.all(np.abs(jacobian[np.tril_indices(J)]) > 1e-6)
  of_context = np.asarray(jax.jit(jax.jacfwd(forward, 1))(x, context))
  assert np.all(np.abs(of_context) > 1e-6)


@pytest.mark.parametrize("name", [name for name in STEPS if name != "reverse"])
def test_a_flow_starts_near_its_base(name):
  bijection = STEPS[name]()
  params, x = bijection.init(jax.random.key(0)), jnp.linspace(-1.0, 1.0, J)
  y, _ = bijection.forward(params, jnp.zeros(CONTEXT), x)
  same = [x, x[::-1], 0.8808 * x, 0.8808 * x[::-1]]
  assert min(float(jnp.max(jnp.abs(y - other))) for other in same) < 0.05


def member(name, size=2):
  family = flow(gaussian(size), STEPS[name](size), context_size=CONTEXT)
  shared = rough(family.init_shared(jax.random.key(0)), 0.3)
  heads = [jnp.asarray(head) for head in ([0.3, -0.5], [0.2, -0.6], [0.4, 1.0])]
  return family, family.from_heads(*heads, shared)


@pytest.mark.parametrize(
  "name", ["autoregressive", pytest.param("spline", marks=pytest.mark.long), "in turn"]
)
def test_the_density_is_one_in_all_and_that_of_the_samples(name):
  family, eta = member(name)
  q = distribution(family, eta)
  z, log_q = jax.jit(jax.vmap(q.sample_with_log_prob))(jax.random.split(jax.random.key(0), 100_000))
  np.testing.assert_allclose(
    log_q[:20], jax.jit(jax.vmap(q.log_prob))(z[:20]), rtol=1e-7, atol=1e-8
  )
  # ∫ q = 1 by a grid that is fine enough for two dimensions.
  axis = np.linspace(-14, 14, 561)
  grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
  density = np.exp(jax.jit(jax.vmap(q.log_prob))(grid)) * (axis[1] - axis[0]) ** 2
  assert abs(density.sum() - 1) < 1e-3
  for moment in (lambda z: z, lambda z: z**2, lambda z: jnp.tanh(z[..., :1] * z[..., 1:])):
    expected = density @ np.asarray(moment(grid))
    # The grid's error is 1e-3 at most; the samples' is larger.
    assert_unbiased(moment(z), expected, detects=0.2)


def vae(name="autoregressive"):
  size = 2
  family = flow(gaussian(size), STEPS[name](size), context_size=CONTEXT)
  model = mlp_vae(
    bernoulli(6), data_dim=6, latent_dim=size, hidden_dim=5, posterior=lambda _: family
  )
  params = init_params(jax.random.key(0), model)
  return model, params._replace(phi=rough(params.phi, 0.5))


X = jnp.asarray([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])


@pytest.mark.parametrize("name", ["autoregressive", "spline"])
def test_estimators_agree_about_a_flows_gradient(name):
  # Three ways to the gradient: through z, through z without the score, only by the score.
  model, params = vae(name)
  keys = lambda seed: jax.random.split(jax.random.key(seed), 20_000)

  def gradients(estimator, seed, **kwargs):
    of_key = lambda key: jax.grad(lambda p: estimator(key, model, p, X, **kwargs))(params)
    rows = jax.jit(jax.vmap(of_key))(keys(seed))
    return np.concatenate(
      [np.reshape(leaf, (20_000, -1)) for leaf in jax.tree.leaves(rows)], axis=1
    )

  paired = gradients(elbo_a, 0) - gradients(sticking_the_landing, 0)
  assert_unbiased(paired, np.zeros(paired.shape[1]), detects_shift=0.1)
  apart = gradients(elbo_a, 1) - gradients(score_function, 2, num_samples=1)
  assert_unbiased(apart, np.zeros(apart.shape[1]), detects_shift=0.5)


def test_values_on_one_key():
  model, params = vae()
  key = lambda: jax.random.key(3)
  estimate = lambda estimator: estimator(key(), model, params, X, num_samples=4)
  estimators = elbo_a, sticking_the_landing, iwae, dreg
  value, other, tight, same = jax.jit(lambda: tuple(map(estimate, estimators)))()
  np.testing.assert_allclose(value, other, rtol=1e-10)
  np.testing.assert_allclose(same, tight, rtol=1e-10)
  assert tight > value


def test_an_analytic_kl_is_refused():
  model, params = vae()
  with pytest.raises(UnsupportedError, match=r"KL\(Flow ‖ DiagonalGaussian\)"):
    elbo_b(jax.random.key(0), model, params, X)


def test_no_such_flow():
  with pytest.raises(ValueError, match="two parts"):
    affine_coupling(1, (8,))
  with pytest.raises(ValueError, match="num_bins is 1"):
    spline_coupling(2, (8,), num_bins=1)
