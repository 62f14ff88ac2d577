"""The reading of pixels by a configuration: the x that training and evaluation see."""

import dataclasses

import jax
import numpy as np
import pytest

from aevb_jax.data import datasets
from aevb_jax.errors import ConfigError
from aevb_jax.runs import pixels as run_pixels
from aevb_jax.runs.checks import check_data
from aevb_jax.runs.config import DataConfig
from aevb_jax.training.evaluation import evaluate

PIXELS = np.asarray([[0, 51, 128, 255]] * 50, np.uint8)
DYNAMIC = DataConfig(binarization="dynamic")


def make(levels=255, **values):
  images = datasets.ImageData(PIXELS, None, PIXELS[:7], (2, 2, 1), levels=levels)
  return run_pixels.make_pixels(images, dataclasses.replace(DYNAMIC, **values))


def x_of(pixels, static_key, seed=0):
  identity = lambda key, params, x: x
  how = dict(preprocess=pixels.preprocess, static_key=static_key)
  return np.asarray(evaluate(identity, jax.random.key(seed), (), np.asarray(pixels.train), **how))


@pytest.mark.parametrize(
  "levels, flag, divisor",
  [(255, None, 255), (255, 256, 256), (256, None, 256), (256, 255, 255)],
)
def test_real_values(levels, flag, divisor):
  pixels = make(levels, binarization="none", pixel_scale=flag)
  np.testing.assert_allclose(x_of(pixels, None), PIXELS / divisor, rtol=1e-12)


def test_mean_of_x():
  means = {"dynamic": [0, 0.2, 128 / 255, 1], "threshold": [0, 0, 1, 1]}
  for binarization, mean in means.items():
    images = datasets.ImageData(np.concatenate([PIXELS, 0 * PIXELS]), None, PIXELS, (2, 2, 1))
    found = run_pixels.mean_of_x(images, DataConfig(binarization=binarization))
    np.testing.assert_allclose(found, np.divide(mean, 2), rtol=1e-12)
  floats = datasets.ImageData(PIXELS / 255, None, PIXELS / 255, (2, 2, 1))
  found = run_pixels.mean_of_x(floats, DataConfig(binarization="none"))
  np.testing.assert_allclose(found, means["dynamic"], rtol=1e-12)


def test_threshold():
  np.testing.assert_array_equal(x_of(make(binarization="threshold"), None)[0], [0, 0, 1, 1])


@pytest.mark.parametrize("levels", [255, 256])
def test_binarization_has_the_scaled_pixels_as_probabilities(levels):
  x = x_of(make(levels, binarization="dynamic"), None)
  assert set(np.unique(x)) == {0.0, 1.0} and not x[:, 0].any()
  assert 0.3 < x[:, 2].mean() < 0.7
  if levels == 255:
    assert x[:, 3].all()


def test_training_draws_afresh_only_where_it_is_dynamic():
  assert make(binarization="dynamic").static_key is None
  static = make(binarization="static")
  first = x_of(static, static.static_key, seed=0)
  np.testing.assert_array_equal(first, x_of(static, static.static_key, seed=1))
  # The train bound is evaluated on the draw that training reads.
  np.testing.assert_array_equal(first, x_of(static, static.train_draw))


def test_dequantization():
  x = x_of(make(256, binarization="none", dequantization=True), None)
  np.testing.assert_array_equal(np.floor(x * 256), PIXELS)
  assert len(np.unique(x[:, 1])) > 40


def test_fixed_draws_share_no_key_with_a_run():
  pixels = make()
  fixed = [jax.random.key_data(key).tolist() for key in (pixels.train_draw, pixels.test_draw)]
  root = jax.random.key(run_pixels.BINARIZATION_SEED)
  keys = [root, *jax.random.split(root, 3), *(jax.random.fold_in(root, i) for i in range(100))]
  assert not any(jax.random.key_data(key).tolist() in fixed for key in keys)


def test_size_decides_what_is_streamed():
  resident, streamed = make(max_resident_mb=1.0), make(max_resident_mb=PIXELS.nbytes / 2**20 - 1e-6)
  assert not resident.streamed and isinstance(resident.train, jax.Array)
  assert streamed.streamed and isinstance(streamed.train, np.ndarray)


@pytest.mark.parametrize(
  "values, flag",
  [
    (dict(dataset="binarized_mnist", pixel_scale=256), "pixel_scale"),
    (dict(dataset="binarized_mnist", binarization="none", dequantization=True), "dequantization"),
    (dict(dataset="digits", binarization="none", dequantization=True), "dequantization"),
    (dict(dataset="digits", mirror="http://127.0.0.1"), "mirror"),
  ],
)
def test_flags_that_do_not_go_with_a_data_set(values, flag):
  with pytest.raises(ConfigError, match=f"^{flag}="):
    check_data(dataclasses.replace(DYNAMIC, **values))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_pixel_that_is_not_finite_is_named(split, value, monkeypatch):
  """It is found in any block, and only the images that the run reads are looked at."""
  pixels = {
    name: np.full((10_003, 12), 0.5, np.float32) for name in ("train", "validation", "test")
  }
  images = datasets.ImageData(**pixels, image_shape=(2, 3, 2))
  monkeypatch.setattr(datasets, "load", lambda *args, **kwargs: images)
  data = DataConfig("images", binarization="dynamic")
  assert run_pixels.load_data(data, None) is images
  pixels[split][10_001, 9] = value  # row 1, column 1, channel 1
  pixels[split][10_002, 0] = np.nan
  words = f"{value} in image 10001 of {split}, at row 1, column 1, channel 1 "
  with pytest.raises(ConfigError, match=f"^dataset=images: has a pixel .*: {words}") as error:
    run_pixels.load_data(data, None)
  assert "\n" not in str(error.value)
  few = dataclasses.replace(data, num_train=10_000)
  if split == "train":
    assert len(run_pixels.load_data(few, None).train) == 10_000
  else:
    with pytest.raises(ConfigError):
      run_pixels.load_data(few, None)


def test_only_a_cache_that_was_asked_for_must_be_writable(
  tmp_path, float_images_dir, monkeypatch, caplog
):
  (tmp_path / "file").write_text("")
  data = DataConfig("float_images", data_dir=float_images_dir)
  nowhere = str(tmp_path / "file" / "arrays")
  with pytest.raises(ConfigError, match="array_cache_dir=.*; name another directory, or --array_"):
    run_pixels.load_data(data, nowhere)
  monkeypatch.setattr(run_pixels, "ARRAYS", nowhere)
  loaded = run_pixels.load_data(data, nowhere)
  np.testing.assert_array_equal(loaded.train, run_pixels.load_data(data, None).train)
  run_pixels.load_data(data, nowhere)
  (message,) = caplog.messages
  assert message.startswith(f"warning: --array_cache_dir={nowhere}: ")
