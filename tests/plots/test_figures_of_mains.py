"""The figures of single mains: limits, ticks, markers and titles."""

import itertools

import numpy as np
import pytest

from experiments.plots.conv_vae import draw_conv_vae
from experiments.plots.curves import Curve, choose_limits
from experiments.plots.full_vb import draw_full_vb
from experiments.plots.gradients import draw_gradient_noise
from experiments.plots.iwae_table import draw_iwae_table
from experiments.plots.linear_gaussian import draw_linear_gaussian
from experiments.plots.lower_bound import LIMITS, draw_lower_bounds
from experiments.plots.marginal_likelihood import LIMITS as LIMITS_3
from experiments.plots.marginal_likelihood import draw_marginal_likelihoods
from experiments.plots.panels import draw_panels
from experiments.plots.records import with_budget
from experiments.plots.uses import Panel, draw_uses

SMOKE = "smoke: too short a run for a result"


def labels_of(axis):
  """The labels of the ticks that are within the limits, as they are drawn."""
  axis.figure.canvas.draw()
  low, high = sorted(axis.get_view_interval())
  ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
  shown = [label.get_text() for tick, label in ticks if low <= tick <= high]
  return shown + [label.get_text() for label in axis.get_minorticklabels() if label.get_text()]


def points_of(axes):
  """All points of lines, shape (n, 2)."""
  return np.concatenate([line.get_xydata() for line in axes.get_lines()])


def bounds(dataset, latent_dim, ends, seen, *, seeds=(0,)):
  """Rows of figure 2: from 100 nats below its end every curve rises evenly."""
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
  assert len(mnist.collections) == 4 and not frey.collections  # bands over seeds
  names = [text.get_text() for text in legend.get_legend().get_texts()]
  assert names == ["AEVB (train)", "AEVB (test)", "Wake-Sleep (train)", "Wake-Sleep (test)"]


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
    ([curve(-110, -105, -90)], None),  # leaves
    ([curve(-102, -101, -101)], None),  # occupies almost nothing
    ([curve(-140, -110, np.nan)], (-150, -100)),  # ends where it was last a number
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


def gradient_rows(numbers, estimators=("elbo_a", "elbo_b", "score_function"), stages=(0, 1000)):
  rows = []
  for at, name, number, block in itertools.product(
    stages, estimators, numbers, ("phi", "theta", "value")
  ):
    variance = 88.75 * (1 + estimators.index(name)) / number
    row = dict(at=at, estimator=name, num_samples=number, block=block, variance=variance)
    row |= dict(variance_low=0.9 * variance, variance_high=1.1 * variance, snr=1.5, snr_low=0.0)
    rows.append(row | dict(snr_high=2.0, variance_x_milliseconds=3 * variance))
  return rows


def test_gradients_at_a_single_number_of_samples_stand_beside_each_other():
  figure = draw_gradient_noise(gradient_rows([2]), "a title", budget="smoke")
  assert len(figure.axes) == 4 * 3 and figure.get_suptitle() == f"a title\n{SMOKE}"
  for axes in figure.axes:
    low, high = axes.get_xlim()
    assert low <= 1 and high >= 4
    places = np.array([container[0].get_xdata()[0] for container in axes.containers])
    assert np.all(np.diff(np.log(places)) > 0.1) and low < places.min() and places.max() < high
    assert list(axes.get_xticks()) == [2]
    y = [container[0].get_ydata()[0] for container in axes.containers]
    assert axes.get_ylim()[0] < min(y) and max(y) < axes.get_ylim()[1]


def test_gradients_have_plain_numbers_beside_short_axes():
  figure = draw_gradient_noise(gradient_rows([2, 10]), "a title")
  for axes in figure.axes:
    assert len(labels_of(axes.yaxis)) >= 2
    assert all("times" not in label and "10^" not in label for label in labels_of(axes.yaxis))
  assert labels_of(figure.axes[-1].xaxis) == ["2", "10"]
  (first, *_) = figure.axes[0].containers
  np.testing.assert_array_equal(first[0].get_xdata(), [2, 10])
  np.testing.assert_allclose(first[0].get_ydata(), [44.375, 8.875])


def iwae_rows(numbers, **more):
  rows = []
  for k, model in itertools.product(numbers, ("vae", "iwae")):
    if (k, model) != (1, "iwae"):
      rows.append(dict(model=model, k=k, nll=90.0 - k / 50, gain=k / 50, gain_se=0.1) | more)
  return rows


def test_both_models_of_a_single_k_are_neighbours():
  figure = draw_iwae_table(iwae_rows([5]), "a title", budget="smoke")
  assert figure.get_suptitle() == f"a title\n{SMOKE}"
  for axes in figure.axes:
    vae, iwae = (np.log(container[0].get_xdata()[0]) for container in axes.containers)
    assert 0 < iwae - vae < 0.1 * np.ptp(np.log(axes.get_xlim()))
    assert list(axes.get_xticks()) == [5] and axes.get_xlim() == (2.5, 10)
  assert figure.axes[1].get_ylabel() == "gain on VAE, k = 5 (nats)"


def test_the_iwae_table_has_the_published_numbers_beside_ours():
  rows = iwae_rows([1, 5, 50], paper_nll=86.0, paper_gain=0.5)
  figure = draw_iwae_table(rows, "a title")
  left, right = figure.axes
  assert right.get_ylabel() == "gain on k = 1 (nats)" and list(left.get_xticks()) == [1, 5, 50]
  ours = left.containers[1][0]  # of the IWAE, which shares the row of k = 1
  np.testing.assert_allclose(np.array(ours.get_ydata(), float), [90 - 1 / 50, 90 - 5 / 50, 89])
  (legend,) = figure.legends
  names = [text.get_text() for text in legend.get_texts()]
  assert names == ["VAE", "IWAE", "VAE, published", "IWAE, published"]


def test_distances_to_pca_are_labelled_on_a_short_axis():
  rows = [
    dict(
      examples_seen=n, train_bound=-b, train_log_likelihood=-b + 1, max_angle=a, mean_angle=a - 1
    )
    for n, b, a in ((100, 88.0, 89.9), (1000, 87.5, 89.5))
  ]
  figure = draw_linear_gaussian(rows, 1.0, "a title", budget="smoke")
  assert figure.get_suptitle() == f"a title\n{SMOKE}"
  left, right = figure.axes
  assert left.get_yscale() == right.get_yscale() == "log"
  np.testing.assert_array_equal(left.get_lines()[0].get_ydata(), [89, 88.5])
  np.testing.assert_array_equal(left.get_lines()[1].get_ydata(), [88, 87.5])
  for axes in (left, right):
    labels = labels_of(axes.yaxis)
    assert len(labels) >= 2 and all(80 < float(label) < 95 for label in labels)


def test_what_is_above_the_optimum_has_no_place_on_a_log_axis():
  rows = [
    dict(examples_seen=n, train_bound=b, train_log_likelihood=b, max_angle=1.0, mean_angle=0.1)
    for n, b in ((100, -9.0), (1000, 0.9), (10_000, 1.0001))
  ]
  left = draw_linear_gaussian(rows, 1.0, "a title").axes[0]
  np.testing.assert_allclose(left.get_lines()[0].get_ydata(), [10, 0.1, np.nan])
  assert left.get_ylim()[0] < 0.1 and left.get_ylim()[1] > 10
  assert labels_of(left.yaxis) == ["0.1", "1", "10"]


def test_methods_of_full_vb_are_told_apart():
  rows = [
    dict(method=method, theta=theta, examples_seen=n, train_bound=-b, train_bound_se=1.0)
    | dict(test_bound=-b - 9, test_bound_se=1.0)
    for (method, theta), b in ((("ml", "point"), 100), (("full_vb", "mean"), 110))
    for n in (5000, 6000)
  ]
  train, test = draw_full_vb(rows, "a title").axes
  assert [line.get_linestyle() for line in train.get_lines()] == ["-", "--"]
  assert test.get_lines()[1].get_label() == "full_vb, θ at its mean"
  np.testing.assert_array_equal(test.get_lines()[1].get_ydata(), [-119, -119])
  assert len(labels_of(train.xaxis)) >= 2 and "5,000" in labels_of(train.xaxis)


PICTURE = np.zeros((5, 10, 1))


def losses(*values):
  return [dict(epochs=i + 1, train_loss=v - 1, test_loss=v) for i, v in enumerate(values)]


def test_the_article_has_a_line_where_the_loss_comes_near_it():
  near = draw_conv_vae([("x", PICTURE)], losses(300, 160, 150), 155).axes[-1]
  assert near.get_lines()[-1].get_label() == "the article: about 155"
  assert near.get_ylim()[1] == 150 + 60 + 2
  figure = draw_conv_vae([("x", PICTURE)], losses(500, 420), 155, budget="smoke")
  assert figure.get_suptitle() == SMOKE
  axes = figure.axes[-1]
  assert [line.get_label() for line in axes.get_lines()] == ["train", "test"]
  assert axes.get_ylim()[0] > 400 and axes.get_ylim()[1] > 500


def test_pictures_side_by_side_are_equally_high():
  pictures = [("tall", np.zeros((20, 10, 1))), ("wide", np.zeros((10, 20, 1)))]
  figure = draw_panels(pictures, columns=2, budget="smoke")
  assert figure.get_suptitle() == SMOKE
  figure.canvas.draw()
  heights = [axes.get_window_extent().height for axes in figure.axes]
  np.testing.assert_allclose(heights[0], heights[1], rtol=0.02)
  assert [axes.get_title() for axes in figure.axes] == ["tall", "wide"]


def test_a_last_row_that_is_not_full_leaves_its_places_empty():
  figure = draw_panels([(f"{i}", PICTURE) for i in range(3)], columns=2)
  assert [len(axes.get_images()) for axes in figure.axes] == [1, 1, 1, 0]
  assert not figure.axes[3].axison


def test_uses_have_names_beside_their_rows_and_no_grid():
  z = np.random.default_rng(0).normal(size=(20, 2))
  panels = [Panel(name, PICTURE, ["x", "y"]) for name in ("one", "two", "three")]
  figure = draw_uses(panels, z, np.repeat([0, 1], 10), "latents", budget="smoke")
  assert figure.get_suptitle() == SMOKE
  *shown, latents = figure.axes
  for axes in shown:
    assert labels_of(axes.yaxis) == ["x", "y"]
    assert not any(line.get_visible() for line in axes.get_ygridlines())
  np.testing.assert_array_equal(latents.collections[1].get_offsets(), z[10:])


@pytest.mark.parametrize("budget", [None, "cpu", "paper"])
def test_only_smoke_is_warned_of(budget):
  assert with_budget("a title", budget) == "a title" and with_budget("", budget) == ""
