"""Data of a user's own as folders of PNG and JPEG files."""

import copy
import hashlib
import json
import math
import operator
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from aevb_jax.data import array_cache, formats, npz
from aevb_jax.data.image_data import SPLITS, ImageData
from aevb_jax.data.minibatches import rows_at_once
from aevb_jax.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")
OTHER_SUFFIXES = (".bmp", ".gif", ".tif", ".tiff", ".webp")  # would be missed silently
IN_FOLDERS = ("train", "test")  # folders that a folder which is split already has


class File(NamedTuple):
  """An image file that was found."""

  name: str  # relative to the folder, with /
  split: str | None
  label: str | None  # the name of its class folder
  size: int
  mtime: int


class Images:
  """Image files as a Grain data source of rows of pixels, which are decoded when they are read."""

  def __init__(self, folder: pathlib.Path, names: Sequence[str]):
    self._folder, self._names = folder, list(names)
    self._first = self._names[0]
    pixels, self._mode = formats.read_image(folder / self._first)
    self.image_shape: tuple[int, int, int] = pixels.shape  # type: ignore[assignment]
    self.dtype = np.dtype(np.uint8)

  def __len__(self) -> int:
    return len(self._names)

  @property
  def shape(self) -> tuple[int, int]:
    """Returns (N, D), the number of images and of pixels in each."""
    return len(self), math.prod(self.image_shape)

  def __getitem__(self, index: Any) -> "np.ndarray | Images":
    """Returns the row of one image, (D,), or a source of some of the images."""
    if isinstance(index, slice | np.ndarray):
      part = copy.copy(self)
      part._names = [self._names[i] for i in np.arange(len(self))[index]]
      return part
    return self.__getitems__([operator.index(index)])[0]

  def __getitems__(self, indices: Sequence[int]) -> list[np.ndarray]:
    """Returns the rows of some images, (D,) each."""
    return [self._read(self._names[i]).reshape(-1) for i in indices]

  def check(self) -> None:
    """Compares size and mode of all images with those of the first, by their headers only.

    Raises:
      DataError: for the first image that differs.
    """
    for name in self._names:
      size, mode = formats.read_image_header(self._folder / name)
      self._compare(name, (size[1], size[0], len(mode)), mode)

  def read_into(self, pixels: np.ndarray) -> None:
    """Decodes all images into an array (N, H, W, C), a block at a time."""
    at_once = rows_at_once(math.prod(self.image_shape))
    for start in range(0, len(self), at_once):
      for i in range(start, min(start + at_once, len(self))):
        pixels[i] = self._read(self._names[i])
      array_cache.give_back(pixels)

  def _read(self, name: str) -> np.ndarray:
    pixels, mode = formats.read_image(self._folder / name)
    self._compare(name, pixels.shape, mode)
    return pixels

  def _compare(self, name: str, shape: tuple[int, ...], mode: str) -> None:
    if mode != self._mode:
      modes = [formats.MODE_NAMES[mode] for mode in (self._mode, mode)]
      raise DataError(
        f"{self._folder}: {self._first} is {modes[0]} and {name} is {modes[1]}; save all images in "
        "one mode"
      )
    if shape != self.image_shape:
      sizes = [f"{width}×{height}" for height, width, _ in (self.image_shape, shape)]
      raise DataError(
        f"{self._folder}: {self._first} is {sizes[0]} and {name} is {sizes[1]} pixels; make all "
        "images of one size"
      )


def from_folder(
  folder: str | os.PathLike,
  *,
  seed: int | None = None,
  test: float | None = None,
  validation: float | None = None,
  cache_dir: str | None = None,
  decode: bool = True,
) -> ImageData:
  """Loads the PNG and JPEG files of a folder, which all need one size and one mode.

  A folder with train/ and test/, and perhaps validation/, is split by them. Any other folder is
  split at random, by the files' names and a seed. Folders of classes may be below; their sorted
  names are the labels 0, 1, .... The images of a split are in a random order, so that the first of
  them are of all classes. Grey images have 1 channel, RGB 3 and RGBA 4; palettes and CMYK become
  RGB, and grey with transparency becomes RGBA.

  Args:
    folder: the folder.
    seed: the seed of the split and of the order; None for 0.
    test: the fraction of the images that test; None for 0.1.
    validation: the fraction that validates, which may be 0; None for 0.1.
    cache_dir: the directory that keeps decoded images, memory-mapped; None for memory.
    decode: False decodes images each time they are read, if there is no cache.

  Returns:
    uint8 rows of pixels and labels. `protocol` says how they were split, and `version` is a digest
    of the names and sizes of the files.

  Raises:
    DataError: if the folder cannot be used; the message names it, and the file.
    CacheError: if `cache_dir` cannot be written.
  """
  folder = pathlib.Path(os.path.abspath(os.path.expanduser(folder)))
  files = _find(folder)
  order_seed = _check_seed(folder, 0 if seed is None else seed)
  rank = lambda file: hashlib.sha256(os.fsencode(f"{order_seed}/{file.name}")).digest()
  files = sorted(files, key=rank)
  if files[0].split is None:
    fractions = {
      "test": _check_fraction(folder, "test", 0.1 if test is None else test),
      "validation": _check_fraction(
        folder, "validation", 0.1 if validation is None else validation
      ),
    }
    counts = _counts(folder, len(files), fractions)
    words = f"split at random by seed {order_seed}, test {fractions['test']:g}, validation "
    words += f"{fractions['validation']:g} of the images"
  else:
    if test is not None or validation is not None:
      raise DataError(f"{folder} is split by its folders; leave out the fractions")
    counts = {name: sum(file.split == name for file in files) for name in SPLITS}
    files = sorted(files, key=lambda file: SPLITS.index(file.split or ""))  # keeps the order
    words = f"the splits of the folder, in an order of seed {order_seed}"
  rows, image_shape = _read(folder, files, order_seed, cache_dir, decode)
  return _assemble(files, counts, rows)._replace(
    image_shape=image_shape,
    protocol=words,
    version=f"{_digest(sorted((f.name, f.size) for f in files))} (of {len(files)} names and sizes)",
    directory=str(folder),
  )


def _assemble(files: list[File], counts: dict[str, int], rows: Any) -> ImageData:
  """Cuts files that are in the order of `SPLITS` into the splits; a split without files is None."""
  classes = {name: i for i, name in enumerate(sorted({f.label for f in files if f.label}))}
  parts: dict[str, Any] = {"validation": None}
  start = 0
  for name in SPLITS:
    part = slice(start, start := start + counts[name])
    if counts[name]:
      parts[name] = rows[part]
      labels = [classes[file.label] for file in files[part] if file.label]
      parts[f"{name}_labels"] = np.asarray(labels, np.int32) if labels else None
  return ImageData(**parts, image_shape=(0, 0, 0))


def _check_seed(folder: pathlib.Path, seed: Any) -> int:
  if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
    raise DataError(f"{folder}: seed is {seed}; a whole number of at least 0 is needed")
  return seed


def _check_fraction(folder: pathlib.Path, name: str, fraction: Any) -> float:
  number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
  if not number or not 0 <= fraction < 1:
    raise DataError(f"{folder}: {name} is {fraction}; a fraction of the images is needed, as 0.1")
  return float(fraction)


def _counts(folder: pathlib.Path, number: int, fractions: dict[str, float]) -> dict[str, int]:
  counts = {name: math.floor(fraction * number + 0.5) for name, fraction in fractions.items()}
  counts["train"] = number - sum(counts.values())
  for name in SPLITS:
    if counts[name] < 1 and (name != "validation" or fractions[name]):
      raise DataError(
        f"{folder} has {number} images, and test={fractions['test']:g}, "
        f"validation={fractions['validation']:g} leave none to {name}; change the fractions"
      )
  return counts


def _find(folder: pathlib.Path) -> list[File]:
  """Finds the images of a folder, its splits and its classes."""
  files, folders = _list(folder)
  splits = [name for name in folders if name in SPLITS]
  if not splits:
    found = _find_in(folder, "", None)
  else:
    if missing := [name for name in IN_FOLDERS if name not in splits]:
      raise DataError(f"{folder} has {splits[0]}/ and no {missing[0]}/; add it, or use one folder")
    if more := [name for name in folders if name not in SPLITS]:
      raise DataError(f"{folder} has {more[0]}/ beside its splits; takes {', '.join(SPLITS)}")
    if files:
      raise DataError(f"{folder} has {files[0].name} beside its splits; move it into one of them")
    found = [file for name in splits for file in _find_in(folder, f"{name}/", name)]
  return found


def _find_in(folder: pathlib.Path, below: str, split: str | None) -> list[File]:
  """Finds the images of a split: in its folder, or in folders of classes below it."""
  files, folders = _list(folder / below)
  if files and folders:
    raise DataError(
      f"{folder / below} has the file {files[0].name} beside the folder {folders[0]}/; images are "
      "either all in one folder, or all in folders of classes"
    )
  found = [file._replace(name=below + file.name, split=split) for file in files]
  for label in folders:
    of_class, deeper = _list(folder / below / label)
    if deeper:
      raise DataError(
        f"{folder / below / label} has a folder {deeper[0]}/; put its images above it"
      )
    found += [
      file._replace(name=f"{below}{label}/{file.name}", split=split, label=label)
      for file in of_class
    ]
  if not found:
    raise DataError(f"{folder / below} has no images; takes PNG and JPEG files")
  return found


def _list(folder: pathlib.Path) -> tuple[list[File], list[str]]:
  """Returns the images and the folders in a folder, except hidden ones, sorted by name."""
  files, folders = [], []
  try:
    with os.scandir(folder) as entries:
      for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith("."):
          continue
        if entry.is_dir():
          folders.append(entry.name)
        elif suffix in SUFFIXES:
          about = entry.stat()
          files.append(File(entry.name, None, None, about.st_size, about.st_mtime_ns))
        elif suffix in OTHER_SUFFIXES:
          raise DataError(f"{entry.path} is neither PNG nor JPEG; convert it, or move it away")
  except FileNotFoundError as error:
    raise DataError(f"{error.filename or folder}: no such file or folder") from error
  except OSError as error:
    raise DataError(f"{folder} cannot be read as a folder ({error.strerror or error})") from error
  return sorted(files), sorted(folders)


def _read(
  folder: pathlib.Path, files: list[File], seed: int, cache_dir: str | None, decode: bool
) -> tuple[Any, tuple[int, int, int]]:
  """Returns all images as rows, decoded or not, and their shape."""
  names = [file.name for file in files]
  if cache_dir is None:
    images = Images(folder, names)
    if not decode:
      images.check()
      return images, images.image_shape
    pixels = np.empty((len(names), *images.image_shape), np.uint8)
    images.read_into(pixels)
  else:

    def write(create: array_cache.Create) -> None:
      images = Images(folder, names)
      images.read_into(create("images", (len(names), *images.image_shape), images.dtype))

    source = {
      "folder": str(folder),
      "order": _digest(names),
      "files": _digest([(f.name, f.size, f.mtime) for f in files]),
    }
    place = f"images-{npz.place_of(folder)}" + (f"-seed_{seed}" if seed else "")
    pixels = array_cache.fetch(pathlib.Path(cache_dir).expanduser() / place, source, write)[
      "images"
    ]
  return pixels.reshape(len(pixels), -1), pixels.shape[1:]


def _digest(what: Any) -> str:
  return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]
