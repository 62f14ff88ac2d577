"""An error to plant, and the tests that must notice it."""

from typing import NamedTuple


class Mutation(NamedTuple):
  """A passage of a module, and the wrong one that takes its place."""

  name: str
  module: str  # such as "families/flows" of aevb_jax, or "experiments/..."
  old: str  # occurs exactly once in the module
  new: str
  tests: str = ""  # such as "contracts/float32"; by default, the tests at the path of the module
