"""Networks of one's own, as pairs of pure functions: Flax linen, Flax NNX and Equinox modules.

Parameters are nested dicts of arrays with string keys, whatever the library keeps them in, because
a checkpoint and a script can name those.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aevb_jax.names import one_line
from aevb_jax.types import Array, Key, Network, PyTree


class _StateError(ValueError):
  """Raised for a module that keeps state; `_traced` leaves its message as it is."""


def from_linen(module: nn.Module, input_shape: tuple[int, ...]) -> Network:
  """Makes a network of a Flax linen module.

  `conditional` and `network_vae` take the module itself as well.

  Args:
    module: maps one input, without a batch axis, to features or heads.
    input_shape: the shape of one input.

  Returns:
    A network with the parameters of `module.init(key, zeros)["params"]`.

  Raises:
    ValueError: on `init`, if the module keeps other state than its parameters, such as batch
      statistics.
  """

  def init(key: Key) -> PyTree:
    variables = module.init(key, jnp.zeros(input_shape))
    if stateful := sorted(variables.keys() - {"params"}):
      raise _state_error(module, stateful)
    return variables.get("params", {})

  return Network(init, lambda params, x: module.apply({"params": params}, x))


def from_nnx(make: Callable[[Any], Any]) -> Network:
  """Makes a network of a Flax NNX module.

  Args:
    make: nnx.Rngs -> the module, such as `lambda rngs: nnx.Linear(64, 50, rngs=rngs)`. The module
      maps one input, without a batch axis, to features or heads.

  Returns:
    A network whose parameters are the module's `nnx.Param`s by the names of its attributes.

  Raises:
    ValueError: if the module cannot be made, or keeps other state than `nnx.Param`s, such as batch
      statistics or the random state of dropout.
  """
  from flax import nnx

  graph: Any = None  # the functions and sizes of the module, which do not depend on the key

  def init(key: Key) -> PyTree:
    nonlocal graph
    module = make(nnx.Rngs(key))
    # A traced array that is in no variable would otherwise be taken for a fixed attribute.
    if stateful := [
      _variable_name(path, value)
      for path, value in nnx.iter_graph(module)
      if isinstance(value, nnx.Variable | jax.Array) and not isinstance(value, nnx.Param)
    ]:
      raise _state_error(module, stateful)
    own, params = nnx.split(module, nnx.Param)
    graph = graph or own
    return nnx.to_pure_dict(params)

  _described("cannot be made", lambda: jax.eval_shape(init, _some_key()))
  return with_named_params(Network(init, lambda params, x: nnx.merge(graph, params)(x)))


def _variable_name(path: tuple, variable: Any) -> str:
  """Returns such as bn.mean (BatchStat); an array that is in no variable has no type."""
  name = ".".join(map(str, path))
  kind = type(variable).__name__
  return name if isinstance(variable, jax.Array) else f"{name} ({kind})"


def from_equinox(make: Callable[[Key], Any]) -> Network:
  """Makes a network of an Equinox module.

  Args:
    make: key -> the module, such as `lambda key: eqx.nn.Linear(64, 50, key=key)`. The module maps
      one input to features or heads.

  Returns:
    A network whose parameters are the module's floating-point arrays by the names of its fields.

  Raises:
    ImportError: if Equinox is not installed.
    ValueError: if the module cannot be made, or keeps state or arrays that are not floating-point.
  """
  try:
    import equinox as eqx
  except ImportError as error:
    raise ImportError("from_equinox needs Equinox; pip install equinox installs it") from error

  def is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)

  trace = lambda: eqx.filter_eval_shape(make, jax.random.key(0))
  module = _described("cannot be made", trace)
  is_index = lambda leaf: isinstance(leaf, eqx.nn.StateIndex)
  stateful = [
    jax.tree_util.keystr(path, simple=True, separator=".")
    for path, leaf in jax.tree_util.tree_leaves_with_path(module, is_leaf=is_index)
    if is_index(leaf) or (is_shape(leaf) and not jnp.issubdtype(leaf.dtype, jnp.inexact))
  ]
  if stateful:
    raise _state_error(module, stateful)
  # The functions and sizes of a module do not depend on the key.
  static = eqx.filter(module, is_shape, inverse=True)
  return with_named_params(
    Network(
      init=lambda key: eqx.filter(make(key), eqx.is_inexact_array),
      apply=lambda params, x: eqx.combine(params, static)(x),
    )
  )


def as_network(network: Any, input_shape: tuple[int, ...]) -> Network:
  """Returns a linen module or a `Network` as a network with named parameters.

  Args:
    network: a Flax linen module, or a `Network`.
    input_shape: the shape of one input.

  Raises:
    ValueError: for anything else, or if the parameters of a `Network` cannot be made.
  """
  if isinstance(network, Network):
    return with_named_params(network)
  if isinstance(network, nn.Module):
    return from_linen(network, input_shape)
  what = network.__name__ if isinstance(network, type) else type(network).__name__
  raise ValueError(
    f"a network is a Flax linen module or a Network, which models.from_nnx and models.from_equinox "
    f"make; {what} is neither"
  )


def with_named_params(network: Network) -> Network:
  """Returns the same network with parameters in nested dicts, whose keys are strings.

  Args:
    network: its parameters may be any tree of arrays, such as a list or an Equinox module.

  Returns:
    The network itself if its parameters are such dicts already. Otherwise an array's key is its
    attribute, key or position in the tree.

  Raises:
    ValueError: if the parameters cannot be made, or two arrays would have the same keys.
  """
  like = _described("cannot be initialized", lambda: jax.eval_shape(network.init, _some_key()))
  names = _named(like)
  own: Any = jax.tree.structure(like)
  if own == jax.tree.structure(names):
    return network
  if len(jax.tree.leaves(names)) != len(jax.tree.leaves(like)):
    raise ValueError("two parameters of the network have the same name")
  return Network(
    init=lambda key: _named(network.init(key)),
    apply=lambda params, x: network.apply(_unnamed(params, like), x),
  )


def output_shape(network: Network, input_shape: tuple[int, ...]) -> PyTree:
  """Computes the shapes and dtypes of a network's output for one input; nothing is computed.

  Args:
    network: any network.
    input_shape: the shape of one input.

  Returns:
    The output, with a `jax.ShapeDtypeStruct` for each array.

  Raises:
    ValueError: if the network cannot be initialized, or cannot be applied to such an input; the
      message is one line, with the place in the user's code.
  """
  params = _described("cannot be initialized", lambda: jax.eval_shape(network.init, _some_key()))
  x = jax.ShapeDtypeStruct(input_shape, jnp.result_type(float))
  what = f"cannot be applied to an input of shape {input_shape}"
  return _described(what, lambda: jax.eval_shape(network.apply, params, x))


def described(output: PyTree) -> str:
  """Returns the output of a network in words, for messages."""
  if isinstance(output, tuple | list):
    return f"a {type(output).__name__} of {', '.join(map(described, output)) or 'nothing'}"
  if hasattr(output, "shape"):
    return f"{output.dtype} {tuple(output.shape)}"
  return type(output).__name__


def _some_key() -> Key:
  return jax.random.key(0)


def _described(what: str, call: Callable[[], Any]) -> Any:
  """Calls a user's code, and raises its errors as one line with the place there."""
  try:
    return call()
  except _StateError:
    raise
  except Exception as error:  # a user's network may raise anything
    raise ValueError(f"the network {what}: {one_line(error)}") from error


def _state_error(module: Any, stateful: list[str]) -> _StateError:
  return _StateError(
    f"{type(module).__name__} keeps state in {', '.join(stateful)}; a "
    "conditional must be a pure function of its parameters and one input"
  )


def _names(path: tuple) -> list[str]:
  return [jax.tree_util.keystr((entry,), simple=True) for entry in path] or ["value"]


def _named(tree: PyTree) -> dict[str, Any]:
  """Makes nested dicts of the arrays of a tree, by the names of their paths."""
  named: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    *above, last = _names(path)
    node = named
    for name in above:
      node = node.setdefault(name, {})
    node[last] = leaf
  return named


def _unnamed(params: dict[str, Any], like: PyTree) -> PyTree:
  """Makes a tree of the structure of `like` of the arrays that `_named` took from one."""

  def find(path: tuple, _: Any) -> Array:
    found: Any = params
    for name in _names(path):
      found = found[name]
    return found

  return jax.tree_util.tree_map_with_path(find, like)
