"""The bounds of a training run, and of all members of a sweep: experiments.train."""

import pathlib
from typing import TYPE_CHECKING

from aevb_jax import disk
from aevb_jax.figures import draw_bounds, draw_sweep
from aevb_jax.runs import texts
from aevb_jax.runs.config import Config
from aevb_jax.runs.directory import FLAG_FILE
from aevb_jax.runs.pixels import pixels_in_words
from aevb_jax.runs.report import latents_in_words
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def redraw_bound(directory: pathlib.Path) -> "Figure":
  """Redraws bound.png of a training run."""
  config = read_config(directory)
  model = f"{latents_in_words(config)}, {config.objective.estimator}"
  rows = records.read_rows(directory / "metrics.csv")
  return draw_bounds(rows, f"{pixels_in_words(config.data)}\n{model}")


def redraw_sweep(directory: pathlib.Path) -> "Figure":
  """Redraws sweep.png of a sweep from the metrics of its members."""
  members = records.read_rows(directory / "sweep.csv")
  curves = [
    (
      f"step size {member['step_size']:g}",
      records.read_rows(directory / member["name"] / "metrics.csv"),
    )
    for member in members
  ]
  title = f"{pixels_in_words(read_config(directory).data)}, {len(members)} members"
  return draw_sweep(curves, title)


def read_config(directory: pathlib.Path) -> Config:
  """Reads the configuration of a run, or of a sweep, from its flags.txt.

  Raises:
    ValueError: if it cannot be read.
    OSError: if the file is not there, or is not a regular file.
  """
  text = disk.read_text(directory / FLAG_FILE)
  if "--dataset=" not in text:
    raise ValueError(f"{FLAG_FILE} names no data set")
  return texts.from_flags(text)
