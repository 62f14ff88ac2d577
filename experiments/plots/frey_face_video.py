"""A video by a state-space VAE and by the VAE of single frames: experiments.frey_face_video."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import finite_or_nan, new_figure, set_examples_axis, show, styled, tile
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.figure import Figure

LABELS = {"static": "static", "frame": "dynamic, $q(z_t|x_t)$", "backward": "dynamic, backward"}


@styled
def draw_video(
  rows: Sequence[tuple[str, np.ndarray]],
  image_shape: Sequence[int],
  *,
  budget: str | None = None,
) -> "Figure":
  """Draws rows of frames, side by side in their order.

  Args:
    rows: the name of each row and its T frames, (T, D) in [0, 1].
    image_shape: (H, W, C), with H·W·C = D.
    budget: the value of --budget.
  """
  columns = len(rows[0][1])
  picture = tile(np.concatenate([frames for _, frames in rows]), image_shape, columns)
  height, width, _ = picture.shape
  figure = new_figure(7.0, 6.0 * height / width + 0.3)
  title = records.with_budget("Frames in their order, from left to right", budget)
  show(figure.add_subplot(), title, picture, row_labels=[name for name, _ in rows])
  return figure


@styled
def draw_curves(rows: Sequence[dict], *, budget: str | None = None) -> "Figure":
  """Draws the bounds of all models against training frames, train and validation apart.

  A dot marks the best validation bound, whose parameters are compared on the test frames.

  Args:
    rows: the rows of `experiments.frey_face_video`, with method, frames_seen, train_bound and
      validation_bound, and the standard error of each bound.
    budget: the value of --budget.
  """
  figure = new_figure(6.5, 2.8)
  axes = dict(zip(("train", "validation"), figure.subplots(1, 2, sharey=True)))
  for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
    chosen = [row for row in rows if row["method"] == method]
    frames = [row["frames_seen"] for row in chosen]
    for split, one in axes.items():
      bound = finite_or_nan(row[f"{split}_bound"] for row in chosen)
      one.plot(frames, bound, color=f"C{i}", label=LABELS.get(method, method))
      best = int(np.argmax([row["validation_bound"] for row in chosen]))
      one.plot(frames[best], bound[best], "o", color=f"C{i}")
  for split, one in axes.items():
    set_examples_axis(one, [row["frames_seen"] for row in rows])
    one.set_xlabel("training frames evaluated")
    one.set_title(f"{split} windows")
  axes["train"].set_ylabel("bound (nats per frame)")
  axes["validation"].legend(loc="lower right")
  if warning := records.with_budget("", budget):
    figure.suptitle(warning)
  return figure


def redraw(directory: pathlib.Path) -> "Figure":
  """Redraws curves.png of a directory of experiments.frey_face_video."""
  budget = records.read_flags(directory).get("budget")
  return draw_curves(records.read_rows(directory / "metrics.csv"), budget=budget)
