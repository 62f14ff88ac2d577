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

The claims are of all --seeds, and a directory that holds the figure gains seeds and panels: only
these are trained, and rows of the table are kept even if their runs are gone.

With --budget=cpu, 10^7 samples: test bounds of MNIST with J = 20 end at -103.4 by AEVB, for three
seeds within 0.3 nats, and by wake-sleep at -110, -119 and -181. Every run of AEVB ends above every
run of wake-sleep in all panels. A core of a CPU takes 10 minutes for a curve of MNIST by AEVB, 14
by wake-sleep and 8 for a curve of Frey Face: three hours a seed.
"""

import dataclasses

from absl import flags

from aevb_jax.runs import files
from aevb_jax.runs.config import GROWS
from experiments.flags import figures as figure_flags
from experiments.flags import paper
from experiments.flags.validators import is_count
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots import records
from experiments.plots.lower_bound import LIMITS, draw_lower_bounds
from experiments.studies import jobs
from experiments.studies import kept as earlier
from experiments.studies.paper import bounds
from experiments.studies.paper import lower_bound as study
from experiments.studies.paper.bounds import PaperConfig

PANELS = tuple(f"mnist/{J}" for J in (3, 5, 10, 20, 200))
PANELS += tuple(f"frey_face:random/{J}" for J in (2, 5, 10, 20))
BUDGETS = bounds.BUDGETS | {
  "smoke": bounds.BUDGETS["smoke"] | dict(panels=["mnist/2"]),
  "cpu": bounds.BUDGETS["cpu"] | dict(seeds=["0", "1", "2"]),
}
figure_flags.define("lower_bound", BUDGETS)
flags.adopt_module_key_flags(paper)
flags.DEFINE_list("panels", list(PANELS), "Panels to draw, as DATASET/J.")

TABLE = "lower_bound.csv"
NUMBERS = ("latent_dim", "seed", "step_size", "examples_seen", *jobs.BOUNDS, "seconds")
COLUMNS = ("dataset", "latent_dim", "algorithm", *NUMBERS[1:], earlier.RUN)


@dataclasses.dataclass(frozen=True)
class LowerBoundConfig(PaperConfig):
  """The panels that are drawn, and the runs that they are drawn from."""

  panels: tuple[str, ...] = dataclasses.field(default=PANELS, metadata=GROWS)


def main() -> None:
  commit = files.git_commit()
  figure, config = figure_flags.settings(LowerBoundConfig, BUDGETS)
  panels = [parse_panel(text) for text in config.panels]
  of_curves = {
    (panel, algorithm): bounds.bound_jobs(config, *panel, algorithm)
    for panel in panels
    for algorithm in bounds.ESTIMATORS
  }
  made_of = [job for some in of_curves.values() for job in some]
  kept = earlier.find(figure, config, TABLE, NUMBERS)
  jobs.check(made_of, figure, kept)
  workdir = figure_flags.open_workdir(figure, config)
  made = jobs.train(made_of, figure, kept)
  rows = [
    row
    for (panel, algorithm), some in of_curves.items()
    for job in some
    for row in rows_of(panel, algorithm, job, made)
  ]
  files.write_csv(workdir / TABLE, COLUMNS, rows)
  rows = records.read_rows(workdir / TABLE)  # with as many digits as rows that were kept
  picture = draw_lower_bounds(rows, LIMITS, budget=figure.budget)
  files.save_figure(workdir / "lower_bound.png", picture)
  claims = [study.judge(panel, rows) for panel in panels]
  jobs.write_summary(workdir, dict(claims=claims), made, commit, rows=rows)
  print("\n" + study.as_table(claims))
  print(f"written to {workdir.resolve()}: {TABLE} lower_bound.png summary.json")


def parse_panel(text: str) -> tuple[str, int]:
  """Parses a panel, such as mnist/3."""
  dataset, _, latent_dim = text.rpartition("/")
  if not dataset or not is_count(latent_dim):
    raise UsageError("panels", "takes DATASET/J, several between commas, such as mnist/3,mnist/5")
  return dataset, int(latent_dim)


def rows_of(panel: tuple[str, int], algorithm: str, job: jobs.Job, made: jobs.Jobs) -> list[dict]:
  """Returns the rows of a run, with the data set, latents, algorithm and seeds of the run."""
  if rows := jobs.rows_kept(job, made.kept):
    return rows
  for member in jobs.member_directories(job, made.figure):
    given = records.read_flags(member)
    about = dict(dataset=panel[0], latent_dim=panel[1], algorithm=algorithm)
    about |= dict(seed=int(given["seed"]), step_size=float(given["step_size"]), run=job.name)
    metrics = files.read_metrics(member, jobs.BOUNDS)
    rows += [about | {name: row[name] for name in COLUMNS if name in row} for row in metrics]
  return rows


if __name__ == "__main__":
  command.run(main)
