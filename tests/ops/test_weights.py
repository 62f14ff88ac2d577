"""Sums and shares of weights of which some, or all, are 0; right values by mpmath."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from aevb_jax.ops.weights import log_sum_exp, normalized_weights

INF = float("inf")
ROWS = {
  "one above 0": [-INF, 0.0, -INF],
  "ordinary": [-3.0, -1.0, -2.5],
  "far below 0": [-5000.0, -5001.0, -INF],
  "far above 0": [4000.0, 3999.5, 10.0],
  "hundreds apart": [-900.0, 0.25, -200.0],
}


def right(row):
  """The sum and the shares, from 50 digits."""
  with mpmath.workdps(50):
    w = [mpmath.exp(mpmath.mpf(a)) for a in row]
    return float(mpmath.log(mpmath.fsum(w))), [float(a / mpmath.fsum(w)) for a in w]


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_against_mpmath(row, dtype, tolerance):
  total, shares = right(row)
  value, gradient = jax.value_and_grad(log_sum_exp)(jnp.asarray(row, dtype))
  assert value.dtype == dtype and gradient.dtype == dtype
  np.testing.assert_allclose(value, total, rtol=tolerance)
  np.testing.assert_allclose(gradient, shares, rtol=tolerance, atol=1e-40)
  np.testing.assert_allclose(normalized_weights(jnp.asarray(row, dtype)), gradient, rtol=tolerance)
  # The second derivatives of a log-sum-exp are diag(w) − w wᵀ.
  hessian = jax.hessian(log_sum_exp)(jnp.asarray(row, dtype))
  expected = np.diag(shares) - np.outer(shares, shares)
  np.testing.assert_allclose(hessian, expected, atol=tolerance)


def test_all_weights_are_0():
  nothing = jnp.full(3, -INF)
  value, gradient = jax.value_and_grad(log_sum_exp)(nothing)
  assert value == -INF
  np.testing.assert_array_equal(gradient, 0)
  np.testing.assert_array_equal(normalized_weights(nothing), 0)
  np.testing.assert_array_equal(jax.jacrev(normalized_weights)(nothing), 0)
  np.testing.assert_array_equal(jax.hessian(log_sum_exp)(nothing), 0)


def test_nan_stays():
  row = jnp.asarray([-INF, jnp.nan, 0.0])
  value, gradient = jax.value_and_grad(log_sum_exp)(row)
  assert jnp.isnan(value) and jnp.isnan(gradient).all() and jnp.isnan(normalized_weights(row)).all()


def test_along_an_axis_and_under_vmap():
  table = jnp.asarray([[-1.0, -INF, 2.0], [0.5, -INF, -INF]])
  np.testing.assert_allclose(log_sum_exp(table, 0), [right([-1, 0.5])[0], -INF, 2.0], rtol=1e-14)
  rows = [right(row) for row in np.asarray(table)]
  np.testing.assert_allclose(log_sum_exp(table), [row[0] for row in rows], rtol=1e-14)
  np.testing.assert_allclose(jax.vmap(log_sum_exp)(table), [row[0] for row in rows], rtol=1e-14)
  of_columns = jax.grad(lambda table: log_sum_exp(table, 0)[0])(table)
  np.testing.assert_allclose(of_columns[:, 0], right([-1, 0.5])[1], rtol=1e-14)
  np.testing.assert_array_equal(of_columns[:, 1:], 0)
