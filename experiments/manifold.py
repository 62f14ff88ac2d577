"""Figure 4: the manifolds that AEVB learns of Frey Face and of MNIST with two latents.

  python -m experiments.manifold --workdir=runs/manifold
  python -m experiments.manifold --datasets=mnist --num_examples=1000000 --workdir=runs/one

The latents z are evenly spaced coordinates on the unit square, mapped through the inverse CDF of
the Gaussian prior. The picture for z is the mean of p(x|z). The runs are the runs of
experiments.lower_bound with J = 2; runs that --runs does not hold are trained.

Writes manifold.png, manifold.csv (the bounds of the models that are drawn) and summary.json.

With --budget=cpu the test bounds are 860 on Frey Face and -153.1 on MNIST, after twenty minutes on
one core.
"""

import dataclasses

from absl import flags

from aevb_jax import figures
from aevb_jax.runs import files
from experiments.flags import figures as figure_flags
from experiments.flags import paper
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots.panels import draw_panels
from experiments.studies import jobs
from experiments.studies.paper import bounds
from experiments.studies.paper.bounds import PaperConfig

BUDGETS = {
  "smoke": dict(datasets=["mnist"], **bounds.BUDGETS["smoke"]),
  "cpu": bounds.BUDGETS["cpu"],
  "paper": bounds.BUDGETS["paper"],
}
figure_flags.define("manifold", BUDGETS)
flags.adopt_module_key_flags(paper)
flags.DEFINE_list("datasets", ["frey_face:random", "mnist"], "Data sets, from left to right.")
flags.DEFINE_integer("grid", 20, "Images in a row and in a column.", lower_bound=2)


@dataclasses.dataclass(frozen=True)
class ManifoldConfig(PaperConfig):
  """The data sets whose manifolds are drawn, and the fineness of the grid."""

  datasets: tuple[str, ...] = ("frey_face:random", "mnist")
  grid: int = 20


def main() -> None:
  commit = files.git_commit()
  figure, config = figure_flags.settings(ManifoldConfig, BUDGETS)
  if not config.datasets:
    raise UsageError("datasets", "takes at least one")
  of_sets = {name: bounds.bound_jobs(config, name, 2, "aevb")[0] for name in config.datasets}
  made_of = list(of_sets.values())
  jobs.check(made_of, figure)
  workdir = figure_flags.open_workdir(figure, config)
  made = jobs.train(made_of, figure)
  pictures, rows = [], []
  for dataset, job in of_sets.items():
    run = jobs.load_member(jobs.member_directories(job, figure)[0])
    x = figures.decode(run.model, run.params, figures.manifold_latents(config.grid))
    picture = figures.tile(x, run.data.image_shape, columns=config.grid, background=0.0)
    pictures.append((f"{figures.name_of(dataset)}: the learned manifold", picture))
    rows.append(bounds.result(dataset, 2, run.directory))
    print(f"{dataset}: {bounds.result_in_words(rows[-1])}")
  files.write_csv(workdir / "manifold.csv", list(rows[0]), rows)
  picture = draw_panels(pictures, columns=2, budget=figure.budget)
  files.save_figure(workdir / "manifold.png", picture)
  jobs.write_summary(workdir, dict(results=rows), made, commit)
  print(f"written to {workdir.resolve()}: manifold.csv manifold.png summary.json")


if __name__ == "__main__":
  command.run(main)
