"""Figure 2: the bound against training samples, experiments.lower_bound."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aevb_jax.figures import name_of, new_figure, set_log_axis, styled
from experiments.plots import records
from experiments.plots.curves import Limits, choose_limits, draw_panel, legend_of

if TYPE_CHECKING:
  from matplotlib.artist import Artist
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# The axes of the paper's figure; all its curves end inside.
LIMITS = {"mnist": (-150, -100), "frey_face": (0, 1600)}


@styled
def draw_lower_bounds(
  rows: Sequence[dict], limits: Mapping[str, Limits], *, budget: str | None = None
) -> "Figure":
  """Draws a row of panels for each data set, and a panel for each number of latents.

  Train is dashed and test solid. With several seeds the mean is a line and their range a band.

  Args:
    rows: with dataset, latent_dim, algorithm, seed, examples_seen, train_bound and test_bound.
    limits: the paper's limits of the bound, by the name of a data set without its split. They
      are used for a row of panels if its curves fit them.
    budget: the value of --budget.
  """
  panels = list(dict.fromkeys((row["dataset"], row["latent_dim"]) for row in rows))
  datasets = list(dict.fromkeys(dataset for dataset, _ in panels))
  lines = [[panel for panel in panels if panel[0] == dataset] for dataset in datasets]
  columns = max(map(len, lines))
  columns += all(len(line) == columns for line in lines)  # room for the legend
  figure = new_figure(max(1.5 * columns, 3.2), 1.75 * len(lines))
  axes = figure.subplots(len(lines), columns, squeeze=False)
  for one in axes.flat:
    one.set_visible(False)
  for line, of_line in zip(lines, axes):
    _draw_line(of_line, line, rows, limits.get(line[0][0].split(":")[0]))
  figure.supxlabel("training samples evaluated", fontsize="medium")
  shortest = min(range(len(lines)), key=lambda i: (len(lines[i]), -i))
  _draw_legend(axes[shortest, -1], legend_of(axes.flat, rows))
  if warning := records.with_budget("", budget):
    figure.suptitle(warning)
  return figure


def redraw(directory: pathlib.Path) -> "Figure":
  """Redraws the figure of a directory of experiments.lower_bound."""
  rows = records.read_rows(directory / "lower_bound.csv")
  return draw_lower_bounds(rows, LIMITS, budget=records.read_flags(directory).get("budget"))


def _draw_line(
  axes: "Sequence[Axes]",
  panels: Sequence[tuple[str, int]],
  rows: Sequence[dict],
  paper: Limits | None,
) -> None:
  """Draws the panels of a data set, which share the limits of both axes."""
  first, last = _range(rows)
  curves = []
  for (dataset, latent_dim), one in zip(panels, axes):
    one.set_visible(True)
    chosen = [row for row in rows if (row["dataset"], row["latent_dim"]) == (dataset, latent_dim)]
    curves += draw_panel(one, chosen, "examples_seen", "_bound")
    one.set_title(f"{name_of(dataset)}, $N_z = {latent_dim}$")
    set_log_axis(one, "x", first, last)
  axes[0].set_ylabel("variational bound (nats)")
  limits = choose_limits(curves, paper, start=first)
  for i, one in enumerate(axes[: len(panels)]):
    if limits:
      one.set_ylim(*limits)
      one.tick_params(labelleft=i == 0)


def _range(rows: Sequence[dict]) -> Limits:
  """Returns the x axis: from 10⁵ samples as in the paper if a decade follows, otherwise all."""
  seen = [row["examples_seen"] for row in rows]
  first, last = min(seen), max(seen)
  if first == last:
    return first / 2, last * 2
  return (1e5 if last >= 1e6 else first), last


def _draw_legend(room: "Axes", handles: "Mapping[str, Artist]") -> None:
  """Draws the legend of all panels in the place of a panel that is not needed."""
  room.set_visible(True)
  room.set_axis_off()
  room.legend(handles.values(), handles.keys(), loc="center left")
