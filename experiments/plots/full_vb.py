"""Full variational Bayes beside point estimates of θ: experiments.full_vb."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aevb_jax.figures import finite_or_nan, new_figure, set_examples_axis, styled
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.figure import Figure

LABELS = {"point": "{}", "mean": "{}, θ at its mean", "drawn": "{}, θ ~ q(θ)"}


def title_of(dataset: str, num_data: int | str, latent_dim: int | str) -> str:
  """Returns the title of the figure of N images and J latents."""
  return f"{dataset}, {num_data} training images, {records.count_latents(latent_dim)}"


@styled
def draw_full_vb(rows: Sequence[dict], title: str) -> "Figure":
  """Draws bounds of several ways of learning θ against training samples, train and test apart.

  Args:
    rows: the rows of `experiments.full_vb`, with method, theta, examples_seen, train_bound,
      train_bound_se, test_bound and test_bound_se. Each pair of method and theta is a line.
    title: the title above the panels.
  """
  lines = list(dict.fromkeys((row["method"], row["theta"]) for row in rows))
  methods = list(dict.fromkeys(method for method, _ in lines))
  figure = new_figure(6.5, 2.8)
  axes = figure.subplots(1, 2)
  for one, split in zip(axes, ("train", "test")):
    for method, theta in lines:
      chosen = [row for row in rows if (row["method"], row["theta"]) == (method, theta)]
      examples = [row["examples_seen"] for row in chosen]
      bound = finite_or_nan(row[f"{split}_bound"] for row in chosen)
      error = finite_or_nan(row[f"{split}_bound_se"] for row in chosen)
      color, style = f"C{methods.index(method)}", "--" if theta == "mean" else "-"
      label = LABELS[theta].format(method)
      one.plot(examples, bound, style, color=color, marker=".", label=label)
      one.fill_between(examples, bound - error, bound + error, color=color, alpha=0.2, linewidth=0)
    set_examples_axis(one, [row["examples_seen"] for row in rows])
    one.set_ylabel(f"{split} bound (nats)")
  figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
  figure.suptitle(title)
  return figure


def redraw(directory: pathlib.Path) -> "Figure":
  """Redraws the figure of a directory of experiments.full_vb."""
  given = records.read_flags(directory)
  title = title_of(given["dataset"], given["num_data"], given["latent_dim"])
  return draw_full_vb(records.read_rows(directory / "metrics.csv"), title)
