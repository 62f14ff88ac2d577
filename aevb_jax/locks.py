"""Locks on files, each held by one process at a time."""

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
HOLDER = "process "  # the text of a lock file begins with it once the lock was taken
ATTEMPTS = 5  # `holder` takes a shared lock for an instant, so one failure proves nothing


def hold(path: pathlib.Path) -> IO[str]:
  """Takes the lock on a file, or raises if another process holds it.

  The file is made if it does not exist. The lock ends when the process ends, for any reason, or
  when the returned file is closed. On a file system without locks nothing is held.

  Args:
    path: the lock file.

  Returns:
    The open file that holds the lock.

  Raises:
    Held: if another process holds the lock.
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
      raise OSError(errno.EINVAL, "it holds something other than a lock")
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
  """Reports whether an open file is the file that has this name now."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path, follow_symlinks=False))
  except FileNotFoundError:
    return False


def holder(path: pathlib.Path) -> str | None:
  """Names the process that holds the lock on a file.

  Returns:
    The text, such as "process 4711 on host"; None if no process holds the lock, or the file cannot
    be read.
  """
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
def exclusive(path: pathlib.Path, doing: str, wait: float) -> Iterator[None]:
  """Holds the lock on a file while its context lasts, and waits for the lock if necessary.

  On a file system without locks nothing is held. The only harm is then that work is done twice,
  because the guarded files are written under other names and then renamed.

  Args:
    path: the lock file, which is made if it does not exist.
    doing: the purpose of the lock, for the messages of other processes: "preparing mnist".
    wait: the seconds to wait for another process that holds the lock.

  Raises:
    DataError: if another process still holds the lock after `wait` seconds.
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
