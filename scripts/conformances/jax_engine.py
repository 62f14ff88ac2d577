"""Runs points on libraries of JAX distributions: values by their methods, slopes by jax.grad."""

import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

NOT_THERE = (NotImplementedError, AttributeError)
LEVELS = 256


class Member(NamedTuple):
  """The functions of one distribution; each may raise NotImplementedError.

  Attributes:
    log_prob: z -> log p(z), of any shape; its sum counts.
    mean: () -> the means.
    variance: () -> the variances.
    entropy: () -> the entropy, of any shape; its sum counts.
    distribution: the library's own object, for its KL.
  """

  log_prob: Callable
  mean: Callable
  variance: Callable
  entropy: Callable
  distribution: Any


Members = Callable[[str, dict, dict], Member]  # (family, options, parameters by name) -> Member


def evaluate(
  points: list[dict], precision: str, member: Members, kl: Callable, errors: tuple = ()
) -> list[dict]:
  """Computes the quantities of points, as one compiled program for points that are alike.

  Args:
    points: as the suite has them.
    precision: "float64" or "float32".
    member: makes a member of the library; raises NotImplementedError if it has no such family.
    kl: (q, p) -> KL(q ‖ p) of two of the library's own distributions.
    errors: further exceptions by which the library says that it does not have something.

  Returns:
    For each point its values by the name of the quantity; what is not there is left out.
  """
  groups: dict[str, list[int]] = {}
  for i, point in enumerate(points):
    groups.setdefault(kind_of(point), []).append(i)
  found: list[dict] = [{} for _ in points]
  with jax.enable_x64(precision == "float64"):
    for indices in groups.values():
      alike = [points[i] for i in indices]
      for name in alike[0]["right"]:
        try:
          values = batch(alike, name, precision, member, kl)
        except (*NOT_THERE, *errors):
          continue
        for i, value in zip(indices, values, strict=True):
          found[i][name] = value
  return found


def kind_of(point: dict) -> str:
  """Describes all that points of one program share."""
  shapes = {name: shape(value) for name, value in point["eta"].items()}
  p = point.get("p")
  of_p = p and [p["family"], p["options"], {name: shape(v) for name, v in p["eta"].items()}]
  kind = [point["family"], point["options"], shapes, of_p, shape(point.get("z", []))]
  return json.dumps([*kind, sorted(point["right"])])


def shape(value: Any) -> list[int]:
  return [len(value), *shape(value[0])] if isinstance(value, list) and value else []


def floats(value: Any) -> Any:
  return [floats(v) for v in value] if isinstance(value, list) else float(value)


def batch(alike: list[dict], name: str, precision: str, member: Members, kl: Callable) -> list:
  """Computes one quantity of points that are alike."""
  quantity, _, argument = name.removeprefix("d ").partition("/d ")
  first = alike[0]
  q = functools.partial(member, first["family"], first["options"])
  p = first.get("p") and functools.partial(member, first["p"]["family"], first["p"]["options"])
  function = functools.partial(quantity_of, quantity, q, p, kl)
  if argument:
    total = lambda inputs: jnp.sum(function(inputs))
    asked = lambda inputs: at(jax.grad(total)(inputs), argument)
  else:
    asked = function
  stacked = jax.tree.map(lambda *v: jnp.asarray(v, precision), *map(inputs_of, alike))
  try:
    return list(jax.device_get(jax.jit(jax.vmap(asked))(stacked)))
  except TypeError:  # by which JAX says that a function cannot be compiled
    one = lambda i: asked(jax.tree.map(lambda leaf: leaf[i], stacked))
    return [jax.device_get(one(i)) for i in range(len(alike))]


def inputs_of(point: dict) -> dict:
  """Returns the numbers of a point as arrays, by the place where they stand in it."""
  arrays = lambda eta: {name: jnp.asarray(floats(v)) for name, v in eta.items()}
  found = {"eta": arrays(point["eta"])}
  if "z" in point:
    found["z"] = jnp.asarray(floats(point["z"]))
  if "p" in point:
    found["p"] = arrays(point["p"]["eta"])
  return found


def quantity_of(quantity: str, q: Callable, p: Callable | None, kl: Callable, inputs: dict):
  of_q = q(inputs["eta"])
  match quantity.strip():
    case "log_prob":
      return jnp.sum(of_q.log_prob(inputs["z"]))
    case "total_mass":
      of_level = jnp.arange(LEVELS, dtype=inputs["eta"]["mean"].dtype)
      levels = of_level / q.args[1]["levels_per_unit"]
      masses = jax.vmap(lambda z: jnp.sum(of_q.log_prob(z[None])))(levels)
      return jnp.sum(jnp.exp(masses))
    case "kl":
      return jnp.sum(kl(of_q.distribution, p(inputs["p"]).distribution))
    case "entropy":
      return jnp.sum(of_q.entropy())
    case "mean":
      return of_q.mean()
    case "variance":
      return of_q.variance()
  raise ValueError(quantity)


def at(gradient: dict, argument: str):
  """Returns the part of a gradient that belongs to an argument, such as "z" or "q.scale"."""
  if argument == "z":
    return gradient["z"]
  of, _, name = argument.rpartition(".")
  found = gradient["p" if of == "p" else "eta"][name]
  return jnp.tril(found) if name == "scale_tril" else found
