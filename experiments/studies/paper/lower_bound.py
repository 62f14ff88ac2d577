"""Figure 2: whether the paper's claims hold in a panel, for all seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aevb_jax import figures
from experiments.plots.lower_bound import LIMITS
from experiments.studies.jobs import BOUNDS
from experiments.studies.seeds import average, with_spread

AEVB, WAKE_SLEEP = "aevb", "wake_sleep"
START = 10**5  # samples, where the paper's axis begins


class Curves(NamedTuple):
  """The curves of an algorithm in a panel, a row for each seed: bounds of shape (seeds, T)."""

  seen: np.ndarray  # training samples, shape (T,)
  train: np.ndarray
  train_se: np.ndarray  # standard errors over images
  test: np.ndarray
  test_se: np.ndarray


def judge(panel: tuple[str, int], rows: Sequence[dict]) -> dict:
  """Judges the paper's claims in a panel: that AEVB learns faster, and ends higher.

  Args:
    panel: the data set and the number of latents.
    rows: dataset, latent_dim, algorithm, seed, examples_seen and the bounds with their errors.

  Returns:
    The bounds at the end, as means over seeds, with the standard error over images and the
    standard deviation over seeds; and the claims, each for the seeds of which it is least true:
    `smallest_lead` is how far the lowest test bound of AEVB is above the highest of wake-sleep,
    at the sample count at which it is least, `last_lead` the same at the end, and `ahead_from`
    the sample count from which on it stays positive, None if it ends negative.
    `smallest_lead_by_seed` compares each run of AEVB with the run of wake-sleep of its own seed.
  """
  rows = [row for row in rows if (row["dataset"], row["latent_dim"]) == panel]
  seeds = common_seeds(rows)
  aevb, other = (curves_of(rows, algorithm, seeds) for algorithm in (AEVB, WAKE_SLEEP))
  lead = aevb.test.min(axis=0) - other.test.max(axis=0)
  there = aevb.seen[aevb.test.min(axis=0) >= other.test.max()]
  limits = LIMITS.get(panel[0].split(":")[0], (-np.inf, np.inf))
  return dict(
    dataset=panel[0],
    latent_dim=panel[1],
    seeds=seeds,
    examples_seen=int(aevb.seen[-1]),
    **ends_of(AEVB, aevb),
    **ends_of(WAKE_SLEEP, other),
    **{
      f"{algorithm}_step_sizes": step_sizes_of(rows, algorithm, seeds)
      for algorithm in (AEVB, WAKE_SLEEP)
    },
    smallest_lead=float(lead.min()),
    last_lead=float(lead[-1]),
    smallest_lead_by_seed=float((aevb.test - other.test).min()),
    ahead_from=holds_from(aevb.seen, lead > 0),
    samples_to_best_of_wake_sleep=int(there[0]) if len(there) else None,
    aevb_inside_axes_from=holds_from(aevb.seen, are_inside(aevb, limits)),
    wake_sleep_inside_axes_from=holds_from(other.seen, are_inside(other, limits)),
  )


def common_seeds(rows: Sequence[dict]) -> list[int]:
  """Returns the seeds that both algorithms were trained with, in order."""
  of = {a: {row["seed"] for row in rows if row["algorithm"] == a} for a in (AEVB, WAKE_SLEEP)}
  return sorted(of[AEVB] & of[WAKE_SLEEP])


def step_sizes_of(rows: Sequence[dict], algorithm: str, seeds: Sequence[int]) -> list[float]:
  """Returns the step size that was chosen for each seed."""
  of_seed = {row["seed"]: row["step_size"] for row in rows if row["algorithm"] == algorithm}
  return [of_seed[seed] for seed in seeds]


def curves_of(rows: Sequence[dict], algorithm: str, seeds: Sequence[int]) -> Curves:
  """Returns the curves of an algorithm from where the paper's axis begins."""
  of_seeds = [[r for r in rows if (r["algorithm"], r["seed"]) == (algorithm, s)] for s in seeds]
  seen = np.array([row["examples_seen"] for row in of_seeds[0]])
  shown = seen >= min(START, seen[-1])
  columns = [np.array([[row[name] for row in some] for some in of_seeds]) for name in BOUNDS]
  return Curves(seen[shown], *(values[:, shown] for values in columns))


def ends_of(algorithm: str, curves: Curves) -> dict[str, float | None]:
  """Returns both bounds at the end, averaged over seeds."""
  found: dict[str, float | None] = {}
  for split in ("train", "test"):
    ends, errors = (getattr(curves, name)[:, -1] for name in (split, f"{split}_se"))
    found |= average(f"{algorithm}_{split}", ends, errors)
  return found


def are_inside(curves: Curves, limits: tuple[float, float]) -> np.ndarray:
  """Reports for every sample count whether both bounds of all seeds are inside limits."""
  bounds = np.concatenate([curves.train, curves.test])
  return ((bounds >= limits[0]) & (bounds <= limits[1])).all(axis=0)


def holds_from(seen: np.ndarray, holds: np.ndarray) -> int | None:
  """Returns the sample count from which on something holds; None if it does not hold at the end."""
  last = max(np.flatnonzero(~holds), default=-1)
  return int(seen[last + 1]) if last + 1 < len(seen) else None


def as_table(claims: Sequence[dict]) -> str:
  """Formats a line for each panel; least lead is AEVB's smallest test bound minus wake-sleep's.

  The number in parentheses is the standard deviation over seeds.
  """
  in_words = lambda samples: "never" if samples is None else f"{samples:.2g}"
  lines = [
    f"{'':19}{'samples':>9} {'seeds':>6} {'AEVB: train':>12} {'test':>15} "
    f"{'wake-sleep: train':>18} {'test':>15} "
    f"{'least lead':>11} {'ahead from':>11} {'AEVB there after':>17} {'both in axes from':>18}"
  ]
  for row in claims:
    name = f"{figures.name_of(row['dataset'])}, J = {row['latent_dim']}"
    inside = [row[f"{algorithm}_inside_axes_from"] for algorithm in (AEVB, WAKE_SLEEP)]
    tests = [
      with_spread(f"{row[name]:.1f}", row[f"{name}_sd"], digits=1)
      for name in (f"{AEVB}_test", f"{WAKE_SLEEP}_test")
    ]
    lines.append(
      f"{name:19}{row['examples_seen']:>9.2g} {len(row['seeds']):>6} "
      f"{row['aevb_train']:>12.1f} {tests[0]:>15} {row['wake_sleep_train']:>18.1f} "
      f"{tests[1]:>15} {row['smallest_lead']:>+11.1f} "
      f"{in_words(row['ahead_from']):>11} "
      f"{in_words(row['samples_to_best_of_wake_sleep']):>17} "
      f"{in_words(None if None in inside else max(inside)):>18}"
    )
  return "\n".join(lines)
