"""Variance, signal-to-noise ratio and cost of gradient estimators: experiments.gradients."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import new_figure, padded, set_log_axis, styled
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

MEASURES = {
  "variance": "variance",
  "snr": "signal-to-noise ratio",
  "variance_x_milliseconds": "variance × ms",
}
SYMBOLS = {"theta": "θ", "phi": "φ"}
STRETCH = 2.5  # of a y axis beyond its values at either end, so that it has two of 1, 2, 5


def title_of(dataset: str, latent_dim: int | str, num_points: int) -> str:
  """Returns the title of the figure of gradients of a model of J latents at some test points."""
  model = f"{dataset}, {records.count_latents(latent_dim)}"
  return f"{model}: gradient of the mean over {num_points} test points"


@styled
def draw_gradient_noise(rows: Sequence[dict], title: str, *, budget: str | None = None) -> "Figure":
  """Draws variance, signal-to-noise ratio, and variance × cost against the number of samples.

  Args:
    rows: the rows of `experiments.gradients`, with at, estimator, num_samples, block, variance and
      snr with their intervals, and variance_x_milliseconds. The blocks theta and phi of
      every `at` are a row of panels each.
    title: the title above the panels.
    budget: the value of --budget.
  """
  numbers = sorted({row["num_samples"] for row in rows})
  estimators = list(dict.fromkeys(row["estimator"] for row in rows))
  stages = sorted({row["at"] for row in rows})
  panels = [(at, block) for at in stages for block in SYMBOLS]
  figure = new_figure(6.5, 1.0 + 1.35 * len(panels))
  axes = figure.subplots(len(panels), len(MEASURES), squeeze=False)
  for (at, block), line in zip(panels, axes):
    of_panel = [row for row in rows if (row["at"], row["block"]) == (at, block)]
    for one, name in zip(line, MEASURES):
      _draw_measure(one, of_panel, name, estimators, numbers)
    line[0].set_ylabel(f"{SYMBOLS[block]}\n{at:,} seen")
  for one, label in zip(axes[0], MEASURES.values()):
    one.set_title(label)
  for one in axes[:-1].flat:
    one.tick_params(labelbottom=False)
  for one in axes[-1]:
    one.set_xlabel("samples per data point")
  handles, labels = axes[0, 0].get_legend_handles_labels()
  columns = 2 if max(map(len, estimators)) > 24 else 4
  figure.legend(handles, labels, loc="outside lower center", ncols=columns)
  figure.suptitle(records.with_budget(title, budget))
  return figure


def redraw(directory: pathlib.Path) -> "Figure":
  """Redraws the figure of a directory of experiments.gradients."""
  given, summary = records.read_flags(directory), records.read_summary(directory)
  title = title_of(given["dataset"], given["latent_dim"], summary["num_points"])
  rows = records.read_rows(directory / "gradients.csv")
  return draw_gradient_noise(rows, title, budget=given.get("budget"))


def _draw_measure(
  axes: "Axes",
  rows: Sequence[dict],
  name: str,
  estimators: Sequence[str],
  numbers: Sequence[int],
) -> None:
  """Draws a column for all estimators on log axes, with ticks at the numbers of samples.

  Intervals that reach below the shown range of values are cut off. If there is only one number of
  samples, the points stand side by side, because no lines would distinguish them.
  """
  beside = np.linspace(-0.5, 0.5, len(estimators)) if len(estimators) > 1 else [0.0]
  for i, (estimator, shift) in enumerate(zip(estimators, beside)):
    chosen = [row for row in rows if row["estimator"] == estimator and row[name] > 0]
    samples = np.array([row["num_samples"] for row in chosen], float)
    if len(numbers) == 1:
      samples *= 2**shift
    _draw_with_intervals(axes, chosen, samples, name, number=i)
  low, high = padded([row[name] for row in rows], pad=0)
  set_log_axis(axes, "y", low / STRETCH, high * STRETCH)
  set_log_axis(axes, "x", *padded(numbers))
  axes.set_xticks(numbers, numbers)
  axes.xaxis.minorticks_off()


def _draw_with_intervals(
  axes: "Axes", rows: Sequence[dict], samples: np.ndarray, name: str, *, number: int
) -> None:
  """Draws a column of an estimator, with its intervals where it has any."""
  value = np.array([row[name] for row in rows])
  low = np.array([row.get(f"{name}_low", row[name]) for row in rows])
  high = np.array([row.get(f"{name}_high", row[name]) for row in rows])
  color, marker = f"C{number % 10}", "osD^vP*X"[number % 8]
  style = dict(color=color, marker=marker, markersize=3.5, linewidth=1, capsize=2)
  label = rows[0]["estimator"] if rows else None
  axes.errorbar(samples, value, np.abs([value - low, high - value]), label=label, **style)
