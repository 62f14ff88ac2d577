"""The pictures of a training run."""

import functools
import pathlib
from collections.abc import Callable

import numpy as np
from absl import flags

from aevb_jax import figures
from aevb_jax.data.datasets import ImageData
from aevb_jax.data.minibatches import read_rows
from aevb_jax.training.evaluation import evaluate, evaluate_in_blocks
from aevb_jax.types import Key, Model, Params
from experiments.flags import models
from experiments.flags.data import Pixels, describe_pixels
from experiments.runs import directory

FLAGS = flags.FLAGS


def draw_pictures(
  workdir: pathlib.Path,
  key: Key,
  model: Model,
  params: Params,
  images: ImageData,
  pixels: Pixels,
  rows: list[dict],
) -> None:
  save = functools.partial(directory.write_figure, workdir)
  draw_model(save, key, model, params, images)
  if FLAGS.algorithm == "aevb":
    title = f"{describe_pixels()}\n{describe_latents()}, {FLAGS.estimator}"
    save("bound", figures.draw_bounds(rows, title))
    draw_posterior(save, key, model, params, images, pixels)


def describe_latents() -> str:
  return f"{FLAGS.latent_dim} latent{'s' if FLAGS.latent_dim > 1 else ''}"


def has_plane() -> bool:
  """Whether the latents are the points of a plane, which can be drawn."""
  return FLAGS.latent_dim == 2 and models.prior_name() == "gaussian"


def draw_model(save: Callable, key: Key, model: Model, params: Params, images: ImageData) -> None:
  """What takes no encoder: samples, and for two latents the manifold."""
  shape = images.image_shape
  title = f"{FLAGS.dataset}, {describe_latents()}: E[x|z] for z ~ p(z)"
  z = figures.sample_prior(key, model, params, 100)
  picture = figures.tile(figures.decode(model, params, z), shape, columns=10)
  save("samples", figures.draw_images(picture, title))
  if has_plane():
    z = figures.manifold_latents(20)
    picture = figures.tile(figures.decode(model, params, z), shape, columns=20, background=0.0)
    save("manifold", figures.draw_images(picture, f"{FLAGS.dataset}: the learned manifold"))


def draw_posterior(
  save: Callable, key: Key, model: Model, params: Params, images: ImageData, pixels: Pixels
) -> None:
  """What takes an encoder: reconstructions, and for two latents where test points lie."""
  how = dict(preprocess=pixels.preprocess, static_key=pixels.test_draw)
  few = read_rows(pixels.test, np.arange(min(30, len(pixels.test))))
  test = evaluate(lambda key, params, x: x, key, params, few, **how)
  title = f"{FLAGS.dataset}, {describe_latents()}: test images and their reconstructions"
  reconstructions = figures.decode(model, params, figures.encode(model, params, test))
  save("reconstructions", figures.draw_pairs(test, reconstructions, images.image_shape, title))
  if has_plane():
    posterior_means = evaluate_in_blocks(
      lambda key, params, x: model.encoder.given(params.phi, x).mean,
      key,
      params,
      pixels.test,
      **how,
    )
    title = f"{FLAGS.dataset}: test points, mean of q(z|x)"
    save("latents", figures.draw_latents(posterior_means, images.test_labels, title))
