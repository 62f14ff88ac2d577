"""A linear VAE beside probabilistic PCA: its training, measurement and comparison."""

import dataclasses
import math
import pathlib
from collections.abc import Callable

import jax
import numpy as np
import optax

from aevb_jax.algorithms.auto_encoding import aevb, explain_aevb
from aevb_jax.errors import ConfigError
from aevb_jax.estimators.sgvb import elbo_a, elbo_b, sticking_the_landing
from aevb_jax.models.linear_gaussian import (
  bound,
  linear_gaussian_vae,
  log_marginal,
  ml_theta,
  optimal_phi,
  principal_angles,
)
from aevb_jax.runs import files
from aevb_jax.runs.config import DataConfig
from aevb_jax.runs.job import train_single
from aevb_jax.runs.learning import Learning
from aevb_jax.runs.state import Keys, Plan, Run, Training
from aevb_jax.training.evaluation import (
  evaluate,
  evaluate_in_blocks,
  mean_and_standard_error,
)
from aevb_jax.training.program import Pixels
from aevb_jax.types import Array, Key, Params
from experiments.plots.linear_gaussian import draw_linear_gaussian, title_of

ESTIMATORS = {f.__name__: f for f in (elbo_a, elbo_b, sticking_the_landing)}
STEP_SIZE_DECAY = 1e-3  # over the run: otherwise minibatch noise keeps θ off the optimum
NUM_EVALUATIONS = 40  # about this many, evenly spaced on a log axis
NUMBERS = (
  "train_bound",
  "train_log_likelihood",
  "test_log_likelihood",
  "test_log_likelihood_se",
  "noise_std",
  "max_angle",
  "mean_angle",
)
COLUMNS = ("step", "examples_seen", *NUMBERS)


@dataclasses.dataclass(frozen=True)
class LinearGaussianConfig:
  """The model and data of the training, and its length."""

  data: DataConfig = DataConfig(binarization="none")
  budget: str | None = None
  latent_dim: int = 10
  estimator: str = "elbo_b"
  batch_size: int = 100
  step_size: float = 0.03
  num_examples: int = 2_000_000
  seed: int = 0


def make_learning(config: LinearGaussianConfig, pixels: Pixels, pca: Params) -> Learning:
  """Makes algorithm 1 for a linear-Gaussian VAE; every row compares the VAE with PCA."""
  num_data, data_dim = pixels.train.shape
  end = num_steps(config)
  model = linear_gaussian_vae(data_dim, config.latent_dim, isotropic=True)
  algorithm = aevb(
    model,
    ESTIMATORS[config.estimator],
    optax.adam(optax.exponential_decay(config.step_size, end, STEP_SIZE_DECAY)),
    num_data=num_data,
  )
  return Learning(
    algorithm=algorithm,
    evaluations=1,
    objective="bound",
    columns=NUMBERS,
    evaluate=lambda key, params, pixels, means: [measure(params, pixels, pca)],
    row_in_words=row_in_words,
    explain=explain_aevb(algorithm, model, num_samples=1),
  )


def num_steps(config: LinearGaussianConfig) -> int:
  """Returns the number of training steps."""
  return math.ceil(config.num_examples / config.batch_size)


def make_plan(config: LinearGaussianConfig) -> Plan:
  """Plans about NUM_EVALUATIONS rows, evenly spaced on a log axis."""
  due = set(evaluation_steps(num_steps(config)))

  def chunks(start: int, end: int, most: int) -> list[int]:
    ends = [start, *(step for step in chunk_ends(end, most) if step > start)]
    return [b - a for a, b in zip(ends, ends[1:])]

  return Plan(config.batch_size, lambda step, end: step in due, chunks)


def evaluation_steps(num_steps: int) -> list[int]:
  """Returns the steps to evaluate at, from 1 to num_steps, about evenly on a log axis."""
  return np.unique(np.geomspace(1, num_steps, NUM_EVALUATIONS).round().astype(int)).tolist()


def chunk_ends(num_steps: int, most: int) -> list[int]:
  """Returns the steps at which chunks of training end: the evaluations, and some between them.

  The lengths are powers of ten, at most `most` steps, because each length compiles its own program.
  """
  ends = [0]
  for step in evaluation_steps(num_steps):
    while (rest := step - ends[-1]) > 0:
      ends.append(ends[-1] + min(most, 10 ** (len(str(rest)) - 1)))
  return ends[1:]


def find_pca(pixels: Pixels, latent_dim: int) -> Params:
  """Returns the maximum of the likelihood in closed form, and its posterior as the encoder.

  Raises:
    ConfigError: if there is no maximum for this number of latents.
  """
  identity = lambda key, params, x: x
  reading = dict(preprocess=pixels.preprocess)
  x = evaluate(identity, jax.random.key(0), (), pixels.train, **reading)
  try:
    theta = ml_theta(x, latent_dim)
  except ValueError as error:
    raise ConfigError("latent_dim", latent_dim, str(error)) from error
  return Params(theta, optimal_phi(theta))


def exact_numbers(key: Key, params: Params, x: Array) -> dict[str, Array]:
  """Returns the bound and log p(x) of one data point."""
  del key  # nothing is sampled
  return {"bound": bound(params, x), "log_likelihood": log_marginal(params.theta, x)}


def evaluate_params(params: Params, pixels: Pixels) -> dict[str, np.ndarray]:
  """Returns the bound and log p(x) of every data point, and the noise's standard deviation."""
  key, reading = jax.random.key(0), dict(preprocess=pixels.preprocess)
  train = evaluate(exact_numbers, jax.random.clone(key), params, pixels.train, **reading)
  test = evaluate_in_blocks(exact_numbers, jax.random.clone(key), params, pixels.test, **reading)
  return {
    "train_bound": np.asarray(train["bound"], np.float64),
    "train_log_likelihood": np.asarray(train["log_likelihood"], np.float64),
    "test_log_likelihood": np.asarray(test["log_likelihood"], np.float64),
    "noise_std": np.exp(0.5 * np.asarray(params.theta["log_var"], np.float64)),
  }


def means(numbers: dict[str, np.ndarray]) -> dict[str, float]:
  """Averages over the data points, with the standard error over test points."""
  test = mean_and_standard_error(numbers["test_log_likelihood"])
  return {name: float(values.mean()) for name, values in numbers.items()} | {
    "test_log_likelihood_se": test.standard_error
  }


def measure(params: Params, pixels: Pixels, pca: Params) -> dict[str, float]:
  """Returns the measurements of a row at some parameters.

  Raises:
    FloatingPointError: if the bound is not a finite number.
  """
  row = means(evaluate_params(params, pixels))
  if not math.isfinite(row["train_bound"]):
    raise FloatingPointError(
      f"the bound became {row['train_bound']}; a smaller --step_size may help"
    )
  angles = np.degrees(principal_angles(params.theta["mean"]["kernel"], pca.theta["mean"]["kernel"]))
  return row | {"max_angle": float(angles.max()), "mean_angle": float(angles.mean())}


def as_table(results: dict[str, dict]) -> str:
  """Formats the results in nats per data point, and the noise in units of x."""
  lines = [
    f"{'':10} {'train bound':>12} {'train log p(x)':>15} {'test log p(x)':>18} {'noise std':>11}"
  ]
  for who, row in results.items():
    test = f"{row['test_log_likelihood']:.4f} ± {row['test_log_likelihood_se']:.4f}"
    lines.append(
      f"{who:10} {row['train_bound']:12.4f} {row['train_log_likelihood']:15.4f} {test:>18} "
      f"{row['noise_std']:11.5f}"
    )
  return "\n".join(lines)


def row_in_words(row: dict) -> str:
  """Formats a row in one line."""
  return (
    f"{row['examples_seen']:>12,} samples   train bound {row['train_bound']:10.3f}   "
    f"train log p(x) {row['train_log_likelihood']:10.3f}   "
    f"test log p(x) {row['test_log_likelihood']:10.3f} ± {row['test_log_likelihood_se']:.2f}   "
    f"angle {row['max_angle']:6.2f}°"
  )


def train(
  workdir: pathlib.Path,
  config: LinearGaussianConfig,
  pixels: Pixels,
  pca: Params,
  asked_to_stop: Callable[[], int],
) -> Training:
  """Trains from the last checkpoint to the end; metrics.csv has all rows at any time.

  Raises:
    FloatingPointError, Stopped, OSError, SaveError: as in `train_single`.
  """
  init_key, fit_key = jax.random.split(jax.random.key(config.seed))
  keys = Keys(init_key, fit_key, jax.random.key(0))  # nothing is drawn in evaluations

  def write_rows(run: Run, new: list[dict]) -> None:
    rows = [{name: row[name] for name in COLUMNS} for row in (*run.rows, *new)]
    files.write_csv(workdir / "metrics.csv", COLUMNS, rows)

  return train_single(
    Run(config, "", workdir, keys),
    make_learning(config, pixels, pca),
    pixels,
    make_plan(config),
    num_steps(config),
    write_rows=write_rows,
    asked_to_stop=asked_to_stop,
  )


def finish(
  workdir: pathlib.Path,
  config: LinearGaussianConfig,
  training: Training,
  pixels: Pixels,
  pca: Params,
) -> tuple[dict, list[str]]:
  """Compares the result with PCA, and draws the curves of training.

  Returns:
    The entries of summary.json, and the lines to print.
  """
  (run,), params = training.runs, training.saved.states.params
  optimum, trained = evaluate_params(pca, pixels), evaluate_params(params, pixels)
  maximum = float(optimum["train_log_likelihood"].mean())
  title = title_of(config.data.dataset, config.latent_dim)
  figure = draw_linear_gaussian(run.rows, maximum, title, budget=config.budget)
  files.save_figure(workdir / "linear_gaussian.png", figure)
  results = {
    "pca": means(optimum),
    "trained": means(trained),
    "difference": means(jax.tree.map(np.subtract, trained, optimum)),  # image by image
  }
  angles = {name: run.rows[-1][name] for name in ("max_angle", "mean_angle")}
  summary = dict(
    **{f"{who}_{name}": value for who, row in results.items() for name, value in row.items()},
    **angles,
    latent_dim=config.latent_dim,
    estimator=config.estimator,
    examples_seen=run.rows[-1]["examples_seen"],
    seed=config.seed,
  )
  angle = f"{angles['max_angle']:.2f}° at most, {angles['mean_angle']:.2f}° on average"
  line = f"angle to PCA's subspace: {angle} of {config.latent_dim}"
  return summary, [as_table(results), line]
