"""The table of experiments.gradients: its columns, and a row of it in words."""

from aevb_jax.inference.diagnostics import Interval


def columns(name: str, interval: Interval) -> dict:
  """Returns an interval as columns of a row."""
  return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


COLUMNS = (
  "at",
  "estimator",
  "num_samples",
  "block",
  *(f"{name}{end}" for name in ("variance", "snr", "bias") for end in ("", "_low", "_high")),
  "reference",
  "milliseconds",
  "variance_x_milliseconds",
)
HEADER = (
  f"{'at':>9} {'estimator':40} {'L':>4} {'block':6}{'variance':>11} {'snr':>9} "
  f"{'bias (95 %)':>19} {'ms':>8} {'variance x ms':>14}"
)


def row_in_words(row: dict) -> str:
  """Formats a row in one line; rows of single arrays of parameters are not printed."""
  if row["block"] not in ("theta", "phi", "value"):
    return ""
  bias = f"{row['bias_low']:.1%} to {row['bias_high']:.1%}" if "bias" in row else ""
  return (
    f"{row['examples_seen']:>9,} {row['estimator']:40} {row['num_samples']:>4} {row['block']:6}"
    f"{row['variance']:>11.3g} {row['snr']:>9.3g} {bias:>19} {row['milliseconds']:>8.2f} "
    f"{row['variance_x_milliseconds']:>14.3g}"
  )
