"""The flags that choose when a run is evaluated."""

from absl import flags

from aevb_jax.runs.checks import LEAST

flags.DEFINE_integer(
  "eval_every",
  100_000,
  "Number of training samples between two rows of metrics.csv.",
  lower_bound=LEAST["eval_every"],
)
flags.DEFINE_integer(
  "evals_per_decade",
  0,
  "Number of rows in each decade of training samples, evenly spaced on a log axis: the nearest "
  "multiples of --eval_every, and the end. 0 keeps every multiple.",
  lower_bound=LEAST["evals_per_decade"],
)
