"""The figures of single mains: limits, ticks, markers and titles."""

import itertools

import numpy as np
import pytest

from experiments.plots.conv_vae import draw_conv_vae
from experiments.plots.frey_face_video import draw_curves, draw_video, redraw
from experiments.plots.full_vb import draw_full_vb
from experiments.plots.gradients import draw_gradient_noise
from experiments.plots.iwae_table import draw_iwae_table
from experiments.plots.linear_gaussian import draw_linear_gaussian
from experiments.plots.panels import draw_panels
from experiments.plots.records import with_budget
from experiments.plots.semi_supervised import draw_semi_supervised
from experiments.plots.uses import Panel, draw_uses
from tests.plots.looking import SMOKE, labels_of


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
  ours = left.containers[1][0]  # the IWAE, which shares the row of k = 1
  np.testing.assert_allclose(np.array(ours.get_ydata(), float), [90 - 1 / 50, 90 - 5 / 50, 89])
  (legend,) = figure.legends
  names = [text.get_text() for text in legend.get_texts()]
  assert names == ["VAE", "IWAE", "VAE, published", "IWAE, published"]


def test_extrapolated_numbers_are_points_with_errors_beside_those_of_the_same_row():
  rows = [row | dict(extrapolated=row["nll"] - 2, later_gain_se=0.7) for row in iwae_rows([1, 5])]
  del rows[-1]["extrapolated"]  # of the IWAE, k = 5
  left, right = draw_iwae_table(rows, "a title").axes
  drawn = {container.get_label(): container for container in left.containers}
  assert list(drawn) == ["VAE", "VAE, extrapolated", "IWAE", "IWAE, extrapolated"]
  points_of = lambda label: np.array(drawn[label][0].get_xydata(), float)
  np.testing.assert_allclose(points_of("VAE, extrapolated"), points_of("VAE") - [0, 2])
  (bars,) = drawn["VAE, extrapolated"][2]
  ends = np.array(bars.get_segments())[:, :, 1]
  np.testing.assert_allclose(np.diff(ends)[:, 0], 1.4)
  np.testing.assert_allclose(points_of("IWAE, extrapolated")[:, 1], [90 - 0.02 - 2, np.nan])
  assert len(right.containers) == 2  # gains are not extrapolated


def test_models_of_two_layers_have_lines_of_their_own():
  one, two = (iwae_rows([1, 50], layers=layers) for layers in (1, 2))
  two = [row | dict(nll=row["nll"] - layers) for layers, row in zip((1.0, 1.5, 2.0), two)]
  figure = draw_iwae_table([*one, *two], "a title")
  left, _ = figure.axes
  lines = {c.get_label(): np.array(c[0].get_ydata(), float) for c in left.containers}
  assert list(lines) == ["VAE", "IWAE", "VAE, 2 layers", "IWAE, 2 layers"]
  np.testing.assert_allclose(lines["IWAE, 2 layers"], [90 - 0.02 - 1.0, 89 - 2.0])
  np.testing.assert_allclose(lines["VAE"], [90 - 0.02, 89])


@pytest.mark.parametrize("more", [{}, dict(extrapolated=88.0, later_gain_se=0.5)])
@pytest.mark.parametrize("layers", [[1], [2], [1, 2]])
def test_the_legend_of_the_iwae_table_is_inside_the_figure(layers, more):
  rows = [iwae_rows([1, 50], layers=n, paper_nll=86.0, paper_gain=0.5, **more) for n in layers]
  figure = draw_iwae_table([row for some in rows for row in some], "a title")
  figure.draw_without_rendering()
  (legend,), whole = figure.legends, figure.bbox
  box = legend.get_window_extent()
  assert whole.x0 <= box.x0 < box.x1 <= whole.x1 and whole.y0 <= box.y0
  for axes in figure.axes:
    assert axes.get_window_extent().height > 0.35 * 2.4 * figure.dpi


def test_errors_with_few_labels_are_means_over_draws_beside_the_published():
  rows = [
    dict(model=model, labels=labels, draw=draw, examples_seen=n, test_error=error + draw)
    for model, error in (("m2", 12.0), ("m1_m2", 4.0))
    for labels in (100, 1000)
    for draw in (0, 2)
    for n in (1000, 2000)
  ]
  results = [dict(model="m2", labels=100, paper_error=11.97)]
  figure = draw_semi_supervised(rows, results, "a title")
  left, right = figure.axes
  assert [axes.get_title() for axes in (left, right)] == ["100 labels", "1000 labels"]
  lines = {line.get_label(): np.array(line.get_ydata(), float) for line in left.get_lines()}
  np.testing.assert_allclose(lines["M2"], [13, 13])  # of 12 and 14
  np.testing.assert_allclose(lines["M1+M2"], [5, 5])
  assert set(lines["M2, published"]) == {11.97}
  band = left.collections[0].get_datalim(left.transData)
  assert (band.y0, band.y1) == (12, 14)
  assert len(right.get_lines()) == 2 and left.get_ylim()[0] == 0


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


VIDEO_ROWS = [
  dict(method=method, frames_seen=1000 * (i + 1), train_bound=b + 9, validation_bound=b)
  for method, bounds in (("static", (5.0, 7.0, 6.0)), ("backward", (4.0, 6.0, 8.0)))
  for i, b in enumerate(bounds)
]


def test_dots_of_a_video_are_at_the_best_validation_bounds(tmp_path):
  rows = [",".join(VIDEO_ROWS[0]), *(",".join(map(str, row.values())) for row in VIDEO_ROWS)]
  (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
  (tmp_path / "flags.txt").write_text("--budget=smoke\n")
  for figure in (draw_curves(VIDEO_ROWS, budget="smoke"), redraw(tmp_path)):
    train, validation = figure.axes
    assert SMOKE in figure.get_suptitle()
    dots = lambda axes: [line.get_xydata().tolist() for line in axes.get_lines()[1::2]]
    assert dots(validation) == [[[2000, 7]], [[3000, 8]]]
    assert dots(train) == [[[2000, 16]], [[3000, 17]]]
    labels = [text.get_text() for text in validation.get_legend().get_texts()]
    assert labels == ["static", "dynamic, backward"]


def test_rows_of_frames_stand_below_each_other():
  frames = np.linspace(0, 1, 2 * 3 * 4).reshape(2, 3, 4)  # two rows of three frames of 2 × 2
  figure = draw_video([("first", frames[0]), ("second", frames[1])], (2, 2, 1))
  (axes,) = figure.axes
  shown = axes.get_images()[0].get_array()
  assert shown.shape == (5, 8)  # one pixel between frames
  np.testing.assert_array_equal(shown[3:, 6:].ravel(), frames[1, 2])
  assert labels_of(axes.yaxis) == ["first", "second"]


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
