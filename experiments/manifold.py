"""Figure 4: the manifolds that AEVB learns of Frey Face and of MNIST with two latents.

  python -m experiments.manifold --workdir=runs/manifold
  python -m experiments.manifold --datasets=mnist --num_examples=1000000 --workdir=runs/one

Coordinates evenly spaced on the unit square, through the inverse CDF of the Gaussian prior, are
the latents z; drawn is the mean of p(x|z) for each. The runs are those of experiments.lower_bound
with J = 2, which are made if --runs does not hold them.

Writes manifold.png, manifold.csv (the bounds of the models that are drawn) and summary.json.

Of --budget=cpu: test bounds of 860 on Frey Face and -153.1 on MNIST; twenty minutes on one core.
"""

from absl import flags

from aevb_jax import figures
from experiments.flags import budgets
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots.panels import draw_panels
from experiments.runs import directory, loading
from experiments.studies import jobs as batch
from experiments.studies import paper_runs

FLAGS = flags.FLAGS

BUDGETS = {
  "smoke": dict(datasets=["mnist"], **paper_runs.BUDGETS["smoke"]),
  "cpu": paper_runs.BUDGETS["cpu"],
  "paper": paper_runs.BUDGETS["paper"],
}
budgets.define(BUDGETS)
batch.define("manifold")
flags.adopt_module_key_flags(paper_runs)
flags.DEFINE_list("datasets", ["frey_face:random", "mnist"], "Whose manifolds, from left to right.")
flags.DEFINE_integer("grid", 20, "Images in a row and in a column.", lower_bound=2)


def main() -> None:
  commit = directory.git_commit()
  budgets.settle(BUDGETS)
  if not FLAGS.datasets:
    raise UsageError("datasets", "takes at least one")
  jobs = {dataset: paper_runs.bound_jobs(dataset, 2, "aevb")[0] for dataset in FLAGS.datasets}
  workdir = batch.open_workdir()
  batch.train(list(jobs.values()))
  pictures, rows = [], []
  for dataset, job in jobs.items():
    member = batch.member_directories(job)[0]
    with loading.loaded(member) as run:
      z = figures.manifold_latents(FLAGS.grid)
      x = figures.decode(run.model, run.params, z)
      picture = figures.tile(x, run.images.image_shape, columns=FLAGS.grid, background=0.0)
    pictures.append((f"{figures.name_of(dataset)}: the learned manifold", picture))
    rows.append(paper_runs.result(dataset, 2, member))
    print(f"{dataset}: {paper_runs.describe(rows[-1])}")
  directory.write_csv(workdir / "manifold.csv", list(rows[0]), rows)
  directory.write_figure(workdir, "manifold", draw_panels(pictures, columns=2, budget=FLAGS.budget))
  batch.write_summary(workdir, dict(results=rows), list(jobs.values()), commit)
  print(f"written to {workdir.resolve()}: manifold.csv manifold.png summary.json")


if __name__ == "__main__":
  command.run(main)
