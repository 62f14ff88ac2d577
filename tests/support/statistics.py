"""The checks of statistical claims, each with a small probability of a false alarm."""

import numpy as np
import scipy.stats

FALSE_ALARM = 1e-6


def assert_unbiased(samples, exact, *, detects=None, detects_shift=None, false_alarm=FALSE_ALARM):
  """Asserts by a two-sided z-test that the mean of `samples` is `exact`.

  Args:
    samples: independent draws, shape (n, ...); n large enough for the mean to
      be Gaussian.
    exact: the claimed expectation, shape (...).
    detects: the test's power. The same samples must reject `exact` multiplied as a
      whole by 1 + detects, so a wrong factor of that size shows in at least one
      coordinate. A test without this power could not have failed.
    detects_shift: the same for `exact` plus this number in every coordinate, for an
      expectation of zero.
    false_alarm: probability that a true claim is rejected, over all coordinates
      together (Bonferroni).
  """
  threshold = scipy.stats.norm.isf(false_alarm / (2 * np.size(exact)))
  worst = _max_z_score(samples, exact)
  assert worst < threshold, f"max |z| is {worst:.2f}, threshold {threshold:.2f}"
  planted_errors = []
  if detects is not None:
    planted_errors.append(np.asarray(exact) * (1 + detects))
  if detects_shift is not None:
    planted_errors.append(np.asarray(exact) + detects_shift)
  for planted in planted_errors:
    planted_worst = _max_z_score(samples, planted)
    assert planted_worst > threshold, f"too weak: max |z| {planted_worst:.2f} of a planted error"


def _max_z_score(samples, exact):
  samples = np.asarray(samples, np.float64).reshape(len(samples), -1)
  exact = np.asarray(exact, np.float64).ravel()
  assert samples.shape[1] == exact.size and np.isfinite(samples).all()
  error = np.abs(samples.mean(0) - exact)
  # Where nothing varies, only a rounding error may be left.
  rounding = 1e-12 * (1 + np.abs(exact))
  return np.max(error / (samples.std(0, ddof=1) / np.sqrt(len(samples)) + rounding))


def assert_greater(larger, smaller, *, false_alarm=FALSE_ALARM):
  """Asserts by a one-sided paired z-test that E[larger] > E[smaller] significantly."""
  difference = np.asarray(larger, np.float64) - np.asarray(smaller, np.float64)
  z = difference.mean() / (difference.std(ddof=1) / np.sqrt(difference.size))
  assert z > scipy.stats.norm.isf(false_alarm), f"z is {z:.2f}"


def assert_errors_are_right(errors, standard_errors, *, false_alarm=FALSE_ALARM):
  """Asserts that the standard errors of n independent estimates have the right size.

  The root mean squares of errors and standard errors must agree within a fifth. The number of
  95 % intervals that cover the truth must fit a binomial distribution of 93 to 96 %. With
  n = 400, claimed standard errors that are a third too small are rejected.
  """
  errors, standard_errors = np.asarray(errors), np.asarray(standard_errors)
  claimed, actual = (np.sqrt(np.mean(e**2)) for e in (standard_errors, errors))
  assert 0.8 < claimed / actual < 1.25, f"claimed {claimed:.4g}, actual {actual:.4g}"
  covered = np.sum(np.abs(errors) < 1.96 * standard_errors)
  assert scipy.stats.binom.cdf(covered, len(errors), 0.93) > false_alarm, covered
  assert scipy.stats.binom.sf(covered - 1, len(errors), 0.96) > false_alarm, covered
