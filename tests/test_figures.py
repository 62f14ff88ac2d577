"""The pictures show what they should: grids, tiles, labels, axes and ticks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from aevb_jax import bernoulli, figures, init_params, mlp_vae
from tests.plots.looking import labels_of


def test_manifold_is_an_even_grid_of_the_unit_square():
  z = figures.manifold_latents(4).reshape(4, 4, 2)
  u = scipy.stats.norm.cdf(z)
  grid = (np.arange(4) + 0.5) / 4
  np.testing.assert_allclose(u[..., 0], np.tile(grid, (4, 1)))  # left to right
  np.testing.assert_allclose(u[..., 1], np.tile(grid[::-1, None], (1, 4)))  # bottom to top


def test_tile_puts_images_in_rows():
  images = np.arange(3)[:, None] * np.ones((3, 2 * 3 * 1)) / 10
  picture = figures.tile(images, (2, 3, 1), columns=2)
  assert picture.shape == (5, 7, 1)
  np.testing.assert_array_equal(picture[:2, :3, 0], 0.0)
  np.testing.assert_array_equal(picture[:2, 4:, 0], 0.1)
  np.testing.assert_array_equal(picture[3:, :3, 0], 0.2)
  np.testing.assert_array_equal(picture[3:, 4:, 0], 1.0)  # no image there
  np.testing.assert_array_equal(picture[2, :, 0], 1.0)
  dark = figures.tile(images, (2, 3, 1), columns=2, background=0.0)
  np.testing.assert_array_equal(dark[:, 3, 0], 0.0)


def test_encode_decode_and_sample():
  model = mlp_vae(bernoulli(6), data_dim=6, latent_dim=2, hidden_dim=5)
  params = init_params(jax.random.key(0), model)
  x = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 6)))
  z = figures.encode(model, params, x)
  np.testing.assert_allclose(z[1], model.encoder.given(params.phi, x[1]).mean, rtol=1e-12)
  means = figures.decode(model, params, z)
  np.testing.assert_allclose(means[2], model.decoder.given(params.theta, z[2]).mean, rtol=1e-12)
  samples = figures.sample_prior(jax.random.key(1), model, params, 2000)
  assert scipy.stats.kstest(np.ravel(samples), "norm").pvalue > 1e-6


def test_drawings_show_what_they_are_given():
  rows = [
    dict(examples_seen=n, train_bound=-b, train_bound_se=0.1, test_bound=-b - 1, test_bound_se=0.2)
    for n, b in ((100, 120.0), (1000, 110.0))
  ]
  axes = figures.draw_bounds(rows, "a title").axes[0]
  assert axes.get_xscale() == "log" and axes.get_title() == "a title"
  train, test = axes.get_lines()
  np.testing.assert_array_equal(train.get_ydata(), [-120, -110])
  np.testing.assert_array_equal(test.get_ydata(), [-121, -111])
  assert (train.get_linestyle(), test.get_linestyle()) == ("--", "-")

  z = np.random.default_rng(0).normal(size=(30, 2))
  labels = np.repeat([1, 4, 7], 10)
  axes = figures.draw_latents(z, labels, "latents").axes[0]
  np.testing.assert_array_equal(axes.collections[1].get_offsets(), z[10:20])
  assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1", "4", "7"]

  colour = np.random.default_rng(0).uniform(size=(4, 5, 3))
  np.testing.assert_array_equal(
    figures.draw_images(colour, "x").axes[0].get_images()[0].get_array(), colour
  )


def test_colour_images_keep_their_colours():
  image = np.random.default_rng(0).uniform(size=(2, 3, 3))
  picture = figures.tile(np.stack([image.ravel()] * 3), (2, 3, 3), columns=2)
  assert picture.shape == (5, 7, 3)
  np.testing.assert_array_equal(picture[3:, :3], image)
  drawn = figures.draw_pairs(image.reshape(1, -1), image.reshape(1, -1), (2, 3, 3), "x and E[x|z]")
  shown = drawn.axes[0].get_images()[0].get_array()
  np.testing.assert_array_equal(shown[:2], image)
  np.testing.assert_array_equal(shown[3:], image)


def test_no_grid_runs_through_images():
  picture = np.zeros((6, 4, 1))
  for axes in (
    figures.draw_images(picture, "x", row_labels=["train", "", "test"]).axes[0],
    figures.draw_pairs(np.zeros((4, 4)), np.zeros((4, 4)), (2, 2, 1), "x").axes[0],
  ):
    axes.figure.canvas.draw()
    lines = [*axes.get_xgridlines(), *axes.get_ygridlines()]
    assert not any(line.get_visible() for line in lines)
  labels = [label.get_text() for label in axes.get_yticklabels()]
  assert labels == ["x", "E[x|z]"] and len(axes.get_xticks()) == 0


@pytest.mark.parametrize(
  "low, high, labels",
  [
    (10_000, 20_000, ["10,000", "20,000"]),
    (9_000, 110_000, [r"$\mathdefault{10^{4}}$", r"$\mathdefault{10^{5}}$"]),
    (0.05, 20, ["0.1", "1", "10"]),
    (1.2, 4.9, ["2", "3", "4"]),  # only one of 1, 2 and 5
    (88.75, 89.9, ["89", "89.5"]),
    (2.1e-5, 6e-5, ["3e-05", "4e-05", "5e-05", "6e-05"]),
  ],
)
def test_log_axes_have_labels_however_short_they_are(low, high, labels):
  axes = figures.new_figure(3, 2).add_subplot()
  for which, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
    figures.set_log_axis(axes, which, low, high)
    assert axis.get_scale() == "log" and tuple(axis.get_view_interval()) == (low, high)
    assert labels_of(axis) == labels


def test_a_long_log_axis_keeps_its_decades_apart():
  axes = figures.new_figure(3, 2).add_subplot()
  figures.set_log_axis(axes, "y", 1e-3, 1e12)
  assert 3 <= len(labels_of(axes.yaxis)) <= 9


def test_padded_limits_hold_all_positive_numbers():
  low, high = figures.padded([0, -3, 10, np.inf, 1000, np.nan])
  np.testing.assert_allclose((low, high), (10 / 100**0.05, 1000 * 100**0.05))
  assert figures.padded([7]) == (3.5, 14) and figures.padded([]) == (1, 10)


def test_a_single_evaluation_has_its_errors_and_tells_train_from_test():
  row = dict(examples_seen=1420, train_bound=-26.6, train_bound_se=0.1)
  axes = figures.draw_bounds([row | dict(test_bound=-26.8, test_bound_se=0.2)], "x").axes[0]
  train, test = axes.containers
  assert (train.get_label(), test.get_label()) == ("train", "test")
  assert train[0].get_markerfacecolor() != test[0].get_markerfacecolor()
  (segment,) = test[2][0].get_segments()
  np.testing.assert_allclose(segment[:, 1], [-27.0, -26.6])
  assert axes.get_xlim() == (710, 2840) and len(labels_of(axes.xaxis)) >= 2


def test_sweeps_of_a_short_run_have_an_axis():
  rows = [dict(examples_seen=n, train_bound=-30.0, test_bound=-31.0) for n in (12_000, 13_000)]
  axes = figures.draw_sweep([("step size 0.1", rows)], "x").axes[0]
  assert labels_of(axes.xaxis) == ["12,000", "12,500", "13,000"]


def test_ticks_have_the_size_of_the_style_though_they_are_drawn_outside_it():
  axes = figures.draw_bounds(
    [
      dict(examples_seen=n, train_bound=-1, train_bound_se=0, test_bound=-2, test_bound_se=0)
      for n in (1, 2)
    ],
    "x",
  ).axes[0]
  axes.figure.canvas.draw()
  assert {label.get_size() for label in axes.get_yticklabels()} == {7.0}
