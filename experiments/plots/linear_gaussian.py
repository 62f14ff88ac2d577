"""A linear-Gaussian VAE on its way to PCA: experiments.linear_gaussian."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import new_figure, padded, set_examples_axis, set_log_axis, styled
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure


def title_of(dataset: str, latent_dim: int | str) -> str:
  """Returns the title of the figure of a model of J latents."""
  return f"{dataset}: a linear-Gaussian VAE of {records.count_latents(latent_dim)}"


@styled
def draw_linear_gaussian(
  rows: Sequence[dict], maximum: float, title: str, *, budget: str | None = None
) -> "Figure":
  """Draws the distance of a linear-Gaussian VAE from PCA against training samples, on log axes.

  The left panel shows by how much the bound and log p(x) are below PCA's, the right panel the
  angles to PCA's subspace.

  Args:
    rows: the rows of `experiments.linear_gaussian`, with examples_seen, train_bound,
      train_log_likelihood, max_angle and mean_angle (degrees).
    maximum: the log-likelihood of the training set at PCA's solution, in nats per data point.
    title: the title above the panels.
    budget: the value of --budget.
  """
  figure = new_figure(6.5, 2.8)
  left, right = figure.subplots(1, 2)
  column = lambda name: np.array([row[name] for row in rows])
  examples = column("examples_seen")
  lacking = {
    "exact variational bound": maximum - column("train_bound"),
    "exact log p(x)": maximum - column("train_log_likelihood"),
  }
  angles = {"largest": column("max_angle"), "mean": column("mean_angle")}
  _draw_distances(left, examples, lacking, ("C0", "C1"))
  _draw_distances(right, examples, angles, ("C2", "C3"))
  left.set_ylabel("nats below PCA's maximum")
  right.set_ylabel("angle to PCA's subspace (degrees)")
  figure.suptitle(records.with_budget(title, budget))
  return figure


def redraw(directory: pathlib.Path) -> "Figure":
  """Redraws the figure of a directory of experiments.linear_gaussian.

  The distances are as precise as the digits of metrics.csv.
  """
  given = records.read_flags(directory)
  rows = records.read_rows(directory / "metrics.csv")
  maximum = records.read_summary(directory)["pca_train_log_likelihood"]
  title = title_of(given["dataset"], given["latent_dim"])
  return draw_linear_gaussian(rows, maximum, title, budget=given.get("budget"))


def _draw_distances(
  axes: "Axes", examples: np.ndarray, distances: dict[str, np.ndarray], colors: Sequence[str]
) -> None:
  """Draws distances by their labels; leaves out distances that rounding makes negative."""
  for (label, distance), color in zip(distances.items(), colors):
    shown = np.where(distance > 0, distance, np.nan)
    axes.plot(examples, shown, color=color, marker=".", label=label)
  set_examples_axis(axes, examples)
  set_log_axis(axes, "y", *padded(np.concatenate(list(distances.values()))))
  axes.legend(loc="lower left")
