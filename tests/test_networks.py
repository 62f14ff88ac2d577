"""The networks of appendix C, written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import MLP, bernoulli, conditional, diagonal_gaussian, init_params, mlp_vae


def test_bernoulli_decoder_is_equation_11():
  decoder = mlp_vae(bernoulli(5), data_dim=5, latent_dim=2, hidden_dim=4).decoder
  theta = decoder.init(jax.random.key(0))
  z = np.asarray([0.3, -1.2])
  hidden, head = theta["hidden_0"], theta["head_0"]
  h = np.tanh(z @ hidden["kernel"] + hidden["bias"])
  y = 1 / (1 + np.exp(-(h @ head["kernel"] + head["bias"])))
  np.testing.assert_allclose(decoder.given(theta, z).mean, y, rtol=1e-12)


def test_gaussian_heads_are_equation_12():
  # The second head is the log of the variance, not of the standard deviation.
  encoder = mlp_vae(bernoulli(5), data_dim=5, latent_dim=2, hidden_dim=4).encoder
  phi = encoder.init(jax.random.key(0))
  x = np.linspace(0, 1, 5)
  h = np.tanh(x @ phi["hidden_0"]["kernel"] + phi["hidden_0"]["bias"])
  mean, log_var = (h @ phi[f"head_{i}"]["kernel"] + phi[f"head_{i}"]["bias"] for i in (0, 1))
  q = encoder.given(phi, x)
  z = np.asarray([0.5, 0.5])
  variance = np.exp(log_var)
  expected = np.sum(-0.5 * np.log(2 * np.pi * variance) - (z - mean) ** 2 / (2 * variance))
  np.testing.assert_allclose(q.log_prob(jnp.asarray(z)), expected, rtol=1e-12)


def test_initial_distributions():
  default = mlp_vae(bernoulli(400), data_dim=400, latent_dim=3, hidden_dim=300)
  params = init_params(jax.random.key(0), default)
  kernel = params.phi["hidden_0"]["kernel"]
  np.testing.assert_allclose(np.std(kernel), 1 / np.sqrt(400), rtol=0.02)  # LeCun
  assert all(np.all(layer["bias"] == 0) for layer in params.phi.values())

  normal = nn.initializers.normal(0.1)
  paper = mlp_vae(
    bernoulli(400), data_dim=400, latent_dim=3, hidden_dim=300, kernel_init=normal, bias_init=normal
  )
  params = init_params(jax.random.key(0), paper)
  for block in (params.theta, params.phi):
    values = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(block)])
    np.testing.assert_allclose(np.std(values), 0.1, rtol=0.02)
    assert abs(np.mean(values)) < 0.002
  biases = np.concatenate([params.theta["head_0"]["bias"], params.theta["hidden_0"]["bias"]])
  np.testing.assert_allclose(np.std(biases), 0.1, rtol=0.1)


def test_encoder_and_decoder_start_from_different_keys():
  model = mlp_vae(diagonal_gaussian(3), data_dim=3, latent_dim=3, hidden_dim=4)
  params = init_params(jax.random.key(0), model)
  assert not np.allclose(params.theta["hidden_0"]["kernel"], params.phi["hidden_0"]["kernel"])


def test_a_deeper_network_with_another_activation():
  module = MLP((4, 3), (2,), activation=nn.relu)
  params = module.init(jax.random.key(0), jnp.zeros(5))["params"]
  h = np.linspace(-1, 1, 5)
  for name in ("hidden_0", "hidden_1"):
    h = np.maximum(h @ params[name]["kernel"] + params[name]["bias"], 0)
  expected = h @ params["head_0"]["kernel"] + params["head_0"]["bias"]
  (head,) = module.apply({"params": params}, np.linspace(-1, 1, 5))
  np.testing.assert_allclose(head, expected, rtol=1e-12)


def test_state_beside_the_parameters_is_refused():
  class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x):
      return (nn.BatchNorm(use_running_average=True)(x),)

  with pytest.raises(ValueError, match="Normalized keeps state in batch_stats"):
    conditional(Normalized(), bernoulli(3), 3).init(jax.random.key(0))


def test_several_layers_are_mirrored():
  model = mlp_vae(bernoulli(6), data_dim=6, latent_dim=2, hidden_dim=(5, 4))
  params = init_params(jax.random.key(0), model)
  shapes = lambda tree: {name: layer["kernel"].shape for name, layer in tree.items()}
  assert shapes(params.phi) == {
    "hidden_0": (6, 5), "hidden_1": (5, 4), "head_0": (4, 2), "head_1": (4, 2)
  }  # fmt: skip
  assert shapes(params.theta) == {"hidden_0": (2, 4), "hidden_1": (4, 5), "head_0": (5, 6)}
