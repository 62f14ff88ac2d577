"""The names of estimators for a command line, with arguments after colons, and users' own ones."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from aevb_jax import names
from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators import importance, sgvb
from aevb_jax.estimators.score_functions import (
  Baseline,
  constant_baseline,
  learned_baseline,
  leave_one_out,
  no_baseline,
  score_function,
  score_function_optimal_scale,
  vimco,
  with_baseline,
)
from aevb_jax.estimators.wake_and_sleep import reweighted_wake_sleep, wake_sleep
from aevb_jax.types import Array, Estimator, Key, Model, Params

TAKES = "key, model, params, x, num_samples=L"  # what every estimator is called with
ESTIMATORS: dict[str, Callable[..., Array]] = {
  "elbo_a": sgvb.elbo_a,
  "elbo_b": sgvb.elbo_b,
  "sticking_the_landing": sgvb.sticking_the_landing,
  "iwae": importance.iwae,
  "dreg": importance.dreg,
  "renyi": importance.renyi,
  "miwae": importance.miwae,
  "ciwae": importance.ciwae,
  "piwae": importance.piwae,
  "score_function": score_function,
  "score_function_optimal_scale": score_function_optimal_scale,
  "vimco": vimco,
  "wake_sleep": wake_sleep,
  "reweighted_wake_sleep": reweighted_wake_sleep,
  "dreg_wake": importance.dreg_wake,
}
BASELINES = {
  "leave_one_out": lambda data_dim: leave_one_out,
  "moving_average": lambda data_dim: constant_baseline,
  "learned": learned_baseline,
}


def parse_estimator(text: str, data_dim: int, num_samples: int) -> tuple[Estimator, Baseline]:
  """Returns the estimator that `text` names, with L and its arguments bound, and the baseline.

  Raises:
    ValueError: if there is no such estimator, or it does not take such arguments.
  """
  name, given = names.split(text, ESTIMATORS)
  arguments = {key: _checked(key, value, data_dim) for key, value in given.items()}
  function = ESTIMATORS.get(name) or names.load(name)
  positional, keywords = TAKES.split(", ")[:-1], dict(num_samples=num_samples) | arguments
  names.check_call(function, *positional, takes=TAKES, **keywords)
  estimator = functools.partial(function, **keywords)
  return estimator, arguments.get("baseline", no_baseline)


def _checked(key: str, value: Any, data_dim: int) -> Any:
  if key == "baseline":
    if value not in BASELINES:
      raise ValueError(f"baseline takes {', '.join(BASELINES)}, not {value!r}")
    return BASELINES[value](data_dim)
  if isinstance(value, str):
    raise ValueError(f"{key} takes a number, not {value!r}")
  return value


def try_on_shapes(estimator: Estimator, baseline: Baseline, model: Model, data_dim: int) -> None:
  """Raises ValueError if the estimator fails on a data point, or has no scalar or no gradient."""

  def once(params: Params, key: Key, x: Array) -> Array:
    return estimator(key, model, params, x)

  key, x = jax.random.key(0), jax.numpy.zeros(data_dim)
  try:
    params = jax.eval_shape(lambda key: with_baseline(baseline)(key, model), key)
    value = jax.eval_shape(once, params, key, x)
    is_scalar = getattr(value, "shape", None) == () and np.issubdtype(value.dtype, np.floating)
    if is_scalar:
      jax.eval_shape(jax.grad(once), params, key, x)
  except UnsupportedError as error:
    raise ValueError(str(error)) from error
  except (Exception, SystemExit) as error:  # a user's function may raise anything
    raise ValueError(f"fails on a data point: {names.one_line(error)}") from error
  if not is_scalar:
    raise ValueError(f"must return a float scalar for one data point, not {value}")
