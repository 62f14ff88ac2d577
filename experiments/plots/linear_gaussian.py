"""A linear-Gaussian VAE on its way to PCA: experiments.linear_gaussian."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import new_figure, styled

if TYPE_CHECKING:
  from matplotlib.figure import Figure


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
  figure = new_figure(6.5, 2.8)
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
