"""The floor of a program: only its matrix products, with their shapes and layouts.

The program is traced, and only its `dot_general`s are kept. A product that is traced twice with the
same operands, as `dreg` traces its pass through the decoder, counts once, because the compiler
computes it once. Products in the body of a scan count once per round. If a program differs between
kinds of devices, the products for the current device count. Work that cannot be counted like this,
such as a convolution or a loop of unknown length, is refused, because a floor without it would make
the program look slower than it is.
"""

import collections
import functools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxprs_in_params

WORK = ("dot_general", "ragged_dot_general", "conv_general_dilated", "custom_call", "ffi_call")


class UncountableError(NotImplementedError):
  """Raised for work that is not a matrix product but belongs to the floor."""


def products_of(function: Callable, *args) -> list:
  """Returns the dot_general equations of function(*args), each as often as it is computed."""
  program = jax.make_jaxpr(function)(*args)
  return [e for e in _equations(program.jaxpr) if e.primitive.name == "dot_general"]


def flop(product) -> int:
  (contracted, _), _ = product.params["dimension_numbers"]
  lengths = [product.invars[0].aval.shape[axis] for axis in contracted]
  return 2 * math.prod(lengths) * math.prod(product.outvars[0].aval.shape)


def make_floor(products: list, num_steps: int) -> Callable[[], object]:
  """Makes a function that computes only the products, `num_steps` times, and waits for them."""
  rng = np.random.default_rng(0)
  # The products of a scan are a loop here too, so that this program is as short as the scan's.
  counts = collections.Counter(map(id, products))
  rounds = collections.defaultdict(list)
  for product in {id(product): product for product in products}.values():
    operands = [jnp.asarray(rng.normal(size=v.aval.shape), v.aval.dtype) for v in product.invars]
    rounds[counts[id(product)]].append((product.params, operands))

  def step(_, total_and_operands: tuple) -> tuple:
    total, operands = total_and_operands
    for (times, pairs), these in zip(rounds.items(), operands, strict=True):
      params = [params for params, _ in pairs]
      total = jax.lax.fori_loop(0, times, functools.partial(_multiply, params, these), total)
    return total, operands

  @jax.jit
  def program(operands: list) -> jax.Array:
    return jax.lax.fori_loop(0, num_steps, step, (jnp.zeros(()), operands))[0]

  operands = [[operands for _, operands in pairs] for pairs in rounds.values()]
  return lambda: jax.block_until_ready(program(operands))


def _multiply(params: list[dict], operands: list, _, total: jax.Array) -> jax.Array:
  # The barriers keep the compiler from lifting the products out of the loop
  # and from computing only the entries that are summed.
  operands, total = jax.lax.optimization_barrier((operands, total))
  results = [
    jax.lax.dot_general(
      *pair,
      p["dimension_numbers"],
      precision=p["precision"],
      preferred_element_type=p["preferred_element_type"],
    )
    for p, pair in zip(params, operands, strict=True)
  ]
  results = jax.lax.optimization_barrier(results)
  return total + sum(result.ravel()[0].astype(float) for result in results)


def _equations(jaxpr) -> Iterator:
  """Yields the equations of the program and of its calls, except repetitions of earlier ones.

  An equation repeats another if it applies the same primitive, with the same
  parameters, to operands that are the same or repeated: the compiler merges the
  two. This holds for random numbers too, because they are functions of their keys.
  """
  first = {}  # for a repeated variable, the variable that it repeats
  seen = {}
  for equation in jaxpr.eqns:
    operands = [str(v) if isinstance(v, Literal) else first.get(v, v) for v in equation.invars]
    # The parameters of a call are its program; equal programs print the same text.
    key = equation.primitive, str(equation.params), *operands
    if key in seen:
      first.update(zip(equation.outvars, seen[key], strict=True))
      continue
    seen[key] = equation.outvars
    yield equation
    for inner, times in _called(equation):
      yield from times * list(_equations(inner))


def _called(equation) -> list[tuple]:
  """Yields the programs that an equation runs, and how often it runs each."""
  name, params = equation.primitive.name, equation.params
  inner = list(jaxprs_in_params(params))
  if name == "scan":
    return [(program, params["length"]) for program in inner]
  if name == "cond" and params.get("branches_platforms"):
    return [(_branch_of_this_device(params), 1)]
  if name in ("while", "cond") and any(map(_works, inner)):
    raise UncountableError(f"cannot count how often the products inside a {name} are computed")
  if name in WORK and name != "dot_general":
    raise UncountableError(f"a {name} is work, but no matrix product")
  if not inner and hasattr(equation.primitive.impl, "lower"):
    # A primitive that a user defined runs its jitted implementation.
    function = functools.partial(equation.primitive.impl, **params)
    inner = [jax.make_jaxpr(function)(*(v.aval for v in equation.invars)).jaxpr]
  return [(program, 1) for program in inner]


def _branch_of_this_device(params: dict):
  for platforms, branch in zip(params["branches_platforms"], params["branches"], strict=True):
    if platforms is None or jax.default_backend() in platforms:
      return branch.jaxpr
  raise UncountableError(f"the program is not for {jax.default_backend()}")


def _works(jaxpr) -> bool:
  return any(
    equation.primitive.name in WORK or any(map(_works, jaxprs_in_params(equation.params)))
    for equation in jaxpr.eqns
  )
