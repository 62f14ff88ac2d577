"""Curves of algorithms in a panel of figures 2 and 3."""

from collections.abc import Sequence

import numpy as np

from aevb_jax.figures import COLORS, NAMES


def draw_panel(axis, rows: Sequence[dict], x: str, y: str) -> None:
  """Curves of algorithms, train dashed and test solid, with a band over seeds."""
  for algorithm in dict.fromkeys(row["algorithm"] for row in rows):
    mine = [row for row in rows if row["algorithm"] == algorithm]
    seeds = list(dict.fromkeys(row["seed"] for row in mine))
    seen = np.array([row[x] for row in mine if row["seed"] == seeds[0]])
    for split, style in (("train", "--"), ("test", "-")):
      values = np.array(
        [[row[f"{split}{y}"] for row in mine if row["seed"] == seed] for seed in seeds], float
      )
      values = np.where(np.isfinite(values), values, np.nan)
      color, label = COLORS[algorithm], f"{NAMES[algorithm]} ({split})"
      axis.plot(seen, values.mean(axis=0), style, color=color, label=label)
      if len(seeds) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(seen, low, high, color=color, alpha=0.25, linewidth=0)
