"""The networks of experiments/networks: one function in three libraries, and it trains."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aevb_jax import aevb, bernoulli, data, elbo_b, fit, init_params, threshold
from aevb_jax.models import network_vae
from aevb_jax.types import Params

LIBRARIES = ["linen", "nnx", "equinox"]
IMAGE, J, WIDTH = (8, 8, 1), 3, 4
# The layers in the order that the networks apply them in: linen's names, and the others' names.
ENCODER = {
  "Conv_0": ("half", "layers.0"),
  "Block_0": ("half_block", "layers.1"),
  "Conv_1": ("quarter", "layers.2"),
  "Block_1": ("quarter_block", "layers.3"),
}
DECODER = {
  "Dense_0": ("dense", "dense"),
  "Block_0": ("quarter_block", "quarter_block"),
  "Conv_0": ("half", "half"),
  "Block_1": ("block", "block"),
}


def model_of(library, image_shape=IMAGE):
  if library == "equinox":
    pytest.importorskip("equinox", reason="the extra equinox is not installed")
  module = importlib.import_module(f"experiments.networks.residual_{library}")
  encoder, decoder = module.residual(image_shape, J, width=WIDTH)
  return network_vae(
    bernoulli(int(np.prod(image_shape))),
    encoder=encoder,
    decoder=decoder,
    image_shape=image_shape,
    latent_dim=J,
  )


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_bound_rises(library):
  model, digits = model_of(library), data.load("digits")
  algorithm = aevb(model, elbo_b, optax.adam(1e-2), num_data=len(digits.train))
  state = jax.jit(algorithm.init)(jax.random.key(0))
  options = dict(batch_size=20, num_steps=60, preprocess=threshold)
  state, metrics = fit(algorithm, state, jax.random.key(1), digits.train, **options)
  first, last = np.mean(metrics["bound"][:5]), np.mean(metrics["bound"][-10:])
  assert first < -44 and last > -40 and last > first + 4, (first, last)
  assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(state.params))


def layer(flax, library, dense=False):
  """Returns the parameters of one layer of linen as another library keeps them."""
  kernel, bias = flax["kernel"], flax["bias"]
  if library == "nnx":
    return flax
  if kernel.ndim == 2:
    return {"weight": kernel.T, "bias": bias}
  return {"weight": kernel.transpose(3, 2, 0, 1), "bias": bias[:, None, None]}


def moved(tree, names, library):
  """Moves the parameters of the network in linen to another library."""
  found = {}
  for name, others in names.items():
    own, place = tree["network"][name], found
    *above, last = others[LIBRARIES.index(library) - 1].split(".")
    for step in above:
      place = place.setdefault(step, {})
    if name.startswith("Block"):
      first, second = (layer(own[f"Conv_{i}"], library) for i in (0, 1))
      both = {"first": first, "second": second}
      place[last] = both if library == "nnx" else {"convs": {"0": first, "1": second}}
    else:
      place[last] = layer(own, library)
  return tree | {"network": found}


def dense_as_equinox(theta, image_shape):
  """Reorders the decoder's first layer, because Equinox has the channels of an image first."""
  start = -(-image_shape[0] // 4), -(-image_shape[1] // 4), 2 * WIDTH
  dense = theta["network"]["dense"]
  reorder = lambda a: a.reshape(*start, -1).transpose(2, 0, 1, 3).reshape(a.shape)
  theta["network"]["dense"] = jax.tree.map(reorder, dense)
  return theta


def head_as_equinox(phi, image_shape):
  """Reorders the encoder's heads, whose features have the channels first."""
  start = -(-image_shape[0] // 4), -(-image_shape[1] // 4), 2 * WIDTH
  for name in ("head_0", "head_1"):
    kernel = phi[name]["kernel"]
    swapped = kernel.reshape(*start, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    phi[name] = dict(phi[name], kernel=swapped)
  return phi


@pytest.mark.parametrize("library", ["nnx", "equinox"])
@pytest.mark.parametrize("image_shape", [IMAGE, (9, 6, 2)], ids=str)
def test_the_same_weights_are_the_same_function(library, image_shape):
  linen, other = model_of("linen", image_shape), model_of(library, image_shape)
  params = jax.jit(lambda key: init_params(key, linen))(jax.random.key(0))
  params = jax.tree.map(lambda leaf: leaf + 0.01 * jnp.arange(leaf.size).reshape(leaf.shape) %
                        0.1, params)  # fmt: skip
  theta, phi = moved(params.theta, DECODER, library), moved(params.phi, ENCODER, library)
  if library == "equinox":
    theta, phi = dense_as_equinox(theta, image_shape), head_as_equinox(phi, image_shape)
  same = Params(theta, phi)
  shapes = jax.eval_shape(lambda key: init_params(key, other), jax.random.key(0))
  assert jax.tree.map(jnp.shape, same) == jax.tree.map(lambda leaf: leaf.shape, shapes)
  x, z = jnp.linspace(0, 1, int(np.prod(image_shape))), jnp.asarray([0.3, -1.2, 0.5])
  etas = lambda model, p: (model.encoder.given(p.phi, x).eta, model.decoder.given(p.theta, z).eta)
  ours = jax.jit(lambda p: etas(linen, p))(params)
  theirs = jax.jit(lambda p: etas(other, p))(same)
  for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
