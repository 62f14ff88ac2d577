"""Figure 2: the bound against training samples, experiments.lower_bound."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aevb_jax.figures import name_of, new_figure, styled
from experiments.plots.curves import draw_panel

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@styled
def draw_lower_bounds(rows: Sequence[dict], limits: Mapping[str, tuple[float, float]]) -> "Figure":
  """Figure 2: a row of panels for each data set, a panel for each number of latents.

  Train dashed and test solid; of several seeds the mean, and all of them as a band.

  Args:
    rows: with dataset, latent_dim, algorithm, seed, examples_seen, train_bound and test_bound.
    limits: of the bound, by the name of a data set without its split.
  """
  from matplotlib.ticker import LogLocator

  panels = list(dict.fromkeys((row["dataset"], row["latent_dim"]) for row in rows))
  datasets = list(dict.fromkeys(dataset for dataset, _ in panels))
  lines = [[panel for panel in panels if panel[0] == dataset] for dataset in datasets]
  columns = max(map(len, lines))
  columns += all(len(line) == columns for line in lines)  # room for the legend
  figure = new_figure(max(1.5 * columns, 3.2), 1.75 * len(lines))
  axes = figure.subplots(len(lines), columns, squeeze=False, sharex=True)
  for axis in axes.flat:
    axis.set_visible(False)
  for line, of_line in zip(lines, axes):
    kind = line[0][0].split(":")[0]
    for (dataset, latent_dim), axis in zip(line, of_line):
      axis.set_visible(True)
      chosen = [row for row in rows if (row["dataset"], row["latent_dim"]) == (dataset, latent_dim)]
      draw_panel(axis, chosen, "examples_seen", "_bound")
      axis.set_title(f"{name_of(dataset)}, $N_z = {latent_dim}$")
      axis.set_xscale("log")
      axis.set_xlim(*_decades(rows))
      axis.xaxis.set_major_locator(LogLocator(numticks=10))  # every decade, however narrow
      if kind in limits:
        axis.set_ylim(*limits[kind])
      axis.label_outer(remove_inner_ticks=False)
      axis.xaxis.set_tick_params(labelbottom=True)
    of_line[0].set_ylabel("variational bound (nats)")
  figure.supxlabel("training samples evaluated", fontsize=8)
  shortest = min(range(len(lines)), key=lambda i: (len(lines[i]), -i))
  room = axes[shortest, -1]
  room.set_visible(True)
  room.set_axis_off()
  handles = {}
  for axis in axes.flat:
    handles |= dict(zip(*reversed(axis.get_legend_handles_labels())))
  room.legend(handles.values(), handles.keys(), loc="center left")
  return figure


def _decades(rows: Sequence[dict]) -> tuple[float, float]:
  """From the hundred thousand samples where the paper's axis begins, if there are more."""
  seen = [row["examples_seen"] for row in rows]
  return (1e5 if max(seen) > 1e5 else min(seen)), max(seen)
