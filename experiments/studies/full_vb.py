"""Full variational Bayes beside point estimates of θ: the methods, and their results."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from aevb_jax.algorithms.auto_encoding import aevb, gaussian_weight_prior
from aevb_jax.algorithms.full_variational_bayes import (
  averaged_over_theta,
  full_vb,
  init_params,
  mean_params,
  weight_posterior,
)
from aevb_jax.families.kl import kl_divergence
from aevb_jax.models.priors import standard_normal
from aevb_jax.runs import build, files
from aevb_jax.runs.config import Config, num_steps
from aevb_jax.runs.job import train_single
from aevb_jax.runs.learning import (
  Estimation,
  Learning,
  bounds_in_words,
  estimate_log_likelihood,
  evaluate_bound,
)
from aevb_jax.runs.loop import evenly
from aevb_jax.runs.state import Keys, Run
from aevb_jax.training.evaluation import Mean
from aevb_jax.training.program import Pixels
from aevb_jax.types import Algorithm, Array, Estimator, Key, Model, Params, Scheduled

METHODS = ("ml", "map", "full_vb")
# Means over samples of z, for which noise may be drawn in the decoder's layers instead of θ.
ESTIMATORS = ("elbo_a", "elbo_b", "sticking_the_landing")
COLUMNS = (
  "method",
  "theta",
  "step",
  "examples_seen",
  "train_bound",
  "train_bound_se",
  "test_bound",
  "test_bound_se",
  "kl_theta",
  "seconds",
)


@dataclasses.dataclass(frozen=True)
class FullVbConfig:
  """The comparison, and the number of its images."""

  methods: tuple[str, ...] = METHODS
  num_data: int = 1000
  weight_std: float = 0.05
  train: Config = Config()


class Method(NamedTuple):
  """A way of learning θ, and the ways of judging it."""

  algorithm: Algorithm
  bounds: dict[str, Callable]  # bounds of a data point, by the treatment of θ: point, mean or drawn
  point: Callable[[Params], Params]  # θ as one estimate
  kl_theta: Callable[[Params], float | None]  # KL(q(θ) ‖ p(θ)) / N in nats, if there is a q(θ)


def make_method(name: str, config: FullVbConfig, model: Model, estimation: Estimation) -> Method:
  """Makes one of METHODS, with the optimizer of the configuration."""
  num_data = config.num_data
  optimizer = build.make_optimizer(config.train.optimizer, num_data)
  learner = functools.partial(aevb, model, optimizer=optimizer, num_data=num_data)
  log_prior = gaussian_weight_prior(1.0)
  if name == "full_vb":
    return Method(
      algorithm=learner(
        with_weights(estimation.objective, num_data),
        # φ remains a point estimate under the prior that it has in map.
        log_prior=lambda params: log_prior(params._replace(theta=())),
        init=functools.partial(init_params, std=config.weight_std),
      ),
      bounds={
        "mean": lambda key, params, x: estimation.bound(key, model, mean_params(model, params), x),
        "drawn": bind(averaged_over_theta(estimation.bound, local=True), model),
      },
      point=functools.partial(mean_params, model),
      kl_theta=functools.partial(kl_per_data_point, num_data=num_data),
    )
  return Method(
    algorithm=learner(estimation.objective, log_prior=log_prior if name == "map" else None),
    bounds={"point": bind(estimation.bound, model)},
    point=lambda params: params,
    kl_theta=lambda params: None,
  )


def with_weights(objective: Estimator | Scheduled, num_data: int) -> Estimator | Scheduled:
  """Returns `full_vb` of the objective of training, which may change from step to step."""
  bayes = functools.partial(full_vb, num_data=num_data, local=True)
  if isinstance(objective, Scheduled):
    return Scheduled(lambda step: bayes(objective.at(step)))
  return bayes(objective)


def bind(bound: Estimator, model: Model) -> Callable[[Key, Params, Array], Array]:
  return lambda key, params, x: bound(key, model, params, x)


def kl_per_data_point(params: Params, num_data: int) -> float:
  """Returns KL(q(θ) ‖ p(θ)) / N in nats."""
  prior = standard_normal(params.theta.mean.size)
  return float(kl_divergence(weight_posterior(params), prior)) / num_data


def make_learning(name: str, method: Method) -> Learning:
  """Makes the way of learning of a method; an evaluation is a row for each treatment of θ."""

  def evaluate(key: Key, params: Params, pixels: Pixels, means: dict) -> list[dict]:
    kl_theta = method.kl_theta(params)
    return [
      dict(method=name, theta=theta, kl_theta=kl_theta)
      | evaluate_bound(jax.random.clone(key), bound, params, pixels)
      for theta, bound in method.bounds.items()
    ]

  return Learning(
    algorithm=method.algorithm,
    evaluations=1,
    objective="bound",
    columns=COLUMNS,
    evaluate=evaluate,
    row_in_words=row_in_words,
  )


def compare(
  workdir: pathlib.Path,
  config: FullVbConfig,
  methods: dict[str, Method],
  model: Model,
  pixels: Pixels,
  *,
  asked_to_stop: Callable[[], int],
) -> tuple[list[dict], dict[str, Mean | None]]:
  """Trains all methods, one after another, each from its last checkpoint; metrics.csv has all rows.

  Returns:
    The rows, and the estimate of log p(x) of every method.

  Raises:
    FloatingPointError, Stopped, OSError, SaveError: as in `train_single`.
  """
  rows, likelihoods, budget = [], {}, config.train.budget
  batch_size = config.train.optimizer.batch_size
  for name, method in methods.items():
    # All methods start from the same numbers and see the same minibatches.
    train_key, likelihood_key = jax.random.split(jax.random.key(config.train.seed))
    run = Run(config, "", workdir / name, Keys(*jax.random.split(train_key, 3)))

    def write_rows(run: Run, new: list[dict], before: tuple[dict, ...] = tuple(rows)) -> None:
      write_table(workdir, [*before, *run.rows, *new])

    training = train_single(
      run,
      make_learning(name, method),
      pixels,
      evenly(batch_size, budget.eval_every, budget.evals_per_decade),
      num_steps(config.train, budget.num_examples),
      write_rows=write_rows,
      asked_to_stop=asked_to_stop,
    )
    rows += training.runs[0].rows
    point = method.point(training.saved.states.params)
    num_samples = config.train.objective.num_importance_samples
    likelihoods[name] = estimate_log_likelihood(
      likelihood_key, model, point, pixels, num_samples=num_samples
    )
  write_table(workdir, rows)  # also if nothing was trained any further
  return rows, likelihoods


def write_table(workdir: pathlib.Path, rows: Sequence[dict]) -> None:
  """Writes metrics.csv."""
  table = [{name: row[name] for name in COLUMNS} for row in rows]
  files.write_csv(workdir / "metrics.csv", COLUMNS, table)


def summarize(rows: list[dict], likelihoods: dict[str, Mean | None]) -> list[dict]:
  """Returns the last row of every method and treatment of θ, with its best test bound."""
  results = {}
  for row in rows:
    last = results.setdefault((row["method"], row["theta"]), {"best_test_bound": -math.inf})
    last |= row | {"best_test_bound": max(last["best_test_bound"], row["test_bound"])}
    if row["theta"] != "drawn" and (likelihood := likelihoods[row["method"]]):
      last["test_log_likelihood"], last["test_log_likelihood_se"] = likelihood
  return list(results.values())


def as_table(results: list[dict]) -> str:
  """Formats the results in nats per data point; log p(x) is at the point estimate of θ."""
  lines = [
    f"{'method':8} {'theta':6} {'train':>9} {'KL(θ)/N':>9} {'test':>9} {'best test':>10} "
    f"{'test log p(x)':>16}"
  ]
  for row in results:
    kl = "" if row["kl_theta"] is None else f"{row['kl_theta']:.2f}"
    likelihood = ""
    if "test_log_likelihood" in row:
      likelihood = f"{row['test_log_likelihood']:.2f} ± {row['test_log_likelihood_se']:.2f}"
    lines.append(
      f"{row['method']:8} {row['theta']:6} {row['train_bound']:9.2f} {kl:>9} "
      f"{row['test_bound']:9.2f} {row['best_test_bound']:10.2f} {likelihood:>16}"
    )
  return "\n".join(lines)


def row_in_words(row: dict) -> str:
  """Formats a row in one line."""
  kl = "" if row["kl_theta"] is None else f"   KL(θ)/N {row['kl_theta']:8.2f}"
  return f"{row['method']:8} {row['theta']:6} {bounds_in_words(row)}{kl}"
