"""Figure 2: the variational bound against training samples, by AEVB and by wake-sleep.

  python -m experiments.lower_bound --workdir=runs/lower_bound
  python -m experiments.lower_bound --panels=mnist/20 --num_examples=1000000 --workdir=runs/one
  python -m experiments.lower_bound --budget=paper --workdir=runs/figure_2

MNIST with J = 3, 5, 10, 20, 200 and Frey Face with J = 2, 5, 10, 20, in the settings of section
5 (--preset=paper of experiments.train): one tanh layer of 500 or 200 units on each side, M = 100,
L = 1, Adagrad, whose step size is chosen for every curve by the training bound after the first
hundred thousand samples. Pixels are real-valued, as in the paper, so the numbers of MNIST are not
log-densities.

Writes lower_bound.csv, lower_bound.png and summary.json, which says for every panel whether the
paper's claims hold.

With --budget=cpu, 10^7 samples and one seed: test bounds of MNIST with J = 20 end at -103.3 by AEVB
and -110.1 by wake-sleep, and of Frey Face with J = 20 at 1266 and 1078. AEVB is ahead in all
panels at every sample count. A core of a CPU takes 10 minutes for a curve of MNIST by AEVB, 14
by wake-sleep and 8 for a curve of Frey Face: three hours for all.
"""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np
from absl import flags

from aevb_jax import figures
from aevb_jax.runs import files
from experiments.flags import figures as figure_flags
from experiments.flags import paper
from experiments.flags.validators import is_count
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots import records
from experiments.plots.lower_bound import LIMITS, draw_lower_bounds
from experiments.studies import jobs, paper_runs
from experiments.studies.paper_runs import PaperConfig

PANELS = tuple(f"mnist/{J}" for J in (3, 5, 10, 20, 200))
PANELS += tuple(f"frey_face:random/{J}" for J in (2, 5, 10, 20))
BUDGETS = paper_runs.BUDGETS | {"smoke": paper_runs.BUDGETS["smoke"] | dict(panels=["mnist/2"])}
figure_flags.define("lower_bound", BUDGETS)
flags.adopt_module_key_flags(paper)
flags.DEFINE_list("panels", list(PANELS), "Panels to draw, as DATASET/J.")

COLUMNS = ("dataset", "latent_dim", "algorithm", "seed", "step_size", "examples_seen",
           "train_bound", "train_bound_se", "test_bound", "test_bound_se", "seconds")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LowerBoundConfig(PaperConfig):
  """The panels that are drawn, and the runs that they are drawn from."""

  panels: tuple[str, ...] = PANELS


def main() -> None:
  commit = files.git_commit()
  figure, config = figure_flags.settings(LowerBoundConfig, BUDGETS)
  panels = [parse_panel(text) for text in config.panels]
  of_curves = {
    (panel, algorithm): paper_runs.bound_jobs(config, *panel, algorithm)
    for panel in panels
    for algorithm in paper_runs.ESTIMATORS
  }
  made_of = [job for some in of_curves.values() for job in some]
  jobs.check(made_of, figure)
  workdir = figure_flags.open_workdir(figure, config)
  made = jobs.train(made_of, figure)
  rows = [
    row for (panel, algorithm), some in of_curves.items() for job in some
    for member in jobs.member_directories(job, figure)
    for row in rows_of(panel, algorithm, member)
  ]  # fmt: skip
  files.write_csv(workdir / "lower_bound.csv", COLUMNS, rows)
  picture = draw_lower_bounds(rows, LIMITS, budget=figure.budget)
  files.save_figure(workdir / "lower_bound.png", picture)
  claims = [judge(panel, rows) for panel in panels]
  jobs.write_summary(workdir, dict(claims=claims), made, commit)
  print("\n" + as_table(claims))
  print(f"written to {workdir.resolve()}: lower_bound.csv lower_bound.png summary.json")


def parse_panel(text: str) -> tuple[str, int]:
  """Parses a panel, such as mnist/3."""
  dataset, _, latent_dim = text.rpartition("/")
  if not dataset or not is_count(latent_dim):
    raise UsageError("panels", "takes DATASET/J, several between commas, such as mnist/3,mnist/5")
  return dataset, int(latent_dim)


def rows_of(panel: tuple[str, int], algorithm: str, member: pathlib.Path) -> list[dict]:
  """Returns the rows of a run, with the data set, latents, algorithm and seed of the run."""
  given = records.read_flags(member)
  about = dict(dataset=panel[0], latent_dim=panel[1], algorithm=algorithm)
  about |= dict(seed=int(given["seed"]), step_size=float(given["step_size"]))
  rows = files.read_metrics(member, jobs.BOUNDS)
  return [about | {name: row[name] for name in COLUMNS if name in row} for row in rows]


class Curve(NamedTuple):
  """The mean over seeds, from the sample count at which the paper's axis begins."""

  seen: np.ndarray
  train: np.ndarray
  test: np.ndarray


def curve_of(rows: list[dict], panel: tuple[str, int], algorithm: str) -> Curve:
  mine = [r for r in rows if (r["dataset"], r["latent_dim"]) == panel]
  mine = [r for r in mine if r["algorithm"] == algorithm]
  seen = sorted({row["examples_seen"] for row in mine})
  seen = [n for n in seen if n >= min(10**5, seen[-1])]
  of = {n: [row for row in mine if row["examples_seen"] == n] for n in seen}
  mean = lambda name: np.array([np.mean([row[name] for row in of[n]]) for n in seen])
  return Curve(np.array(seen), mean("train_bound"), mean("test_bound"))


def judge(panel: tuple[str, int], rows: list[dict]) -> dict:
  """Judges the paper's claims in a panel: that AEVB learns faster, and ends higher."""
  aevb, other = (curve_of(rows, panel, algorithm) for algorithm in ("aevb", "wake_sleep"))
  there = aevb.seen[aevb.test >= other.test.max()]
  limits = LIMITS.get(panel[0].split(":")[0], (-np.inf, np.inf))
  return dict(
    dataset=panel[0],
    latent_dim=panel[1],
    examples_seen=int(aevb.seen[-1]),
    aevb_train=float(aevb.train[-1]),
    aevb_test=float(aevb.test[-1]),
    aevb_best_test=float(aevb.test.max()),
    wake_sleep_train=float(other.train[-1]),
    wake_sleep_test=float(other.test[-1]),
    wake_sleep_best_test=float(other.test.max()),
    smallest_lead=float((aevb.test - other.test).min()),
    samples_to_best_of_wake_sleep=int(there[0]) if len(there) else None,
    aevb_inside_axes_from=inside_from(aevb, limits),
    wake_sleep_inside_axes_from=inside_from(other, limits),
  )


def inside_from(curve: Curve, limits: tuple[float, float]) -> int | None:
  """Returns after how many samples the curve stays inside the limits; None if it never does."""
  outside = [(y < limits[0]) | (y > limits[1]) for y in (curve.train, curve.test)]
  last = max((np.flatnonzero(where)[-1] for where in outside if where.any()), default=-1)
  return int(curve.seen[last + 1]) if last + 1 < len(curve.seen) else None


def as_table(claims: list[dict]) -> str:
  """Formats a line for each panel; least lead is AEVB's smallest test bound minus wake-sleep's."""
  in_words = lambda samples: "never" if samples is None else f"{samples:.2g}"
  lines = [
    f"{'':19}{'samples':>9} {'AEVB: train':>12} {'test':>8} {'wake-sleep: train':>18} {'test':>8} "
    f"{'least lead':>11} {'AEVB there after':>17} {'both in axes from':>18}"
  ]
  for row in claims:
    name = f"{figures.name_of(row['dataset'])}, J = {row['latent_dim']}"
    inside = [row[f"{algorithm}_inside_axes_from"] for algorithm in ("aevb", "wake_sleep")]
    lines.append(
      f"{name:19}{row['examples_seen']:>9.2g} "
      f"{row['aevb_train']:>12.1f} {row['aevb_test']:>8.1f} {row['wake_sleep_train']:>18.1f} "
      f"{row['wake_sleep_test']:>8.1f} {row['smallest_lead']:>+11.1f} "
      f"{in_words(row['samples_to_best_of_wake_sleep']):>17} "
      f"{in_words(None if None in inside else max(inside)):>18}"
    )
  return "\n".join(lines)


if __name__ == "__main__":
  command.run(main)
