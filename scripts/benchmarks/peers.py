"""The same work in other libraries, each written as its own documentation would.

A peer is first given our parameters and a minibatch, and its bound must equal ours: the means of
many draws of the noise may differ by at most five standard errors. Then it trains. All peers get
the same bytes of pixels, which they shuffle, scale and binarize themselves, and run on all cores,
each in a process of its own.

  torch           PyTorch: modules, autograd, torch.optim, one Python call a step
  torch.compile   the same, its bound compiled by the inductor (needs a C++ compiler)
  numpyro         NumPyro: a model, a guide and SVI with TraceMeanField_ELBO under lax.scan
  flax            the step of Flax's VAE example, as its description has it: a TrainState,
                  Adam, cross-entropy with logits, one call of a jitted step a minibatch;
                  with tanh instead of ReLU, so that our parameters fit
  tensorflow      the article's convolutional VAE: Keras layers, a tf.function a step

A library that is not installed is left out, and a line says so.

Each peer is one function, long as it is, so that it reads like an example of its library.
"""

import functools
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from benchmarks.peers_conv import ArticleWeights, tensorflow_article, torch_article
from benchmarks.timing import Timed
from benchmarks.workloads import PAPER, WORKLOADS, Workload, make_algorithm, random_pixels

from aevb_jax.types import Params

NUM_DRAWS = 400


class Peer(NamedTuple):
  bounds: Callable[[np.ndarray, int], np.ndarray]  # (x (M, D), number of draws) -> bounds
  run: Callable[[], object]  # num_steps steps of training


def checked(workload_name: str, peer_name: str) -> Timed:
  """Makes a peer of a workload, after its bound was found equal to ours.

  Raises:
    ImportError: if the library is not installed.
    AssertionError: if it has another bound.
  """
  workload = next(w for w in WORKLOADS if w.name == workload_name)
  pixels = random_pixels(workload.num_data, workload.data_dim)
  params = make_algorithm(workload).init(jax.random.key(0)).params
  x = (pixels[: workload.batch_size] > 127).astype(np.float32)
  peer = PEERS[workload_name][peer_name](workload, params, pixels)
  ours, theirs = our_bounds(workload, params, x), peer.bounds(x, NUM_DRAWS)
  difference = np.mean(theirs) - np.mean(ours)
  error = np.sqrt((np.var(theirs) + np.var(ours)) / NUM_DRAWS)
  print(f"{peer_name}: its bound minus ours is {difference:.4f} ± {error:.4f} nats", flush=True)
  if not abs(difference) < 5 * error + 1e-6 * abs(np.mean(ours)):
    raise AssertionError(f"{peer_name} has another bound than {workload_name}")
  return Timed(peer.run, workload.num_steps)


def our_bounds(workload: Workload, params: Params, x: np.ndarray) -> np.ndarray:
  model = workload.model()

  def bound(key: jax.Array) -> jax.Array:
    keys = jax.random.split(key, len(x))
    return jnp.mean(jax.vmap(lambda key, x: workload.estimator(key, model, params, x))(keys, x))

  return np.asarray(jax.jit(lambda keys: jax.lax.map(bound, keys))(_keys(NUM_DRAWS)))


def _keys(count: int) -> jax.Array:
  return jax.random.split(jax.random.key(7), count)


def layers(tree: dict) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns (kernel, bias) of every layer of one of our networks: hidden layers, then heads."""
  names = sorted(tree, key=lambda name: (name.startswith("head"), name))
  return [(np.asarray(tree[name]["kernel"]), np.asarray(tree[name]["bias"])) for name in names]


# PyTorch


def torch_mlp(workload: Workload, params: Params, pixels: np.ndarray, *, compiled: bool) -> Peer:
  import torch
  from torch import nn
  from torch.nn import functional

  torch.set_num_threads(os.cpu_count())

  def linear(weights: tuple[np.ndarray, np.ndarray]) -> nn.Linear:
    kernel, bias = weights
    layer = nn.Linear(*kernel.shape)
    layer.weight.data = torch.tensor(kernel.T.copy())
    layer.bias.data = torch.tensor(bias)
    return layer

  class VAE(nn.Module):
    def __init__(self):
      super().__init__()
      self.hidden, self.mean, self.log_var = map(linear, layers(params.phi))
      self.decoder_hidden, self.logits = map(linear, layers(params.theta))

    def forward(self, x):
      h = torch.tanh(self.hidden(x))
      mean, log_var = self.mean(h), self.log_var(h)
      z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
      logits = self.logits(torch.tanh(self.decoder_hidden(z)))
      log_p = -functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
      kl = -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
      return (log_p - kl) / len(x)

  vae = VAE()
  bound = torch.compile(vae) if compiled else vae
  data = torch.from_numpy(pixels)
  optimizer = torch.optim.Adagrad(vae.parameters(), lr=0.01)

  def run() -> None:
    order = torch.randperm(len(data))[: workload.num_steps * workload.batch_size]
    for index in order.split(workload.batch_size):
      x = torch.bernoulli(data[index].float() / 255)
      optimizer.zero_grad()
      (-bound(x)).backward()
      optimizer.step()

  def bounds(x: np.ndarray, num_draws: int) -> np.ndarray:
    with torch.no_grad():
      return np.array([bound(torch.from_numpy(x)).item() for _ in range(num_draws)])

  return Peer(bounds, run)


# NumPyro


def numpyro_mlp(workload: Workload, params: Params, pixels: np.ndarray) -> Peer:
  import numpyro
  from numpyro import distributions
  from numpyro.infer import SVI, TraceMeanField_ELBO

  layer = lambda weights, x: x @ weights[0] + weights[1]

  def model(x: jax.Array) -> None:
    hidden, logits = numpyro.param("decoder", layers(params.theta))
    with numpyro.plate("batch", len(x)):
      z = numpyro.sample("z", distributions.Normal(0, 1).expand([20]).to_event(1))
      of_z = distributions.Bernoulli(logits=layer(logits, jnp.tanh(layer(hidden, z))))
      numpyro.sample("x", of_z.to_event(1), obs=x)

  def guide(x: jax.Array) -> None:
    hidden, mean, log_var = numpyro.param("encoder", layers(params.phi))
    h = jnp.tanh(layer(hidden, x))
    std = jnp.exp(0.5 * layer(log_var, h))
    with numpyro.plate("batch", len(x)):
      numpyro.sample("z", distributions.Normal(layer(mean, h), std).to_event(1))

  svi = SVI(model, guide, optax.adagrad(0.01), TraceMeanField_ELBO())
  data = jax.device_put(pixels)
  state = svi.init(jax.random.key(0), jnp.zeros((workload.batch_size, workload.data_dim)))

  @functools.partial(jax.jit, donate_argnums=0)
  def train(state, key: jax.Array, data: jax.Array):
    order_key, key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(data))
    order = order[: workload.num_steps * workload.batch_size]

    def step(state, key_and_index):
      key, index = key_and_index
      x = jax.random.bernoulli(key, data[index] / 255).astype(jnp.float32)
      return svi.update(state, x)

    keys = jax.random.split(key, workload.num_steps)
    return jax.lax.scan(step, state, (keys, order.reshape(workload.num_steps, -1)))

  def run() -> None:
    nonlocal state
    state, losses = train(state, jax.random.key(1), data)
    jax.block_until_ready(losses)

  def bounds(x: np.ndarray, num_draws: int) -> np.ndarray:
    start = svi.get_params(state)
    one = lambda key: -svi.loss.loss(key, start, model, guide, x) / len(x)
    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(_keys(num_draws)))

  return Peer(bounds, run)


# Flax


def flax_example(workload: Workload, params: Params, pixels: np.ndarray) -> Peer:
  from flax import linen as nn
  from flax.training.train_state import TrainState

  class VAE(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array):
      h = nn.tanh(nn.Dense(500, name="hidden")(x))
      mean, log_var = nn.Dense(20, name="mean")(h), nn.Dense(20, name="log_var")(h)
      z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
      logits = nn.Dense(784, name="logits")(nn.tanh(nn.Dense(500, name="decoder_hidden")(z)))
      return logits, mean, log_var

  vae = VAE()
  names = ("hidden", "mean", "log_var", "decoder_hidden", "logits")
  ours = zip(names, layers(params.phi) + layers(params.theta), strict=True)
  start = {name: dict(kernel=kernel, bias=bias) for name, (kernel, bias) in ours}

  def bound(params: dict, x: jax.Array, key: jax.Array) -> jax.Array:
    logits, mean, log_var = vae.apply({"params": params}, x, key)
    log_p = -jnp.sum(optax.sigmoid_binary_cross_entropy(logits, x), axis=-1)
    kl = -0.5 * jnp.sum(1 + log_var - mean**2 - jnp.exp(log_var), axis=-1)
    return jnp.mean(log_p - kl)

  @jax.jit
  def step(state: TrainState, x: jax.Array, key: jax.Array) -> TrainState:
    binarize_key, key = jax.random.split(key)
    x = jax.random.bernoulli(binarize_key, x / 255).astype(jnp.float32)
    grads = jax.grad(lambda params: -bound(params, x, key))(state.params)
    return state.apply_gradients(grads=grads)

  state = TrainState.create(apply_fn=vae.apply, params=start, tx=optax.adam(1e-3))
  order = np.random.default_rng(0)

  def run() -> None:
    nonlocal state
    keys = jax.random.split(jax.random.key(int(state.step)), workload.num_steps)
    index = order.permutation(len(pixels))[: workload.num_steps * workload.batch_size]
    for key, rows in zip(keys, index.reshape(workload.num_steps, -1), strict=True):
      state = step(state, pixels[rows], key)
    jax.block_until_ready(state)

  def bounds(x: np.ndarray, num_draws: int) -> np.ndarray:
    one = lambda key: bound(start, x, key)
    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(_keys(num_draws)))

  return Peer(bounds, run)


# The article's model


def article_peer(make: Callable, workload: Workload, params: Params, pixels: np.ndarray) -> Peer:
  how = dict(batch_size=workload.batch_size, num_steps=workload.num_steps)
  article = make(article_weights(params), pixels, **how)
  return Peer(lambda x, num_draws: np.array([article.of(x) for _ in range(num_draws)]), article.run)


def article_weights(params: Params) -> ArticleWeights:
  """Returns the weights of our `conv_vae`, with transposed kernels turned by 180°."""
  encoder, decoder = layers(params.phi), layers(params.theta)
  heads = [layer for layer in encoder if layer[0].ndim == 2]
  (dense,) = (layer for layer in decoder if layer[0].ndim == 2)
  turned = [(np.flip(w, (0, 1)).swapaxes(2, 3), b) for w, b in decoder if w.ndim == 4]
  return ArticleWeights(
    convolutions=[layer for layer in encoder if layer[0].ndim == 4],
    heads=tuple(np.concatenate(both, axis=-1) for both in zip(*heads, strict=True)),
    dense=dense,
    transposed=turned,
  )


ARTICLE = {
  "tensorflow": functools.partial(article_peer, tensorflow_article),
  "torch": functools.partial(article_peer, functools.partial(torch_article, compiled=False)),
  "torch.compile": functools.partial(article_peer, functools.partial(torch_article, compiled=True)),
}
PEERS = {
  PAPER.name: {
    "torch": functools.partial(torch_mlp, compiled=False),
    "torch.compile": functools.partial(torch_mlp, compiled=True),
    "numpyro": numpyro_mlp,
  },
  "mnist elbo_b adam": {"flax": flax_example},
  "article conv M=32": ARTICLE,
  "article conv M=128": ARTICLE,
}
