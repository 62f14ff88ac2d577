"""One process at a time."""

import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import time
from collections.abc import Iterator
from typing import IO

from aevb_jax import disk
from aevb_jax.errors import DataError, Held

LOGGER = logging.getLogger(__name__)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
HOLDER = "process "  # what a lock that was held begins with
ATTEMPTS = 5  # since `holder` holds a lock for an instant


def hold(path: pathlib.Path) -> IO[str]:
  """Takes the lock on a file, made if need be, or finds that another process keeps it.

  It ends with the process, whatever becomes of it, or when what is returned is closed. On a
  file system without locks nothing is held.

  Raises:
    Held: if another process holds it.
    OSError: if the file cannot be made or written, or is a symbolic link.
  """
  for attempts_left in reversed(range(ATTEMPTS)):
    file = disk.extend(path, "a+", errors="replace")
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if is_at(file, path):
        break
      file.close()  # its directory was moved away between the two calls
    except BlockingIOError:
      with file:
        file.seek(0)
        holder = file.read()
      if not attempts_left:
        raise Held(holder or "another process") from None
      time.sleep(0.02)
    except OSError as error:
      if error.errno in NO_LOCKS:
        break
      file.close()
      raise
  else:
    raise Held("another process, which moves its directory")
  try:
    file.seek(0)
    if file.read(len(HOLDER)) not in ("", HOLDER):
      raise OSError(errno.EINVAL, "it holds something else than a lock")
    file.truncate(0)
    file.write(f"{HOLDER}{os.getpid()} on {os.uname().nodename}")
    file.flush()
  except OSError as error:
    with contextlib.suppress(OSError):
      file.close()
    error.filename = str(path)
    raise
  return file


def is_at(file: IO[str], path: pathlib.Path) -> bool:
  """Tells whether an open file is the one that has this name now."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path, follow_symlinks=False))
  except FileNotFoundError:
    return False


def holder(path: pathlib.Path) -> str | None:
  """Who holds the lock on a file; None if nobody does, or there is no such file."""
  try:
    with disk.read(path) as file:
      try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
      except BlockingIOError:
        return file.read() or "another process"
  except OSError:
    pass
  return None


@contextlib.contextmanager
def alone(path: pathlib.Path, doing: str, wait: float) -> Iterator[None]:
  """Holds a lock on a file, and waits for it as long as need be.

  On a file system without locks it holds nothing: what it guards is written
  beside its place and renamed, so that no harm but double work is done.

  Args:
    path: of the lock file, made if need be.
    doing: what, for the messages of others: "preparing mnist".
    wait: seconds to wait for another process that holds it.

  Raises:
    DataError: if another process holds it still.
    OSError: if the file cannot be made.
  """
  deadline, waiting = time.monotonic() + wait, False
  while True:
    try:
      file = hold(path)
      break
    except Held as held:
      other = f"{held} is {doing} (it holds {path})"
    if time.monotonic() > deadline:
      raise DataError(
        f"{other}, and was not done in {wait:g} s; wait for it or end it, then start again"
      )
    if not waiting:
      LOGGER.warning("%s; waiting for it", other)
    waiting = True
    time.sleep(0.1)
  with file:
    yield
