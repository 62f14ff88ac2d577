"""The training runs of the paper's figures 2, 4 and 5, as commands of experiments.train."""

import pathlib

from absl import flags

from experiments.launch.command import UsageError, is_count
from experiments.runs import program
from experiments.studies import jobs
from experiments.studies.jobs import Job

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(program)

flags.DEFINE_list("seeds", ["0"], "Seeds of every curve.")
flags.DEFINE_integer(
  "seeds_at_once",
  1,
  "Seeds that train as one sweep: on an accelerator all; on a CPU it is no faster.",
  lower_bound=1,
)
flags.DEFINE_integer(
  "select_after", 100_000, "Training samples after which a step size is chosen.", lower_bound=1
)
flags.declare_key_flag("num_examples")

_ROWS = dict(eval_every=20_000, evals_per_decade=10)
BUDGETS = {
  "smoke": dict(num_examples=20_000, eval_every=10_000, select_after=12_000),
  "cpu": dict(num_examples=10**7, **_ROWS),
  "paper": dict(num_examples=10**8, seeds=["0", "1", "2"], seeds_at_once=3, **_ROWS),
}
STEP_SIZES = "0.01,0.02,0.1"  # section 5
# As --estimator has them; the colour of a curve, and a part of the name of its run.
ESTIMATORS = {"aevb": "elbo_b", "wake_sleep": "wake_sleep"}
MODELS = {
  "mnist": ("--likelihood=bernoulli", "--hidden_dim=500"),
  "frey_face": ("--likelihood=gaussian", "--hidden_dim=200"),
}


def bound_jobs(dataset: str, latent_dim: int, algorithm: str) -> list[Job]:
  """The runs of a curve of figure 2, for some seeds each."""
  seeds = FLAGS.seeds
  if not seeds or not all(is_count(seed, 0) for seed in seeds):
    raise UsageError("seeds", "takes whole numbers, separated by commas")
  n = FLAGS.seeds_at_once
  return [
    _bound_job(dataset, latent_dim, algorithm, seeds[i : i + n]) for i in range(0, len(seeds), n)
  ]


def _bound_job(dataset: str, latent_dim: int, algorithm: str, seeds: list[str]) -> Job:
  kind = dataset.split(":")[0]
  model = MODELS.get(kind, MODELS["mnist"])
  arguments = (
    "--preset=paper",
    f"--dataset={dataset}",
    *model,
    f"--latent_dim={latent_dim}",
    f"--estimator={ESTIMATORS[algorithm]}",
    f"--seed={','.join(seeds)}",
    f"--step_size={STEP_SIZES}",
    f"--select_step_size={FLAGS.select_after}",
    f"--num_examples={FLAGS.num_examples}",
    f"--eval_every={FLAGS.eval_every}",
    f"--evals_per_decade={FLAGS.evals_per_decade}",
    "--num_importance_samples=0",
  )
  name = f"{dataset}-{latent_dim}-{algorithm}-seed-{'-'.join(seeds)}".replace(":", "-")
  # Products with pixels and with latents; wake-sleep takes a third more.
  size = 784 * 500 if kind == "mnist" else 560 * 200
  work = len(seeds) * FLAGS.num_examples * (size + 500 * latent_dim)
  return Job(name, arguments, work * (1.35 if algorithm == "wake_sleep" else 1))


def result(dataset: str, latent_dim: int, member: pathlib.Path) -> dict:
  """What a finished run ended with."""
  last, given = jobs.read_rows(member)[-1], jobs.read_flags(member)
  names = ("train_bound", "train_bound_se", "test_bound", "test_bound_se")
  return dict(
    dataset=dataset,
    latent_dim=latent_dim,
    seed=int(given["seed"]),
    step_size=float(given["step_size"]),
    examples_seen=last["examples_seen"],
    **{name: last[name] for name in names},
  )


def describe(result: dict) -> str:
  return (
    f"test bound {result['test_bound']:.2f} ± {result['test_bound_se']:.2f} nats after "
    f"{result['examples_seen']:,} samples at step size {result['step_size']:g}, seed "
    f"{result['seed']}"
  )
