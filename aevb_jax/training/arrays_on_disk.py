"""The arrays of a checkpoint on disk: orbax, and what it takes for its errors to be of use."""

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
PATTERN = re.compile(r"[*?\[\]\\]")  # what a path must not have, to be a pattern of itself
# Of an error of reading that says nothing about the file.
OF_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EIO)
OF_MACHINE += (errno.ESTALE, errno.ETIMEDOUT, errno.ENOSPC)


@functools.cache
def orbax():
  """orbax.checkpoint, whose errors are raised and not logged as well, each with a traceback."""
  import orbax.checkpoint as ocp

  def told(log: logging.LogRecord) -> bool:
    return log.levelno < logging.ERROR or "orbax" not in pathlib.Path(log.pathname).parts

  logging.getLogger("absl").addFilter(told)
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  return ocp


def make_manager(directory: pathlib.Path, num_kept: int | None):
  """Makes orbax's manager of a directory."""
  ocp = orbax()
  return ocp.CheckpointManager(
    directory,
    options=ocp.CheckpointManagerOptions(
      max_to_keep=num_kept,
      cleanup_tmp_directories=True,
      # Of one that cannot be made in the background its writers do not hear for five minutes.
      async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
    ),
    item_handlers=dict(
      state=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler(RECORD_FILE)
    ),
  )


@contextlib.contextmanager
def as_no_pattern(directory: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a path of a directory in which orbax finds its files.

  orbax looks for them by a pattern that begins with the path, so of one with brackets it would
  find none and say nothing. A link without them stands for such a path.
  """
  path = directory.absolute()
  if not PATTERN.search(str(path)):
    yield path
    return
  if jax.process_count() > 1:
    raise OSError(errno.EINVAL, "its path has brackets, and several processes save", str(path))
  with tempfile.TemporaryDirectory(prefix="aevb_jax-") as place:
    link = pathlib.Path(place, "directory")
    link.symlink_to(path, target_is_directory=True)
    yield link


def read_arrays(path: pathlib.Path, like: PyTree | None) -> PyTree:
  """Returns the arrays as `like` says, or all there are on this process's first device.

  Raises:
    DamagedError: if they cannot be read.
    OSError, MemoryError: if that is for a reason that says nothing about them.
  """
  ocp = orbax()
  handler = ocp.StandardCheckpointHandler()
  with damaged("its arrays cannot be read"), as_no_pattern(path / "state") as path:
    for file in path.rglob("*"):
      if not (file.is_file() or file.is_dir()):
        raise ValueError(f"{file} is no regular file")  # a pipe would be waited for
    with one_error(), ocp.Checkpointer(handler) as reader:
      like = _arrays_there(path) if like is None else like
      return reader.restore(path, args=ocp.args.StandardRestore(like))


def _arrays_there(path: pathlib.Path) -> PyTree:
  """Returns what stands for all arrays of a checkpoint, on this process's first device."""
  sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  with tempfile.TemporaryDirectory(prefix="aevb_jax-") as view:
    for file in path.iterdir():
      if file.name != "_sharding":  # it says where the arrays were, which nothing needs
        pathlib.Path(view, file.name).symlink_to(file)
    tree = orbax().StandardCheckpointHandler().metadata(pathlib.Path(view)).tree
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


@contextlib.contextmanager
def damaged(what: str) -> Iterator[None]:
  """Turns errors of reading into DamagedError, but for those that say nothing about the files."""
  try:
    yield
  except Exception as error:  # of many kinds, by what is broken in which file
    _raise_of_machine(error)
    raise DamagedError(f"{what} ({type(error).__name__})") from error


def _raise_of_machine(error: BaseException) -> None:
  """Raises an error again that is of the machine: too few open files, no permission, no memory."""
  cause = error
  while cause is not None:
    if isinstance(cause, MemoryError) or getattr(cause, "errno", None) in OF_MACHINE:
      raise cause
    text = str(cause)
    for code in OF_MACHINE:  # tensorstore's errors are of one kind, with a text
      if os.strerror(code) in text:
        raise OSError(code, f"{os.strerror(code)}, in reading a checkpoint") from error
    if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
      raise MemoryError(text) from error
    cause = cause.__cause__ or cause.__context__


@contextlib.contextmanager
def one_error() -> Iterator[None]:
  """Of files that are written or read together, the first error is enough.

  orbax closes its event loop at the first file that fails. That the others then find it closed,
  are never asked how they fared, or have not begun, would be printed, for each with a traceback,
  also some time later: so it is kept quiet for good where an error leaves this context.
  """
  before = sys.unraisablehook

  def hook(unraisable) -> None:
    frames = traceback.walk_tb(unraisable.exc_traceback)
    files = [pathlib.Path(frame.f_code.co_filename) for frame, _ in frames]
    # Its event loops are half made where there are too few open files.
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
  """Says in a few words why: for an error of the operating system its own, wherever it is named."""
  text = " ".join(str(error).split())
  for code in (*OF_MACHINE, errno.EFBIG, errno.EROFS, errno.EDQUOT, errno.ENOENT):
    if os.strerror(code) in text:
      return os.strerror(code)
  if isinstance(error, DamagedError):
    return f"what was written there cannot be read again: {text}"
  return f"{type(error).__name__}: {text[:120]}"
