"""Readers of the file formats of the paper's data sets and of images, with checks, in Python."""

import contextlib
import gzip
import io
import math
import pathlib
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from aevb_jax import disk
from aevb_jax.errors import DataError

IDX_UINT8 = 0x08
MOST_BYTES = 2**30  # bytes that are unpacked from a file whose size is not known beforehand
# Modes of PIL for each mode that images are decoded to. Other modes have more than 8 bits.
IMAGE_MODES = {
  "1": "L",
  "L": "L",
  "LA": "RGBA",
  "P": "RGB",
  "CMYK": "RGB",
  "RGB": "RGB",
  "RGBA": "RGBA",
}
MODE_NAMES = {"L": "grey (1 channel)", "RGB": "RGB (3 channels)", "RGBA": "RGBA (4 channels)"}


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """Opens a data file for reading bytes, and unpacks them while they are read if the file is gzip.

  Raises:
    DataError: if the file cannot be read, is not a regular file, or its gzip stream is cut short
      or damaged; also while the file is read.
  """
  try:
    with disk.read(path, "rb") as file:
      if path.suffix == ".gz":
        with gzip.GzipFile(fileobj=file) as unpacked:
          yield unpacked  # type: ignore[misc]
      else:
        yield file
  except EOFError as error:
    raise DataError(f"{path} is a gzip file that is cut short; remove it") from error
  except (gzip.BadGzipFile, zlib.error) as error:
    raise DataError(f"{path} is not an intact gzip file ({error}); remove it") from error
  except OSError as error:
    what = error.strerror or error
    raise DataError(f"{path} cannot be read ({what}); put the right file in its place") from error


def read_idx(path: pathlib.Path, num_axes: int, *, most: int = MOST_BYTES) -> np.ndarray:
  """Reads an IDX file of bytes, gzipped or not, the format of the MNIST family.

  The header is read first, and then no more bytes than it declares, so that a file that unpacks to
  much more costs no memory.

  Args:
    path: the file.
    num_axes: the number of axes that the file must have.
    most: the largest number of bytes, header included, that the file may unpack to.

  Returns:
    uint8, with the `num_axes` axes that the header gives.

  Raises:
    DataError: if the file is not of this format, is longer or shorter than its header says, or its
      header promises more than `most` bytes.
  """
  start, expected = 4 + 4 * num_axes, IDX_UINT8 << 8 | num_axes
  with opened(path) as file:
    header = file.read(start)
    magic = int.from_bytes(header[:4], "big")
    if len(header) < start or magic != expected:
      raise DataError(
        f"{path} starts with the magic number {magic:#010x}, not {expected:#010x}: it is not an "
        f"IDX file of bytes with {num_axes} axes"
      )
    shape = tuple(np.frombuffer(header[4:], ">u4").tolist())
    size = math.prod(shape)
    promise = f"{path} declares {' × '.join(map(str, shape))} bytes"
    if start + size > most:
      raise DataError(f"{promise}, more than the {most} that a file of this name may have")
    contents = file.read(size + 1)
  if len(contents) != size:
    raise DataError(f"{promise} but holds {'more' if len(contents) > size else len(contents)}")
  return np.frombuffer(contents, np.uint8).reshape(shape)


def read_amat(path: pathlib.Path, num_columns: int) -> np.ndarray:
  """Reads a text file of zeros and ones, each followed by one space or line end.

  Args:
    path: the file.
    num_columns: the number of zeros and ones in a line.

  Returns:
    uint8 zeros and ones, shape (lines, num_columns).

  Raises:
    DataError: if the file holds anything else.
  """
  with opened(path) as file:
    text = file.read(MOST_BYTES + 1)
  if len(text) > MOST_BYTES:
    raise DataError(f"{path} holds more than {MOST_BYTES} bytes; put the right file in its place")
  contents = np.frombuffer(text, np.uint8)
  if contents.size == 0 or contents.size % (2 * num_columns):
    raise DataError(f"{path} is not made of lines of {num_columns} zeros and ones")
  cells = contents.reshape(-1, num_columns, 2)
  digits, ends = cells[:, :, 0] - np.uint8(ord("0")), cells[:, :, 1]
  if digits.max() > 1 or (ends[:, :-1] != ord(" ")).any() or (ends[:, -1] != ord("\n")).any():
    raise DataError(f"{path} holds something other than zeros and ones in lines of {num_columns}")
  return digits


def read_mat(path: pathlib.Path, shapes: Mapping[str, tuple[int, int]]) -> dict[str, np.ndarray]:
  """Reads matrices of a MATLAB file (version 5) by name.

  The shapes in the file's directory are checked before any matrix is unpacked.

  Args:
    path: the file.
    shapes: the expected shape of each matrix, by name.

  Returns:
    The matrices by name.

  Raises:
    DataError: if the file cannot be read, or a matrix is missing or of another
      shape than `shapes` says.
  """
  from scipy.io import loadmat, whosmat

  with opened(path) as file:
    contents = file.read()
  try:
    there = {name: shape for name, shape, _ in whosmat(io.BytesIO(contents))}
  except Exception as error:  # scipy raises many kinds of error for a damaged file
    raise DataError(f"{path} is not an intact MATLAB file ({error}); remove it") from error
  for name, shape in shapes.items():
    if name not in there:
      raise DataError(f"{path} has no matrix {name!r}")
    if there[name] != shape:
      raise DataError(f"{path}: {name!r} is of shape {there[name]}, not {shape}")
  try:
    matrices = loadmat(io.BytesIO(contents), variable_names=list(shapes))
    return {name: matrices[name].reshape(shape) for name, shape in shapes.items()}
  except Exception as error:
    raise DataError(f"{path} is not an intact MATLAB file ({error}); remove it") from error


def read_image(path: pathlib.Path) -> tuple[np.ndarray, str]:
  """Reads a PNG or JPEG file of 8 bits a channel.

  Args:
    path: the file.

  Returns:
    uint8 (H, W, C), and the mode of PIL that the image was decoded to: L, RGB or RGBA.

  Raises:
    DataError: if the file is damaged, or of another kind.
  """
  from PIL import Image

  try:
    with disk.read(path, "rb") as file, Image.open(file, formats=("PNG", "JPEG")) as image:
      mode = _mode(path, image)
      pixels = np.asarray(image if image.mode == mode else image.convert(mode))
  except DataError:
    raise
  except Exception as error:  # PIL raises many kinds of error for damaged files
    raise _damaged(path, error) from error
  return pixels.reshape(*pixels.shape[:2], len(mode)), mode


def read_image_header(path: pathlib.Path) -> tuple[tuple[int, int], str]:
  """Returns the (width, height) of an image, and the mode that `read_image` would decode it to.

  Raises:
    DataError: if the file is of another kind, or its header is damaged.
  """
  from PIL import Image

  try:
    with disk.read(path, "rb") as file, Image.open(file, formats=("PNG", "JPEG")) as image:
      return image.size, _mode(path, image)
  except DataError:
    raise
  except Exception as error:
    raise _damaged(path, error) from error


def _mode(path: pathlib.Path, image: Any) -> str:
  if image.mode not in IMAGE_MODES:
    raise DataError(f"{path} has pixels of mode {image.mode}; save it with 8 bits a channel")
  if image.mode == "P" and "transparency" in image.info:
    return "RGBA"
  return IMAGE_MODES[image.mode]


def _damaged(path: pathlib.Path, error: Exception) -> DataError:
  what = getattr(error, "strerror", None) or str(error).replace(repr(str(path)), "it")
  if "cannot identify image file" in what:
    what = "it begins like no PNG or JPEG"
  return DataError(f"{path} is not an intact PNG or JPEG file ({' '.join(what.split())})")
