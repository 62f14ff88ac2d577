"""The sets where densities are positive, and a check that q(z|x) stays inside the set of p(z)."""

import jax
import numpy as np

from aevb_jax.errors import UnsupportedError
from aevb_jax.types import Distribution, Family, Support

ENDS_OF_ITS_OWN = "an interval with ends of its own"  # they are known only inside a trace


def check_support(q: Family, p: Distribution) -> None:
  """Raises UnsupportedError if a member of `q` may draw z where p(z) has no density.

  KL(q ‖ p) is then infinite, and so is any bound. The converse is allowed: a q(z|x) that covers
  only a part of the support of p(z), such as a Beta under a Gaussian, gives a valid bound.

  Args:
    q: the family of q(z|x); the check uses its `widest` support.
    p: p(z).

  Raises:
    UnsupportedError: if the support of p does not contain `q.widest`, or is of another kind.
  """
  if not contains(p.support, q.widest):
    raise UnsupportedError(
      f"q(z|x) may be on {in_words(q.widest)}, and p(z), of which a bound takes the logarithm "
      f"there, is only on {in_words(p.support)}"
    )


def contains(whole: Support, part: Support) -> bool:
  """Tests that `part` lies in `whole` and is of the same kind.

  A distribution on `part` has a density with respect to one on `whole` only in this case.
  """
  if whole.kind != part.kind:
    return False
  return bool(np.all(whole.low <= part.low) and np.all(part.high <= whole.high))


def in_words(support: Support) -> str:
  """Describes a support in words, such as "the positive numbers"."""
  try:
    low, high = float(np.min(support.low)), float(np.max(support.high))
  except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
    return ENDS_OF_ITS_OWN
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
  """Describes in words how the supports of q and p differ; None if they do not, or may not."""
  q_words, p_words = in_words(q), in_words(p)
  same = q_words == p_words or ENDS_OF_ITS_OWN in (q_words, p_words)
  return None if same else f"q is on {q_words}, p on {p_words}"
