"""The diagnostics, applied to gradients whose bias, variance and signal are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax import Params, elbo_a, elbo_b
from aevb_jax.inference.diagnostics import (
  active_units,
  blocks,
  gradient_batch,
  inner_products,
  off_diagonal_mean,
  relative_bias,
  signal_to_noise,
  variance,
)
from tests.support import oracles

BATCHES, REPEATS = 20, 50


def noisy(mean, std):
  """An estimator whose gradient with respect to phi is N(mean, std²) in each of 4 coordinates."""

  def estimator(key, model, params, x):
    return jnp.vdot(mean + std * jax.random.normal(key, (4,)), params.phi) + jnp.sum(params.theta)

  return estimator


PARAMS = Params(theta=jnp.ones(2), phi=jnp.ones(4))


@functools.partial(jax.jit, static_argnums=(1, 2))
def batches_at_once(key, estimator, model, params, minibatch):
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(BATCHES))
  draw = lambda key: gradient_batch(key, estimator, model, params, minibatch, num_repeats=REPEATS)
  return jax.vmap(draw)(keys)


def batches(estimator, seed=0, params=PARAMS, model=None, minibatch=np.ones((1, 3))):
  drawn = batches_at_once(jax.random.key(seed), estimator, model, params, minibatch)
  drawn = jax.tree.map(np.asarray, drawn)
  return [jax.tree.map(lambda leaf, b=b: leaf[b], drawn) for b in range(BATCHES)]


def test_mean_and_variance_are_those_of_the_draws():
  world = oracles.affine_world()
  minibatch = jnp.stack([world.x, world.x + 1])
  (batch, *_) = batches(elbo_a, params=world.params, model=world.model, minibatch=minibatch)

  def gradient(key):
    keys = jax.random.split(key, 2)
    mean = lambda p: jnp.mean(
      jax.vmap(lambda key, x: elbo_a(key, world.model, p, x))(keys, minibatch)
    )
    return jax.grad(mean)(world.params)

  key = jax.random.fold_in(jax.random.key(0), 0)
  draws = jax.vmap(lambda i: gradient(jax.random.fold_in(key, i)))(jnp.arange(REPEATS))
  for block in ("theta", "phi"):
    rows = oracles.rows(getattr(draws, block))
    np.testing.assert_allclose(oracles.flat(batch.mean[block]), rows.mean(0), rtol=1e-9)
    total = sum(jax.tree.leaves(batch.variance[block]))
    np.testing.assert_allclose(total, rows.var(0, ddof=1).sum(), rtol=1e-9)


def test_small_noise_on_a_large_mean_in_single_precision():
  with jax.enable_x64(False):
    (batch, *_) = batches(noisy(1000.0, 0.1), params=jax.tree.map(jnp.float32, PARAMS))
    # A mean of squared gradients minus the squared mean would lose the variance to rounding.
    np.testing.assert_allclose(batch.variance["phi"], 0.04, rtol=0.4)


def statistics(estimator, seed=0, reference=None):
  drawn = batches(estimator, seed)
  means = [batch.mean for batch in drawn]
  leaves = blocks(means[0])["phi"]
  products = inner_products(means, means, leaves)
  variances = np.array([batch.variance["phi"] for batch in drawn])
  if reference is None:
    return variance(variances), signal_to_noise(products, variances)
  others = [batch.mean for batch in batches(reference, seed)]
  differences = [jax.tree.map(np.subtract, a, b) for a, b in zip(means, others)]
  return relative_bias(
    inner_products(differences, differences, leaves), inner_products(others, others, leaves)
  )


def test_known_variance_and_signal_to_noise():
  spread, snr = statistics(noisy(0.5, 2.0))
  assert spread.low < 4 * 4.0 < spread.high and spread.high - spread.low < 4
  expected = np.sqrt(4 * 0.25 / 16)
  assert snr.low < expected < snr.high and snr.high - snr.low < 0.2


def test_intervals_cover():
  # The probability that fewer than 175 of 200 intervals at 95 % cover is 1e-5.
  strong, weak = noisy(0.5, 2.0), noisy(0.02, 2.0)

  def covers(seed):
    spread, snr = statistics(strong, seed)
    _, weak_snr = statistics(weak, seed)
    return (
      spread.low < 16 < spread.high,
      snr.low < 0.25 < snr.high,
      weak_snr.low < 0.01 < weak_snr.high,
    )

  covered = np.sum([covers(seed) for seed in range(200)], axis=0)
  assert (covered > 174).all()


def test_no_bias_where_there_is_none_and_a_planted_one_is_measured():
  reference, noisier = noisy(0.5, 0.1), noisy(0.5, 0.5)
  unbiased = [statistics(noisier, seed, reference).low == 0 for seed in range(50)]
  assert np.sum(unbiased) > 40
  bias = statistics(noisy(0.55, 0.1), 0, reference)
  assert bias.low < 0.1 + 1e-9 and 0.099 < bias.value < 0.101  # the same noise, paired
  bias = statistics(noisy(0.55, 0.5), 0, reference)
  assert 0 < bias.low < 0.1 < bias.high < 0.2


def test_nothing_and_failure_are_not_a_perfect_signal():
  batches = 5
  ones, zeros = np.ones((batches, batches)), np.zeros(batches)
  assert signal_to_noise(ones, zeros).value == np.inf
  assert np.isnan(signal_to_noise(0 * ones, zeros).value)
  assert np.isnan(signal_to_noise(ones, np.full(batches, np.nan)).value)


def test_products_of_different_batches_alone():
  products = np.array([[100.0, 1.0, 2.0], [1.0, 50.0, 3.0], [2.0, 3.0, 7.0]])
  assert off_diagonal_mean(products) == 2.0


def test_blocks_are_theta_phi_and_their_layers():
  world = oracles.bernoulli_world()
  gradient = {"theta": world.params.theta, "phi": world.params.phi, "value": jnp.zeros(())}
  named = blocks(gradient)
  assert list(named)[:3] == ["phi", "theta", "value"] and "phi/head_1" in named
  sizes = [leaf.size for leaf in jax.tree.leaves(gradient)]
  assert sorted(named["phi"] + named["theta"] + named["value"]) == list(range(len(sizes)))
  assert sum(sizes[i] for i in named["phi/hidden_0"]) == 6 * 7 + 7


def test_estimators_that_draw_alike_are_paired():
  world = oracles.affine_world()
  how = dict(params=world.params, model=world.model, minibatch=world.x[None])
  a, b = (batches(estimator, **how) for estimator in (elbo_a, elbo_b))
  # Both draw the same z, so that the gradients for θ are the same.
  np.testing.assert_allclose(
    oracles.flat(a[0].mean["theta"]), oracles.flat(b[0].mean["theta"]), rtol=1e-9
  )


def test_active_units_are_those_whose_mean_varies_over_the_data():
  rng = np.random.default_rng(0)
  means = rng.normal(size=(1000, 4)) * np.sqrt([1.0, 0.02, 0.005, 0.0]) + [0.0, 3.0, -5.0, 7.0]
  assert active_units(means).tolist() == [True, True, False, False]
  assert active_units(means, threshold=0.5).tolist() == [True, False, False, False]
