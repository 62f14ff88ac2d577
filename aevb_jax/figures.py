"""Figures of a model and of its training, for any user of the package.

The functions that compute return arrays; the functions that draw return a
matplotlib figure and leave saving it to the caller.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from aevb_jax.types import Array, Key, Model, Params

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

STYLE = str(pathlib.Path(__file__).with_name("figures.mplstyle"))
# The colour of each algorithm in all figures; the algorithms differ also without colours.
COLORS = {"aevb": "#0072b2", "wake_sleep": "#d55e00", "mcem": "#009e73"}
DATASETS = {"mnist": "MNIST", "frey_face": "Frey Face"}
NAMES = {"aevb": "AEVB", "wake_sleep": "Wake-Sleep", "mcem": "MCEM"}


@functools.partial(jax.jit, static_argnames="model")
def decode(model: Model, params: Params, z: Array | tuple[Array, Array]) -> Array:
  """Computes the mean of p(x|z) for latents z of shape (n, J); shape (n, D).

  A conditional model takes a pair (z, c), c of shape (n, C), for the mean of p(x|z, c).
  """
  return jax.vmap(lambda z: model.decoder.given(params.theta, z).mean)(z)


@functools.partial(jax.jit, static_argnames="model")
def encode(model: Model, params: Params, x: Array | tuple[Array, Array]) -> Array:
  """Computes the mean of q(z|x) for data points x of shape (n, D); shape (n, J).

  A conditional model takes a pair (x, c), c of shape (n, C), for the mean of q(z|x, c).
  """
  return jax.vmap(lambda x: model.encoder.given(params.phi, x).mean)(x)


def decode_each(model: Model, params: Params, z: Array, c: Array) -> Array:
  """Computes the mean of p(x|z, c) of a conditional model for each z with each c: analogies.

  Source: Kingma, Rezende, Mohamed & Welling (2014), figure 1.

  Args:
    model: a conditional model.
    params: θ and φ.
    z: n latents, shape (n, J).
    c: k conditions, such as one-hot classes, shape (k, C).

  Returns:
    The means, shape (n, k, D).
  """
  pairs = jnp.repeat(z, len(c), axis=0), jnp.tile(c, (len(z), 1))
  return decode(model, params, pairs).reshape(len(z), len(c), -1)


@functools.partial(jax.jit, static_argnames=("model", "n"))
def sample_prior(key: Key, model: Model, params: Params, n: int) -> Array:
  """Draws z ~ p(z) n times; shape (n, J)."""
  return jax.vmap(model.prior(params).sample)(jax.random.split(key, n))


def manifold_latents(n: int) -> np.ndarray:
  """Maps an n×n grid on the unit square through the inverse Gaussian CDF (figure 4).

  Coordinates are (i + 1/2)/n, never 0 or 1. The first latent grows from left to
  right and the second from bottom to top, as in a scatter plot of the latents.

  Returns:
    Shape (n², 2), in rows from top to bottom.
  """
  quantiles = scipy.special.ndtri((np.arange(n) + 0.5) / n)
  first, second = np.meshgrid(quantiles, quantiles[::-1])
  return np.stack([first.ravel(), second.ravel()], axis=-1)


def tile(
  images: Array | np.ndarray, image_shape: Sequence[int], columns: int, *, background: float = 1.0
) -> np.ndarray:
  """Tiles images in [0, 1] to one picture by rows, one pixel of background apart.

  Args:
    images: shape (n, H·W·C) or (n, H, W, C).
    image_shape: (H, W, C).
    columns: images in a row.
    background: what is between the images.

  Returns:
    The picture, (height, width, C).
  """
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
  """Wraps a function so that it draws in the style of figures.mplstyle, not the caller's style."""

  @functools.wraps(draw)
  def drawn(*args, **kwargs) -> "Figure":
    import matplotlib.style

    with matplotlib.style.context(STYLE):
      return draw(*args, **kwargs)

  return drawn


def new_figure(width: float, height: float) -> "Figure":
  """Makes an empty figure of a size in inches, which belongs to no window."""
  from matplotlib.figure import Figure

  return Figure(figsize=(width, height), layout="constrained")


@styled
def draw_images(picture: np.ndarray, title: str, *, row_labels: Sequence[str] = ()) -> "Figure":
  """Draws a picture (H, W, C) made by `tile`, pixel by pixel, under a title.

  Args:
    picture: values in [0, 1].
    title: above the picture.
    row_labels: names of the rows, evenly spaced from top to bottom.
  """
  height, width, _ = picture.shape
  figure = new_figure(5.0, 5.0 * height / width + 0.4)
  show(figure.add_subplot(), title, picture, row_labels=row_labels)
  return figure


def show(axes: "Axes", title: str, picture: np.ndarray, *, row_labels: Sequence[str] = ()) -> None:
  """Shows a picture (H, W, C) under a title, without a frame, with names of its rows beside it."""
  shown = picture[..., 0] if picture.shape[2] == 1 else picture[..., :3]
  axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
  axes.set_title(title)
  axes.set_xticks([])
  middles = (np.arange(len(row_labels)) + 0.5) * len(picture) / max(len(row_labels), 1) - 0.5
  axes.set_yticks(middles, row_labels)
  axes.grid(False)  # the style draws it through the ticks, and so through the images
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)


@styled
def draw_pairs(
  x: Array, reconstructions: Array, image_shape: Sequence[int], title: str
) -> "Figure":
  """Draws rows of ten data points (n, D), each above its row of reconstructions (n, D)."""
  x, reconstructions = np.asarray(x), np.asarray(reconstructions)
  columns = min(10, len(x))
  starts = range(0, len(x) - columns + 1, columns)
  lines = [a[start : start + columns] for start in starts for a in (x, reconstructions)]
  picture = tile(np.concatenate(lines), image_shape, columns)
  return draw_images(picture, title, row_labels=["x", "E[x|z]"] * len(starts))


@styled
def draw_bounds(rows: Sequence[dict], title: str) -> "Figure":
  """Draws the bound against training samples evaluated, on a log axis as in figure 2.

  Args:
    rows: with examples_seen, train_bound, train_bound_se, test_bound and
      test_bound_se, one for each evaluation. Numbers that are not finite are left out.
    title: above the axes.
  """
  figure = new_figure(4.5, 3.2)
  axes = figure.add_subplot()
  examples = np.array([row["examples_seen"] for row in rows])
  for split, style, fill in (("train", "--", "white"), ("test", "-", "C0")):
    bound = finite_or_nan(row[f"{split}_bound"] for row in rows)
    error = finite_or_nan(row[f"{split}_bound_se"] for row in rows)
    drawn: dict[str, Any] = dict(color="C0", marker="o", markerfacecolor=fill, label=split)
    if len(rows) == 1:  # a point has no line style and no band
      axes.errorbar(examples, bound, error, fmt=style, capsize=2, **drawn)
      continue
    axes.plot(examples, bound, style, **drawn)
    if np.isfinite(error).any():
      axes.fill_between(examples, bound - error, bound + error, color="C0", alpha=0.2, linewidth=0)
  set_examples_axis(axes, examples)
  axes.set_ylabel("variational bound (nats)")
  axes.set_title(title)
  axes.legend()
  return figure


@styled
def draw_sweep(curves: Sequence[tuple[str, Sequence[dict]]], title: str) -> "Figure":
  """Draws the bounds of many runs as `draw_bounds` does, train dashed and test solid.

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
      axes.plot(examples, bound, style, color=colors[group], linewidth=1, marker=".")
  for group, color in colors.items():
    axes.plot([], [], color=color, label=group)
  set_examples_axis(axes, [row["examples_seen"] for _, rows in curves for row in rows])
  axes.set_ylabel("variational bound (nats)")
  axes.set_title(title)
  axes.plot([], [], "k--", label="train")
  axes.plot([], [], "k-", label="test")
  axes.legend()
  return figure


def name_of(dataset: str) -> str:
  """Returns the name of a data set for a title, without its split."""
  kind = dataset.split(":")[0]
  return DATASETS.get(kind, kind)


def finite_or_nan(values: Iterable[float]) -> np.ndarray:
  """Makes an array in which values that are not finite are NaN, which is not drawn."""
  values = np.array(list(values), float)
  return np.where(np.isfinite(values), values, np.nan)


def set_examples_axis(axes: "Axes", examples: Sequence[int] | np.ndarray) -> None:
  """Gives axes a log axis of training samples evaluated, as in figure 2."""
  set_log_axis(axes, "x", *padded(examples))
  axes.set_xlabel("training samples evaluated")


def padded(values: Iterable[float], *, pad: float = 0.05) -> tuple[float, float]:
  """Computes the limits of a log axis of some values, with a margin in proportion to their range.

  Args:
    values: the values; those that are not positive numbers are left out.
    pad: the margin at each end, as a part of the range of the logarithms.

  Returns:
    The limits. For a single value they are a factor of two below and above it; without values they
    are 1 and 10.
  """
  positive = [value for value in values if 0 < value < math.inf]
  if not positive:
    return 1.0, 10.0
  low, high = min(positive), max(positive)
  factor = (high / low) ** pad if high > low else 2.0
  return low / factor, high * factor


def set_log_axis(axes: "Axes", which: str, low: float, high: float) -> None:
  """Makes an axis logarithmic, from `low` to `high`, with at least two ticks that have labels.

  These are powers of ten if two fit. On a shorter axis they are plain numbers at 1, 2 and 5,
  or evenly spaced ones; matplotlib itself would have labels such as 8.875×10¹.

  Args:
    axes: the axes with that axis.
    which: "x" or "y".
    low: the lower limit, above 0.
    high: the upper limit, above `low`.
  """
  from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

  axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
  axis = getattr(axes, f"{which}axis")
  axis.set_minor_formatter(NullFormatter())
  if math.floor(math.log10(high)) > math.ceil(math.log10(low)):
    axis.set_major_locator(LogLocator(numticks=8))  # every decade, however short the axis
    if low > 1e-3 and high < 1e4:
      axis.set_major_formatter("{x:g}")
  else:
    ticks = _plain_ticks(low, high)
    axis.set_ticks(ticks, [f"{tick:,.10g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def _plain_ticks(low: float, high: float) -> list[float]:
  """Finds at least two round numbers in an interval above 0."""
  from matplotlib.ticker import MaxNLocator

  exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
  ticks = [float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 2, 5)]
  ticks = [tick for tick in ticks if low <= tick <= high]
  if len(ticks) < 2:
    ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)
    ticks = [tick for tick in ticks if low <= tick <= high]
  return ticks


@styled
def draw_latents(z: Array, labels: np.ndarray | None, title: str) -> "Figure":
  """Draws two-dimensional latents (n, 2) as points, coloured by label if there are labels."""
  figure = new_figure(4.5, 4.2)
  axes = figure.add_subplot()
  scatter(axes, np.asarray(z), labels)
  axes.set_title(title)
  return figure


def scatter(axes: "Axes", z: np.ndarray, labels: np.ndarray | None) -> None:
  """Draws points (n, 2) of a plane, coloured by label if there are labels."""
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
      legend = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
      for handle in legend.legend_handles:
        handle.set_sizes([24])  # type: ignore[union-attr]
  axes.set_aspect("equal", adjustable="datalim")
  axes.set_xlabel("$z_1$")
  axes.set_ylabel("$z_2$")
