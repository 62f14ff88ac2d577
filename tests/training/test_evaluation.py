"""Evaluation over a whole set, and the mean of its values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import elbo_a, evaluate, mean_and_standard_error
from aevb_jax.data.preprocess import binarize, scale
from aevb_jax.errors import DataError
from aevb_jax.training import evaluate_in_blocks
from tests.training.test_fitting import MODEL, PIXELS, algorithm


@pytest.mark.parametrize("batch_size", [1, 5, 23, 500])
def test_evaluation_counts_every_example_once(batch_size):
  params = algorithm().init(jax.random.key(0)).params
  bound = lambda key, params, x: elbo_a(key, MODEL, params, x)
  values = evaluate(bound, jax.random.key(2), params, PIXELS, batch_size=batch_size)
  for i in (0, 4, 22):
    key = jax.random.split(jax.random.fold_in(jax.random.key(2), i))[1]
    expected = elbo_a(key, MODEL, params, jnp.asarray(PIXELS[i] / 255))
    np.testing.assert_allclose(values[i], expected, rtol=1e-11)
  assert values.shape == (23,)


@pytest.mark.parametrize("block_size", [1, 7, 23, 100])
def test_evaluation_in_blocks_is_evaluation(block_size):
  params = algorithm().init(jax.random.key(0)).params
  bound = lambda key, params, x: {"bound": elbo_a(key, MODEL, params, x)}
  whole = evaluate(bound, jax.random.key(2), params, PIXELS, preprocess=binarize)["bound"]
  sizes = []
  parts = evaluate_in_blocks(
    bound,
    jax.random.key(2),
    params,
    PIXELS,
    block_size=block_size,
    progress=sizes.append,
    preprocess=binarize,
  )
  np.testing.assert_allclose(parts["bound"], whole, rtol=1e-12)
  assert sum(sizes) == 23 and max(sizes) <= block_size


def test_evaluation_preprocesses_and_returns_trees():
  def function(key, params, x):
    return {"x": x, "sum": jnp.sum(x) + params}

  values = evaluate(function, jax.random.key(0), 1.0, PIXELS, batch_size=4)
  np.testing.assert_allclose(values["x"], PIXELS / 255, rtol=1e-12)
  np.testing.assert_allclose(values["sum"], PIXELS.sum(1) / 255 + 1, rtol=1e-12)
  binary = evaluate(function, jax.random.key(0), 1.0, PIXELS, preprocess=binarize)["x"]
  assert set(np.unique(binary)) == {0.0, 1.0}
  np.testing.assert_array_equal(scale(jax.random.key(0), jnp.asarray(PIXELS[0])), values["x"][0])


def test_mean_and_standard_error():
  values = np.random.default_rng(0).normal(size=1000).astype(np.float32) + 1000
  mean, error = mean_and_standard_error(values)
  np.testing.assert_allclose(mean, np.mean(values.astype(np.float64)), rtol=1e-14)
  np.testing.assert_allclose(error, 1 / np.sqrt(1000), rtol=0.1)
  assert np.isnan(mean_and_standard_error(np.ones(1)).standard_error)


@pytest.mark.parametrize("each", [evaluate, evaluate_in_blocks])
def test_no_examples_are_refused(each):
  with pytest.raises(DataError, match="no examples"):
    each(lambda key, params, x: x, jax.random.key(0), (), PIXELS[:0])
