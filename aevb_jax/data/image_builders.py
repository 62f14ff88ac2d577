"""The common part of builders of image sets: it finds, reads and checks files, and writes PNG."""

import io
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from aevb_jax.data import downloads, formats
from aevb_jax.data.downloads import RemoteFile
from aevb_jax.errors import DataError


class Split(NamedTuple):
  """The images of a split, and their labels if the set has any."""

  images: np.ndarray  # (N, H, W, C), uint8 or float32
  labels: np.ndarray | None  # (N,)


class ImageBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A builder that finds its files, reads them in Python and writes images.

  Subclasses describe the set and implement `read`. Files in TFDS's manual directory are taken from
  there; all others are downloaded.
  """

  pkg_dir_path = pathlib.Path(__file__).parent
  MANUAL_DOWNLOAD_INSTRUCTIONS = "Files that are put here are not downloaded."

  files: tuple[RemoteFile, ...]
  image_shape: tuple[int, int, int] = (28, 28, 1)
  pixel_type: type[np.generic] = np.uint8
  class_names: tuple[str, ...] | None = None
  keeps_order = False  # TFDS shuffles a set once, when it is prepared
  description: str
  homepage: str
  license: str
  citation: str

  mirror: str | None = None  # address to download from instead of the official one
  timeout = downloads.TIMEOUT

  def read(self, paths: list[pathlib.Path]) -> dict[str, Split]:
    """Reads the splits of the set from its files, given in the order of `files`."""
    raise NotImplementedError

  def _info(self) -> tfds.core.DatasetInfo:
    if self.pixel_type == np.uint8:
      image = tfds.features.Image(shape=self.image_shape)
    else:
      image = tfds.features.Tensor(
        shape=self.image_shape, dtype=self.pixel_type, encoding=tfds.features.Encoding.BYTES
      )
    features = {"image": image}
    if self.class_names:
      features["label"] = tfds.features.ClassLabel(names=list(self.class_names))
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.description,
      features=tfds.features.FeaturesDict(features),
      supervised_keys=("image", "label") if self.class_names else None,
      homepage=self.homepage,
      license=self.license,
      citation=self.citation,
      disable_shuffling=self.keeps_order,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
    downloaded = pathlib.Path(dl_manager.download_dir)
    try:
      manual_dir = pathlib.Path(dl_manager.manual_dir)
    except AssertionError:  # the directory is missing or empty
      manual_dir = downloaded / "manual"
    paths = [
      downloads.find(
        file, manual_dir, downloaded / self.name, mirror=self.mirror, timeout=self.timeout
      )
      for file in self.files
    ]
    splits = self.read(paths)
    for name, split in splits.items():
      self._check(name, split, paths)
    return {name: self._generate_examples(split) for name, split in splits.items()}

  def _check(self, name: str, split: Split, paths: list[pathlib.Path]) -> None:
    where = f"split {name!r} of {self.name}, from {', '.join(path.name for path in paths)}"
    images, labels = split
    if len(images) == 0:
      raise DataError(f"no images in the {where}")
    if images.shape[1:] != self.image_shape or images.dtype != self.pixel_type:
      raise DataError(
        f"images of shape {images.shape[1:]} and type {images.dtype} in the {where}; "
        f"{self.image_shape} and {np.dtype(self.pixel_type)} are right"
      )
    if labels is not None and len(labels) != len(images):
      raise DataError(f"{len(images)} images but {len(labels)} labels in the {where}")
    if labels is not None and labels.max() >= len(self.class_names):  # type: ignore[arg-type]
      raise DataError(f"a label {labels.max()} in the {where}; 0 to {len(self.class_names) - 1}")  # type: ignore[arg-type]

  def _generate_examples(self, split: Split) -> Iterator[tuple[int, dict]]:
    for i, image in enumerate(split.images):
      example = {"image": _png(image) if self.pixel_type == np.uint8 else image}
      if split.labels is not None:
        example["label"] = int(split.labels[i])
      yield i, example


def _png(image: np.ndarray) -> bytes:
  # TFDS takes encoded bytes as they are; it would need TensorFlow to encode an array.
  from PIL import Image

  encoded = io.BytesIO()
  Image.fromarray(image.squeeze(-1)).save(encoded, "png")
  return encoded.getvalue()


IDX_FILES = {  # the names, and the bytes that each file unpacks to
  "train-images-idx3-ubyte.gz": 16 + 60_000 * 28 * 28,
  "train-labels-idx1-ubyte.gz": 8 + 60_000,
  "t10k-images-idx3-ubyte.gz": 16 + 10_000 * 28 * 28,
  "t10k-labels-idx1-ubyte.gz": 8 + 10_000,
}


def idx_files(
  addresses: tuple[str, ...], digests: tuple[str, str, str, str], *, of_contents: bool = False
) -> tuple[RemoteFile, ...]:
  """Returns the four files of a set of the MNIST family, whose sizes are the same in every set."""
  return tuple(
    RemoteFile(name, addresses, f"sha256:{digest}", of_contents, size)
    for (name, size), digest in zip(IDX_FILES.items(), digests, strict=True)
  )


class IdxBuilder(ImageBuilder, skip_registration=True):
  """The MNIST family: images and labels of train and test in four IDX files."""

  def read(self, paths: list[pathlib.Path]) -> dict[str, Split]:
    train_images, train_labels, test_images, test_labels = (
      formats.read_idx(path, num_axes, most=file.size)
      for path, num_axes, file in zip(paths, (3, 1, 3, 1), self.files, strict=True)
    )
    return {
      "train": Split(train_images[..., None], train_labels),
      "test": Split(test_images[..., None], test_labels),
    }
