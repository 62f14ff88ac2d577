"""Importance weighted autoencoders, table 1: VAE and IWAE by samples k.

  python -m experiments.iwae_table --workdir=runs/iwae_table
  python -m experiments.iwae_table --stages=3 --samples=1,5 --workdir=runs/short
  python -m experiments.iwae_table --budget=paper --seed=0,1,2 --workdir=runs/table_1
  python -m experiments.iwae_table --stages=4 --layers=1,2 --samples=1,50 --workdir=runs/iwae_layers

The protocol is that of Burda, Grosse & Salakhutdinov (2015), --preset=iwae of experiments.train:
784-200-200-50, tanh, pixels drawn at each use, M = 20, Adam with steps of 0.001·10^(−i/7) for 3^i
epochs, i = 0…7, 3280 in all. With two stochastic layers it is --preset=iwae_2, latents of 100 and
50 dimensions in 784-200-200-100-100-100-50, and with --layers=1,2 each of its rows is compared with
the row of one layer image by image. --stages limits the run to the first stages: five with
--budget=cpu, 121 epochs, the last 81 of them at a step of 0.00027. The VAE of k samples maximizes
the mean of k log-weights (elbo_a), as theirs does, the IWAE the log of the mean of the weights; at
k = 1 they are one run. The models are compared by −L_5000 over all test images, on the same noise,
so that the error of a difference is that of the differences image by image. A latent is active if
the variance of E_q[z|x] over the test images is more than 0.01; for latents above the first layer
that is the mean given the mean of the layer below.

Differences of their code from this one: 400 of the 60000 images are left out; the order of the
others is the same in every epoch; step sizes are rounded to 0.00001; beta_1 is 0.99 (0.9 in their
paper, and here); Adam's second moments start at 1; all layers start from one seed; the head of
the variance is a log standard deviation; active latents are counted on 500 training images.
Their eps of Adam, 1e-4, is for gradients summed over a minibatch; for means it is 5e-6 here.

With --budget=cpu, 121 epochs, -log p(x) is 89.63 for k = 1, and for k = 5 88.72 with the VAE and
88.45 with the IWAE. After 40 epochs, --stages=4, it is 91.97 for k = 1, and for k = 50 90.43 with
the VAE and 89.46 with the IWAE; with two layers 90.72 for k = 1, and for k = 50 87.99 with the VAE
and 88.48 with the IWAE. One core trains k = 1 and 5 for 121 epochs in 40 minutes, and each row of
k = 50 in two hours; two layers take a fifth longer. log p(x) takes nine minutes a row.

With one seed, log p(x) of the first thousand test images is also estimated at the ends of the first
four stages and of the run, on the same noise. From the gains of three or four stages, those that
did not run are extrapolated, as if each gained a constant part of what the one before gained: with
--budget=cpu to 87.1 for k = 1, and to 86.7 and 86.1 for k = 5, with errors of 0.3 to 0.5, where the
published rows are 86.76, 86.47 and 85.54.

Writes iwae_table.csv, iwae_stages.csv with the gain of each stage, iwae_log_p.csv with log p(x) of
every test image by every run, iwae_table.png and summary.json; into each run importance-K.csv and
latents.csv. A directory that holds the table gains --samples and --layers, and only their runs are
trained.
"""

from absl import flags

from aevb_jax.runs import files
from aevb_jax.runs.pixels import load_data
from experiments.flags import data, learning  # noqa: F401 (flags that are declared below)
from experiments.flags import figures as figure_flags
from experiments.flags.validators import is_count
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots.iwae_table import draw_iwae_table, title_of
from experiments.studies import jobs
from experiments.studies import kept as earlier
from experiments.studies.iwae_table import judging, stages
from experiments.studies.iwae_table import rows as study
from experiments.studies.iwae_table.rows import IwaeTableConfig

TABLE = "iwae_table.csv"
COMMON = dict(dataset="mnist:60k", samples=["1", "5", "50"], num_importance_samples=5000)
BUDGETS = {
  "smoke": COMMON | dict(samples=["5"], stages=1, num_importance_samples=10),
  "cpu": COMMON | dict(stages=5),
  "paper": COMMON | dict(stages=8),
}
figure_flags.define("iwae_table", BUDGETS)

flags.declare_key_flag("dataset")
flags.declare_key_flag("seed")
flags.declare_key_flag("num_importance_samples")
flags.DEFINE_list(
  "samples", COMMON["samples"], "k, numbers of samples in training, separated by commas."
)
flags.DEFINE_list("layers", ["1"], "Numbers of stochastic layers, 1 or 2 or both, by commas.")
flags.DEFINE_integer(
  "stages",
  len(study.STAGES),
  "Number of stages to train for, of the eight of 3^i epochs.",
  lower_bound=1,
  upper_bound=len(study.STAGES),
)


@flags.validator("samples", "takes whole numbers of at least 1, each once, between commas")
def _check_samples(values: list[str]) -> bool:
  return bool(values) and len(set(values)) == len(values) and all(map(is_count, values))


@flags.validator("layers", "takes 1, 2 or 1,2")
def _check_layers(values: list[str]) -> bool:
  known = {str(layers) for layers in study.PRESET_OF}
  return bool(values) and len(set(values)) == len(values) and set(values) <= known


def main() -> None:
  commit = files.git_commit()
  figure, config = figure_flags.settings(IwaeTableConfig, BUDGETS)
  if not config.num_importance_samples:
    raise UsageError("num_importance_samples", "takes at least 1 here")
  images = load_data(data.config(), data.array_cache_dir())
  entries = study.make_entries(config, num_train=len(images.train))
  ends, num_points = study.ends_of(config, len(images.train)), len(images.test)
  made_of = [entry.job for entry in entries]
  kept = earlier.find(figure, config, TABLE, study.NUMBERS)
  known = judging.kept_results(kept, figure.workdir, num_points, len(ends))
  kept = kept._replace(runs={name: kept.runs[name] for name in known})
  jobs.check(made_of, figure, kept)
  workdir = figure_flags.open_workdir(figure, config)
  made = jobs.train(made_of, figure, kept)
  numbers = dict(num_samples=config.num_importance_samples, num_points=num_points)
  results = [
    known[entry.job.name]
    if jobs.is_kept(entry.job, kept)
    else judging.result_of(entry.job, made, ends, **numbers, sizes=study.latents_of(entry.layers))
    for entry in entries
  ]
  judging.write_images(workdir, made_of, results)
  of_stages = study.stage_rows(entries, results)
  files.write_csv(workdir / judging.OF_STAGES, stages.COLUMNS, of_stages)
  rows = study.make_rows(config, entries, results)
  files.write_csv(workdir / TABLE, study.COLUMNS, rows)
  epochs = sum(study.STAGES[: config.stages])
  title = title_of(config.dataset, epochs, sum(study.STAGES))
  picture = draw_iwae_table(rows, title, budget=figure.budget)
  files.save_figure(workdir / "iwae_table.png", picture)
  summary = dict(rows=rows, stages=of_stages, epochs=epochs, published_epochs=sum(study.STAGES))
  summary |= dict(seeds=config.seeds, dataset=config.dataset)
  summary |= dict(num_importance_samples=config.num_importance_samples)
  jobs.write_summary(workdir, summary, made, commit, rows=rows)
  schedule = f"{config.dataset}, {study.schedule_in_words(config)}"
  print(f"\n{schedule}; −L_{config.num_importance_samples} over {num_points} test images")
  print(study.as_table(rows))
  print(f"written to {workdir.resolve()}: {TABLE} {judging.OF_STAGES} {judging.LOG_P} .png")


if __name__ == "__main__":
  command.run(main)
