"""What a trained model is of use for: experiments.uses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aevb_jax.figures import new_figure, scatter, show, styled
from aevb_jax.types import Array

if TYPE_CHECKING:
  from matplotlib.figure import Figure


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
  figure = new_figure(7.0, (3.1 * height / width + 0.3) * num_lines)
  axes = figure.subplots(num_lines, 2).flat
  for axis, (title, picture, row_labels) in zip(axes, panels):
    show(axis, title, picture)
    axis.set_axis_on()
    middles = (np.arange(len(row_labels)) + 0.5) * len(picture) / len(row_labels) - 0.5
    axis.set_yticks(middles, row_labels)
    axis.set_xticks([])
    axis.grid(False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
  axis = axes[len(panels)]
  scatter(axis, np.asarray(z), labels)
  axis.set_title(latents_title)
  return figure
