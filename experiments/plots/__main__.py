"""Redraws the pictures of runs from the tables beside them, in the current style.

  python -m experiments.plots --redraw=experiments/results
  python -m experiments.plots --redraw=runs/lower_bound

Searches every directory of a run, one with flags.txt, at or below --redraw. Bounds of
training runs and sweeps, curves.png of a video, gradients.png, full_vb.png, linear_gaussian.png,
lower_bound.png, marginal_likelihood.png, iwae_table.png and semi_supervised.png are drawn. Pictures
of images, of latents and of draws show a model and not a table; they are left as they are. Prints a
line for each picture.
"""

import dataclasses
import io
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from aevb_jax.errors import ConfigError, RunError
from aevb_jax.runs import files
from aevb_jax.runs.directory import SUMMARY
from experiments.flags.reading import read
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots import (
  frey_face_video,
  full_vb,
  gradients,
  iwae_table,
  linear_gaussian,
  lower_bound,
  marginal_likelihood,
  semi_supervised,
  training,
)

if TYPE_CHECKING:
  from matplotlib.figure import Figure

flags.DEFINE_string(
  "redraw", None, "Directory of a run, or of directories of runs, whose pictures are drawn again."
)

Redraw = Callable[[pathlib.Path], "Figure"]
# The function that draws NAME.png from NAME.csv, by NAME.
OF_TABLES: dict[str, Redraw] = {
  "gradients": gradients.redraw,
  "iwae_table": iwae_table.redraw,
  "lower_bound": lower_bound.redraw,
  "marginal_likelihood": marginal_likelihood.redraw,
  "semi_supervised": semi_supervised.redraw,
  "sweep": training.redraw_sweep,
}
# The picture of metrics.csv and its function, by a column that only one main's table has.
OF_METRICS: dict[str, tuple[str, Redraw]] = {
  "frames_seen": ("curves", frey_face_video.redraw),
  "theta": ("full_vb", full_vb.redraw),
  "max_angle": ("linear_gaussian", linear_gaussian.redraw),
  "test_bound": ("bound", training.redraw_bound),
}
# Errors that edited tables or flags can raise before the picture is drawn.
UNREADABLE = (
  ArithmeticError,
  AttributeError,
  LookupError,
  OSError,
  RunError,
  TypeError,
  ValueError,
)


@dataclasses.dataclass(frozen=True)
class Where:
  """The directory whose pictures are redrawn."""

  redraw: str | None = None


class Outcome(NamedTuple):
  """The outcome for a picture, in words, with the reason if it was not drawn."""

  path: pathlib.Path
  kind: str
  why: str = ""


def main() -> None:
  redraw = read(Where).redraw
  if redraw is None:
    raise UsageError("redraw", "names the directory of a run, or one of directories of runs")
  root = pathlib.Path(redraw).expanduser()
  if not root.is_dir():
    raise UsageError("redraw", "is not a directory")
  outcomes = []
  try:
    for outcome in redraw_below(root):
      outcomes.append(outcome)
      print(f"{outcome.kind:8} {outcome.path}" + (f": {outcome.why}" if outcome.why else ""))
  except OSError as error:
    raise UsageError("redraw", files.error_in_words(error)) from error
  if not any(outcome.kind == "drawn" for outcome in outcomes):
    raise UsageError("redraw", "holds no run with a table that a picture can be drawn from")


def redraw_below(root: pathlib.Path) -> Iterator[Outcome]:
  """Redraws the pictures of all runs at or below a directory, one after another."""
  for path in sorted(root.rglob("flags.txt")):
    yield from redraw_run(path.parent)


def redraw_run(directory: pathlib.Path) -> Iterator[Outcome]:
  """Redraws the pictures of a run whose numbers are in its tables, and names the others.

  Runs that have not ended are left as they are, and so are members that left a sweep.

  Raises:
    OSError: if a picture cannot be written.
  """
  ended = (directory / SUMMARY).exists()
  try:
    sources = sources_of(directory)
  except UNREADABLE as error:
    yield Outcome(directory / "metrics.csv", "skipped", why_unreadable(error))
    return
  for name, redraw in sources.items():
    path = directory / f"{name}.png"
    if not ended:  # it draws the picture itself when it ends
      yield Outcome(path, "skipped", "the run has not ended")
      continue
    try:
      picture = io.BytesIO()
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # axes warn about numbers of an edited table
        files.draw_into(picture, redraw(directory))
    except UNREADABLE as error:
      yield Outcome(path, "skipped", why_unreadable(error))
    else:
      with files.whole(path) as file:
        file.write(picture.getbuffer())
      yield Outcome(path, "drawn")
  for path in sorted(directory.glob("*.png")):
    if path.stem not in sources:
      yield Outcome(path, "left", "it shows images or draws, which no table has")


def why_unreadable(error: Exception) -> str:
  """Explains why a picture cannot be drawn."""
  if isinstance(error, FileNotFoundError):
    return f"{error.filename} is missing"
  what = files.error_in_words(error) if isinstance(error, OSError | RunError) else repr(error)
  if type(error) in (ValueError, ConfigError):
    what = str(error)
  return f"its table or flags cannot be read ({' '.join(what.split())[:300]})"


def sources_of(directory: pathlib.Path) -> dict[str, Redraw]:
  """Returns the pictures whose numbers are in the tables of a run, with their functions."""
  tables = (*OF_TABLES, "metrics")
  names = [name for name in tables if (directory / f"{name}.csv").exists()]
  sources = {name: OF_TABLES[name] for name in names if name in OF_TABLES}
  if "metrics" in names:
    columns = (files.read_cells(directory / "metrics.csv") or [{}])[0].keys()
    sources |= dict([source for column, source in OF_METRICS.items() if column in columns][:1])
  return sources


if __name__ == "__main__":
  command.run(main)
