"""A model that experiments.train has trained, read from the directory of its run."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
from absl import flags
from absl.testing import flagsaver

from aevb_jax import errors
from aevb_jax.data.datasets import ImageData
from aevb_jax.training import checkpoint
from aevb_jax.types import Model, Params
from experiments.flags import data, models, sweeps, training
from experiments.flags.data import Pixels
from experiments.launch.command import UsageError
from experiments.runs import directory, saving
from experiments.runs import learning as learners

FLAGS = flags.FLAGS

# They say where data are, and so hold for whatever is read.
OF_PLACES = ("data_dir", "manual_dir", "mirror", "array_cache_dir", "compilation_cache_dir")


class Trained(NamedTuple):
  """A run that has been trained."""

  workdir: pathlib.Path
  model: Model
  params: Params
  images: ImageData
  pixels: Pixels


@contextlib.contextmanager
def loaded(workdir: pathlib.Path) -> Iterator[Trained]:
  """The run in a directory, while flags have the values it was trained with.

  Raises:
    UsageError: if there is none.
  """
  places = [FLAGS[name].serialize() for name in OF_PLACES if FLAGS[name].present]
  with flagsaver.flagsaver():
    yield load(workdir, places)


def load(workdir: pathlib.Path, given: Sequence[str], *, best: bool = False) -> Trained:
  """The run in a directory: its flags, its data, its model and the parameters it ended with.

  Flags take the values that they had when it was trained, but for those that are given.

  Args:
    workdir: of the run.
    given: flags as on a command line.
    best: the parameters of the highest validation bound instead.

  Raises:
    UsageError: if there is none.
  """
  if not os.path.exists(workdir / "flags.txt"):  # nor where the path is none that can be
    raise UsageError("workdir", "holds no run of experiments.train (there is no flags.txt)")
  try:
    directory.load_flags(workdir, given)
  except (flags.Error, OSError, ValueError) as error:
    FLAGS.mark_as_parsed()  # they lost their values on the way
    FLAGS.workdir = str(workdir)
    what = " ".join(str(error).split())
    raise UsageError("workdir", f"has a flags.txt that cannot be read ({what})") from error
  if several := [name for name in sweeps.SWEPT if isinstance(FLAGS[name].value, tuple)]:
    members = sorted(path.parent.name for path in workdir.glob(f"{several[0]}_*/flags.txt"))
    raise UsageError("workdir", f"is of a sweep; name a member of it: {' '.join(members)}")
  learners.settle()
  images = training.load_images()
  model = models.make_model(images)
  learning = learners.LEARNERS[FLAGS.algorithm](model, images)
  params = load_params(workdir / directory.CHECKPOINTS, learning, best)
  return Trained(workdir, model, params, images, data.make_pixels(images))


def load_params(checkpoints: pathlib.Path, learning: learners.Learning, best: bool) -> Params:
  """Those of the last checkpoint.

  Raises:
    UsageError: if there is none.
  """
  init = lambda key: saving.start(learning.algorithm.init(key), learning)
  like = jax.eval_shape(init, jax.random.key(0))
  if best and not like.best:
    raise UsageError("parameters", "takes a data set with validation images, and an encoder")
  try:
    steps = checkpoint.steps(checkpoints)
    if not steps:
      raise errors.CheckpointError(f"{checkpoints} holds no checkpoint")
    saved = checkpoint.restore(checkpoints, steps[-1], like)
  except errors.CheckpointError as error:
    raise UsageError("workdir", f"has no parameters to evaluate: {error}") from error
  return saved.best.params if best else saved.states.params
