"""Styles and analogies of a conditional model: experiments.analogies."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aevb_jax.figures import new_figure, show, styled
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.figure import Figure


class Pictures(NamedTuple):
  """The pictures of figure 1, made by `tile`."""

  styles: Sequence[tuple[str, np.ndarray]]  # for some classes, each with a title
  images: np.ndarray  # test images, below each other
  analogies: np.ndarray  # a row for each test image, a column for each class
  classes: Sequence[str]  # the names of the columns


@styled
def draw_analogies(pictures: Pictures, *, budget: str | None = None) -> "Figure":
  """Draws the styles of some classes below each other, and beside them the analogies.

  Args:
    pictures: what is drawn.
    budget: the value of --budget.
  """
  figure = new_figure(7.0, 4.8)
  grid = figure.add_gridspec(len(pictures.styles), 2, width_ratios=[1, 2.1])
  for i, (title, picture) in enumerate(pictures.styles):
    show(figure.add_subplot(grid[i, 0]), title, picture)
  joined, middles = beside(pictures.images, pictures.analogies, len(pictures.classes))
  axes = figure.add_subplot(grid[:, 1])
  show(axes, "test images x, and E[x|z, c] with their z for each class c", joined)
  axes.set_xticks(middles, ["x", *pictures.classes])
  if warning := records.with_budget("", budget):
    figure.suptitle(warning)
  return figure


def beside(
  images: np.ndarray, analogies: np.ndarray, num_columns: int
) -> tuple[np.ndarray, np.ndarray]:
  """Joins two pictures of the same height, a third of an image apart.

  Returns:
    The joined picture, and the middles of its columns in pixels: the images, then the analogies.
  """
  height, width, channels = images.shape
  gap = np.ones((height, max(1, width // 3), channels))
  joined = np.concatenate([images, gap, analogies], axis=1)
  starts = width + gap.shape[1] + np.arange(num_columns) * (width + 1)
  return joined, np.concatenate([[0], starts]) + (width - 1) / 2
