"""The tables of models whose z or x has structure: layers, labels, classes, frames."""

from pages.results import number, summary, table, with_error

NAMES = {"m1": "M1", "m2": "M2", "m1_m2": "M1+M2"}


def layers() -> list[str]:
  """Makes the table of Burda et al. with one and two stochastic layers."""
  header = ["layers", "", "k", "ours, −L₅₀₀₀", "paper", "better than one layer", "paper"]
  header += ["active latents", "paper"]
  lines = []
  for row in summary("iwae_layers")["rows"]:
    over = ""
    if "over_one_layer" in row:
      over = with_error(row["over_one_layer"], row["over_one_layer_se"])
    lines.append(
      [
        row["layers"],
        row["model"].upper(),
        row["k"],
        with_error(row["nll"], row["nll_se"]),
        number(row["paper_nll"], 2),
        over,
        number(row["paper_over_one_layer"], 2) if "paper_over_one_layer" in row else "",
        row["active"],
        row["paper_active"],
      ]
    )
  return table(header, lines)


def semi_supervised() -> list[str]:
  """Makes the table of test errors with few labels."""
  header = ["", "labels", "ours, test error in %", "published", "each draw of labels"]
  lines = [
    [
      NAMES[row["model"]],
      row["labels"],
      with_error(row["test_error"], row["test_error_sd"]),
      with_error(row["paper_error"], row["paper_error_sd"]),
      ", ".join(number(error, 2) for error in row["errors"]),
    ]
    for row in summary("semi_supervised")["results"]
  ]
  return table(header, lines)
