"""Auto-encoding variational Bayes: algorithm 1."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from aevb_jax.estimators.sgvb import draw, map_samples
from aevb_jax.families.base import LOG_2PI
from aevb_jax.models.conditions import given_condition
from aevb_jax.models.vae import init_params
from aevb_jax.ops.keys import as_words
from aevb_jax.training.nonfinite import (
  Terms,
  finite_by_name,
  finite_kl,
  terms_of_update,
  terms_of_z,
)
from aevb_jax.training.sharding import mean_over_devices
from aevb_jax.types import (
  Algorithm,
  Array,
  Estimator,
  Key,
  Model,
  Params,
  PyTree,
  Scheduled,
  TrainState,
)


def gaussian_weight_prior(precision: float) -> Callable[[Params], Array]:
  """Makes log p(θ) for N(0, I/precision) on every weight matrix; biases have no prior.

  Section 5 trains for a maximum a posteriori estimate under N(0, I). As in the author's code, the
  prior covers the matrices of both networks.

  Source: section 5.

  Args:
    precision: the inverse variance of every weight.

  Returns:
    Params -> log density in nats, shape ().

  Raises:
    ValueError: if the precision is not positive.
  """
  if not precision > 0:
    raise ValueError(f"precision is {precision}, expected a positive number")

  def log_density(w: Array) -> Array:
    return -0.5 * (precision * jnp.sum(w**2) + w.size * (LOG_2PI - math.log(precision)))

  def log_prior(params: Params) -> Array:
    weights = jax.tree.leaves((params.theta, params.phi))
    return sum(log_density(w) for w in weights if w.ndim >= 2)  # type: ignore[return-value]

  return log_prior


def minibatch_objective(
  keys: Key,
  estimator: Estimator,
  model: Model,
  params: Params,
  batch: Array,
  *,
  num_data: int,
  log_prior: Callable[[Params], Array] | None = None,
) -> tuple[Array, Array]:
  """Computes equation 8 with the prior on the parameters, in nats per data point.

  Equation 8 estimates the bound of all N data points by (N/M) Σ_i L̃(x_i). With log p(θ) added and
  the whole divided by N, that is the mean over the minibatch plus log p(θ)/N.

  Source: equation 8.

  Args:
    keys: consumed, shape (M,); data point i draws from keys[i].
    estimator: an estimator of the bound of one data point.
    model: passed to the estimator.
    params: passed to the estimator and to `log_prior`.
    batch: M data points, shape (M, D).
    num_data: N, the size of the data set that the minibatch was drawn from.
    log_prior: Params -> log p(θ) in nats; None for a flat prior.

  Returns:
    (objective, bound), both of shape (). Training maximises the objective; the bound is the
    objective without the prior.
  """
  bound = jnp.mean(jax.vmap(lambda key, x: estimator(key, model, params, x))(keys, batch))
  if log_prior is None:
    return bound, bound
  return bound + log_prior(params) / num_data, bound


def aevb(
  model: Model,
  estimator: Estimator | Scheduled,
  optimizer: optax.GradientTransformation,
  *,
  num_data: int,
  log_prior: Callable[[Params], Array] | None = None,
  init: Callable[[Key, Model], Params] = init_params,
  examples_at_once: int | None = None,
) -> Algorithm:
  """Makes algorithm 1 of the paper, with any estimator and any optimizer.

  Source: algorithm 1.

  Args:
    model: the model to learn.
    estimator: an estimator of the bound, such as `elbo_b` or `functools.partial(elbo_b,
      num_samples=L)`; or one that changes with the step, such as `kl_warmup(elbo_b, num_steps)`.
    optimizer: from optax, or `aevb_jax.algorithms.adagrad` for the paper's optimizer.
    num_data: N, the number of examples that `fit` will be given; it weights the prior against the
      data.
    log_prior: Params -> log p(θ), such as `gaussian_weight_prior(1.0)`.
    init: (key, model) -> initial Params, if the estimator needs more than θ and φ: a baseline's ψ
      (`with_baseline`) or a q(θ) (`full_variational_bayes.init_params`).
    examples_at_once: examples of a minibatch whose gradients are computed together. A minibatch is
      taken in parts of this size, one after the other, so that each part fits in memory, or in a
      CPU's cache. It must divide M. None for all. The result depends on it only by rounding.

  Returns:
    `init(key)` makes a `TrainState`. `update(state, batch)` takes a minibatch (M, D) and returns
    the next state and {"bound": the estimate on that minibatch in nats per data point, before the
    update and without the prior}. `update` ignores the positions of the examples in the data set,
    which `fit` passes to it. It raises ValueError if `examples_at_once` does not divide M.
  """

  def init_state(key: Key) -> TrainState:
    params_key, key = jax.random.split(key)
    params = init(params_key, model)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), key)

  def update(
    state: TrainState, batch: Array, index: Array | None = None
  ) -> tuple[TrainState, dict]:
    del index  # nothing is kept per example
    num_parts = _num_parts(len(batch), examples_at_once)

    def of_examples(common: tuple[Params, Array], examples: tuple[Key, Array]) -> PyTree:
      params, step = common
      estimator_now = estimator.at(step) if isinstance(estimator, Scheduled) else estimator

      def loss(params: Params, keys: Key, batch: Array) -> tuple[Array, Array]:
        objective, bound = minibatch_objective(
          keys, estimator_now, model, params, batch, num_data=num_data, log_prior=log_prior
        )
        return -objective, bound  # optimizers minimise: the only minus sign

      gradient = functools.partial(jax.grad(loss, has_aux=True), params)
      return _mean_over_parts(gradient, *examples, num_parts), ()

    examples = example_keys(state, len(batch)), batch
    (grads, bound), _ = mean_over_devices(of_examples, (state.params, state.step), examples)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state, state.key), {"bound": bound}

  return Algorithm(init_state, update)


def example_keys(state: TrainState, batch_size: int) -> Key:
  """Makes the keys (M,) of the next update, one for each example's estimator."""
  return jax.random.split(jax.random.fold_in(state.key, state.step), batch_size)


def _num_parts(batch_size: int, part_size: int | None) -> int:
  """Returns the number of parts of `part_size` examples in a minibatch, at least 1."""
  if part_size is None or part_size >= batch_size:
    return 1
  num_parts, rest = divmod(batch_size, part_size)
  if rest:
    raise ValueError(f"examples_at_once is {part_size}, which does not divide {batch_size}")
  return num_parts


def _mean_over_parts(
  function: Callable[[Key, Array], PyTree], keys: Key, batch: Array, num_parts: int
) -> PyTree:
  """Computes `function`, a mean over examples, for all of them, one of the equal parts at once.

  One device's share of a minibatch may not divide into as many parts; then it takes a few more.
  """
  number = len(batch)
  num_parts = next(n for n in range(min(num_parts, number), number + 1) if number % n == 0)
  if num_parts == 1:
    return function(keys, batch)

  def parts(array: Array) -> Array:
    # A part has every num_parts-th example, so that each device uses its own share of a minibatch.
    return jnp.moveaxis(array.reshape(-1, num_parts, *array.shape[1:]), 1, 0)

  words, with_keys = as_words((keys, batch))

  def of_part(part: tuple[Array, Array]) -> PyTree:
    return function(*with_keys(part))

  def add(total: PyTree, part: tuple[Array, Array]) -> tuple[PyTree, None]:
    return jax.tree.map(jnp.add, total, of_part(part)), None

  words_and_batches = jax.tree.map(parts, words)
  shapes = jax.eval_shape(of_part, jax.tree.map(lambda a: a[0], words_and_batches))
  start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  total, _ = jax.lax.scan(add, start, words_and_batches)
  return jax.tree.map(lambda leaf: leaf / num_parts, total)


def explain_aevb(
  algorithm: Algorithm,
  model: Model,
  *,
  num_samples: int = 1,
  log_prior: Callable[[Params], Array] | None = None,
  data_dim: int | None = None,
) -> Algorithm:
  """Makes an algorithm that finds the non-finite numbers of the next update of `aevb`.

  It is an algorithm so that `fit` can run it. `fit(explain_aevb(...), state, ..., num_steps=1)`
  takes the minibatch that the update at that state takes, and draws z as its estimator does.

  Args:
    algorithm: made by `aevb`, without `skip_nonfinite` around it. Its estimator must draw z as
      `log_weights` does. Nearly all estimators of the package do, but not `full_vb`, which draws θ
      too.
    model: the model of the algorithm.
    num_samples: L of the estimator.
    log_prior: the prior of the algorithm.
    data_dim: D, if the model is conditional and a data point is (x, c), as for `conditioned`; None
      for a data point x.

  Returns:
    An algorithm whose `update` returns the state unchanged, and `Terms` as its metrics, to which
    `fit` adds a leading axis. `first_offence` puts the terms of one update into words.
  """

  def of_example(key: Array, params: Params, x: Array) -> dict:
    if data_dim is None:
      return of_point(key, model, params, x)
    return of_point(key, given_condition(model, x[data_dim:]), params, x[:data_dim])

  def of_point(key: Array, model: Model, params: Params, x: Array) -> dict:
    q, p = model.encoder.given(params.phi, x), model.prior(params)
    z = draw(key, q, num_samples)
    of_sample = lambda z: terms_of_z(model, params, x, z) | dict(log_q=jnp.isfinite(q.log_prob(z)))
    samples = jax.tree.map(lambda finite: finite.all(axis=0), map_samples(of_sample, z))
    return dict(x=jnp.isfinite(x).all(), q=finite_by_name(q.eta), kl=finite_kl(q, p), **samples)

  def update(state: PyTree, batch: Array, index: Array) -> tuple[PyTree, Terms]:
    keys = example_keys(state, len(batch))
    of_examples = jax.vmap(of_example, (0, None, 0))(keys, state.params, batch)
    whole = terms_of_update(algorithm, state, batch, index, log_prior)
    return state, Terms(index=index, **whole, **of_examples)

  return Algorithm(algorithm.init, update)
