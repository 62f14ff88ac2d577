"""What the pictures show."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from aevb_jax import bernoulli, figures, init_params, mlp_vae


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
