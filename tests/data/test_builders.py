"""Preparing data sets: our builders, and everything that can go wrong."""

import gzip
import importlib.util
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds

from aevb_jax.data.builders import BUILDERS, BinarizedMnist, FreyFace, Omniglot28x28
from aevb_jax.data.prepare import prepare
from aevb_jax.errors import DataError
from aevb_jax.locks import exclusive
from tests.support import tiny

ROOT = pathlib.Path(__file__).parents[2]
REAL = pathlib.Path(os.environ.get("AEVB_JAX_TEST_DATA", "nowhere"))
needs_real_data = pytest.mark.skipif(
  not REAL.exists(), reason="real data: AEVB_JAX_TEST_DATA names no directory"
)


def contents(directory):
  return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def prepared_sets(directory):
  """Returns the directories that a later run would take for prepared sets."""
  return [path for path in directory.rglob("dataset_info.json") if "incomplete" not in str(path)]


def test_idx_files_from_a_server_to_a_prepared_set(tmp_path):
  with tiny.server(tiny.files()) as (address, asked):
    builder = tiny.builder(tmp_path, address)
    prepare(builder)
    prepare(builder)
  assert sorted(asked) == sorted(tiny.NAMES)
  train_images, train_labels, test_images, test_labels = tiny.arrays()
  splits = tiny.read(builder)
  for split, images, labels in (
    ("train", train_images, train_labels),
    ("test", test_images, test_labels),
  ):
    # TFDS shuffles, so the pairs are compared in the order of their bytes.
    expected = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels))
    assert sorted((image.tobytes(), int(label)) for image, label in splits[split]) == expected
  assert builder.info.file_format.value == "array_record"


def test_files_in_the_manual_directory_need_no_network(tmp_path):
  manual = tmp_path / "manual"
  manual.mkdir()
  for name, body in tiny.files().items():
    (manual / name).write_bytes(body)
  builder = tiny.builder(tmp_path / "tfds")
  prepare(builder, manual_dir=str(manual))
  assert builder.is_prepared()


IMAGES, LABELS = tiny.arrays()[:2]


def packed(array, **kwargs):
  return gzip.compress(tiny.idx(array, **kwargs))


@pytest.mark.parametrize(
  "changes, words",
  [
    ({tiny.NAMES[0]: tiny.files()[tiny.NAMES[0]][:-9]}, ["images-idx3", "cut short"]),
    ({tiny.NAMES[0]: packed(IMAGES, kind=0x0D)}, ["images-idx3", "magic number 0x00000d03"]),
    ({tiny.NAMES[0]: packed(IMAGES[:, :14])}, ["(14, 28, 1)", "(28, 28, 1)", "images-idx3"]),
    ({tiny.NAMES[0]: packed(IMAGES[:0]), tiny.NAMES[1]: packed(LABELS[:0])}, ["no images"]),
    ({tiny.NAMES[1]: packed(LABELS[:-1])}, ["40 images but 39 labels", "labels-idx1"]),
    ({tiny.NAMES[1]: packed(LABELS + 7)}, ["label 16", "0 to 9"]),
    ({tiny.NAMES[1]: None}, ["train-labels-idx1-ubyte.gz", "404"]),
  ],
  ids=["truncated", "magic", "shape", "empty", "fewer labels", "labels", "labels missing"],
)
def test_files_that_are_wrong(tmp_path, changes, words):
  served = {name: body for name, body in (tiny.files() | changes).items() if body is not None}
  with tiny.server(served) as (address, _):
    builder = tiny.builder(tmp_path, address, check=False)
    with pytest.raises(DataError) as error:
      prepare(builder)
  for word in words:
    assert word in str(error.value)
  assert not builder.is_prepared() and not prepared_sets(tmp_path)
  with tiny.server(tiny.files()) as (address, _):  # the right files repair it
    right = tiny.builder(tmp_path, address)
    prepare(right)
  assert len(tiny.read(right)["train"]) == 40


def test_a_wrong_checksum_is_never_prepared(tmp_path):
  other = gzip.compress(tiny.idx(255 - IMAGES))
  with tiny.server(tiny.files() | {tiny.NAMES[0]: other}) as (address, _):
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz.*sha256"):
      prepare(tiny.builder(tmp_path, address))
  assert not prepared_sets(tmp_path)


def test_what_a_killed_process_left_is_not_read_and_is_removed(tmp_path):
  leftover = tmp_path / "tiny" / "incomplete.ABC123_3.0.1"
  leftover.mkdir(parents=True)
  (leftover / "dataset_info.json").write_text("{}")
  os.utime(leftover, (0, 0))
  with tiny.server(tiny.files()) as (address, _):
    prepare(tiny.builder(tmp_path, address))
  assert contents(tmp_path / "tiny")[:2] == [".preparing", "3.0.1"]
  assert not leftover.exists()


def test_killed_while_it_prepares(tmp_path):
  with tiny.server(tiny.files(), "stall") as (address, asked):
    process = subprocess.Popen(
      [sys.executable, "-m", "tests.support.tiny", tmp_path, address], cwd=ROOT
    )
    while not asked and process.poll() is None:
      pass
    process.kill()
    process.wait()
  assert asked and not prepared_sets(tmp_path)
  with tiny.server(tiny.files()) as (address, _):  # its lock was released
    builder = tiny.builder(tmp_path, address)
    prepare(builder, wait=0)
  assert builder.is_prepared()


def test_two_processes_prepare_at_once(tmp_path):
  with tiny.server(tiny.files()) as (address, asked):
    command = [sys.executable, "-m", "tests.support.tiny", tmp_path, address]
    pipes = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    results = [process.communicate(timeout=120) for process in processes]
  assert [process.returncode for process in processes] == [0, 0, 0], results
  assert {out.strip() for out, _ in results} == {str(sum(a.sum() for a in tiny.arrays()[::2]))}
  assert sorted(asked) == sorted(tiny.NAMES)  # only one process downloaded
  assert contents(tmp_path / "tiny")[:2] == [".preparing", "3.0.1"]


def test_prepared_by_another_before_this_one_looked(tmp_path):
  with tiny.server(tiny.files()) as (address, _):
    early = tiny.builder(tmp_path, address)
    prepare(tiny.builder(tmp_path, address))
    prepare(early)
  assert [len(images) for images in tiny.read(early).values()] == [
    len(images) for images in tiny.read(tiny.builder(tmp_path)).values()
  ]


def test_waiting_for_another_process_ends(tmp_path, caplog):
  builder = tiny.builder(tmp_path)
  (tmp_path / "tiny").mkdir()
  with exclusive(tmp_path / "tiny" / ".preparing", "preparing", wait=0):
    with pytest.raises(DataError, match="was not done in 0.3 s; wait for it or end it") as error:
      prepare(builder, wait=0.3)
  holder = f"process {os.getpid()} on"
  for text in (str(error.value), caplog.text):
    assert holder in text and str(tmp_path / "tiny" / ".preparing") in text
  assert not prepared_sets(tmp_path)


def test_a_data_directory_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(DataError, match="tiny cannot be prepared in .*file.*can be written"):
    prepare(tiny.builder(tmp_path / "file"))


def test_a_full_disk(tmp_path):
  program = f"""
    import pathlib, resource, sys
    from aevb_jax.data.prepare import prepare
    from aevb_jax.errors import DataError
    from tests.support import tiny
    with tiny.server(tiny.files()) as (address, _):
      builder = tiny.builder({str(tmp_path)!r}, address)
      resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
      try:
        prepare(builder)
      except DataError as error:
        print(error)
      resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
      prepare(builder)
      print(len(tiny.read(builder)["train"]))
  """
  for limit in (10_000, 40_000):  # reached by the download, by the records
    result = subprocess.run(
      [sys.executable, "-c", textwrap.dedent(program), str(limit)],
      cwd=ROOT,
      capture_output=True,
      text=True,
    )
    assert result.returncode == 0, result.stderr
    error, count = result.stdout.splitlines()
    assert "tiny cannot be prepared in" in error and "make room" in error and count == "40"
    for path in sorted(tmp_path.rglob("*"), reverse=True):
      path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is here")
def test_a_set_that_needs_tensorflow_to_be_prepared_says_so(tmp_path):
  class NeedsTensorflow(tiny.builder(tmp_path).__class__, skip_registration=True):
    name = "needs_tensorflow"

    def _generate_examples(self, split):
      for i, image in enumerate(split.images):
        yield i, {"image": image, "label": 0}  # TFDS encodes the array with TensorFlow

  with tiny.server(tiny.files()) as (address, _):
    builder = NeedsTensorflow(data_dir=str(tmp_path))
    builder.mirror = address
    with pytest.raises(DataError, match="needs TensorFlow, though reading it does not") as error:
      prepare(builder)
  assert "tfds.builder('needs_tensorflow:3.0.1', data_dir=" in str(error.value)
  assert not prepared_sets(tmp_path)


def test_a_set_of_tfds_without_a_network(tmp_path):
  class Elsewhere(tiny.builder(tmp_path).__class__, skip_registration=True):
    name = "elsewhere"
    url_infos = {"http://127.0.0.1:9/images.zip": None}  # as TFDS's own builders have

  with pytest.raises(DataError, match="127.0.0.1:9/images.zip cannot be reached"):
    prepare(Elsewhere(data_dir=str(tmp_path)))


def test_files_in_tfds_own_manual_directory(tmp_path):
  manual = tmp_path / "downloads" / "manual"
  manual.mkdir(parents=True)
  for name, body in tiny.files().items():
    (manual / name).write_bytes(body)
  prepare(tiny.builder(tmp_path))
  assert prepared_sets(tmp_path)


def test_frey_face_columns_are_images_in_rows(tmp_path):
  class TinyFrey(FreyFace, skip_registration=True):
    name = "tiny_frey"
    files = tuple(file._replace(digest=None) for file in FreyFace.files)

  frames = np.random.default_rng(0).integers(0, 256, size=(1965, 28, 20), dtype=np.uint8)
  (tmp_path / "manual").mkdir()
  mat = {"ff": frames.reshape(1965, 560).T}
  scipy.io.savemat(tmp_path / "manual" / "frey_rawface.mat", mat)
  builder = TinyFrey(data_dir=str(tmp_path), file_format="array_record")
  prepare(builder, manual_dir=str(tmp_path / "manual"))
  source = builder.as_data_source("train")
  assert len(source) == 1965
  for i in (0, 1, 1000, 1964):  # in the order of the video
    np.testing.assert_array_equal(source[i]["image"][..., 0], frames[i])


def test_omniglot_columns_are_images_in_columns(tmp_path):
  class TinyOmniglot(Omniglot28x28, skip_registration=True):
    name = "tiny_omniglot"
    num_images = {"train": 6, "test": 4}
    files = tuple(file._replace(digest=None) for file in Omniglot28x28.files)

  rng = np.random.default_rng(0)
  images = {"train": rng.uniform(size=(6, 28, 28)), "test": rng.uniform(size=(4, 28, 28))}
  alphabets = {"train": rng.integers(0, 50, size=6), "test": rng.integers(0, 50, size=4)}
  matrices = {
    f"{prefix}{name}": matrix
    for split, prefix in (("train", ""), ("test", "test"))
    for name, matrix in (
      ("data", np.stack([image.ravel(order="F") for image in images[split]], axis=1)),
      ("target", np.eye(50)[:, alphabets[split]]),
    )
  }
  (tmp_path / "manual").mkdir()
  scipy.io.savemat(tmp_path / "manual" / "chardata.mat", matrices)
  builder = TinyOmniglot(data_dir=str(tmp_path), file_format="array_record")
  prepare(builder, manual_dir=str(tmp_path / "manual"))
  for split in ("train", "test"):
    for i, example in enumerate(builder.as_data_source(split)):
      np.testing.assert_array_equal(example["image"][..., 0], images[split][i].astype(np.float32))
      assert example["label"] == alphabets[split][i]


def test_static_binarized_mnist(tmp_path):
  class TinyBinarized(BinarizedMnist, skip_registration=True):
    name = "tiny_binarized"
    files = tuple(file._replace(digest=None) for file in BinarizedMnist.files)

  rng = np.random.default_rng(0)
  bits = {name: rng.integers(0, 2, size=(5, 784)) for name in ("train", "valid", "test")}
  (tmp_path / "manual").mkdir()
  for name, array in bits.items():
    np.savetxt(tmp_path / "manual" / f"binarized_mnist_{name}.amat", array, fmt="%d")
  builder = TinyBinarized(data_dir=str(tmp_path), file_format="array_record")
  prepare(builder, manual_dir=str(tmp_path / "manual"))
  for split, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
    found = {example["image"].tobytes() for example in builder.as_data_source(split)}
    assert found == {row.astype(np.uint8).tobytes() for row in bits[name]}


@pytest.mark.parametrize("name", BUILDERS)
def test_a_builder_says_what_it_is(name, tmp_path):
  builder = BUILDERS[name](data_dir=str(tmp_path))
  assert builder.name == name and builder.info.features["image"].shape == builder.image_shape
  for text in (builder.description, builder.homepage, builder.license, builder.citation):
    assert text
  for file in builder.files:
    algorithm, digest = file.digest.split(":")
    assert len(digest) == {"sha256": 64, "md5": 32}[algorithm] and file.addresses


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "binarized_mnist"])
def test_tfds_reads_what_our_builders_prepare(name, tmp_path):
  ours, theirs = BUILDERS[name](data_dir=str(tmp_path)), tfds.builder(name, data_dir=str(tmp_path))
  assert str(ours.version) == str(theirs.version) and str(ours.data_path) == str(theirs.data_path)
  assert set(ours.info.features) == set(theirs.info.features)
  for key, feature in ours.info.features.items():
    assert type(feature) is type(theirs.info.features[key])
    assert (feature.shape, feature.np_dtype) == (
      theirs.info.features[key].shape,
      theirs.info.features[key].np_dtype,
    )


@needs_real_data
def test_real_mnist_is_what_tfds_prepares_in_the_same_order(tmp_path):
  bodies = {path.name: path.read_bytes() for path in (REAL / "mnist").iterdir()}
  with tiny.server(bodies) as (address, _):
    builder = BUILDERS["mnist"](data_dir=str(tmp_path), file_format="array_record")
    builder.mirror = address
    prepare(builder)
  theirs = tfds.builder_from_directory(REAL / "tfds" / "mnist" / "3.0.1")
  for split, size in (("train", 60_000), ("test", 10_000)):
    ours, expected = builder.as_data_source(split), theirs.as_data_source(split)
    assert len(ours) == len(expected) == size
    for i in range(0, size, 499):
      np.testing.assert_array_equal(ours[i]["image"], expected[i]["image"])
      assert ours[i]["label"] == expected[i]["label"]


@needs_real_data
def test_real_frey_face(tmp_path):
  body = (REAL / "frey_face" / "frey_rawface.mat").read_bytes()
  with tiny.server({"frey_rawface.mat": body}) as (address, _):
    builder = BUILDERS["frey_face"](data_dir=str(tmp_path), file_format="array_record")
    builder.mirror = address
    prepare(builder)
  frames = np.stack([example["image"] for example in builder.as_data_source("train")])
  assert frames.shape == (1965, 28, 20, 1) and frames.dtype == np.uint8
  assert frames.min() == 8 and frames.max() == 238
  # The frames are one video: a frame is much closer to the next frame than to others.
  x = frames.reshape(1965, -1).astype(float)
  order = np.random.default_rng(0).permutation(1965)
  assert np.abs(x[1:] - x[:-1]).mean() < 0.6 * np.abs(x[order[1:]] - x[order[:-1]]).mean()
