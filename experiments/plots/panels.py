"""Pictures of images side by side: experiments.manifold and experiments.samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import new_figure, show, styled

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@styled
def draw_panels(pictures: Sequence[tuple[str, np.ndarray]], *, columns: int) -> "Figure":
  """Pictures made by `tile` side by side, each with a title: figures 4 and 5."""
  columns = min(columns, len(pictures))
  lines = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
  inches = 7.0 / columns if columns > 1 else 3.5
  heights = [max(p.shape[0] / p.shape[1] for _, p in line) for line in lines]
  figure = new_figure(inches * columns, sum(inches * h + 0.25 for h in heights))
  axes = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
  for axis in axes.flat:
    axis.set_axis_off()
  for (title, picture), axis in zip(pictures, axes.flat):
    show(axis, title, picture)
  return figure
