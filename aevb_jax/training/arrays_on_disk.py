"""The arrays of a checkpoint on disk, by orbax, with errors that name their cause."""

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
# Errors of reading that say nothing about the file.
OF_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO)
OF_MACHINE += (errno.ESTALE, errno.ETIMEDOUT, errno.ENOSPC)


@functools.cache
def orbax():
  """Imports orbax.checkpoint, and keeps it from logging the errors that it also raises."""
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
      # A directory made in the background that fails is not reported for five minutes.
      async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
    ),
    item_handlers=dict(
      state=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler(RECORD_FILE)
    ),
  )


@contextlib.contextmanager
def held(directory: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a path by which orbax finds a directory, whatever its name is and becomes.

  orbax looks for its files by a pattern that begins with the path: in a path with brackets it would
  find none, and say nothing. And it would make a directory anew that is moved while it writes. An
  open directory is neither; where the system has no name for it, a link without brackets stands
  for its path.
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
    like: a tree of `jax.ShapeDtypeStruct`s with shardings; None reads all arrays that are there
      to this process's first device.

  Returns:
    The arrays.

  Raises:
    DamagedError: if they cannot be read.
    OSError, MemoryError: if the reason says nothing about the files.
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
      if file.name != "_sharding":  # the places of the arrays when they were saved, not needed
        pathlib.Path(view, file.name).symlink_to(file)
    tree = orbax().StandardCheckpointHandler().metadata(pathlib.Path(view)).tree
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


@contextlib.contextmanager
def damaged(what: str) -> Iterator[None]:
  """Turns errors of reading into DamagedError, except those that say nothing about the files."""
  try:
    yield
  except Exception as error:  # the kind depends on what is broken in which file
    _raise_of_machine(error)
    raise DamagedError(f"{what} ({type(error).__name__})") from error


def _raise_of_machine(error: BaseException) -> None:
  """Raises an error again if its cause is the machine's: open files, permissions or memory."""
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
  """Keeps orbax from printing more than the first error of files that it writes or reads together.

  orbax closes its event loop at the first file that fails. The other files then find the loop
  closed, or are never started. Python would print each of them with a traceback, also some time
  later. So this output stays off for the rest of the process if an error leaves the context.
  """
  before = sys.unraisablehook

  def hook(unraisable) -> None:
    frames = traceback.walk_tb(unraisable.exc_traceback)
    files = [pathlib.Path(frame.f_code.co_filename) for frame, _ in frames]
    # With too few open files, orbax's event loops are only half made.
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
  """Returns the cause of an error in a few words, the system's own if the system raised it."""
  text = " ".join(str(error).split())
  for code in (*OF_MACHINE, errno.EFBIG, errno.EROFS, errno.EDQUOT, errno.ENOENT):
    if os.strerror(code) in text:
      return os.strerror(code)
  if isinstance(error, DamagedError):
    return f"what was written there cannot be read again: {text}"
  return f"{type(error).__name__}: {text[:120]}"
