"""Algorithm 1: equation 8, the prior on θ, the update, and a learned optimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from jax.sharding import NamedSharding, PartitionSpec

from aevb_jax import elbo_a, elbo_b, fit, gaussian_weight_prior, init_params
from aevb_jax.algorithms import minibatch_objective
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.optimizers import adam
from tests.support import oracles

WORLD = oracles.affine_world()
DATA = np.random.default_rng(4).normal(size=(12, 5))


def noiseless_bound(key, model, params, x):
  del key, model
  return oracles.affine_bound(params, x)


def test_minibatches_average_to_equation_8_over_the_data():
  log_prior = gaussian_weight_prior(1.0)
  batches = DATA.reshape(3, 4, 5)  # N = 12, M = 4
  objectives = [
    minibatch_objective(
      jax.random.split(jax.random.key(0), 4),
      noiseless_bound,
      WORLD.model,
      WORLD.params,
      jnp.asarray(batch),
      num_data=12,
      log_prior=log_prior,
    )
    for batch in batches
  ]
  # (N/M) Σ_i L̃(x_i) + log p(θ), averaged over an epoch, is the sum over the data.
  full = sum(oracles.affine_bound(WORLD.params, x) for x in DATA)
  matrices = np.concatenate(
    [np.ravel(block["mean"]["kernel"]) for block in (WORLD.params.theta, WORLD.params.phi)]
  )
  log_p_theta = scipy.stats.norm.logpdf(matrices).sum()
  np.testing.assert_allclose(
    np.mean([12 * objective for objective, _ in objectives]), full + log_p_theta, rtol=1e-12
  )
  np.testing.assert_allclose(np.mean([12 * bound for _, bound in objectives]), full, rtol=1e-12)


def test_every_data_point_has_its_own_noise():
  batch = jnp.tile(WORLD.x, (2, 1))
  seen = []

  def spy(key, model, params, x):
    seen.append(key)
    return elbo_a(key, model, params, x)

  _, bound = minibatch_objective(
    jax.random.split(jax.random.key(0), 2), spy, WORLD.model, WORLD.params, batch, num_data=12
  )
  keys = jax.random.split(jax.random.key(0), 2)
  values = [elbo_a(key, *WORLD) for key in keys]
  assert abs(values[0] - values[1]) > 1e-3
  np.testing.assert_allclose(bound, np.mean(values), rtol=1e-12)
  assert len(seen) == 1  # traced once, for the whole minibatch


@pytest.mark.parametrize("examples_at_once", [1, 3, 12])
def test_parts_of_a_minibatch_add_up_to_it(examples_at_once):
  """Every part has its share of the prior, and noise that belongs to its examples."""
  how = dict(num_data=12, log_prior=gaussian_weight_prior(1.0))
  step = lambda **more: jax.jit(aevb(WORLD.model, elbo_a, adam(0.1), **how, **more).update)
  state = aevb(WORLD.model, elbo_a, adam(0.1), **how).init(jax.random.key(0))
  whole, metrics = step()(state, jnp.asarray(DATA))
  parts, reported = step(examples_at_once=examples_at_once)(state, jnp.asarray(DATA))
  np.testing.assert_allclose(reported["bound"], metrics["bound"], rtol=1e-12)
  moments = lambda state: jax.tree.leaves(state.opt_state.inner_state)
  for a, b in zip(moments(whole), moments(parts), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15)


def test_parts_that_do_not_divide_a_minibatch_are_refused():
  algorithm = aevb(WORLD.model, elbo_a, adam(0.1), num_data=12, examples_at_once=5)
  with pytest.raises(ValueError, match="examples_at_once is 5, which does not divide 12"):
    algorithm.update(algorithm.init(jax.random.key(0)), jnp.asarray(DATA))


def test_the_weight_prior_leaves_baselines_alone():
  with_psi = WORLD.params._replace(psi={"kernel": jnp.ones((3, 3))})
  log_prior = gaussian_weight_prior(1.0)
  assert log_prior(with_psi) == log_prior(WORLD.params)


def test_the_weight_prior_of_a_model_without_an_encoder():
  log_p = scipy.stats.norm.logpdf(WORLD.params.theta["mean"]["kernel"]).sum()
  log_prior = gaussian_weight_prior(1.0)
  np.testing.assert_allclose(log_prior(WORLD.params._replace(phi=())), log_p, rtol=1e-12)


def test_weight_prior_with_another_precision():
  matrices = [
    np.asarray(block["mean"]["kernel"]) for block in (WORLD.params.theta, WORLD.params.phi)
  ]
  expected = sum(scipy.stats.norm.logpdf(w, scale=1 / np.sqrt(4.0)).sum() for w in matrices)
  np.testing.assert_allclose(gaussian_weight_prior(4.0)(WORLD.params), expected, rtol=1e-12)
  for precision in (0.0, -1.0, float("nan")):
    with pytest.raises(ValueError, match="precision"):
      gaussian_weight_prior(precision)


def test_update_ascends_the_gradient():
  algorithm = aevb(
    WORLD.model,
    noiseless_bound,
    optax.sgd(0.01),
    num_data=12,
    log_prior=gaussian_weight_prior(1.0),
  )
  state = algorithm.init(jax.random.key(0))
  state = state._replace(params=WORLD.params)
  batch = jnp.asarray(DATA[:4])
  after, metrics = algorithm.update(state, batch)

  def objective(params):
    bound = jnp.mean(jax.vmap(lambda x: oracles.affine_bound(params, x))(batch))
    matrices = [block["mean"]["kernel"] for block in (params.theta, params.phi)]
    return bound - sum(0.5 * jnp.sum(w**2) for w in matrices) / 12

  gradient = jax.grad(objective)(WORLD.params)
  expected = jax.tree.map(lambda w, g: w + 0.01 * g, WORLD.params, gradient)
  for got, want in zip(jax.tree.leaves(after.params), jax.tree.leaves(expected)):
    np.testing.assert_allclose(got, want, rtol=1e-11)
  assert after.step == 1
  bounds = [oracles.affine_bound(WORLD.params, x) for x in DATA[:4]]
  np.testing.assert_allclose(metrics["bound"], np.mean(bounds), rtol=1e-12)
  assert algorithm.update(after, batch)[1]["bound"] > metrics["bound"]
  updated, _ = algorithm.update(state, batch, jnp.arange(4))
  for got, want in zip(jax.tree.leaves(updated.params), jax.tree.leaves(after.params)):
    np.testing.assert_array_equal(got, want)  # the positions of the examples change nothing


def test_every_step_has_its_own_noise():
  algorithm = aevb(WORLD.model, elbo_a, optax.sgd(0.0), num_data=12)
  state = algorithm.init(jax.random.key(0))
  batch = jnp.asarray(DATA[:4])
  after, first = algorithm.update(state, batch)
  _, again = algorithm.update(state, batch)
  _, second = algorithm.update(after, batch)
  assert first["bound"] == again["bound"]
  assert abs(first["bound"] - second["bound"]) > 1e-6


def test_update_is_traced_once():
  traces = []

  def counted(key, model, params, x):
    traces.append(1)
    return elbo_b(key, model, params, x)

  algorithm = aevb(WORLD.model, counted, optax.adam(1e-3), num_data=12)
  state = algorithm.init(jax.random.key(0))
  update = jax.jit(algorithm.update)
  for _ in range(3):
    state, _ = update(state, jnp.asarray(DATA[:4]))
  assert len(traces) == 1


def test_eight_devices_give_what_one_gives():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  algorithm = aevb(
    WORLD.model, functools.partial(elbo_a, num_samples=2), optax.adam(1e-2), num_data=12
  )
  update = jax.jit(algorithm.update)
  one, many = (algorithm.init(jax.random.key(0)) for _ in range(2))
  for batch in (DATA[:8], DATA[4:]):
    one, metrics_one = update(one, jnp.asarray(batch))
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    many, metrics_many = update(many, sharded)
  assert len(sharded.sharding.device_set) == 8
  np.testing.assert_allclose(metrics_one["bound"], metrics_many["bound"], rtol=1e-12)
  for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params)):
    np.testing.assert_allclose(a, b, rtol=1e-10)


def test_learns_factor_analysis():
  # The best bound of the affine-Gaussian model is the maximum log-likelihood of factor
  # analysis, because a rotation of z makes the posterior diagonal.
  from sklearn.decomposition import FactorAnalysis

  rng = np.random.default_rng(0)
  loadings = rng.normal(size=(2, 6))
  x = rng.normal(size=(2000, 2)) @ loadings + rng.normal(size=(2000, 6)) * 0.5 + 1.0
  optimum = FactorAnalysis(2, tol=1e-8, max_iter=10_000).fit(x).score(x)

  model = oracles.affine_model(6, 2)
  optimizer = optax.adam(optax.exponential_decay(0.03, 1000, 0.3))
  algorithm = aevb(model, elbo_b, optimizer, num_data=2000)
  state = algorithm.init(jax.random.key(0))
  before = np.mean(jax.vmap(lambda x: oracles.affine_bound(state.params, x))(jnp.asarray(x)))
  state, _ = fit(
    algorithm, state, jax.random.key(1), jnp.asarray(x), batch_size=100, num_steps=4000
  )
  after = np.mean(jax.vmap(lambda x: oracles.affine_bound(state.params, x))(jnp.asarray(x)))
  assert before < optimum - 1
  assert optimum - 0.01 < after <= optimum + 1e-6


def test_init_depends_on_its_key_alone():
  algorithm = aevb(WORLD.model, elbo_b, optax.adam(1e-3), num_data=12)
  a, b = algorithm.init(jax.random.key(0)), algorithm.init(jax.random.key(0))
  other = algorithm.init(jax.random.key(1))
  kernel = lambda state: state.params.phi["mean"]["kernel"]
  np.testing.assert_array_equal(kernel(a), kernel(b))
  assert not np.allclose(kernel(a), kernel(other))
  expected = init_params(jax.random.split(jax.random.key(0))[0], WORLD.model)
  np.testing.assert_array_equal(kernel(a), expected.phi["mean"]["kernel"])
