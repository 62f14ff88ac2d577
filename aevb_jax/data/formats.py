"""The file formats that the paper's data sets come in, read and checked in Python."""

import contextlib
import gzip
import io
import math
import pathlib
import zlib
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np

from aevb_jax import disk
from aevb_jax.errors import DataError

IDX_UINT8 = 0x08
MOST_BYTES = 2**30  # that are unpacked of a file whose size nobody knows beforehand


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """Opens a data file for reading bytes, which are unpacked as they are read where it is gzip.

  Raises:
    DataError: if the file cannot be read, is no regular file, or its gzip stream is cut short
      or damaged; also while it is read.
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
  """Reads an IDX file of bytes, gzipped or not, as the MNIST family has them.

  The header is read first, and then no more than it promises, so that a file which unpacks to
  much more than it should costs no memory.

  Args:
    path: the file.
    num_axes: the number of axes that it must have.
    most: the bytes, header included, that it may unpack to.

  Returns:
    uint8, with the `num_axes` axes that the file names.

  Raises:
    DataError: if the file is not that, is longer or shorter than it says, or says that it is
      longer than `most`.
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
    promise = f"{path} promises {' × '.join(map(str, shape))} bytes"
    if start + size > most:
      raise DataError(f"{promise}, more than the {most} that a file of this name may have")
    contents = file.read(size + 1)
  if len(contents) != size:
    raise DataError(f"{promise} but holds {'more' if len(contents) > size else len(contents)}")
  return np.frombuffer(contents, np.uint8).reshape(shape)


def read_amat(path: pathlib.Path, num_columns: int) -> np.ndarray:
  """Reads a text file of zeros and ones, each followed by one space or line end.

  Returns:
    uint8 zeros and ones, shape (lines, num_columns).

  Raises:
    DataError: if the file is anything else.
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
    raise DataError(f"{path} holds something else than zeros and ones in lines of {num_columns}")
  return digits


def read_mat(path: pathlib.Path, shapes: Mapping[str, tuple[int, int]]) -> dict[str, np.ndarray]:
  """Reads matrices of a MATLAB file (version 5) by name.

  Their shapes are compared with what the file says of them before any matrix is unpacked.

  Raises:
    DataError: if the file cannot be read, or a matrix is missing or of another
      shape than `shapes` says.
  """
  from scipy.io import loadmat, whosmat

  with opened(path) as file:
    contents = file.read()
  try:
    there = {name: shape for name, shape, _ in whosmat(io.BytesIO(contents))}
  except Exception as error:  # scipy raises what a damaged file leads it to
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
