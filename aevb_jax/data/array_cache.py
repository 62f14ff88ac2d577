"""Decoded arrays on disk: memory-mapped, checked, and rebuilt if anything is wrong with them.

A cache is a directory of .npy files with an index.json. The index names the source that the arrays
were decoded from, and the shape, type and SHA-256 of each array.
"""

import hashlib
import json
import logging
import mmap
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from aevb_jax import disk
from aevb_jax.errors import CacheError
from aevb_jax.locks import exclusive

FORMAT = 1
WAIT = 3600.0  # seconds for another process to decode
LOGGER = logging.getLogger(__name__)
Create = Callable[[str, tuple[int, ...], np.dtype], np.ndarray]  # (name, shape, dtype)


def fetch(
  directory: pathlib.Path, source: dict, write: Callable[[Create], None]
) -> dict[str, np.ndarray]:
  """Returns the arrays that `write` makes from a source, from the cache if it is intact.

  Args:
    directory: the directory of this cache.
    source: JSON that identifies what is decoded; a cache with another source is replaced.
    write: a function that is given `create`, and fills each array that it creates; `give_back`
      keeps its memory small.

  Returns:
    Read-only memory-mapped arrays by name. They stay readable if their file is replaced later.

  Raises:
    CacheError: if the cache cannot be written.
    DataError: if another process still decodes the same cache after an hour.
  """
  try:
    return _open(directory, source)
  except _Stale:
    pass
  try:
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = directory.with_name(f"{directory.name}.lock")
    with exclusive(lock, f"decoding into {directory}", wait=WAIT):
      try:
        return _open(directory, source)  # another process wrote it while this one waited
      except _Stale as stale:
        if stale.damaged:
          LOGGER.warning("array cache %s: %s; it is rebuilt", directory, stale)
      _replace(directory, source, write)
      return _open(directory, source)
  except OSError as error:
    reason = error.strerror or error
    raise CacheError(f"{directory} cannot be written ({reason})") from error
  except _Stale as stale:
    raise CacheError(f"{directory} is not what was just written ({stale})") from stale


def give_back(array: np.ndarray) -> None:
  """Writes what was put into an array of `create`, and gives its memory back to the system.

  A function that fills a large array calls it after each block; otherwise the process would hold
  the whole array. Arrays that are not in a file are left as they are.
  """
  base: Any = array
  while isinstance(base, np.ndarray):
    base = base.base
  if isinstance(base, mmap.mmap):
    base.flush()
    base.madvise(mmap.MADV_DONTNEED)


class _Stale(Exception):
  """Raised for a cache that cannot be used; the text says why."""

  def __init__(self, message: str, damaged: bool):
    super().__init__(message)
    self.damaged = damaged


def _open(directory: pathlib.Path, source: dict) -> dict[str, np.ndarray]:
  """Opens the arrays of a cache; raises _Stale if it is missing, damaged or of another source."""
  if not os.path.exists(directory):  # or no permission to see it; writing then reports the reason
    raise _Stale("is not there", damaged=False)
  try:
    index = json.loads(disk.read_text(directory / "index.json"))
    if index.pop("checksum") != _checksum(index):
      raise _Stale("index.json is not what was written", damaged=True)
    if index["format"] != FORMAT or index["source"] != source:
      raise _Stale("made from something else", damaged=False)
    arrays = {}
    for name, expected in index["arrays"].items():
      path = directory / f"{name}.npy"
      if _sha256(path) != expected["sha256"]:
        raise _Stale(f"{path.name} is not what was written", damaged=True)
      arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
      if [list(arrays[name].shape), str(arrays[name].dtype)] != [
        expected["shape"],
        expected["dtype"],
      ]:
        raise _Stale(f"{path.name} is not of the shape in index.json", damaged=True)
    return arrays
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise _Stale(f"cannot be read ({error})", damaged=True) from error


def _checksum(index: dict) -> str:
  return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _sha256(path: pathlib.Path) -> str:
  with disk.read(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _replace(directory: pathlib.Path, source: dict, write: Callable[[Create], None]) -> None:
  """Writes a cache beside `directory` and moves it there once it is complete."""
  prefix = f"{directory.name}.partial-"
  for leftover in directory.parent.glob(f"{prefix}*"):  # left by a process that was killed
    shutil.rmtree(leftover, ignore_errors=True)
  partial = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
  old = partial.with_name(f"{partial.name}.old")
  try:
    arrays = {}

    def create(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
      path = partial / f"{name}.npy"
      arrays[name] = np.lib.format.open_memmap(path, "w+", dtype, shape)
      with open(path, "r+b") as file:
        # A full disk must raise here: in a write through the map it would kill the process.
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
      return arrays[name]

    write(create)
    index: dict[str, Any] = {"format": FORMAT, "source": source, "arrays": {}}
    for name, array in arrays.items():
      array.flush()
      index["arrays"][name] = {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": _sha256(partial / f"{name}.npy"),
      }
    index["checksum"] = _checksum(index)
    (partial / "index.json").write_text(json.dumps(index, indent=2) + "\n")
    partial.chmod(0o755)
    if directory.exists():
      os.rename(directory, old)
    os.rename(partial, directory)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
