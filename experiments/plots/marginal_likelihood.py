"""Figure 3: the marginal likelihood against its cost, experiments.marginal_likelihood."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aevb_jax.figures import new_figure, styled
from experiments.plots.curves import draw_panel

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@styled
def draw_marginal_likelihoods(
  rows: Sequence[dict], limits: Mapping[int, tuple[float, float]]
) -> "Figure":
  """Figure 3: a panel for each number of training images, train dashed and test solid.

  Args:
    rows: with num_train, algorithm, seed, evaluations, train_log_likelihood and
      test_log_likelihood.
    limits: of the log-likelihood, by the number of training images.
  """
  sizes = list(dict.fromkeys(row["num_train"] for row in rows))
  figure = new_figure(max(2.6 * len(sizes) + 1.4, 4.0), 2.3)
  axes = figure.subplots(1, len(sizes), squeeze=False)[0]
  for num_train, axis in zip(sizes, axes):
    chosen = [row for row in rows if row["num_train"] == num_train]
    draw_panel(axis, chosen, "evaluations", "_log_likelihood")
    axis.set_title(f"$N_{{train}} = {num_train}$")
    axis.set_xlim(left=0)
    if num_train in limits:
      axis.set_ylim(*limits[num_train])
    axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}")
    axis.set_xlabel("likelihood evaluations (millions)")
  axes[0].set_ylabel("marginal log-likelihood (nats)")
  figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
  return figure
