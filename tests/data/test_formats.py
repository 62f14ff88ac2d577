"""IDX, amat and MATLAB files, whole and damaged."""

import gzip
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.io

from aevb_jax.data import formats
from aevb_jax.errors import DataError
from tests.support import tiny

ROOT = pathlib.Path(__file__).parents[2]
IMAGES = tiny.arrays()[0]


def write(path, contents):
  path.write_bytes(contents)
  return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path, suffix):
  contents = tiny.idx(IMAGES)
  path = write(tmp_path / f"images{suffix}", gzip.compress(contents) if suffix else contents)
  np.testing.assert_array_equal(formats.read_idx(path, 3), IMAGES)


@pytest.mark.parametrize(
  "contents, words",
  [
    (tiny.idx(IMAGES)[:-1], "declares 40 × 28 × 28 bytes but holds 31359"),
    (tiny.idx(IMAGES) + b"x", "declares 40 × 28 × 28 bytes but holds more"),
    (tiny.idx(IMAGES[:, 0]), "magic number 0x00000802, not 0x00000803"),
    (tiny.idx(IMAGES, kind=0x0D), "magic number 0x00000d03, not 0x00000803"),
    (b"<!DOCTYPE html><html>", "magic number 0x3c21444f"),
    (b"\x00\x00\x08\x03\x00", "not an IDX file"),
    (b"", "not an IDX file"),
  ],
  ids=["short", "long", "axes", "type", "html", "header", "empty"],
)
def test_what_is_no_idx_file(tmp_path, contents, words):
  path = write(tmp_path / "images", contents)
  with pytest.raises(DataError, match=words) as error:
    formats.read_idx(path, 3)
  assert str(path) in str(error.value)


@pytest.mark.parametrize(
  "damage, words",
  [
    (lambda packed: packed[:-20], "cut short"),
    (lambda packed: b"not gzip at all", "not an intact gzip file"),
    (lambda packed: packed[:1000] + bytes(100) + packed[1100:], "not an intact gzip file"),
    (lambda packed: packed[:-8] + bytes(8), "not an intact gzip file"),  # gzip's own checksum
  ],
  ids=["truncated", "other", "altered", "crc"],
)
def test_a_damaged_gzip_file(tmp_path, damage, words):
  path = write(tmp_path / "images.gz", damage(gzip.compress(tiny.idx(IMAGES))))
  with pytest.raises(DataError, match=words) as error:
    formats.read_idx(path, 3)
  assert str(path) in str(error.value)


def test_a_header_that_promises_too_much_is_refused_before_anything_is_unpacked(tmp_path):
  path = write(tmp_path / "images", b"\0\0\x08\x03" + 3 * b"\xff\xff\xff\xff")
  with pytest.raises(DataError, match=r"declares 4294967295 × .* bytes, more than the 1073741824"):
    formats.read_idx(path, 3)
  path = write(tmp_path / "images", tiny.idx(IMAGES))
  with pytest.raises(DataError, match="declares 40 × 28 × 28 bytes, more than the 1000"):
    formats.read_idx(path, 3, most=1000)
  np.testing.assert_array_equal(formats.read_idx(path, 3, most=16 + IMAGES.size), IMAGES)


@pytest.mark.parametrize(
  "read",
  [
    lambda path: formats.read_idx(path, 3),
    lambda path: formats.read_amat(path, 3),
    lambda path: formats.read_mat(path, {"ff": (2, 3)}),
  ],
  ids=["idx", "amat", "mat"],
)
def test_a_pipe_is_not_waited_for(tmp_path, read):
  os.mkfifo(tmp_path / "file")
  with pytest.raises(DataError, match="file cannot be read .it is not a regular file."):
    read(tmp_path / "file")


UNPACKING = """
import pathlib, resource, sys
from aevb_jax.data import downloads, formats
from aevb_jax.data.builders import BUILDERS
from aevb_jax.errors import DataError
path, peak = pathlib.Path(sys.argv[1]), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
file = BUILDERS["mnist"].files[0]
by_contents = lambda: print(downloads.mismatch(file, path))
by_file = lambda: print(downloads.mismatch(file._replace(of_contents=False), path))
as_idx = lambda: formats.read_idx(path, 3, most=file.size)
before = peak()
for read in (by_contents, by_file, as_idx):
  try:
    read()
  except DataError as error:
    print(error)
print(peak() - before)
"""


def test_a_file_that_unpacks_to_much_more_than_it_should_takes_no_memory(tmp_path):
  path = tmp_path / "train-images-idx3-ubyte.gz"
  header = b"\0\0\x08\x03" + np.asarray((60_000, 28, 28), ">u4").tobytes()
  path.write_bytes(gzip.compress(header) + 10 * gzip.compress(bytes(50 * 2**20)))  # 500 MiB
  assert path.stat().st_size < 10**6
  asked = [sys.executable, "-c", UNPACKING, str(path)]
  result = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=200)
  assert result.returncode == 0, result.stderr
  *lines, kilobytes = result.stdout.splitlines()
  assert lines[0] == "unpacks to more than the 47040016 bytes that it should hold"
  assert lines[1].startswith("has sha256 ") and f"({path.stat().st_size} bytes)" in lines[1]
  assert lines[2] == f"{path} declares 60000 × 28 × 28 bytes but holds more"
  assert int(kilobytes) < 120 * 2**10  # an intact file takes 47 MB, and as much again to read it


def test_amat(tmp_path):
  bits = np.random.default_rng(0).integers(0, 2, size=(5, 12))
  path = tmp_path / "images.amat"
  np.savetxt(path, bits, fmt="%d")
  np.testing.assert_array_equal(formats.read_amat(path, 12), bits)


@pytest.mark.parametrize(
  "text, words",
  [
    ("", "not made of lines"),
    ("0 1 0\n1 1\n", "not made of lines"),
    ("0 2 0\n", "something other"),
    ("0 1 0\n0,1 0\n", "something other"),
    ("0 1 0 0 1 0 ", "something other"),
    ("/ 1 0\n", "something other"),
  ],
)
def test_what_is_no_amat_file(tmp_path, text, words):
  path = write(tmp_path / "images.amat", text.encode())
  with pytest.raises(DataError, match=words) as error:
    formats.read_amat(path, 3)
  assert str(path) in str(error.value)


def test_mat(tmp_path):
  matrix = np.arange(6, dtype=np.uint8).reshape(2, 3)
  scipy.io.savemat(tmp_path / "m.mat", {"ff": matrix, "other": np.zeros(3)})
  found = formats.read_mat(tmp_path / "m.mat", {"ff": (2, 3)})
  np.testing.assert_array_equal(found["ff"], matrix)
  with pytest.raises(DataError, match=r"m.mat: 'ff' is of shape \(2, 3\), not \(3, 2\)"):
    formats.read_mat(tmp_path / "m.mat", {"ff": (3, 2)})
  with pytest.raises(DataError, match="m.mat has no matrix 'gg'"):
    formats.read_mat(tmp_path / "m.mat", {"gg": (2, 3)})


@pytest.mark.parametrize("part", [slice(0, 150), slice(0, 60), slice(0, 0)])
def test_a_damaged_mat_file(tmp_path, part):
  matrix = np.random.default_rng(0).integers(0, 256, size=(20, 30), dtype=np.uint8)
  scipy.io.savemat(tmp_path / "m.mat", {"ff": matrix})
  path = write(tmp_path / "cut.mat", (tmp_path / "m.mat").read_bytes()[part])
  with pytest.raises(DataError, match="cut.mat is not an intact MATLAB file"):
    formats.read_mat(path, {"ff": (20, 30)})
