"""The file formats that the paper's data sets come in, read and checked in Python."""

import gzip
import io
import math
import pathlib
import zlib
from collections.abc import Mapping

import numpy as np

from aevb_jax.errors import DataError

IDX_UINT8 = 0x08


def read_bytes(path: pathlib.Path) -> bytes:
  """The contents of a file, unpacked where it is gzip.

  Raises:
    DataError: if the gzip stream is cut short or damaged.
  """
  contents = path.read_bytes()
  if path.suffix != ".gz":
    return contents
  try:
    return gzip.decompress(contents)
  except EOFError as error:
    raise DataError(f"{path} is a gzip file that is cut short; remove it") from error
  except (gzip.BadGzipFile, zlib.error) as error:
    raise DataError(f"{path} is not an intact gzip file ({error}); remove it") from error


def read_idx(path: pathlib.Path, num_axes: int) -> np.ndarray:
  """An IDX file of bytes, gzipped or not, as the MNIST family has them.

  Returns:
    uint8, with the `num_axes` axes that the file names.

  Raises:
    DataError: if the file is not that, or is longer or shorter than it says.
  """
  contents = read_bytes(path)
  start = 4 + 4 * num_axes
  magic = int.from_bytes(contents[:4], "big")
  expected = IDX_UINT8 << 8 | num_axes
  if len(contents) < start or magic != expected:
    raise DataError(
      f"{path} starts with the magic number {magic:#010x}, not {expected:#010x}: it is not an IDX "
      f"file of bytes with {num_axes} axes"
    )
  shape = tuple(np.frombuffer(contents[4:start], ">u4").tolist())
  if len(contents) - start != math.prod(shape):
    raise DataError(
      f"{path} promises {' × '.join(map(str, shape))} bytes but holds {len(contents) - start}"
    )
  return np.frombuffer(contents, np.uint8, offset=start).reshape(shape)


def read_amat(path: pathlib.Path, num_columns: int) -> np.ndarray:
  """A text file of zeros and ones, each followed by one space or line end.

  Returns:
    uint8 zeros and ones, shape (lines, num_columns).

  Raises:
    DataError: if the file is anything else.
  """
  contents = np.frombuffer(read_bytes(path), np.uint8)
  if contents.size == 0 or contents.size % (2 * num_columns):
    raise DataError(f"{path} is not made of lines of {num_columns} zeros and ones")
  cells = contents.reshape(-1, num_columns, 2)
  digits, ends = cells[:, :, 0] - np.uint8(ord("0")), cells[:, :, 1]
  if digits.max() > 1 or (ends[:, :-1] != ord(" ")).any() or (ends[:, -1] != ord("\n")).any():
    raise DataError(f"{path} holds something else than zeros and ones in lines of {num_columns}")
  return digits


def read_mat(path: pathlib.Path, shapes: Mapping[str, tuple[int, int]]) -> dict[str, np.ndarray]:
  """Matrices of a MATLAB file (version 5), by name.

  Raises:
    DataError: if the file cannot be read, or a matrix is missing or of another
      shape than `shapes` says.
  """
  from scipy.io import loadmat

  contents = io.BytesIO(path.read_bytes())
  try:
    matrices = loadmat(contents, variable_names=list(shapes))
  except Exception as error:  # scipy raises what a damaged file leads it to
    raise DataError(f"{path} is not an intact MATLAB file ({error}); remove it") from error
  for name, shape in shapes.items():
    if name not in matrices:
      raise DataError(f"{path} has no matrix {name!r}")
    if matrices[name].shape != shape:
      raise DataError(f"{path}: {name!r} is of shape {matrices[name].shape}, not {shape}")
  return {name: matrices[name] for name in shapes}
