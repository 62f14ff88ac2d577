"""Reads the numbers below experiments/results, and formats them for the page."""

import csv
import json
import statistics
from collections.abc import Sequence

from support.start import ROOT

RESULTS = ROOT / "experiments" / "results"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
  return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def summary(name: str) -> dict:
  return json.loads((RESULTS / name / "summary.json").read_text())


def rows_of(name: str, file: str) -> list[dict]:
  with open(RESULTS / name / file, newline="") as opened:
    return list(csv.DictReader(opened))


def number(value: float, digits: int = 1) -> str:
  return f"{value:,.{digits}f}".replace("-", "−")


def count(value: float) -> str:
  """Formats a number of samples, such as 2.5·10⁶."""
  mantissa, exponent = f"{value:.1e}".split("e")
  power = str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
  return f"{mantissa.removesuffix('.0')}·10{power}"


def with_error(value: float, error: float, digits: int = 2) -> str:
  return f"{number(value, digits)} ± {number(error, digits)}"


def measured(row: dict, name: str, error: str) -> str:
  """Formats a column of a row with the column of its error; empty if the row does not have them."""
  return with_error(row[name], row[error]) if name in row else ""


def spread(deviation: float | None) -> str:
  """Formats a standard deviation over seeds, which a single seed does not have."""
  return "" if deviation is None else number(deviation, 1 if deviation >= 1 else 2)


def hours(seconds: float) -> str:
  if seconds < 90:
    return f"{seconds:.0f} s"
  minutes = round(seconds / 60)
  return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def bound_of(row: dict) -> str:
  return with_error(row["test_bound"], row["test_bound_se"])


def curve_rows(dataset: str, latent_dim: int, algorithm: str = "aevb") -> list[dict[str, float]]:
  """Returns a curve of figure 2: the means over seeds of its bounds and their standard errors."""
  about = dict(dataset=dataset, latent_dim=str(latent_dim), algorithm=algorithm)
  rows = [r for r in rows_of("lower_bound", "lower_bound.csv") if about.items() <= r.items()]
  names = [f"{split}_bound{error}" for split in ("train", "test") for error in ("", "_se")]
  curve = []
  for seen in dict.fromkeys(int(row["examples_seen"]) for row in rows):
    there = [row for row in rows if int(row["examples_seen"]) == seen]
    means = {name: statistics.fmean(float(row[name]) for row in there) for name in names}
    curve.append(dict(examples_seen=seen) | means)
  return curve


def conv_row(epochs: float) -> dict:
  rows = rows_of("conv_vae", "conv_vae.csv")
  return min(rows, key=lambda row: abs(float(row["epochs"]) - epochs))
