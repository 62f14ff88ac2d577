"""What is imported when it is first used, and why."""

import types

import jax


def blackjax() -> types.ModuleType:
  """BlackJAX. To import it computes something, and so takes hold of the devices.

  Processes of a cluster must have met before that (`jax.distributed.initialize`). It
  is imported outside of any trace, which the result would else be part of.
  """
  with jax.ensure_compile_time_eval():
    import blackjax
  return blackjax
