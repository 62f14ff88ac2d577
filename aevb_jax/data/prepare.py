"""Preparation of a TensorFlow Datasets set: whole or not at all, by one process at a time."""

import contextlib
import errno
import io
import logging
import os
import pathlib
import shutil
import sys
import time

import tensorflow_datasets as tfds

from aevb_jax.errors import DataError
from aevb_jax.locks import exclusive

LOGGER = logging.getLogger(__name__)
LEFTOVER_SECONDS = 24 * 3600


def prepare(
  builder: tfds.core.DatasetBuilder,
  *,
  manual_dir: str | None = None,
  wait: float = 600.0,
) -> None:
  """Downloads and prepares a data set as array_record, whole or not at all.

  Does nothing if the set is prepared already. Waits if another process is preparing it.

  Args:
    builder: a builder of `data.builders`, or any TFDS builder.
    manual_dir: directory with files that need not be downloaded; None for TFDS's.
    wait: seconds to wait for another process.

  Raises:
    DataError: if the set cannot be obtained or written, or needs TensorFlow; the message
      names the file and what to do.
  """
  root = pathlib.Path(builder.data_dir).parent  # holds all versions of the set
  try:
    if not builder.is_prepared():
      root.mkdir(parents=True, exist_ok=True)
      with exclusive(root / ".preparing", f"preparing {builder.name} in {root}", wait):
        if not builder.is_prepared():
          _prepare(builder, root, manual_dir)
    if not builder.info.initialized:  # prepared by another process after `builder` was made
      builder.info.read_from_directory(builder.data_path)
  except DataError:
    raise
  except Exception as error:  # raised by the file system, array_record or TFDS
    what = " ".join(str(error).split())
    raise DataError(
      f"{builder.name} cannot be prepared in {root} ({what}){_remedy(error)}"
    ) from error


def _remedy(error: Exception) -> str:
  """Returns what to do about an error, as the end of its message."""
  what = str(error)
  if any(os.strerror(code) in what for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
    return "; make room there"
  if isinstance(error, PermissionError):
    return "; check its permissions, or name another directory"
  if isinstance(error, OSError):
    return "; name a directory that can be written (--data_dir)"
  return ""


def _prepare(builder: tfds.core.DatasetBuilder, root: pathlib.Path, manual_dir: str | None) -> None:
  for leftover in root.glob("incomplete.*"):  # left by a killed process, not by a running one
    if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
      shutil.rmtree(leftover, ignore_errors=True)
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  LOGGER.info("preparing %s in %s; this is done once", builder.name, root)
  if manual_dir is None:
    _check_network(builder)
  config = tfds.download.DownloadConfig(try_download_gcs=False, manual_dir=manual_dir)
  try:
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints; this package logs
      builder.download_and_prepare(download_config=config, file_format="array_record")
  except ImportError as error:
    if "tensorflow" not in str(error).lower():
      raise
    raise DataError(
      f"preparing {builder.name!r} needs TensorFlow, though reading it does not: where there is a "
      "network, python -m venv tf && tf/bin/pip install tensorflow tensorflow-datasets "
      'importlib_resources && tf/bin/python -c "import tensorflow_datasets as tfds; '
      f"tfds.builder('{_name(builder)}', data_dir='{builder.data_dir_root}')"
      ".download_and_prepare(file_format='array_record')\""
    ) from error


def _check_network(builder: tfds.core.DatasetBuilder) -> None:
  """Raises DataError at once if there is no network; TFDS would retry for ten minutes."""
  import requests

  downloads = pathlib.Path(builder.data_dir_root, "downloads")
  urls = [url for url in builder.url_infos or () if url.startswith("http")]
  records = [path.read_text(errors="replace") for path in downloads.rglob("*.INFO")]
  if not urls or any(url in record for url in urls for record in records):
    return  # TFDS has some of its files
  try:
    requests.head(urls[0], timeout=10)
  except (requests.ConnectionError, requests.Timeout) as error:
    raise DataError(f"{urls[0]} cannot be reached; is there a network?") from error


def _name(builder: tfds.core.DatasetBuilder) -> str:
  config = f"/{builder.builder_config.name}" if builder.builder_config else ""
  return f"{builder.name}{config}:{builder.version}"
