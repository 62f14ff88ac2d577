"""Where densities are positive, in words, and whether q(z|x) stays where p(z) is."""

import jax
import numpy as np

from aevb_jax.errors import UnsupportedError
from aevb_jax.types import Distribution, Family, Support


def check_support(q: Family, p: Distribution) -> None:
  """Raises UnsupportedError where a member of `q` may be where p(z) has no density.

  KL(q ‖ p) is infinite then, and so is any bound. The converse, a q(z|x) that keeps to a part
  of where p(z) is, such as a Beta under a Gaussian, is a bound like any other.
  """
  if not contains(p.support, q.widest):
    raise UnsupportedError(
      f"q(z|x) may be on {in_words(q.widest)}, and p(z), of which a bound takes the logarithm "
      f"there, is on {in_words(p.support)} alone"
    )


def contains(whole: Support, part: Support) -> bool:
  """Whether `part` lies in `whole`, and is of its kind, so that one has a density by the other."""
  if whole.kind != part.kind:
    return False
  return bool(np.all(whole.low <= part.low) and np.all(part.high <= whole.high))


def in_words(support: Support) -> str:
  """A support in words, such as "the positive numbers"."""
  try:
    low, high = float(np.min(support.low)), float(np.max(support.high))
  except jax.errors.TracerArrayConversionError:
    return "an interval with ends of its own"
  if support.kind == "simplex":
    return "the simplex"
  if support.kind == "integers":
    return f"the whole numbers from {low:g} to {high:g}"
  if support.kind == "levels":
    return f"levels from {low:g} to {high:g}"
  if (low, high) == (-np.inf, np.inf):
    return "all numbers"
  if (low, high) == (0, np.inf):
    return "the positive numbers"
  return f"the numbers from {low:g} to {high:g}"


def mismatch_in_words(q: Support, p: Support) -> str | None:
  """How the supports of q and p differ, or None."""
  q_words, p_words = in_words(q), in_words(p)
  return None if q_words == p_words else f"q is on {q_words}, p on {p_words}"
