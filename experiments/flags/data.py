"""The flags that say which data a main reads and how pixels become x."""

import functools
import math
import os
import urllib.parse
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from jax.sharding import NamedSharding

from aevb_jax import errors
from aevb_jax.data import datasets, preprocess
from aevb_jax.data.minibatches import Source, blocks, read_rows
from aevb_jax.errors import NotPreparedError
from aevb_jax.training.sharding import Shardings
from aevb_jax.types import Array, Key, Preprocess
from experiments.launch.command import CACHE, UsageError

FLAGS = flags.FLAGS

# Test images, and static training images, are binarized by one draw from this
# seed whatever --seed is, so that all runs are judged on the same data.
BINARIZATION_SEED = 0

flags.DEFINE_string(
  "dataset",
  "digits",
  f"digits (8x8, comes with scikit-learn), {', '.join(datasets.PROTOCOLS)}, which are prepared "
  "when they are first asked for, or any image data set of TensorFlow Datasets.",
)
flags.DEFINE_string(
  "data_dir", None, "Directory of prepared TensorFlow Datasets. Default: TFDS's own."
)
flags.DEFINE_string(
  "manual_dir",
  None,
  "Directory with files of a data set that need not be downloaded. Default: downloads/manual in "
  "--data_dir.",
)
flags.DEFINE_string(
  "mirror", None, "Address of a directory to download from instead of a data set's own."
)
flags.DEFINE_string(
  "array_cache_dir",
  os.path.join(CACHE, "arrays"),
  "Where decoded data sets are kept between runs; empty for nowhere.",
)
flags.DEFINE_float(
  "max_resident_mb",
  2048.0,
  "Largest training set, in MiB of pixels, that is kept on the device; a larger one is streamed "
  "from disk, in the same order.",
  lower_bound=0.0,
)
flags.DEFINE_integer(
  "num_train", 0, "Trains on the first so many training images; 0: on all.", lower_bound=0
)
flags.DEFINE_enum(
  "binarization",
  "dynamic",
  ["dynamic", "static", "threshold", "none"],
  "Pixels as probabilities of a 1, drawn at each use (dynamic) or once (static); a 1 where above "
  "1/2 (threshold); or real values (none; the default for --likelihood=gaussian). Test images are "
  "binarized once, the same for every run.",
)
flags.DEFINE_enum(
  "pixel_scale",
  None,
  ["255", "256"],
  "x = pixels / this, before any binarization. Default: 256 for Frey Face, as in the first "
  "author's code, 255 for others.",
)
flags.DEFINE_boolean(
  "dequantization",
  False,
  "x = (pixels + u) / 256 with u uniform on [0, 1), drawn at each use for training and once for "
  "evaluation; the density then bounds bits per dimension.",
)


@flags.validator("max_resident_mb", "takes a number of at least 0")
def _check_max_resident_mb(value: float) -> bool:
  return not math.isnan(value)


def settle() -> None:
  """Refuses flags that do not go together, before any data are read."""
  if FLAGS.dequantization and FLAGS.binarization != "none":
    raise UsageError("dequantization", "is of real values; it takes --binarization=none")
  if FLAGS.dequantization and FLAGS.pixel_scale == "255":
    raise UsageError("pixel_scale", "is 256 with --dequantization")
  levels = {"binarized_mnist": 2, "digits": 17}.get(FLAGS.dataset, 256)
  if FLAGS.dequantization and levels != 256:
    raise UsageError(
      "dequantization", f"is of 8-bit pixels, and {FLAGS.dataset} has {levels} levels"
    )
  if FLAGS.pixel_scale and levels == 2:
    raise UsageError("pixel_scale", "does not go with pixels that are 0 or 1")
  if FLAGS.mirror and FLAGS.dataset not in datasets.PROTOCOLS:
    raise UsageError("mirror", f"takes a --dataset among {', '.join(datasets.PROTOCOLS)}")
  if FLAGS.mirror and not _is_address(FLAGS.mirror):
    raise UsageError("mirror", "takes an address, as https://host/directory")
  if FLAGS.manual_dir and not os.path.isdir(os.path.expanduser(FLAGS.manual_dir)):
    raise UsageError("manual_dir", "is no directory")


def _is_address(text: str) -> bool:
  try:
    parts = urllib.parse.urlsplit(text)
  except ValueError:
    return False
  return parts.scheme in ("http", "https") and bool(parts.hostname)


def load_images(*, prepare_any: bool = False) -> datasets.ImageData:
  """The data set that the flags name, checked against what they ask of its pixels."""
  images = _load(prepare_any)
  if images.train.dtype != np.uint8:
    for flag in ("dequantization", "pixel_scale"):
      if FLAGS[flag].value:
        raise UsageError(flag, f"is of 8-bit pixels, and {FLAGS.dataset} has others")
  return _first(images, FLAGS.num_train) if FLAGS.num_train else images


def _first(images: datasets.ImageData, num_train: int) -> datasets.ImageData:
  """With the first training images alone, as figure 3 has them."""
  if num_train > len(images.train):
    raise UsageError("num_train", f"takes at most the {len(images.train)} of {FLAGS.dataset}")
  labels = images.train_labels
  return images._replace(
    train=read_rows(images.train, np.arange(num_train)),
    train_labels=None if labels is None else labels[:num_train],
  )


def _load(prepare_any: bool) -> datasets.ImageData:
  load = functools.partial(
    datasets.load,
    FLAGS.dataset,
    FLAGS.data_dir,
    manual_dir=FLAGS.manual_dir,
    mirror=FLAGS.mirror,
    prepare_any=prepare_any,
  )
  try:
    if FLAGS.array_cache_dir:
      return load(cache_dir=FLAGS.array_cache_dir)
    images = load(decode=False)
    return load() if fits_device(images) else images
  except errors.CacheError as error:
    raise UsageError("array_cache_dir", f"{error}; name another directory, or none") from error
  except NotPreparedError as error:
    flag = "data_dir" if FLAGS.data_dir is not None else "dataset"
    raise UsageError(flag, str(error)) from error


def file_name() -> str:
  """--dataset as a part of the name of a file."""
  return FLAGS.dataset.replace("/", "-").replace(":", "-")


def fits_device(images: datasets.ImageData) -> bool:
  """Whether the training set is to be kept on the device, and not streamed."""
  num_bytes = math.prod(images.train.shape) * images.train.dtype.itemsize
  return num_bytes <= FLAGS.max_resident_mb * 2**20


def pixel_range(source: Source) -> tuple[float, float]:
  """The smallest and the largest pixel."""
  ranges = [(block.min(), block.max()) for block in blocks(source, 10_000)]
  return float(min(low for low, _ in ranges)), float(max(high for _, high in ranges))


def mean_of_x(images: datasets.ImageData) -> np.ndarray:
  """The mean of the training images as the model sees them, shape (D,), whatever is drawn."""
  is_bytes = images.train.dtype == np.uint8
  levels = pixel_scale(images) if is_bytes else 1
  total = np.zeros(images.train.shape[1])
  for block in blocks(images.train, 10_000):
    x = block / levels
    total += (x > 0.5 if FLAGS.binarization == "threshold" else x).sum(axis=0)
  return total / len(images.train)


class Pixels(NamedTuple):
  """The data as training and evaluation read them."""

  train: Source  # (N, D), on the device unless `streamed`
  validation: Source | None
  test: Source
  streamed: bool
  preprocess: Preprocess
  static_key: Key | None  # None where training draws at each use
  train_draw: Key  # the fixed draws that evaluations read
  validation_draw: Key
  test_draw: Key
  sharding: NamedSharding | None  # how evaluations share examples among devices


def pixel_scale(images: datasets.ImageData) -> int:
  """What uint8 pixels are divided by."""
  if FLAGS.dequantization:
    return 256
  return int(FLAGS.pixel_scale or images.levels)


def make_pixels(images: datasets.ImageData, shardings: Shardings | None = None) -> Pixels:
  """Puts the data set on the devices, unless it is to be streamed, and settles how it is read."""
  levels = pixel_scale(images)
  functions = {
    "none": preprocess.dequantize
    if FLAGS.dequantization
    else functools.partial(preprocess.scale, levels=levels),
    "threshold": functools.partial(preprocess.threshold, levels=levels),
    "static": functools.partial(preprocess.binarize, levels=levels),
    "dynamic": functools.partial(preprocess.binarize, levels=levels),
  }
  # fold_in takes the draws away from the keys that a run of the same seed is split into.
  draws = jax.random.fold_in(jax.random.key(BINARIZATION_SEED), 2**20)
  train_draw, test_draw = jax.random.split(draws)
  streamed = not fits_device(images)
  return Pixels(
    train=images.train if streamed else _to_devices(np.asarray(images.train), shardings),
    validation=images.validation,
    test=images.test,
    streamed=streamed,
    preprocess=functions[FLAGS.binarization],
    static_key=train_draw if FLAGS.binarization == "static" else None,
    train_draw=train_draw,
    validation_draw=jax.random.fold_in(draws, 2),  # after the two of the split
    test_draw=test_draw,
    sharding=shardings and shardings.evaluation,
  )


def _to_devices(pixels: np.ndarray, shardings: Shardings | None) -> Array:
  """The same on every device, whichever process it belongs to."""
  if shardings is None:
    return jax.device_put(pixels)
  return jax.make_array_from_process_local_data(shardings.replicated, pixels)


def real_valued() -> bool:
  """Whether x are real values, and not draws or thresholds that are 0 or 1."""
  return FLAGS.binarization == "none" and FLAGS.dataset != "binarized_mnist"


def describe_pixels() -> str:
  """The data set and how its pixels became x, for whoever compares numbers."""
  kinds = {
    "none": "dequantized pixels" if FLAGS.dequantization else "real-valued pixels",
    "binarized_mnist": "binary pixels",
  }
  name = FLAGS.dataset if FLAGS.dataset in kinds else FLAGS.binarization
  return f"{FLAGS.dataset}, {kinds.get(name, f'{name} binarization')}"


def describe(images: datasets.ImageData) -> dict:
  """What summary.json says of the data."""
  return dict(
    dataset=FLAGS.dataset,
    dataset_version=images.version,
    protocol=images.protocol,
    num_train=len(images.train),
    num_validation=len(images.validation) if images.validation is not None else None,
    num_test=len(images.test),
    binarization=FLAGS.binarization,
    binarization_seed=BINARIZATION_SEED,
    pixel_scale=pixel_scale(images) if images.train.dtype == np.uint8 else None,
    dequantization=FLAGS.dequantization,
    streamed=not fits_device(images),
  )
