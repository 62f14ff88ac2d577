"""Flags that take several values, and the members of the sweep over all combinations."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from aevb_jax.algorithms.optimizers import ADAGRAD_WARMUP_STEPS
from experiments.launch.command import UsageError

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # those defined through here are their definer's
SWEPT = ("seed", "step_size")


class _OneOrMore(flags.ArgumentParser):
  """A number, or a tuple of the numbers between commas."""

  def __init__(self, number: flags.ArgumentParser):
    self.number = number
    self.syntactic_help = f"{number.syntactic_help}, or several between commas"

  def parse(self, argument):
    if not isinstance(argument, str):
      return argument
    try:
      values = tuple(self.number.parse(value.strip()) for value in argument.split(","))
    except ValueError as error:
      raise ValueError(f"takes {self.syntactic_help}") from error
    if len(set(values)) < len(values):
      raise ValueError("names a value twice")
    return values[0] if len(values) == 1 else values

  def flag_type(self) -> str:
    return f"{self.number.flag_type()}s"


class _Serializer(flags.ArgumentSerializer):
  def serialize(self, value) -> str:
    return ",".join(map(str, values_of(value)))


def define(name: str, default: float, help: str, number: flags.ArgumentParser) -> None:
  """Defines a flag of one or several numbers; its value is a number, or a tuple of them."""
  flags.DEFINE(_OneOrMore(number), name, default, help, serializer=_Serializer())


def values_of(value: float | tuple) -> tuple:
  return value if isinstance(value, tuple) else (value,)


def refuse() -> None:
  """For mains that train once.

  Raises:
    UsageError: if a flag has several values.
  """
  for name in SWEPT:
    if isinstance(FLAGS[name].value, tuple):
      raise UsageError(name, "takes one value here; experiments.train sweeps over several")


class Member(NamedTuple):
  seed: int
  step_size: float

  @property
  def name(self) -> str:
    """Of its directory: what of it is swept, such as seed_1-step_size_0.02."""
    swept = (name for name in SWEPT if isinstance(FLAGS[name].value, tuple))
    return "-".join(f"{name}_{getattr(self, name)}" for name in swept)

  @contextlib.contextmanager
  def as_flags(self) -> Iterator[None]:
    """The flags of its single run."""
    before = {name: FLAGS[name].value for name in (*SWEPT, "select_step_size", "workdir")}
    FLAGS.seed, FLAGS.step_size, FLAGS.select_step_size = self.seed, self.step_size, 0
    try:
      yield
    finally:
      for name, value in before.items():
        FLAGS[name].value = value


def members() -> list[Member]:
  """All combinations of the values of the flags; one, if nothing is swept.

  Raises:
    UsageError: if a step size is to be selected and cannot be.
  """
  if FLAGS.select_step_size:
    _check_selection()
  return [Member(*both) for both in itertools.product(*(values_of(FLAGS[n].value) for n in SWEPT))]


def _check_selection() -> None:
  if not isinstance(FLAGS.step_size, tuple):
    raise UsageError("select_step_size", "takes several of --step_size to select from")
  if FLAGS.algorithm != "aevb":
    raise UsageError(
      "select_step_size", f"takes a bound, and --algorithm={FLAGS.algorithm} has none"
    )
  if FLAGS.select_step_size >= FLAGS.num_examples:
    raise UsageError("select_step_size", f"takes less than --num_examples={FLAGS.num_examples}")
  warmup = ADAGRAD_WARMUP_STEPS * FLAGS.batch_size
  if FLAGS.optimizer == "adagrad" and FLAGS.select_step_size <= warmup:
    raise UsageError(
      "select_step_size", f"takes more than the {warmup} training samples in which nothing moves"
    )


def select(runs: Sequence, step: int) -> list[int]:
  """Which runs have the step size of the highest training bound at a step, in the mean over seeds.

  A bound that is no number counts as −∞: the paper's rule has to survive a step size of 0.1.

  Raises:
    FloatingPointError: if every step size has such a bound.
  """
  bounds = {}
  for run in runs:
    (bound,) = [row["train_bound"] for row in run.rows if row["step"] == step]
    bounds.setdefault(run.member.step_size, []).append(bound)
  means = {
    s: np.mean(values) if np.all(np.isfinite(values)) else -np.inf for s, values in bounds.items()
  }
  best = max(means, key=means.get)
  if means[best] == -np.inf:
    raise FloatingPointError(f"no step size has finite training bounds at step {step}")
  told = ", ".join(f"{step_size:g}: {mean:.2f}" for step_size, mean in means.items())
  print(
    f"step size {best:g}, by the training bound after {step * FLAGS.batch_size:,} samples ({told})"
  )
  return [i for i, run in enumerate(runs) if run.member.step_size == best]
