"""Every estimator, algorithm, family and network has a program for CPUs, GPUs and TPUs.

`jax.export` lowers a program for a platform that is not there. It refuses what the platform has no
rule for.
"""

import pathlib
import sys

import jax
import jax.export
import jax.numpy as jnp
import pytest

sys.path.append(str(pathlib.Path(__file__).parents[2] / "scripts"))

from compiling.members import MEMBERS
from compiling.sizes import SMALL

from aevb_jax.estimators.table import ESTIMATORS
from aevb_jax.families import table

PLATFORMS = ("cpu", "cuda", "tpu")
PIXELS = ("bernoulli", "gaussian", *table.PIXELS)


def is_quick(name):
  """Leaves out families that are the same as a posterior, and what takes long to trace."""
  kind, _, member = name.partition(": ")
  if kind == "prior":
    return member in ("gaussian", *table.LEARNED_PRIORS)
  return member in PIXELS if kind == "likelihood" else True


EACH = [n if is_quick(n) else pytest.param(n, marks=pytest.mark.long) for n in MEMBERS]


def exported(function, arguments, **how):
  return jax.export.export(jax.jit(function, **how), platforms=PLATFORMS)(*arguments)


@pytest.mark.parametrize("name", EACH)
def test_is_lowered_for_every_platform(name):
  program = MEMBERS[name](SMALL, None)
  result = exported(program.function, program.arguments)
  assert result.platforms == PLATFORMS
  if program.num_steps:  # the state goes on as it came
    states = jax.tree.leaves(program.arguments[0])
    shapes = [(leaf.shape, leaf.dtype) for leaf in states]
    assert [(aval.shape, aval.dtype) for aval in result.out_avals[: len(states)]] == shapes


def test_what_a_platform_lacks_is_refused():
  matrix = jax.ShapeDtypeStruct((3, 3), jnp.float32)
  with pytest.raises(NotImplementedError, match="for platform"):
    exported(lambda a: jax.lax.linalg.schur(a), (matrix,))


def test_every_name_of_a_command_line_has_a_member():
  named = dict(estimator=ESTIMATORS, posterior=table.POSTERIORS, prior=table.PRIORS)
  named |= dict(likelihood=table.LIKELIHOODS)
  for kind, names in named.items():
    assert not {f"{kind}: {name}" for name in names} - MEMBERS.keys()
