"""Data sets as arrays of pixels, and what turns pixels into a data point x.

Pixels are uint8 in 0..255, or floats already in the units of x. A data set is
kept as pixels, on the device, and scaled or binarized inside the training step.
"""

import io
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.types import Array, Key


class ImageData(NamedTuple):
  """Images flattened to rows of pixels, split for training and testing."""

  train: np.ndarray  # (N, D), uint8 or float
  test: np.ndarray  # (number of test images, D)
  image_shape: tuple[int, int, int]  # (H, W, C) with H·W·C = D
  train_labels: np.ndarray | None = None  # (N,) int, where the set has them
  test_labels: np.ndarray | None = None


class DataError(Exception):
  """A data set that cannot be had; the message says what to do about it."""


class NotPreparedError(DataError):
  """A data set that is not where it was looked for."""


def scale(key: Key, pixels: Array) -> Array:
  """x = pixels / 255 for uint8, pixels as they are for floats; shape (D,).

  The key is not used: it is there so that `scale` and `binarize` can stand in
  for each other.
  """
  del key
  if pixels.dtype == jnp.uint8:
    return pixels.astype(jnp.result_type(float)) / 255
  return pixels.astype(jnp.result_type(float))


def binarize(key: Key, pixels: Array) -> Array:
  """x ~ Bernoulli(pixels / 255), drawn afresh for every key; shape (D,).

  For uint8 pixels the draw compares 16 random bits with the pixel: black is
  always 0, white always 1, and in between P(x = 1) is within 1.6e-5 of
  pixel / 255, at half the random bits that a float would take.
  """
  if pixels.dtype == jnp.uint8:
    bits = _random_uint16(key, pixels.size).reshape(pixels.shape).astype(jnp.uint32)
    ones = bits * 255 < pixels.astype(jnp.uint32) << 16
  else:
    ones = jax.random.uniform(key, pixels.shape, pixels.dtype) < pixels
  return ones.astype(jnp.result_type(float))


def _random_uint16(key: Key, size: int) -> Array:
  # jax.random.bits spends a 32-bit word on every 16-bit number; this spends half.
  words = jax.random.bits(key, (size + 1) // 2, jnp.uint32)
  return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size]


def threshold(pixels: np.ndarray) -> np.ndarray:
  """White where x > 1/2, black elsewhere: pixels in, uint8 pixels 0 or 255 out."""
  half = 127.5 if pixels.dtype == np.uint8 else 0.5
  return np.where(pixels > half, 255, 0).astype(np.uint8)


def binarize_once(key: Key, pixels: np.ndarray) -> np.ndarray:
  """One draw of `binarize` for a whole set, (N, D): static binarization.

  Returns:
    uint8 pixels, each 0 or 255. Image i draws from `split(key, N)[i]`.
  """
  keys = jax.random.split(key, len(pixels))
  draw = jax.jit(lambda keys, pixels: jax.vmap(binarize)(keys, pixels) > 0)
  return np.where(draw(keys, pixels), 255, 0).astype(np.uint8)


def load_digits() -> ImageData:
  """The 1797 handwritten digits of 8×8 pixels that come with scikit-learn.

  The pixels' 17 levels are spread over 0..255. A fixed permutation puts 1437
  images into train and 360 into test.
  """
  from sklearn import datasets

  digits = datasets.load_digits()
  order = np.random.default_rng(0).permutation(len(digits.data))
  pixels = np.round(digits.data[order] * (255 / 16)).astype(np.uint8)
  labels = digits.target[order].astype(np.int32)
  return ImageData(pixels[:1437], pixels[1437:], (8, 8, 1), labels[:1437], labels[1437:])


def load_tfds(
  name: str,
  data_dir: str | None = None,
  *,
  train_split: str = "train",
  test_split: str = "test",
) -> ImageData:
  """An image data set of TensorFlow Datasets, read without TensorFlow.

  Args:
    name: as TFDS knows it, such as "mnist" or "fashion_mnist".
    data_dir: where TFDS prepares its data sets; None for TFDS's own default.
    train_split: in TFDS's slicing syntax, such as "train[:50000]".
    test_split: likewise.

  Raises:
    DataError: if the set is unknown, is not prepared in `data_dir` (nothing is
      downloaded here), is in a format that needs TensorFlow to be read, or does
      not hold images of one size.
  """
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError as error:
    raise DataError(f"TensorFlow Datasets knows no data set {name!r}") from error
  except (ValueError, AssertionError, ImportError) as error:  # a version, say, that is not there
    raise DataError(f"{name!r}: {' '.join(str(error).split())}") from error
  if not builder.is_prepared():
    directory = "" if data_dir is None else f", data_dir='{data_dir}'"
    raise NotPreparedError(
      f"{name!r} is not prepared in {builder.data_path}; name a directory that has it, or prepare "
      "it once where there is a network and TensorFlow (pip install tensorflow): python -c "
      f"\"import tensorflow_datasets as tfds; tfds.builder('{name}'{directory})"
      ".download_and_prepare(file_format='array_record')\""
    )
  for split in (train_split, test_split):
    if split.partition("[")[0] not in builder.info.splits:
      has = ", ".join(builder.info.splits)
      raise DataError(f"{name!r} has no split {split.partition('[')[0]!r}; it has {has}")
  train, train_labels = _read_split(builder, name, train_split)
  test, test_labels = _read_split(builder, name, test_split)
  if train.shape[1:] != test.shape[1:]:
    raise DataError(f"{name!r}: train images are {train.shape[1:]}, test images {test.shape[1:]}")
  return ImageData(
    train.reshape(len(train), -1),
    test.reshape(len(test), -1),
    train.shape[1:],
    train_labels,
    test_labels,
  )


def _read_split(builder, name: str, split: str) -> tuple[np.ndarray, np.ndarray | None]:
  """All images (N, H, W, C) and labels (N,) of one split."""
  import tensorflow_datasets as tfds

  features = builder.info.features
  key, mode = _image_feature(features, name)
  try:
    # Decoding the PNG or JPEG here is about ten times faster than letting TFDS do it.
    decoders = {key: tfds.decode.SkipDecoding()} if mode else None
    source = builder.as_data_source(split=split, decoders=decoders)
  except NotImplementedError as error:
    raise DataError(
      f"{name!r} in {builder.data_path} is prepared as {builder.info.file_format.value}, which "
      "needs TensorFlow; prepare it again with file_format='array_record'"
    ) from error
  has_labels = "label" in features and isinstance(features["label"], tfds.features.ClassLabel)
  images, labels = [], []
  for start in range(0, len(source), 1000):
    for example in source.__getitems__(range(start, min(start + 1000, len(source)))):
      images.append(_decode(example[key], mode) if mode else np.asarray(example[key]))
      if images[-1].shape != images[0].shape:
        sizes = f"{images[0].shape} and {images[-1].shape}"
        raise DataError(f"{name!r} has images of different shapes, {sizes}; one shape is needed")
      if has_labels:
        labels.append(example["label"])
  if not images:
    raise DataError(f"{name!r} has no images in its split {split!r}")
  return np.stack(images), np.asarray(labels, np.int32) if has_labels else None


def _image_feature(features, name: str) -> tuple[str, str | None]:
  """The key of the images, and the mode that PIL decodes them to; None for plain tensors."""
  import tensorflow_datasets as tfds

  encoded = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
  key = encoded[0] if encoded else "image"
  if key not in features:
    raise DataError(f"{name!r} has no images; its features are {', '.join(features)}")
  shape, dtype = features[key].shape, np.dtype(features[key].np_dtype)
  if len(shape) != 3:
    raise DataError(f"{name!r} has images of shape {shape}; (H, W, C) is needed")
  if not encoded:
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
      raise DataError(f"{name!r} has pixels of type {dtype}; uint8 or floats are needed")
    return key, None
  modes = {1: "L", 3: "RGB", 4: "RGBA"}
  if dtype != np.uint8 or shape[-1] not in modes:
    raise DataError(
      f"{name!r} has {dtype} images of {shape[-1]} channels; uint8 with 1, 3 or 4 are needed"
    )
  return key, modes[shape[-1]]


def _decode(encoded: bytes, mode: str) -> np.ndarray:
  from PIL import Image

  pixels = np.asarray(Image.open(io.BytesIO(encoded)).convert(mode))
  return pixels.reshape(*pixels.shape[:2], len(mode))
