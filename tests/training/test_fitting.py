"""The order of the data, the compiled scan, and evaluation over a whole set."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import (
  bernoulli,
  elbo_b,
  evaluate,
  fit,
  fit_streamed,
  mlp_vae,
)
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.optimizers import adam
from aevb_jax.data.minibatches import minibatch_indices, order_key, stream
from aevb_jax.data.preprocess import binarize
from aevb_jax.types import Algorithm, TrainState

PIXELS = np.random.default_rng(0).integers(0, 256, size=(23, 6), dtype=np.uint8)
MODEL = mlp_vae(bernoulli(6), data_dim=6, latent_dim=2, hidden_dim=5)


def algorithm(estimator=elbo_b, step_size=1e-2):
  return aevb(MODEL, estimator, adam(step_size), num_data=23)


def leaves(state):
  return [np.asarray(leaf) for leaf in jax.tree.leaves((state.step, state.params, state.opt_state))]


def test_two_halves_are_the_whole_bit_for_bit():
  whole_algorithm = algorithm()
  run = functools.partial(fit, whole_algorithm, batch_size=5, preprocess=binarize)
  whole, whole_metrics = run(
    whole_algorithm.init(jax.random.key(0)), jax.random.key(1), PIXELS, num_steps=14
  )
  half, first = run(whole_algorithm.init(jax.random.key(0)), jax.random.key(1), PIXELS, num_steps=7)
  half, second = run(half, jax.random.key(1), PIXELS, num_steps=7)
  for a, b in zip(leaves(whole), leaves(half)):
    np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(
    whole_metrics["bound"], np.concatenate([first["bound"], second["bound"]])
  )


def test_images_that_are_not_rows_are_refused():
  one, images = algorithm(), PIXELS.reshape(23, 2, 3)
  with pytest.raises(ValueError, match=r"shape \(23, 2, 3\).*rows \(N, D\).*reshape"):
    fit(one, one.init(jax.random.key(0)), jax.random.key(1), images, batch_size=5, num_steps=1)


def test_the_scan_is_the_loop():
  one = algorithm()
  state, metrics = fit(
    one, one.init(jax.random.key(0)), jax.random.key(1), PIXELS, batch_size=5, num_steps=6
  )
  looped = one.init(jax.random.key(0))
  update = jax.jit(one.update)
  order = minibatch_indices(order_key(jax.random.key(1)), looped.step, 6, num_data=23, batch_size=5)
  for step, index in enumerate(order):
    looped, looped_metrics = update(looped, jnp.asarray(PIXELS[index] / 255))
    np.testing.assert_allclose(metrics["bound"][step], looped_metrics["bound"], rtol=1e-10)
  for a, b in zip(leaves(state), leaves(looped)):
    np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def binarized_patterns(num_steps, **how):
  """Trains on one of four gray images per step; returns each step's binary pixels as a number."""
  gray = np.full((4, 6), 128, np.uint8)
  seen = aevb(
    MODEL,
    lambda key, model, params, x: jnp.sum(x * 2.0 ** jnp.arange(6)),
    optax.sgd(0.0),
    num_data=4,
  )
  _, metrics = fit(
    seen,
    seen.init(jax.random.key(0)),
    jax.random.key(1),
    gray,
    batch_size=1,
    num_steps=num_steps,
    preprocess=binarize,
    **how,
  )
  return np.asarray(metrics["bound"])


def test_dynamic_binarization_is_fresh_at_every_step():
  assert len(np.unique(binarized_patterns(40))) > 25  # of 64 patterns


def test_static_binarization_draws_once_for_every_example():
  static_key = jax.random.key(5)
  seen = binarized_patterns(40, static_key=static_key)
  keys = [jax.random.fold_in(static_key, i) for i in range(4)]
  draws = [binarize(key, jnp.full(6, 128, jnp.uint8)) for key in keys]
  expected = [float(jnp.sum(x * 2.0 ** jnp.arange(6))) for x in draws]
  assert len(set(expected)) == 4 and set(seen) == set(expected)
  order = minibatch_indices(
    order_key(jax.random.key(1)), jnp.int32(0), 40, num_data=4, batch_size=1
  )
  np.testing.assert_array_equal(seen, np.asarray(expected)[order[:, 0]])


def test_evaluation_reads_the_static_draw_that_training_reads():
  static_key = jax.random.key(5)
  identity = lambda key, params, x: x
  how = dict(preprocess=binarize, static_key=static_key)
  x = evaluate(identity, jax.random.key(0), (), PIXELS, **how)
  np.testing.assert_array_equal(x, evaluate(identity, jax.random.key(1), (), PIXELS, **how))
  for i in (0, 22):
    one = binarize(jax.random.fold_in(static_key, i), jnp.asarray(PIXELS[i]))
    np.testing.assert_array_equal(x[i], one)


@pytest.mark.parametrize("static_key", [None, jax.random.key(5)], ids=["dynamic", "static"])
def test_streamed_training_is_resident_training_bit_for_bit(static_key):
  how = dict(preprocess=binarize, static_key=static_key)
  one = algorithm()
  resident, metrics = fit(
    one, one.init(jax.random.key(0)), jax.random.key(1), PIXELS, batch_size=5, num_steps=14, **how
  )
  streamed, bounds = one.init(jax.random.key(0)), []
  for lengths in ([4, 2], [8]):  # stopped after six steps, and resumed only from the state
    start = int(streamed.step)
    for minibatches in stream(PIXELS, jax.random.key(1), lengths, batch_size=5, start=start):
      streamed, more = fit_streamed(one, streamed, jax.random.key(1), minibatches, **how)
      bounds.append(more["bound"])
  for a, b in zip(leaves(resident), leaves(streamed)):
    np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(metrics["bound"], np.concatenate(bounds))


def test_algorithms_are_told_which_examples_they_see():
  spy = Algorithm(
    init=lambda key: TrainState(jnp.int32(0), (), (), key),
    update=lambda state, batch, index: (
      state._replace(step=state.step + 1),
      {"index": index, "batch": batch},
    ),
  )
  state, key = spy.init(jax.random.key(0)), jax.random.key(1)
  _, seen = fit(spy, state, key, PIXELS, batch_size=5, num_steps=6)
  expected = minibatch_indices(order_key(key), jnp.int32(0), 6, num_data=23, batch_size=5)
  np.testing.assert_array_equal(seen["index"], expected)
  assert seen["index"].dtype == jnp.int32
  np.testing.assert_allclose(seen["batch"], PIXELS[np.asarray(expected)] / 255, rtol=1e-12)
  (minibatches,) = stream(PIXELS, key, [6], batch_size=5)
  _, streamed = fit_streamed(spy, spy.init(jax.random.key(0)), key, minibatches)
  np.testing.assert_array_equal(streamed["index"], expected)
  np.testing.assert_allclose(streamed["batch"], seen["batch"], rtol=1e-12)


def test_training_is_compiled_once():
  traces = []

  def counted(key, model, params, x):
    traces.append(1)
    return elbo_b(key, model, params, x)

  one = algorithm(counted)
  state = one.init(jax.random.key(0))
  for _ in range(3):
    state, _ = fit(one, state, jax.random.key(1), PIXELS, batch_size=5, num_steps=4)
  assert len(traces) == 1 and state.step == 12


def test_the_state_is_donated():
  one = algorithm()
  state = one.init(jax.random.key(0))
  fit(one, state, jax.random.key(1), PIXELS, batch_size=5, num_steps=2)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_training_raises_the_bound():
  one = algorithm()
  bound = lambda key, params, x: elbo_b(key, MODEL, params, x, num_samples=50)
  state = one.init(jax.random.key(0))
  before = evaluate(bound, jax.random.key(2), state.params, PIXELS).mean()
  state, _ = fit(one, state, jax.random.key(1), PIXELS, batch_size=5, num_steps=500)
  assert evaluate(bound, jax.random.key(2), state.params, PIXELS).mean() > before + 0.3


def test_a_minibatch_larger_than_the_data_is_refused():
  one = algorithm()
  with pytest.raises(ValueError, match="batch_size is 24, but the data set has 23 examples"):
    fit(one, one.init(jax.random.key(0)), jax.random.key(1), PIXELS, batch_size=24, num_steps=1)


def test_floats_that_nobody_has_scaled_are_told():
  """Under a Bernoulli, unscaled floats of 0…255 reach bounds that no log-probability can have."""
  one = algorithm()

  def train(pixels, **how):
    state = one.init(jax.random.key(0))
    return fit(one, state, jax.random.key(1), pixels, batch_size=5, num_steps=2, **how)

  with pytest.warns(UserWarning, match="floats from 0 to 2.., .* divide them by 255"):
    train(PIXELS.astype(np.float32))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    state, _ = train(PIXELS)
    train(PIXELS / np.float32(255))
    train((PIXELS > 127).astype(np.float32))
    train(np.random.default_rng(1).normal(size=PIXELS.shape))  # data for a density on all numbers
    train(PIXELS.astype(np.float32), preprocess=lambda key, pixels: pixels / 255)
    # A run that resumes had its warning at the start.
    fit(one, state, jax.random.key(1), PIXELS.astype(float), batch_size=5, num_steps=2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_is_named_before_the_first_step(value):
  """The pixel is named wherever it is; a preprocessing of one's own may handle it."""
  pixels = np.full((1200, 6), 0.5, np.float32)
  one = algorithm()

  def train(state, **how):
    return fit(one, state, jax.random.key(1), pixels, batch_size=5, num_steps=1, **how)

  with warnings.catch_warnings():
    warnings.simplefilter("error")
    state, _ = train(one.init(jax.random.key(0)))
  pixels[1100, 4] = value
  pixels[1101, 0] = np.nan
  words = rf"the first that is not is {value}, at index \(1100, 4\); correct or leave out"
  with pytest.warns(UserWarning, match=words) as caught:
    train(one.init(jax.random.key(0)))
  assert len(caught) == 1 and caught[0].filename == __file__
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    train(state)
    handled = lambda key, x: jnp.nan_to_num(x, posinf=1.0, neginf=0.0)
    train(one.init(jax.random.key(0)), preprocess=handled)
