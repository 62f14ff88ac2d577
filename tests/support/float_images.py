"""Data sets of real-valued images of 4×4 pixels, prepared as TFDS prepares them."""

import pathlib
from collections.abc import Mapping

import numpy as np

SIZES = {"train": 30, "test": 10}


def prepare(directory: str, spoiled: Mapping[str, float] | None = None) -> str:
  """Prepares the data set float_images, of pixels in [-1, 2].

  Args:
    directory: the directory in which TFDS prepares data sets.
    spoiled: by split, a value that one pixel of one image gets.

  Returns:
    The directory.
  """
  import tensorflow_datasets as tfds

  class FloatImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self):
      image = tfds.features.Tensor(shape=(4, 4, 1), dtype=np.float32)
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict({"image": image})
      )

    def _split_generators(self, dl_manager):
      return {split: self._images(split) for split in SIZES}

    def _images(self, split):
      rng = np.random.default_rng(SIZES[split])
      for i in range(SIZES[split]):
        image = rng.uniform(-1, 2, size=(4, 4, 1)).astype(np.float32)
        if i == 7:
          image[2, 1] = (spoiled or {}).get(split, image[2, 1])
        yield i, {"image": image}

    def _generate_examples(self):
      raise NotImplementedError

  FloatImages(data_dir=directory, file_format="array_record").download_and_prepare()
  return directory
