"""Images of a prepared TensorFlow Datasets set, read without TensorFlow."""

import contextlib
import copy
import errno
import io
import math
import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from aevb_jax.data.array_cache import give_back
from aevb_jax.errors import DataError

BLOCK = 1000  # records read at once


@contextlib.contextmanager
def reading(directory: os.PathLike) -> Iterator[None]:
  """Turns any error of TFDS, array_record or PIL for a damaged set into DataError."""
  try:
    yield
  except DataError:
    raise
  except Exception as error:
    what = " ".join(str(error).split())
    denied = os.strerror(errno.EACCES) in what
    remedy = "check its permissions" if denied else "remove it and start again"
    raise DataError(f"{directory} cannot be read ({what}); {remedy}") from error


class TfdsImages:
  """A split as a Grain data source of rows of pixels, which are decoded when they are read.

  Args:
    builder: the builder of a set that is prepared.
    split: a split of the set, such as "train".

  Raises:
    DataError: if the set has no such split, is in a format that needs
      TensorFlow to be read, or does not hold images of one size; every
      method raises it too if its files are damaged.
  """

  def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
    self.name, self._directory = builder.name, builder.data_path
    if split not in builder.info.splits:
      has = ", ".join(builder.info.splits)
      raise DataError(f"{self.name!r} has no split {split!r}; it has {has}")
    features = builder.info.features
    self._key, self._mode = _image_feature(features, self.name)
    self.image_shape = tuple(features[self._key].shape)
    self.dtype = np.dtype(features[self._key].np_dtype)
    self.has_labels = "label" in features and isinstance(
      features["label"], tfds.features.ClassLabel
    )
    # Parsing the record and decoding the PNG or JPEG here is several times as
    # fast as in TFDS.
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    method = raw if self._mode else tfds.decode.DeserializeMethod.DESERIALIZE_AND_DECODE
    try:
      self._records = builder.as_data_source(split=split, deserialize_method=method)
    except NotImplementedError as error:
      raise DataError(
        f"{self.name!r} in {builder.data_path} is prepared as {builder.info.file_format.value}, "
        "which needs TensorFlow; prepare it again with file_format='array_record'"
      ) from error
    with reading(self._directory):
      self._places: range | np.ndarray = range(len(self._records))
    if len(self) == 0:
      raise DataError(f"{self.name!r} has no images in its split {split!r}")
    if None in self.image_shape:  # TFDS does not know the shape; the first image has it
      with reading(self._directory):
        self.image_shape = self._image(self._records[0]).shape

  def __len__(self) -> int:
    return len(self._places)

  @property
  def shape(self) -> tuple[int, int]:
    """Returns (N, D), the number of images and of pixels in each."""
    return len(self), math.prod(self.image_shape)

  def __getitem__(self, index: int | slice | np.ndarray) -> "np.ndarray | TfdsImages":
    """Returns the row of one image, (D,), or a source of some of the images."""
    if isinstance(index, slice | np.ndarray):
      part = copy.copy(self)
      places = self._places if isinstance(index, slice) else np.asarray(self._places)
      part._places = places[index]  # type: ignore[assignment]
      return part
    return self.__getitems__([operator.index(index)])[0]

  def __getitems__(self, indices: Sequence[int]) -> list[np.ndarray]:
    """Returns the rows of some images, (D,) each."""
    return [image.reshape(-1) for image, _ in self._examples(indices)]

  def labels(self) -> np.ndarray | None:
    """Returns all labels (N,) without decoding an image; None if the set has none."""
    if not self.has_labels:
      return None
    labels = np.empty(len(self), np.int32)
    for start in range(0, len(self), BLOCK):
      block = range(start, min(start + BLOCK, len(self)))
      of_block: list[Any] = [self._label(record) for record in self._read(block)]
      labels[block.start : block.stop] = of_block
    return labels

  def read_into(self, images: np.ndarray, labels: np.ndarray | None) -> None:
    """Decodes the whole split into arrays (N, H, W, C) and (N,), a block at a time."""
    for start in range(0, len(self), BLOCK):
      block = range(start, min(start + BLOCK, len(self)))
      examples = self._examples(block)
      images[block.start : block.stop] = [image for image, _ in examples]
      if labels is not None:
        labels[block.start : block.stop] = [label for _, label in examples]
      give_back(images)

  def _examples(self, indices: Sequence[int]) -> list[tuple[np.ndarray, int | None]]:
    records = self._read(indices)
    with reading(self._directory):
      examples = [(self._image(record), self._label(record)) for record in records]
    for image, _ in examples:
      if image.shape != self.image_shape:
        raise DataError(
          f"{self.name!r} has images of different shapes, {self.image_shape} and {image.shape}; "
          "one shape is needed"
        )
    return examples

  def _read(self, indices: Sequence[int]) -> Sequence:
    with reading(self._directory):
      return self._records.__getitems__([int(self._places[i]) for i in indices])

  def _image(self, record) -> np.ndarray:
    if self._mode:
      return _decode(_features(record)[self._key].bytes_list.value[0], self._mode)
    return np.asarray(record[self._key])

  def _label(self, record) -> int | None:
    if not self.has_labels:
      return None
    return _features(record)["label"].int64_list.value[0] if self._mode else int(record["label"])


def _features(record: bytes):
  return tf_example_pb2.Example.FromString(record).features.feature


def _image_feature(features, name: str) -> tuple[str, str | None]:
  """Returns the key of the images and PIL's mode for decoding, which is None for plain tensors."""
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

  image = Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG"))
  if image.mode != mode:
    image = image.convert(mode)
  pixels = np.asarray(image)
  return pixels.reshape(*pixels.shape[:2], len(mode))
