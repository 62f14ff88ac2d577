"""Figure 3: the marginal likelihood against its cost, by AEVB, wake-sleep and Monte Carlo EM.

  python -m experiments.marginal_likelihood --workdir=runs/marginal_likelihood
  python -m experiments.marginal_likelihood --sizes=1000 --num_points=100 --workdir=runs/small
  python -m experiments.marginal_likelihood --budget=paper --workdir=runs/figure_3

MNIST with N = 1000 and N = 50000 training images, 100 hidden units and 3 latents, and all else as
in section 5. log p(x) is estimated by appendix D on the first 1000 training and the
first 1000 test images, at ten stages of training. As in the paper pixels are real-valued, so
log p(x) is not a log-density.

The cost is counted in likelihood evaluations, log p(x|z) and its gradient for one x and one z:
for every example of a minibatch AEVB and wake-sleep make one, and Monte Carlo EM 16: its ten
leapfrog steps make eleven and its five updates of the weights five. Adagrad's step size is 0.02:
Monte Carlo EM has no bound to choose one by.

Writes marginal_likelihood.csv, marginal_likelihood.png and summary.json. After an
interruption the same command resumes the run, or the stage, that was interrupted. A directory that
holds the figure gains seeds, sizes and algorithms, and only these are trained.

With --budget=cpu, 10^7 evaluations, and three seeds: log p(x) of test images ends at -140.3 by
AEVB, -145.8 by wake-sleep and -143.7 by Monte Carlo EM with N = 1000, at -138.2, -143.1 and -150.4
with N = 50000, with standard errors of 1.5 over images and deviations of at most 1.1 over seeds.
For each seed, training takes 20 to 30 minutes on one core of a CPU, and the estimates 40.
"""

import dataclasses

from absl import flags

from aevb_jax.algorithms.monte_carlo_em import evaluations_per_example
from aevb_jax.runs import files
from aevb_jax.runs.config import GROWS
from experiments.flags import figures as figure_flags
from experiments.flags import paper, training  # noqa: F401 (--seeds and --dataset)
from experiments.flags.validators import is_count
from experiments.launch import command
from experiments.plots import records
from experiments.plots.marginal_likelihood import LIMITS, draw_marginal_likelihoods
from experiments.studies import jobs
from experiments.studies import kept as earlier
from experiments.studies.paper import marginal_likelihood as study
from experiments.studies.paper.marginal_likelihood import Curve

SEEDS = dict(seeds=["0", "1", "2"])
BUDGETS = {
  "smoke": dict(
    dataset="mnist", sizes=["500"], num_evaluations=40_000, num_stages=2, num_points=20
  ),
  "cpu": dict(dataset="mnist", num_evaluations=10**7, num_stages=10, **SEEDS),
  "paper": dict(dataset="mnist", num_evaluations=6 * 10**7, num_stages=20, **SEEDS),
}
TABLE = "marginal_likelihood.csv"
HIDDEN_DIM, LATENT_DIM, STEP_SIZE, BATCH_SIZE = 100, 3, 0.02, 100
ALGORITHMS = {
  "aevb": ("--estimator=elbo_b", "--num_importance_samples=0"),
  "wake_sleep": ("--estimator=wake_sleep", "--num_importance_samples=0"),
  "mcem": ("--algorithm=mcem", "--num_leapfrogs=10", "--num_updates=5"),
}
figure_flags.define("marginal_likelihood", BUDGETS)
for name in ("dataset", "seeds"):
  flags.declare_key_flag(name)
flags.DEFINE_list("sizes", ["1000", "50000"], "Numbers N of training images.")
flags.DEFINE_list("algorithms", list(ALGORITHMS), "Algorithms whose curves are drawn.")
flags.DEFINE_integer(
  "num_evaluations",
  10**7,
  "Number of likelihood evaluations in training, the x axis.",
  lower_bound=10**4,
)
flags.DEFINE_integer(
  "num_stages", 10, "Number of times in training at which log p(x) is estimated.", lower_bound=1
)
flags.DEFINE_integer(
  "num_points",
  1000,
  "Number of training and of test images, from the first, whose log p(x) is estimated.",
  lower_bound=2,
)


@flags.validator("sizes", f"takes whole numbers of at least {BATCH_SIZE}, between commas")
def _check_sizes(values: list[str]) -> bool:
  return bool(values) and all(is_count(text, BATCH_SIZE) for text in values)


@flags.validator("algorithms", f"takes some of {', '.join(ALGORITHMS)}")
def _check_algorithms(values: list[str]) -> bool:
  return bool(values) and set(values) <= set(ALGORITHMS)


@dataclasses.dataclass(frozen=True)
class MarginalLikelihoodConfig:
  """The curves that are drawn, the length of training, and the points of the estimates."""

  dataset: str = "mnist"
  sizes: tuple[int, ...] = dataclasses.field(default=(1000, 50000), metadata=GROWS)
  algorithms: tuple[str, ...] = dataclasses.field(default=tuple(ALGORITHMS), metadata=GROWS)
  seeds: tuple[int, ...] = dataclasses.field(default=(0,), metadata=GROWS)
  num_evaluations: int = 10**7
  num_stages: int = 10
  num_points: int = 1000


def main() -> None:
  commit = files.git_commit()
  figure, config = figure_flags.settings(MarginalLikelihoodConfig, BUDGETS)
  curves = {
    Curve(num_train, algorithm, seed): make_job(config, num_train, algorithm, seed)
    for num_train in config.sizes
    for algorithm in config.algorithms
    for seed in config.seeds
  }
  kept = earlier.find(figure, config, TABLE, study.NUMBERS)
  jobs.check(list(curves.values()), figure, kept)
  workdir = figure_flags.open_workdir(figure, config)
  made = jobs.train(list(curves.values()), figure, kept)
  runs = {curve: jobs.place_of(job, figure) for curve, job in curves.items()}
  rows_kept = [row for job in curves.values() for row in jobs.rows_kept(job, kept)]
  rows = study.estimate_curves(workdir / TABLE, runs, config.num_points, rows_kept)
  files.write_csv(workdir / TABLE, study.COLUMNS, rows)
  rows = records.read_rows(workdir / TABLE)  # with as many digits as rows that were kept
  picture = draw_marginal_likelihoods(rows, LIMITS, budget=figure.budget)
  files.save_figure(workdir / "marginal_likelihood.png", picture)
  ends = study.over_seeds(study.ends_of(rows))
  about = dict(num_points=config.num_points, sampling=study.SAMPLING)
  jobs.write_summary(workdir, dict(ends=ends) | about, made, commit, rows=rows)
  print("\n" + study.as_table(ends))
  print(f"written to {workdir.resolve()}: marginal_likelihood.csv, .png, summary.json")


def make_job(
  config: MarginalLikelihoodConfig, num_train: int, algorithm: str, seed: int
) -> jobs.Job:
  """Returns the run of a curve, which is evaluated and keeps its parameters at every stage."""
  per_example = evaluations_per_example() if algorithm == "mcem" else 1
  num_steps = config.num_evaluations / per_example / BATCH_SIZE
  every = max(1, round(num_steps / config.num_stages)) * BATCH_SIZE
  arguments = (
    "--preset=paper",
    f"--dataset={config.dataset}",
    f"--num_train={num_train}",
    f"--hidden_dim={HIDDEN_DIM}",
    f"--latent_dim={LATENT_DIM}",
    f"--step_size={STEP_SIZE}",
    f"--seed={seed}",
    *ALGORITHMS[algorithm],
    f"--num_examples={every * config.num_stages}",
    f"--eval_every={every}",
    "--keep_history",
  )
  name = f"{config.dataset}-first-{num_train}-{algorithm}-seed-{seed}".replace(":", "-")
  return jobs.Job(name, arguments, work=1.3 if algorithm == "wake_sleep" else 1.0)


if __name__ == "__main__":
  command.run(main)
