"""Heads added to networks of one's own, and the models that they make."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb_jax import bernoulli, elbo_b, gaussian, init_params, mlp_vae
from aevb_jax.algorithms.full_variational_bayes import with_local_noise
from aevb_jax.families import categorical
from aevb_jax.models import network_vae, with_heads
from aevb_jax.models.vae import with_output_bias
from aevb_jax.types import Network, Params

IMAGE, J = (4, 3, 2), 3
D = 24


class Hidden(nn.Module):
  """The hidden layer of the package's MLP, written by a user."""

  width: int = 5

  @nn.compact
  def __call__(self, x):
    layer = nn.Dense(self.width, param_dtype=jnp.result_type(float), name="hidden_0")
    return nn.tanh(layer(x.ravel()))


def features(shape):
  """A network without parameters whose features have a shape and depend on its input."""
  size = int(np.prod(shape))
  return Network(
    init=lambda key: {},
    apply=lambda params, x: jnp.sin(jnp.arange(size) + jnp.sum(x)).reshape(shape),
  )


def vae(encoder, decoder, likelihood=None, **options):
  return network_vae(
    likelihood or bernoulli(D),
    encoder=encoder,
    decoder=decoder,
    image_shape=IMAGE,
    latent_dim=J,
    **options,
  )


def test_a_users_mlp_is_the_packages():
  own = mlp_vae(bernoulli(D), data_dim=D, latent_dim=J, hidden_dim=5)
  users = vae(Hidden(), Hidden())
  params = init_params(jax.random.key(0), own)
  moved = lambda tree: {
    "network": {"hidden_0": tree["hidden_0"]},
    **{name: layer for name, layer in tree.items() if name != "hidden_0"},
  }
  same = Params(moved(params.theta), moved(params.phi))
  shapes = jax.tree.map(jnp.shape, init_params(jax.random.key(0), users))
  assert jax.tree.map(jnp.shape, same) == shapes
  x, keys = jnp.linspace(0, 1, D), [jax.random.key(1), jax.random.key(1)]
  pairs = [(own, params), (users, same)]
  bounds = [elbo_b(key, *pair, x, num_samples=2) for key, pair in zip(keys, pairs)]
  np.testing.assert_allclose(*bounds, rtol=1e-12)


@pytest.mark.parametrize("likelihood", [bernoulli(D), gaussian(D)], ids=["one", "two"])
def test_heads_of_an_image_are_linear_maps_of_each_pixel(likelihood):
  network = features((4, 3, 7))
  options = dict(input_shape=(J,), image_shape=IMAGE)
  headed = with_heads(network, likelihood.sizes, **options)
  params = headed.init(jax.random.key(0))
  assert {n: p["kernel"].shape for n, p in params.items() if n != "network"} == {
    f"head_{i}": (7, 2) for i in range(len(likelihood.sizes))
  }
  z = jnp.asarray([0.1, 0.2, 0.3])
  image = np.asarray(network.apply({}, z))
  for i, head in enumerate(headed.apply(params, z)):
    layer = params[f"head_{i}"]
    by_pixel = [image[h, w] @ layer["kernel"] + layer["bias"] for h in range(4) for w in range(3)]
    np.testing.assert_allclose(head, np.concatenate(by_pixel), rtol=1e-12)


@pytest.mark.parametrize(
  "shape,likelihood",
  [
    ((4, 3, 7), categorical(D, levels=4)),  # not H·W·C numbers
    ((3, 4, 7), bernoulli(D)),  # an image of another size
    ((4, 3), bernoulli(D)),
    ((84,), bernoulli(D)),
    ((), bernoulli(D)),
  ],
  ids=["other heads", "other image", "matrix", "vector", "number"],
)
def test_other_heads_are_linear_maps_of_all_features(shape, likelihood):
  headed = with_heads(features(shape), likelihood.sizes, input_shape=(J,), image_shape=IMAGE)
  params = headed.init(jax.random.key(0))
  z = jnp.ones(J)
  flat = np.ravel(features(shape).apply({}, z))
  for i, head in enumerate(headed.apply(params, z)):
    layer = params[f"head_{i}"]
    np.testing.assert_allclose(head, flat @ layer["kernel"] + layer["bias"], rtol=1e-11)


def test_heads_start_as_the_packages_do():
  normal = nn.initializers.normal(0.1)
  options = dict(input_shape=(J,), kernel_init=normal, bias_init=nn.initializers.constant(2.0))
  params = with_heads(features((300,)), (200, 200), **options).init(jax.random.key(0))
  kernels = [np.asarray(params[f"head_{i}"]["kernel"]) for i in (0, 1)]
  np.testing.assert_allclose(np.std(kernels), 0.1, rtol=0.02)
  assert not np.allclose(*kernels) and np.all(params["head_0"]["bias"] == 2.0)
  default = with_heads(features((400,)), (300,), input_shape=(J,)).init(jax.random.key(0))
  np.testing.assert_allclose(np.std(default["head_0"]["kernel"]), 1 / 20, rtol=0.02)  # LeCun


@pytest.mark.parametrize("shape", [(64,), (4, 3, 64)], ids=str)
def test_products_of_heads_are_rounded(shape):
  heads = {}
  for dtype in (None, jnp.bfloat16):
    headed = with_heads(features(shape), (D,), input_shape=(J,), image_shape=IMAGE, dtype=dtype)
    heads[dtype] = headed.apply(headed.init(jax.random.key(0)), jnp.ones(J))[0]
  assert heads[jnp.bfloat16].dtype == jnp.float64
  error = np.max(np.abs(heads[None] - heads[jnp.bfloat16])) / np.max(np.abs(heads[None]))
  assert 1e-4 < error < 0.02


def test_the_encoder_is_given_an_image():
  seen = []

  def apply(params, x):
    seen.append(x.shape)
    return x[:, :, 0].ravel()

  model = vae(Network(lambda key: {}, apply), features((4, 3, 5)))
  params = init_params(jax.random.key(0), model)
  x = jnp.arange(float(D))
  q = model.encoder.given(params.phi, x)
  layer = params.phi["head_0"]
  expected = np.arange(D)[::2] @ np.asarray(layer["kernel"]) + layer["bias"]  # the first channel
  np.testing.assert_allclose(q.mean, expected, rtol=1e-12)
  assert set(seen) == {IMAGE}


def test_the_decoders_output_bias_can_be_set():
  model = vae(Hidden(), Hidden())
  bias = jnp.linspace(-1, 1, D)
  theta = with_output_bias(model, bias).decoder.init(jax.random.key(0))
  np.testing.assert_array_equal(theta["head_0"]["bias"], bias)


def test_local_reparameterization_finds_the_layers_of_a_linen_network():
  decoder = vae(Hidden(), Hidden()).decoder
  theta = decoder.init(jax.random.key(0))
  none = jax.tree.map(jnp.zeros_like, theta)
  noisy = with_local_noise(jax.random.key(1), decoder, none)
  z = jnp.ones(J)
  expected = decoder.given(theta, z).mean
  np.testing.assert_allclose(noisy.given(theta, z).mean, expected, rtol=1e-12)
  some = jax.tree.map(jnp.ones_like, theta)
  assert not np.allclose(with_local_noise(jax.random.key(1), decoder, some).given(theta, z).mean,
                         expected)  # fmt: skip


class WithBatchNorm(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.BatchNorm(use_running_average=True)(x.ravel())


@pytest.mark.parametrize(
  "networks,said",
  [
    (dict(encoder=WithBatchNorm()), "the encoder: WithBatchNorm keeps state in batch_stats"),
    (dict(decoder=WithBatchNorm()), "the decoder: WithBatchNorm keeps state in batch_stats"),
    (
      dict(encoder=Network(lambda key: {}, lambda params, x: x @ jnp.ones(9))),
      r"the encoder: the network cannot be applied to an input of shape \(4, 3, 2\): ",
    ),
    (
      dict(decoder=nn.Dropout(0.5, deterministic=False)),
      "the decoder: the network cannot be .*dropout",
    ),
    (
      dict(decoder=Network(lambda key: {}, lambda params, x: (x, x))),
      r"the decoder: .* for an input of shape \(3,\); .* a tuple of float64 \(3,\), float64 \(3,\)",
    ),
    (
      dict(decoder=Network(lambda key: {}, lambda params, x: jnp.argsort(x))),
      r"the decoder: .* this one returns int\d+ \(3,\)",
    ),
    (dict(encoder=nn.relu), "the encoder: a network is a Flax linen module or a Network"),
    (dict(likelihood=bernoulli(D + 1)), r"of 25 numbers; an image \(4, 3, 2\) has 24"),
  ],
)
def test_what_cannot_be_used_has_one_line(networks, said):
  given = dict(encoder=Hidden(), decoder=Hidden()) | networks
  with pytest.raises(ValueError, match=said) as raised:
    vae(**given)
  assert "\n" not in str(raised.value)


def test_an_error_has_the_place_in_the_users_code():
  class Broken(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(3)(x) + jnp.ones((5, 5))  # this line

  line = next(i for i, text in enumerate(open(__file__), 1) if text.endswith("# this line\n"))
  with pytest.raises(ValueError, match=rf"the decoder: .*\({__file__}, line {line}\b"):
    vae(Hidden(), Broken())
