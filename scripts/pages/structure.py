"""The tables of models whose z or x has structure: layers, classes, labels, frames."""

import math

from pages.results import count, number, summary, table, with_error

NAMES = {"m1": "M1", "m2": "M2", "m1_m2": "M1+M2"}
VIDEO = {"static": "static", "frame": "dynamic, by single frames", "backward": "dynamic, backward"}


def layers() -> list[str]:
  """Makes the table of two stochastic layers, beside the rows of one layer.

  If their images were not compared one by one, the error of a difference is that of two independent
  means, which is too large: both are of the same images.
  """
  header = ["", "k", "ours, −L₅₀₀₀", "paper", "better than one layer", "paper", "active latents"]
  one = {(row["model"], row["k"]): row for row in summary("iwae_40")["rows"]}
  lines = []
  for row in summary("iwae_layers")["rows"]:
    if row["layers"] == 1:
      continue
    other = one[row["model"], row["k"]]
    over, error = other["nll"] - row["nll"], math.hypot(other["nll_se"], row["nll_se"])
    paired = "over_one_layer" in row
    lines.append(
      [
        row["model"].upper(),
        row["k"],
        with_error(row["nll"], row["nll_se"]),
        number(row["paper_nll"], 2),
        with_error(row["over_one_layer"], row["over_one_layer_se"])
        if paired
        else with_error(over, error),
        number(other["paper_nll"] - row["paper_nll"], 2),
        row["active"],
        row["paper_active"],
      ]
    )
  return table([*header, "paper"], lines)


def semi_supervised() -> list[str]:
  """Makes the table of test errors with few labels."""
  header = ["", "labels", "ours, test error in %", "published", "each choice of the labels"]
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


def video() -> list[str]:
  """Makes the table of the models of a video, in nats per frame."""
  header = ["", "best validation bound", "after frames", "test bound", "test log p(x)"]
  lines = []
  for row in summary("frey_face_video")["results"]:
    gain = ""
    if row["method"] != "static":
      gain = with_error(row["gain_log_p"], row["gain_log_p_se"], 1)
      gain += f" ({number(row['gain_log_p_block_se'])} by pairs)"
    lines.append(
      [
        VIDEO[row["method"]],
        number(row["validation_bound"]),
        count(row["frames_seen"]),
        *(
          with_error(row[f"test_{name}"], row[f"test_{name}_se"], 1) for name in ("bound", "log_p")
        ),
        gain,
      ]
    )
  return table([*header, "log p(x) above static"], lines)
