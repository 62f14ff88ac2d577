"""Functions that read what a figure shows, for tests of figures."""

import numpy as np
from PIL import Image

SMOKE = "smoke: too short a run for a result"


def labels_of(axis):
  """Returns the labels of the ticks that are within the limits, as they are drawn."""
  axis.figure.canvas.draw()
  low, high = sorted(axis.get_view_interval())
  ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
  shown = [label.get_text() for tick, label in ticks if low <= tick <= high]
  return shown + [label.get_text() for label in axis.get_minorticklabels() if label.get_text()]


def count_columns(path):
  """Counts the tiles in a row of the only picture in a PNG file, whose tiles lie on black."""
  pixels = np.asarray(Image.open(path).convert("L"))
  # The picture is below the title, where most of a line is not the white of the page.
  wide = (pixels < 250).mean(axis=1) > 0.5
  inside = pixels[np.flatnonzero(wide)[0] : np.flatnonzero(wide)[-1] + 1]
  filled = np.flatnonzero((inside < 250).any(axis=0))
  inside = inside[:, filled[0] : filled[-1] + 1]
  is_tile = np.append((inside > 3).any(axis=0), False)
  return int(np.sum(is_tile[:-1] & ~is_tile[1:]))
