"""Figure 3: the marginal likelihood against its cost, experiments.marginal_likelihood."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aevb_jax.figures import new_figure, styled
from experiments.plots import records
from experiments.plots.curves import Limits, choose_limits, draw_panel, legend_of

if TYPE_CHECKING:
  from matplotlib.figure import Figure

LIMITS = {1000: (-160, -100), 50000: (-160, -125)}  # the axes of the paper's figure


@styled
def draw_marginal_likelihoods(
  rows: Sequence[dict], limits: Mapping[int, Limits], *, budget: str | None = None
) -> "Figure":
  """Draws a panel for each number of training images, train dashed and test solid.

  Args:
    rows: with num_train, algorithm, seed, evaluations, train_log_likelihood and
      test_log_likelihood.
    limits: the paper's limits of the log-likelihood, by the number of training images. They are
      used if the curves fit them.
    budget: the value of --budget.
  """
  sizes = list(dict.fromkeys(row["num_train"] for row in rows))
  in_millions = max(row["evaluations"] for row in rows) >= 10**6
  unit, word = (1e6, "millions") if in_millions else (1e3, "thousands")
  figure = new_figure(max(2.6 * len(sizes) + 1.4, 4.0), 2.3)
  axes = figure.subplots(1, len(sizes), squeeze=False)[0]
  for num_train, one in zip(sizes, axes):
    chosen = [row for row in rows if row["num_train"] == num_train]
    curves = draw_panel(one, chosen, "evaluations", "_log_likelihood")
    one.set_title(rf"$N_\mathrm{{train}} = {num_train}$")
    one.set_xlim(left=0)
    if chosen_limits := choose_limits(curves, limits.get(num_train)):
      one.set_ylim(*chosen_limits)
    one.xaxis.set_major_formatter(lambda value, _: f"{value / unit:g}")
    one.set_xlabel(f"likelihood evaluations ({word})")
  axes[0].set_ylabel("marginal log-likelihood (nats)")
  handles = legend_of(axes, rows)
  figure.legend(handles.values(), handles.keys(), loc="outside right center")
  if warning := records.with_budget("", budget):
    figure.suptitle(warning)
  return figure


def redraw(directory: pathlib.Path) -> "Figure":
  """Redraws the figure of a directory of experiments.marginal_likelihood."""
  rows = records.read_rows(directory / "marginal_likelihood.csv")
  return draw_marginal_likelihoods(rows, LIMITS, budget=records.read_flags(directory).get("budget"))
