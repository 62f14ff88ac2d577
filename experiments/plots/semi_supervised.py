"""Test errors of classifiers with few labels against training samples: semi_supervised.png."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aevb_jax.figures import new_figure, set_examples_axis, styled
from experiments.plots import records
from experiments.plots.curves import curve_of

if TYPE_CHECKING:
  from matplotlib.figure import Figure

LABELS = {"m1": "M1", "m2": "M2", "m1_m2": "M1+M2"}
COLORS = {"m1": "#009e73", "m2": "#d55e00", "m1_m2": "#0072b2"}


def title_of(dataset: str, num_draws: int) -> str:
  """Returns the title of the figure of some random choices of the labelled images."""
  draws = "one choice" if num_draws == 1 else f"mean and range of {num_draws} choices"
  return f"{dataset}, {draws} of the labelled images"


@styled
def draw_semi_supervised(
  rows: Sequence[dict], results: Sequence[dict], title: str, *, budget: str | None = None
) -> "Figure":
  """Draws a panel for each number of labels, with the error of each model during training.

  Args:
    rows: the rows of `experiments.semi_supervised`, with model, labels, draw, examples_seen and
      test_error in %.
    results: a row for each model and number of labels; a published error, `paper_error`, is a
      dashed line.
    title: the title above the panels.
    budget: the value of --budget.
  """
  numbers = list(dict.fromkeys(row["labels"] for row in rows))
  figure = new_figure(max(2.6 * len(numbers), 3.2), 2.6)
  for axes, labels in zip(figure.subplots(1, len(numbers), squeeze=False)[0], numbers):
    for model in dict.fromkeys(row["model"] for row in rows):
      mine = [row for row in rows if (row["labels"], row["model"]) == (labels, model)]
      curve = curve_of(
        [row | dict(seed=row["draw"]) for row in mine], "examples_seen", "test_error"
      )
      color = COLORS[model]
      axes.plot(curve.x, curve.mean, color=color, label=LABELS[model], marker=".")
      axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.25, linewidth=0)
      for result in results:
        if (result["labels"], result["model"]) == (labels, model) and "paper_error" in result:
          name = f"{LABELS[model]}, published"
          axes.axhline(result["paper_error"], color=color, linestyle="--", label=name)
    axes.set_title(f"{labels} labels")
    axes.set_ylabel("test error (%)")
    axes.set_ylim(bottom=0)
    set_examples_axis(axes, [row["examples_seen"] for row in rows])
  handles, names = figure.axes[0].get_legend_handles_labels()
  figure.legend(handles, names, loc="outside lower center", ncols=3)
  figure.suptitle(records.with_budget(title, budget))
  return figure


def redraw(directory: pathlib.Path) -> "Figure":
  """Redraws the figure of a directory of experiments.semi_supervised."""
  summary = records.read_summary(directory)
  rows = records.read_rows(directory / "semi_supervised.csv")
  title = title_of(summary["dataset"], len({row["draw"] for row in rows}))
  budget = records.read_flags(directory).get("budget")
  return draw_semi_supervised(rows, summary["results"], title, budget=budget)
