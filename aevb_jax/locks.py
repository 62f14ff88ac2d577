"""One process at a time."""

import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import time
from collections.abc import Iterator

from aevb_jax.types import DataError

LOGGER = logging.getLogger(__name__)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def alone(path: pathlib.Path, doing: str, wait: float) -> Iterator[None]:
  """Holds a lock on a file, which ends with the process whatever becomes of it.

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
  with open(path, "a+") as file:
    while True:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
      except BlockingIOError:
        file.seek(0)
        other = f"{file.read() or 'another process'} is {doing} (it holds {path})"
        if time.monotonic() > deadline:
          raise DataError(
            f"{other}, and was not done in {wait:g} s; wait for it or end it, then start again"
          ) from None
        if not waiting:
          LOGGER.warning("%s; waiting for it", other)
        waiting = True
        time.sleep(0.1)
      except OSError as error:
        if error.errno not in NO_LOCKS:
          raise
        break
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}")
    file.flush()
    yield
