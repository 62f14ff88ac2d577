"""Standard output and error that never end the program if they cannot be written.

Training must not be lost because a reader has gone (`| head -1`), a stream was closed (`>&-`), a
log is on a full disk, a terminal hung up, or a stream is ASCII.
"""

import errno
import io
import os
import sys

GONE = (errno.EPIPE, errno.EBADF)  # nobody reads the stream


class _Lasting(io.TextIOWrapper):
  """A text stream that discards everything after the first write that fails."""

  lost: OSError | None = None  # the error, unless nobody reads the stream

  def write(self, text: str) -> int:
    try:
      return super().write(text)
    except OSError as error:
      self._give_up(error)
      return len(text)

  def flush(self) -> None:
    try:
      super().flush()
    except OSError as error:
      self._give_up(error)

  def _give_up(self, error: OSError) -> None:
    """Replaces the file by /dev/null, also for what is still in the buffer."""
    if error.errno not in GONE:
      self.lost = error
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, self.fileno())
    os.close(nowhere)
    super().flush()


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
    if isinstance(stream, _Lasting):
      continue
    if stream is not None:
      stream.flush()
    setattr(sys, name, lasting(descriptor, getattr(stream, "encoding", None)))


def lasting(descriptor: int, encoding: str | None = None) -> io.TextIOWrapper:
  """Makes a text stream from a file descriptor, which never raises an error and stays open."""
  os.set_blocking(descriptor, True)  # a pipe that is full is waited for
  file = open(descriptor, "wb", closefd=False)
  return _Lasting(file, encoding=encoding, errors="backslashreplace", line_buffering=True)


def error_of_output() -> OSError | None:
  """Returns the error that cut standard output off although it is read; None if there is none."""
  sys.stdout.flush()
  return getattr(sys.stdout, "lost", None)
