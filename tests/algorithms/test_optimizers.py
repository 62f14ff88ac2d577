"""Adagrad as the paper's experiments used it, and step sizes inside the state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax.algorithms import optimizers


def test_adagrad_written_out():
  rng = np.random.default_rng(0)
  gradients = rng.normal(size=(6, 4)) * np.asarray([1e-3, 1.0, 10.0, 0.0])
  optimizer = optimizers.adagrad(0.02, warmup_steps=2)
  params = expected = np.ones(4)
  state = optimizer.init(jnp.asarray(params))
  accumulator = np.zeros(4)  # optax starts at 0.1
  for step, gradient in enumerate(gradients):
    updates, state = optimizer.update(jnp.asarray(gradient), state)
    params = optax.apply_updates(params, updates)
    accumulator += gradient**2
    if step >= 2:  # the first two steps only accumulate
      expected = expected - 0.02 * gradient / np.sqrt(accumulator + 1e-8)
    np.testing.assert_allclose(params, expected, rtol=1e-12)
  assert params[3] == 1  # a coordinate without gradient does not move


def test_adagrad_does_not_depend_on_the_scale_of_gradients():
  # With optax's initial accumulator of 0.1, the smaller gradient would hardly move anything.
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


def test_stages_written_out():
  # Burda et al.: 0.001·10^(−i/7) for 3^i epochs, i = 0…7; here epochs of two updates.
  epochs = [3**i for i in range(8)]
  expected = np.repeat([10 ** (-i / 7) for i in range(8)], [2 * n for n in epochs])
  assert len(expected) == 2 * 3280
  factor = jax.jit(optimizers.stages([2 * n for n in epochs]))
  factors = jax.vmap(factor)(jnp.arange(2 * 3280, dtype=jnp.int32))
  np.testing.assert_allclose(factors, expected, rtol=1e-12)
  np.testing.assert_allclose(factor(jnp.int32(10**9)), 0.1, rtol=1e-12)  # after the last stage
  assert float(optimizers.stages([5])(jnp.int32(7))) == 1


def test_stages_longer_than_updates_are_counted():
  factor = optimizers.stages([2**31 - 3, 10**15, 10**30])
  at = lambda step: float(factor(jnp.int32(step)))
  assert at(2**31 - 4) == 1 and at(2**31 - 3) == 10 ** (-1 / 7)


@pytest.mark.parametrize("lengths", [[], [3, 0], [-1]])
def test_stages_that_there_are_not(lengths):
  with pytest.raises(ValueError, match="takes at least one"):
    optimizers.stages(lengths)


@pytest.mark.parametrize(
  "make",
  [functools.partial(optimizers.adagrad, warmup_steps=1), optimizers.adam, optimizers.sgd],
)
def test_a_scheduled_update_is_the_plain_one_times_its_factor(make):
  gradients = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
  schedule = optimizers.stages([2, 3], decay=0.5)

  def updates_of(step_size, **how):
    optimizer = make(step_size, **how)
    state, updates = optimizer.init(jnp.zeros(3)), []
    for gradient in gradients:
      update, state = optimizer.update(gradient, state, jnp.zeros(3))
      updates.append(update)
    return jnp.stack(updates)

  factors = np.asarray([1, 1, 0.5, 0.5, 0.5, 0.5])[:, None]
  expected = factors * updates_of(0.02)
  np.testing.assert_allclose(updates_of(0.02, schedule=schedule), expected, rtol=1e-12)
  # The step size stays a number of the state, so that members of a sweep have their own.
  swept = jax.vmap(functools.partial(updates_of, schedule=schedule))(jnp.asarray([0.02, 0.06]))
  np.testing.assert_allclose(swept, jnp.stack([expected, 3 * expected]), rtol=1e-12)


def test_eps_of_adam():
  gradient = jnp.asarray([1e-6, 1.0])
  optimizer = optimizers.adam(0.1, eps=1e-6)
  update, _ = optimizer.update(gradient, optimizer.init(jnp.zeros(2)))
  np.testing.assert_allclose(update, [-0.05, -0.1], rtol=1e-5)  # -0.1 g / (|g| + eps)
