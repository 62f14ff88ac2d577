"""The entries of an .npz file, read without pickle and, if they are not packed, mapped in place."""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from aevb_jax import disk
from aevb_jax.data.array_cache import Create, give_back
from aevb_jax.data.minibatches import rows_at_once
from aevb_jax.errors import DataError

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature; lengths of the name and of the extra field
ENCRYPTED = 1  # bit of a member's flags
BLOCK = 1 << 22  # bytes whose checksum is computed at once

# Errors of zipfile and zlib for archives that are damaged, encrypted, or packed in another way.
DAMAGE = (zlib.error, EOFError, struct.error, ValueError, OverflowError, RuntimeError)


class Entry(NamedTuple):
  """An array of an .npz file, before it is read."""

  name: str
  member: zipfile.ZipInfo
  shape: tuple[int, ...]
  dtype: np.dtype
  by_columns: bool  # Fortran order
  header: int  # bytes of the member before the array's own

  @property
  def num_bytes(self) -> int:
    """Returns the size of the array."""
    return math.prod(self.shape) * self.dtype.itemsize


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[tuple[IO[bytes], zipfile.ZipFile]]:
  """Opens an .npz file.

  Yields:
    The file, and the archive in it.

  Raises:
    DataError: if there is no such file, or it is no intact archive; also while it is read.
  """
  try:
    with disk.read(path, "rb") as file:
      if file.read(6) == b"\x93NUMPY":
        raise DataError("is a single array; save np.savez(file, train=..., test=...)")
      with zipfile.ZipFile(file) as archive:
        yield file, archive
  except FileNotFoundError as error:
    raise DataError("no such file") from error
  except OSError as error:
    raise DataError(f"cannot be read ({error.strerror or error})") from error
  except zipfile.BadZipFile as error:
    raise DataError(f"is not an intact .npz file ({error}); save it again by np.savez") from error
  except DAMAGE as error:
    raise DataError(f"is a damaged .npz file ({error}); save it again by np.savez") from error


def find_entries(archive: zipfile.ZipFile) -> dict[str, Entry]:
  """Reads the headers of all arrays of an archive.

  Raises:
    DataError: if a member is no array of numbers.
  """
  found: dict[str, Entry] = {}
  for member in archive.infolist():
    name = member.filename.removesuffix(".npy")
    if name == member.filename:
      raise DataError(f"has {name!r}, which is no array; save it by np.savez")
    if name in found:
      raise DataError(f"has {name!r} twice")
    if member.flag_bits & ENCRYPTED:
      raise DataError(f"has an encrypted {name!r}; save it without a password")
    with archive.open(member) as file:
      found[name] = _entry(name, member, file)
  return found


def _entry(name: str, member: zipfile.ZipInfo, file: IO[bytes]) -> Entry:
  readers = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  try:
    version = np.lib.format.read_magic(file)
    shape, by_columns, dtype = readers[version](file)
  except (ValueError, KeyError) as error:
    raise DataError(f"has {name!r}, which is no array that np.savez writes ({error})") from error
  if dtype.hasobject:
    raise DataError(f"has {name!r} of Python objects; save an array of numbers, all of one shape")
  entry = Entry(name, member, shape, dtype, by_columns, file.tell())
  if entry.header + entry.num_bytes != member.file_size:
    raise DataError(f"has {name!r} of {member.file_size} bytes, which its shape {shape} is not")
  return entry


def read_small(archive: zipfile.ZipFile, entry: Entry) -> np.ndarray:
  """Reads a whole array into memory."""
  with archive.open(entry.member) as file:
    return np.lib.format.read_array(file, allow_pickle=False)


def is_mappable(entry: Entry) -> bool:
  """Reports whether an array can be used where it is in the file."""
  stored = entry.member.compress_type == zipfile.ZIP_STORED
  return stored and not entry.by_columns and entry.dtype in (np.uint8, np.float32)


def map_in_place(file: IO[bytes], entry: Entry) -> np.memmap:
  """Maps an array that is stored in one piece, after a check of its checksum.

  Raises:
    zipfile.BadZipFile: if the piece is not what was written.
  """
  file.seek(entry.member.header_offset)
  signature, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
  if signature != b"PK\x03\x04":
    raise zipfile.BadZipFile(f"no header before {entry.name!r}")
  start = entry.member.header_offset + LOCAL_HEADER.size + name + extra
  file.seek(start)
  checksum, left = 0, entry.member.file_size
  while left and (block := file.read(min(BLOCK, left))):
    checksum, left = zlib.crc32(block, checksum), left - len(block)
  if left or checksum != entry.member.CRC:
    raise zipfile.BadZipFile(f"{entry.name!r} is not what was written")
  file_like: Any = file
  return np.memmap(file_like, entry.dtype, "r", start + entry.header, entry.shape)


def decode(archive: zipfile.ZipFile, entry: Entry, create: Create) -> None:
  """Reads pixels into a new array of the name of the entry; floats become float32."""
  dtype = np.dtype(np.uint8 if entry.dtype == np.uint8 else np.float32)
  array = create(entry.name, entry.shape, dtype)
  if entry.by_columns:
    array[:] = read_small(archive, entry)
    return
  row = entry.num_bytes // entry.shape[0]
  with archive.open(entry.member) as file:
    file.read(entry.header)
    for start in range(0, entry.shape[0], at_once := rows_at_once(row)):
      stop = min(start + at_once, entry.shape[0])
      contents = file.read((stop - start) * row)
      if len(contents) < (stop - start) * row:
        raise EOFError(f"{entry.name!r} is cut short")
      with np.errstate(over="ignore"):  # infinite pixels are found by the check of all pixels
        array[start:stop] = np.frombuffer(contents, entry.dtype).reshape(-1, *entry.shape[1:])
      give_back(array)
    file.read(1)  # at the end of a member zipfile compares its checksum


def fingerprint(entries: dict[str, Entry]) -> str:
  """Returns 12 hexadecimal digits of the names, checksums and sizes of all arrays."""
  what = sorted((e.name, e.member.CRC, e.member.file_size) for e in entries.values())
  return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]


def place_of(path: pathlib.Path) -> str:
  """Names the cache of a file or a folder, by the end of its path and a digest of the whole."""
  return f"{path.stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
