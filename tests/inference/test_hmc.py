"""Hamiltonian Monte Carlo: its leapfrogs, its draws, and the tuning of its step size."""

import functools

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aevb_jax import log_joint
from aevb_jax.errors import UnsupportedError
from aevb_jax.inference import hmc
from aevb_jax.inference.checks import check_continuous
from aevb_jax.models import linear_gaussian
from aevb_jax.models.priors import fair_coins, standard_normal
from aevb_jax.types import Params
from tests.support import oracles
from tests.support.statistics import FALSE_ALARM, assert_unbiased

COVARIANCE = np.array([[4.0, 0.9, 0.0], [0.9, 0.5, -0.1], [0.0, -0.1, 0.1]])
MEAN = np.array([1.0, -2.0, 0.5])


def curved(z):
  """A log-density in two dimensions that is not Gaussian."""
  return -0.5 * z[0] ** 2 - 0.5 * (z[1] - jnp.sin(2 * z[0])) ** 2 - 0.1 * z[1] ** 4


def correlated(z):
  precision = jnp.asarray(np.linalg.inv(COVARIANCE))
  return -0.5 * (z - MEAN) @ precision @ (z - MEAN)


def leapfrogs(log_density, z, momentum, step_size, num_leapfrogs):
  """Integrates by the textbook (Neal 2011, equations 2.28 to 2.30), for a unit mass."""
  gradient = jax.grad(log_density)
  for _ in range(num_leapfrogs):
    momentum = momentum + 0.5 * step_size * gradient(z)
    z = z + step_size * momentum
    momentum = momentum + 0.5 * step_size * gradient(z)
  return z, momentum


def one_transition(log_density, z, step_size, num_leapfrogs, seed=0):
  state = blackjax.hmc.init(z, log_density)
  return hmc.transition(
    jax.random.key(seed), state, log_density, step_size, num_leapfrogs=num_leapfrogs
  )


@pytest.mark.parametrize("num_leapfrogs", [1, 4, 10])
def test_a_proposal_is_so_many_leapfrogs_and_they_lead_back(num_leapfrogs):
  z = jnp.asarray([0.7, -0.3])
  _, info = one_transition(curved, z, 0.2, num_leapfrogs)
  end, momentum = leapfrogs(curved, z, info.momentum, 0.2, num_leapfrogs)
  np.testing.assert_allclose(info.proposal.position, end, rtol=1e-12)
  one_more, _ = leapfrogs(curved, z, info.momentum, 0.2, num_leapfrogs + 1)
  assert np.abs(one_more - end).max() > 1e-3  # one leapfrog too many would show
  # The momentum of a proposal is flipped, so that the same leapfrogs lead back.
  np.testing.assert_allclose(info.proposal.momentum, -momentum, rtol=1e-12)
  back, momentum = leapfrogs(
    curved, info.proposal.position, info.proposal.momentum, 0.2, num_leapfrogs
  )
  np.testing.assert_allclose(back, z, rtol=1e-12)
  np.testing.assert_allclose(momentum, -info.momentum, rtol=1e-12)


def test_a_transition_costs_as_many_gradients_as_leapfrogs():
  calls = []

  def counted(z):
    jax.debug.callback(lambda: calls.append(1))
    return curved(z)

  state = blackjax.hmc.init(jnp.asarray([0.7, -0.3]), counted)
  jax.effects_barrier()
  assert len(calls) == 1
  hmc.transition(jax.random.key(0), state, counted, 0.2, num_leapfrogs=7)
  jax.effects_barrier()
  assert len(calls) == 1 + 7


def test_the_energy_error_is_of_second_order():
  def error(num_leapfrogs):
    """The root mean square of energy errors after trajectories of length 1.6."""

    def one(key, z):
      state = blackjax.hmc.init(z, curved)
      _, info = hmc.transition(key, state, curved, 1.6 / num_leapfrogs, num_leapfrogs=num_leapfrogs)
      return info.energy - (0.5 * jnp.sum(info.momentum**2) - curved(z))

    keys = jax.random.split(jax.random.key(0), 100)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(100, 2)))
    return np.sqrt(np.mean(jax.vmap(one)(keys, z) ** 2))

  errors = [error(num_leapfrogs) for num_leapfrogs in (16, 32, 64)]
  assert errors[0] > 1e-4
  np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 4, rtol=0.1)


@functools.cache
def drawn():
  """Tunes and draws eight chains of a Gaussian whose scales are twenty to one."""
  start_key, warm_up_key, key = jax.random.split(jax.random.key(0), 3)

  def run():
    z = jax.random.normal(start_key, (8, 3))
    states, step_size = hmc.warm_up(warm_up_key, correlated, z, num_steps=300, num_leapfrogs=10)
    how = dict(num_samples=4000, num_leapfrogs=10)
    return states, step_size, hmc.sample(key, correlated, states, step_size, **how)[1]

  return key, *jax.jit(run)()


def test_moments():
  draws = np.asarray(drawn()[-1].z)
  error = draws - MEAN
  squares = np.stack([error[..., i] * error[..., j] for i in range(3) for j in range(i, 3)], -1)
  values = np.concatenate([draws, squares], axis=-1)
  exact = np.concatenate([MEAN, COVARIANCE[np.triu_indices(3)]])
  effective = blackjax.diagnostics.effective_sample_size(jnp.asarray(values))
  assert effective.min() > 1000
  spread = values.std((0, 1))
  mcse = spread / np.sqrt(effective)
  threshold = scipy.stats.norm.isf(FALSE_ALARM / (2 * exact.size))
  z_scores = lambda expected: np.abs(values.mean((0, 1)) - expected) / mcse
  assert z_scores(exact).max() < threshold
  # Power: an error of a quarter of a standard deviation would show in each moment.
  assert z_scores(exact + 0.25 * spread).min() > threshold


def test_the_step_size_is_held_while_samples_are_kept():
  key, states, step_size, draws = drawn()
  step = jax.jit(
    lambda key, states: hmc.transitions(key, states, correlated, step_size, num_leapfrogs=10)
  )
  for t in range(50):
    states, _ = step(jax.random.fold_in(key, t), states)
    np.testing.assert_allclose(draws.z[:, t], states.position, rtol=1e-8)


@pytest.mark.parametrize("num_latents, num_chains", [(2, 16), (10, 4), (40, 8)])
# The average that dual averaging ends with accepts more than its target, most for low targets.
@pytest.mark.parametrize("target, tolerance", [(0.65, 0.12), (0.9, 0.03)])
def test_acceptance_is_near_its_target(num_latents, num_chains, target, tolerance):
  model, params, x = oracles.affine_world(12, num_latents)
  log_density = lambda z: log_joint(model, params, x, z)

  def run(key):
    start_key, warm_up_key, key = jax.random.split(key, 3)
    z = jax.random.normal(start_key, (num_chains, num_latents))
    states, step_size = hmc.warm_up(
      warm_up_key, log_density, z, num_steps=400, num_leapfrogs=4, target_acceptance=target
    )
    how = dict(num_samples=400, num_leapfrogs=4)
    return hmc.sample(key, log_density, states, step_size, **how)[1]

  draws = jax.jit(run)(jax.random.key(0))
  assert abs(draws.acceptance - target) < tolerance
  assert draws.z.shape == (num_chains, 400, num_latents) and draws.num_divergent == 0


@pytest.mark.parametrize("outside", [np.nan, -np.inf, np.inf])
def test_what_has_no_density_is_never_drawn(outside):
  # The part of a Gaussian below 1 remains.
  log_density = lambda z: jnp.where(z[0] > 1, outside, -0.5 * jnp.sum(z**2))
  states = hmc.init(log_density, jnp.zeros((2000, 1)))
  how = dict(num_samples=30, num_leapfrogs=4)
  _, draws = jax.jit(lambda key: hmc.sample(key, log_density, states, jnp.asarray(0.4), **how))(
    jax.random.key(0)
  )
  assert draws.num_divergent > 1000 and draws.acceptance < 0.95
  z = np.asarray(draws.z[:, -1, 0])  # the last draw of each chain; all are independent
  assert z.max() <= 1
  truncated = scipy.stats.truncnorm(-np.inf, 1)
  assert scipy.stats.kstest(z, truncated.cdf).pvalue > FALSE_ALARM
  assert scipy.stats.kstest(z, scipy.stats.norm.cdf).pvalue < FALSE_ALARM


def test_binary_latents_are_refused():
  check_continuous("this", standard_normal(3))
  with pytest.raises(UnsupportedError, match="this moves z .* continuous z; .* is Bernoulli"):
    check_continuous("this", fair_coins(3))


def test_nuts_of_blackjax_draws_from_the_posterior_of_a_model():
  """The posterior of a linear-Gaussian model is known; chains that start at the prior reach it.

  A mean that is off by 0.1 standard deviations, or second moments by 10 %, would be seen.
  """
  model = linear_gaussian.linear_gaussian_vae(3, 2)
  kernel, bias = jnp.asarray([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]]), jnp.asarray([0.5, 0.0, -0.5])
  theta = {"mean": {"kernel": kernel, "bias": bias}, "log_var": jnp.asarray([-1.0, -0.5, 0.0])}
  params, x = Params(theta, None), jnp.asarray([1.5, -0.7, 0.4])
  posterior = functools.partial(log_joint, model, params, x)
  nuts = blackjax.nuts(posterior, step_size=0.5, inverse_mass_matrix=jnp.ones(2))

  def chain(key):
    start_key, key = jax.random.split(key)
    state = nuts.init(jax.random.normal(start_key, (2,)))
    step = lambda state, key: (nuts.step(key, state)[0], None)
    return jax.lax.scan(step, state, jax.random.split(key, 10))[0].position

  keys = jax.random.split(jax.random.key(0), 8000)
  with jax.debug_key_reuse(False):  # it takes the two halves of BlackJAX's tree for a reuse
    z = np.asarray(jax.jit(jax.vmap(chain))(keys))
  mean, covariance = map(np.asarray, linear_gaussian.posterior(theta, x))
  whitened = np.linalg.solve(np.linalg.cholesky(covariance), (z - mean).T).T
  assert_unbiased(whitened, np.zeros(2), detects_shift=0.1)
  second = whitened[:, :, None] * whitened[:, None, :]
  assert_unbiased(second, np.eye(2), detects=0.1)
