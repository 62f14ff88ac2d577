"""VAE and IWAE by the number of samples: experiments.iwae_table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aevb_jax.figures import new_figure, styled

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@styled
def draw_iwae_table(rows: Sequence[dict], title: str) -> "Figure":
  """Negative log-likelihood by the number of samples, and what it gains on the first row.

  Ours solid, with standard errors over images on the right, where they are of differences
  image by image; published hollow and dashed.

  Args:
    rows: of `experiments.iwae_table`, with model, k, nll, gain, gain_se, and where there
      are published numbers paper_nll and paper_gain. The row of k = 1 stands for both models.
    title: above the panels.
  """
  numbers = sorted({row["k"] for row in rows})
  published = any("paper_nll" in row for row in rows)
  figure = new_figure(5.0, 2.4)
  names = {"nll": "negative log-likelihood (nats)", "gain": f"gain on k = {numbers[0]} (nats)"}
  for axis, (name, label) in zip(figure.subplots(1, 2), names.items()):
    for model, color, marker, shift in (
      ("vae", "#0072b2", "o", 0.95),
      ("iwae", "#d55e00", "s", 1.05),
    ):
      mine = [row for row in rows if row["model"] == model or row["k"] == 1]
      k = shift * np.array([row["k"] for row in mine])
      error = [row["gain_se"] for row in mine] if name == "gain" else None
      ours, style = [row[name] for row in mine], dict(color=color, marker=marker)
      axis.errorbar(k, ours, error, label=model.upper(), capsize=2, **style)
      if published:
        theirs = [row.get(f"paper_{name}", np.nan) for row in mine]
        style |= dict(markerfacecolor="white", linestyle="--")
        axis.plot(k, theirs, label=f"{model.upper()}, published", **style)
    axis.set_xscale("log")
    axis.set_xticks(numbers, numbers)
    axis.minorticks_off()
    axis.set_xlabel("k, samples in training")
    axis.set_ylabel(label)
  handles, labels = figure.axes[0].get_legend_handles_labels()
  ours_first = sorted(zip(labels, handles), key=lambda pair: "published" in pair[0])
  labels, handles = zip(*ours_first)
  figure.legend(handles, labels, loc="outside lower center", ncols=4)
  figure.suptitle(title)
  return figure
