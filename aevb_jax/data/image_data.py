"""The images of a data set in its splits, and the checks of images that are a user's own."""

import math
from typing import Any, NamedTuple

import numpy as np

from aevb_jax.data.minibatches import PixelSource, blocks
from aevb_jax.errors import DataError

SPLITS = ("train", "validation", "test")
MOST_LEVELS = 2**16  # `binarize` compares 16 random bits with a pixel


class ImageData(NamedTuple):
  """Images flattened to rows of pixels, split for training, validation and testing.

  Pixels are uint8 or floats. They are NumPy arrays, memory-mapped if they come from the cache, or
  Grain data sources if `load` was called with decode=False.
  """

  train: PixelSource  # (N, D)
  validation: PixelSource | None  # (number of validation images, D)
  test: PixelSource  # (number of test images, D)
  image_shape: tuple[int, int, int]  # (H, W, C) with H·W·C = D
  train_labels: np.ndarray | None = None  # (N,) int; None if the set has none
  validation_labels: np.ndarray | None = None
  test_labels: np.ndarray | None = None
  levels: int = 255  # by default x = pixels / levels for uint8
  protocol: str = ""  # how the images are split, in words
  version: str = ""  # the version of the source
  directory: str | None = None  # where the set is prepared


def make_rows(name: str, images: Any) -> tuple[np.ndarray, tuple[int, int, int]]:
  """Makes rows of pixels of an array of images, without a copy if that is possible.

  Args:
    name: the name of the array, for messages.
    images: uint8 or floats, of shape (N, D), (N, H, W) or (N, H, W, C).

  Returns:
    uint8 or float32 of shape (N, D), and (H, W, C). For (N, D) that is (√D, √D, 1) if D is a
    square, and otherwise (1, D, 1).

  Raises:
    DataError: if it is no such array.
  """
  if not isinstance(images, np.ndarray):
    try:
      images = np.asarray(images)
    except ValueError as error:
      raise DataError(f"{name} is not an array ({error})") from error
  check_type(name, images.dtype)
  image_shape = check_shape(name, images.shape)
  if images.dtype != np.uint8:
    images = images.astype(np.float32, copy=False)
  return images.reshape(len(images), -1), image_shape


def check_type(name: str, dtype: np.dtype) -> None:
  """Raises DataError for pixels that are neither uint8 nor floats."""
  if dtype == np.uint8 or dtype.newbyteorder("=") in (np.float16, np.float32, np.float64):
    return
  remedy = "save uint8, or floats that are x"
  if dtype == np.bool_:
    remedy = "save .astype(np.uint8) with levels=1, or .astype(np.float32)"
  elif np.issubdtype(dtype, np.integer):
    remedy = "save .astype(np.uint8) if they are in 0..255, or divide them into float32"
  raise DataError(f"{name} has pixels of type {dtype}; {remedy}")


def check_shape(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
  """Returns the (H, W, C) of images in an array of this shape.

  Raises:
    DataError: if it is not a shape of images, or there are none.
  """
  if len(shape) not in (2, 3, 4):
    raise DataError(f"{name} is of shape {shape}; (N, D), (N, H, W) or (N, H, W, C) is needed")
  if shape[0] == 0:
    raise DataError(f"{name} has no images; its shape is {shape}")
  if 0 in shape:
    raise DataError(f"{name} has images without pixels; its shape is {shape}")
  if len(shape) == 2:
    side = math.isqrt(shape[1])
    return (side, side, 1) if side**2 == shape[1] else (1, shape[1], 1)
  return shape[1:] if len(shape) == 4 else (*shape[1:], 1)  # type: ignore[return-value]


def make_labels(name: str, labels: Any) -> np.ndarray:
  """Makes int32 labels (N,) of an array of whole numbers.

  Raises:
    DataError: if it is no such array.
  """
  labels = np.asarray(labels)
  if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
    what = f"is of type {labels.dtype} and shape {labels.shape}"
    raise DataError(f"{name} {what}; a whole number for each image, of shape (N,), is needed")
  limits = np.iinfo(np.int32)
  if labels.size and not (limits.min <= labels.min() and labels.max() <= limits.max):
    raise DataError(f"{name} has numbers beyond {limits.max}; number the classes from 0")
  return labels.astype(np.int32, copy=False)


def make_all_labels(labels: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
  """Makes int32 labels of all splits that have some.

  Args:
    labels: the labels by train_labels, validation_labels and test_labels; None for none.
    sizes: the number of images of each split.

  Returns:
    The labels by the same names, without those that are None.

  Raises:
    DataError: for labels that are not whole numbers, or not as many as the images.
  """
  made = {name: make_labels(name, array) for name, array in labels.items() if array is not None}
  for name, array in made.items():
    split = name.removesuffix("_labels")
    if split not in sizes:
      raise DataError(f"{name} has no images; {split} is missing")
    if len(array) != sizes[split]:
      raise DataError(f"{split} has {sizes[split]} images and {len(array)} labels")
  return made


def check_one_type(types: dict[str, np.dtype], levels: Any) -> None:
  """Raises DataError if splits have pixels of different types, or levels do not go with them."""
  for name, dtype in types.items():
    if (dtype == np.uint8) != (types["train"] == np.uint8):
      what = f"train has pixels of type {types['train']} and {name} of type {dtype}"
      raise DataError(f"{what}; make them one")
  if not isinstance(levels, int | np.integer) or not 1 <= levels <= MOST_LEVELS:
    raise DataError(f"levels is {levels!r}; the pixel of a fully bright point, such as 255, or 1")
  if types["train"] != np.uint8 and levels != 255:
    what = f"levels is {levels}, which divides uint8 pixels"
    raise DataError(f"{what}, and these are {types['train']}")


def checked(images: ImageData) -> ImageData:
  """Checks that the parts of a user's own data fit together, and makes their types those of ours.

  Args:
    images: rows of pixels, as arrays or as sources.

  Returns:
    The same images, with floats as float32 and labels as int32.

  Raises:
    DataError: for the first part that does not fit; the message names it.
  """
  parts: dict[str, Any] = {
    name: getattr(images, name) for name in SPLITS if getattr(images, name) is not None
  }
  for name in ("train", "test"):
    if name not in parts:
      raise DataError(f"{name} is missing")
  data_dim = _data_dim(images.image_shape)
  for name, source in parts.items():
    _check_rows(name, source, data_dim)
    if isinstance(source, np.ndarray):
      parts[name] = make_rows(name, source)[0]
  labels = {f"{name}_labels": getattr(images, f"{name}_labels") for name in SPLITS}
  sizes = {name: len(source) for name, source in parts.items()}
  check_one_type({name: source.dtype for name, source in parts.items()}, images.levels)
  labels = make_all_labels(labels, sizes)
  _check_pixels(parts, images.levels)
  return images._replace(**parts, **labels)


def _data_dim(image_shape: Any) -> int:
  shape = image_shape if isinstance(image_shape, tuple) else ()
  if len(shape) != 3 or not all(isinstance(size, int | np.integer) and size > 0 for size in shape):
    raise DataError(f"image_shape is {image_shape!r}; three sizes (H, W, C) are needed")
  return math.prod(shape)


def _check_rows(name: str, source: Any, data_dim: int) -> None:
  if not all(hasattr(source, part) for part in ("shape", "dtype", "__len__", "__getitem__")):
    raise DataError(
      f"{name} is of type {type(source).__name__}; an array of rows of pixels (N, D) is needed, as "
      "data.from_arrays makes of images"
    )
  check_type(name, np.dtype(source.dtype))
  if len(source.shape) != 2 or source.shape[1] != data_dim:
    raise DataError(
      f"{name} is of shape {tuple(source.shape)}; rows (N, {data_dim}) go with its image_shape, "
      "and data.from_arrays makes both"
    )
  check_shape(name, tuple(source.shape))


def _check_pixels(parts: dict[str, Any], levels: int) -> None:
  """Refuses uint8 pixels that would make x other than a user means."""
  if parts["train"].dtype != np.uint8:
    return
  if levels == 255 and _most(parts["train"], up_to=2) == 1:
    raise DataError(
      "train has only the pixels 0 and 1, and x = pixels / 255 would be at most 1/255; give "
      "levels=1 for x = pixels, or save them as float32"
    )
  for name, source in parts.items() if levels < 255 else ():
    if (most := _most(source)) > levels:
      raise DataError(f"{name} has a pixel {most}, and levels is {levels}; levels is the largest")


def _most(source: PixelSource, up_to: int = 256) -> int:
  """Returns the largest pixel; looks no further after a pixel of at least `up_to`."""
  most = 0
  for block in blocks(source):
    most = max(most, int(block.max()))
    if most >= up_to:
      break
  return most
