"""Networks of appendix C as Flax modules, and conditionals made from them."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from aevb_jax.families import distribution
from aevb_jax.types import Array, Conditional, Distribution, Family, Key, PyTree

Initializer = nn.initializers.Initializer


class MLP(nn.Module):
  """Hidden layers shared by several linear heads: appendix C, equations 11 and 12.

  Maps one input of shape (D,) to a tuple of heads, shapes (size,) for size in
  `sizes`. The defaults of the initializers are Flax's: LeCun normal, zero bias.
  """

  hidden: Sequence[int]
  sizes: Sequence[int]
  activation: Callable[[Array], Array] = nn.tanh
  kernel_init: Initializer = nn.initializers.lecun_normal()
  bias_init: Initializer = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, ...]:
    def dense(size: int, name: str) -> nn.Dense:
      return nn.Dense(
        size,
        kernel_init=self.kernel_init,
        bias_init=self.bias_init,
        param_dtype=jnp.result_type(float),
        name=name,
      )

    h = x
    for i, width in enumerate(self.hidden):
      h = self.activation(dense(width, f"hidden_{i}")(h))
    return tuple(dense(size, f"head_{i}")(h) for i, size in enumerate(self.sizes))


def conditional(module: nn.Module, family: Family, input_size: int) -> Conditional:
  """The conditional distribution whose eta `module` computes from its input.

  Args:
    module: maps an input of shape (input_size,) to as many heads as
      `family.sizes` has entries, of those sizes, as a tuple.
    family: of the conditioned variable.
    input_size: length of what is conditioned on (D for an encoder, J for a decoder).

  Raises:
    ValueError: on `init`, if the module keeps state beside its parameters
      (batch statistics): what holds for one data point would depend on others.
  """

  def init(key: Key) -> PyTree:
    variables = module.init(key, jnp.zeros(input_size))
    if stateful := sorted(variables.keys() - {"params"}):
      raise ValueError(
        f"{type(module).__name__} keeps state in {', '.join(stateful)}; a "
        "conditional must be a pure function of its parameters and one input"
      )
    return variables.get("params", {})

  def given(params: PyTree, x: Array) -> Distribution:
    heads = module.apply({"params": params}, x)
    return distribution(family, family.from_heads(*heads))

  return Conditional(init, given)
