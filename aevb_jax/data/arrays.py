"""Data of a user's own as arrays: images in Python or in an .npz file, and windows of a video."""

import pathlib
import zipfile
from typing import Any

import numpy as np

from aevb_jax.data import array_cache, npz
from aevb_jax.data.image_data import (
  SPLITS,
  ImageData,
  check_one_type,
  check_shape,
  check_type,
  checked,
  make_all_labels,
  make_rows,
)
from aevb_jax.errors import CacheError, DataError

ENTRIES = (*SPLITS, *(f"{name}_labels" for name in SPLITS), "levels")


def from_arrays(
  train: Any,
  test: Any,
  *,
  validation: Any = None,
  train_labels: Any = None,
  validation_labels: Any = None,
  test_labels: Any = None,
  levels: int = 255,
) -> ImageData:
  """Makes a data set of arrays of images.

  Args:
    train: uint8, or floats that are x, of shape (N, D), (N, H, W) or (N, H, W, C). Rows of D pixels
      are drawn as squares if D is a square, and otherwise as lines. Memory-mapped arrays stay on
      disk, except of float16 and float64, which become float32.
    test: images of the same shape and type.
    validation: images of the same shape and type; None for no validation split.
    train_labels: whole numbers (N,); None for none.
    validation_labels: whole numbers, one for each image of validation.
    test_labels: whole numbers, one for each image of test.
    levels: x = pixels / levels for uint8 pixels; 1 for pixels that are 0 and 1.

  Returns:
    The images, as rows of pixels.

  Raises:
    DataError: for the first array that cannot be used; the message names it.
  """
  rows, shapes = {}, {}
  given = dict(train=train, validation=validation, test=test)
  for name, images in given.items():
    if images is not None:
      rows[name], shapes[name] = make_rows(name, images)
  check_one_shape(shapes)
  labels = dict(
    train_labels=train_labels, validation_labels=validation_labels, test_labels=test_labels
  )
  images = ImageData(
    **{"train": None, "validation": None, "test": None} | rows,  # type: ignore[arg-type]
    image_shape=next(iter(shapes.values()), (1, 1, 1)),
    **labels,
    levels=levels,
    protocol="the arrays that were given",
  )
  return checked(images)


def check_one_shape(shapes: dict[str, tuple[int, int, int]]) -> None:
  """Raises DataError if the splits have images of different shapes."""
  first = next(iter(shapes), "")
  for name, shape in shapes.items():
    if shape != shapes[first]:
      in_words = lambda shape: "×".join(map(str, shape))
      raise DataError(
        f"{first} has images of {in_words(shapes[first])} and {name} of {in_words(shape)}; all "
        "images need one shape"
      )


def load_npz(path: pathlib.Path, cache_dir: str | None = None) -> ImageData:
  """Loads a data set of an .npz file, whose entries are the arguments of `from_arrays`.

  Arrays of uint8 or float32 that np.savez wrote are mapped where they are in the file. Others are
  decoded once into the cache, or into memory if there is none. Every byte is compared with the
  file's checksums. Nothing is read with pickle.

  Args:
    path: the file.
    cache_dir: the directory that keeps decoded arrays; None for memory.

  Returns:
    The images; `version` is a digest of the file's checksums.

  Raises:
    DataError: if the file cannot be used; the message names it, and the entry.
    CacheError: if `cache_dir` cannot be written.
  """
  try:
    with npz.opened(path) as (file, archive):
      entries = npz.find_entries(archive)
      _check_names(entries)
      others = _read_others(archive, entries)  # all checks that need no pixels come first
      pixels: dict[str, Any] = {}
      splits = {name: entries[name] for name in SPLITS if name in entries}
      for name, entry in splits.items():
        if npz.is_mappable(entry):
          pixels[name] = npz.map_in_place(file, entry)
      packed = {name: entry for name, entry in splits.items() if name not in pixels}
      pixels |= _decode(path, archive, packed, cache_dir)
      images = from_arrays(**pixels, **others)
  except CacheError:
    raise
  except DataError as error:
    raise DataError(f"{path} {error}" if _says_is(error) else f"{path}: {error}") from error
  return images._replace(
    protocol="the splits of the file",
    version=f"{npz.fingerprint(entries)} (of the checksums in the file)",
    directory=str(path),
  )


def _says_is(error: DataError) -> bool:
  """Reports whether a message continues a sentence that begins with the file."""
  return str(error).startswith(("is ", "has ", "cannot "))


def _check_names(entries: dict[str, npz.Entry]) -> None:
  for name in entries:
    if name not in ENTRIES:
      raise DataError(f"has an entry {name!r}; takes {', '.join(ENTRIES)}")
  for name in ("train", "test"):
    if name not in entries:
      there = f"it has {', '.join(entries)}" if entries else "it is empty"
      raise DataError(f"has no entry {name!r}; {there}")


def _read_others(archive: zipfile.ZipFile, entries: dict[str, npz.Entry]) -> dict[str, Any]:
  """Returns the labels and the levels, after all checks that need no pixels."""
  splits = {name: entry for name, entry in entries.items() if name in SPLITS}
  for name, entry in splits.items():
    check_type(name, entry.dtype)
  check_one_shape({name: check_shape(name, entry.shape) for name, entry in splits.items()})
  others: dict[str, Any] = {
    name: npz.read_small(archive, entry) for name, entry in entries.items() if name not in splits
  }
  if "levels" in others:
    others["levels"] = _scalar(others["levels"])
  types = {name: entry.dtype for name, entry in splits.items()}
  check_one_type(types, others.get("levels", 255))
  labels = {name: array for name, array in others.items() if name != "levels"}
  make_all_labels(labels, {name: entry.shape[0] for name, entry in splits.items()})
  return others


def _scalar(levels: np.ndarray) -> Any:
  return levels.item() if levels.ndim == 0 and levels.dtype.kind in "iu" else levels.tolist()


def _decode(
  path: pathlib.Path,
  archive: zipfile.ZipFile,
  entries: dict[str, npz.Entry],
  cache_dir: str | None,
) -> dict[str, np.ndarray]:
  """Returns the pixels of entries that cannot be mapped, from the cache or decoded now."""

  def decode(create: array_cache.Create) -> None:
    for entry in entries.values():
      npz.decode(archive, entry, create)

  if not entries:
    return {}
  if cache_dir is not None:
    source = {
      "file": str(path),
      "entries": {n: [e.member.CRC, e.member.file_size] for n, e in entries.items()},
    }
    directory = pathlib.Path(cache_dir).expanduser() / f"arrays-{npz.place_of(path)}"
    return array_cache.fetch(directory, source, decode)
  arrays: dict[str, np.ndarray] = {}

  def create(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return arrays.setdefault(name, np.empty(shape, dtype))

  decode(create)
  return arrays


def windows(frames: Any, num_steps: int, stride: int = 1) -> np.ndarray:
  """Cuts a sequence into windows of T consecutive frames, each of them one data point.

  Windows of stride 1 are all windows there are, and overlap; training sees every frame at every
  place in a window. Windows of stride T tile the sequence, for evaluations that count a frame once.
  Frames at the end that fill no window are left out.

  Args:
    frames: the N frames in their order, shape (N, D), or (N, H, W, C), whose pixels are flattened.
    num_steps: T, the frames of a window.
    stride: the number of frames from the start of a window to the start of the next one.

  Returns:
    The windows, shape ((N − T) // stride + 1, T·D), of the type of the frames. A window has its
    frames one after the other, as the `x` of `state_space_vae`. The windows are a copy, T / stride
    times as large as the frames.

  Raises:
    ValueError: if the frames differ in size, if there are fewer than T, or if num_steps or stride
      is below 1.
  """
  for name, size in dict(num_steps=num_steps, stride=stride).items():
    if size < 1:
      raise ValueError(f"{name} is {size}, expected at least 1")
  try:
    frames = np.asarray(frames)
  except ValueError as error:
    raise ValueError("the frames differ in size, expected one shape of all frames") from error
  if frames.ndim < 2:
    shape = "expected (N, D) or (N, H, W, C), N frames in their order"
    raise ValueError(f"the frames have shape {frames.shape}, {shape}")
  if len(frames) < num_steps:
    raise ValueError(f"there are {len(frames)} frames, expected at least num_steps = {num_steps}")
  starts = np.arange(0, len(frames) - num_steps + 1, stride)
  index = starts[:, None] + np.arange(num_steps)[None]
  return frames[index].reshape(len(starts), -1)
