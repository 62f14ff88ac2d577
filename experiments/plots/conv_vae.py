"""The article's convolutional VAE: experiments.conv_vae."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import COLORS, finite_or_nan, new_figure, show, styled
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

REACH = 60  # nats shown above the lowest loss: more would hide the slow end


@styled
def draw_conv_vae(
  pictures: Sequence[tuple[str, np.ndarray]],
  rows: Sequence[dict],
  level: float | None,
  *,
  budget: str | None = None,
) -> "Figure":
  """Draws pictures made by `tile` in a row, and below them the loss against epochs.

  Args:
    pictures: each with its title.
    rows: with epochs, and train_loss and test_loss in nats, in the order of training.
    level: a loss to compare with, such as the article's; None for none. It is left out if
      the loss is too far from it to share an axis.
    budget: the value of --budget.
  """
  figure = new_figure(5.0, 4.0)
  grid = figure.add_gridspec(2, len(pictures), height_ratios=[1, 1.2])
  for i, (title, picture) in enumerate(pictures):
    show(figure.add_subplot(grid[0, i]), title, picture)
  _draw_loss(figure.add_subplot(grid[1, :]), rows, level)
  if warning := records.with_budget("", budget):
    figure.suptitle(warning)
  return figure


def _draw_loss(axes: "Axes", rows: Sequence[dict], level: float | None) -> None:
  """Draws the loss of both splits against epochs, and the level within reach."""
  epochs = [row["epochs"] for row in rows]
  for split, style in (("train", "--"), ("test", "-")):
    loss = finite_or_nan(row[f"{split}_loss"] for row in rows)
    axes.plot(epochs, loss, style, color=COLORS["aevb"], marker=".", label=split)
  losses = [row["test_loss"] for row in rows]
  lowest = min(losses)
  if level is not None and lowest - level < REACH:
    axes.axhline(level, color="0.5", linestyle=":", label=f"the article: about {level:g}")
  if np.mean(np.array(losses) < lowest + REACH) > 0.5:  # otherwise the loss falls until the end
    axes.set_ylim(top=min(max(losses), lowest + REACH) + 2)
  axes.set_xlabel("epochs")
  axes.set_ylabel("loss, −bound (nats)")
  axes.legend()
