"""The article's convolutional VAE in TensorFlow, as the article has it, and in PyTorch.

Kernels have our layout: (height, width, in, out) for a convolution, and (height, width, out, in)
for a transposed one, which adds a multiple of the kernel to the output around every input.

Each peer is one function, long as it is, so that it reads like an example of its library.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Weights = tuple[np.ndarray, np.ndarray]  # kernel and bias


class ArticleWeights(NamedTuple):
  convolutions: list[Weights]  # 28 -> 13 -> 6, of stride 2, without padding
  heads: Weights  # (2304, 2 J): the mean, then the log-variance
  dense: Weights  # (J, 7 x 7 x 32)
  transposed: list[Weights]  # 7 -> 14 -> 28 of stride 2, and one of stride 1 that keeps the size


class Bound(NamedTuple):
  of: Callable[[np.ndarray], float]
  run: Callable[[], object]


def tensorflow_article(
  weights: ArticleWeights, pixels: np.ndarray, *, batch_size: int, num_steps: int
) -> Bound:
  import tensorflow as tf

  layers = tf.keras.layers
  same = dict(padding="same", activation="relu", strides=2)
  encoder = tf.keras.Sequential(
    [
      layers.InputLayer(input_shape=(28, 28, 1)),
      layers.Conv2D(32, 3, strides=2, activation="relu"),
      layers.Conv2D(64, 3, strides=2, activation="relu"),
      layers.Flatten(),
      layers.Dense(weights.heads[1].size),
    ]
  )
  decoder = tf.keras.Sequential(
    [
      layers.InputLayer(input_shape=(weights.dense[0].shape[0],)),
      layers.Dense(7 * 7 * 32, activation="relu"),
      layers.Reshape((7, 7, 32)),
      layers.Conv2DTranspose(64, 3, **same),
      layers.Conv2DTranspose(32, 3, **same),
      layers.Conv2DTranspose(1, 3, padding="same"),
    ]
  )
  flat = lambda layers: [array for layer in layers for array in layer]
  encoder.set_weights(flat([*weights.convolutions, weights.heads]))
  decoder.set_weights(flat([weights.dense, *weights.transposed]))
  optimizer = tf.keras.optimizers.Adam(1e-4)
  variables = encoder.trainable_variables + decoder.trainable_variables

  def log_normal(z, mean, log_var):
    log_2pi = tf.math.log(2.0 * np.pi)
    terms = -0.5 * ((z - mean) ** 2.0 * tf.exp(-log_var) + log_var + log_2pi)
    return tf.reduce_sum(terms, axis=1)

  def bound(x):
    mean, log_var = tf.split(encoder(x), num_or_size_splits=2, axis=1)
    z = tf.random.normal(shape=tf.shape(mean)) * tf.exp(log_var * 0.5) + mean
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(logits=decoder(z), labels=x)
    log_p = -tf.reduce_sum(cross_entropy, axis=[1, 2, 3])
    return tf.reduce_mean(log_p + log_normal(z, 0.0, 0.0) - log_normal(z, mean, log_var))

  @tf.function
  def step(x):
    with tf.GradientTape() as tape:
      loss = -bound(x)
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    return loss

  minibatches = _Minibatches(pixels, batch_size)

  def run() -> None:
    for _ in range(num_steps):
      loss = step(tf.constant(next(minibatches).reshape(-1, 28, 28, 1)))
    loss.numpy()

  of = tf.function(bound)
  return Bound(lambda x: of(tf.constant(x.reshape(-1, 28, 28, 1))).numpy(), run)


def torch_article(
  weights: ArticleWeights, pixels: np.ndarray, *, batch_size: int, num_steps: int, compiled: bool
) -> Bound:
  """Makes the article's model in PyTorch, whose transposed convolutions pad on the other side.

  So the decoder has mirrored kernels here, and draws the mirror image.
  """
  import torch
  from torch import nn
  from torch.nn import functional

  torch.set_num_threads(os.cpu_count())
  latent_dim = weights.dense[0].shape[0]
  twice = dict(stride=2, padding=1, output_padding=1)
  encoder = nn.Sequential(
    nn.Conv2d(1, 32, 3, stride=2),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, stride=2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(2304, 2 * latent_dim),
  )
  decoder = nn.Sequential(
    nn.Linear(latent_dim, 7 * 7 * 32),
    nn.ReLU(),
    nn.Unflatten(1, (32, 7, 7)),
    nn.ConvTranspose2d(32, 64, 3, **twice),
    nn.ReLU(),
    nn.ConvTranspose2d(64, 32, 3, **twice),
    nn.ReLU(),
    nn.ConvTranspose2d(32, 1, 3, padding=1),
  )
  channels_first = lambda w: w.reshape(*w.shape[:-1], 7, 7, 32)[..., ::-1, ::-1, :]
  dense = [np.moveaxis(channels_first(w), -1, -3).reshape(w.shape) for w in weights.dense]
  kernel, bias = weights.heads
  heads = kernel.reshape(6, 6, 64, -1).transpose(3, 2, 0, 1).reshape(bias.size, -1), bias
  _set(encoder[0::2][:2], [(w.transpose(3, 2, 0, 1), b) for w, b in weights.convolutions])
  _set([encoder[-1]], [heads])
  _set([decoder[0]], [(dense[0].T, dense[1])])
  mirrored = [(w.transpose(3, 2, 0, 1)[..., ::-1, ::-1], b) for w, b in weights.transposed]
  _set([decoder[3], decoder[5], decoder[7]], mirrored)

  def log_normal(z, mean, log_var):
    return -0.5 * torch.sum((z - mean) ** 2 * torch.exp(-log_var) + log_var + np.log(2 * np.pi), 1)

  def bound(x):
    mean, log_var = encoder(x).chunk(2, dim=1)
    z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
    how = dict(reduction="sum")
    log_p = -functional.binary_cross_entropy_with_logits(decoder(z), x.flip(2, 3), **how) / len(x)
    zeros = torch.zeros_like(mean)
    return log_p + torch.mean(log_normal(z, zeros, zeros) - log_normal(z, mean, log_var))

  bound = torch.compile(bound) if compiled else bound
  optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-4)
  minibatches = _Minibatches(pixels, batch_size)
  images = lambda x: torch.from_numpy(x).reshape(-1, 1, 28, 28)

  def run() -> None:
    for _ in range(num_steps):
      optimizer.zero_grad()
      (-bound(images(next(minibatches)))).backward()
      optimizer.step()

  def of(x: np.ndarray) -> float:
    with torch.no_grad():
      return bound(images(x)).item()

  return Bound(of, run)


def _set(layers, weights: list[Weights]) -> None:
  import torch

  for layer, (kernel, bias) in zip(layers, weights, strict=True):
    layer.weight.data = torch.tensor(np.ascontiguousarray(kernel))
    layer.bias.data = torch.tensor(bias)


class _Minibatches:
  """Thresholded images in random order."""

  def __init__(self, pixels: np.ndarray, batch_size: int):
    self.x, self.batch_size = (pixels > 127).astype(np.float32), batch_size
    self.rng = np.random.default_rng(0)

  def __next__(self) -> np.ndarray:
    return self.x[self.rng.integers(len(self.x), size=self.batch_size)]
