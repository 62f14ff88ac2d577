"""Files from the network, each checked against a known checksum before it is used."""

import contextlib
import hashlib
import os
import pathlib
import urllib.parse
from typing import NamedTuple

from aevb_jax import disk
from aevb_jax.data import formats
from aevb_jax.errors import DataError

TIMEOUT = 30.0  # seconds without a byte from the server
BLOCK = 1 << 20


class RemoteFile(NamedTuple):
  """A file by its name, the addresses that serve it, and its checksum."""

  name: str
  addresses: tuple[str, ...]  # directories that have the file, tried in turn
  digest: str | None  # "sha256:..." or "md5:..."; None accepts any contents
  of_contents: bool = False  # whether the digest is of the unpacked gzip file
  size: int = formats.MOST_BYTES  # bytes of the contents; no more are unpacked


def is_address(text: str) -> bool:
  """Reports whether a text is an address that files can be downloaded from."""
  try:
    parts = urllib.parse.urlsplit(text)
  except ValueError:
    return False
  return parts.scheme in ("http", "https") and bool(parts.hostname)


def find(
  file: RemoteFile,
  manual_dir: pathlib.Path,
  download_dir: pathlib.Path,
  *,
  mirror: str | None = None,
  timeout: float = TIMEOUT,
) -> pathlib.Path:
  """Returns the path of a file, and downloads the file if necessary.

  Args:
    file: the file.
    manual_dir: a directory in which a user may have put the file; it is then not downloaded.
    download_dir: the directory that the file is downloaded to, whole or not at all.
    mirror: address of a directory to download from instead of the file's own addresses.
    timeout: seconds to wait for a server that sends nothing.

  Returns:
    The path of a file whose checksum is right.

  Raises:
    DataError: if the file in `manual_dir` is not the right one, or the download fails.
    OSError: if the download cannot be written.
  """
  path = manual_dir / file.name
  if path.exists():
    if wrong := mismatch(file, path):
      raise DataError(f"{path} {wrong}; put the right file in its place, or remove it")
    return path
  path = download_dir / file.name
  if path.exists() and not mismatch(file, path):
    return path
  failures = []
  for address in (mirror,) if mirror else file.addresses:
    url = f"{address.rstrip('/')}/{file.name}"
    try:
      _download(file, url, path, timeout)
      return path
    except DataError as error:
      failures.append(f"{url}: {error}")
  raise DataError(
    f"{file.name} could not be downloaded ({'; '.join(failures)}); try again, or get it by other "
    f"means and put it into {manual_dir}"
  )


def mismatch(file: RemoteFile, path: pathlib.Path) -> str | None:
  """Describes what is wrong with a file of this name, in words that follow its path.

  The file is read block by block, and no more bytes are unpacked than its contents should have.

  Returns:
    The words, or None if the file is the right one.
  """
  if file.digest is None:
    return None
  algorithm, _, expected = file.digest.partition(":")
  digest = hashlib.new(algorithm)
  try:
    with disk.read(path, "rb") as packed:
      on_disk = os.fstat(packed.fileno()).st_size
      num_bytes = 0
      with formats.opened(path) if file.of_contents else contextlib.nullcontext(packed) as contents:
        while block := contents.read(BLOCK):
          num_bytes += len(block)
          if file.of_contents and num_bytes > file.size:
            return f"unpacks to more than the {file.size} bytes that it should hold"
          digest.update(block)
  except DataError:
    return f"is cut short or damaged ({on_disk} bytes)"
  except OSError as error:
    return f"cannot be read ({error.strerror or error})"
  if digest.hexdigest() == expected:
    return None
  held = "holds something with " if file.of_contents else "has "
  return f"{held}{algorithm} {digest.hexdigest()} ({on_disk} bytes), not {expected}"


def _download(file: RemoteFile, url: str, path: pathlib.Path, timeout: float) -> None:
  """Downloads a file to `path`; leaves nothing there if the download is not the right file."""
  import requests
  from tqdm import tqdm

  path.parent.mkdir(parents=True, exist_ok=True)
  for leftover in path.parent.glob(f"partial-*-{path.name}"):  # left by a process that was killed
    leftover.unlink(missing_ok=True)
  partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
  as_it_is = {"Accept-Encoding": "identity"}  # the .gz file itself, not its contents
  try:
    with requests.get(url, stream=True, timeout=timeout, headers=as_it_is) as response:
      response.raise_for_status()
      size = int(response.headers.get("Content-Length", 0)) or None
      bar = tqdm(total=size, desc=file.name, unit="B", unit_scale=True, disable=None, leave=False)
      with bar, disk.create(partial, "wb") as output:
        for block in response.iter_content(BLOCK):
          output.write(block)
          bar.update(len(block))
    if wrong := mismatch(file, partial):
      raise DataError(f"what came {wrong}")
    os.replace(partial, path)
  except requests.HTTPError as error:
    raise DataError(f"the server answered {response.status_code} {response.reason}") from error
  except requests.RequestException as error:
    raise DataError(_what_broke(error, timeout)) from error
  finally:
    partial.unlink(missing_ok=True)


def _what_broke(error: Exception, timeout: float) -> str:
  import requests
  from urllib3.exceptions import ReadTimeoutError

  # requests turns a timeout in the middle of a body into a ConnectionError.
  cause = error.args[0] if error.args else None
  if isinstance(error, requests.Timeout) or isinstance(cause, ReadTimeoutError):
    return f"nothing came for {timeout:g} s"
  if isinstance(error, requests.exceptions.ChunkedEncodingError):
    return "the connection was cut before the end"
  if isinstance(error, requests.ConnectionError):
    return "no connection; is there a network?"
  return str(error)
