"""Downloads by the real client from a server on 127.0.0.1, which works or fails."""

import gzip
import hashlib
import os
import socket

import pytest

from aevb_jax.data import downloads
from aevb_jax.data.downloads import RemoteFile
from aevb_jax.errors import DataError
from tests.support.tiny import server

BODY = gzip.compress(bytes(range(256)) * 2000, mtime=0)
NAME = "images.gz"


def remote(address, body=BODY, **kwargs):
  return RemoteFile(NAME, (address,), f"sha256:{hashlib.sha256(body).hexdigest()}", **kwargs)


def find(file, tmp_path, **kwargs):
  return downloads.find(file, tmp_path / "manual", tmp_path / "downloads", timeout=0.5, **kwargs)


def left_behind(tmp_path):
  return [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once(tmp_path):
  with server({NAME: BODY}) as (address, asked):
    path = find(remote(address), tmp_path)
    assert path.read_bytes() == BODY and left_behind(tmp_path) == [path]
    assert find(remote(address), tmp_path) == path
    assert asked == [NAME]
    path.write_bytes(BODY[:-1])  # damaged since, so downloaded again
    assert find(remote(address), tmp_path).read_bytes() == BODY
    assert asked == [NAME, NAME]


def test_a_checksum_may_be_of_the_contents(tmp_path):
  contents = gzip.decompress(BODY)
  digest = f"md5:{hashlib.md5(contents).hexdigest()}"
  recompressed = gzip.compress(contents, compresslevel=1)
  assert recompressed != BODY
  with server({NAME: recompressed}) as (address, _):
    file = RemoteFile(NAME, (address,), digest, of_contents=True)
    assert find(file, tmp_path).read_bytes() == recompressed
  with server({NAME: recompressed[:-30]}) as (address, _):
    with pytest.raises(DataError, match="cut short or damaged"):
      find(RemoteFile(NAME, (address,), digest, of_contents=True), tmp_path / "other")


def test_contents_are_unpacked_to_their_size_and_no_further(tmp_path):
  contents = gzip.decompress(BODY)
  right = dict(digest=f"md5:{hashlib.md5(contents).hexdigest()}", of_contents=True)
  (tmp_path / "manual").mkdir()
  mine = tmp_path / "manual" / NAME
  mine.write_bytes(BODY)
  assert find(RemoteFile(NAME, (), **right, size=len(contents)), tmp_path) == mine
  with pytest.raises(DataError, match=f"{NAME} unpacks to more than the 511999 bytes"):
    find(RemoteFile(NAME, (), **right, size=len(contents) - 1), tmp_path)


@pytest.mark.parametrize("of_contents", [False, True])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, of_contents):
  for name in ("manual", "downloads"):
    (tmp_path / name).mkdir()
  os.mkfifo(tmp_path / "manual" / NAME)
  with server({NAME: BODY}) as (address, asked):
    contents = gzip.decompress(BODY) if of_contents else BODY
    file = remote(address, contents, of_contents=of_contents)
    with pytest.raises(DataError, match="cannot be read .it is not a regular file.; put the right"):
      find(file, tmp_path)
    (tmp_path / "manual" / NAME).rename(tmp_path / "downloads" / NAME)
    assert asked == []
    assert find(file, tmp_path).read_bytes() == BODY  # it is replaced by a download


def test_the_next_address_is_tried(tmp_path):
  with server({}, 500) as (broken, _), server({NAME: BODY}) as (address, _):
    file = remote(broken)._replace(addresses=(broken, address))
    assert find(file, tmp_path).read_bytes() == BODY


def test_a_mirror_stands_for_all_addresses(tmp_path):
  with server({NAME: BODY}) as (address, asked):
    find(remote("http://127.0.0.1:9"), tmp_path, mirror=address)
    assert asked == [NAME]


@pytest.mark.parametrize(
  "behaviour, words",
  [
    (404, "answered 404 Not Found"),
    (500, "answered 500 Internal Server Error"),
    ("silent", "nothing came for 0.5 s"),
    ("stall", "nothing came for 0.5 s"),
    ("cut", "cut before the end"),
  ],
)
def test_a_server_that_fails(tmp_path, behaviour, words):
  with server({NAME: BODY}, behaviour) as (address, _):
    with pytest.raises(DataError, match=words) as error:
      find(remote(address), tmp_path)
  message = str(error.value)
  assert f"{address}/{NAME}" in message and str(tmp_path / "manual") in message
  assert not left_behind(tmp_path)


def test_a_server_that_sends_something_else(tmp_path):
  wrong = b"<html>Please log in</html>"
  with server({NAME: wrong}) as (address, _):
    with pytest.raises(DataError) as error:
      find(remote(address), tmp_path)
  message = str(error.value)
  assert hashlib.sha256(wrong).hexdigest() in message and "(26 bytes)" in message
  assert hashlib.sha256(BODY).hexdigest() in message and not left_behind(tmp_path)


def test_no_network(tmp_path):
  with socket.socket() as unused:
    unused.bind(("127.0.0.1", 0))
    port = unused.getsockname()[1]
  with pytest.raises(DataError, match="no connection; is there a network"):
    find(remote(f"http://127.0.0.1:{port}"), tmp_path)


def test_a_file_that_the_user_has_is_not_downloaded(tmp_path):
  (tmp_path / "manual").mkdir()
  mine = tmp_path / "manual" / NAME
  mine.write_bytes(BODY)
  with server({NAME: BODY}) as (address, asked):
    assert find(remote(address), tmp_path) == mine and asked == []
    mine.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match="put the right file in its place, or remove it") as error:
      find(remote(address), tmp_path)
    assert str(mine) in str(error.value) and asked == []
  assert mine.exists()  # the file is the user's


def test_a_download_directory_that_cannot_be_written(tmp_path):
  (tmp_path / "downloads").write_text("a file")
  with server({NAME: BODY}) as (address, _):
    with pytest.raises(OSError, match="downloads"):
      find(remote(address), tmp_path)
