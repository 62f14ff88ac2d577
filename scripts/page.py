"""Fills the tables of experiments/README.md with the numbers under experiments/results.

  python scripts/page.py runs/reproduce-cpu   # takes over what scripts/reproduce.sh made there
  python scripts/page.py                      # fills the tables anew
  python scripts/page.py --check              # fails if the page says anything else

A table stands between <!-- NAME --> and <!-- end -->; the rest of the page is written by hand.
"""

import csv
import json
import math
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Sequence

from aevb_jax.figures import NAMES, name_of

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "experiments" / "README.md"
RESULTS = ROOT / "experiments" / "results"
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
  match sys.argv[1:]:
    case []:
      PAGE.write_text(fill(PAGE.read_text()))
    case ["--check"]:
      text = PAGE.read_text()
      sys.exit(0 if fill(text) == text else f"{PAGE.name} differs: run python scripts/page.py")
    case [made] if not made.startswith("-"):
      for name in (*FIGURES, *SECTIONS):
        take_over(pathlib.Path(made) / name)
      PAGE.write_text(fill(PAGE.read_text()))
    case _:
      sys.exit("error: scripts/page.py takes nothing, --check, or a directory of figures")


def take_over(directory: pathlib.Path) -> None:
  """Copies what a main wrote, without the training runs; what was not made stays as it was."""
  if (directory / "summary.json").exists():
    for path in directory.iterdir():
      if path.suffix in {".csv", ".png", ".json", ".txt"}:
        (RESULTS / directory.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, RESULTS / directory.name / path.name)


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
  if seconds < 90:
    return f"{seconds:.0f} s"
  minutes = round(seconds / 60)
  return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def lower_bound() -> list[str]:
  header = ["", "AEVB: train", "test", "wake-sleep: train", "test"]
  header += ["AEVB ahead on test at every sample count", "AEVB is where wake-sleep ends after"]
  header += ["in the paper's axes: AEVB", "wake-sleep"]
  rows = []
  for claim in summary("lower_bound")["claims"]:
    lead, there = claim["smallest_lead"], claim["samples_to_best_of_wake_sleep"]
    about = (claim["dataset"], claim["latent_dim"])
    ends = [curve_rows(*about, algorithm)[-1] for algorithm in ("aevb", "wake_sleep")]
    rows.append(
      [
        f"{name_of(claim['dataset'])}, J = {claim['latent_dim']}",
        *(bound_of(end, split, digits=1) for end in ends for split in ("train", "test")),
        f"yes, by at least {number(lead)}" if lead > 0 else f"no, behind by {number(-lead)}",
        count(there) if there else "never",
        *(
          inside_from(claim[f"{algorithm}_inside_axes_from"])
          for algorithm in ("aevb", "wake_sleep")
        ),
      ]
    )
  return table(header, rows)


def inside_from(samples: int | None) -> str:
  if samples is None:
    return "no"
  return "yes" if samples <= 10**5 else f"from {count(samples)}"


def marginal_likelihood() -> list[str]:
  header = ["N", "", "evaluations", "training samples", "seconds", "log p(x): train", "test"]
  rows = [
    [
      row["num_train"],
      NAMES[row["algorithm"]],
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
          f"{name_of(row['dataset'])}, J = {row['latent_dim']}",
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


def conv_vae() -> list[str]:
  """The loss on the way."""
  lines = []
  for row in map(conv_row, (1, 5, 10, 20, 50)):
    losses = [
      with_error(float(row[f"{split}_loss"]), float(row[f"{split}_loss_se"]))
      for split in ("train", "test")
    ]
    lines.append([number(float(row["epochs"])), *losses])
  return table(["epochs", "training loss, −bound", "test loss"], lines)


def conv_row(epochs: float) -> dict:
  rows = rows_of("conv_vae", "conv_vae.csv")
  return min(rows, key=lambda row: abs(float(row["epochs"]) - epochs))


def uses_of(**about: str) -> list[dict]:
  return [row for row in rows_of("uses", "uses.csv") if about.items() <= row.items()]


def measured(rows: Sequence[dict], measure: str, scale: float = 1.0, digits: int = 2) -> str:
  """The only one of the rows with this measure, or nothing."""
  for row in rows:
    if row["measure"] == measure:
      return with_error(scale * float(row["value"]), scale * float(row["standard_error"]), digits)
  return ""


def recognition() -> list[str]:
  rows = uses_of(use="recognition")
  names = {"bound": "bound", "log_p": "log p(x)", "gap": "between them: KL(q(z|x) ‖ p(z|x))"}
  header = [f"{name}, nats" for name in names.values()] + ["test images"]
  return table(header, [[*(measured(rows, name) for name in names), rows[0]["num_points"]]])


def representation() -> list[str]:
  rows = uses_of(use="representation") + uses_of(use="visualization")
  counts = sorted({int(row["labels"]) for row in rows})
  header = ["test accuracy, %", "of", *(f"{n} labels" for n in counts)]
  kinds = dict.fromkeys((row["method"], row["features"]) for row in rows)
  lines = []
  for method, features in kinds:
    of = dict(measure="accuracy", method=method, features=features)
    cells = [measured(uses_of(**of, labels=str(n)), "accuracy", 100) for n in counts]
    lines.append([method, features.replace("pca", "principal components"), *cells])
  return table(header, lines)


def completion() -> list[str]:
  header = ["", "by", "log p per pixel, nats", "wrong pixels, %", "squared error", "seconds"]
  lines = []
  for use in ("inpainting", "super-resolution", "denoising"):
    for method in dict.fromkeys(row["method"] for row in uses_of(use=use)):
      rows = uses_of(use=use, method=method)
      cells = [measured(rows, "log_prob", digits=4), measured(rows, "wrong", 100)]
      cells.append(measured(rows, "squared_error", digits=4))
      seconds = [float(row["value"]) for row in rows if row["measure"] == "seconds"]
      words = {"hmc": "HMC", "gibbs": "Gibbs, corrected", "pseudo_gibbs": "Gibbs, uncorrected"}
      took = number(seconds[0], 0) if seconds else ""
      lines.append([use, words.get(method, method), *cells, took])
  return table(header, lines)


def published() -> list[str]:
  """Published numbers that a run of ours has a protocol like that of: test bounds, in nats."""
  header = ["who", "what", "theirs", "ours", "where ours differs"]
  conv = conv_row(10)
  independent = "an independent program in numpy"
  lines = [
    [
      independent,
      "MNIST, J = 20, figure 2 after 10⁶ samples",
      "−115.3",
      curve("mnist", 20, 10**6),
      "",
    ],
    [independent, "MNIST, J = 3, after 3·10⁵", "−163.7", curve("mnist", 3, 3 * 10**5), ""],
    [
      independent,
      "Frey Face, J = 20, after 10⁶",
      "1,128",
      curve("frey_face:random", 20, 10**6),
      "the step size: 0.01 by the rule, theirs 0.02",
    ],
    [
      independent,
      "Frey Face, J = 2, after 10⁶",
      "806",
      curve("frey_face:random", 2, 10**6),
      "the same",
    ],
    [
      "another, with Flax's initialization",
      "MNIST, J = 20, pixels drawn at each use, Adam 0.001, after 1.02·10⁶",
      "−102.2",
      of_summary("mnist_adam", "test_bound"),
      "50000 training images, theirs 60000",
    ],
    [
      "Flax, `examples/vae`",
      "MNIST, J = 20, pixels drawn once, Adam 0.001, 10 epochs; 21 epochs",
      "−104; −101.5",
      of_summary("mnist_adam", "test_bound"),
      "20 epochs; pixels drawn at each use; tanh, theirs ReLU",
    ],
    [
      "TensorFlow, CVAE tutorial",
      "MNIST, thresholded, convolutions, J = 2, 10 epochs",
      "−155.9",
      with_error(-float(conv["test_loss"]), float(conv["test_loss_se"])),
      "estimator B, theirs A; 10.5 epochs",
    ],
    [
      "Grathwohl et al. (2019), table 3, no flow",
      "Frey Face, bits per dimension",
      "4.53 ± 0.02",
      bits_per_dim(end_of_curve("frey_face:random", 20)),
      "one layer of 200; a density of p/256 and not of 256 levels; another split",
    ],
    [
      "Burda et al. (2015), table 1, k = 1",
      "MNIST, J = 50, log p(x) by 5000 samples",
      "−86.76",
      of_summary("mnist_vae", "test_log_likelihood"),
      "40 epochs at one step size, theirs 3280 of falling ones; see the table above",
    ],
  ]
  return table(header, lines)


def curve(dataset: str, latent_dim: int, examples: int) -> str:
  """The test bound of AEVB in figure 2, at the row nearest to so many samples."""
  rows = curve_rows(dataset, latent_dim)
  return bound_of(min(rows, key=lambda row: abs(int(row["examples_seen"]) - examples)))


def bound_of(row: dict, split: str = "test", digits: int = 2) -> str:
  return with_error(float(row[f"{split}_bound"]), float(row[f"{split}_bound_se"]), digits)


def curve_rows(dataset: str, latent_dim: int, algorithm: str = "aevb") -> list[dict]:
  about = dict(dataset=dataset, latent_dim=str(latent_dim), algorithm=algorithm)
  return [r for r in rows_of("lower_bound", "lower_bound.csv") if about.items() <= r.items()]


def end_of_curve(dataset: str, latent_dim: int) -> float:
  return float(curve_rows(dataset, latent_dim)[-1]["test_bound"])


def bits_per_dim(nats: float) -> str:
  """Of a log-density of 28×20 pixels p/256."""
  return number(math.log2(256) - nats / 560 / math.log(2), 2)


def of_summary(name: str, value: str) -> str:
  told = summary(name)
  return with_error(told[value], told[f"{value}_se"])


def made() -> list[str]:
  """How long every figure took, where and when."""
  header = ["main", "training", "evaluation and pictures", "device", "commit"]
  rows = []
  for name in FIGURES:
    told = summary(name)
    rows.append(
      [
        f"`{name}.py`",
        hours(told["train_seconds"]),
        hours(told["evaluation_seconds"]),
        told["device"],
        (told["git_commit"] or "")[:7],
      ]
    )
  return table(header, rows)


FIGURES = (
  "lower_bound", "marginal_likelihood", "manifold", "samples", "conv_vae", "iwae_table", "uses"
)  # fmt: skip
SECTIONS = ("gradients", "families", "linear_gaussian")  # 2.2, 2.4 and 4
TABLES = dict(
  made=made,
  lower_bound=lower_bound,
  marginal_likelihood=marginal_likelihood,
  manifold=drawn("manifold"),
  samples=drawn("samples"),
  recognition=recognition,
  representation=representation,
  completion=completion,
  conv_vae=conv_vae,
  iwae_table=iwae_table,
  published=published,
)


if __name__ == "__main__":
  main()
