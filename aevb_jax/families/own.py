"""Families and priors of your own, which names such as my.families:kumaraswamy:a=2 stand for.

A family is made by a function of its size, a fixed prior too. Each is tried on shapes when it is
made, so that a mistake is found before training; `check` also tests its numbers.
"""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax import names
from aevb_jax.families.base import distribution
from aevb_jax.types import Distribution, Family, Support

# The standard prior on each set that q(z|x) may cover: (low, high, kind) -> its name.
PRIOR_ON = {
  (-math.inf, math.inf, "box"): "gaussian",
  (0.0, math.inf, "box"): "exponential",
  (0.0, 1.0, "box"): "uniform",
  (0.0, 1.0, "simplex"): "dirichlet",
  (0.0, 1.0, "integers"): "bernoulli",
}


def make_family(name: str, arguments: dict[str, Any], size: int, **offered: Any) -> Family:
  """Makes a family of a user's own, and tries it on shapes.

  Args:
    name: package.module:function, a function of the size.
    arguments: its other arguments.
    size: dimensions of z.
    offered: arguments that the function gets if its signature names them.

  Raises:
    ValueError: if there is no such function, or it does not make a family of this size; the message
      is one line that says which part of the contract was broken.
  """
  function = names.load(name)
  family = names.call(function, size, takes="size", arguments=arguments, offered=offered)
  try_family(family, size)
  return family


def try_family(family: Any, size: int) -> None:
  """Refuses what is not a family of `size` dimensions, without computing a number.

  Args:
    family: what a user's function returned.
    size: dimensions of z.

  Raises:
    ValueError: in one line that says what is missing or has another shape.
  """
  if not isinstance(family, Family):
    raise ValueError(f"must return an aevb_jax.Family, not {type(family).__name__}")
  sizes = family.sizes
  whole = isinstance(sizes, tuple) and all(type(n) is int and n > 0 for n in sizes) and sizes
  if not whole:
    raise ValueError(f"the sizes of its heads must be a tuple of whole numbers, not {sizes!r}")
  heads = [jax.ShapeDtypeStruct((n,), jnp.result_type(float)) for n in sizes]
  key = jax.eval_shape(jax.random.key, 0)
  if family.init_shared:
    heads.append(names.shapes("init_shared", family.init_shared, key))
  eta = names.shapes("from_heads", family.from_heads, *heads)
  z = names.shapes("transform", lambda eta, key: family.transform(eta, family.noise(key)), eta, key)
  names.require_shape("transform must return z", z, (size,))
  names.require_shape("mean must return E[z]", names.shapes("mean", family.mean, eta), (size,))
  z = jax.ShapeDtypeStruct((size,), jnp.result_type(float))
  log_p = names.shapes("log_prob", family.log_prob, eta, z)
  names.require_shape("log_prob must return a number for one z", log_p, ())
  for what, support in (("widest", family.widest), ("support", None)):
    support = support or names.guarded("support", family.support, _zeros(eta))
    if not isinstance(support, Support):
      raise ValueError(f"its {what} must be a Support, not {type(support).__name__}")


def _zeros(eta: Any) -> Any:
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), eta)


def takes_model(name: str) -> bool:
  """Reports whether a prior of a user's own is a function of the model: its first parameter's name.

  Args:
    name: package.module:function.

  Raises:
    ValueError: if there is no such function.
  """
  function = names.load(name)
  try:
    parameters = list(inspect.signature(function).parameters)
  except (Exception, SystemExit):  # `call` then says why
    return False
  return parameters[:1] == ["model"]


def make_prior(name: str, arguments: dict[str, Any], size: int) -> Distribution:
  """Makes a fixed prior of a user's own, a function of J that returns p(z) or a family.

  A family stands for the member that heads of all zeros give.

  Args:
    name: package.module:function.
    arguments: its other arguments.
    size: J.

  Raises:
    ValueError: if there is no such function, or it does not make a distribution of J dimensions.
  """
  made = names.call(names.load(name), size, takes="size", arguments=arguments)
  if isinstance(made, Family):
    try_family(made, size)
    made = distribution(made, made.from_heads(*(jnp.zeros(width) for width in made.sizes)))
  try_prior(made, size)
  return made


def try_prior(prior: Any, size: int) -> None:
  """Refuses what is not a distribution over `size` dimensions.

  Raises:
    ValueError: in one line that says what is wrong.
  """
  if not isinstance(prior, Distribution):
    raise ValueError(
      f"must return an aevb_jax.Distribution (or a Family), not {type(prior).__name__}"
    )
  z = names.shapes("sample", prior.sample, jax.eval_shape(jax.random.key, 0))
  names.require_shape("sample must return z", z, (size,))
  z = jax.ShapeDtypeStruct((size,), jnp.result_type(float))
  log_p = names.shapes("log_prob", prior.log_prob, z)
  names.require_shape("log_prob must return a number for one z", log_p, ())


def standard_prior(family: Family) -> str:
  """Names the prior that is used with a posterior of a user's own if no other is named.

  Args:
    family: the family of q(z|x).

  Raises:
    ValueError: if no standard prior has the support of the family.
  """
  widest = family.widest
  low, high = float(np.min(widest.low)), float(np.max(widest.high))
  found = PRIOR_ON.get((low, high, widest.kind))
  if found is None:
    raise ValueError(f"z is of kind {widest.kind!r} from {low:g} to {high:g}; name a --prior there")
  return found
