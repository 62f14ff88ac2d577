"""What a figure shows, for tests that look at figures."""

SMOKE = "smoke: too short a run for a result"


def labels_of(axis):
  """The labels of the ticks that are within the limits, as they are drawn."""
  axis.figure.canvas.draw()
  low, high = sorted(axis.get_view_interval())
  ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
  shown = [label.get_text() for tick, label in ticks if low <= tick <= high]
  return shown + [label.get_text() for label in axis.get_minorticklabels() if label.get_text()]
