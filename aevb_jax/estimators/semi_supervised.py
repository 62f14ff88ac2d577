"""Estimators for data points (x, c): given a condition, or with a label that may be missing.

One data point is a vector (x, c) of shape (D + C,), so that `fit`, `evaluate`, `aevb` and sharded
minibatches take such data as any other. `data.beside` keeps a `preprocess` of x away from c.
"""

import math

import jax
import jax.numpy as jnp

from aevb_jax.models.conditions import given_condition
from aevb_jax.types import Array, Conditional, Estimator, Key, Model, Params


def conditioned(estimator: Estimator, *, data_dim: int) -> Estimator:
  """Makes an estimator of a bound on log p(x|c) for the data point (x, c), from one for x.

  Args:
    estimator: any estimator of a bound on log p(x).
    data_dim: D, the length of x in (x, c).

  Returns:
    An estimator of a conditional model for one data point (x, c), shape (D + C,), with the
    properties of `estimator`: (key, model, params, xc) -> estimator(key, model given c, params, x).
  """

  def of_pair(key: Key, model: Model, params: Params, xc: Array, **kwargs) -> Array:
    x, c = xc[:data_dim], xc[data_dim:]
    return estimator(key, given_condition(model, c), params, x, **kwargs)

  return of_pair


def semi_supervised_bound(
  estimator: Estimator,
  classifier: Conditional,
  *,
  data_dim: int,
  alpha: float = 0.0,
  copies: int = 1,
) -> Estimator:
  """Makes an estimator of the objective of M2 for one data point (x, y), labelled or not.

  With −L(x, y) a bound on log p(x, y), such as `elbo_b` of the model given y, plus log 1/K:

    with a label y, one-hot:   −L(x, y) + α log q(y|x)
    without, y = 0:            −U(x) = Σ_y q(y|x) (−L(x, y) − log q(y|x)), a bound on log p(x)

  The sum over the K classes is exact. If `estimator` is unbiased for a bound, so is this for the
  objective, in value and in gradient. With rows of `labelled_rows`, the mean over all N' of them is

    (1/N') (Σ_labelled (−L(x, y) + α log q(y|x)) + Σ_unlabelled −U(x)),

  because each of the `copies` rows of a labelled example has the weight 1 / copies. A minibatch is
  a draw of rows that are all as likely, so its mean is unbiased for this. `aevb` takes N' as
  `num_data`, so that a prior on the weights counts once against all examples.

  Source: Kingma, Rezende, Mohamed & Welling (2014), equations 6 to 9. There, α of the whole is
    0.1 N for the mean of log q(y|x) over N_l labelled examples of N: `alpha=0.1 * N / N_l` here.

  Args:
    estimator: any estimator of a bound on log p(x|y).
    classifier: q(y|x), of the family `one_hot(K)`, which is given `params.phi`, as the one that
      `m2_vae` returns.
    data_dim: D, the length of x in (x, y).
    alpha: α, the weight of log q(y|x) of a labelled example; 0 for the bound itself.
    copies: how many times each labelled example is in the data set.

  Returns:
    An estimator of a conditional model for one data point (x, y), shape (D + K,), in nats. It costs
    K times as much as `estimator`.

  Raises:
    ValueError: if alpha is negative, or copies is not positive; and by the estimator, if (x, y) has
      fewer than two classes.
  """
  if not 0 <= alpha < math.inf or copies < 1:
    raise ValueError(f"alpha is {alpha}, copies is {copies}, expected at least 0 and at least 1")

  def of_pair(key: Key, model: Model, params: Params, xy: Array, **kwargs) -> Array:
    x, y = xy[:data_dim], xy[data_dim:]
    if len(y) < 2:
      raise ValueError(f"(x, y) has {len(xy)} numbers, expected {data_dim} and one for each class")
    classes, keys = jnp.eye(len(y)), jax.random.split(key, len(y))

    def minus_l(key: Key, y: Array) -> Array:
      return estimator(key, given_condition(model, y), params, x, **kwargs) - math.log(len(y))

    bounds = jax.vmap(minus_l)(keys, classes)
    q = classifier.given(params.phi, x)
    log_q = jax.vmap(q.log_prob)(classes)
    labelled = jnp.vdot(y, bounds + alpha * log_q)
    unlabelled = jnp.vdot(q.mean, bounds - log_q)
    return jnp.where(jnp.any(y > 0), labelled / copies, unlabelled)

  return of_pair


def label_log_prob(classifier: Conditional, *, data_dim: int) -> Estimator:
  """Makes the log-probability log q(y|x) of the label, for one data point (x, y).

  It trains a classifier by its labels only, such as one of M1's features: `aevb` maximizes it with
  the examples that have a label.

  Args:
    classifier: q(y|x), which is given `params.phi`.
    data_dim: D, the length of x in (x, y).

  Returns:
    A function with the arguments of an estimator, of which the key and the model are not used. Its
    value is in nats, and 0 for y = 0.
  """

  def log_prob(key: Key, model: Model, params: Params, xy: Array) -> Array:
    del key, model
    y = xy[data_dim:]
    q = classifier.given(params.phi, xy[:data_dim])
    return jnp.vdot(y, jax.vmap(q.log_prob)(jnp.eye(len(y))))

  return log_prob


def is_mistaken(classifier: Conditional, params: Params, xy: Array, *, data_dim: int) -> Array:
  """Tests whether the most probable class of q(y|x) is not the label of (x, y).

  Args:
    classifier: q(y|x), which is given `params.phi`.
    params: θ and φ.
    xy: one data point with its label, shape (D + K,).
    data_dim: D, the length of x in (x, y).

  Returns:
    1.0 for a mistake, otherwise 0.0; its mean over a data set is the error.
  """
  q = classifier.given(params.phi, xy[:data_dim])
  return jnp.where(jnp.argmax(q.mean) == jnp.argmax(xy[data_dim:]), 0.0, 1.0)
