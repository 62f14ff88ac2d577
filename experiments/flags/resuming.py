"""The flags that choose the directory of a run, and what happens to an earlier run in it."""

import pathlib
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from aevb_jax.runs import directory
from aevb_jax.runs.config import DataConfig
from aevb_jax.runs.pixels import file_name
from experiments.flags.reading import key_flags

FLAGS = flags.FLAGS

flags.DEFINE_boolean(
  "resume",
  True,
  "Resumes the run in --workdir if it is the same run; --noresume sets it aside and starts over.",
)
flags.DEFINE_boolean(
  "overwrite",
  False,
  "If --workdir holds a run with other flags, sets it aside as WORKDIR.1 and starts over.",
)


def workdir(of: DataConfig, name: str = "") -> pathlib.Path:
  """Reads the directory of a run, by default runs/NAME-DATASET-TIME."""
  if FLAGS.workdir is not None:
    return pathlib.Path(FLAGS.workdir).expanduser()
  words = [word for word in (name, file_name(of), time.strftime("%Y%m%d-%H%M%S")) if word]
  return pathlib.Path(f"runs/{'-'.join(words)}")


def open_workdir(path: pathlib.Path, configs: Sequence[Any]) -> bool:
  """Opens the directory of a main's own run; prints a line and returns False if it is finished."""
  settings = dict(resume=FLAGS.resume, overwrite=FLAGS.overwrite, only=key_flags())
  opened = directory.open_run(path, configs, **settings)
  if opened.finished:
    print(f"finished before: {path / directory.SUMMARY} (--noresume starts over)")
  return not opened.finished
