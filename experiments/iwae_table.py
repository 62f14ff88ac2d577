"""Importance weighted autoencoders, table 1, one stochastic layer: VAE and IWAE by samples k.

  python -m experiments.iwae_table --workdir=runs/iwae_table
  python -m experiments.iwae_table --stages=3 --samples=1,5 --workdir=runs/short
  python -m experiments.iwae_table --budget=paper --seed=0,1,2 --workdir=runs/table_1

The protocol is that of Burda, Grosse & Salakhutdinov (2015), --preset=iwae of experiments.train:
784-200-200-50, tanh, pixels drawn at each use, M = 20, Adam with steps of 0.001·10^(−i/7) for 3^i
epochs, i = 0…7, 3280 in all. --stages makes the first so many stages of it: on a CPU four, 40
epochs, the last 27 of them at a step of 0.00037. The VAE of k samples climbs the mean of k
log-weights (elbo_a), as theirs does, the IWAE the log of the mean of the weights; at k = 1 they
are one run. Judged by −L_5000 over all test images, on the same noise, so that differences have
the errors of differences image by image; a latent is active where E_q[z|x] varies by more than
0.01 over the test images.

What their code does and this does not: 400 of the 60000 images are left out; the order of the
others is the same in every epoch; step sizes are rounded to 0.00001; beta_1 is 0.99 (0.9 in their
paper, and here); Adam's second moments start at 1; all layers start from one seed; the head of
the variance is a log standard deviation; active latents are counted on 500 training images.
Adam's eps of 1e-4 is theirs of gradients summed over a minibatch, and so 5e-6 of means here.

Of --budget=cpu, 40 epochs: -log p(x) of 91.97 for k = 1, of the VAE with k = 5 and 50 90.70 and
90.43, of the IWAE 90.47 and 89.46; training an hour and a half on one core, log p(x) of all test
images by 5000 samples about 5 minutes a row.

Writes iwae_table.csv, iwae_table.png and summary.json; into each run importance-K.csv, with log
p(x) of every test image, and latents.csv.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from aevb_jax.inference.diagnostics import active_units
from aevb_jax.training.evaluation import evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Array, Key, Params
from experiments.flags import budgets, data, sweeps, training
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots.iwae_table import draw_iwae_table, title_of
from experiments.runs import directory, learning, loading
from experiments.runs.loading import Trained
from experiments.studies import jobs as batch

FLAGS = flags.FLAGS

STAGES = [3**i for i in range(8)]  # epochs
COMMON = dict(dataset="mnist:60k", samples=["1", "5", "50"], num_importance_samples=5000)
BUDGETS = {
  "smoke": COMMON | dict(samples=["5"], stages=1, num_importance_samples=10),
  "cpu": COMMON | dict(stages=4),
  "paper": COMMON | dict(stages=8),
}
budgets.define(BUDGETS)
batch.define("iwae_table")
flags.declare_key_flag("dataset")
flags.declare_key_flag("seed")
flags.declare_key_flag("num_importance_samples")
flags.DEFINE_list("samples", COMMON["samples"], "k, samples in training; several between commas.")
flags.DEFINE_integer(
  "stages",
  len(STAGES),
  "How many of the eight stages of 3^i epochs to train for.",
  lower_bound=1,
  upper_bound=len(STAGES),
)

ESTIMATORS = {"vae": "elbo_a", "iwae": "iwae"}
# (negative log-likelihood, active latents) of tables 1 and 3 by data set, model and k.
PUBLISHED = {
  "mnist:60k": {
    ("vae", 1): (86.76, 19),
    ("vae", 5): (86.47, 20),
    ("vae", 50): (86.35, 20),
    ("iwae", 5): (85.54, 22),
    ("iwae", 50): (84.78, 25),
  },
  "binarized_mnist": {
    ("vae", 1): (88.71, None),
    ("vae", 5): (88.83, None),
    ("vae", 50): (89.05, None),
    ("iwae", 5): (87.63, None),
    ("iwae", 50): (87.10, None),
  },
}
COLUMNS = ("model", "k", "nll", "nll_se", "gain", "gain_se", "active", "paper_nll", "paper_gain",
           "paper_active", "train_bound", "test_bound", "seed_sd", "seconds")  # fmt: skip


class Entry(NamedTuple):
  """A model and a number of samples, and the run that stands for it."""

  model: str
  k: int
  job: batch.Job


class Judged(NamedTuple):
  """What a trained model says of the test images."""

  log_p: np.ndarray  # of each, in nats
  num_active: int


def main() -> None:
  commit = directory.git_commit()
  budgets.settle(BUDGETS)
  if not FLAGS.num_importance_samples:
    raise UsageError("num_importance_samples", "takes at least 1 here")
  entries = make_entries(num_train=len(data.load_images().train))
  workdir = batch.open_workdir()
  jobs = [entry.job for entry in entries]
  batch.train(jobs)
  judged = [[judge(m) for m in batch.member_directories(entry.job)] for entry in entries]
  rows = make_rows(entries, judged)
  directory.write_csv(workdir / "iwae_table.csv", COLUMNS, rows)
  epochs, told = sum(STAGES[: FLAGS.stages]), describe_schedule()
  title = f"{FLAGS.dataset}, {told}"
  drawn = title_of(FLAGS.dataset, epochs, sum(STAGES))
  figure = draw_iwae_table(rows, drawn, budget=FLAGS.budget)
  directory.write_figure(workdir, "iwae_table", figure)
  results = dict(rows=rows, epochs=epochs, published_epochs=sum(STAGES), seeds=seeds())
  results |= dict(dataset=FLAGS.dataset, num_importance_samples=FLAGS.num_importance_samples)
  batch.write_summary(workdir, results, jobs, commit)
  print(f"\n{title}; −L_{FLAGS.num_importance_samples} over {len(judged[0][0].log_p)} test images")
  print(as_table(rows))
  print(f"written to {workdir.resolve()}: iwae_table.csv iwae_table.png summary.json")


def describe_schedule() -> str:
  epochs = sum(STAGES[: FLAGS.stages])
  if FLAGS.stages == len(STAGES):
    return f"all {epochs} epochs"
  return f"{epochs} of {sum(STAGES)} epochs: stages 1 to {FLAGS.stages} of {len(STAGES)}"


def seeds() -> tuple[int, ...]:
  return sweeps.values_of(FLAGS.seed)


def make_entries(num_train: int) -> list[Entry]:
  """The rows of the table, and for each a run of experiments.train.

  Raises:
    UsageError: if there is none, or a number is none.
  """
  texts = FLAGS.samples
  if not texts or len(set(texts)) < len(texts) or not all(map(command.is_count, texts)):
    raise UsageError("samples", "takes whole numbers of at least 1, each once, between commas")
  entries = []
  for k in sorted(map(int, texts)):
    for model in ("vae", "iwae") if k > 1 else ("vae",):
      entries.append(Entry(model, k, make_job(model, k, num_train)))
  return entries


def make_job(model: str, k: int, num_train: int) -> batch.Job:
  batch_size = training.PRESETS["iwae"]["batch_size"]
  if num_train < batch_size:
    raise UsageError("dataset", f"takes at least {batch_size} training images")
  stages = STAGES[: FLAGS.stages]
  epoch = num_train // batch_size * batch_size  # what of it an epoch sees
  arguments = (
    "--preset=iwae",
    f"--dataset={FLAGS.dataset}",
    f"--estimator={ESTIMATORS[model]}",
    f"--num_samples={k}",
    f"--stage_epochs={','.join(map(str, stages))}",
    f"--num_examples={epoch * sum(stages)}",
    f"--eval_every={epoch}",
    "--evals_per_decade=4",
    f"--seed={','.join(map(str, seeds()))}",
    "--num_importance_samples=0",
  )
  name = f"{FLAGS.dataset}-{model}-{k}-stages-{FLAGS.stages}-seed-{'-'.join(map(str, seeds()))}"
  # A sample takes a third of what the rest of a step does, as it was timed on a CPU.
  return batch.Job(name.replace(":", "-").replace("/", "-"), arguments, len(seeds()) * (3 + k))


def judge(member: pathlib.Path) -> Judged:
  """Estimates log p(x) of the test images, and counts latents, unless that was done before."""
  path = member / f"importance-{FLAGS.num_importance_samples}.csv"
  if not path.exists():
    num_samples = FLAGS.num_importance_samples
    with loading.loaded(member) as run:
      print(f"log p(x) by {num_samples} samples: {member.name}", flush=True)
      write_latents(member / "latents.csv", posterior_means(run))
      log_p = learning.log_likelihoods(
        jax.random.key(0), run.model, run.params, run.pixels, num_samples=num_samples
      )
    rows = [dict(point=i, log_p=float(value)) for i, value in enumerate(log_p)]
    directory.write_csv(path, ("point", "log_p"), rows)
  log_p, active = read_column(path, 1), read_column(member / "latents.csv", 2)
  return Judged(log_p, int(active.sum()))


def posterior_means(run: Trained) -> np.ndarray:
  """E_q[z|x] of the test images, shape (N, J)."""

  def of_point(key: Key, params: Params, x: Array) -> Array:
    return run.model.encoder.given(params.phi, x).mean

  how = dict(preprocess=run.pixels.preprocess, static_key=run.pixels.test_draw)
  return evaluate_in_blocks(of_point, jax.random.key(0), run.params, run.pixels.test, **how)


def write_latents(path: pathlib.Path, means: np.ndarray) -> None:
  columns = zip(means.var(axis=0), active_units(means), strict=True)
  rows = [
    dict(latent=j, variance_of_mean=float(variance), active=int(active))
    for j, (variance, active) in enumerate(columns)
  ]
  directory.write_csv(path, ("latent", "variance_of_mean", "active"), rows)


def read_column(path: pathlib.Path, i: int) -> np.ndarray:
  return np.loadtxt(path, delimiter=",", skiprows=1, usecols=i, ndmin=1)


def make_rows(entries: Sequence[Entry], judged: Sequence[Sequence[Judged]]) -> list[dict]:
  """The table, in the mean over seeds; a gain is what a row has on the first, image by image."""
  published = PUBLISHED.get(FLAGS.dataset, {})
  of_image = [-np.mean([one.log_p for one in members], axis=0) for members in judged]
  first = published.get((entries[0].model, entries[0].k))
  rows = []
  for entry, members, values in zip(entries, judged, of_image, strict=True):
    nll, gain = mean_and_standard_error(values), mean_and_standard_error(of_image[0] - values)
    row = dict(model=entry.model, k=entry.k, nll=nll.value, nll_se=nll.standard_error)
    row |= dict(gain=gain.value, gain_se=gain.standard_error)
    row |= dict(active=float(np.mean([one.num_active for one in members])))
    if (theirs := published.get((entry.model, entry.k))) and first:
      row |= dict(paper_nll=theirs[0], paper_gain=round(first[0] - theirs[0], 2))
      row |= dict(paper_active=theirs[1])
    if len(members) > 1:
      row |= dict(seed_sd=float(np.std([one.log_p.mean() for one in members], ddof=1)))
    rows.append(row | of_training(entry.job))
  return rows


def of_training(job: batch.Job) -> dict:
  """The bounds of k samples that training ended with, in the mean over seeds."""
  last = [batch.read_rows(member)[-1] for member in batch.member_directories(job)]
  means = {name: float(np.mean([r[name] for r in last])) for name in ("train_bound", "test_bound")}
  return means | dict(seconds=max(row["seconds"] for row in last))


def as_table(rows: Sequence[dict]) -> str:
  """A row for each run, in nats; a gain is on the first of them."""
  title = f"{'':6}{'k':>3} {'ours':>14} {'paper':>7} {'ours - paper':>13}"
  title += f" {'gain':>14} {'paper':>7} {'active':>8} {'paper':>6}"
  lines = [title]
  for row in rows:
    known = "paper_nll" in row
    ours = f"{row['nll']:.2f} ± {row['nll_se']:.2f}"
    gain = f"{row['gain']:.2f} ± {row['gain_se']:.2f}" if row is not rows[0] else ""
    line = f"{row['model']:6}{row['k']:>3} {ours:>14}"
    if known:
      line += f" {row['paper_nll']:>7.2f} {row['nll'] - row['paper_nll']:>+13.2f}"
    else:
      line += 22 * " "
    line += f" {gain:>14} "
    line += f"{row['paper_gain']:>7.2f}" if known and gain else 7 * " "
    line += f" {row['active']:>8g} {row.get('paper_active') or '':>6}"
    lines.append(line.rstrip())
  return "\n".join(lines)


if __name__ == "__main__":
  command.run(main)
