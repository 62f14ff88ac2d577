"""The bounds of a training run, and those of all members of a sweep: experiments.train."""

import pathlib
from typing import TYPE_CHECKING

from aevb_jax.figures import draw_bounds, draw_sweep
from aevb_jax.runs.config import Config
from aevb_jax.runs.pixels import pixels_in_words
from aevb_jax.runs.texts import from_flags
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def redraw_bound(directory: pathlib.Path) -> "Figure":
  """Draws bound.png of a training run anew."""
  given = records.read_flags(directory)
  model = f"{records.count_latents(given['latent_dim'])}, {given['estimator']}"
  rows = records.read_rows(directory / "metrics.csv")
  return draw_bounds(rows, f"{pixels_in_words(config_of(directory).data)}\n{model}")


def redraw_sweep(directory: pathlib.Path) -> "Figure":
  """Draws sweep.png of a sweep anew, from the metrics of its members."""
  members = records.read_rows(directory / "sweep.csv")
  curves = [
    (
      f"step size {member['step_size']:g}",
      records.read_rows(directory / member["name"] / "metrics.csv"),
    )
    for member in members
  ]
  title = f"{pixels_in_words(config_of(directory).data)}, {len(members)} members"
  return draw_sweep(curves, title)


def config_of(directory: pathlib.Path) -> Config:
  """Reads the configuration of a run, or of a sweep, from its flags.txt."""
  return from_flags((directory / "flags.txt").read_text())
