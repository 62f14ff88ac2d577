"""State-space models of networks: exact where the networks are linear, by the Kalman filter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import elbo_a, elbo_b, simulate
from aevb_jax.estimators.importance import dreg, iwae
from aevb_jax.estimators.score_functions import vimco
from aevb_jax.estimators.sgvb import sticking_the_landing
from aevb_jax.families.binary import bernoulli
from aevb_jax.families.chains import kl_given
from aevb_jax.families.gaussians import gaussian
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.models.joint import log_joint
from aevb_jax.models.linear_state_space import log_marginal
from aevb_jax.models.state_space import INFERENCE, Backward, BothWays, Single, state_space_vae
from aevb_jax.models.vae import init_params
from tests.support.oracles import exact_bound, precision
from tests.support.statistics import assert_errors_are_right, assert_unbiased

T, D, J, H = 3, 3, 2, 4
X = jnp.array([0.3, -1.2, 0.8, 0.1, 0.5, -0.4, 1.1, 0.2, -0.9])
both_kinds = pytest.mark.parametrize("inference", INFERENCE)


@functools.cache
def linear_model(inference):
  """Makes a model of linear means and constant variances; h_t is still a gated network's.

  φ is moved part of the way to the best bound, because importance weights vary too much elsewhere.

  Returns:
    The model, all parameters as a vector, θ first, and the function that makes Params of it, which
    sets the slopes of log-variances to 0.
  """
  model = state_space_vae(
    gaussian(D),
    num_steps=T,
    data_dim=D,
    latent_dim=J,
    hidden_dim=H,
    inference=inference,
    activation=lambda h: h,
  )
  flat, unravel = jax.flatten_util.ravel_pytree(init_params(jax.random.key(0), model))

  def params(flat):
    is_slope = lambda path: jax.tree_util.keystr(path).endswith("['head_1']['kernel']")
    zeroed = lambda path, leaf: jnp.zeros_like(leaf) if is_slope(path) else leaf
    return jax.tree_util.tree_map_with_path(zeroed, unravel(flat))

  flat = 0.3 * jax.random.normal(jax.random.key(1), flat.shape)
  slope_of = jax.jit(jax.grad(lambda flat: exact_bound(model, params(flat), X)))
  for _ in range(30):
    slope = slope_of(flat).at[: num_theta(params(flat))].set(0)
    flat += 0.05 * slope / (1 + jnp.linalg.norm(slope))
  return model, flat, params


def num_theta(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params.theta))


def exact_log_p(theta, x):
  """log p(x) by the Kalman filter of the same model, whose layers are one affine map each."""

  def affine(net):
    first, mean, log_var = (net[name] for name in ("hidden_0", "head_0", "head_1"))
    kernel = first["kernel"] @ mean["kernel"]
    bias = first["bias"] @ mean["kernel"] + mean["bias"]
    return {"mean": {"kernel": kernel, "bias": bias}, "log_var": log_var["bias"]}

  return log_marginal({name: affine(net) for name, net in theta.items()}, x, T)


@both_kinds
def test_draws_follow_the_density(inference):
  model, flat, params = linear_model(inference)
  for p in (model.encoder.given(params(flat).phi, X), model.prior(params(flat))):
    covariance = jnp.linalg.inv(jax.jit(functools.partial(precision, p.log_prob))(p.mean))
    z, log_p = jax.vmap(p.sample_with_log_prob)(jax.random.split(jax.random.key(2), 20000))
    np.testing.assert_allclose(log_p, jax.vmap(p.log_prob)(z), rtol=1e-10)
    centred = np.asarray(z) - np.asarray(p.mean)[None]
    assert_unbiased(centred, np.zeros(T * J), detects_shift=0.1)
    assert_unbiased(centred[:, :, None] * centred[:, None], covariance, detects=0.2)
  if inference != "backward":
    q = model.encoder.given(params(flat).phi, X)
    root = precision(q.log_prob, q.mean)
    np.testing.assert_allclose(root, jnp.diag(jnp.diagonal(root)), atol=1e-12)


@both_kinds
@pytest.mark.parametrize("estimator", [elbo_a, elbo_b, sticking_the_landing])
def test_value_and_gradient_of_the_bound(estimator, inference):
  model, flat, params = linear_model(inference)
  of = lambda flat: exact_bound(model, params(flat), X)
  exact, slope = jax.jit(jax.value_and_grad(of))(flat)
  bound = lambda flat, key: estimator(key, model, params(flat), X, num_samples=2)
  keys = jax.random.split(jax.random.key(3), 20000)
  values, slopes = jax.jit(jax.vmap(jax.value_and_grad(bound), (None, 0)))(flat, keys)
  assert exact < exact_log_p(params(flat).theta, X) - 0.1
  assert_unbiased(values, exact, detects_shift=0.1)
  size = num_theta(params(flat))
  for block in (slice(size), slice(size, None)):  # θ and φ
    assert_unbiased(slopes[:, block], slope[block], detects=0.1)


@both_kinds
def test_closed_forms_of_steps_lower_the_variance(inference):
  model, flat, params = linear_model(inference)
  q, p = model.encoder.given(params(flat).phi, X), model.prior(params(flat))
  z, log_q = jax.vmap(q.sample_with_log_prob)(jax.random.split(jax.random.key(4), 20000))
  sampled, in_part = log_q - jax.vmap(p.log_prob)(z), jax.vmap(lambda z: kl_given(q, p, z))(z)
  assert np.var(in_part) < 0.9 * np.var(sampled)
  assert_unbiased(in_part - sampled, 0.0, detects_shift=0.3)


@both_kinds
def test_gradients_of_tighter_bounds_agree(inference):
  model, flat, params = linear_model(inference)

  def slopes(estimator):
    keys = jax.random.split(jax.random.key(5), 20000)
    bound = lambda flat, key: estimator(key, model, params(flat), X, num_samples=3)
    return jax.jit(jax.vmap(jax.grad(bound), (None, 0)))(flat, keys)

  of_iwae = slopes(iwae)
  for other in (dreg, vimco):
    assert_unbiased(slopes(other) - of_iwae, jnp.zeros(len(flat)), detects_shift=0.1)


@pytest.mark.parametrize(
  "inference, wider, detects",
  [("backward", 1.5, 0.05), ("mean_field", 2.5, 0.2), ("frame", 2.5, 0.2)],
)
def test_many_samples_find_log_p(inference, wider, detects):
  model, flat, params = linear_model(inference)
  params = params(flat)
  log_var = params.phi["given"]["head_1"]
  log_var["bias"] += wider  # so wide that the weights have a variance, as the eigenvalues prove
  q, joint = model.encoder.given(params.phi, X), functools.partial(log_joint, model, params, X)
  of_squares = jax.jit(lambda z: 2 * precision(joint, z) - precision(q.log_prob, z))(q.mean)
  assert np.all(np.linalg.eigvalsh(of_squares) > 0.1)
  keys, exact = jax.random.split(jax.random.key(6), 400), exact_log_p(params.theta, X)
  estimate = lambda key: importance_sampling(
    key, model, params, X, num_samples=2000, chunk_size=500
  )
  found = jax.jit(lambda keys: jax.lax.map(estimate, keys, batch_size=50))(keys)
  assert_unbiased(jnp.exp(found.value - exact), 1.0, detects_shift=detects)
  assert_errors_are_right(found.value - exact, found.standard_error)


@pytest.mark.parametrize(
  "module, reads",
  [
    (Backward(H), np.triu(np.ones((T, T)))),
    (BothWays(H), np.ones((T, T))),
    (Single(H), np.eye(T)),
  ],
)
def test_what_the_networks_read(module, reads):
  """h_t of structured inference depends on the frames from t on, of mean-field on all, or one."""
  frames = X.reshape(T, D)
  params = module.init(jax.random.key(7), frames)
  slope = jax.jacobian(lambda frames: module.apply(params, frames))(frames)  # (T, H, T, D)
  np.testing.assert_array_equal(np.any(slope != 0, axis=(1, 3)), reads > 0)


@both_kinds
def test_networks_of_pixels(inference):
  model = state_space_vae(
    bernoulli(6), num_steps=T, data_dim=6, latent_dim=J, hidden_dim=5, inference=inference
  )
  params = init_params(jax.random.key(0), model)
  z, x = simulate(jax.random.key(8), model, params)
  assert z.shape == (T * J,) and x.shape == (T * 6,) and np.all((x == 0) | (x == 1))
  bound = lambda p: elbo_b(jax.random.key(1), model, p, x, num_samples=3)
  value, slope = jax.jit(jax.value_and_grad(bound))(params)
  assert np.isfinite(value)
  assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slope))  # all networks are used
  of_frames = jnp.stack([  # p(x_t|z_t) does not depend on other steps
    model.decoder.given(params.theta, jnp.tile(z_t, T)).log_prob(jnp.tile(x_t, T)) / T
    for z_t, x_t in zip(z.reshape(T, J), x.reshape(T, 6))
  ])  # fmt: skip
  whole = model.decoder.given(params.theta, z).log_prob(x)
  np.testing.assert_allclose(jnp.sum(of_frames), whole, rtol=1e-10)


BAD = {
  "steps": (dict(num_steps=0), "num_steps is 0, expected at least 1"),
  "frames": (dict(data_dim=0), "data_dim is 0, expected at least 1"),
  "latents": (dict(latent_dim=0), "latent_dim is 0, expected at least 1"),
  "hidden": (dict(hidden_dim=0), "hidden_dim is 0, expected at least 1"),
  "inference": (
    dict(inference="forward"),
    "'forward', expected one of backward, mean_field, frame",
  ),
}


@pytest.mark.parametrize("arguments, words", BAD.values(), ids=BAD)
def test_sizes_that_do_not_fit_are_refused(arguments, words):
  sizes = dict(num_steps=T, data_dim=D, latent_dim=J, hidden_dim=H)
  with pytest.raises(ValueError, match=words):
    state_space_vae(gaussian(D), **(sizes | arguments))


def test_sequences_of_another_length_are_refused():
  model, flat, params = linear_model("backward")
  for x in (X[:-D], jnp.concatenate([X, X])):
    with pytest.raises(ValueError, match=r"expected \(9,\): 3 frames of 3 numbers"):
      model.encoder.given(params(flat).phi, x)
    with pytest.raises(ValueError, match=r"expected \(9,\): 3 steps of 3 numbers"):
      model.decoder.given(params(flat).theta, jnp.zeros(T * J)).log_prob(x)
