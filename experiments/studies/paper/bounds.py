"""The training runs of the paper's figures 2, 4 and 5, as commands of experiments.train."""

import dataclasses
import pathlib

import numpy as np

from aevb_jax import figures
from aevb_jax.runs import LoadedRun
from aevb_jax.runs.config import GROWS
from aevb_jax.types import Key
from experiments.plots import records
from experiments.studies.jobs import BOUNDS, Job, last_row

_ROWS = dict(eval_every=20_000, evals_per_decade=10)
BUDGETS = {
  "smoke": dict(num_examples=20_000, eval_every=10_000, select_after=12_000),
  "cpu": dict(num_examples=10**7, **_ROWS),
  "paper": dict(num_examples=10**8, seeds=["0", "1", "2"], seeds_at_once=3, **_ROWS),
}
STEP_SIZES = "0.01,0.02,0.1"  # section 5
# Values of --estimator, with the colour of the curve and a part of the name of the run.
ESTIMATORS = {"aevb": "elbo_b", "wake_sleep": "wake_sleep"}
MODELS = {
  "mnist": ("--likelihood=bernoulli", "--hidden_dim=500"),
  "frey_face": ("--likelihood=gaussian", "--hidden_dim=200"),
}


@dataclasses.dataclass(frozen=True)
class PaperConfig:
  """The length of the training runs, and their seeds."""

  num_examples: int = 10**7
  eval_every: int = 20_000
  evals_per_decade: int = 10
  seeds: tuple[int, ...] = dataclasses.field(default=(0,), metadata=GROWS)
  seeds_at_once: int = 1
  select_after: int = 100_000


def bound_jobs(config: PaperConfig, dataset: str, latent_dim: int, algorithm: str) -> list[Job]:
  """Returns the runs of a curve of figure 2, for some seeds each."""
  seeds, n = config.seeds, config.seeds_at_once
  return [
    _bound_job(config, dataset, latent_dim, algorithm, seeds=seeds[i : i + n])
    for i in range(0, len(seeds), n)
  ]


def _bound_job(
  config: PaperConfig, dataset: str, latent_dim: int, algorithm: str, *, seeds: tuple[int, ...]
) -> Job:
  kind = dataset.split(":")[0]
  model = MODELS.get(kind, MODELS["mnist"])
  arguments = (
    "--preset=paper",
    f"--dataset={dataset}",
    *model,
    f"--latent_dim={latent_dim}",
    f"--estimator={ESTIMATORS[algorithm]}",
    f"--seed={','.join(map(str, seeds))}",
    f"--step_size={STEP_SIZES}",
    f"--select_step_size={config.select_after}",
    f"--num_examples={config.num_examples}",
    f"--eval_every={config.eval_every}",
    f"--evals_per_decade={config.evals_per_decade}",
    "--num_importance_samples=0",
  )
  name = f"{dataset}-{latent_dim}-{algorithm}-seed-{'-'.join(map(str, seeds))}".replace(":", "-")
  # Products with pixels and with latents; wake-sleep takes a third more.
  size = 784 * 500 if kind == "mnist" else 560 * 200
  work = len(seeds) * config.num_examples * (size + 500 * latent_dim)
  return Job(name, arguments, work * (1.35 if algorithm == "wake_sleep" else 1))


def draw_samples(key: Key, run: LoadedRun, grid: int) -> np.ndarray:
  """Draws E[x|z] for z ~ p(z), as a picture with `grid` samples in a row and in a column."""
  z = figures.sample_prior(key, run.model, run.params, grid**2)
  x = figures.decode(run.model, run.params, z)
  return figures.tile(x, run.data.image_shape, columns=grid, background=0.0)


def result(dataset: str, latent_dim: int, member: pathlib.Path) -> dict:
  """Returns the results at the end of a finished run."""
  last, given = last_row(member, BOUNDS), records.read_flags(member)
  return dict(
    dataset=dataset,
    latent_dim=latent_dim,
    seed=int(given["seed"]),
    step_size=float(given["step_size"]),
    examples_seen=last["examples_seen"],
    **{name: last[name] for name in BOUNDS},
  )


def result_in_words(result: dict) -> str:
  return (
    f"test bound {result['test_bound']:.2f} ± {result['test_bound_se']:.2f} nats after "
    f"{result['examples_seen']:,} samples at step size {result['step_size']:g}, seed "
    f"{result['seed']}"
  )
