"""The tables of the uses of a trained model that the paper names."""

from collections.abc import Sequence

from pages.results import number, rows_of, table, with_error


def uses_of(**about: str) -> list[dict]:
  return [row for row in rows_of("uses", "uses.csv") if about.items() <= row.items()]


def measured(rows: Sequence[dict], measure: str, scale: float = 1.0, digits: int = 2) -> str:
  """Formats the value of the only row with this measure; "" if there is none."""
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
