"""The one helper for every statistical claim."""

import numpy as np
import scipy.stats

FALSE_ALARM = 1e-6


def assert_unbiased(samples, exact, *, detects=None, false_alarm=FALSE_ALARM):
  """A two-sided z-test that the mean of `samples` is `exact`.

  Args:
    samples: independent draws, shape (n, ...); n large enough for the mean to
      be Gaussian.
    exact: the claimed expectation, shape (...).
    detects: the test's power. The same samples must reject `exact` multiplied by
      1 + detects, or else the test could not have failed for that error.
    false_alarm: probability that a true claim is rejected, over all coordinates
      together (Bonferroni).
  """
  threshold = scipy.stats.norm.isf(false_alarm / (2 * np.size(exact)))
  worst = _max_z_score(samples, exact)
  assert worst < threshold, f"max |z| is {worst:.2f}, threshold {threshold:.2f}"
  if detects is not None:
    planted = _max_z_score(samples, np.asarray(exact) * (1 + detects))
    assert planted > threshold, f"too weak: an error of {detects:.1%} has max |z| {planted:.2f}"


def _max_z_score(samples, exact):
  samples = np.asarray(samples, np.float64).reshape(len(samples), -1)
  exact = np.asarray(exact, np.float64).ravel()
  assert samples.shape[1] == exact.size and np.isfinite(samples).all()
  error = np.abs(samples.mean(0) - exact)
  # Where nothing varies, rounding is all that may be left.
  rounding = 1e-12 * (1 + np.abs(exact))
  return np.max(error / (samples.std(0, ddof=1) / np.sqrt(len(samples)) + rounding))


def assert_greater(larger, smaller, *, false_alarm=FALSE_ALARM):
  """A one-sided paired z-test that E[larger] > E[smaller], which must be significant."""
  difference = np.asarray(larger, np.float64) - np.asarray(smaller, np.float64)
  z = difference.mean() / (difference.std(ddof=1) / np.sqrt(difference.size))
  assert z > scipy.stats.norm.isf(false_alarm), f"z is {z:.2f}"
