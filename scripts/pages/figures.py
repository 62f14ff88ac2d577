"""The tables of the paper's figures, of Burda et al. (2015) and of the convolutional VAE."""

from collections.abc import Callable, Sequence

from pages.results import (
  conv_row,
  count,
  hours,
  measured,
  number,
  spread,
  summary,
  table,
  with_error,
)

from aevb_jax.figures import NAMES, name_of


def lower_bound() -> list[str]:
  over_seeds = "SD over seeds (their step sizes)"
  header = ["", "seeds", "AEVB: train", "test", over_seeds]
  header += ["wake-sleep: train", "test", over_seeds]
  header += ["AEVB ahead on test from 10⁵ samples on", "AEVB is where wake-sleep ends after"]
  header += ["in the paper's axes: AEVB", "wake-sleep"]
  rows = []
  for claim in summary("lower_bound")["claims"]:
    there = claim["samples_to_best_of_wake_sleep"]
    ends = [
      text
      for algorithm in ("aevb", "wake_sleep")
      for text in (
        with_error(claim[f"{algorithm}_train"], claim[f"{algorithm}_train_se"], digits=1),
        with_error(claim[f"{algorithm}_test"], claim[f"{algorithm}_test_se"], digits=1),
        f"{spread(claim[f'{algorithm}_test_sd'])} ({step_sizes(claim, algorithm)})".strip(),
      )
    ]
    rows.append(
      [
        f"{name_of(claim['dataset'])}, J = {claim['latent_dim']}",
        len(claim["seeds"]),
        *ends,
        ahead(claim),
        count(there) if there else "never",
        *(
          inside_from(claim[f"{algorithm}_inside_axes_from"])
          for algorithm in ("aevb", "wake_sleep")
        ),
      ]
    )
  return table(header, rows)


def step_sizes(claim: dict, algorithm: str) -> str:
  """Formats the step sizes of all seeds, in their order; one for all if they are the same."""
  chosen = claim[f"{algorithm}_step_sizes"]
  return ", ".join(f"{size:g}" for size in (chosen if len(set(chosen)) > 1 else chosen[:1]))


def ahead(claim: dict) -> str:
  """Says when the lowest test bound of AEVB is above the highest of wake-sleep."""
  if claim["ahead_from"] is None:
    return f"no, at the end behind by {number(-claim['last_lead'])}"
  if claim["smallest_lead"] > 0:
    return f"yes, by at least {number(claim['smallest_lead'])}"
  return f"from {count(claim['ahead_from'])}, by {number(claim['last_lead'])} at the end"


def inside_from(samples: int | None) -> str:
  if samples is None:
    return "no"
  return "yes" if samples <= 10**5 else f"from {count(samples)}"


def marginal_likelihood() -> list[str]:
  header = ["N", "", "seeds", "evaluations", "training samples", "seconds"]
  header += ["log p(x): train", "SD over seeds", "test", "SD over seeds"]
  rows = []
  for row in summary("marginal_likelihood")["ends"]:
    likelihoods = [
      text
      for name in ("train_log_likelihood", "test_log_likelihood")
      for text in (with_error(row[name], row[f"{name}_se"]), spread(row[f"{name}_sd"]))
    ]
    rows.append(
      [
        row["num_train"],
        NAMES[row["algorithm"]],
        len(row["seeds"]),
        count(row["evaluations"]),
        count(row["examples_seen"]),
        number(row["seconds"], 0),
        *likelihoods,
      ]
    )
  return table(header, rows)


def drawn(name: str) -> Callable[[], list[str]]:
  """Makes the table of the models that figure 4 or 5 draws."""

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
  found = summary("iwae_table")
  header = ["", "k", f"ours, −L₅₀₀₀ after {found['epochs']} epochs", "paper", "gain on k = 1"]
  header += ["paper", "active latents", "paper"]
  header += [f"ours, extrapolated to {found['published_epochs']} epochs"]
  rows = []
  for row in found["rows"]:
    rows.append(
      [
        row["model"].upper(),
        row["k"],
        with_error(row["nll"], row["nll_se"]),
        number(row["paper_nll"], 2),
        with_error(row["gain"], row["gain_se"]) if row["k"] > 1 else "",
        number(row["paper_gain"], 2) if row["k"] > 1 else "",
        row["active"],
        row["paper_active"],
        measured(row, "extrapolated", "later_gain_se"),
      ]
    )
  return table(header, rows)


def iwae_stages() -> list[str]:
  """Makes the table of what each stage gained, and of what the stages before it predicted."""
  stages = summary("iwae_table")["stages"]
  ends = sorted({stage["epochs"] for stage in stages})
  header = ["", "k", f"−L₅₀₀₀ after {ends[0]} epoch", *(f"gain until {end}" for end in ends[1:])]
  header += [f"predicted until {ends[-1]}", "later stages, extrapolated"]
  lines = []
  for row in summary("iwae_table")["rows"]:
    mine = [stage for stage in stages if stage["run"] == row["run"]]
    lines.append(
      [
        row["model"].upper(),
        row["k"],
        with_error(mine[0]["nll"], mine[0]["nll_se"]),
        *(with_error(stage["gain"], stage["gain_se"]) for stage in mine[1:]),
        measured(mine[-1], "predicted", "predicted_se"),
        measured(row, "later_gain", "later_gain_se"),
      ]
    )
  return table(header, lines)


def conv_vae() -> list[str]:
  """Makes the table of the loss during training."""
  lines = []
  for row in map(conv_row, (1, 5, 10, 20, 50)):
    losses = [
      with_error(float(row[f"{split}_loss"]), float(row[f"{split}_loss_se"]))
      for split in ("train", "test")
    ]
    lines.append([number(float(row["epochs"])), *losses])
  return table(["epochs", "training loss, −bound", "test loss"], lines)


def made(names: Sequence[str]) -> list[str]:
  """Makes the table of how long every figure took, where and when."""
  header = ["main", "training", "evaluation and pictures", "device", "commit"]
  rows = []
  for name in names:
    found = summary(name)
    rows.append(
      [
        f"`{name}.py`",
        hours(found["train_seconds"]),
        hours(found["evaluation_seconds"]),
        found["device"],
        (found["git_commit"] or "")[:7],
      ]
    )
  return table(header, rows)
