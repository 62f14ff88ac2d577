"""Files on disk: the one place that opens what a run writes, and reads what it left.

A file that is written is a new one: where a symbolic link, a hard link or a pipe has its name,
that is replaced, and what it leads to is left alone. What is read must be a regular file, so that
a pipe or a device in its place is an error and no wait without end.
"""

import errno
import os
import pathlib
import stat
from typing import IO

Path = str | os.PathLike


def create(path: Path, mode: str = "w", **how) -> IO:
  """Opens a new file for writing, in the place of whatever has its name.

  Args:
    path: the file.
    mode: "w" or "wb", as of `open`.
    how: other arguments of `open`.

  Raises:
    OSError: if it cannot be made.
  """
  pathlib.Path(path).unlink(missing_ok=True)
  return open(path, mode.replace("w", "x"), opener=_opener, **how)


def extend(path: Path, mode: str = "a", **how) -> IO:
  """Opens a regular file to add to it, made if need be; never through a symbolic link.

  Args:
    path: the file.
    mode: "a" or "a+", as of `open`.
    how: other arguments of `open`.

  Raises:
    OSError: if it is a symbolic link or no regular file, or cannot be made.
  """
  return open(path, mode, opener=_opener, **how)


def read(path: Path, mode: str = "r", **how) -> IO:
  """Opens a regular file for reading, also through a symbolic link.

  Raises:
    OSError: if it is no regular file, or cannot be read.
  """
  return open(path, mode, opener=_opener, **how)


def read_text(path: Path) -> str:
  """Returns the contents of a regular file as text; raises as `read`, or UnicodeDecodeError."""
  with read(path) as file:
    return file.read()


def read_bytes(path: Path) -> bytes:
  """Returns the contents of a regular file; raises as `read`."""
  with read(path, "rb") as file:
    return file.read()


def _opener(path: str, flags: int) -> int:
  """Opens a regular file, and follows a symbolic link only to read it."""
  if flags & os.O_ACCMODE != os.O_RDONLY:
    flags |= os.O_NOFOLLOW
  try:
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)  # a pipe would be waited for
  except OSError as error:
    if error.errno == errno.ELOOP and os.path.islink(path):
      raise OSError(errno.ELOOP, "it is a symbolic link", path) from error
    if error.errno == errno.ENXIO:  # a pipe that nobody reads, or a socket
      raise OSError(errno.ENXIO, "it is no regular file", path) from error
    raise
  mode = os.fstat(descriptor).st_mode
  if stat.S_ISREG(mode):
    return descriptor
  os.close(descriptor)
  if stat.S_ISDIR(mode):
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
  raise OSError(errno.EINVAL, "it is no regular file", path)
