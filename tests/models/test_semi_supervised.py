"""The data points of M2, the choice of labels, and the features of M1."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import aevb, binarize, data, elbo_b, evaluate, fit, mlp_vae
from aevb_jax.estimators import is_mistaken, semi_supervised_bound
from aevb_jax.families import bernoulli, gaussian
from aevb_jax.models import encoded, init_params, keep_few_labels, labelled_rows, m2_vae
from tests.support.statistics import assert_unbiased

X = np.arange(12, dtype=np.uint8).reshape(4, 3)


def test_rows_have_the_labels_that_are_known():
  rows = labelled_rows(X, [1, -1, 0, -1], num_classes=2, copies=2)
  expected = [
    [3, 4, 5, 0, 0], [9, 10, 11, 0, 0], [0, 1, 2, 0, 1], [6, 7, 8, 1, 0], [0, 1, 2, 0, 1],
    [6, 7, 8, 1, 0],
  ]  # fmt: skip
  np.testing.assert_array_equal(rows, expected)
  assert rows.dtype == np.uint8
  assert labelled_rows(X / 255, [1, -1, 0, -1], num_classes=2).dtype == np.float64


def test_preprocessing_leaves_labels_as_they_are():
  row = jnp.array([0, 255, 51, 0, 1], jnp.uint8)
  of_row = data.beside(data.scale, 3)
  np.testing.assert_allclose(of_row(jax.random.key(0), row), [0, 1, 0.2, 0, 1])
  keys = jax.random.split(jax.random.key(1), 20000)
  drawn = jax.vmap(data.beside(binarize, 3), (0, None))(keys, row)
  assert_unbiased(drawn[:, 2], 0.2, detects=0.1)
  np.testing.assert_array_equal(drawn[:, 3:], np.tile([0.0, 1.0], (20000, 1)))


def test_few_labels_are_the_same_number_of_each_class():
  labels = np.random.default_rng(0).integers(0, 3, 500)
  kept = keep_few_labels(labels, 60, num_classes=3, seed=4)
  known = kept >= 0
  np.testing.assert_array_equal(kept[known], labels[known])
  assert [np.sum(kept == k) for k in range(3)] == [20, 20, 20]
  np.testing.assert_array_equal(kept, keep_few_labels(labels, 60, num_classes=3, seed=4))
  assert np.any(kept != keep_few_labels(labels, 60, num_classes=3, seed=5))


def test_networks_of_m2_share_nothing_and_have_the_same_options():
  model, classifier = m2_vae(
    bernoulli(3),
    data_dim=3,
    num_classes=2,
    latent_dim=1,
    hidden_dim=(5, 4),
    bias_init=jax.nn.initializers.constant(0.25),
    posterior=gaussian,
  )
  params = init_params(jax.random.key(0), model)
  shapes = {name: own["hidden_0"]["kernel"].shape for name, own in params.phi.items()}
  assert shapes == {"encoder": (3, 5), "classifier": (3, 5)}
  assert params.phi["encoder"]["hidden_0_condition"].shape == (2, 5)
  assert params.theta["hidden_0_condition"].shape == (2, 4)
  biases = [a for a in jax.tree.leaves(params) if a.ndim == 1]
  assert len(biases) == 3 + 4 + 3 and all(np.all(b == 0.25) for b in biases)
  np.testing.assert_allclose(jnp.sum(classifier.given(params.phi, jnp.ones(3)).mean), 1)


def test_features_are_draws_of_the_encoder():
  model = mlp_vae(bernoulli(3), data_dim=3, latent_dim=2, hidden_dim=4)
  params = init_params(jax.random.key(0), model)
  pixels = jnp.array([0, 255, 255], jnp.uint8)
  q = model.encoder.given(params.phi, pixels / 255.0)
  mean = encoded(model, params, binarize, sample=False)(jax.random.key(1), pixels)
  np.testing.assert_allclose(mean, q.mean, rtol=1e-12)
  some = encoded(model, params, binarize, sample=False, latents=(1,))
  np.testing.assert_allclose(some(jax.random.key(1), pixels), q.mean[1:2], rtol=1e-12)
  keys = jax.random.split(jax.random.key(2), 20000)
  z = jax.vmap(encoded(model, params), (0, None))(keys, pixels)
  assert_unbiased(z, q.mean, detects_shift=0.1)
  assert_unbiased((z - q.mean[None]) ** 2, jnp.exp(q.eta.log_var), detects=0.1)


def test_m1_and_m2_train_one_after_the_other():
  """M2's x is a draw of M1's q(z|x), another one at every use; its test error uses the mean."""
  m1 = mlp_vae(bernoulli(3), data_dim=3, latent_dim=2, hidden_dim=4)
  m1_params = init_params(jax.random.key(0), m1)
  model, classifier = m2_vae(gaussian(2), data_dim=2, num_classes=2, latent_dim=1, hidden_dim=())
  bound = semi_supervised_bound(elbo_b, classifier, data_dim=2, alpha=1.0)
  algorithm = aevb(model, bound, optax.adam(0.05), num_data=4)
  rows = jnp.asarray(labelled_rows(255 * (X % 2), [0, 1, -1, -1], num_classes=2))
  drawn, mean = (data.beside(encoded(m1, m1_params, sample=s), 3) for s in (True, False))
  state, key = algorithm.init(jax.random.key(1)), jax.random.key(2)
  how = dict(batch_size=4, num_steps=300, preprocess=drawn)
  state, metrics = fit(algorithm, state, key, rows, **how)
  assert np.mean(metrics["bound"][-50:]) > np.mean(metrics["bound"][:50]) + 0.5
  mistake = lambda key, params, xy: is_mistaken(classifier, params, xy, data_dim=2)
  errors = evaluate(mistake, key, state.params, rows[2:], preprocess=mean)
  np.testing.assert_array_equal(errors, [0, 0])


BAD = {
  "no labels": (lambda: labelled_rows(X, None, num_classes=2), "the data set has no labels"),
  "out of range": (lambda: labelled_rows(X, [0, 1, 2, -1], num_classes=2), "label 2 of example 2"),
  "too few": (lambda: labelled_rows(X, [0, 1], num_classes=2), "2 labels for 4 examples"),
  "none known": (lambda: labelled_rows(X, [-1] * 4, num_classes=2), "all labels are -1"),
  "copies": (lambda: labelled_rows(X, [0] * 4, num_classes=2, copies=0), "copies is 0"),
  "missing": (lambda: keep_few_labels([0, -1], 2, num_classes=2, seed=0), "label -1 of example 1"),
  "uneven": (lambda: keep_few_labels([0, 1], 1, num_classes=2, seed=0), "multiple of 2 classes"),
  "too many": (lambda: keep_few_labels([0, 1, 1], 4, num_classes=2, seed=0), "smallest has 1"),
  "zero": (lambda: keep_few_labels([0, 1], 0, num_classes=2, seed=0), "num_labels is 0"),
}


@pytest.mark.parametrize("call, words", BAD.values(), ids=BAD)
def test_labels_that_do_not_fit_are_refused(call, words):
  with pytest.raises(ValueError, match=words) as raised:
    call()
  assert "\n" not in str(raised.value)
