"""Standard output and error that nobody needs to read: they never end the program.

Training must not be lost because a reader has gone (`| head -1`), a stream was closed (`>&-`), a
log is on a full disk, a terminal hung up, or a stream is ASCII.
"""

import errno
import io
import os
import select
import sys

GONE = (errno.EPIPE, errno.EBADF)  # nobody wants to read it


class _Lasting(io.FileIO):
  """A file that drops what it cannot write."""

  lost: OSError | None = None  # the last error while there was a reader

  def write(self, data) -> int:
    try:
      while (written := super().write(data)) is None:  # a pipe that does not wait, and is full
        select.select([], [self], [])
      return written
    except OSError as error:
      if error.errno not in GONE:
        self.lost = error
      return len(data)


def open_missing() -> None:
  """Opens /dev/null in place of standard streams that are closed.

  Otherwise the next file that is opened, such as a lock, would become standard output.
  """
  for descriptor in (0, 1, 2):
    try:
      os.fstat(descriptor)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def guard() -> None:
  """Replaces standard output and error by streams that never raise an error."""
  for name, descriptor in (("stdout", 1), ("stderr", 2)):
    stream = getattr(sys, name)
    if isinstance(getattr(getattr(stream, "buffer", None), "raw", None), _Lasting):
      continue
    if stream is not None:
      stream.flush()
    setattr(sys, name, lasting(descriptor, getattr(stream, "encoding", None)))


def lasting(descriptor: int, encoding: str | None = None) -> io.TextIOWrapper:
  """Makes a text stream from a file descriptor, which never raises an error and stays open."""
  raw = _Lasting(descriptor, "wb", closefd=False)
  how = dict(encoding=encoding, errors="backslashreplace", line_buffering=True)
  return io.TextIOWrapper(io.BufferedWriter(raw), **how)


def error_of_output() -> OSError | None:
  """Returns why standard output is incomplete although somebody reads it; None if it is not."""
  sys.stdout.flush()
  return getattr(getattr(sys.stdout.buffer, "raw", None), "lost", None)
