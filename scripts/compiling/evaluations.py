"""Programs of evaluation: `evaluate` of the bound and of the estimators of log p(x)."""

import functools
from collections.abc import Callable

import jax
from compiling.sizes import Sizes
from compiling.steps import Program, key_shape, pixel_shape, placed

from aevb_jax import elbo_b, evaluate, importance_sampling, init_params
from aevb_jax.data.preprocess import binarize, threshold
from aevb_jax.inference import (
  annealed_importance_sampling,
  bidirectional_monte_carlo,
  reciprocal_importance_sampling,
)
from aevb_jax.models.joint import simulate
from aevb_jax.training.sharding import Shardings
from aevb_jax.types import Array, Key, Model, Params


def bound(sizes: Sizes) -> tuple[Callable, Callable]:
  return elbo_b, binarize


def importance(sizes: Sizes) -> tuple[Callable, Callable]:
  return functools.partial(importance_sampling, num_samples=sizes.importance_samples), binarize


def annealing(sizes: Sizes) -> tuple[Callable, Callable]:
  how = dict(num_temperatures=sizes.num_temperatures, num_chains=sizes.num_chains)
  how |= dict(num_leapfrogs=sizes.num_leapfrogs)
  return functools.partial(annealed_importance_sampling, **how), threshold


def bidirectional(sizes: Sizes) -> tuple[Callable, Callable]:
  """Makes the sandwich of log p(x) for an x that the model itself draws."""
  how = dict(num_temperatures=sizes.num_temperatures, num_chains=sizes.num_chains)
  how |= dict(num_leapfrogs=sizes.num_leapfrogs)

  def of_simulated(key: Key, model: Model, params: Params, x: Array):
    del x
    draw_key, key = jax.random.split(key)
    z, x = simulate(draw_key, model, params)
    return bidirectional_monte_carlo(key, model, params, x, z, **how)

  return of_simulated, threshold


def reciprocal(sizes: Sizes) -> tuple[Callable, Callable]:
  how = dict(num_temperatures=sizes.num_temperatures // 4, num_chains=sizes.num_chains)
  how |= dict(num_samples=4 * sizes.num_leapfrogs, num_warmup=4 * sizes.num_leapfrogs)
  return functools.partial(reciprocal_importance_sampling, **how), threshold


def evaluation(
  parts_of: Callable, sizes: Sizes, shardings: Shardings | None, *, model_of: Callable
) -> Program:
  """Makes `evaluate` of an estimator at the points of a data set, which all devices hold."""
  # The reciprocal estimator is for few latents.
  few = parts_of is reciprocal
  model = model_of(sizes, latent_dim=3) if few else model_of(sizes)
  estimate, preprocess = parts_of(sizes)
  of_point = lambda key, params, x: estimate(key, model, params, x)
  run = functools.partial(
    evaluate, of_point, preprocess=preprocess, sharding=shardings and shardings.evaluation
  )
  everywhere = shardings and shardings.replicated
  params = jax.eval_shape(lambda key: init_params(key, model), key_shape(None))
  pixels = pixel_shape(sizes, everywhere, sizes.num_points)
  return Program(run, (key_shape(everywhere), placed(params, everywhere), pixels))


EVALUATIONS = {
  name: functools.partial(evaluation, parts_of)
  for name, parts_of in {
    "bound": bound,
    "importance sampling": importance,
    "annealed importance sampling": annealing,
    "bidirectional Monte Carlo": bidirectional,
    "reciprocal": reciprocal,
  }.items()
}
