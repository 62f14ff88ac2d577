"""The table of experiments.gradients: its columns, and a row of it in words."""

from collections.abc import Iterable

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


def header(reference: str | None = None) -> str:
  """Returns the heading of the table; `reference` is what all biases are relative to, if given."""
  bias = f"{_bias_heading(reference):>{_bias_width(reference)}}"
  return (
    f"{'at':>9} {'estimator':40} {'L':>4} {'block':6}{'variance':>11} {'snr':>9} "
    f"{bias} {'ms':>8} {'variance x ms':>14}"
  )


def _bias_heading(reference: str | None) -> str:
  return f"bias from {reference}" if reference else "bias (95 %)"


def _bias_width(reference: str | None) -> int:
  return max(19, len(_bias_heading(reference)))


def row_in_words(row: dict, reference: str | None = None) -> str:
  """Formats a row in one line; rows of single arrays of parameters are not printed."""
  if row["block"] not in ("theta", "phi", "value"):
    return ""
  bias = f"{row['bias_low']:.1%} to {row['bias_high']:.1%}" if "bias" in row else ""
  return (
    f"{row['examples_seen']:>9,} {row['estimator']:40} {row['num_samples']:>4} {row['block']:6}"
    f"{row['variance']:>11.3g} {row['snr']:>9.3g} {bias:>{_bias_width(reference)}} "
    f"{row['milliseconds']:>8.2f} {row['variance_x_milliseconds']:>14.3g}"
  )


def without_reference(names: Iterable[str]) -> str:
  """Says why the rows of these estimators, if there are any, have no bias."""
  if not (names := list(dict.fromkeys(names))):
    return ""
  return (
    f"no bias of {', '.join(names)}: no estimator is known to be unbiased for the same gradient; "
    "--reference names one to compare with"
  )
