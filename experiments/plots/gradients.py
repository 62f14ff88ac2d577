"""Variance, signal-to-noise ratio and cost of gradient estimators: experiments.gradients."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import new_figure, styled

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@styled
def draw_gradient_noise(rows: Sequence[dict], title: str) -> "Figure":
  """Variance, signal-to-noise ratio, and variance × cost against the number of samples.

  Args:
    rows: of `experiments.gradients`, with at, estimator, num_samples, block, variance and
      snr with their intervals, and variance_x_milliseconds. The blocks theta and phi of
      every `at` are a row of panels each.
    title: above the panels.
  """
  numbers = sorted({row["num_samples"] for row in rows})
  estimators = list(dict.fromkeys(row["estimator"] for row in rows))
  stages = sorted({row["at"] for row in rows})
  panels = [(at, block) for at in stages for block in ("theta", "phi")]
  names = {
    "variance": "variance",
    "snr": "signal-to-noise ratio",
    "variance_x_milliseconds": "variance × ms",
  }
  symbols = {"theta": "θ", "phi": "φ"}
  figure = new_figure(6.5, 1.0 + 1.35 * len(panels))
  axes = figure.subplots(len(panels), len(names), sharex=True, squeeze=False)
  for (at, block), line in zip(panels, axes):
    of_panel = [row for row in rows if (row["at"], row["block"]) == (at, block)]
    for axis, name in zip(line, names):
      for i, estimator in enumerate(estimators):
        chosen = [row for row in of_panel if row["estimator"] == estimator and row[name] > 0]
        _draw_with_intervals(axis, chosen, name, estimator, i)
      _log_axes(axis, numbers, [row[name] for row in of_panel if row[name] > 0])
    line[0].set_ylabel(f"{symbols[block]}\n{at:,} seen")
  for axis, label in zip(axes[0], names.values()):
    axis.set_title(label)
  for axis in axes[-1]:
    axis.set_xlabel("samples per data point")
  handles, labels = axes[0, 0].get_legend_handles_labels()
  columns = 2 if max(map(len, estimators)) > 24 else 4
  figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
  figure.suptitle(title)
  return figure


def _draw_with_intervals(axis, rows: Sequence[dict], name: str, label: str, number: int) -> None:
  """A column against the number of samples, with its intervals where it has any."""
  value = np.array([row[name] for row in rows])
  low = np.array([row.get(f"{name}_low", row[name]) for row in rows])
  high = np.array([row.get(f"{name}_high", row[name]) for row in rows])
  samples = [row["num_samples"] for row in rows]
  color, marker = f"C{number % 10}", "osD^vP*X"[number % 8]
  style = dict(color=color, marker=marker, markersize=3.5, linewidth=1, capsize=2)
  axis.errorbar(samples, value, np.abs([value - low, high - value]), label=label, **style)


def _log_axes(axis, numbers: Sequence[int], values: Sequence[float]) -> None:
  """Two log axes: ticks at the numbers of samples, and of the values at least two with labels.

  Intervals that reach below what is shown of the values are cut off.
  """
  from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

  axis.set_xscale("log")
  axis.set_yscale("log")
  axis.set_xticks(numbers, numbers)
  axis.xaxis.set_minor_locator(NullLocator())
  low, high = min(values, default=1.0), max(values, default=1.0)
  axis.set_ylim(low / 2, high * 2)
  axis.yaxis.set_minor_formatter(NullFormatter())
  if high < 25 * low:
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
  axis.grid(alpha=0.3)
