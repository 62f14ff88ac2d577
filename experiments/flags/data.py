"""The flags that say which data a main reads and how pixels become x."""

from absl import flags

from aevb_jax.data.datasets import PROTOCOLS
from aevb_jax.runs.checks import CHOICES, LEAST
from aevb_jax.runs.config import ARRAYS, DataConfig
from experiments.flags.reading import read
from experiments.flags.validators import validate

FLAGS = flags.FLAGS

flags.DEFINE_string(
  "dataset",
  "digits",
  f"The data set: digits (8x8, comes with scikit-learn); one of {', '.join(PROTOCOLS)}, which is "
  "downloaded and prepared at its first use; arrays:FILE.npz, images:FOLDER or "
  "images:FOLDER:seed=0:test=0.1:validation=0.1, for images of your own; package.module:function, "
  "for a function of your own, with arguments after colons; or any image data set of TensorFlow "
  "Datasets.",
)
flags.DEFINE_string(
  "data_dir",
  None,
  "Directory of prepared TensorFlow Datasets, or the directory that the path of your own images is "
  "relative to. Default: TFDS's own, or the current directory.",
)
flags.DEFINE_string(
  "manual_dir",
  None,
  "Directory with files of a data set that need not be downloaded. Default: downloads/manual in "
  "--data_dir.",
)
flags.DEFINE_string(
  "mirror", None, "URL of a directory to download from, instead of the data set's own."
)
flags.DEFINE_string(
  "array_cache_dir",
  ARRAYS,
  "Directory that keeps decoded data sets between runs; empty for none.",
)
flags.DEFINE_float(
  "max_resident_mb",
  2048.0,
  "Largest training set, in MiB of pixels, that is kept on the device; a larger one is streamed "
  "from disk, in the same order.",
  lower_bound=LEAST["max_resident_mb"],
)
flags.DEFINE_integer(
  "num_train",
  0,
  "Number of training images to use, from the first; 0 for all.",
  lower_bound=LEAST["num_train"],
)
flags.DEFINE_enum(
  "binarization",
  None,
  list(CHOICES["binarization"]),
  "How pixels become x. dynamic: the pixels are probabilities of a 1, and training draws x again "
  "at each step; static: x is drawn once; threshold: x is 1 where the pixel is above 1/2; none: x "
  "is the real value. Test images are binarized once, the same for every run. Default: dynamic, or "
  "none for likelihoods of real values.",
)
flags.DEFINE_enum(
  "pixel_scale",
  None,
  [str(scale) for scale in CHOICES["pixel_scale"]],
  "x = pixels / this, before any binarization. Default: 256 for Frey Face, as in the first "
  "author's code, 255 for others.",
)
flags.DEFINE_boolean(
  "dequantization",
  False,
  "x = (pixels + u) / 256 with u uniform on [0, 1), drawn at each use for training and once for "
  "evaluation; the density then bounds bits per dimension.",
)


validate("max_resident_mb")

PLACES = ("data_dir", "manual_dir", "mirror", "array_cache_dir", "compilation_cache_dir")


def config() -> DataConfig:
  """Reads the choice of the data from the flags."""
  return read(DataConfig)


def array_cache_dir() -> str | None:
  """Reads where decoded data sets are kept; None for nowhere.

  If the default directory cannot be written, the library continues without a cache.
  """
  return FLAGS.array_cache_dir or None


def given_places() -> dict:
  """Returns the given fields of `DataConfig` that say where data are."""
  names = ("data_dir", "manual_dir", "mirror", "max_resident_mb")
  return {name: FLAGS[name].value for name in names if FLAGS[name].present}


def place_flags() -> list[str]:
  """Returns the given flags that say where data and caches are, as on a command line."""
  return [FLAGS[name].serialize() for name in PLACES if name in FLAGS and FLAGS[name].present]
