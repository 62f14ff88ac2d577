"""--budget: how much a main computes, as values for its flags that are not given."""

from collections.abc import Mapping

from absl import flags

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # flags defined here belong to the module that defines them

Budgets = Mapping[str, Mapping[str, object]]  # the flags' values of smoke, cpu and paper


def define(budgets: Budgets, default: str | None = "cpu") -> None:
  """Defines --budget for the main that calls this at its top.

  Args:
    budgets: for smoke (a minute), cpu (an evening on two cores) and paper (the paper's own, on
      an accelerator) the values of flags, each of its type.
    default: the budget of a command line without one; None for the flags' own defaults.
  """
  listed = "; ".join(
    f"{name}: " + (", ".join(f"{flag}={_text(value)}" for flag, value in values.items()) or "as is")
    for name, values in budgets.items()
  )
  flags.DEFINE_enum(
    "budget", default, list(budgets), f"Values for the flags that are not given. {listed}."
  )


def resolve(budgets: Budgets) -> None:
  """Gives the flags that are not given the values of --budget; a main calls it first."""
  for name, value in budgets.get(FLAGS.budget, {}).items():
    if not FLAGS[name].present:
      FLAGS[name].value = value


def _text(value: object) -> str:
  return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
