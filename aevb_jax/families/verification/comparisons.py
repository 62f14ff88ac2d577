"""Comparisons of a family's functions with its own draws, for `verification`.

Each comparison is a z-test of a mean that has to be 0 or 1. The density is tested without any
integral over the support: for every density f on the support, E[f(z) / p(z)] = 1 over draws z. Here
f is a histogram of other draws of the same member, or a third of one.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.stats

# All comparisons of one `check` together, of which there are fewer than 10 000, reject a right
# family with a probability of 1e-6.
Z_SCORE = float(scipy.stats.norm.isf(1e-6 / 2 / 10_000))
DETECTS = 0.05  # an error in log p in nats, or of a mean in standard deviations, that is found
LARGE_PART = 0.1  # the share of the draws of a part in which twice such an error has to be found
# A mean is not Gaussian if one draw makes more than this share of the sum of squares.
LARGEST_SHARE = 0.05
BINS = 24  # of a histogram, between the quantiles 0.02 and 0.98
TRIMS = (0, BINS // 4, 5 * BINS // 12)  # bins left out on each side
ATOM = 0.005  # the least share of the draws that makes a repeated value a point mass
FEW = 20


class Difference(NamedTuple):
  """The result of one comparison.

  Attributes:
    size: mean of the samples less what it has to be.
    allowed: the size that chance explains.
    decided: whether an error of the size that matters would have been found.
  """

  size: float
  allowed: float
  decided: bool

  @property
  def is_wrong(self) -> bool:
    return abs(self.size) > self.allowed


def compare(samples: np.ndarray, expected: float, detects: float) -> Difference:
  """Compares the mean of independent samples with its expectation.

  The size that chance explains is that of a z-test and, for samples that are not Gaussian, the term
  of Bernstein's inequality for their largest. With a few draws that make most of the variance,
  nothing is decided.

  Args:
    samples: shape (n,).
    expected: the mean that they must have.
    detects: the smallest error that matters.
  """
  n, error = len(samples), samples - expected
  deviation = error - error.mean()
  squares = float(np.sum(deviation**2))
  largest = float(np.max(np.abs(deviation)))
  rounding = 1e-4 * detects
  allowed = Z_SCORE * np.sqrt(squares) / n + Z_SCORE**2 * largest / (3 * n) + rounding
  few = largest > rounding and largest**2 > LARGEST_SHARE * squares
  if few or not np.isfinite(squares):
    return Difference(0.0, np.inf, False)
  return Difference(float(error.mean()), float(allowed), bool(allowed <= detects))


class Draws(NamedTuple):
  """Draws of one member, the first ones for choosing histograms, with n rows in each array.

  Attributes:
    z: shape (n, J).
    y: coordinates of z without borders, shape (n, K).
    log_prob: log p(z), shape (n,).
    log_det: log |∂z/∂y| of each coordinate, shape (n, K).
    is_discrete: whether all values are point masses.
    num_first: how many draws the histograms are made of.
  """

  z: np.ndarray
  y: np.ndarray
  log_prob: np.ndarray
  log_det: np.ndarray
  is_discrete: bool
  num_first: int


class Part(NamedTuple):
  """A histogram of one coordinate: its density at each draw, and the coordinate in words."""

  words: str
  density: np.ndarray


def find_atoms(draws: Draws, known: list[np.ndarray] | None = None) -> list[np.ndarray]:
  """Finds the point masses of each coordinate: values that repeat among the draws.

  Args:
    draws: draws of one member.
    known: the point masses in float64. Draws in float32 repeat where floats are coarse, and only
      values that are close to these are point masses.

  Returns:
    The values for each coordinate, sorted.
  """
  found = []
  least = FEW if draws.is_discrete else ATOM * draws.num_first
  for k in range(draws.y.shape[1]):
    values, counts = np.unique(draws.z[: draws.num_first, k], return_counts=True)
    values = values[counts >= least]
    if known is not None and not draws.is_discrete:
      values = np.array([v for v in values if np.isclose(v, known[k], rtol=1e-6).any()])
    found.append(values)
  return found


def compare_densities(draws: Draws, atoms: list[np.ndarray]) -> list[tuple[str, Difference]]:
  """Compares log_prob with draws, over the whole and over parts of each coordinate.

  Args:
    draws: draws of one member.
    atoms: the point masses of each coordinate.

  Returns:
    Words for a part of the support, and E[f(z) / p(z)] less 1 for a density f on it.
  """
  is_atom = np.stack([np.isin(draws.z[:, k], a) for k, a in enumerate(atoms)], axis=1)
  log_q = draws.log_prob + np.sum(np.where(is_atom, 0.0, draws.log_det), axis=1)
  w = draws.y
  if not is_atom.any() and not draws.is_discrete:
    w, log_scale = _uncorrelated(w, draws.num_first)
    log_q = log_q + log_scale
  q = np.exp(np.minimum(log_q, 700))
  coordinates = range(w.shape[1])
  sides: list[list[Part]] = []
  wholes: list[list[np.ndarray]] = []
  for k in coordinates:
    column = _Column(draws.z[:, k], w[:, k], is_atom[:, k], draws.num_first, draws.is_discrete)
    sides.append(_parts(column, k))
    wholes.append([_whole(column, trim) for trim in TRIMS])
  cells: list[tuple[str, list[np.ndarray | None]]] = [("", [None] * len(coordinates))]
  for k in coordinates:
    for part in sides[k] if len(sides[k]) > 1 else []:
      cells.append((part.words, [part.density if i == k else None for i in coordinates]))
  results = []
  for words, densities in cells:
    ratios = (_ratio(densities, wholes, trim) / q for trim in range(len(TRIMS)))
    detects = 2 * DETECTS if words else DETECTS
    difference = _most_decided(ratios, draws.num_first, detects)
    small = any(d is not None and np.mean(d > 0) < LARGE_PART for d in densities)
    results.append((words, difference._replace(decided=difference.decided or small)))
  return results


def _most_decided(ratios: Iterable[np.ndarray], num_first: int, detects: float) -> Difference:
  """Compares by the widest histogram that the first draws find good enough."""
  best, best_allowed = None, np.inf
  for ratio in ratios:
    first = compare(ratio[:num_first], 1.0, detects)
    allowed = first.allowed * np.sqrt(num_first / (len(ratio) - num_first))
    if best is None or allowed < best_allowed:
      best, best_allowed = ratio, allowed
    if allowed <= detects:
      break
  assert best is not None
  return compare(best[num_first:], 1.0, detects)


def _ratio(
  densities: list[np.ndarray | None], wholes: list[list[np.ndarray]], trim: int
) -> np.ndarray:
  """Multiplies the densities of all coordinates; None is that of the whole coordinate."""
  total = np.ones(1)
  for density, whole in zip(densities, wholes, strict=True):
    total = total * (whole[trim] if density is None else density)
  return total


class _Column(NamedTuple):
  """One coordinate of all draws: z, its coordinate w, and whether z is a point mass."""

  z: np.ndarray
  w: np.ndarray
  is_atom: np.ndarray
  num_first: int
  is_discrete: bool


def _histogram(column: _Column, trim: int = 0, third: int | None = None) -> np.ndarray | None:
  """Returns a density over the continuous draws at each draw; None if there are few of them.

  Bins have equal shares of the first draws, between their quantiles 0.02 and 0.98. `trim` leaves
  out bins on both sides, and `third` takes a third of them.
  """
  usable = ~column.is_atom & np.isfinite(column.w)
  first = column.w[: column.num_first][usable[: column.num_first]]
  if column.is_discrete or len(first) < 0.02 * column.num_first or len(first) < BINS * FEW:
    return None
  edges = np.unique(np.quantile(first, np.linspace(0.02, 0.98, BINS + 1)))
  if len(edges) <= BINS:
    return None
  start, stop = trim, BINS - trim
  if third is not None:
    start, stop = third * BINS // 3, (third + 1) * BINS // 3
  values = np.zeros(BINS + 2)
  values[start + 1 : stop + 1] = 1 / (stop - start) / np.diff(edges)[start:stop]
  index = np.searchsorted(edges, np.where(usable, column.w, edges[0] - 1), side="right")
  return values[index]


def _shares(column: _Column, values: np.ndarray) -> np.ndarray:
  """Returns the share of the first draws that each of some point masses has, at each draw."""
  first = column.z[: column.num_first]
  counts = np.array([np.sum(first == v) for v in values])
  index = np.minimum(np.searchsorted(values, column.z), len(values) - 1)
  return np.where(values[index] == column.z, (counts / counts.sum())[index], 0.0)


def _whole(column: _Column, trim: int) -> np.ndarray:
  values = np.unique(column.z[column.is_atom])
  continuous = _histogram(column, trim)
  if not len(values):
    return np.zeros(len(column.z)) if continuous is None else continuous
  masses = _shares(column, values)
  if continuous is None:
    return masses
  share = np.mean(column.is_atom[: column.num_first])
  return share * masses + (1 - share) * continuous


def _parts(column: _Column, k: int) -> list[Part]:
  """Splits a coordinate into thirds of its continuous draws, and point masses."""
  parts = []
  for third in range(3):
    density = _histogram(column, third=third)
    if density is not None:
      there = column.z[density > 0]
      words = f" where z[{k}] is from {there.min():.3g} to {there.max():.3g}" if len(there) else ""
      parts.append(Part(words, density))
  values = np.unique(column.z[column.is_atom])
  if not len(values):
    return parts
  for group in np.array_split(values, min(3, len(values))):
    masses = _shares(column, group)
    to = f"{group[0]:.3g}" if len(group) == 1 else f"from {group[0]:.3g} to {group[-1]:.3g}"
    parts.append(Part(f" where z[{k}] is {to}", masses))
  return parts


def _uncorrelated(y: np.ndarray, num_first: int) -> tuple[np.ndarray, float]:
  """Maps y linearly so that ranks of its coordinates are uncorrelated; and log |∂y/∂w|."""
  first = y[:num_first][np.isfinite(y[:num_first]).all(axis=1)]
  middle, quartiles = np.median(first, axis=0), np.quantile(first, [0.25, 0.75], axis=0)
  scale = quartiles[1] - quartiles[0]
  if not np.all(scale > 0):
    return y, 0.0
  ranks = scipy.stats.rankdata(first, axis=0) / (len(first) + 1)
  correlation = np.atleast_2d(np.corrcoef(scipy.stats.norm.ppf(ranks), rowvar=False))
  correlation[np.abs(correlation) < 0.1] = 0  # by chance
  try:
    factor = np.linalg.cholesky(correlation)
  except np.linalg.LinAlgError:
    factor = np.eye(len(scale))
  standard = (y - middle) / scale
  with np.errstate(invalid="ignore"):
    w = standard @ np.linalg.inv(factor).T
  return w, float(np.sum(np.log(scale * np.diagonal(factor))))


def compare_moments(
  draws: Draws, mean: np.ndarray, variance: np.ndarray | None, entropy: float | None
) -> list[tuple[str, float, Difference]]:
  """Compares moments and entropy with draws; those that are infinite or NaN do not exist.

  Returns:
    The name of each, the claimed value, and the mean of the draws less that value.
  """
  results = []
  for j, column in enumerate(draws.z.T):
    if np.isfinite(mean[j]):
      spread = float(column.std()) or 1.0
      difference = compare(column, mean[j], DETECTS * spread)
      results.append((f"mean[{j}]", float(mean[j]), difference))
    if variance is not None and np.isfinite([mean[j], variance[j]]).all():
      squares = (column - mean[j]) ** 2
      difference = compare(squares, variance[j], 2 * DETECTS * float(squares.mean()) or 1.0)
      results.append((f"variance[{j}]", float(variance[j]), difference))
  if entropy is not None and np.isfinite(entropy):
    results.append(("entropy", entropy, compare(-draws.log_prob, entropy, 2 * DETECTS)))
  return results
