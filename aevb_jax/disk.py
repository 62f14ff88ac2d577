"""Functions that open files safely: a run opens here every file that it writes or reads back.

A file that is written is a new file. If a symbolic link, a hard link or a pipe has its name, that
name is replaced, and the target of the link is left untouched. A file that is read must be a
regular file, so that a pipe or a device in its place is an error instead of an endless wait.
"""

import contextlib
import errno
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import IO

Path = str | os.PathLike


def create(path: Path, mode: str = "w", **how) -> IO:
  """Opens a new file for writing, and replaces any file, link or pipe that has its name.

  Args:
    path: the file.
    mode: "w" or "wb", as for `open`.
    how: other arguments of `open`.

  Returns:
    The open file.

  Raises:
    OSError: if the file cannot be made.
  """
  pathlib.Path(path).unlink(missing_ok=True)
  return open(path, mode.replace("w", "x"), opener=_opener, **how)


def extend(path: Path, mode: str = "a", **how) -> IO:
  """Opens a regular file to append to it, and never follows a symbolic link.

  Args:
    path: the file, which is made if it does not exist.
    mode: "a", "ab" or "a+", as for `open`.
    how: other arguments of `open`.

  Returns:
    The open file.

  Raises:
    OSError: if the file is a symbolic link or not a regular file, or cannot be made.
  """
  return open(path, mode, opener=_opener, **how)


def read(path: Path, mode: str = "r", **how) -> IO:
  """Opens a regular file for reading; follows symbolic links.

  Args:
    path: the file.
    mode: "r" or "rb", as for `open`.
    how: other arguments of `open`.

  Returns:
    The open file.

  Raises:
    OSError: if the file is not a regular file, or cannot be read.
  """
  return open(path, mode, opener=_opener, **how)


def read_text(path: Path) -> str:
  """Returns the contents of a regular file as text.

  Raises:
    OSError: if the file is not a regular file, or cannot be read.
    UnicodeDecodeError: if the contents are not text.
  """
  with read(path) as file:
    return file.read()


def read_bytes(path: Path) -> bytes:
  """Returns the contents of a regular file as bytes.

  Raises:
    OSError: if the file is not a regular file, or cannot be read.
  """
  with read(path, "rb") as file:
    return file.read()


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[IO[bytes]]:
  """Yields a file to write into, which replaces `path` at the end; a failure leaves nothing."""
  partial = path.with_name(path.name + ".partial")
  try:
    with naming(path):
      with create(partial, "wb") as file:
        yield file
      os.replace(partial, path)
  finally:
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)


@contextlib.contextmanager
def closing(file) -> Iterator[None]:
  """Closes a file at the end; suppresses the error of closing after an earlier error."""
  try:
    yield
  except BaseException:
    with contextlib.suppress(OSError):
      file.close()
    raise
  file.close()


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Adds the path to errors of writing a file; the system names it only in errors of opening."""
  try:
    yield
  except OSError as error:
    error.filename = error.filename or str(path)
    raise


def _opener(path: str, flags: int) -> int:
  """Opens a regular file; follows a symbolic link only for reading."""
  if flags & os.O_ACCMODE != os.O_RDONLY:
    flags |= os.O_NOFOLLOW
  try:
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)  # opening a pipe would block
  except OSError as error:
    if error.errno == errno.ELOOP and os.path.islink(path):
      raise OSError(errno.ELOOP, "it is a symbolic link", path) from error
    if error.errno == errno.ENXIO:  # a pipe without a reader, or a socket
      raise OSError(errno.ENXIO, "it is not a regular file", path) from error
    raise
  mode = os.fstat(descriptor).st_mode
  if stat.S_ISREG(mode):
    return descriptor
  os.close(descriptor)
  if stat.S_ISDIR(mode):
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
  raise OSError(errno.EINVAL, "it is not a regular file", path)
