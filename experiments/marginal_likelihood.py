"""Figure 3: the marginal likelihood against its cost, by AEVB, wake-sleep and Monte Carlo EM.

  python -m experiments.marginal_likelihood --workdir=runs/marginal_likelihood
  python -m experiments.marginal_likelihood --sizes=1000 --num_points=100 --workdir=runs/small
  python -m experiments.marginal_likelihood --budget=paper --workdir=runs/figure_3

MNIST with N = 1000 and N = 50000 training images, 100 hidden units and 3 latents, otherwise in
the settings of section 5. log p(x) is estimated by appendix D on the first 1000 training and the
first 1000 test images, at ten stages of training. As in the paper pixels are real-valued, so
it is no log-density.

The cost is counted in likelihood evaluations, log p(x|z) and its gradient for one x and one z:
for every example of a minibatch AEVB and wake-sleep make one, and Monte Carlo EM 16: its ten
leapfrog steps make eleven and its five updates of the weights five. Adagrad's step size is 0.02:
Monte Carlo EM has no bound to choose one by.

Writes marginal_likelihood.csv, marginal_likelihood.png and summary.json. Interrupted, the same
command goes on with the run, or the stage, where it was.

Of --budget=cpu, 10^7 evaluations: log p(x) of test images ends at -140.1 by AEVB, -145.3 by
wake-sleep and -144.5 by Monte Carlo EM with N = 1000, at -137.7, -142.8 and -149.1 with N = 50000,
all within 1.5. Half an hour of training and half an hour of estimates on one core of a CPU.
"""

import csv
import functools
import pathlib
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from aevb_jax.algorithms.monte_carlo_em import evaluations_per_example
from aevb_jax.data.minibatches import read_rows
from aevb_jax.inference.reciprocal import reciprocal_importance_sampling
from aevb_jax.training import checkpoint
from aevb_jax.training.evaluation import evaluate, mean_and_standard_error
from aevb_jax.types import Array, Key, Model, Params
from experiments.flags import budgets
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots.marginal_likelihood import LIMITS, draw_marginal_likelihoods
from experiments.runs import directory, loading
from experiments.runs.loading import Trained
from experiments.studies import jobs as batch

FLAGS = flags.FLAGS

BUDGETS = {
  "smoke": dict(
    dataset="mnist", sizes=["500"], num_evaluations=40_000, num_stages=2, num_points=20
  ),
  "cpu": dict(dataset="mnist", num_evaluations=10**7, num_stages=10),
  "paper": dict(dataset="mnist", num_evaluations=6 * 10**7, num_stages=20),
}
budgets.define(BUDGETS)
batch.define("marginal_likelihood")
flags.declare_key_flag("dataset")
flags.DEFINE_list("sizes", ["1000", "50000"], "N, the numbers of training images.")
flags.DEFINE_list("algorithms", ["aevb", "wake_sleep", "mcem"], "Whose curves.")
flags.DEFINE_integer(
  "num_evaluations", 10**7, "Likelihood evaluations in training, the x axis.", lower_bound=10**4
)
flags.DEFINE_integer("num_stages", 10, "Stages of training to estimate at.", lower_bound=1)
flags.DEFINE_integer(
  "num_points", 1000, "The first so many of the training, and of the test images.", lower_bound=2
)
flags.declare_key_flag("seed")

HIDDEN_DIM, LATENT_DIM, STEP_SIZE, BATCH_SIZE = 100, 3, 0.02, 100
ALGORITHMS = {
  "aevb": ("--estimator=elbo_b", "--num_importance_samples=0"),
  "wake_sleep": ("--estimator=wake_sleep", "--num_importance_samples=0"),
  "mcem": ("--algorithm=mcem", "--num_leapfrogs=10", "--num_updates=5"),
}
# Of appendix D: more than the 50 samples of the paper, whose chains begin nobody knows where.
SAMPLING = dict(num_samples=10, num_chains=8, num_leapfrogs=4, num_temperatures=20, num_warmup=20)
COLUMNS = ("num_train", "algorithm", "seed", "step", "evaluations", "examples_seen", "seconds")
COLUMNS += tuple(
  f"{split}_log_likelihood{error}" for split in ("train", "test") for error in ("", "_se")
)
AT_ONCE = 20  # data points whose chains are in memory


def main() -> None:
  commit = directory.git_commit()
  budgets.settle(BUDGETS)
  jobs = {
    (num_train, algorithm): make_job(num_train, algorithm)
    for num_train in training_sizes()
    for algorithm in chosen_algorithms()
  }
  workdir = batch.open_workdir()
  batch.train(list(jobs.values()))
  rows = estimate_stages(workdir / "marginal_likelihood.csv", jobs)
  figure = draw_marginal_likelihoods(rows, LIMITS, budget=FLAGS.budget)
  directory.write_figure(workdir, "marginal_likelihood", figure)
  ends = [row for row in rows if row["step"] == last_step(jobs[row["num_train"], row["algorithm"]])]
  how = dict(seed=FLAGS.seed, num_points=FLAGS.num_points, sampling=SAMPLING)
  batch.write_summary(workdir, dict(ends=ends) | how, list(jobs.values()), commit)
  print("\n" + as_table(ends))
  print(f"written to {workdir.resolve()}: marginal_likelihood.csv, .png, summary.json")


def chosen_algorithms() -> list[str]:
  if not FLAGS.algorithms or not set(FLAGS.algorithms) <= set(ALGORITHMS):
    raise UsageError("algorithms", f"takes some of {', '.join(ALGORITHMS)}")
  return FLAGS.algorithms


def training_sizes() -> list[int]:
  if not FLAGS.sizes or not all(command.is_count(text, BATCH_SIZE) for text in FLAGS.sizes):
    raise UsageError("sizes", f"takes whole numbers of at least {BATCH_SIZE}, between commas")
  return [int(text) for text in FLAGS.sizes]


def make_job(num_train: int, algorithm: str) -> batch.Job:
  per_example = evaluations_per_example() if algorithm == "mcem" else 1
  every = max(1, round(FLAGS.num_evaluations / per_example / BATCH_SIZE / FLAGS.num_stages))
  arguments = (
    "--preset=paper",
    f"--dataset={FLAGS.dataset}",
    f"--num_train={num_train}",
    f"--hidden_dim={HIDDEN_DIM}",
    f"--latent_dim={LATENT_DIM}",
    f"--step_size={STEP_SIZE}",
    f"--seed={FLAGS.seed}",
    *ALGORITHMS[algorithm],
    f"--num_examples={every * FLAGS.num_stages * BATCH_SIZE}",
    f"--eval_every={every * BATCH_SIZE}",
    "--keep_history",
  )
  name = f"{FLAGS.dataset}-first-{num_train}-{algorithm}-seed-{FLAGS.seed}".replace(":", "-")
  return batch.Job(name, arguments, work=1.3 if algorithm == "wake_sleep" else 1.0)


def estimate_stages(path: pathlib.Path, jobs: dict[tuple[int, str], batch.Job]) -> list[dict]:
  """The rows of all stages of all runs; those that are in the file are not made again."""
  rows, order = read_rows_of(path), list(jobs)
  place = lambda row: (order.index((row["num_train"], row["algorithm"])), row["step"])
  there = {(row["num_train"], row["algorithm"], row["step"]) for row in rows}
  stages = {
    key: [step for step in history(job) if (*key, step) not in there] for key, job in jobs.items()
  }
  num_points = 2 * FLAGS.num_points * sum(map(len, stages.values()))
  with tqdm(total=num_points, unit=" points", desc="log p(x)", disable=None) as bar:
    for (num_train, algorithm), steps in stages.items():
      if not steps:
        continue
      about = dict(num_train=num_train, algorithm=algorithm, seed=FLAGS.seed)
      for row in estimate_run(jobs[num_train, algorithm], steps, bar.update):
        rows = sorted([*rows, about | row], key=place)
        directory.write_csv(path, COLUMNS, rows)
        tqdm.write(describe(about | row))
  return rows


def history(job: batch.Job) -> list[int]:
  return checkpoint.steps(batch.directory(job) / directory.HISTORY)


def last_step(job: batch.Job) -> int:
  return history(job)[-1]


def read_rows_of(path: pathlib.Path) -> list[dict]:
  if not path.exists():
    return []
  with open(path, newline="") as file:
    return [
      {name: text if name == "algorithm" else directory.number(text) for name, text in row.items()}
      for row in csv.DictReader(file)
    ]


def estimate_run(
  job: batch.Job, steps: list[int], progress: Callable[[int], object]
) -> Iterator[dict]:
  """log p(x) by the parameters of some steps of a run."""
  metrics = {row["step"]: row for row in batch.read_rows(batch.directory(job))}
  with loading.loaded(batch.directory(job)) as run:
    estimate = functools.partial(log_likelihood, model=run.model)
    for step in steps:
      params = checkpoint.restore(run.workdir / directory.HISTORY, step, run.params)
      row = {name: metrics[step][name] for name in COLUMNS if name in metrics[step]}
      for split in ("train", "test"):
        mean = mean_and_standard_error(estimate_split(estimate, run, params, split, progress))
        row |= {f"{split}_log_likelihood": mean.value}
        row |= {f"{split}_log_likelihood_se": mean.standard_error}
      yield row


def log_likelihood(key: Key, params: Params, x: Array, *, model: Model) -> Array:
  """Appendix D for one x."""
  return reciprocal_importance_sampling(key, model, params, x, **SAMPLING).value


def estimate_split(
  estimate: Callable, run: Trained, params: Params, split: str, progress: Callable[[int], object]
) -> np.ndarray:
  """log p(x) of the first --num_points of a split; the same keys at every stage."""
  source = run.images.train if split == "train" else run.images.test
  drawn = run.pixels.train_draw if split == "train" else run.pixels.test_draw
  num_points = min(FLAGS.num_points, len(source))
  values = []
  for first in range(0, num_points, AT_ONCE):
    block = read_rows(source, np.arange(first, min(first + AT_ONCE, num_points)))
    how = dict(preprocess=run.pixels.preprocess, static_key=drawn, batch_size=AT_ONCE, first=first)
    values.append(evaluate(estimate, jax.random.key(FLAGS.seed), params, block, **how))
    progress(len(block))
  return np.concatenate(values)


def describe(row: dict) -> str:
  return (
    f"N = {row['num_train']:<6} {row['algorithm']:10} {row['evaluations']:>12,} evaluations   "
    f"train {row['train_log_likelihood']:8.2f} ± {row['train_log_likelihood_se']:.2f}   "
    f"test {row['test_log_likelihood']:8.2f} ± {row['test_log_likelihood_se']:.2f}"
  )


def as_table(ends: list[dict]) -> str:
  lines = [
    f"{'N':>6} {'algorithm':10} {'evaluations':>12} {'samples':>12} {'seconds':>8} "
    f"{'log p(x): train':>16} {'test':>15}"
  ]
  for row in ends:
    train, test = (
      f"{row[f'{split}_log_likelihood']:.2f} ± {row[f'{split}_log_likelihood_se']:.2f}"
      for split in ("train", "test")
    )
    lines.append(
      f"{row['num_train']:>6} {row['algorithm']:10} {row['evaluations']:>12,} "
      f"{row['examples_seen']:>12,} {row['seconds']:>8.0f} {train:>16} {test:>15}"
    )
  return "\n".join(lines)


if __name__ == "__main__":
  command.run(main)
