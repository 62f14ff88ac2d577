"""The arrays of a checkpoint on disk, written by orbax, with errors that name their cause."""

import contextlib
import errno
import functools
import logging
import os
import pathlib
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator

import jax

from aevb_jax.errors import DamagedError
from aevb_jax.types import PyTree

RECORD_FILE = "record.json"
PATTERN = re.compile(r"[*?\[\]\\]")  # characters that make a path a pattern
# Errors of reading that have a cause in the machine, and do not show that the file is damaged.
OF_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO)
OF_MACHINE += (errno.ESTALE, errno.ETIMEDOUT, errno.ENOSPC)


@functools.cache
def orbax():
  """Imports orbax.checkpoint, and stops it from logging errors that it also raises."""
  import orbax.checkpoint as ocp

  def heard(log: logging.LogRecord) -> bool:
    return log.levelno < logging.ERROR or "orbax" not in pathlib.Path(log.pathname).parts

  logging.getLogger("absl").addFilter(heard)
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  return ocp


def make_manager(directory: pathlib.Path, num_kept: int | None):
  """Makes orbax's manager of a directory that keeps the last `num_kept` checkpoints."""
  ocp = orbax()
  return ocp.CheckpointManager(
    directory,
    options=ocp.CheckpointManagerOptions(
      max_to_keep=num_kept,
      cleanup_tmp_directories=True,
      # orbax reports a failure to make a directory in the background only after five minutes.
      async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
    ),
    item_handlers=dict(
      state=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler(RECORD_FILE)
    ),
  )


@contextlib.contextmanager
def held(directory: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a path by which orbax finds a directory, also if its name has brackets or changes.

  orbax looks for its files by a pattern that begins with the path. In a path with brackets it would
  silently find no files. If a directory is moved while orbax writes, orbax would make a new one at
  the old path. The name of an open directory, /proc/self/fd/N, has neither problem. A system
  without such names gets a link without brackets instead.
  """
  path = directory.absolute()
  if jax.process_count() > 1:  # their paths have to agree
    if PATTERN.search(str(path)):
      raise OSError(errno.EINVAL, "its path has brackets, and several processes save", str(path))
    yield path
    return
  descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
  try:
    of_process = pathlib.Path(f"/proc/self/fd/{descriptor}")
    if of_process.is_dir():
      yield of_process
      return
    with tempfile.TemporaryDirectory(prefix="aevb_jax-") as place:
      link = pathlib.Path(place, "directory")
      link.symlink_to(path, target_is_directory=True)
      yield link
  finally:
    os.close(descriptor)


def read_arrays(path: pathlib.Path, like: PyTree | None) -> PyTree:
  """Reads the arrays of a checkpoint.

  Args:
    path: the directory of the checkpoint.
    like: a tree of `jax.ShapeDtypeStruct`s with shardings; None reads all arrays of the checkpoint
      to this process's first device.

  Returns:
    The arrays.

  Raises:
    DamagedError: if they cannot be read.
    OSError, MemoryError: if the cause is in the machine and not in the files.
  """
  ocp = orbax()
  handler = ocp.StandardCheckpointHandler()
  with damaged("its arrays cannot be read"), held(path / "state") as path:
    for file in path.rglob("*"):
      if not (file.is_file() or file.is_dir()):
        raise ValueError(f"{file} is not a regular file")  # reading a pipe would block
    with one_error(), ocp.Checkpointer(handler) as reader:
      like = _arrays_there(path) if like is None else like
      return reader.restore(path, args=ocp.args.StandardRestore(like))


def _arrays_there(path: pathlib.Path) -> PyTree:
  """Returns the shapes and types of all arrays of a checkpoint, on the first local device."""
  sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  with tempfile.TemporaryDirectory(prefix="aevb_jax-") as view:
    for file in path.iterdir():
      if file.name != "_sharding":  # names the devices that saved the arrays, not needed here
        pathlib.Path(view, file.name).symlink_to(file)
    tree = orbax().StandardCheckpointHandler().metadata(pathlib.Path(view)).tree
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


@contextlib.contextmanager
def damaged(what: str) -> Iterator[None]:
  """Turns errors of reading into DamagedError, except errors that the machine causes."""
  try:
    yield
  except Exception as error:  # the type depends on the file and on the damage
    _raise_of_machine(error)
    raise DamagedError(f"{what} ({type(error).__name__})") from error


def _raise_of_machine(error: BaseException) -> None:
  """Raises an error again if the machine caused it: open files, permissions or memory."""
  cause = error
  while cause is not None:
    if isinstance(cause, MemoryError) or getattr(cause, "errno", None) in OF_MACHINE:
      raise cause
    text = str(cause)
    for code in OF_MACHINE:  # all errors of tensorstore have one type; only the text differs
      if os.strerror(code) in text:
        raise OSError(code, f"{os.strerror(code)}, in reading a checkpoint") from error
    if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
      raise MemoryError(text) from error
    cause = cause.__cause__ or cause.__context__


@contextlib.contextmanager
def one_error() -> Iterator[None]:
  """Stops orbax from printing more than the first error of the files that it handles together.

  orbax closes its event loop at the first file that fails. The tasks of the other files then find
  the loop closed, or are never started. Python would print a traceback for each of them, some of
  them later. If an error leaves the context, this output therefore stays off in this process.
  """
  before = sys.unraisablehook

  def hook(unraisable) -> None:
    frames = traceback.walk_tb(unraisable.exc_traceback)
    files = [pathlib.Path(frame.f_code.co_filename) for frame, _ in frames]
    # If the process may open too few files, orbax's event loops are only half made.
    of_orbax = any({"orbax", "asyncio"} & set(file.parts) for file in files)
    if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
      before(unraisable)

  sys.unraisablehook = hook
  try:
    yield
  except BaseException:
    never_begun = "coroutine .* was never awaited"
    warnings.filterwarnings("ignore", never_begun, RuntimeWarning)
    raise
  sys.unraisablehook = before


def reason(error: BaseException) -> str:
  """Describes the cause of an error in a few words, in the system's own words if it raised it."""
  text = " ".join(str(error).split())
  for code in (*OF_MACHINE, errno.EFBIG, errno.EROFS, errno.EDQUOT, errno.ENOENT):
    if os.strerror(code) in text:
      return os.strerror(code)
  if isinstance(error, DamagedError):
    return f"what was written there cannot be read again: {text}"
  return f"{type(error).__name__}: {text[:120]}"
