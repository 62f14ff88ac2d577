"""Pictures of images side by side: experiments.manifold and experiments.samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import new_figure, show, styled
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@styled
def draw_panels(
  pictures: Sequence[tuple[str, np.ndarray]], *, columns: int, budget: str | None = None
) -> "Figure":
  """Draws pictures made by `tile` side by side, each with a title: figures 4 and 5.

  The widths make all pictures of a row equally high.

  Args:
    pictures: each with its title.
    columns: pictures in a row.
    budget: the value of --budget.
  """
  columns = min(columns, len(pictures))
  lines = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
  widths = [picture.shape[1] / picture.shape[0] for _, picture in lines[0]]
  inches = 7.0 if columns > 1 else 3.5
  height = inches / sum(widths)
  figure = new_figure(inches, (height + 0.25) * len(lines))
  axes = figure.subplots(len(lines), columns, squeeze=False, width_ratios=widths)
  for one in axes.flat:
    one.set_axis_off()
  for (title, picture), one in zip(pictures, axes.flat):
    show(one, title, picture)
  if warning := records.with_budget("", budget):
    figure.suptitle(warning)
  return figure
