"""What a trained model is of use for: experiments.uses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aevb_jax.figures import new_figure, scatter, show, styled, tile
from aevb_jax.types import Array
from experiments.plots import records
from experiments.studies.completion import SHOWN, Completed

if TYPE_CHECKING:
  from matplotlib.figure import Figure


class Panel(NamedTuple):
  """A picture made by `tile`, with a title above and names of its rows beside it."""

  title: str
  picture: np.ndarray
  row_labels: Sequence[str]


def completion_panel(
  title: str, x: np.ndarray, y: np.ndarray, drawn: Completed, shape: tuple[int, int, int]
) -> Panel:
  """Makes rows of images: x, y, the mean of the completions, and some of them.

  Args:
    title: above them.
    x: test images, shape (SHOWN, D).
    y: what is known of them, as images, shape (SHOWN, D).
    drawn: the completions of at least these.
    shape: height, width and channels.
  """
  some = min(3, drawn.few.shape[1])
  lines = [x, y, drawn.mean[:SHOWN], *(drawn.few[:SHOWN, i] for i in range(some))]
  labels = ["x", "y", "E[x|y]", *["E[x|y,z]"] * some]
  return Panel(title, tile(np.concatenate(lines), shape, SHOWN), labels)


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
    panels: of the same size.
    z: shape (n, 2).
    labels: the label of each latent, shape (n,).
    latents_title: above the latents.
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
