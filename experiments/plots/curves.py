"""Curves of algorithms in a panel of figures 2 and 3, and the axes that show them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aevb_jax.figures import COLORS, NAMES

if TYPE_CHECKING:
  from matplotlib.artist import Artist
  from matplotlib.axes import Axes

Limits = tuple[float, float]
FEW = 12  # points, which would be invisible in a line without markers
BAND = dict(alpha=0.25, linewidth=0)  # the range over seeds, also in the legend


class Curve(NamedTuple):
  """The curve of an algorithm and a split: the mean over seeds, and its band."""

  x: np.ndarray
  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


def draw_panel(axes: "Axes", rows: Sequence[dict], x: str, y: str) -> list[Curve]:
  """Draws the curves of algorithms, train dashed and test solid, with a band over seeds.

  Args:
    axes: where to draw.
    rows: one panel's rows, with algorithm, seed, the column `x`, and train and test columns of `y`.
    x: the column along the axis.
    y: the columns of the curves, without train and test before them.

  Returns:
    The curves.
  """
  curves = []
  for algorithm in dict.fromkeys(row["algorithm"] for row in rows):
    mine = [row for row in rows if row["algorithm"] == algorithm]
    for split, style in (("train", "--"), ("test", "-")):
      curve = curve_of(mine, x, f"{split}{y}")
      color, label = COLORS[algorithm], f"{NAMES[algorithm]} ({split})"
      marker = "." if len(curve.x) <= FEW else None
      axes.plot(curve.x, curve.mean, style, color=color, label=label, marker=marker)
      if len({row["seed"] for row in mine}) > 1:
        axes.fill_between(curve.x, curve.low, curve.high, color=color, **BAND)
      curves.append(curve)
  return curves


def legend_of(axes: "Iterable[Axes]", rows: Sequence[dict]) -> dict[str, "Artist"]:
  """Returns what a legend of all panels shows, by its label: the curves and the band over seeds."""
  from matplotlib.patches import Patch

  handles: dict[str, Artist] = {}
  for one in axes:
    handles |= dict(zip(*reversed(one.get_legend_handles_labels())))
  if (number := len({row["seed"] for row in rows})) > 1:
    handles[f"range of {number} seeds"] = Patch(color="gray", **BAND)
  return handles


def curve_of(rows: Sequence[dict], x: str, y: str) -> Curve:
  """Returns the mean, least and greatest of a column over seeds; NaN where it is not finite."""
  seeds = list(dict.fromkeys(row["seed"] for row in rows))
  seen = np.array([row[x] for row in rows if row["seed"] == seeds[0]], float)
  values = np.array([[row[y] for row in rows if row["seed"] == seed] for seed in seeds], float)
  values = np.where(np.isfinite(values), values, np.nan)
  return Curve(seen, values.mean(axis=0), values.min(axis=0), values.max(axis=0))


def choose_limits(
  curves: Sequence[Curve], paper: Limits | None, *, start: float = -np.inf
) -> Limits | None:
  """Chooses the limits of the y axis: the paper's if the curves fit them, otherwise their own.

  Curves fit if all of them end inside and together take up at least a tenth of the axis. They
  may begin outside, as the paper's curves do.

  Args:
    curves: the curves that the axis has to show.
    paper: the limits of the paper's figure, if it has one.
    start: where the x axis begins.

  Returns:
    The limits, or None if no curve has a finite value.
  """
  shown = [np.stack(curve[1:])[:, curve.x >= start] for curve in curves]
  ends = [y[0][np.isfinite(y[0])][-1] for y in shown if np.isfinite(y[0]).any()]
  if not ends:
    return None
  values = np.concatenate([y[np.isfinite(y)] for y in shown])
  if paper:
    inside = values[(values >= paper[0]) & (values <= paper[1])]
    if paper[0] <= min(ends) and max(ends) <= paper[1]:
      if np.ptp(inside) >= 0.1 * (paper[1] - paper[0]):
        return paper
  margin = 0.05 * np.ptp(values) or 1.0
  return values.min() - margin, values.max() + margin
