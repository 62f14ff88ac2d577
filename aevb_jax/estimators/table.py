"""The names of estimators for a command line, with arguments after colons, and users' own ones."""

import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

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

PACKAGE = os.path.dirname(os.path.dirname(__file__))  # error messages skip lines of its code
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
  name, *rest = text.split(":")
  own = rest.pop(0) if name not in ESTIMATORS and rest else None
  arguments: dict[str, Any] = {}
  for argument in rest:
    key, equals, value = argument.partition("=")
    if not equals:
      raise ValueError(f"arguments are written name=value, not {argument!r}")
    arguments[key] = _parse_value(key, value, data_dim)
  function = ESTIMATORS.get(name) or _import(name, own)
  try:
    inspect.signature(function).bind(
      "key", "model", "params", "x", num_samples=num_samples, **arguments
    )
  except (TypeError, ValueError) as error:
    keywords = "".join(f", {key}=..." for key in arguments)
    takes = f"is called with (key, model, params, x, num_samples=L{keywords})"
    raise ValueError(f"{takes}, which it does not accept: {error}") from error
  except (Exception, SystemExit) as error:  # the attributes of a user's object may raise anything
    raise ValueError(f"cannot be looked at: {_one_line(error)}") from error
  estimator = functools.partial(function, num_samples=num_samples, **arguments)
  return estimator, arguments.get("baseline", no_baseline)


def _parse_value(key: str, text: str, data_dim: int) -> int | float | Baseline:
  if key == "baseline":
    if text not in BASELINES:
      raise ValueError(f"baseline takes {', '.join(BASELINES)}, not {text!r}")
    return BASELINES[text](data_dim)
  for number in (int, float):
    try:
      return number(text)
    except ValueError:
      pass
  raise ValueError(f"{key} takes a number, not {text!r}")


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
    raise ValueError(f"fails on a data point: {_one_line(error)}") from error
  if not is_scalar:
    raise ValueError(f"must return a float scalar for one data point, not {value}")


def source_of(text: str) -> str | None:
  """Returns the file of the user's module that `text` names; None for the package's estimators."""
  name = text.partition(":")[0]
  module = None if name in ESTIMATORS else sys.modules.get(name)
  return getattr(module, "__file__", None)


def _import(module_name: str, name: str | None) -> Callable[..., Array]:
  if name is None:
    raise ValueError(f"unknown; takes {', '.join(ESTIMATORS)}, or package.module:function")
  try:
    function = getattr(importlib.import_module(module_name), name)
  except (Exception, SystemExit) as error:  # the import of a user's module may raise anything
    hint = ""
    if _is_no_module(module_name, error):
      hint = "; takes a module's name without .py, in this directory or on PYTHONPATH"
    raise ValueError(f"cannot be imported: {_one_line(error)}{hint}") from error
  if not callable(function):
    raise ValueError(f"is {type(function).__name__}, which cannot be called")
  return function


def _is_no_module(name: str, error: BaseException) -> bool:
  """Returns whether there is no such module, rather than one that the user's own imports."""
  missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
  return missing or "/" in name


def _one_line(error: BaseException) -> str:
  """Describes an exception in one line and, for an error in a user's own code, its place."""
  what = f"{type(error).__name__}: {' '.join(str(error).split())}"
  installed = ("<", os.path.dirname(os.__file__), PACKAGE, __file__)
  frames = [
    frame
    for frame in traceback.extract_tb(error.__traceback__)
    if not frame.filename.startswith(installed) and "site-packages" not in frame.filename
  ]
  if not frames:
    return what
  return f"{what} ({frames[-1].filename}, line {frames[-1].lineno})"
