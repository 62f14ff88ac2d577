"""An error to plant, and where the tests are that must notice it."""

from typing import NamedTuple


class Mutation(NamedTuple):
  """A passage of a module, and the wrong one that takes its place."""

  name: str
  module: str  # such as "families/flows" of aevb_jax, or "experiments/..."
  old: str  # stands exactly once in the module
  new: str
  tests: str = ""  # such as "contracts/float32"; without it, those of the same path as the module
