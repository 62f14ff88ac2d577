"""Loading of data sets by name: prepared if necessary, read or decoded, split; and a user's own."""

import difflib
import hashlib
import importlib.util
import json
import os
import pathlib
from typing import Any

import numpy as np

from aevb_jax import disk, names
from aevb_jax.data import array_cache, arrays, folders
from aevb_jax.data.image_data import ImageData, checked
from aevb_jax.data.protocols import PROTOCOLS, WHOLE, Protocol, absolute, kind_of, path_of
from aevb_jax.errors import DataError, NotPreparedError


def load(
  dataset: str,
  data_dir: str | None = None,
  *,
  cache_dir: str | None = None,
  manual_dir: str | None = None,
  mirror: str | None = None,
  prepare_any: bool = False,
  decode: bool = True,
) -> ImageData:
  """Loads a data set by name, and prepares it if necessary; reading needs no TensorFlow.

  Args:
    dataset: "digits"; a key of `PROTOCOLS`; arrays:FILE.npz (see `from_arrays`); images:FOLDER or
      images:FOLDER:seed=0:test=0.1:validation=0.1 (see `from_folder`); package.module:function, for
      a function that returns `ImageData`; or the name of any image data set of TFDS with splits
      train and test.
    data_dir: the directory in which TFDS prepares data sets; None for $TFDS_DATA_DIR or TFDS's
      default. The path of arrays: or images: may be relative to it.
    cache_dir: the directory that keeps decoded arrays, memory-mapped, for the next call; None
      keeps them only in memory.
    manual_dir: directory with files that need not be downloaded; None for TFDS's.
    mirror: address of a directory to download the files of `PROTOCOLS` from.
    prepare_any: True to prepare also sets that are not in `PROTOCOLS`, which may be large, or need
      TensorFlow.
    decode: False decodes images each time they are read, for a set larger than
      disk or memory; the labels of train are then missing.

  Returns:
    The images and labels of each split, as rows of pixels (N, D).

  Raises:
    DataError: if the set is unknown, or cannot be obtained or read; the message names
      the cause and says what to do.
    CacheError: if `cache_dir` cannot be written.
    NotPreparedError: if the set is not prepared in `data_dir` and `prepare_any` is False.
  """
  if dataset == "digits":
    return load_digits()
  if (kind := kind_of(dataset)) == "function":
    return _load_function(dataset)
  if kind in ("arrays", "images"):
    return _load_own(dataset, data_dir, cache_dir, decode)
  data_dir = absolute(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
  manual_dir = manual_dir and absolute(manual_dir)
  if dataset in PROTOCOLS:
    protocol = PROTOCOLS[dataset]
    prepared = pathlib.Path(data_dir, protocol.source, protocol.version)
    if not os.path.exists(prepared):  # or no permission to see it; preparing then reports it
      _prepare_own(protocol.source, data_dir, manual_dir, mirror)
  elif splits := [name for name in PROTOCOLS if name.startswith(f"{dataset}:")]:
    raise DataError(f"{dataset!r} is split in more than one way; name {' or '.join(splits)}")
  else:
    prepared = _tfds_directory(dataset, data_dir, manual_dir, prepare_any)
    protocol = _protocol_of_tfds(dataset, prepared)
  return _assemble(protocol, prepared, cache_dir, decode)


def _load_own(dataset: str, data_dir: str | None, cache_dir: str | None, decode: bool) -> ImageData:
  """Loads a user's own files."""
  path, arguments = path_of(dataset, data_dir)
  if kind_of(dataset) == "arrays":
    return arrays.load_npz(path, cache_dir)
  return folders.from_folder(path, **arguments, cache_dir=cache_dir, decode=decode)


def _load_function(dataset: str) -> ImageData:
  """Calls a user's function, and checks what it returns."""
  name = dataset
  try:
    name, arguments = names.split(dataset, ())
    images = names.call(names.load(name), takes="", arguments=arguments)
  except ValueError as error:
    raise DataError(f"{name} {error}") from error
  if not isinstance(images, ImageData):
    what = f"returns {type(images).__name__}"
    raise DataError(f"{name} {what}; ImageData is needed, as aevb_jax.data.from_arrays makes it")
  try:
    images = checked(images)
  except DataError as error:
    raise DataError(f"{name} returns ImageData in which {error}") from error
  version = images.version or _digest_of_module(name)
  return images._replace(version=version, protocol=images.protocol or "the splits of the function")


def _digest_of_module(name: str) -> str:
  """Returns a digest of the file of a user's function; "" if it has no file."""
  file = names.source_of(name)
  if file is None:
    return ""
  return f"{hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()[:12]} (of its module)"


def _prepare_own(source: str, data_dir: str, manual_dir: str | None, mirror: str | None) -> None:
  from aevb_jax.data.builders import BUILDERS
  from aevb_jax.data.prepare import prepare

  builder = BUILDERS[source](data_dir=data_dir, file_format="array_record")
  builder.mirror = mirror
  prepare(builder, manual_dir=manual_dir)


def _tfds_directory(
  dataset: str, data_dir: str, manual_dir: str | None, prepare_any: bool
) -> pathlib.Path:
  """Returns the directory where TFDS has prepared a set, and prepares the set if allowed."""
  import tensorflow_datasets as tfds

  from aevb_jax.data.prepare import prepare

  try:
    builder = tfds.builder(dataset, data_dir=data_dir)
  except (tfds.core.DatasetNotFoundError, ValueError, AssertionError, ImportError) as error:
    what = " ".join(str(error).split())
    no_name = what.startswith("Parsing builder name string")
    if no_name or isinstance(error, tfds.core.DatasetNotFoundError):
      raise DataError(_unknown(dataset, data_dir)) from error
    raise DataError(f"{dataset!r}: {what}") from error  # for example a version that does not exist
  except Exception as error:  # TFDS raises many kinds of error for damaged or unreadable files
    what = " ".join(str(error).split())
    raise DataError(f"{dataset!r} in {data_dir} cannot be read ({what})") from error
  if not builder.is_prepared():
    if not prepare_any:
      ours = [name for name in PROTOCOLS if name.startswith(f"{dataset}_")]
      raise NotPreparedError(
        f"{dataset!r} is not prepared in {builder.data_path}; "
        + (f"use {ours[0]}, " if ours else "")
        + "name a directory that has it, or prepare it there: "
        f"python -m experiments.data --dataset={dataset} --data_dir={data_dir}"
      )
    prepare(builder, manual_dir=manual_dir)
  return pathlib.Path(builder.data_path)


def _unknown(dataset: str, data_dir: str) -> str:
  """Says where a data set was looked for, and which names are like its name."""
  known = ("digits", *PROTOCOLS)
  near = difflib.get_close_matches(dataset, known, cutoff=0.5)
  known = [name for name in known if not name.endswith(":60k")]  # the line stays short
  if os.path.exists(os.path.expanduser(dataset)):  # a path, without the word before it
    near = [f"{'images' if os.path.isdir(os.path.expanduser(dataset)) else 'arrays'}:{dataset}"]
  words = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)};"
  return (
    f"no data set {dataset!r} in {data_dir}, here or in TFDS; {words} "
    "--data_dir (data_dir= in Python) names another directory"
  )


def _protocol_of_tfds(dataset: str, prepared: pathlib.Path) -> Protocol:
  splits = {split["name"] for split in json.loads(_dataset_info(prepared))["splits"]}
  return Protocol(
    source=dataset,
    version=prepared.name,
    words="the splits of TFDS",
    validation=("validation", WHOLE) if "validation" in splits else None,
  )


def _dataset_info(prepared: pathlib.Path) -> bytes:
  try:
    return disk.read_bytes(prepared / "dataset_info.json")
  except PermissionError as error:
    raise DataError(f"{prepared} cannot be read ({error}); check its permissions") from error
  except OSError as error:
    raise DataError(f"{prepared} cannot be read ({error}); remove it and start again") from error


def _assemble(
  protocol: Protocol, prepared: pathlib.Path, cache_dir: str | None, decode: bool
) -> ImageData:
  """Reads the splits that a protocol needs, and cuts them into train, validation and test."""
  parts = {"train": protocol.train, "validation": protocol.validation, "test": protocol.test}
  parts = {name: part for name, part in parts.items() if part}
  splits = sorted({split for split, _ in parts.values()})
  if decode:
    arrays = _read(prepared, splits, cache_dir)
    decoded = {split: arrays[f"{split}_images"] for split in splits}
    shapes = {array.shape[1:] for array in decoded.values()}
    rows: dict[str, Any] = {
      split: array.reshape(len(array), -1) for split, array in decoded.items()
    }
  else:
    rows = _sources(prepared, splits)
    shapes = {source.image_shape for source in rows.values()}
  if len(shapes) > 1:
    raise DataError(f"{prepared}: images of different shapes, {shapes}; one shape is needed")
  images: dict[str, Any] = {name: rows[split][index] for name, (split, index) in parts.items()}
  for name, source in images.items():
    if not len(source):
      split = parts[name][0]
      raise DataError(
        f"{prepared} has no images in the split {name!r} ({protocol.words}; its {split!r} holds "
        f"{len(rows[split])}); use another protocol or set, or prepare it again"
      )
  if decode:
    labels: dict[str, Any] = {
      name: arrays[f"{split}_labels"][index] if f"{split}_labels" in arrays else None
      for name, (split, index) in parts.items()
    }
  else:
    labels = {name: source.labels() for name, source in images.items() if name != "train"}
  return ImageData(
    **{"validation": None} | images,
    **{f"{name}_labels": array for name, array in labels.items()},
    image_shape=shapes.pop(),
    levels=protocol.levels,
    protocol=protocol.words,
    version=protocol.version,
    directory=str(prepared),
  )


def _sources(prepared: pathlib.Path, splits: list[str]) -> dict:
  import tensorflow_datasets as tfds

  from aevb_jax.data.tfds_images import TfdsImages, reading

  _dataset_info(prepared)  # raises a better error than TFDS
  with reading(prepared):
    builder = tfds.builder_from_directory(prepared)
  return {split: TfdsImages(builder, split) for split in splits}


def _read(
  prepared: pathlib.Path, splits: list[str], cache_dir: str | None
) -> dict[str, np.ndarray]:
  """Returns arrays SPLIT_images (N, H, W, C) and SPLIT_labels (N,), cached or decoded now."""

  def decode(create: array_cache.Create) -> None:
    for split, source in _sources(prepared, splits).items():
      images = create(f"{split}_images", (len(source), *source.image_shape), source.dtype)
      labels = None
      if source.has_labels:
        labels = create(f"{split}_labels", (len(source),), np.dtype(np.int32))
      source.read_into(images, labels)

  if cache_dir is not None:
    place = hashlib.sha256(str(prepared).encode()).hexdigest()[:12]
    directory = pathlib.Path(cache_dir).expanduser() / f"{prepared.parent.name}-{place}"
    return array_cache.fetch(directory, _provenance(prepared, splits), decode)
  arrays: dict[str, np.ndarray] = {}

  def create(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return arrays.setdefault(name, np.empty(shape, dtype))

  decode(create)
  return arrays


def _provenance(prepared: pathlib.Path, splits: list[str]) -> dict:
  """Describes the source of a cache; the result differs if any file of the set has changed."""
  return {
    "directory": str(prepared),
    "version": prepared.name,
    "splits": splits,
    "dataset_info_sha256": hashlib.sha256(_dataset_info(prepared)).hexdigest(),
    "files": {
      path.name: [path.stat().st_size, path.stat().st_mtime_ns]
      for path in sorted(prepared.iterdir())
    },
  }


def load_digits() -> ImageData:
  """Loads the 1797 handwritten digits of 8×8 pixels that come with scikit-learn.

  The pixels' 17 levels are spread over 0..255. A fixed permutation puts 1437
  images into train and 360 into test.

  Returns:
    uint8 pixels (1437, 64) and (360, 64) with their labels; there is no validation split.
  """
  # The table is read from its file, because importing scikit-learn takes a second, a third of the
  # start of a short run.
  spec: Any = importlib.util.find_spec("sklearn")
  (package,) = spec.submodule_search_locations
  table = np.loadtxt(pathlib.Path(package, "datasets/data/digits.csv.gz"), delimiter=",")
  table = table[np.random.default_rng(0).permutation(len(table))]
  pixels = np.round(table[:, :-1] * (255 / 16)).astype(np.uint8)
  labels = table[:, -1].astype(np.int32)
  return ImageData(
    train=pixels[:1437],
    validation=None,
    test=pixels[1437:],
    image_shape=(8, 8, 1),
    train_labels=labels[:1437],
    test_labels=labels[1437:],
    protocol="a fixed random 1437 train",
    version="scikit-learn",
  )
