"""The bounds of a training run, and those of all members of a sweep: experiments.train."""

import pathlib
from typing import TYPE_CHECKING

from aevb_jax.figures import draw_bounds, draw_sweep
from experiments.plots import records

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def redraw_bound(directory: pathlib.Path) -> "Figure":
  """Draws bound.png of a training run anew."""
  given = records.read_flags(directory)
  model = f"{records.count_latents(given['latent_dim'])}, {given['estimator']}"
  rows = records.read_rows(directory / "metrics.csv")
  return draw_bounds(rows, f"{describe_pixels(given)}\n{model}")


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
  title = f"{describe_pixels(records.read_flags(directory))}, {len(members)} members"
  return draw_sweep(curves, title)


def describe_pixels(given: dict[str, str]) -> str:
  """The data set and how its pixels became x, from the flags of a run."""
  if given["dataset"] == "binarized_mnist":
    kind = "binary pixels"
  elif given["binarization"] == "none":
    kind = "dequantized pixels" if "dequantization" in given else "real-valued pixels"
  else:
    kind = f"{given['binarization']} binarization"
  return f"{given['dataset']}, {kind}"
