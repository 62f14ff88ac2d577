"""The errors of M1, M2 and M1+M2 over random choices of the labels, beside the published ones."""

from collections.abc import Sequence

import numpy as np

from experiments.studies.semi_supervised.models import NAMES, SemiSupervisedConfig, tasks

# Test errors in % with their ±, by model and labels. Theirs of M1 is by a transductive SVM.
PUBLISHED = {
  ("m1", 100): (11.82, 0.25),
  ("m2", 100): (11.97, 1.71),
  ("m1_m2", 100): (3.33, 0.14),
  ("m1", 1000): (4.24, 0.07),
  ("m2", 1000): (3.60, 0.56),
  ("m1_m2", 1000): (2.40, 0.02),
}


def summarize(config: SemiSupervisedConfig, rows: Sequence[dict]) -> list[dict]:
  """Returns the test error of each model and number of labels at the end, over draws of labels.

  Returns:
    Rows with the mean error over draws, its standard deviation over them (`test_error_sd`, None for
    a single draw), the mean of the standard errors over test images, and the published numbers.
  """
  results = []
  for model, labels in dict.fromkeys((task.model, task.labels) for task in tasks(config)):
    last = {r["draw"]: r for r in rows if (r["model"], r["labels"]) == (model, labels)}
    errors = [row["test_error"] for row in last.values()]
    result = dict(model=model, labels=labels, test_error=float(np.mean(errors)), errors=errors)
    result["test_error_sd"] = float(np.std(errors, ddof=1)) if len(errors) > 1 else None
    result["test_error_se"] = float(np.mean([row["test_error_se"] for row in last.values()]))
    if config.data.dataset == "mnist" and (published := PUBLISHED.get((model, labels))):
      result |= dict(paper_error=published[0], paper_error_sd=published[1])
    results.append(result | dict(seconds=float(np.mean([r["seconds"] for r in last.values()]))))
  return results


def as_table(results: Sequence[dict]) -> str:
  """Formats the test errors in %, with ± the standard deviation over draws of labels."""
  lines = [f"{'':6} {'labels':>6} {'test error, %':>15} {'published':>14} {'each draw':>12}"]
  for row in results:
    spread = "" if row["test_error_sd"] is None else f" ± {row['test_error_sd']:.2f}"
    ours, theirs = f"{row['test_error']:.2f}{spread}", ""
    if "paper_error" in row:
      theirs = f"{row['paper_error']:.2f} ± {row['paper_error_sd']:.2f}"
    each = ", ".join(f"{error:.2f}" for error in row["errors"])
    lines.append(f"{NAMES[row['model']]:6} {row['labels']:>6} {ours:>15} {theirs:>14}   {each}")
  return "\n".join(lines)
