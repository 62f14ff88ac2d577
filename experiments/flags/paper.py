"""The flags of the paper's figures 2, 4 and 5, which share their runs."""

from collections.abc import Iterable

from absl import flags

from experiments.flags import schedule, training  # noqa: F401 (training defines num_examples)
from experiments.flags.validators import is_count

flags.DEFINE_list("seeds", ["0"], "Seeds of every curve.")
flags.DEFINE_integer(
  "seeds_at_once",
  1,
  "Number of seeds that train as one sweep; more is faster on an accelerator, not on a CPU.",
  lower_bound=1,
)
flags.DEFINE_integer(
  "select_after",
  100_000,
  "Number of training samples after which a step size is chosen.",
  lower_bound=1,
)
for name in ("num_examples", "eval_every", "evals_per_decade"):
  flags.declare_key_flag(name)


@flags.validator("seeds", "takes whole numbers, each once, separated by commas")
def _check_seeds(values: list[str]) -> bool:
  return bool(values) and all(is_count(seed, 0) for seed in values) and _differ(map(int, values))


def _differ(values: Iterable[int]) -> bool:
  values = list(values)
  return len(set(values)) == len(values)
