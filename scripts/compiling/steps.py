"""Programs of training: `fit`, `fit_streamed` and `fit_sweep`, of shapes in place of arrays."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from compiling.sizes import Sizes

from aevb_jax.data.minibatches import Minibatch
from aevb_jax.training.fitting import fit, fit_streamed
from aevb_jax.training.sharding import Shardings
from aevb_jax.training.sweep import fit_sweep
from aevb_jax.types import Algorithm, Preprocess, PyTree


class Parts(NamedTuple):
  """The algorithm and the preprocessing of a training step."""

  algorithm: Algorithm
  preprocess: Preprocess


class Program(NamedTuple):
  """A function of arrays, and the shapes of its arguments."""

  function: Callable
  arguments: tuple
  num_steps: int | None = None  # rounds of the loop whose body is a step; None if there is none
  donated: bool = False  # the first argument

  def lower(self) -> jax.stages.Lowered:
    donated = dict(donate_argnums=0) if self.donated else {}
    return jax.jit(self.function, **donated).lower(*self.arguments)


Make = Callable[[Sizes, Shardings | None], Program]


def placed(tree: PyTree, sharding: Any) -> PyTree:
  """Gives every shape of a tree a placement; None leaves it to the compiler."""
  place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
  return jax.tree.map(place, tree)


def key_shape(sharding: Any, *shape: int) -> PyTree:
  key = jax.eval_shape(jax.random.key, 0)
  return jax.ShapeDtypeStruct(shape, key.dtype, sharding=sharding)


def pixel_shape(sizes: Sizes, sharding: Any, *leading: int) -> jax.ShapeDtypeStruct:
  """Returns the shape of 8-bit pixels, of the data set unless leading axes are given."""
  leading = leading or (sizes.num_data,)
  return jax.ShapeDtypeStruct((*leading, sizes.data_dim), jnp.uint8, sharding=sharding)


def resident(train: Callable, parts: Parts, sizes: Sizes, shardings: Shardings | None) -> Callable:
  """Binds what `fit` and `fit_sweep` take beside the arrays."""
  return functools.partial(
    train,
    parts.algorithm,
    batch_size=sizes.batch_size,
    num_steps=sizes.num_steps,
    preprocess=parts.preprocess,
    sharding=shardings and shardings.minibatch,
  )


def step(parts_of: Callable[..., Parts], **how) -> Make:
  """Returns how `fit` of an algorithm is made, with the data set on every device."""

  def make(sizes: Sizes, shardings: Shardings | None) -> Program:
    parts, everywhere = parts_of(sizes, **how), shardings and shardings.replicated
    state = placed(jax.eval_shape(parts.algorithm.init, key_shape(None)), everywhere)
    run = resident(fit, parts, sizes, shardings)
    arguments = state, key_shape(everywhere), pixel_shape(sizes, everywhere)
    return Program(run, arguments, sizes.num_steps, donated=True)

  return make


def streamed(parts_of: Callable[..., Parts], **how) -> Make:
  """Returns how `fit_streamed` of an algorithm is made, on minibatches from the host."""

  def make(sizes: Sizes, shardings: Shardings | None) -> Program:
    parts, everywhere = parts_of(sizes, **how), shardings and shardings.replicated
    state = placed(jax.eval_shape(parts.algorithm.init, key_shape(None)), everywhere)
    run = functools.partial(
      fit_streamed,
      parts.algorithm,
      preprocess=parts.preprocess,
      sharding=shardings and shardings.minibatch,
    )
    chunk = shardings and shardings.chunk(sweep=False)
    leading = sizes.num_steps, sizes.batch_size
    index = jax.ShapeDtypeStruct(leading, jnp.int32, sharding=chunk)
    minibatches = Minibatch(index, pixel_shape(sizes, chunk, *leading))
    arguments = state, key_shape(everywhere), minibatches
    return Program(run, arguments, sizes.num_steps, donated=True)

  return make


def sweep(parts_of: Callable[..., Parts], **how) -> Make:
  """Returns how `fit_sweep` of S states is made; `shardings` are those of S members."""

  def make(sizes: Sizes, shardings: Shardings | None) -> Program:
    parts, of_members = parts_of(sizes, **how), shardings and shardings.members
    keys = key_shape(None, sizes.num_members)
    states = placed(jax.eval_shape(jax.vmap(parts.algorithm.init), keys), of_members)
    run = resident(fit_sweep, parts, sizes, shardings)
    everywhere = shardings and shardings.replicated
    arguments = states, placed(keys, of_members), pixel_shape(sizes, everywhere)
    return Program(run, arguments, sizes.num_steps, donated=True)

  return make
