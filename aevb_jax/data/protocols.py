"""The names that `load` knows, and the images of each set for training, validation and testing."""

import os
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from aevb_jax import names
from aevb_jax.errors import DataError

WHOLE = slice(None)
FOLDER_ARGUMENTS = ("seed", "test", "validation")  # of images:FOLDER
ARGUMENT = re.compile(r":([^\W\d]\w*)=[^:/]+$")


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


def kind_of(dataset: str) -> str:
  """Returns the kind of data set that a name means.

  Returns:
    "digits", "protocol" for a key of `PROTOCOLS`, "arrays" or "images" for a user's own files,
    "function" for package.module:function, or "tfds" for all other names.
  """
  if dataset == "digits":
    return "digits"
  if dataset in PROTOCOLS:
    return "protocol"
  head, *rest = dataset.split(":")
  if head in ("arrays", "images") and rest:
    return head
  known = {"digits", *(name.partition(":")[0] for name in PROTOCOLS)}
  own = names.is_own(dataset, known) and bool(head) and rest[0].isidentifier()
  return "function" if own else "tfds"  # TFDS's own names have versions after a colon


def path_of(dataset: str, data_dir: str | None = None) -> tuple[pathlib.Path, dict[str, Any]]:
  """Returns the absolute path in the name of a user's own files, and the arguments after it.

  Arguments are read from the end, because a path may have colons.

  Raises:
    DataError: if there is no path, or an argument is unknown or given twice.
  """
  kind, _, path = dataset.partition(":")
  arguments: dict[str, Any] = {}
  place = lambda: os.path.join(os.path.expanduser(data_dir or ""), os.path.expanduser(path))
  while kind == "images" and not os.path.exists(place()) and (found := ARGUMENT.search(path)):
    key = found[1]
    if key not in FOLDER_ARGUMENTS or key in arguments:
      why = "twice" if key in arguments else f"as well; takes {', '.join(FOLDER_ARGUMENTS)}"
      raise DataError(f"{dataset} has the argument {key} {why}")
    arguments[key] = names.split(f"images{found[0]}", ["images"])[1][key]
    path = path[: found.start()]
  if not path:
    what = "a file, as arrays:/path/file.npz" if kind == "arrays" else "a folder, as images:/path"
    raise DataError(f"{kind}: takes {what}")
  return pathlib.Path(absolute(place())), arguments


def absolute(path: str) -> str:
  """Returns an absolute path; ~ is the home directory."""
  return os.path.abspath(os.path.expanduser(path))
