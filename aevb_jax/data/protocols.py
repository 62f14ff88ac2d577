"""The names that `load` knows, and the images of each set for training, validation and testing."""

from typing import NamedTuple

import numpy as np

WHOLE = slice(None)


Part = tuple[str, slice | np.ndarray]  # a split of the source, and the examples of it that are used


class Protocol(NamedTuple):
  """The split of a prepared data set into images for training, validation and testing."""

  source: str  # its name in TFDS
  version: str
  words: str
  train: Part = ("train", WHOLE)
  validation: Part | None = None
  test: Part = ("test", WHOLE)
  levels: int = 255


def _mnist_family(source: str) -> dict[str, Protocol]:
  return {
    source: Protocol(
      source,
      "3.0.1",
      "the last 10000 of TFDS's train validate",
      train=("train", slice(0, 50_000)),
      validation=("train", slice(50_000, 60_000)),
    ),
    f"{source}:60k": Protocol(source, "3.0.1", "all 60000 of train train"),
  }


def _frey_face(words: str, order: np.ndarray) -> Protocol:
  # 1565, 200 and 200 are customary since the papers on flow posteriors. Pixels are
  # divided by 256, as in the first author's code.
  train, validation, test = (("train", part) for part in np.split(order, [1565, 1765]))
  return Protocol("frey_face", "1.0.0", words, train, validation, test, levels=256)


PROTOCOLS = {
  **_mnist_family("mnist"),
  **_mnist_family("fashion_mnist"),
  **_mnist_family("kmnist"),
  "binarized_mnist": Protocol(
    "binarized_mnist",
    "1.0.0",
    "the splits of Larochelle & Murray (2011)",
    validation=("validation", WHOLE),
    levels=1,
  ),
  "frey_face:random": _frey_face(
    "frames in a fixed random order, so that neighbours in time leak from train to test",
    np.random.default_rng(0).permutation(1965),
  ),
  "frey_face:contiguous": _frey_face("frames in the order of the video", np.arange(1965)),
  "omniglot_28x28": Protocol(
    "omniglot_28x28", "1.0.0", "the splits of Burda, Grosse & Salakhutdinov (2015)"
  ),
}
