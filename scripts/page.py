"""Fills the tables of experiments/README.md with the numbers under experiments/results.

  python scripts/page.py            # after scripts/reproduce.sh, and copying what it made
  python scripts/page.py --check    # fails if the page says anything else than the results

A table stands between <!-- NAME --> and <!-- end -->; the rest of the page is written by hand.
"""

import csv
import json
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "experiments" / "README.md"
RESULTS = ROOT / "experiments" / "results"
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
ALGORITHMS = {"aevb": "AEVB", "wake_sleep": "wake-sleep", "mcem": "MCEM"}


def main() -> None:
  text = PAGE.read_text()
  filled = fill(text)
  if sys.argv[1:] == ["--check"]:
    sys.exit(0 if filled == text else "experiments/README.md differs: run python scripts/page.py")
  if sys.argv[1:]:
    sys.exit("error: scripts/page.py takes nothing, or --check")
  PAGE.write_text(filled)


def fill(text: str) -> str:
  """The page with all its tables as the results have them."""
  return BLOCK.sub(lambda found: found[1] + "\n".join(TABLES[found[2]]()) + "\n" + found[3], text)


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
  """A number of samples, such as 2.5·10⁶."""
  mantissa, exponent = f"{value:.1e}".split("e")
  power = str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
  return f"{mantissa.removesuffix('.0')}·10{power}"


def with_error(value: float, error: float, digits: int = 2) -> str:
  return f"{number(value, digits)} ± {number(error, digits)}"


def hours(seconds: float) -> str:
  minutes = round(seconds / 60)
  return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def dataset(name: str) -> str:
  return {"mnist": "MNIST", "frey_face": "Frey Face"}.get(name.split(":")[0], name)


def lower_bound() -> list[str]:
  header = ["", "AEVB: train", "test", "wake-sleep: train", "test"]
  header += ["AEVB ahead on test at every sample count", "AEVB is where wake-sleep ends after"]
  header += ["inside the paper's axes"]
  rows = []
  for claim in summary("lower_bound")["claims"]:
    lead, there = claim["smallest_lead"], claim["samples_to_best_of_wake_sleep"]
    bounds = ("aevb_train", "aevb_test", "wake_sleep_train", "wake_sleep_test")
    rows.append(
      [
        f"{dataset(claim['dataset'])}, J = {claim['latent_dim']}",
        *(number(claim[name]) for name in bounds),
        f"yes, by at least {number(lead)}" if lead > 0 else f"no, behind by {number(-lead)}",
        count(there) if there else "never",
        "yes" if claim["inside_axes"] else "no",
      ]
    )
  return table(header, rows)


def marginal_likelihood() -> list[str]:
  header = ["N", "", "evaluations", "training samples", "seconds", "log p(x): train", "test"]
  rows = [
    [
      row["num_train"],
      ALGORITHMS[row["algorithm"]],
      count(row["evaluations"]),
      count(row["examples_seen"]),
      number(row["seconds"], 0),
      *(
        with_error(row[f"{split}_log_likelihood"], row[f"{split}_log_likelihood_se"])
        for split in ("train", "test")
      ),
    ]
    for row in summary("marginal_likelihood")["ends"]
  ]
  return table(header, rows)


def drawn(name: str) -> Callable[[], list[str]]:
  """Of figures 4 and 5: the models that are drawn."""

  def rows() -> list[str]:
    header = ["", "samples", "step size", "train bound", "test bound"]
    return table(
      header,
      [
        [
          f"{dataset(row['dataset'])}, J = {row['latent_dim']}",
          count(row["examples_seen"]),
          row["step_size"],
          with_error(row["train_bound"], row["train_bound_se"]),
          with_error(row["test_bound"], row["test_bound_se"]),
        ]
        for row in summary(name)["results"]
      ],
    )

  return rows


def iwae_table() -> list[str]:
  header = ["", "k", "ours, −L₅₀₀₀", "paper", "gain on k = 1", "paper", "active latents", "paper"]
  rows = []
  for row in summary("iwae_table")["rows"]:
    paper = row.get("paper_nll")
    rows.append(
      [
        row["model"].upper(),
        row["k"],
        with_error(row["nll"], row["nll_se"]),
        number(paper, 2) if paper else "",
        with_error(row["gain"], row["gain_se"]) if row["k"] > 1 else "",
        number(row["paper_gain"], 2) if paper and row["k"] > 1 else "",
        f"{row['active']:g}",
        row.get("paper_active") or "",
      ]
    )
  return table(header, rows)


def made() -> list[str]:
  """How long every figure took, where and when."""
  header = ["main", "training", "with evaluation and pictures", "device", "commit"]
  rows = []
  for name in FIGURES:
    told = summary(name)
    rows.append(
      [
        f"`{name}.py`",
        hours(told["train_seconds"]),
        hours(told["train_seconds"] + told["wall_seconds"]),
        told["device"],
        (told["git_commit"] or "")[:7],
      ]
    )
  return table(header, rows)


FIGURES = (
  "lower_bound", "marginal_likelihood", "manifold", "samples", "conv_vae", "iwae_table", "uses"
)  # fmt: skip
TABLES = dict(
  lower_bound=lower_bound,
  marginal_likelihood=marginal_likelihood,
  manifold=drawn("manifold"),
  samples=drawn("samples"),
  iwae_table=iwae_table,
)


if __name__ == "__main__":
  main()
