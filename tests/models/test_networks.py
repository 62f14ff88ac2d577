"""The networks of appendix C compared with their equations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import bernoulli, conv_vae, elbo_b, gaussian, init_params, mlp_vae
from aevb_jax.models import MLP, ConvDecoder, ConvEncoder, conditional
from aevb_jax.models.vae import with_output_bias


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


def test_output_bias():
  model = mlp_vae(bernoulli(5), data_dim=5, latent_dim=2, hidden_dim=4)
  bias = jnp.asarray([-3.0, -1.0, 0.0, 1.0, 7.0])
  key = jax.random.key(0)
  plain, theta = (jax.jit(m.decoder.init)(key) for m in (model, with_output_bias(model, bias)))
  np.testing.assert_array_equal(theta["head_0"]["bias"], bias)
  theta["head_0"]["bias"] = plain["head_0"]["bias"]
  jax.tree.map(np.testing.assert_array_equal, theta, plain)  # nothing else changes
  with pytest.raises(ValueError, match="shape"):
    with_output_bias(model, bias[:4]).decoder.init(key)


def test_encoder_and_decoder_start_from_different_keys():
  model = mlp_vae(gaussian(3), data_dim=3, latent_dim=3, hidden_dim=4)
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


def randomized(params):
  """Adds noise to all parameters, because biases start from 0."""
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(7), len(leaves))
  return tree.unflatten([w + 0.1 * jax.random.normal(k, w.shape) for k, w in zip(keys, leaves)])


IMAGES = [((8, 8, 1), (3, 2)), ((28, 20, 1), (3, 2, 4)), ((9, 11, 3), (4,))]


@pytest.mark.parametrize("image_shape,widths", IMAGES, ids=str)
def test_conv_encoder_is_made_of_flax_layers(image_shape, widths):
  x = jnp.asarray(np.random.default_rng(0).uniform(size=np.prod(image_shape)))
  module = ConvEncoder(image_shape, (3, 3), widths)
  params = randomized(jax.jit(module.init)(jax.random.key(0), x)["params"])
  h = x.reshape(image_shape)
  for i, width in enumerate(widths):
    layer = nn.Conv(width, (3, 3), strides=(2, 2), padding="VALID")
    h = nn.relu(layer.apply({"params": params[f"conv_{i}"]}, h))
  for i, head in enumerate(jax.jit(module.apply)({"params": params}, x)):
    expected = nn.Dense(3).apply({"params": params[f"head_{i}"]}, h.reshape(-1))
    np.testing.assert_allclose(head, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("image_shape,widths", IMAGES, ids=str)
def test_conv_decoder_is_made_of_flax_layers(image_shape, widths):
  z = jnp.asarray([0.3, -1.2])
  module = ConvDecoder(image_shape, 2, widths)
  params = randomized(jax.jit(module.init)(jax.random.key(0), z)["params"])
  start = *(-(-n // 2 ** len(widths)) for n in image_shape[:2]), widths[-1]
  hidden = nn.Dense(np.prod(start)).apply({"params": params["hidden"]}, z)
  h = nn.relu(hidden).reshape(start)
  for i, width in enumerate(widths):
    layer = nn.ConvTranspose(width, (3, 3), strides=(2, 2))
    h = nn.relu(layer.apply({"params": params[f"conv_{i}"]}, h))
  h = h[: image_shape[0], : image_shape[1]]
  for i, head in enumerate(jax.jit(module.apply)({"params": params}, z)):
    layer = nn.ConvTranspose(image_shape[2], (3, 3))
    expected = layer.apply({"params": params[f"head_{i}"]}, h).reshape(-1)
    np.testing.assert_allclose(head, expected, rtol=1e-10, atol=1e-12)


def test_the_convolutional_networks_of_the_article():
  model = conv_vae(bernoulli(784), image_shape=(28, 28, 1), latent_dim=2)
  params = jax.jit(lambda key: init_params(key, model))(jax.random.key(0))
  shapes = lambda tree: {name: layer["kernel"].shape for name, layer in tree.items()}
  assert shapes(params.phi) == {
    "conv_0": (3, 3, 1, 32), "conv_1": (3, 3, 32, 64), "head_0": (2304, 2), "head_1": (2304, 2)
  }  # fmt: skip
  assert shapes(params.theta) == {
    "hidden": (2, 1568), "conv_0": (3, 3, 32, 64), "conv_1": (3, 3, 64, 32), "head_0": (3, 3, 32, 1)
  }  # fmt: skip
  kernel = params.theta["conv_1"]["kernel"]
  np.testing.assert_allclose(np.std(kernel), 1 / np.sqrt(9 * 64), rtol=0.03)  # LeCun


def test_colour_images_and_two_heads():
  shape, data_dim = (6, 5, 3), 90
  model = conv_vae(gaussian(data_dim), image_shape=shape, latent_dim=3, widths=(4,))
  params = init_params(jax.random.key(0), model)
  x = jnp.asarray(np.random.default_rng(0).uniform(size=data_dim))
  grads = jax.jit(jax.grad(lambda p: elbo_b(jax.random.key(1), model, p, x)))(params)
  assert model.decoder.given(params.theta, jnp.zeros(3)).mean.shape == (data_dim,)
  assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(grads))


def test_images_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match=r"heads of \(5,\) numbers; an image \(2, 3, 1\) has 6"):
    conv_vae(bernoulli(5), image_shape=(2, 3, 1), latent_dim=2)
  with pytest.raises(ValueError, match="8×8 pixels have room for 2 convolutions"):
    conv_vae(bernoulli(64), image_shape=(8, 8, 1), latent_dim=2, widths=(4, 4, 4))
