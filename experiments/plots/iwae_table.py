"""VAE and IWAE by the number of samples: experiments.iwae_table."""

import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import new_figure, styled
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# Their markers are side by side, because at k = 1 both are one run.
MODELS = {"vae": ("#0072b2", "o", 0.95), "iwae": ("#d55e00", "s", 1.05)}
MARKERS_OF_TWO = {"vae": "^", "iwae": "D"}  # of models with two layers, beside those with one


def title_of(dataset: str, epochs: int, of_epochs: int) -> str:
  """Returns the title of the figure of runs of some epochs of the published protocol."""
  part = f"all {epochs}" if epochs == of_epochs else f"{epochs} of {of_epochs}"
  return f"{dataset}, {part} epochs"


@styled
def draw_iwae_table(rows: Sequence[dict], title: str, *, budget: str | None = None) -> "Figure":
  """Draws the negative log-likelihood by the number of samples, and its gain on the first row.

  Models of one and of two layers are lines of their own, each with its gain on its own first row.

  Our numbers are solid. The gains have standard errors of the differences image by image. Published
  numbers are hollow and dashed. What the whole schedule is extrapolated to is pale, with its error.

  Args:
    rows: the rows of `experiments.iwae_table`, with model, k, nll, gain, gain_se; if there are
      published numbers, paper_nll and paper_gain; and if later stages are extrapolated,
      extrapolated and later_gain_se. The row of k = 1 stands for both models.
    title: the title above the panels.
    budget: the value of --budget.
  """
  figure = new_figure(5.0, 2.4)
  first = f"k = {rows[0]['k']}"
  if rows[0]["k"] > 1:  # both models have a row of this k
    first = f"{rows[0]['model'].upper()}, {first}"
  names = {"nll": "negative log-likelihood (nats)", "gain": f"gain on {first} (nats)"}
  for axes, (name, label) in zip(figure.subplots(1, 2), names.items()):
    _draw_numbers(axes, rows, name)
    axes.set_ylabel(label)
  handles, labels = figure.axes[0].get_legend_handles_labels()
  order = lambda pair: ("extrapolated" in pair[0], "published" in pair[0])  # ours first
  labels, handles = zip(*sorted(zip(labels, handles), key=order))
  figure.legend(handles, labels, loc="outside lower center", ncols=2)
  # The panels keep their height if the legend has many lines.
  figure.set_figheight(figure.get_figheight() + 0.17 * (math.ceil(len(labels) / 2) - 1))
  figure.suptitle(records.with_budget(title, budget))
  return figure


def redraw(directory: pathlib.Path) -> "Figure":
  """Redraws the figure of a directory of experiments.iwae_table."""
  rows, summary = records.read_rows(directory / "iwae_table.csv"), records.read_summary(directory)
  title = title_of(summary["dataset"], summary["epochs"], summary["published_epochs"])
  return draw_iwae_table(rows, title, budget=summary.get("budget"))


def _draw_numbers(axes: "Axes", rows: Sequence[dict], name: str) -> None:
  """Draws a column of the table for all models, on a log axis with ticks at the numbers k."""
  numbers = sorted({row["k"] for row in rows})
  for layers in sorted({layers_of(row) for row in rows}):
    for model in MODELS:
      mine = [row for row in rows if layers_of(row) == layers]
      mine = [row for row in mine if row["model"] == model or row["k"] == 1]
      if mine:
        _draw_model(axes, mine, name, model, layers)
  axes.set_xscale("log")
  margin = 1.25 if len(numbers) > 1 else 2.0  # the two models of a single k stand close together
  axes.set_xlim(numbers[0] / margin, numbers[-1] * margin)
  axes.set_xticks(numbers, numbers)
  axes.minorticks_off()
  axes.set_xlabel("k, samples in training")


def _draw_model(axes: "Axes", rows: Sequence[dict], name: str, model: str, layers: int) -> None:
  """Draws a column of the rows of one model, ours and the published numbers if there are any."""
  color, marker, shift = MODELS[model]
  label = model.upper()
  if layers > 1:
    marker, label = MARKERS_OF_TWO[model], f"{label}, {layers} layers"
  k = shift * np.array([row["k"] for row in rows])
  error = [row["gain_se"] for row in rows] if name == "gain" else None
  style = dict(color=color, marker=marker)
  axes.errorbar(k, [row[name] for row in rows], error, label=label, capsize=2, **style)
  if name == "nll" and any("extrapolated" in row for row in rows):
    pale = dict(alpha=0.35, linestyle="", label=f"{label}, extrapolated")
    later, error = ([row.get(n, np.nan) for row in rows] for n in ("extrapolated", "later_gain_se"))
    axes.errorbar(k, later, error, capsize=2, **(style | pale))
  if any("paper_nll" in row for row in rows):
    theirs = [row.get(f"paper_{name}", np.nan) for row in rows]
    style |= dict(markerfacecolor="white", linestyle="--")
    axes.plot(k, theirs, label=f"{label}, published", **style)


def layers_of(row: dict) -> int:
  """Returns the number of stochastic layers of a row; tables of one layer may not have it."""
  return row.get("layers") or 1
