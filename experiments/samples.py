"""Figure 5: random samples of models of MNIST with 2, 5, 10 and 20 latents.

  python -m experiments.samples --workdir=runs/samples
  python -m experiments.samples --latent_dims=2,20 --num_examples=1000000 --workdir=runs/two

Drawn is the mean of p(x|z) for z from the prior. The runs are those of experiments.lower_bound,
by AEVB, which are made if --runs does not hold them.

Writes samples.png, samples.csv (the bounds of the models that are drawn) and summary.json.

Of --budget=cpu: test bounds of -153.1, -122.2, -106.5 and -103.3; forty minutes on one core of a
CPU, seconds where --runs has those of figure 2.
"""

import jax
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

BUDGETS = {budget: dict(dataset="mnist", **values) for budget, values in paper_runs.BUDGETS.items()}
BUDGETS["smoke"] |= dict(latent_dims=["2"])
budgets.define(BUDGETS)
batch.define("samples")
flags.adopt_module_key_flags(paper_runs)
flags.declare_key_flag("dataset")
flags.DEFINE_list("latent_dims", ["2", "5", "10", "20"], "J, from left to right.")
flags.DEFINE_integer("grid", 10, "Samples in a row and in a column.", lower_bound=1)


def main() -> None:
  commit = directory.git_commit()
  budgets.settle(BUDGETS)
  if not FLAGS.latent_dims or not all(map(command.is_count, FLAGS.latent_dims)):
    raise UsageError("latent_dims", "takes positive whole numbers, separated by commas")
  latents, dataset = [int(text) for text in FLAGS.latent_dims], FLAGS.dataset
  jobs = {J: paper_runs.bound_jobs(dataset, J, "aevb")[0] for J in latents}
  workdir = batch.open_workdir()
  batch.train(list(jobs.values()))
  pictures, rows = [], []
  for J, job in jobs.items():
    member = batch.member_directories(job)[0]
    with loading.loaded(member) as run:
      key = jax.random.fold_in(jax.random.key(int(FLAGS.seeds[0])), J)
      z = figures.sample_prior(key, run.model, run.params, FLAGS.grid**2)
      x = figures.decode(run.model, run.params, z)
      picture = figures.tile(x, run.images.image_shape, columns=FLAGS.grid, background=0.0)
    pictures.append((f"{J}-D latent space", picture))
    rows.append(paper_runs.result(dataset, J, member))
    print(f"J = {J}: {paper_runs.describe(rows[-1])}")
  directory.write_csv(workdir / "samples.csv", list(rows[0]), rows)
  directory.write_figure(workdir, "samples", draw_panels(pictures, columns=4, budget=FLAGS.budget))
  batch.write_summary(workdir, dict(results=rows), list(jobs.values()), commit)
  print(f"written to {workdir.resolve()}: samples.csv samples.png summary.json")


if __name__ == "__main__":
  command.run(main)
