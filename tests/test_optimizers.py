"""Adagrad as the paper's experiments used it, and step sizes inside the state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import optimizers


def test_adagrad_written_out():
  rng = np.random.default_rng(0)
  gradients = rng.normal(size=(6, 4)) * np.asarray([1e-3, 1.0, 10.0, 0.0])
  optimizer = optimizers.adagrad(0.02, warmup_steps=2)
  params = expected = np.ones(4)
  state = optimizer.init(jnp.asarray(params))
  accumulator = np.zeros(4)  # and not 0.1
  for step, gradient in enumerate(gradients):
    updates, state = optimizer.update(jnp.asarray(gradient), state)
    params = optax.apply_updates(params, updates)
    accumulator += gradient**2
    if step >= 2:  # the first two steps only accumulate
      expected = expected - 0.02 * gradient / np.sqrt(accumulator + 1e-8)
    np.testing.assert_allclose(params, expected, rtol=1e-12)
  assert params[3] == 1  # a coordinate without gradient does not move


def test_adagrad_does_not_depend_on_the_scale_of_gradients():
  # With optax's own accumulator of 0.1, the smaller would hardly move.
  moves = []
  for scale in (1.0, 1e-2):
    optimizer = optimizers.adagrad(0.02)
    state = optimizer.init(jnp.zeros(()))
    total = 0.0
    for _ in range(105):
      update, state = optimizer.update(jnp.asarray(scale), state)
      total += update
    moves.append(total)
  np.testing.assert_allclose(moves[0], moves[1], rtol=1e-5)
  np.testing.assert_allclose(moves[0], -0.02 * sum(1 / np.sqrt(np.arange(101, 106))), rtol=1e-6)


@pytest.mark.parametrize(
  "make",
  [functools.partial(optimizers.adagrad, warmup_steps=0), optimizers.adam, optimizers.sgd],
)
def test_step_sizes_can_be_swept_by_vmap(make):
  step_sizes = jnp.asarray([0.01, 0.02, 0.1])
  gradient = jnp.asarray([0.5, -2.0])

  def after(step_size):
    optimizer = make(step_size)
    state = optimizer.init(jnp.zeros(2))
    total = jnp.zeros(2)
    for _ in range(3):
      updates, state = optimizer.update(gradient, state, total)
      total = optax.apply_updates(total, updates)
    return total

  singles = jnp.stack([after(float(s)) for s in step_sizes])
  np.testing.assert_allclose(jax.vmap(after)(step_sizes), singles, rtol=1e-12)
  assert np.all(singles[:, 0] < 0) and np.all(singles[:, 1] > 0)
  state = make(0.02).init(jnp.zeros(2))
  assert float(state.hyperparams["step_size"]) == 0.02
