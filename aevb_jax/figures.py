"""Pictures of what a model learned, and of how it got there.

The functions that compute return arrays; the functions that draw return a
matplotlib figure and leave saving it to the caller.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
import scipy.special

from aevb_jax.types import Array, Key, Model, Params

if TYPE_CHECKING:
  from matplotlib.figure import Figure

STYLE = str(pathlib.Path(__file__).with_name("figures.mplstyle"))
# By algorithm in all figures; told apart also without colours.
COLORS = {"aevb": "#0072b2", "wake_sleep": "#d55e00", "mcem": "#009e73"}
DATASETS = {"mnist": "MNIST", "frey_face": "Frey Face"}
NAMES = {"aevb": "AEVB", "wake_sleep": "Wake-Sleep", "mcem": "MCEM"}


@functools.partial(jax.jit, static_argnames="model")
def decode(model: Model, params: Params, z: Array) -> Array:
  """The mean of p(x|z) for latents z of shape (n, J); shape (n, D)."""
  return jax.vmap(lambda z: model.decoder.given(params.theta, z).mean)(z)


@functools.partial(jax.jit, static_argnames="model")
def encode(model: Model, params: Params, x: Array) -> Array:
  """The mean of q(z|x) for data points x of shape (n, D); shape (n, J)."""
  return jax.vmap(lambda x: model.encoder.given(params.phi, x).mean)(x)


@functools.partial(jax.jit, static_argnames=("model", "n"))
def sample_prior(key: Key, model: Model, params: Params, n: int) -> Array:
  """n draws z ~ p(z); shape (n, J)."""
  return jax.vmap(model.prior(params).sample)(jax.random.split(key, n))


def manifold_latents(n: int) -> np.ndarray:
  """An n×n grid on the unit square through the inverse Gaussian CDF (figure 4).

  Coordinates are (i + 1/2)/n, never 0 or 1. The first latent grows from left to
  right and the second from bottom to top, as in a scatter plot of the latents.

  Returns:
    Shape (n², 2), in rows from top to bottom.
  """
  quantiles = scipy.special.ndtri((np.arange(n) + 0.5) / n)
  first, second = np.meshgrid(quantiles, quantiles[::-1])
  return np.stack([first.ravel(), second.ravel()], axis=-1)


def tile(
  images: Array, image_shape: Sequence[int], columns: int, *, background: float = 1.0
) -> np.ndarray:
  """Images (n, H·W·C) in [0, 1] as one picture, row by row, one pixel of background apart."""
  height, width, channels = image_shape
  images = np.asarray(images).reshape(-1, height, width, channels)
  rows = -(-len(images) // columns)
  size = rows * (height + 1) - 1, columns * (width + 1) - 1, channels
  picture = np.full(size, background)
  for i, image in enumerate(images):
    top, left = i // columns * (height + 1), i % columns * (width + 1)
    picture[top : top + height, left : left + width] = image
  return picture


def styled(draw: Callable[..., "Figure"]) -> Callable[..., "Figure"]:
  """A function that draws in the style of figures.mplstyle, whatever the caller's."""

  @functools.wraps(draw)
  def drawn(*args, **kwargs) -> "Figure":
    import matplotlib.style

    with matplotlib.style.context(STYLE):
      return draw(*args, **kwargs)

  return drawn


def new_figure(width: float, height: float) -> "Figure":
  from matplotlib.figure import Figure

  return Figure(figsize=(width, height), layout="constrained")


@styled
def draw_images(picture: np.ndarray, title: str, *, row_labels: Sequence[str] = ()) -> "Figure":
  """A picture (H, W, C) made by `tile`, pixel by pixel, under a title.

  Args:
    picture: values in [0, 1].
    title: above the picture.
    row_labels: names of the rows, evenly spaced from top to bottom.
  """
  height, width, channels = picture.shape
  inches = 5.0
  figure = new_figure(inches, inches * height / width + 0.4)
  axes = figure.add_subplot()
  shown = picture[..., 0] if channels == 1 else picture[..., :3]
  axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
  axes.set_title(title, fontsize=9)
  axes.set_xticks([])
  middles = (np.arange(len(row_labels)) + 0.5) * height / max(len(row_labels), 1) - 0.5
  axes.set_yticks(middles, row_labels, fontsize=8)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  return figure


def show(axis, title: str, picture: np.ndarray) -> None:
  """A picture (H, W, C) without axes."""
  axis.set_axis_off()
  shown = picture[..., 0] if picture.shape[2] == 1 else picture[..., :3]
  axis.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
  axis.set_title(title)


@styled
def draw_pairs(
  x: Array, reconstructions: Array, image_shape: Sequence[int], title: str
) -> "Figure":
  """Rows of ten data points (n, D), each above its row of reconstructions (n, D)."""
  x, reconstructions = np.asarray(x), np.asarray(reconstructions)
  columns = min(10, len(x))
  starts = range(0, len(x) - columns + 1, columns)
  lines = [a[start : start + columns] for start in starts for a in (x, reconstructions)]
  picture = tile(np.concatenate(lines), image_shape, columns)
  return draw_images(picture, title, row_labels=["x", "E[x|z]"] * len(starts))


@styled
def draw_bounds(rows: Sequence[dict], title: str) -> "Figure":
  """The bound against training samples evaluated, on a log axis as in figure 2.

  Args:
    rows: with examples_seen, train_bound, train_bound_se, test_bound and
      test_bound_se, one for each evaluation. Those that are not finite are left out.
    title: above the axes.
  """
  figure = new_figure(4.5, 3.2)
  axes = figure.add_subplot()
  examples = np.array([row["examples_seen"] for row in rows])
  for split, style in (("train", "--"), ("test", "-")):
    bound = finite_or_nan(row[f"{split}_bound"] for row in rows)
    error = finite_or_nan(row[f"{split}_bound_se"] for row in rows)
    axes.plot(examples, bound, style, color="C0", marker=".", markersize=4, label=split)
    if np.isfinite(error).any():
      axes.fill_between(examples, bound - error, bound + error, color="C0", alpha=0.2, linewidth=0)
  _log_examples(axes, examples)
  axes.set_ylabel("variational bound (nats)")
  axes.set_title(title, fontsize=9)
  axes.grid(alpha=0.3)
  axes.legend(frameon=False)
  return figure


@styled
def draw_sweep(curves: Sequence[tuple[str, Sequence[dict]]], title: str) -> "Figure":
  """The bounds of many runs as `draw_bounds` has them, train dashed and test solid.

  Args:
    curves: for each run the group that colours it, such as its step size, and its rows.
      Bounds that are not finite numbers are left out.
    title: above the axes.
  """
  figure = new_figure(5.0, 3.6)
  axes = figure.add_subplot()
  groups = list(dict.fromkeys(group for group, _ in curves))
  colors = {group: f"C{i}" for i, group in enumerate(groups)}
  for group, rows in curves:
    examples = np.array([row["examples_seen"] for row in rows])
    for split, style in (("train", "--"), ("test", "-")):
      bound = finite_or_nan(row[f"{split}_bound"] for row in rows)
      axes.plot(examples, bound, style, color=colors[group], linewidth=1, marker=".", markersize=3)
  for group, color in colors.items():
    axes.plot([], [], color=color, label=group)
  _log_examples(axes, [row["examples_seen"] for _, rows in curves for row in rows])
  axes.set_ylabel("variational bound (nats)")
  axes.set_title(title, fontsize=9)
  axes.grid(alpha=0.3)
  axes.plot([], [], "k--", label="train")
  axes.plot([], [], "k-", label="test")
  axes.legend(frameon=False, fontsize=8)
  return figure


def name_of(dataset: str) -> str:
  """As a title has it, without its split."""
  kind = dataset.split(":")[0]
  return DATASETS.get(kind, kind)


def finite_or_nan(values: Iterable[float]) -> np.ndarray:
  values = np.array(list(values), float)
  return np.where(np.isfinite(values), values, np.nan)


def _log_examples(axes, examples: Sequence[int]) -> None:
  """A log axis of training samples evaluated, as in figure 2."""
  from matplotlib.ticker import NullFormatter

  axes.set_xscale("log")
  if max(examples) < 100 * min(examples):
    axes.xaxis.set_minor_formatter(NullFormatter())
  axes.set_xlabel("training samples evaluated")


@styled
def draw_latents(z: Array, labels: np.ndarray | None, title: str) -> "Figure":
  """Two-dimensional latents (n, 2) as points, coloured by label where there are any."""
  figure = new_figure(4.5, 4.2)
  axes = figure.add_subplot()
  scatter(axes, np.asarray(z), labels)
  axes.set_title(title, fontsize=9)
  return figure


def scatter(axes, z: np.ndarray, labels: np.ndarray | None) -> None:
  """Points (n, 2) in a plane, coloured by label where there are any."""
  dots = dict(s=np.clip(8000 / len(z), 2, 16), alpha=0.7, linewidths=0)
  if labels is None:
    axes.scatter(z[:, 0], z[:, 1], **dots)
  else:
    classes = np.unique(labels)
    for i, label in enumerate(classes):
      chosen = z[labels == label]
      color = f"C{i}" if len(classes) <= 10 else None
      axes.scatter(chosen[:, 0], chosen[:, 1], color=color, label=label, **dots)
    if len(classes) <= 20:
      legend = axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
      for handle in legend.legend_handles:
        handle.set_sizes([24])
  axes.set_aspect("equal", adjustable="datalim")
  axes.set_xlabel("$z_1$")
  axes.set_ylabel("$z_2$")
