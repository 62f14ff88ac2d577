"""β-weighting, warm-up and free bits: the right objective for any estimator, at no extra cost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import elbo_a, elbo_b, iwae, kl_divergence, standard_normal
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators import beta_weighted, floored_kl, free_bits, kl_warmup
from aevb_jax.estimators.score_functions import score_function
from aevb_jax.families import kl_per_latent
from aevb_jax.inference.exact import exact_elbo
from tests.support import oracles
from tests.support.statistics import assert_unbiased

P = functools.partial
WORLD = oracles.affine_world()


def q_and_p(world, params):
  return world.model.encoder.given(params.phi, world.x), world.model.prior(params)


def kl(world, params):
  return kl_divergence(*q_and_p(world, params))


def value_and_grad(estimator, world=WORLD):
  return oracles.value_and_grad(
    lambda p: estimator(jax.random.key(0), world.model, p, world.x, num_samples=3)
  )(world.params)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_beta_multiplies_the_kl_alone(beta):
  reconstruction = lambda key, model, params, x, num_samples: elbo_b(
    key, model, params, x, num_samples=num_samples, kl=lambda q, p: jnp.float64(0)
  )
  by_hand = lambda *args, num_samples: (
    reconstruction(*args, num_samples=num_samples) - beta * kl(WORLD, args[2])
  )
  for a, b in zip(
    jax.tree.leaves(value_and_grad(beta_weighted(elbo_b, beta))),
    jax.tree.leaves(value_and_grad(by_hand)),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("estimator", [elbo_a, score_function])
@pytest.mark.parametrize("world", [oracles.bernoulli_world(), oracles.binary_world()])
def test_unbiased_over_any_unbiased_estimator(estimator, world):
  if estimator is elbo_a and not q_and_p(world, world.params)[0].reparameterized:
    pytest.skip("elbo_a takes no binary latents")
  exact, exact_gradient = oracles.value_and_grad(
    lambda params: exact_elbo(world.model, params, world.x) + 0.7 * kl(world, params)
  )(world.params)
  values, gradients = oracles.draws(beta_weighted(estimator, 0.3), world, 40_000, num_samples=2)
  assert_unbiased(values, exact, detects=0.02)
  assert_unbiased(oracles.rows(gradients.phi), oracles.flat(exact_gradient.phi), detects=0.5)


def test_free_bits_by_hand():
  terms = np.asarray(kl_per_latent(*q_and_p(WORLD, WORLD.params)))
  nats = np.sort(terms)[1] + 1e-3  # one latent is above, two are below
  value, gradients = value_and_grad(free_bits(elbo_b, nats))
  plain, plain_gradients = value_and_grad(elbo_b)
  expected = plain + terms.sum() - np.maximum(terms, nats).sum()
  np.testing.assert_allclose(value, expected, rtol=1e-12)
  # Below λ the KL has no gradient, so only the reconstruction moves the latent.
  kl_gradient = oracles.grad(lambda p: kl(WORLD, p))(WORLD.params).phi["log_var"]
  difference = gradients.phi["log_var"] - plain_gradients.phi["log_var"]
  np.testing.assert_allclose(difference, np.where(terms < nats, kl_gradient, 0), atol=1e-12)


@pytest.mark.parametrize("beta", [0.25, 4.0])
def test_weighted_free_bits_stay_free(beta):
  terms = np.asarray(kl_per_latent(*q_and_p(WORLD, WORLD.params)))
  nats = terms.max() + 1  # all terms are below
  objective = beta_weighted(free_bits(elbo_b, nats), beta, kl=floored_kl(nats))
  value, gradients = value_and_grad(objective)
  reconstruction, of_reconstruction = value_and_grad(beta_weighted(elbo_b, 0.0))
  np.testing.assert_allclose(value, reconstruction - beta * 3 * nats, rtol=1e-12)
  np.testing.assert_allclose(
    oracles.flat(gradients.phi), oracles.flat(of_reconstruction.phi), rtol=1e-9, atol=1e-12
  )


def test_no_free_bits_change_nothing():
  np.testing.assert_allclose(
    value_and_grad(free_bits(iwae, 0.0))[0], value_and_grad(iwae)[0], rtol=1e-12
  )


def test_warm_up():
  warmup = kl_warmup(elbo_a, 10, beta=2.0)
  for step, beta in ((0, 0.0), (5, 1.0), (10, 2.0), (1000, 2.0)):
    value, _ = value_and_grad(warmup.at(jnp.asarray(step)))
    expected, _ = value_and_grad(beta_weighted(elbo_a, beta))
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_training_follows_the_schedule():
  batch = jnp.stack([WORLD.x, WORLD.x + 1])
  train = lambda estimator: aevb(WORLD.model, estimator, optax.sgd(0.1), num_data=2)
  scheduled = train(kl_warmup(elbo_b, 4))
  state = scheduled.init(jax.random.key(0))
  update = jax.jit(scheduled.update)
  for step in range(6):
    plain = train(beta_weighted(elbo_b, min(1.0, step / 4)))
    expected, _ = plain.update(state, batch)
    state, _ = update(state, batch)
    np.testing.assert_allclose(
      oracles.flat(state.params.phi), oracles.flat(expected.params.phi), rtol=1e-9
    )


def test_the_encoder_runs_once():
  world = oracles.bernoulli_world()
  wrapped = free_bits(beta_weighted(elbo_b, 0.5), 0.1)
  gradient = oracles.grad(
    lambda p: wrapped(jax.random.key(0), world.model, p, world.x, num_samples=5)
  )
  plain = jax.grad(lambda p: elbo_b(jax.random.key(0), world.model, p, world.x, num_samples=5))
  count = lambda function: str(jax.make_jaxpr(function)(world.params)).count(" = product")
  assert count(gradient) == count(plain)


def test_bad_arguments():
  with pytest.raises(ValueError, match="nats is -1"):
    free_bits(elbo_b, -1)
  with pytest.raises(ValueError, match="num_steps is 0"):
    kl_warmup(elbo_b, 0)

  class Learned:  # stands for the eta of a prior
    pass

  model = WORLD.model._replace(prior=lambda params: standard_normal(3)._replace(eta=Learned()))
  for wrapped in (beta_weighted(elbo_a, 0.5), free_bits(elbo_a, 0.5)):
    with pytest.raises(UnsupportedError, match="no closed form.*DiagonalGaussian ‖ Learned"):
      wrapped(jax.random.key(0), model, *WORLD[1:])
