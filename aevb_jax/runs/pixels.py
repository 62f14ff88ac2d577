"""The images of a run, and how training and evaluation turn their pixels into data points x."""

import functools
import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from aevb_jax.data import datasets, preprocess, protocols
from aevb_jax.data.minibatches import PixelSource, Source, blocks, read_rows
from aevb_jax.errors import CacheError, ConfigError, NotPreparedError, blaming
from aevb_jax.estimators.semi_supervised import conditioned
from aevb_jax.models.conditions import num_classes, with_labels
from aevb_jax.runs.config import ARRAYS, Config, DataConfig
from aevb_jax.training.program import Pixels
from aevb_jax.training.sharding import Shardings
from aevb_jax.types import Array

# Test images, and static training images, are binarized by one draw from this seed, whatever the
# run's own seed is, so that all runs are evaluated on the same data.
BINARIZATION_SEED = 0
LOGGER = logging.getLogger(__name__)


class Points(NamedTuple):
  """Some images of a split, and the arguments with which `evaluate` reads them as x."""

  pixels: PixelSource
  reading: dict


def points(pixels: Pixels, split: str, num_points: int | None = None) -> Points:
  """Returns the first images of a split, binarized as in every evaluation.

  Args:
    pixels: the data of a run.
    split: train, validation or test.
    num_points: the number of images; None for all.
  """
  source, draw = getattr(pixels, split), getattr(pixels, f"{split}_draw")
  if num_points is not None:
    source = read_rows(source, np.arange(min(num_points, len(source))))
  return Points(source, dict(preprocess=pixels.preprocess, static_key=draw))


def of_points(function: Callable, config: Config, images: datasets.ImageData) -> Callable:
  """Makes a function (key, model, params, x) one of the data points of a run, x or (x, c)."""
  return (
    conditioned(function, data_dim=images.train.shape[1]) if config.model.condition else function
  )


def load_images(config: Config, cache_dir: str | None) -> datasets.ImageData:
  """Loads the data set of a run, and checks that the run can use it.

  Args:
    config: the configuration of the run.
    cache_dir: the directory that keeps decoded data sets between runs; None for no cache.

  Raises:
    ConfigError: if the data set is not there, or does not allow the run.
  """
  images = load_data(config.data, cache_dir)
  check_batch_size(config.optimizer.batch_size, images, config.data)
  of_unit = config.model.likelihood in ("bernoulli", "continuous_bernoulli")
  of_sigmoid = config.model.likelihood == "gaussian" and config.model.sigmoid_mean
  if (of_unit or of_sigmoid) and images.train.dtype != np.uint8:
    _check_unit_range(images, config)
  if config.model.condition:
    with blaming("condition", config.model.condition):
      with_labels(images)
  return images


def condition_dim(images: datasets.ImageData, config: Config) -> int:
  """Returns C, the length of the condition of a run: its number of classes, or 0 for none."""
  return num_classes(images) if config.model.condition else 0


def _check_unit_range(images: datasets.ImageData, config: Config) -> None:
  """Refuses pixels outside [0, 1], for likelihoods whose mean is in it.

  Raises:
    ConfigError: for such pixels.
  """
  for source in (images.train, images.validation, images.test):
    if source is None:
      continue
    low, high = pixel_range(source)
    if low >= 0 and high <= 1:
      continue
    what = f"those of {config.data.dataset} range from {low:g} to {high:g}"
    if config.model.likelihood == "gaussian":
      message = f"keeps the mean of x in [0, 1], and pixels do not stay there: {what}"
      raise ConfigError("sigmoid_mean", True, f"{message}; use --nosigmoid_mean, or scale them")
    message = f"takes pixels in [0, 1], and {what}"
    remedy = "scale them, or use --likelihood=gaussian --nosigmoid_mean"
    raise ConfigError("likelihood", config.model.likelihood, f"{message}; {remedy}")


def check_batch_size(batch_size: int, images: datasets.ImageData, data: DataConfig) -> None:
  """Refuses a minibatch of more images than the training set has.

  Raises:
    ConfigError: for such a batch size.
  """
  if batch_size > len(images.train):
    message = f"takes at most the {len(images.train)} training images of {data.dataset}"
    raise ConfigError("batch_size", batch_size, message)


def load_data(
  data: DataConfig, cache_dir: str | None, *, prepare_any: bool = False
) -> datasets.ImageData:
  """Loads a data set, and checks that its pixels are of the kind that the configuration needs.

  Args:
    data: names the data set.
    cache_dir: the directory that keeps decoded data sets between runs; None for no cache.
    prepare_any: True if data sets that are not among the protocols may be prepared.

  Raises:
    ConfigError: if the data set is not there, has pixels of another kind, or a pixel that the run
      can read is not a finite number.
  """
  images = _load(data, cache_dir, prepare_any)
  if images.train.dtype != np.uint8:
    for name in ("dequantization", "pixel_scale"):
      if value := getattr(data, name):
        raise ConfigError(name, value, f"takes 8-bit pixels, and {data.dataset} has others")
  if data.dataset not in datasets.PROTOCOLS:
    _check_levels(images, data)
  images = _first(images, data) if data.num_train else images
  _check_finite(images, data)
  return images


def _check_levels(images: datasets.ImageData, data: DataConfig) -> None:
  """Refuses fields that need 8-bit pixels, for a data set that has fewer levels.

  Raises:
    ConfigError: if there is such a field.
  """
  if images.levels >= 255:
    return
  what = f"takes 8-bit pixels, and those of {data.dataset} are at most levels={images.levels}"
  for name in ("dequantization", "pixel_scale"):
    if value := getattr(data, name):
      raise ConfigError(name, value, what)


def _check_finite(images: datasets.ImageData, data: DataConfig) -> None:
  """Refuses a data set with a pixel that is NaN or infinite, before anything is computed from it.

  Every pixel that the run can read is read once. Binarization would turn a NaN into 0 silently.

  Raises:
    ConfigError: if a pixel is not finite; the message names the first one and its place.
  """
  if images.train.dtype == np.uint8:
    return
  for split in ("train", "validation", "test"):
    source, start = getattr(images, split), 0
    for block in blocks(source) if source is not None else ():
      finite = np.isfinite(block)
      if not finite.all():
        image, pixel = np.argwhere(~finite)[0]
        row, column, channel = np.unravel_index(pixel, images.image_shape)
        raise ConfigError(
          "dataset",
          data.dataset,
          f"has a pixel that is not a finite number: {block[image, pixel]} in image "
          f"{start + image} of {split}, at row {row}, column {column}, channel {channel} (all "
          "counted from 0); correct or leave out that image, and prepare the data set again",
        )
      start += len(block)


def _first(images: datasets.ImageData, data: DataConfig) -> datasets.ImageData:
  """Keeps only the first `num_train` training images, as figure 3 does."""
  if data.num_train > len(images.train):
    message = f"takes at most the {len(images.train)} of {data.dataset}"
    raise ConfigError("num_train", data.num_train, message)
  return first_images(images, data.num_train)


def first_images(images: datasets.ImageData, num_train: int) -> datasets.ImageData:
  """Keeps only the first training images of a data set."""
  labels = images.train_labels
  return images._replace(
    train=read_rows(images.train, np.arange(num_train)),
    train_labels=None if labels is None else labels[:num_train],
  )


def _load(data: DataConfig, cache_dir: str | None, prepare_any: bool) -> datasets.ImageData:
  load = functools.partial(
    datasets.load,
    data.dataset,
    data.data_dir,
    manual_dir=data.manual_dir,
    mirror=data.mirror,
    prepare_any=prepare_any,
  )
  try:
    if cache_dir:
      try:
        return load(cache_dir=cache_dir)
      except CacheError as error:
        if cache_dir != ARRAYS:
          message = f"{error}; name another directory, or --array_cache_dir= for none"
          raise ConfigError("array_cache_dir", cache_dir, message) from error
        _warn_of_no_cache(str(error))
    images = load(decode=False)
    decoded = isinstance(images.train, np.ndarray)  # decoding them again would take as long again
    return load() if fits_device(images, data) and not decoded else images
  except NotPreparedError as error:
    name = "data_dir" if data.data_dir is not None else "dataset"
    raise ConfigError(name, getattr(data, name), str(error)) from error


@functools.cache  # so that it warns only once
def _warn_of_no_cache(what: str) -> None:
  """Warns that the default cache cannot be written; this is not an error, as no user named it."""
  LOGGER.warning(
    "warning: --array_cache_dir=%s: %s; data sets are decoded again in each run unless another "
    "directory is named",
    ARRAYS,
    what,
  )


def fits_device(images: datasets.ImageData, data: DataConfig) -> bool:
  """Reports whether the training set is kept on the device, instead of being streamed."""
  num_bytes = math.prod(images.train.shape) * images.train.dtype.itemsize
  return num_bytes <= data.max_resident_mb * 2**20


def check_resident(pixels: Pixels, data: DataConfig) -> None:
  """Refuses a training set that would be streamed, for programs that need it on the device.

  Raises:
    ConfigError: if the training set would be streamed.
  """
  if pixels.streamed:
    message = f"must be large enough for the training images of {data.dataset}"
    raise ConfigError("max_resident_mb", data.max_resident_mb, message)


def pixel_range(source: Source) -> tuple[float, float]:
  """Returns the smallest and the largest pixel."""
  ranges = [(block.min(), block.max()) for block in blocks(source)]
  return float(min(low for low, _ in ranges)), float(max(high for _, high in ranges))


def mean_of_x(images: datasets.ImageData, data: DataConfig) -> np.ndarray:
  """Returns the mean of the training images as the model sees them, shape (D,)."""
  levels = pixel_scale(images, data) if images.train.dtype == np.uint8 else 1
  total = np.zeros(images.train.shape[1])
  for block in blocks(images.train):
    x = block / levels
    total += (x > 0.5 if data.binarization == "threshold" else x).sum(axis=0)
  return total / len(images.train)


def pixel_scale(images: datasets.ImageData, data: DataConfig) -> int:
  """Returns the number that uint8 pixels are divided by."""
  return 256 if data.dequantization else int(data.pixel_scale or images.levels)


def make_pixels(
  images: datasets.ImageData,
  data: DataConfig,
  shardings: Shardings | None = None,
  *,
  condition: str | None = None,
) -> Pixels:
  """Puts the data set on the devices, unless it is streamed.

  Args:
    images: the data set.
    data: how pixels become x.
    shardings: the devices; None for the first device.
    condition: the condition of the run, if it has one: rows and data points are then (x, c).
  """
  levels = pixel_scale(images, data)
  scale = functools.partial(preprocess.scale, levels=levels)
  binarize = functools.partial(preprocess.binarize, levels=levels)
  functions = {
    "none": preprocess.dequantize if data.dequantization else scale,
    "threshold": functools.partial(preprocess.threshold, levels=levels),
    "static": binarize,
    "dynamic": binarize,
  }
  # fold_in makes the draws differ from the keys that a run of the same seed is split into.
  draws = jax.random.fold_in(jax.random.key(BINARIZATION_SEED), 2**20)
  train_draw, test_draw = jax.random.split(draws)
  streamed, read = not fits_device(images, data), functions[data.binarization]
  if condition:
    images, read = with_labels(images), preprocess.beside(read, images.train.shape[1])
  return Pixels(
    train=images.train if streamed else _to_devices(_whole(images.train), shardings),
    validation=images.validation,
    test=images.test,
    streamed=streamed,
    preprocess=read,
    static_key=train_draw if data.binarization == "static" else None,
    train_draw=train_draw,
    validation_draw=jax.random.fold_in(draws, 2),  # differs from the two keys of the split
    test_draw=test_draw,
    sharding=shardings and shardings.evaluation,
  )


def _whole(source: PixelSource) -> np.ndarray:
  """Returns all rows as one array, memory-mapped if the source is."""
  if isinstance(source, np.ndarray):
    return np.asarray(source)
  return read_rows(source, np.arange(len(source)))


def _to_devices(pixels: np.ndarray, shardings: Shardings | None) -> Array:
  """Copies the pixels to every device, of all processes."""
  if shardings is None:
    return jax.device_put(pixels)
  return jax.make_array_from_process_local_data(shardings.replicated, pixels)


def real_valued(data: DataConfig) -> bool:
  """Reports whether x are real values, instead of draws or thresholds that are 0 or 1."""
  return data.binarization == "none" and data.dataset != "binarized_mnist"


def density_note(config: Config) -> str | None:
  """Returns a note if log-likelihoods are not log-densities of the data; otherwise None."""
  if config.model.likelihood == "bernoulli" and real_valued(config.data):
    return "Bernoulli likelihood of real-valued pixels: not a log-density"
  return None


def pixels_in_words(data: DataConfig) -> str:
  """Names the data set and how its pixels became x."""
  kinds = {
    "none": "dequantized pixels" if data.dequantization else "real-valued pixels",
    "binarized_mnist": "binary pixels",
  }
  name = data.dataset if data.dataset in kinds else data.binarization
  return f"{data.dataset}, {kinds.get(name, f'{name} binarization')}"


def file_name(data: DataConfig) -> str:
  """Returns the data set's name in a form that file names can contain, without directories."""
  name = data.dataset
  if (kind := protocols.kind_of(name)) in ("arrays", "images"):
    name = f"{kind}:{protocols.path_of(name, data.data_dir)[0].stem}"
  return name.replace("/", "-").replace(":", "-")[:100]


def about_images(images: datasets.ImageData, data: DataConfig) -> dict:
  """Returns the entries of summary.json about the data."""
  return dict(
    dataset=data.dataset,
    dataset_version=images.version,
    protocol=images.protocol,
    num_train=len(images.train),
    num_validation=len(images.validation) if images.validation is not None else None,
    num_test=len(images.test),
    binarization=data.binarization,
    binarization_seed=BINARIZATION_SEED,
    pixel_scale=pixel_scale(images, data) if images.train.dtype == np.uint8 else None,
    dequantization=data.dequantization,
    streamed=not fits_device(images, data),
  )
