"""Algorithms as runs use them: their updates, and their evaluations in training and at its end."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from aevb_jax.algorithms.auto_encoding import explain_aevb
from aevb_jax.algorithms.monte_carlo_em import evaluations_per_example, explain_mcem
from aevb_jax.data.datasets import ImageData
from aevb_jax.data.preprocess import bits_of_levels, bits_per_dim
from aevb_jax.errors import ConfigError
from aevb_jax.estimators.objectives import beta_weighted, floored_kl, free_bits, kl_warmup
from aevb_jax.estimators.score_functions import Baseline
from aevb_jax.estimators.semi_supervised import conditioned
from aevb_jax.estimators.table import parse_estimator, try_on_shapes
from aevb_jax.families import table
from aevb_jax.families.kl import kl_divergence
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.runs import build
from aevb_jax.runs.config import AevbConfig, Config
from aevb_jax.runs.pixels import condition_dim, points
from aevb_jax.training.evaluation import Mean, evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.training.program import Pixels
from aevb_jax.types import Algorithm, Array, Estimator, Key, Model, Params, Scheduled

MCEM_COLUMNS = ("recent_log_joint", "acceptance", "num_divergent", "hmc_step_size")
BLOCK = 500  # test points between two updates of the progress bar


class Learning(NamedTuple):
  """An algorithm with the columns of its rows, its evaluation, and its evaluation at the end."""

  algorithm: Algorithm
  evaluations: int  # evaluations of the likelihood for every example of a minibatch
  objective: str  # the metric of its updates that training maximizes
  columns: tuple[str, ...]  # columns of its rows in addition to the columns of every row
  # (key, params, pixels, means of the metrics of the updates since the last row) -> the columns
  # of the rows of an evaluation; `train` has one row for each evaluation
  evaluate: Callable[[Key, Params, Pixels, dict], list[dict]]
  row_in_words: Callable[[dict], str]  # "" for a row that is not printed
  # An algorithm whose update changes nothing, and whose metrics are `Terms`; None if there is none.
  explain: Algorithm | None = None
  # (key, params, pixels, last row) -> the first entries of summary.json, and lines to print
  judge: Callable[[Key, Params, Pixels, dict], tuple[dict, list[str]]] | None = None


class Estimation(NamedTuple):
  """An estimator in the forms that training and evaluation use."""

  objective: Estimator | Scheduled  # for training: with beta, kl_warmup, free_bits
  bound: Estimator  # for evaluation: without beta, kl_warmup, free_bits
  baseline: Baseline


def make_learning(config: Config, model: Model, images: ImageData) -> Learning:
  """Makes the algorithm that a configuration names, with its evaluations.

  Raises:
    ConfigError: if the model does not allow the algorithm.
  """
  make = learn_mcem if config.objective.algorithm == "mcem" else learn_aevb
  return make(config, model, images)


def make_estimation(
  model: Model, data_dim: int, named: AevbConfig, batch_size: int, *, condition_dim: int = 0
) -> Estimation:
  """Makes the estimator that a configuration names, and tries it on shapes before training.

  Args:
    model: the model whose bound is estimated.
    data_dim: D.
    named: the estimator, its number of samples, and the changes of its KL in training.
    batch_size: M, which turns the warm-up of the KL into a number of steps.
    condition_dim: C, if the model is conditional and data points are (x, c); otherwise 0.

  Returns:
    The objective of training, the bound, and the baseline.

  Raises:
    ConfigError: if there is no such estimator, or the model does not allow it.
  """
  try:
    bound, baseline = parse_estimator(named.estimator, data_dim, named.num_samples)
    objective = free_bits(bound, named.free_bits) if named.free_bits else bound
    kl = floored_kl(named.free_bits) if named.free_bits else kl_divergence
    if named.kl_warmup:
      num_steps = -(-named.kl_warmup // batch_size)
      objective = kl_warmup(objective, num_steps, beta=named.beta, kl=kl)
    elif named.beta != 1:
      objective = beta_weighted(objective, named.beta, kl=kl)
    if condition_dim:
      objective, bound = (of_rows(one, data_dim) for one in (objective, bound))
    tried = objective.at(0) if isinstance(objective, Scheduled) else objective
    try_on_shapes(tried, baseline, model, data_dim + condition_dim)
  except ValueError as error:
    raise ConfigError("estimator", named.estimator, str(error)) from error
  return Estimation(objective, bound, baseline)


def of_rows(estimator: Estimator | Scheduled, data_dim: int) -> Estimator | Scheduled:
  """Makes an estimator for data points (x, c), as `conditioned` does, also of a scheduled one."""
  if isinstance(estimator, Scheduled):
    return Scheduled(lambda step: conditioned(estimator.at(step), data_dim=data_dim))
  return conditioned(estimator, data_dim=data_dim)


def learn_aevb(config: Config, model: Model, images: ImageData) -> Learning:
  """Makes algorithm 1, evaluated by its bound and at the end by importance sampling."""
  named, data_dim = config.objective, images.train.shape[1]
  sizes = dict(condition_dim=condition_dim(images, config))
  estimation = make_estimation(model, data_dim, named, config.optimizer.batch_size, **sizes)
  algorithm = build.make_aevb(
    config, model, estimation.objective, estimation.baseline, len(images.train)
  )

  def bound(key: Key, params: Params, x: Array) -> Array:
    return estimation.bound(key, model, params, x)

  def judge(key: Key, params: Params, pixels: Pixels, row: dict) -> tuple[dict, list[str]]:
    of_points = dict(data_dim=data_dim) if config.model.condition else {}
    num_samples = named.num_importance_samples
    mean = estimate_log_likelihood(key, model, params, pixels, num_samples=num_samples, **of_points)
    return judge_bound(config, row, mean, data_dim)

  return Learning(
    algorithm=algorithm,
    evaluations=named.num_samples,
    objective="bound",
    columns=bound_columns(images),
    evaluate=lambda key, params, pixels, means: [evaluate_bound(key, bound, params, pixels)],
    row_in_words=bounds_in_words,
    explain=_explain(config, algorithm, model, data_dim),
    judge=judge,
  )


def _explain(config: Config, algorithm: Algorithm, model: Model, data_dim: int) -> Algorithm | None:
  """Makes the algorithm that finds non-finite numbers; None for an algorithm of a user's own."""
  if config.objective.algorithm != "aevb":
    return None
  return explain_aevb(
    algorithm,
    model,
    num_samples=config.objective.num_samples,
    log_prior=build.make_log_prior(config.optimizer),
    data_dim=data_dim if config.model.condition else None,
  )


def learn_mcem(config: Config, model: Model, images: ImageData) -> Learning:
  """Makes Monte Carlo EM, which is evaluated only by its own metrics."""
  named = config.objective
  steps = dict(num_leapfrogs=named.num_leapfrogs, num_updates=named.num_updates)
  algorithm = build.make_mcem(config, model, len(images.train))
  log_prior = build.make_log_prior(config.optimizer)
  return Learning(
    algorithm=algorithm,
    evaluations=evaluations_per_example(**steps),
    objective="log_joint",
    columns=MCEM_COLUMNS,
    evaluate=lambda key, params, pixels, means: [average_mcem(means)],
    row_in_words=mcem_in_words,
    explain=explain_mcem(algorithm, model, log_prior=log_prior),
    judge=lambda key, params, pixels, row: judge_mcem(row, steps),
  )


def bound_columns(images: ImageData) -> tuple[str, ...]:
  """Returns the names of the values that `evaluate_bound` returns."""
  splits = ("train", "test") if images.validation is None else ("train", "validation", "test")
  return tuple(name for split in splits for name in (f"{split}_bound", f"{split}_bound_se"))


def evaluate_bound(
  key: Key, bound: Callable[[Key, Params, Array], Array], params: Params, pixels: Pixels
) -> dict:
  """Evaluates a bound on every split; equal keys give equal noise, which helps comparisons."""
  columns = {}
  for split in ("train", "validation", "test"):
    source, reading = points(pixels, split)
    if source is None:
      continue
    whole = isinstance(source, jax.Array)
    reading |= dict(sharding=pixels.sharding)
    values = (evaluate if whole else evaluate_in_blocks)(bound, key, params, source, **reading)
    mean = mean_and_standard_error(values)
    columns[f"{split}_bound"] = mean.value
    columns[f"{split}_bound_se"] = mean.standard_error
  return columns


def bounds_in_words(row: dict) -> str:
  """Formats a row of bounds in one line."""
  return (
    f"{row['examples_seen']:>12,} samples   "
    f"train bound {row['train_bound']:9.2f} ± {row['train_bound_se']:.2f}   "
    f"test bound {row['test_bound']:9.2f} ± {row['test_bound_se']:.2f}"
  )


def average_mcem(means: dict) -> dict:
  """Returns a row of the means of `mcem`'s metrics, and the number of divergent transitions."""
  return dict(
    recent_log_joint=means["log_joint"],
    acceptance=means["acceptance"],
    num_divergent=round(means["num_divergent"] * means["num_steps"]),
    hmc_step_size=means["step_size"],
  )


def mcem_in_words(row: dict) -> str:
  """Formats a row of Monte Carlo EM in one line."""
  return (
    f"{row['examples_seen']:>12,} samples   "
    f"recent log p(x, z) {row['recent_log_joint']:9.2f}   "
    f"acceptance {row['acceptance']:.3f} at step size {row['hmc_step_size']:.3g}"
  )


def bits_of(config: Config, bound: float, data_dim: int) -> float | None:
  """Returns bits per dimension for a bound on log p of 8-bit pixels; None for other pixels."""
  if config.data.dequantization:
    return bits_per_dim(bound, data_dim)
  return bits_of_levels(bound, data_dim) if config.model.likelihood in table.LEVELS else None


def judge_bound(
  config: Config, row: dict, log_likelihood: Mean | None, data_dim: int
) -> tuple[dict, list[str]]:
  """Returns the entries of summary.json and the last lines to print for a run of AEVB."""
  bits = bits_of(config, row["test_bound"], data_dim)
  num_samples = config.objective.num_importance_samples
  lines = [f"test bound           {row['test_bound']:.2f} ± {row['test_bound_se']:.2f} nats"]
  if bits:
    lines.append(f"test bits per dim    {bits:.3f}, by the bound")
  if log_likelihood:
    value, error = log_likelihood
    samples = f"({num_samples} importance samples)"
    lines.append(f"test log-likelihood  {value:.2f} ± {error:.2f} nats {samples}")
  if condition := config.model.condition:
    lines.append(f"condition            all bounds and likelihoods are of log p(x|{condition})")
  results = dict(
    test_bound=row["test_bound"],
    test_bound_se=row["test_bound_se"],
    test_log_likelihood=log_likelihood and log_likelihood.value,
    test_log_likelihood_se=log_likelihood and log_likelihood.standard_error,
    num_importance_samples=num_samples,
    test_bits_per_dim=bits,
    estimator=config.objective.estimator,
    num_samples=config.objective.num_samples,
  )
  if condition:
    results |= dict(condition=condition, likelihoods_are_of=f"log p(x|{condition})")
  return results, lines


def judge_mcem(row: dict, steps: dict) -> tuple[dict, list[str]]:
  """Returns the entries of summary.json and the last lines to print for a run of MCEM."""
  results = {name: row[name] for name in MCEM_COLUMNS} | steps
  return results, [
    f"recent log p(x, z)   {row['recent_log_joint']:.2f} nats, at the z of HMC",
  ]


def estimate_log_likelihood(
  key: Key, model: Model, params: Params, pixels: Pixels, *, num_samples: int, **of_points: int
) -> Mean | None:
  """Estimates the mean of log p(x) over the test points, in nats; None if num_samples is 0."""
  if not num_samples:
    return None
  values = log_likelihoods(key, model, params, pixels, num_samples=num_samples, **of_points)
  return mean_and_standard_error(values)


def log_likelihoods(
  key: Key,
  model: Model,
  params: Params,
  pixels: Pixels,
  *,
  num_samples: int,
  num_points: int | None = None,
  data_dim: int | None = None,
) -> np.ndarray:
  """Estimates log p(x) of every test point by K importance samples; equal keys, equal noise.

  Args:
    key: consumed.
    model: has an encoder.
    params: θ and φ.
    pixels: the data of a run.
    num_samples: K.
    num_points: the number of test points, from the first; None for all.
    data_dim: D, if the points are (x, c), for log p(x|c); None for points x.
  """
  estimate: Any = importance_sampling
  if data_dim is not None:
    estimate = conditioned(estimate, data_dim=data_dim)

  def log_likelihood(key: Key, params: Params, x: Array) -> Array:
    return estimate(key, model, params, x, num_samples=num_samples).value

  source, reading = points(pixels, "test", num_points)
  with tqdm(total=len(source), unit=" points", desc="log-likelihood", disable=None) as bar:
    return evaluate_in_blocks(
      log_likelihood,
      key,
      params,
      source,
      block_size=BLOCK,
      batch_size=20,  # times 50 samples: the activations stay in a CPU's cache
      progress=bar.update,
      sharding=pixels.sharding,
      **reading,
    )


def without_numbers(learning: Learning) -> dict:
  """Returns NaN for every column, for the rows of a run that has stopped."""
  return dict.fromkeys(learning.columns, math.nan)
