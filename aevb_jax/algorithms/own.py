"""Optimizers and algorithms of your own, and optax's, which names such as optax:lion stand for."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from aevb_jax import names
from aevb_jax.algorithms.optimizers import Schedule, with_step_size
from aevb_jax.errors import blaming
from aevb_jax.models.joint import simulate
from aevb_jax.models.vae import init_params
from aevb_jax.types import Algorithm, Array, Estimator, Key, Model, Params, Scheduled


def make_own_optimizer(
  text: str, step_size: float, *, schedule: Schedule | None = None
) -> optax.GradientTransformation:
  """Makes an optimizer by a function of the step size, and tries it on shapes.

  Args:
    text: package.module:function, such as optax:lion:b1=0.95.
    step_size: its first argument; during training it is an array.
    schedule: updates made so far -> a factor of the step size; None for 1.

  Returns:
    An optimizer whose state has `hyperparams["step_size"]`.

  Raises:
    ConfigError: if there is no such function, or it does not make a gradient transformation.
  """

  def make(step_size: Any) -> optax.GradientTransformation:
    made = names.call(function, step_size, takes="step_size", arguments=arguments)
    if not isinstance(made, optax.GradientTransformation):
      kind = type(made).__name__
      raise ValueError(f"must return an optax.GradientTransformation, not {kind}")
    return made

  with blaming("optimizer", text):
    name, arguments = names.split(text, ())
    function = names.load(name)
    make(step_size)
    optimizer = with_step_size(make, step_size, schedule)
    try_optimizer(optimizer)
  return optimizer


def try_optimizer(optimizer: optax.GradientTransformation) -> None:
  """Refuses an optimizer whose update does not take (grads, state, params) or changes their shapes.

  Raises:
    ValueError: in one line that says what is wrong.
  """
  number = jax.ShapeDtypeStruct((3, 2), jnp.result_type(float))
  params = Params(theta={"w": number}, phi={"w": number})
  state = names.shapes("its init", optimizer.init, params)
  updates, _ = names.shapes("its update", optimizer.update, params, state, params)
  if jax.tree.map(lambda leaf: leaf.shape, updates) != jax.tree.map(
    lambda leaf: leaf.shape, params
  ):
    raise ValueError("its updates must have the shapes of the parameters")


def make_own_algorithm(
  text: str,
  model: Model,
  estimator: Estimator | Scheduled,
  optimizer: optax.GradientTransformation,
  *,
  num_data: int,
  offered: Mapping[str, Any],
) -> Algorithm:
  """Makes an algorithm by a user's function.

  Args:
    text: package.module:function, called as `aevb` is: (model, estimator, optimizer, num_data=N),
      and its other arguments after colons.
    model: the model to learn.
    estimator: the estimator of the bound, which also evaluates the result.
    optimizer: minimises.
    num_data: N.
    offered: further arguments, of which the function gets those that its signature names.

  Returns:
    The algorithm. Its state has a `step` and `params`, and its metrics a "bound".

  Raises:
    ConfigError: if there is no such function, or it makes something else.
  """
  takes = "model, estimator, optimizer, num_data=N"
  with blaming("algorithm", text):
    name, arguments = names.split(text, ())
    how = dict(arguments=dict(num_data=num_data) | arguments, offered=offered)
    made = names.call(names.load(name), model, estimator, optimizer, takes=takes, **how)
    if not isinstance(made, Algorithm):
      raise ValueError(f"must return an aevb_jax.Algorithm, not {type(made).__name__}")
    try_algorithm(made, _data_dim(model))
  return made


def _data_dim(model: Model) -> int:
  """Returns D."""

  def draw_x(key: Key) -> Array:
    params_key, key = jax.random.split(key)
    return simulate(key, model, init_params(params_key, model))[1]

  return jax.eval_shape(draw_x, jax.eval_shape(jax.random.key, 0)).shape[0]


def try_algorithm(algorithm: Algorithm, data_dim: int, batch_size: int = 2) -> None:
  """Refuses an algorithm whose state or metrics lack what a run needs, without computing a number.

  Args:
    algorithm: what a user's function returned.
    data_dim: D.
    batch_size: M.

  Raises:
    ValueError: in one line that says what is missing.
  """
  key = jax.eval_shape(jax.random.key, 0)
  state = names.shapes("its init", algorithm.init, key)
  if not (hasattr(state, "step") and isinstance(getattr(state, "params", None), Params)):
    raise ValueError("its init must return a state with a field step and aevb_jax.Params as params")
  batch = jax.ShapeDtypeStruct((batch_size, data_dim), jnp.float32)
  index = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
  made = names.shapes("its update", algorithm.update, state, batch, index)
  if not (isinstance(made, tuple) and len(made) == 2):
    raise ValueError("its update must return (state, metrics)")
  after, metrics = made
  of = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)
  if of(after) != of(state):
    raise ValueError("its update must return a state with the structure and shapes of the last one")
  bound: Any = metrics.get("bound") if isinstance(metrics, dict) else None
  names.require_shape('its metrics must have the number "bound"', bound, ())
