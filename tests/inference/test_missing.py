"""Completions of x: exact evidence, and chains with the right stationary distribution."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import bernoulli, log_joint
from aevb_jax.errors import UnsupportedError
from aevb_jax.families.base import distribution
from aevb_jax.families.binary import Bernoulli
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.inference import missing
from aevb_jax.inference.evidence import block_sums, flipped, observed, spread_blocks, sum_blocks
from aevb_jax.inference.exact import binary_vectors
from aevb_jax.models import linear_gaussian as lg
from tests.support import oracles
from tests.support.statistics import assert_unbiased

SHAPE = (2, 4, 1)  # two squares of four pixels
LOGITS = jnp.asarray([0.3, -1.2, 2.0, 0.0, 0.7, -0.4, -2.5, 1.1])
X = jnp.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
MASK = jnp.asarray([True, False, True, False, False, True, False, True])
RATE = 0.15  # of errors


def kinds(x, mask, image_shape):
  """Makes, for each kind, the evidence y about x and the function p(y|x') of any x'."""
  sums = functools.partial(sum_blocks, image_shape=image_shape, block=2)
  num_wrong = lambda other: jnp.sum(other != x)
  return {
    "observed": (
      observed(jnp.where(mask, x, jnp.nan), mask),
      lambda other: jnp.all(jnp.where(mask, other == x, True)).astype(float),
    ),
    "flipped": (
      flipped(x, RATE),
      lambda other: RATE ** num_wrong(other) * (1 - RATE) ** (x.size - num_wrong(other)),
    ),
    "block_sums": (
      block_sums(sums(x), image_shape, 2),
      lambda other: jnp.all(sums(other) == sums(x)).astype(float),
    ),
  }


KINDS = kinds(X, MASK, SHAPE)


def posterior_of_x(kind):
  """Enumerates all x (256, 8), with the p(x|y, z) of each, and log p(y|z)."""
  p, everything = distribution(bernoulli(8), Bernoulli(LOGITS)), binary_vectors(8)
  joint = jnp.exp(jax.vmap(p.log_prob)(everything)) * jax.vmap(KINDS[kind][1])(everything)
  return everything, joint / joint.sum(), jnp.log(joint.sum())


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_is_what_enumeration_says(kind):
  evidence, p = KINDS[kind][0], distribution(bernoulli(8), Bernoulli(LOGITS))
  everything, probabilities, log_prob = posterior_of_x(kind)
  np.testing.assert_allclose(evidence.log_prob(p), log_prob, rtol=1e-12)
  np.testing.assert_allclose(evidence.mean(p), probabilities @ everything, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_of_x_follow_it(kind):
  evidence, p = KINDS[kind][0], distribution(bernoulli(8), Bernoulli(LOGITS))
  everything, probabilities, _ = posterior_of_x(kind)
  keys = jax.random.split(jax.random.key(0), 50_000)
  x = np.asarray(jax.vmap(lambda key: evidence.sample(key, p))(keys))
  number = np.rint(x @ 2 ** np.arange(8)).astype(int)
  np.testing.assert_array_equal(everything[number], x)
  assert np.all(probabilities[number] > 0)
  likely = np.argsort(probabilities)[-8:]
  assert_unbiased(number[:, None] == likely, probabilities[likely], detects=0.1)
  # Pairs of pixels show dependence, which single pixels do not.
  pairs = np.array([x[:, i] * x[:, j] for i, j in itertools.combinations(range(8), 2)]).T
  exact = [probabilities @ (everything[:, i] * everything[:, j])
           for i, j in itertools.combinations(range(8), 2)]  # fmt: skip
  assert_unbiased(pairs, np.array(exact), detects=0.1)


def test_squares_of_several_channels():
  image = jnp.arange(6 * 4 * 3.0).reshape(6, 4, 3)
  sums = sum_blocks(image.ravel(), (6, 4, 3), 2)
  expected = image.reshape(3, 2, 2, 2, 3).sum(axis=(1, 3)).ravel()
  np.testing.assert_array_equal(sums, expected)
  spread = spread_blocks(sums, (6, 4, 3), 2).reshape(6, 4, 3)
  np.testing.assert_array_equal(spread[::2, ::2].ravel(), sums)
  np.testing.assert_array_equal(spread[1::2, 1::2], spread[::2, ::2])


def test_observed_takes_any_decoder_of_independent_pixels():
  model, params, x = oracles.affine_world()
  mask, z = jnp.asarray([True, False, True, True, False]), jnp.asarray([0.3, -0.5, 1.0])
  evidence = observed(jnp.where(mask, x, jnp.nan), mask)
  p = model.decoder.given(params.theta, z)
  of_known = gaussian(3).log_prob(DiagonalGaussian(p.eta.mean[mask], p.eta.log_var[mask]), x[mask])
  np.testing.assert_allclose(evidence.log_prob(p), of_known, rtol=1e-12)
  density = lambda z: evidence.log_prob(model.decoder.given(params.theta, z))
  assert np.isfinite(jax.grad(density)(z)).all()
  np.testing.assert_array_equal(evidence.mean(p), jnp.where(mask, x, p.mean))
  drawn = evidence.sample(jax.random.key(0), p)
  np.testing.assert_array_equal(drawn[mask], x[mask])
  np.testing.assert_array_equal(drawn[~mask], p.sample(jax.random.key(0))[~mask])


# Chains that start at their stationary distribution must stay there. Each of many chains makes a
# few transitions and gives one draw, so that all draws are independent.


def after(world, evidence, z, *, corrected, num_steps=3):
  def chain(key, z):
    def step(z, t):
      key_of_step, how = jax.random.fold_in(key, t), dict(corrected=corrected)
      return missing.gibbs_transition(key_of_step, *world[:2], evidence, z, **how)

    return jax.lax.scan(step, z, jnp.arange(num_steps))[0]

  return jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(1), len(z)), z)


BINARY = oracles.binary_world()


@pytest.mark.parametrize("kind", KINDS)
def test_binary_latents_stay_at_their_posterior(kind):
  mask = jnp.asarray([True, False, False, True])
  evidence, likelihood = kinds(BINARY.x, mask, (2, 2, 1))[kind]
  states, everything = binary_vectors(3), binary_vectors(4)
  joint = lambda z: jax.vmap(
    lambda x: jnp.exp(log_joint(BINARY.model, BINARY.params, x, z)) * likelihood(x)
  )(everything)
  posterior = jax.vmap(joint)(states).sum(axis=1)
  posterior = np.asarray(posterior / posterior.sum())
  start = np.random.default_rng(0).choice(8, size=40_000, p=posterior)
  for corrected in (True, False):
    z = after(BINARY, evidence, states[start], corrected=corrected)
    number = np.rint(np.asarray(z) @ 2 ** np.arange(3)).astype(int)
    if corrected:
      assert_unbiased(number[:, None] == np.arange(8), posterior, detects=0.1)
    else:  # the planted error: q is not the posterior
      with pytest.raises(AssertionError, match="max"):
        assert_unbiased(number[:, None] == np.arange(8), posterior)


AFFINE = oracles.affine_world()
KNOWN = jnp.asarray([True, True, False, True, False])


def posterior_of_z(world):
  """Returns the mean and covariance of z, given only the known pixels."""
  kernel, bias = (world.params.theta["mean"][name] for name in ("kernel", "bias"))
  log_var = world.params.theta["log_var"][KNOWN]
  theta = {"mean": {"kernel": kernel[:, KNOWN], "bias": bias[KNOWN]}, "log_var": log_var}
  return lg.posterior(theta, world.x[KNOWN])


def conditional_of_x(world):
  """Returns the mean and covariance of the missing pixels given the known ones."""
  kernel, bias = (np.asarray(world.params.theta["mean"][name]) for name in ("kernel", "bias"))
  covariance = kernel.T @ kernel + np.diag(np.exp(world.params.theta["log_var"]))
  m, o = ~np.asarray(KNOWN), np.asarray(KNOWN)
  gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
  mean = bias[m] + gain @ (np.asarray(world.x)[o] - bias[o])
  return mean, covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)]


def moments(values, mean):
  """Turns draws (n, k) into errors and products of errors, (n, k + k (k + 1) / 2)."""
  error = np.asarray(values) - np.asarray(mean)
  pairs = itertools.combinations_with_replacement(range(error.shape[1]), 2)
  return np.concatenate([error, np.array([error[:, i] * error[:, j] for i, j in pairs]).T], axis=1)


def exact_moments(covariance):
  upper = np.triu_indices(len(covariance))
  return np.concatenate([np.zeros(len(covariance)), np.asarray(covariance)[upper]])


def test_gaussian_latents_stay_at_their_posterior():
  mean, covariance = posterior_of_z(AFFINE)
  noise = np.random.default_rng(0).normal(size=(40_000, 3))
  start = mean[None] + jnp.asarray(noise) @ jnp.linalg.cholesky(covariance).T
  evidence = observed(jnp.where(KNOWN, AFFINE.x, jnp.nan), KNOWN)
  exact = exact_moments(covariance)
  z = after(AFFINE, evidence, start, corrected=True)
  assert np.mean(np.any(z != start, axis=1)) > 0.3  # the chains did move
  assert_unbiased(moments(z, mean), exact, detects_shift=0.05)
  pseudo = after(AFFINE, evidence, start, corrected=False)
  with pytest.raises(AssertionError, match="max"):
    assert_unbiased(moments(pseudo, mean), exact)


METHODS = {
  "gibbs": missing.complete_by_gibbs,
  "pseudo_gibbs": functools.partial(missing.complete_by_gibbs, corrected=False),
  "hmc": functools.partial(missing.complete_by_hmc, num_leapfrogs=5),
}
EXACT = oracles.exact_posterior_world()


# The same with a wrong q: its standard deviation is 1.5 times too large, and its mean is off.
BESIDE = EXACT._replace(
  params=EXACT.params._replace(
    phi={
      "mean": EXACT.params.phi["mean"] | {"bias": EXACT.params.phi["mean"]["bias"] + 0.3},
      "log_var": EXACT.params.phi["log_var"] + 2 * np.log(1.5),
    }
  )
)


def completed(world, method, *, seed=0, **how):
  evidence = observed(jnp.where(KNOWN, world.x, jnp.nan), KNOWN)
  run = lambda key: METHODS[method](key, world.model, world.params, evidence, **how)
  return jax.jit(run)(jax.random.key(seed))


@pytest.mark.parametrize("method", METHODS)
def test_completions_from_the_prior_are_of_the_conditional(method):
  # q is the posterior here, so that no correction is needed.
  mean, covariance = conditional_of_x(EXACT)
  drawn = completed(EXACT, method, num_chains=10_000, num_burn_in=60, num_samples=1)
  np.testing.assert_allclose(drawn.x[:, KNOWN], jnp.tile(EXACT.x[KNOWN], (10_000, 1)))
  exact = exact_moments(covariance)
  assert_unbiased(moments(drawn.x[:, ~KNOWN], mean), exact, detects_shift=0.1)
  if method != "hmc":
    np.testing.assert_allclose(drawn.acceptance, 1, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_where_q_is_wrong_only_correct_chains_end_at_the_conditional(method):
  mean, covariance = conditional_of_x(BESIDE)
  drawn = completed(BESIDE, method, num_chains=10_000, num_burn_in=60, num_samples=1)
  compare = functools.partial(assert_unbiased, moments(drawn.x[:, ~KNOWN], mean))
  if method != "pseudo_gibbs":
    compare(exact_moments(covariance), detects_shift=0.1)
  else:
    with pytest.raises(AssertionError, match="max"):
      compare(exact_moments(covariance))


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_is_that_of_all_draws(method):
  def run(key):
    evidence = observed(EXACT.x, KNOWN)
    how = dict(num_chains=2, num_burn_in=40, num_samples=5)
    return METHODS[method](key, EXACT.model, EXACT.params, evidence, **how)

  drawn = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(3), 1000))
  assert drawn.z.shape == (1000, 2, 5, 3) and drawn.x.shape == (1000, 2, 5)
  kernel, bias = (EXACT.params.theta["mean"][name] for name in ("kernel", "bias"))
  expected = drawn.z.mean(axis=(1, 2)) @ kernel + bias[None]
  np.testing.assert_allclose(drawn.mean[:, ~KNOWN], expected[:, ~KNOWN], rtol=1e-9)
  assert_unbiased(drawn.mean[:, ~KNOWN], conditional_of_x(EXACT)[0], detects_shift=0.1)
  # Draws of one chain are not all the same.
  assert np.mean(drawn.z[:, :, 0] != drawn.z[:, :, -1]) > 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [200.0, -200.0])
def test_single_precision_at_the_extremes(kind, size):
  with jax.enable_x64(False):
    x, logits = X.astype(jnp.float32), jnp.full(8, size, jnp.float32)
    evidence, _ = kinds(x, MASK, SHAPE)[kind]
    p_of = lambda logits: distribution(bernoulli(8), Bernoulli(logits))
    value, gradient = jax.value_and_grad(lambda logits: evidence.log_prob(p_of(logits)))(logits)
    assert value.dtype == jnp.float32 and np.isfinite(value) and np.isfinite(gradient).all()
    mean, drawn = evidence.mean(p_of(logits)), evidence.sample(jax.random.key(0), p_of(logits))
    assert np.isfinite(mean).all() and np.isfinite(drawn).all()
    if kind == "block_sums":  # for any logits of the decoder
      sums = sum_blocks(x, SHAPE, 2)
      np.testing.assert_array_equal(sum_blocks(drawn, SHAPE, 2), sums)
      np.testing.assert_allclose(sum_blocks(mean, SHAPE, 2), sums, atol=1e-4)


def test_sums_that_a_decoder_holds_for_impossible():
  # Their probabilities, down to exp(-320), would be 0 in float32; in float64 they are not.
  rng = np.random.default_rng(0)
  logits = np.concatenate([rng.normal(size=(17, 16)) * 30, np.full((17, 16), 20.0)])
  counts = np.tile(np.arange(17), 2)

  def log_prob(logits, count):
    p = distribution(bernoulli(16), Bernoulli(logits))
    return block_sums(count[None], (4, 4, 1), 4).log_prob(p)

  exact = []
  for row, count in zip(logits, counts):
    of_sums = np.array([0.0])  # log-probabilities, pixel by pixel
    for logit in row:
      on, off = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
      of_sums = np.logaddexp(np.append(of_sums, -np.inf) + off, np.append(-np.inf, of_sums) + on)
    exact.append(of_sums[count])
  assert min(exact) < -250
  np.testing.assert_allclose(jax.jit(jax.vmap(log_prob))(logits, counts), exact, atol=1e-9)
  with jax.enable_x64(False):
    of_each = jax.jit(jax.vmap(jax.value_and_grad(log_prob)))
    values, gradients = of_each(logits.astype(np.float32), counts.astype(np.int32))
  np.testing.assert_allclose(values, exact, rtol=1e-5, atol=1e-4)
  assert values.dtype == jnp.float32 and np.isfinite(gradients).all()


def test_refusals():
  with pytest.raises(ValueError, match="probability of errors of 0"):
    flipped(X, 0)
  with pytest.raises(ValueError, match="squares of 3 pixels do not fill an image of 2 by 4"):
    block_sums(jnp.zeros(1), SHAPE, 3)
  model, params, x = AFFINE
  p = model.decoder.given(params.theta, jnp.zeros(3))
  for evidence in (flipped(x, 0.1), block_sums(jnp.zeros(5), (5, 1, 1), 1)):
    sample = functools.partial(evidence.sample, jax.random.key(0))
    for use in (evidence.log_prob, evidence.mean, sample):
      with pytest.raises(UnsupportedError, match="take a Bernoulli decoder, not a DiagonalG"):
        use(p)
  evidence = observed(BINARY.x, jnp.asarray([True, False, True, True]))
  how = dict(num_chains=2, num_burn_in=2, num_samples=2)
  with pytest.raises(UnsupportedError, match="complete_by_hmc moves z .* is Bernoulli"):
    missing.complete_by_hmc(
      jax.random.key(0), BINARY.model, BINARY.params, evidence, num_leapfrogs=2, **how
    )
  with pytest.raises(ValueError, match="num_samples is 0"):
    how = how | dict(num_samples=0)
    missing.complete_by_gibbs(jax.random.key(0), BINARY.model, BINARY.params, evidence, **how)
