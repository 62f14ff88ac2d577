"""Pictures of what a model learned, and of how it got there.

The functions that compute return arrays; the functions that draw return a
matplotlib figure and leave saving it to the caller.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

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


def _figure(width: float, height: float) -> "Figure":
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
  figure = _figure(inches, inches * height / width + 0.4)
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


@styled
def draw_panels(pictures: Sequence[tuple[str, np.ndarray]], *, columns: int) -> "Figure":
  """Pictures made by `tile` side by side, each with a title: figures 4 and 5."""
  columns = min(columns, len(pictures))
  lines = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
  inches = 7.0 / columns if columns > 1 else 3.5
  heights = [max(p.shape[0] / p.shape[1] for _, p in line) for line in lines]
  figure = _figure(inches * columns, sum(inches * h + 0.25 for h in heights))
  axes = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
  for axis in axes.flat:
    axis.set_axis_off()
  for (title, picture), axis in zip(pictures, axes.flat):
    _show(axis, title, picture)
  return figure


@styled
def draw_conv_vae(
  pictures: Sequence[tuple[str, np.ndarray]], rows: Sequence[dict], level: float | None
) -> "Figure":
  """Pictures made by `tile` in a row, and below them the loss against epochs.

  Args:
    pictures: each with its title.
    rows: with epochs, and train_loss and test_loss in nats, in the order of training.
    level: a loss to hold it against, that of the article; None for none.
  """
  figure = _figure(5.0, 4.0)
  grid = figure.add_gridspec(2, len(pictures), height_ratios=[1, 1.2])
  for i, (title, picture) in enumerate(pictures):
    _show(figure.add_subplot(grid[0, i]), title, picture)
  axis = figure.add_subplot(grid[1, :])
  epochs = np.array([row["epochs"] for row in rows])
  for split, style in (("train", "--"), ("test", "-")):
    loss = np.array([row[f"{split}_loss"] for row in rows])
    axis.plot(epochs, loss, style, color=COLORS["aevb"], marker=".", label=split)
  if level is not None:
    axis.axhline(level, color="0.5", linestyle=":", label=f"the article: about {level:g}")
  last = min(row["test_loss"] for row in rows)
  highest = max(row["test_loss"] for row in rows)
  axis.set_ylim(top=min(highest, last + 60) + 2)  # what it fell from would hide how slowly it ends
  axis.set_xlabel("epochs")
  axis.set_ylabel("loss, −bound (nats)")
  axis.legend()
  return figure


def _show(axis, title: str, picture: np.ndarray) -> None:
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
  figure = _figure(4.5, 3.2)
  axes = figure.add_subplot()
  examples = np.array([row["examples_seen"] for row in rows])
  for split, style in (("train", "--"), ("test", "-")):
    bound = _finite_or_nan(row[f"{split}_bound"] for row in rows)
    error = _finite_or_nan(row[f"{split}_bound_se"] for row in rows)
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
  figure = _figure(5.0, 3.6)
  axes = figure.add_subplot()
  groups = list(dict.fromkeys(group for group, _ in curves))
  colors = {group: f"C{i}" for i, group in enumerate(groups)}
  for group, rows in curves:
    examples = np.array([row["examples_seen"] for row in rows])
    for split, style in (("train", "--"), ("test", "-")):
      bound = _finite_or_nan(row[f"{split}_bound"] for row in rows)
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


@styled
def draw_lower_bounds(rows: Sequence[dict], limits: Mapping[str, tuple[float, float]]) -> "Figure":
  """Figure 2: a row of panels for each data set, a panel for each number of latents.

  Train dashed and test solid; of several seeds the mean, and all of them as a band.

  Args:
    rows: with dataset, latent_dim, algorithm, seed, examples_seen, train_bound and test_bound.
    limits: of the bound, by the name of a data set without its split.
  """
  from matplotlib.ticker import LogLocator

  panels = list(dict.fromkeys((row["dataset"], row["latent_dim"]) for row in rows))
  datasets = list(dict.fromkeys(dataset for dataset, _ in panels))
  lines = [[panel for panel in panels if panel[0] == dataset] for dataset in datasets]
  columns = max(map(len, lines))
  columns += all(len(line) == columns for line in lines)  # room for the legend
  figure = _figure(max(1.5 * columns, 3.2), 1.75 * len(lines))
  axes = figure.subplots(len(lines), columns, squeeze=False, sharex=True)
  for axis in axes.flat:
    axis.set_visible(False)
  for line, of_line in zip(lines, axes):
    kind = line[0][0].split(":")[0]
    for (dataset, latent_dim), axis in zip(line, of_line):
      axis.set_visible(True)
      chosen = [row for row in rows if (row["dataset"], row["latent_dim"]) == (dataset, latent_dim)]
      _draw_panel(axis, chosen, "examples_seen", "_bound")
      axis.set_title(f"{name_of(dataset)}, $N_z = {latent_dim}$")
      axis.set_xscale("log")
      axis.set_xlim(*_decades(rows))
      axis.xaxis.set_major_locator(LogLocator(numticks=10))  # every decade, however narrow
      if kind in limits:
        axis.set_ylim(*limits[kind])
      axis.label_outer(remove_inner_ticks=False)
      axis.xaxis.set_tick_params(labelbottom=True)
    of_line[0].set_ylabel("variational bound (nats)")
  figure.supxlabel("training samples evaluated", fontsize=8)
  shortest = min(range(len(lines)), key=lambda i: (len(lines[i]), -i))
  room = axes[shortest, -1]
  room.set_visible(True)
  room.set_axis_off()
  handles = {}
  for axis in axes.flat:
    handles |= dict(zip(*reversed(axis.get_legend_handles_labels())))
  room.legend(handles.values(), handles.keys(), loc="center left")
  return figure


@styled
def draw_marginal_likelihoods(
  rows: Sequence[dict], limits: Mapping[int, tuple[float, float]]
) -> "Figure":
  """Figure 3: a panel for each number of training images, train dashed and test solid.

  Args:
    rows: with num_train, algorithm, seed, evaluations, train_log_likelihood and
      test_log_likelihood.
    limits: of the log-likelihood, by the number of training images.
  """
  sizes = list(dict.fromkeys(row["num_train"] for row in rows))
  figure = _figure(max(2.6 * len(sizes) + 1.4, 4.0), 2.3)
  axes = figure.subplots(1, len(sizes), squeeze=False)[0]
  for num_train, axis in zip(sizes, axes):
    chosen = [row for row in rows if row["num_train"] == num_train]
    _draw_panel(axis, chosen, "evaluations", "_log_likelihood")
    axis.set_title(f"$N_{{train}} = {num_train}$")
    axis.set_xlim(left=0)
    if num_train in limits:
      axis.set_ylim(*limits[num_train])
    axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}")
    axis.set_xlabel("likelihood evaluations (millions)")
  axes[0].set_ylabel("marginal log-likelihood (nats)")
  figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
  return figure


def name_of(dataset: str) -> str:
  """As a title has it, without its split."""
  kind = dataset.split(":")[0]
  return DATASETS.get(kind, kind)


def _draw_panel(axis, rows: Sequence[dict], x: str, y: str) -> None:
  """Curves of algorithms, train dashed and test solid, with a band over seeds."""
  for algorithm in dict.fromkeys(row["algorithm"] for row in rows):
    mine = [row for row in rows if row["algorithm"] == algorithm]
    seeds = list(dict.fromkeys(row["seed"] for row in mine))
    seen = np.array([row[x] for row in mine if row["seed"] == seeds[0]])
    for split, style in (("train", "--"), ("test", "-")):
      values = np.array(
        [[row[f"{split}{y}"] for row in mine if row["seed"] == seed] for seed in seeds], float
      )
      values = np.where(np.isfinite(values), values, np.nan)
      color, label = COLORS[algorithm], f"{NAMES[algorithm]} ({split})"
      axis.plot(seen, values.mean(axis=0), style, color=color, label=label)
      if len(seeds) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(seen, low, high, color=color, alpha=0.25, linewidth=0)


def _decades(rows: Sequence[dict]) -> tuple[float, float]:
  """From the hundred thousand samples where the paper's axis begins, if there are more."""
  seen = [row["examples_seen"] for row in rows]
  return (1e5 if max(seen) > 1e5 else min(seen)), max(seen)


def _finite_or_nan(values: Iterable[float]) -> np.ndarray:
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
def draw_iwae_table(rows: Sequence[dict], title: str) -> "Figure":
  """Negative log-likelihood by the number of samples, and what it gains on the first row.

  Ours solid, with standard errors over images on the right, where they are of differences
  image by image; published hollow and dashed.

  Args:
    rows: of `experiments.iwae_table`, with model, k, nll, gain, gain_se, and where there
      are published numbers paper_nll and paper_gain. The row of k = 1 stands for both models.
    title: above the panels.
  """
  numbers = sorted({row["k"] for row in rows})
  published = any("paper_nll" in row for row in rows)
  figure = _figure(5.0, 2.4)
  names = {"nll": "negative log-likelihood (nats)", "gain": f"gain on k = {numbers[0]} (nats)"}
  for axis, (name, label) in zip(figure.subplots(1, 2), names.items()):
    for model, color, marker, shift in (
      ("vae", "#0072b2", "o", 0.95),
      ("iwae", "#d55e00", "s", 1.05),
    ):
      mine = [row for row in rows if row["model"] == model or row["k"] == 1]
      k = shift * np.array([row["k"] for row in mine])
      error = [row["gain_se"] for row in mine] if name == "gain" else None
      ours, style = [row[name] for row in mine], dict(color=color, marker=marker)
      axis.errorbar(k, ours, error, label=model.upper(), capsize=2, **style)
      if published:
        theirs = [row.get(f"paper_{name}", np.nan) for row in mine]
        style |= dict(markerfacecolor="white", linestyle="--")
        axis.plot(k, theirs, label=f"{model.upper()}, published", **style)
    axis.set_xscale("log")
    axis.set_xticks(numbers, numbers)
    axis.minorticks_off()
    axis.set_xlabel("k, samples in training")
    axis.set_ylabel(label)
  handles, labels = figure.axes[0].get_legend_handles_labels()
  ours_first = sorted(zip(labels, handles), key=lambda pair: "published" in pair[0])
  labels, handles = zip(*ours_first)
  figure.legend(handles, labels, loc="outside lower center", ncols=4)
  figure.suptitle(title)
  return figure


@styled
def draw_latents(z: Array, labels: np.ndarray | None, title: str) -> "Figure":
  """Two-dimensional latents (n, 2) as points, coloured by label where there are any."""
  figure = _figure(4.5, 4.2)
  axes = figure.add_subplot()
  _scatter(axes, np.asarray(z), labels)
  axes.set_title(title, fontsize=9)
  return figure


def _scatter(axes, z: np.ndarray, labels: np.ndarray | None) -> None:
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


class Panel(NamedTuple):
  """A picture made by `tile`, with a title above and names of its rows beside it."""

  title: str
  picture: np.ndarray
  row_labels: Sequence[str]


@styled
def draw_uses(
  panels: Sequence[Panel], z: Array, labels: np.ndarray, latents_title: str
) -> "Figure":
  """Panels of images two in a row, and in the last place two-dimensional latents by label.

  Args:
    panels: of the same size.
    z: shape (n, 2).
    labels: of each, shape (n,).
    latents_title: above the latents.
  """
  num_lines = -(-(len(panels) + 1) // 2)
  height, width, _ = panels[0].picture.shape
  figure = _figure(7.0, (3.1 * height / width + 0.3) * num_lines)
  axes = figure.subplots(num_lines, 2).flat
  for axis, (title, picture, row_labels) in zip(axes, panels):
    _show(axis, title, picture)
    axis.set_axis_on()
    middles = (np.arange(len(row_labels)) + 0.5) * len(picture) / len(row_labels) - 0.5
    axis.set_yticks(middles, row_labels)
    axis.set_xticks([])
    axis.grid(False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
  axis = axes[len(panels)]
  _scatter(axis, np.asarray(z), labels)
  axis.set_title(latents_title)
  return figure


@styled
def draw_gradient_noise(rows: Sequence[dict], title: str) -> "Figure":
  """Variance, signal-to-noise ratio, and variance × cost against the number of samples.

  Args:
    rows: of `experiments.gradients`, with at, estimator, num_samples, block, variance and
      snr with their intervals, and variance_x_milliseconds. The blocks theta and phi of
      every `at` are a row of panels each.
    title: above the panels.
  """
  numbers = sorted({row["num_samples"] for row in rows})
  estimators = list(dict.fromkeys(row["estimator"] for row in rows))
  stages = sorted({row["at"] for row in rows})
  panels = [(at, block) for at in stages for block in ("theta", "phi")]
  names = {
    "variance": "variance",
    "snr": "signal-to-noise ratio",
    "variance_x_milliseconds": "variance × ms",
  }
  symbols = {"theta": "θ", "phi": "φ"}
  figure = _figure(6.5, 1.0 + 1.35 * len(panels))
  axes = figure.subplots(len(panels), len(names), sharex=True, squeeze=False)
  for (at, block), line in zip(panels, axes):
    of_panel = [row for row in rows if (row["at"], row["block"]) == (at, block)]
    for axis, name in zip(line, names):
      for i, estimator in enumerate(estimators):
        chosen = [row for row in of_panel if row["estimator"] == estimator and row[name] > 0]
        _draw_with_intervals(axis, chosen, name, estimator, i)
      _log_axes(axis, numbers, [row[name] for row in of_panel if row[name] > 0])
    line[0].set_ylabel(f"{symbols[block]}\n{at:,} seen")
  for axis, label in zip(axes[0], names.values()):
    axis.set_title(label)
  for axis in axes[-1]:
    axis.set_xlabel("samples per data point")
  handles, labels = axes[0, 0].get_legend_handles_labels()
  columns = 2 if max(map(len, estimators)) > 24 else 4
  figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
  figure.suptitle(title)
  return figure


def _draw_with_intervals(axis, rows: Sequence[dict], name: str, label: str, number: int) -> None:
  """A column against the number of samples, with its intervals where it has any."""
  value = np.array([row[name] for row in rows])
  low = np.array([row.get(f"{name}_low", row[name]) for row in rows])
  high = np.array([row.get(f"{name}_high", row[name]) for row in rows])
  samples = [row["num_samples"] for row in rows]
  color, marker = f"C{number % 10}", "osD^vP*X"[number % 8]
  style = dict(color=color, marker=marker, markersize=3.5, linewidth=1, capsize=2)
  axis.errorbar(samples, value, np.abs([value - low, high - value]), label=label, **style)


def _log_axes(axis, numbers: Sequence[int], values: Sequence[float]) -> None:
  """Two log axes: ticks at the numbers of samples, and of the values at least two with labels.

  Intervals that reach below what is shown of the values are cut off.
  """
  from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

  axis.set_xscale("log")
  axis.set_yscale("log")
  axis.set_xticks(numbers, numbers)
  axis.xaxis.set_minor_locator(NullLocator())
  low, high = min(values, default=1.0), max(values, default=1.0)
  axis.set_ylim(low / 2, high * 2)
  axis.yaxis.set_minor_formatter(NullFormatter())
  if high < 25 * low:
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
  axis.grid(alpha=0.3)


@styled
def draw_full_vb(rows: Sequence[dict], title: str) -> "Figure":
  """Bounds of several ways of learning θ against training samples: train and test apart.

  Args:
    rows: of `experiments.full_vb`, with method, theta, examples_seen, train_bound,
      train_bound_se, test_bound and test_bound_se. Each pair of method and theta is a line.
    title: above the panels.
  """
  lines = list(dict.fromkeys((row["method"], row["theta"]) for row in rows))
  methods = list(dict.fromkeys(method for method, _ in lines))
  names = {"point": "{}", "mean": "{}, θ at its mean", "drawn": "{}, θ ~ q(θ)"}
  figure = _figure(8.0, 3.6)
  for axis, split in zip(figure.subplots(1, 2), ("train", "test")):
    for method, theta in lines:
      chosen = [row for row in rows if (row["method"], row["theta"]) == (method, theta)]
      examples = np.array([row["examples_seen"] for row in chosen])
      bound = np.array([row[f"{split}_bound"] for row in chosen])
      error = np.array([row[f"{split}_bound_se"] for row in chosen])
      color, style = f"C{methods.index(method)}", "--" if theta == "mean" else "-"
      label = names[theta].format(method)
      axis.plot(examples, bound, style, color=color, marker=".", markersize=3, label=label)
      axis.fill_between(examples, bound - error, bound + error, color=color, alpha=0.2, linewidth=0)
    axis.set_xscale("log")
    axis.set_xlabel("training samples evaluated")
    axis.set_ylabel(f"{split} bound (nats)")
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=7)
  figure.suptitle(title, fontsize=9)
  return figure


@styled
def draw_linear_gaussian(rows: Sequence[dict], maximum: float, title: str) -> "Figure":
  """How far a linear-Gaussian VAE is from PCA against training samples, on log axes.

  On the left what the bound and log p(x) lack to PCA's, on the right the angles to its subspace.

  Args:
    rows: of `experiments.linear_gaussian`, with examples_seen, train_bound,
      train_log_likelihood, max_angle and mean_angle (degrees).
    maximum: the log-likelihood of the training set at PCA's solution, in nats per data point.
    title: above the panels.
  """
  figure = _figure(6.5, 2.8)
  left, right = figure.subplots(1, 2)
  column = lambda name: np.array([row[name] for row in rows])
  examples = column("examples_seen")

  def draw(axis, y: np.ndarray, color: str, label: str) -> None:
    # What rounding took across the optimum has no place on a log axis.
    y = np.where(y > 0, y, np.nan)
    axis.loglog(examples, y, "-", color=color, marker=".", markersize=3, label=label)

  draw(left, maximum - column("train_bound"), "C0", "exact variational bound")
  draw(left, maximum - column("train_log_likelihood"), "C1", "exact log p(x)")
  left.set_ylabel("nats below PCA's maximum")
  draw(right, column("max_angle"), "C2", "largest")
  draw(right, column("mean_angle"), "C3", "mean")
  right.set_ylabel("angle to PCA's subspace (degrees)")
  for axis in (left, right):
    axis.set_xlabel("training samples evaluated")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower left")
    axis.yaxis.set_major_formatter("{x:g}")
  figure.suptitle(title)
  return figure
