"""Monte Carlo EM: the draws of its chains, the updates of θ, and the state of a run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from aevb_jax import Params, elbo_b, fit, fit_streamed, gaussian_weight_prior, log_joint
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.monte_carlo_em import evaluations_per_example, mcem
from aevb_jax.algorithms.optimizers import adagrad, adam
from aevb_jax.data.minibatches import minibatch_indices, order_key, stream
from aevb_jax.data.preprocess import binarize
from aevb_jax.errors import UnsupportedError
from tests.support import oracles
from tests.support.statistics import assert_unbiased

WORLD = oracles.affine_world()
DATA = np.random.default_rng(4).normal(size=(12, 5))
INDEX = jnp.asarray([7, 2, 11, 3])  # a minibatch in arbitrary order
BATCH = jnp.asarray(DATA)[INDEX]


def copied(tree):
  """Copies a tree, because `fit` donates its argument."""
  return jax.tree.map(jnp.copy, tree)


def at_world(state):
  return state._replace(params=Params(copied(WORLD.params.theta), ()))


def started(algorithm, step_size=0.1):
  """Starts at the world's θ with chains at different places; nearly all moves are accepted."""
  z = jnp.asarray(np.random.default_rng(5).normal(size=(len(DATA), 3)))
  log_step_size = jnp.log(jnp.asarray(step_size))
  return at_world(algorithm.init(jax.random.key(0)))._replace(z=z, log_step_size=log_step_size)


def frozen(num_data=len(DATA), **kwargs):
  return mcem(WORLD.model, optax.set_to_zero(), num_data=num_data, **kwargs)


def leaves(state):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=()))]


@functools.cache
def trained():
  """Runs 4000 data points' chains for fifty epochs at one θ; the metrics are from the last ten."""
  x = np.random.default_rng(0).normal(size=(4000, 5))
  algorithm = frozen(len(x))
  state = at_world(algorithm.init(jax.random.key(0)))
  for _ in range(5):
    state, metrics = ten_epochs(algorithm, state, x)
  return algorithm, x, state, metrics


def ten_epochs(algorithm, state, x):
  return fit(algorithm, state, jax.random.key(1), jnp.asarray(x), batch_size=200, num_steps=200)


def test_every_chain_draws_from_the_posterior_of_its_own_data_point():
  _, x, state, _ = trained()
  theta = WORLD.params.theta
  w, b = np.asarray(theta["mean"]["kernel"]), np.asarray(theta["mean"]["bias"])
  noise_var = np.exp(theta["log_var"])
  precision = np.eye(3) + (w / noise_var) @ w.T
  mean = (x - b) / noise_var @ w.T @ np.linalg.inv(precision)
  # The Cholesky factor turns exact draws into draws from N(0, I).
  standard = (np.asarray(state.z) - mean) @ np.linalg.cholesky(precision)
  assert_unbiased(standard, np.zeros(3), detects_shift=0.1)
  products = standard[:, :, None] * standard[:, None, :]
  assert_unbiased(products.reshape(-1, 9), np.eye(3).ravel(), detects=0.2)


def test_fishers_identity():
  _, x, state, _ = trained()

  def log_marginal(theta, x):
    w, b = theta["mean"]["kernel"], theta["mean"]["bias"]
    covariance = w.T @ w + jnp.diag(jnp.exp(theta["log_var"]))
    return jax.scipy.stats.multivariate_normal.logpdf(x, b, covariance)

  theta = WORLD.params.theta
  gradients = jax.vmap(
    jax.grad(lambda x, z, t: log_joint(WORLD.model, Params(t, ()), x, z), 2), (0, 0, None)
  )
  of_marginal = jax.vmap(jax.grad(lambda x, t: log_marginal(t, x), 1), (0, None))
  exact = oracles.rows(jax.jit(of_marginal)(jnp.asarray(x), theta))
  errors = oracles.rows(jax.jit(gradients)(jnp.asarray(x), state.z, theta)) - exact
  largest = np.abs(exact[:100]).max()
  assert_unbiased(errors, np.zeros(errors.shape[1]), detects_shift=0.05 * largest)


@pytest.mark.parametrize("start", [1e-3, 30.0])
def test_acceptance_comes_to_its_target_from_any_start(start):
  algorithm, x, state, metrics = trained()
  assert 0.88 < metrics["acceptance"].mean() < 0.92
  state = copied(state)._replace(log_step_size=jnp.log(start))
  state, first = ten_epochs(algorithm, state, x)
  _, later = ten_epochs(algorithm, state, x)
  assert abs(first["acceptance"][0] - 0.9) > 0.09
  assert 0.88 < later["acceptance"].mean() < 0.92


def test_acceptance_has_other_targets():
  _, x, state, _ = trained()
  _, metrics = ten_epochs(frozen(4000, target_acceptance=0.65), copied(state), x)
  assert 0.63 < metrics["acceptance"][100:].mean() < 0.67


def test_a_step_size_depends_on_the_past_alone():
  algorithm = frozen()
  state = started(algorithm)
  after, metrics = algorithm.update(state, BATCH, INDEX)
  np.testing.assert_allclose(metrics["step_size"], jnp.exp(state.log_step_size), rtol=1e-12)
  higher = after.log_step_size > state.log_step_size
  assert higher == (metrics["acceptance"] > 0.9)
  np.testing.assert_allclose(
    algorithm.update(after, BATCH, INDEX)[1]["step_size"], jnp.exp(after.log_step_size), rtol=1e-12
  )


@pytest.mark.parametrize("num_updates", [1, 3])
def test_theta_climbs_the_log_joint_at_the_new_z(num_updates):
  log_prior = gaussian_weight_prior(1.0)
  optimizer = adam(0.01)  # its state counts the updates
  algorithm = mcem(
    WORLD.model, optimizer, num_data=12, num_updates=num_updates, log_prior=log_prior
  )
  state = started(algorithm)
  after, metrics = algorithm.update(state, BATCH, INDEX)
  z = after.z[INDEX]
  assert np.abs(z - state.z[INDEX]).min() > 0
  mean_log_joint = lambda theta: jnp.mean(
    jax.vmap(lambda x, z: log_joint(WORLD.model, Params(theta, ()), x, z))(BATCH, z)
  )

  def objective(params):
    kernel = params.theta["mean"]["kernel"]
    return mean_log_joint(params.theta) - 0.5 * jnp.sum(kernel**2) / 12

  params, opt_state = state.params, optimizer.init(state.params)
  for _ in range(num_updates):
    downwards = jax.tree.map(jnp.negative, jax.grad(objective)(params))
    updates, opt_state = optimizer.update(downwards, opt_state, params)
    params = optax.apply_updates(params, updates)
  for got, want in zip(jax.tree.leaves(after.params), jax.tree.leaves(params), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-10)
  assert after.step == 1 and after.params.phi == ()
  np.testing.assert_allclose(metrics["log_joint"], mean_log_joint(state.params.theta), rtol=1e-12)
  assert objective(after.params) > objective(state.params)


def test_chains_go_on_from_where_they_were():
  algorithm = frozen()
  state = started(algorithm)
  after, _ = algorithm.update(state, BATCH, INDEX)
  others = np.setdiff1d(np.arange(12), INDEX)
  np.testing.assert_array_equal(after.z[others], state.z[others])
  assert np.abs(after.z - state.z)[INDEX].min() > 0
  # With tiny leapfrogs every chain stays near its start, so exchanged rows would show.
  still = started(algorithm, step_size=1e-9)
  after, _ = algorithm.update(still, BATCH, INDEX)
  assert np.any(after.z != still.z)
  np.testing.assert_allclose(after.z, still.z, atol=1e-6)


def test_a_chain_has_its_own_target_and_noise():
  algorithm = frozen()
  state = started(algorithm)
  alone, _ = algorithm.update(state, BATCH[:1], INDEX[:1])
  together, _ = algorithm.update(state, BATCH, INDEX)
  # The first chain of a minibatch draws from the same key in a minibatch of any size.
  np.testing.assert_allclose(alone.z[INDEX[0]], together.z[INDEX[0]], rtol=1e-12)
  same = state._replace(z=jnp.tile(state.z[:1], (12, 1)))
  after, _ = algorithm.update(same, jnp.tile(BATCH[:1], (4, 1)), INDEX)
  assert len(np.unique(np.asarray(after.z[INDEX]), axis=0)) == 4
  again, _ = algorithm.update(same._replace(step=jnp.int32(1)), BATCH, INDEX)
  assert np.abs(again.z - after.z)[INDEX].min() > 0


def test_an_update_costs_what_is_counted():
  calls = []

  def counted(theta, z):
    jax.debug.callback(lambda: calls.append(1))
    return WORLD.model.decoder.given(theta, z)

  model = WORLD.model._replace(decoder=WORLD.model.decoder._replace(given=counted))
  algorithm = mcem(model, adam(0.01), num_data=12, num_leapfrogs=7, num_updates=3)
  jax.jit(algorithm.update)(started(algorithm), BATCH[:1], INDEX[:1])
  jax.effects_barrier()
  assert len(calls) == 1 + 7 + 3 == evaluations_per_example(num_leapfrogs=7, num_updates=3)
  assert evaluations_per_example() == 16  # appendix E


def test_two_halves_are_the_whole_bit_for_bit():
  algorithm = mcem(WORLD.model, adagrad(0.02), num_data=12)
  run = functools.partial(fit, algorithm, pixels=jnp.asarray(DATA), batch_size=5)
  key = jax.random.key(1)
  whole, _ = run(algorithm.init(jax.random.key(0)), key, num_steps=80)
  half, _ = run(algorithm.init(jax.random.key(0)), key, num_steps=40)
  half, _ = run(half, key, num_steps=40)
  for a, b in zip(leaves(whole), leaves(half), strict=True):
    np.testing.assert_array_equal(a, b)
  first = algorithm.init(jax.random.key(0)).params.theta["mean"]["kernel"]
  assert not np.array_equal(whole.params.theta["mean"]["kernel"], first)  # past the warm-up


def test_streamed_training_is_resident_training_bit_for_bit():
  pixels = np.random.default_rng(0).integers(0, 256, size=(12, 5), dtype=np.uint8)
  how = dict(preprocess=binarize, static_key=jax.random.key(5))
  algorithm = mcem(WORLD.model, adam(0.01), num_data=12)
  resident, _ = fit(
    algorithm, algorithm.init(jax.random.key(0)), jax.random.key(1), pixels, batch_size=5,
    num_steps=8, **how,
  )  # fmt: skip
  streamed = algorithm.init(jax.random.key(0))
  for minibatches in stream(pixels, jax.random.key(1), [4, 4], batch_size=5):
    streamed, _ = fit_streamed(algorithm, streamed, jax.random.key(1), minibatches, **how)
  for a, b in zip(leaves(resident), leaves(streamed), strict=True):
    np.testing.assert_array_equal(a, b)


def test_fit_moves_the_rows_that_it_sees():
  algorithm = frozen()
  state = started(algorithm)
  z = np.array(state.z)
  after, _ = fit(algorithm, state, jax.random.key(1), jnp.asarray(DATA), batch_size=5, num_steps=1)
  index = minibatch_indices(
    order_key(jax.random.key(1)), jnp.int32(0), 1, num_data=12, batch_size=5
  )
  moved = np.flatnonzero(np.any(np.asarray(after.z) != z, axis=1))
  np.testing.assert_array_equal(moved, np.sort(index[0]))


def test_a_member_of_a_sweep_is_the_single_run():
  def run(step_size, key):
    member = mcem(WORLD.model, adam(step_size), num_data=12)
    state = member.init(key)
    how = dict(batch_size=5, num_steps=4)
    return fit(member, state, jax.random.key(1), jnp.asarray(DATA), **how)[1]["log_joint"]

  step_sizes = jnp.asarray([1e-3, 3e-2])
  swept = jax.jit(jax.vmap(run))(step_sizes, jax.random.split(jax.random.key(0), 2))
  keys = jax.random.split(jax.random.key(0), 2)
  np.testing.assert_allclose(swept[1], run(step_sizes[1], keys[1]), rtol=1e-8)


def test_eight_devices_give_what_one_gives():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  algorithm = mcem(WORLD.model, adam(0.01), num_data=12)
  update = jax.jit(algorithm.update)
  one, many = started(algorithm), started(algorithm)
  for index in (np.arange(8), np.array([3, 11, 5, 8, 0, 2, 9, 10])):
    batch = DATA[index]
    one, _ = update(one, jnp.asarray(batch), jnp.asarray(index))
    split = NamedSharding(mesh, PartitionSpec("data"))
    many, _ = update(many, jax.device_put(batch, split), jax.device_put(index, split))
  for a, b in zip(leaves(one), leaves(many), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-8)


def test_update_is_traced_once():
  traces = []

  def counted(params):
    traces.append(1)
    return gaussian_weight_prior(1.0)(params)

  algorithm = mcem(WORLD.model, adagrad(0.02), num_data=12, log_prior=counted)
  state = algorithm.init(jax.random.key(0))
  update = jax.jit(algorithm.update)
  for _ in range(3):
    state, _ = update(state, BATCH, INDEX)
  assert len(traces) == 1 and state.step == 3


def test_learns_factor_analysis():
  from sklearn.decomposition import FactorAnalysis

  rng = np.random.default_rng(0)
  loadings = rng.normal(size=(2, 6))
  x = rng.normal(size=(500, 2)) @ loadings + rng.normal(size=(500, 6)) * 0.5 + 1.0
  optimum = FactorAnalysis(2, tol=1e-8, max_iter=10_000).fit(x).score(x)

  model = oracles.affine_model(6, 2)
  optimizer = optax.adam(optax.exponential_decay(0.02, 2000, 0.3))
  algorithm = mcem(model, optimizer, num_data=500)
  state = algorithm.init(jax.random.key(0))
  before = np.mean(oracles.affine_log_marginal(state.params, x))
  state, metrics = fit(
    algorithm, state, jax.random.key(1), jnp.asarray(x), batch_size=100, num_steps=2000
  )
  after = np.mean(oracles.affine_log_marginal(state.params, x))
  assert before < optimum - 1
  assert optimum - 0.02 < after <= optimum + 1e-6
  # p(z|x) became much narrower, and the step size shrank with it.
  assert metrics["step_size"][-100:].mean() < 0.7 * metrics["step_size"][:10].mean()
  assert 0.88 < metrics["acceptance"][-500:].mean() < 0.92


@pytest.mark.parametrize("outside", [np.nan, -np.inf, np.inf])
def test_where_there_is_no_density_no_chain_goes(outside):
  given = WORLD.model.decoder.given

  def with_a_wall(theta, z):
    p = given(theta, z)
    return p._replace(log_prob=lambda x: jnp.where(z[0] > 0.3, outside, p.log_prob(x)))

  model = WORLD.model._replace(decoder=WORLD.model.decoder._replace(given=with_a_wall))
  algorithm = mcem(model, optax.set_to_zero(), num_data=12)
  state = started(algorithm)._replace(z=jnp.zeros((12, 3)))
  update, divergent = jax.jit(algorithm.update), 0
  for _ in range(20):
    state, metrics = update(state, jnp.asarray(DATA), jnp.arange(12))
    assert np.isfinite(metrics["log_joint"]) and metrics["acceptance"] <= 1
    divergent += metrics["num_divergent"]
  assert divergent > 0 and np.isfinite(state.z).all()
  assert state.z[:, 0].max() <= 0.3 and np.abs(state.z).min() > 0


def test_chains_that_are_missing_show():
  algorithm = frozen(num_data=11)  # the minibatch has an index of 11
  state = algorithm.init(jax.random.key(0))
  _, metrics = algorithm.update(state, BATCH, INDEX)
  assert np.isnan(metrics["log_joint"])


def test_it_starts_at_draws_from_the_prior_and_the_theta_of_aevb():
  algorithm = frozen(num_data=5000)
  state = algorithm.init(jax.random.key(3))
  assert_unbiased(state.z, np.zeros(3), detects_shift=0.1)
  assert_unbiased(state.z**2, np.ones(3), detects=0.15)
  theta = aevb(WORLD.model, elbo_b, adam(0.01), num_data=12).init(jax.random.key(3)).params.theta
  for a, b in zip(jax.tree.leaves(state.params.theta), jax.tree.leaves(theta), strict=True):
    np.testing.assert_array_equal(a, b)
  other = algorithm.init(jax.random.key(4))
  assert np.abs(other.z - state.z).min() > 0


def test_no_encoder_is_needed():
  algorithm = mcem(WORLD.model._replace(encoder=None), adam(0.01), num_data=12)
  state, _ = algorithm.update(algorithm.init(jax.random.key(0)), BATCH, INDEX)
  assert np.isfinite(state.z).all()


@pytest.mark.parametrize(
  "how, message",
  [
    (dict(num_data=0), "num_data is 0, expected at least 1"),
    (dict(num_leapfrogs=0), "num_leapfrogs is 0, expected at least 1"),
    (dict(num_updates=0), "num_updates is 0, expected at least 1"),
    (dict(target_acceptance=0.0), "target_acceptance is 0.0, expected between 0 and 1"),
    (dict(target_acceptance=1.0), "target_acceptance is 1.0, expected between 0 and 1"),
    (dict(target_acceptance=float("nan")), "target_acceptance is nan"),
  ],
)
def test_bad_numbers_are_refused(how, message):
  with pytest.raises(ValueError, match=message):
    frozen(**how)


def test_binary_latents_are_refused():
  with pytest.raises(UnsupportedError, match="mcem moves z .* that of this model is Bernoulli"):
    mcem(oracles.binary_world().model, adam(0.01), num_data=12)
