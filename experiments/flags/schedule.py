"""The flags that choose when a run is evaluated."""

from absl import flags

from aevb_jax.runs.checks import LEAST

flags.DEFINE_integer(
  "eval_every",
  100_000,
  "Training samples between two rows of metrics.csv.",
  lower_bound=LEAST["eval_every"],
)
flags.DEFINE_integer(
  "evals_per_decade",
  0,
  "Of the multiples of --eval_every, only those nearest to so many evenly spaced points in every "
  "decade of a log axis have rows, and the end; 0: all have.",
  lower_bound=LEAST["evals_per_decade"],
)
