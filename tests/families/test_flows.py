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
from aevb_jax.families import table
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


SPLINE = spline_coupling(2, (8,))


def splines(scale):
  """Draws 40 sets of parameters of a spline; with a scale of 1000 the bins are steep or flat."""
  start = SPLINE.init(jax.random.key(0))
  many = rough(jax.tree.map(lambda leaf: jnp.zeros((40, *leaf.shape)), start), scale)
  dtype = jax.tree.leaves(start)[0].dtype
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), many), dtype.type


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_splines_ends(x64, scale):
  with jax.enable_x64(x64):
    params, dtype = splines(scale)
    assert dtype == (np.float64 if x64 else np.float32)
    bound = dtype(5)
    within = np.asarray([np.nextafter(bound, dtype(0)), 4.99999952, 4.99, 1.7, 0.0], dtype)
    beyond = np.asarray([5.0, np.nextafter(bound, dtype(6)), 7.0, 1e30], dtype)
    second = np.concatenate([within, -within, beyond, -beyond])
    x = np.stack([np.full_like(second, 0.7), second], axis=-1)

    def sizes(params, x, map_of):
      y, log_slope = map_of(params, jnp.zeros(0), x)
      return y[1] + log_slope, (y, log_slope)

    of_points = lambda map_of: jax.vmap(
      lambda p, x: jax.value_and_grad(sizes, (0, 1), has_aux=True)(p, x, map_of), (None, 0)
    )
    both = [jax.jit(jax.vmap(of_points(m), (0, None))) for m in (SPLINE.forward, SPLINE.inverse)]
    outside = np.abs(second) >= bound
    assert np.array_equal(outside, [False] * 10 + [True] * 8)
    for (_, (y, log_slope)), gradients in (map_of(params, jnp.asarray(x)) for map_of in both):
      assert y.dtype == dtype and np.isfinite(log_slope).all()
      np.testing.assert_array_equal(y[:, outside], np.broadcast_to(x[outside], (40, 8, 2)))
      np.testing.assert_array_equal(log_slope[:, outside], 0)
      assert np.max(np.abs(y[:, ~outside, 1])) <= bound
      assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("x64, error", [(False, 5e-6), (True, 2e-14)])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_splines_inverse_is_right_to_rounding_in_steep_and_in_flat_bins(x64, error, scale):
  # Where dy/dx is s, an error of ε in y is one of ε/s in x. Here s is from 1e-12 to 1e2.
  with jax.enable_x64(x64):
    params, dtype = splines(scale)
    second = np.concatenate([np.linspace(-5.5, 5.5, 89), [4.99999952, -4.99999952]])
    points = np.stack([np.full_like(second, 0.7), second], axis=-1).astype(dtype)

    def there_and_back(params, point):
      x, log_slope = SPLINE.inverse(params, jnp.zeros(0), point)
      y, _ = SPLINE.forward(params, jnp.zeros(0), x)
      over = (y - point)[1] / jnp.maximum(jnp.exp(log_slope), 1)
      y, log_slope = SPLINE.forward(params, jnp.zeros(0), point)
      x, _ = SPLINE.inverse(params, jnp.zeros(0), y)
      return over, (x - point)[1] * jnp.minimum(jnp.exp(log_slope), 1)

    mapped = jax.jit(jax.vmap(jax.vmap(there_and_back, (None, 0)), (0, None)))
    of_y, of_x = mapped(params, points)
    assert np.max(np.abs(of_y)) < error
    if scale == 1:  # with a larger scale the slope changes within one rounding error of y
      assert np.max(np.abs(of_x)) < error


@pytest.mark.parametrize("size", [2, 3, 12, 20, 64, 65, 100])
@pytest.mark.parametrize("context", [0, 64])
def test_the_default_network_has_a_path_between_all_pairs(size, context):
  # With weights of one and x = 0, the Jacobian of a MADE is the product of its masks.
  family = table.make_family(f"iaf:steps=1:context={context}", table.POSTERIORS, size)
  ones_for = lambda leaf: jnp.ones_like(leaf) if leaf.ndim == 2 else jnp.zeros_like(leaf)
  shared = jax.tree.map(ones_for, family.init_shared(jax.random.key(0)))
  eta = family.from_heads(*(jnp.zeros(width) for width in family.sizes), shared)
  jacobian = np.asarray(jax.jit(jax.jacrev(lambda x: family.transform(eta, x)))(jnp.zeros(size)))
  np.testing.assert_array_equal(jacobian != 0, np.tri(size, dtype=bool))


@pytest.mark.parametrize("size, context", [(2, 0), (3, 0), (3, 2), (6, 0), (6, 2)])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_narrowest_network_uses_every_input_and_a_narrower_one_is_refused(
  size, context, layers
):
  least = size if context else size - 1
  made = lambda *hidden: inverse_autoregressive(size, hidden, context_size=context)
  # A second width that is no multiple of the first shifts the degrees of its layer.
  step = made(least, *[least + 1] * (layers - 1))
  params, x = rough(step.init(jax.random.key(0)), 0.3), jnp.linspace(-1.0, 1.0, size)
  forward = lambda x, context: step.forward(params, context, x)[0]
  of_x, of_context = jax.jacfwd(forward, (0, 1))(x, jnp.full(context, 0.5))
  np.testing.assert_array_equal(of_x != 0, np.tri(size, dtype=bool))  # without a path: exactly 0
  assert np.all(of_context != 0)
  with pytest.raises(ValueError, match=f"hidden is {least - 1}, expected at least {least} for"):
    made(*[least] * (layers - 1), least - 1)


def test_a_network_that_cannot_use_every_input_is_refused():
  words = "hidden is 16, expected at least 20 for 20 latents: a narrower network cannot use every"
  with pytest.raises(ValueError, match=words):
    table.make_family("iaf:steps=1:hidden=16:context=4", table.POSTERIORS, 20)
  with pytest.raises(ValueError, match="hidden is 0, context is 64, expected at least 1"):
    table.make_family("iaf:hidden=0", table.POSTERIORS, 20)
  with pytest.raises(ValueError, match="only hidden layers use the context"):
    inverse_autoregressive(3, (), context_size=2)


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
