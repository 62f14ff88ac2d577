"""The article's convolutional VAE: experiments.conv_vae."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import COLORS, new_figure, show, styled

if TYPE_CHECKING:
  from matplotlib.figure import Figure


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
  figure = new_figure(5.0, 4.0)
  grid = figure.add_gridspec(2, len(pictures), height_ratios=[1, 1.2])
  for i, (title, picture) in enumerate(pictures):
    show(figure.add_subplot(grid[0, i]), title, picture)
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
