"""Full variational Bayes beside point estimates of θ: experiments.full_vb."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import new_figure, styled

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@styled
def draw_full_vb(rows: Sequence[dict], title: str) -> "Figure":
  """Bounds of several ways of learning θ against training samples: train and test apart.

  Args:
    rows: of `experiments.full_vb`, with method, theta, examples_seen, train_bound,
      train_bound_se, test_bound and test_bound_se. Each pair of method and theta is a line.
    title: above the panels.
  """
  lines = list(dict.fromkeys((row["method"], row["theta"]) for row in rows))
  methods = list(dict.fromkeys(method for method, _ in lines))
  names = {"point": "{}", "mean": "{}, θ at its mean", "drawn": "{}, θ ~ q(θ)"}
  figure = new_figure(8.0, 3.6)
  for axis, split in zip(figure.subplots(1, 2), ("train", "test")):
    for method, theta in lines:
      chosen = [row for row in rows if (row["method"], row["theta"]) == (method, theta)]
      examples = np.array([row["examples_seen"] for row in chosen])
      bound = np.array([row[f"{split}_bound"] for row in chosen])
      error = np.array([row[f"{split}_bound_se"] for row in chosen])
      color, style = f"C{methods.index(method)}", "--" if theta == "mean" else "-"
      label = names[theta].format(method)
      axis.plot(examples, bound, style, color=color, marker=".", markersize=3, label=label)
      axis.fill_between(examples, bound - error, bound + error, color=color, alpha=0.2, linewidth=0)
    axis.set_xscale("log")
    axis.set_xlabel("training samples evaluated")
    axis.set_ylabel(f"{split} bound (nats)")
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=7)
  figure.suptitle(title, fontsize=9)
  return figure
