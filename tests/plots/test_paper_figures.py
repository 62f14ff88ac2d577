"""Figures 2 and 3: limits, ticks, bands and titles."""

import itertools

import numpy as np
import pytest

from experiments.plots.curves import Curve, choose_limits
from experiments.plots.lower_bound import LIMITS, draw_lower_bounds
from experiments.plots.marginal_likelihood import LIMITS as LIMITS_3
from experiments.plots.marginal_likelihood import draw_marginal_likelihoods
from tests.plots.looking import SMOKE, labels_of


def points_of(axes):
  """Returns all points of the lines, shape (n, 2)."""
  return np.concatenate([line.get_xydata() for line in axes.get_lines()])


def bounds(dataset, latent_dim, ends, seen, *, seeds=(0,)):
  """Returns rows of figure 2, in which each curve rises evenly by 100 nats to its end."""
  rows = []
  for (algorithm, end), seed in itertools.product(ends.items(), seeds):
    for i, n in enumerate(seen):
      train = end - 100 * (1 - i / (len(seen) - 1)) + seed
      about = dict(dataset=dataset, latent_dim=latent_dim, algorithm=algorithm, seed=seed)
      rows.append(about | dict(examples_seen=n, train_bound=train, test_bound=train - 1))
  return rows


def test_figure_2_has_the_axes_of_the_paper_where_its_curves_end_in_them():
  seen = [10**4, 10**5, 10**6, 10**7]
  rows = bounds("mnist", 3, dict(aevb=-130, wake_sleep=-145), seen, seeds=(0, 1))
  rows += bounds("frey_face:random", 2, dict(aevb=900, wake_sleep=500), seen)
  mnist, _, frey, legend = draw_lower_bounds(rows, LIMITS).axes
  assert mnist.get_ylim() == (-150, -100) and frey.get_ylim() == (0, 1600)
  assert mnist.get_xlim() == frey.get_xlim() == (1e5, 1e7)
  assert mnist.get_title() == "MNIST, $N_z = 3$" and frey.get_title() == "Frey Face, $N_z = 2$"
  assert labels_of(mnist.xaxis) == [rf"$\mathdefault{{10^{{{n}}}}}$" for n in (5, 6, 7)]
  train = mnist.get_lines()[0]
  assert train.get_linestyle() == "--" and train.get_ydata()[-1] == -129.5  # the mean over seeds
  assert len(mnist.collections) == 4 and not frey.collections  # bands only for several seeds
  names = [text.get_text() for text in legend.get_legend().get_texts()]
  curves = ["AEVB (train)", "AEVB (test)", "Wake-Sleep (train)", "Wake-Sleep (test)"]
  assert names == [*curves, "range of 2 seeds"]
  (*_, legend) = draw_lower_bounds([row for row in rows if row["seed"] == 0], LIMITS).axes
  assert [text.get_text() for text in legend.get_legend().get_texts()] == curves


def test_figure_2_of_a_smoke_run_shows_its_curves():
  rows = bounds("mnist", 2, dict(aevb=-200, wake_sleep=-230), [10_000, 12_000, 20_000])
  figure = draw_lower_bounds(rows, LIMITS, budget="smoke")
  axes = figure.axes[0]
  x, y = points_of(axes).T
  assert axes.get_ylim()[0] < y.min() and y.max() < axes.get_ylim()[1]
  assert np.ptp(y) > 0.8 * np.ptp(axes.get_ylim())
  assert axes.get_xlim() == (x.min(), x.max()) == (10_000, 20_000)
  assert labels_of(axes.xaxis) == ["10,000", "20,000"]
  assert all(line.get_marker() == "." for line in axes.get_lines())
  assert figure.get_suptitle() == SMOKE
  assert draw_lower_bounds(rows, LIMITS, budget="cpu").get_suptitle() == ""


def test_panels_of_a_data_set_share_limits_and_one_of_them_has_labels():
  rows = bounds("digits", 2, dict(aevb=-20), [100, 1000])
  rows += bounds("digits", 3, dict(aevb=-50), [100, 1000])
  first, second = draw_lower_bounds(rows, LIMITS).axes[:2]
  assert first.get_ylim() == second.get_ylim()
  assert first.get_ylim()[0] < -151 and first.get_ylim()[1] > -20
  assert any(labels_of(first.yaxis)) and not any(
    label.get_visible() for label in second.get_yticklabels()
  )


def test_a_single_evaluation_is_inside_the_axes():
  rows = bounds("digits", 2, dict(aevb=-20), [100, 1000])[1:]
  axes = draw_lower_bounds(rows, LIMITS).axes[0]
  assert axes.get_xlim() == (500, 2000) and len(labels_of(axes.xaxis)) >= 2
  low, high = axes.get_ylim()
  assert low < -21 and high > -20


def curve(*y, x=None):
  y = np.array(y, float)
  return Curve(np.arange(len(y)) if x is None else np.array(x), y, y, y)


@pytest.mark.parametrize(
  "curves, limits",
  [
    ([curve(-200, -140, -110)], (-150, -100)),  # begins outside and ends inside
    ([curve(-200, -140, -110), curve(-300, -250, -151)], None),  # one ends outside
    ([curve(-110, -105, -90)], None),  # ends above the limits
    ([curve(-102, -101, -101)], None),  # occupies almost nothing
    ([curve(-140, -110, np.nan)], (-150, -100)),  # its last number is inside
  ],
)
def test_limits_of_the_paper_hold_for_curves_that_fit_them(curves, limits):
  chosen = choose_limits(curves, (-150, -100))
  if limits:
    assert chosen == limits
  else:
    y = np.concatenate([one.mean for one in curves])
    margin = 0.05 * np.ptp(y)
    np.testing.assert_allclose(chosen, (y.min() - margin, y.max() + margin))


def test_limits_are_of_what_the_x_axis_shows_and_of_finite_numbers():
  curves = [curve(-500, -40, -20, x=[10, 100, 1000]), curve(-500, -np.inf, -30, x=[10, 100, 1000])]
  curves = [one._replace(mean=np.where(np.isfinite(one.mean), one.mean, np.nan)) for one in curves]
  np.testing.assert_allclose(choose_limits(curves[:1], None, start=100), (-41, -19))
  assert choose_limits([curve(np.nan, np.nan)], (-150, -100)) is None
  assert choose_limits([curve(-3, -3)], None) == (-4, -2)


def likelihoods(num_train, seen, end):
  rows = []
  for i, n in enumerate(seen):
    value = end - 10 * (len(seen) - 1 - i)
    both = dict(train_log_likelihood=value + 1, test_log_likelihood=value)
    rows.append(dict(num_train=num_train, algorithm="mcem", seed=0, evaluations=n) | both)
  return rows


def test_figure_3_counts_in_a_unit_that_fits():
  axes = draw_marginal_likelihoods(
    likelihoods(1000, [10**6, 2 * 10**6], -120) + likelihoods(500, [10**6, 2 * 10**6], -10),
    LIMITS_3,
  ).axes
  assert axes[0].get_ylim() == LIMITS_3[1000] and axes[1].get_ylim()[1] > -10
  assert axes[0].get_xlabel() == "likelihood evaluations (millions)"
  figure = draw_marginal_likelihoods(
    likelihoods(1000, [20_000, 40_000], -400), LIMITS_3, budget="smoke"
  )
  (axes,) = figure.axes
  assert axes.get_xlabel() == "likelihood evaluations (thousands)" and "40" in labels_of(axes.xaxis)
  assert axes.get_ylim()[0] < -410 and -399 < axes.get_ylim()[1] < -390
  assert figure.get_suptitle() == SMOKE
