"""The figure of the uses of a trained model: experiments.uses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aevb_jax.figures import new_figure, scatter, show, styled
from aevb_jax.types import Array
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.figure import Figure


class Panel(NamedTuple):
  """A picture made by `tile`, with a title above and names of its rows beside it."""

  title: str
  picture: np.ndarray
  row_labels: Sequence[str]


@styled
def draw_uses(
  panels: Sequence[Panel],
  z: Array,
  labels: np.ndarray,
  latents_title: str,
  *,
  budget: str | None = None,
) -> "Figure":
  """Draws panels of images two in a row, and in the last place 2-dimensional latents by label.

  Args:
    panels: panels of the same size.
    z: shape (n, 2).
    labels: the label of each latent, shape (n,).
    latents_title: the title above the latents.
    budget: the value of --budget.
  """
  num_lines = -(-(len(panels) + 1) // 2)
  height, width, _ = panels[0].picture.shape
  figure = new_figure(7.0, (3.1 * height / width + 0.3) * num_lines)
  axes = figure.subplots(num_lines, 2).flat
  for one, (title, picture, row_labels) in zip(axes, panels):
    show(one, title, picture, row_labels=row_labels)
  one = axes[len(panels)]
  scatter(one, np.asarray(z), labels)
  one.set_title(latents_title)
  if warning := records.with_budget("", budget):
    figure.suptitle(warning)
  return figure
