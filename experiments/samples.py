"""Figure 5: random samples of models of MNIST with 2, 5, 10 and 20 latents.

  python -m experiments.samples --workdir=runs/samples
  python -m experiments.samples --latent_dims=2,20 --num_examples=1000000 --workdir=runs/two

Draws the mean of p(x|z) for z from the prior. The runs are runs of experiments.lower_bound by
AEVB; runs that --runs does not hold are trained.

Writes samples.png, samples.csv (the bounds of the models that are drawn) and summary.json.

With --budget=cpu the test bounds are -153.1, -122.2, -106.5 and -103.3; that takes forty minutes on
one core of a CPU, or seconds if --runs has the runs of figure 2.
"""

import dataclasses

import jax
from absl import flags

from aevb_jax.runs import files
from experiments.flags import figures as figure_flags
from experiments.flags import paper
from experiments.flags.validators import is_count
from experiments.launch import command
from experiments.plots.panels import draw_panels
from experiments.studies import jobs
from experiments.studies.paper import bounds
from experiments.studies.paper.bounds import PaperConfig

BUDGETS = {budget: dict(dataset="mnist", **values) for budget, values in bounds.BUDGETS.items()}
BUDGETS["smoke"] |= dict(latent_dims=["2"])
figure_flags.define("samples", BUDGETS)
flags.adopt_module_key_flags(paper)
flags.declare_key_flag("dataset")
flags.DEFINE_list(
  "latent_dims", ["2", "5", "10", "20"], "Numbers of latents J, from left to right."
)
flags.DEFINE_integer("grid", 10, "Samples in a row and in a column.", lower_bound=1)


@flags.validator("latent_dims", "takes positive whole numbers, separated by commas")
def _check_latent_dims(values: list[str]) -> bool:
  return bool(values) and all(map(is_count, values))


@dataclasses.dataclass(frozen=True)
class SamplesConfig(PaperConfig):
  """The models that samples are drawn from, and the number of samples of each."""

  dataset: str = "mnist"
  latent_dims: tuple[int, ...] = (2, 5, 10, 20)
  grid: int = 10


def main() -> None:
  commit = files.git_commit()
  figure, config = figure_flags.settings(SamplesConfig, BUDGETS)
  of_models = {
    J: bounds.bound_jobs(config, config.dataset, J, "aevb")[0] for J in config.latent_dims
  }
  made_of = list(of_models.values())
  jobs.check(made_of, figure)
  workdir = figure_flags.open_workdir(figure, config)
  made = jobs.train(made_of, figure)
  pictures, rows = [], []
  for J, job in of_models.items():
    run = jobs.load_member(jobs.member_directories(job, figure)[0])
    key = jax.random.fold_in(jax.random.key(config.seeds[0]), J)
    pictures.append((f"{J}-D latent space", bounds.draw_samples(key, run, config.grid)))
    rows.append(bounds.result(config.dataset, J, run.directory))
    print(f"J = {J}: {bounds.result_in_words(rows[-1])}")
  files.write_csv(workdir / "samples.csv", list(rows[0]), rows)
  picture = draw_panels(pictures, columns=4, budget=figure.budget)
  files.save_figure(workdir / "samples.png", picture)
  jobs.write_summary(workdir, dict(results=rows), made, commit)
  print(f"written to {workdir.resolve()}: samples.csv samples.png summary.json")


if __name__ == "__main__":
  command.run(main)
