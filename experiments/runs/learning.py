"""What --algorithm stands for: ways of learning, and what is told of each."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from aevb_jax.algorithms import auto_encoding, monte_carlo_em
from aevb_jax.algorithms.monte_carlo_em import evaluations_per_example
from aevb_jax.data.datasets import ImageData
from aevb_jax.data.preprocess import bits_of_levels, bits_per_dim
from aevb_jax.families import table
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.training.evaluation import Mean, evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Algorithm, Array, Key, Model, Params
from experiments.flags import estimators, training
from experiments.flags.data import Pixels
from experiments.launch.command import UsageError

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(training)

flags.DEFINE_enum(
  "algorithm",
  "aevb",
  ["aevb", "mcem"],
  "aevb: algorithm 1, with --estimator; mcem: Monte Carlo EM (appendix E), without an encoder.",
)
flags.DEFINE_integer(
  "num_leapfrogs", 10, "mcem: leapfrog steps of HMC for every minibatch.", lower_bound=1
)
flags.DEFINE_integer(
  "num_updates", 5, "mcem: updates of the weights for every minibatch.", lower_bound=1
)
flags.DEFINE_integer(
  "num_importance_samples",
  500,
  "K, samples per test point for the log-likelihood at the end; 0 leaves it out.",
  lower_bound=0,
)

# What an algorithm has no use for.
FOREIGN_FLAGS = {
  "aevb": ("num_leapfrogs", "num_updates"),
  "mcem": (
    "examples_at_once",
    "estimator",
    "num_samples",
    "beta",
    "kl_warmup",
    "free_bits",
    "num_importance_samples",
  ),
}
MCEM_COLUMNS = ("recent_log_joint", "acceptance", "num_divergent", "hmc_step_size")
BLOCK = 500  # test points between two looks from the host


class Learning(NamedTuple):
  """What --algorithm stands for: a way of learning, and what is told of it."""

  algorithm: Algorithm
  evaluations: int  # of the likelihood, for every example of a minibatch
  objective: str  # the metric of its updates that training climbs
  columns: tuple[str, ...]  # of metrics.csv, beside those that every row has
  # (key, params, pixels, means of the metrics of the updates since the last row) -> the columns
  evaluate: Callable[[Key, Params, Pixels, dict], dict]
  explain: Algorithm  # changes nothing, and tells what of an update is not finite
  describe: Callable[[dict], str]  # a row in one line
  # (key, params, pixels, last row) -> what summary.json tells first, and lines to print
  judge: Callable[[Key, Params, Pixels, dict], tuple[dict, list[str]]]


def settle(*, sweep: bool = False) -> None:
  """`options.settle`, and flags that do not go with the algorithm are refused.

  Raises:
    UsageError: if there is one.
  """
  for name in FOREIGN_FLAGS[FLAGS.algorithm]:
    if FLAGS[name].present:
      raise UsageError(name, f"has no meaning for --algorithm={FLAGS.algorithm}")
  if FLAGS.algorithm == "aevb":
    training.settle(sweep=sweep)
    return
  training.settle(updates_per_step=FLAGS.num_updates, sweep=sweep)
  fixed = "draws x anew at each use, and --algorithm=mcem keeps a z for every x; use "
  if FLAGS.binarization == "dynamic":
    raise UsageError("binarization", f"{fixed}static, threshold or none")
  if FLAGS.dequantization:
    raise UsageError("dequantization", f"{fixed}--nodequantization")


def learn_aevb(model: Model, images: ImageData) -> Learning:
  """Algorithm 1; evaluated by its bound, and in the end by importance sampling."""
  data_dim = images.train.shape[1]
  estimation = estimators.make_estimation(model, data_dim, FLAGS.batch_size)

  def bound(key: Key, params: Params, x: Array) -> Array:
    return estimation.bound(key, model, params, x)

  def judge(key: Key, params: Params, pixels: Pixels, row: dict) -> tuple[dict, list[str]]:
    return judge_bound(row, estimate_log_likelihood(key, model, params, pixels), data_dim)

  algorithm = training.make_algorithm(model, estimation, num_data=len(images.train))
  return Learning(
    algorithm=algorithm,
    evaluations=FLAGS.num_samples,
    objective="bound",
    columns=bound_columns(images),
    evaluate=lambda key, params, pixels, metrics: evaluate_bound(key, bound, params, pixels),
    explain=auto_encoding.explain_aevb(
      algorithm, model, num_samples=FLAGS.num_samples, log_prior=training.make_log_prior()
    ),
    describe=describe,
    judge=judge,
  )


def learn_mcem(model: Model, images: ImageData) -> Learning:
  """Monte Carlo EM; there is nothing but its own metrics to evaluate it by here."""
  how = dict(num_leapfrogs=FLAGS.num_leapfrogs, num_updates=FLAGS.num_updates)
  algorithm = training.make_mcem(model, len(images.train), **how)
  return Learning(
    algorithm=algorithm,
    evaluations=evaluations_per_example(**how),
    objective="log_joint",
    columns=MCEM_COLUMNS,
    evaluate=lambda key, params, pixels, metrics: average_mcem(metrics),
    explain=monte_carlo_em.explain_mcem(algorithm, model, log_prior=training.make_log_prior()),
    describe=describe_mcem,
    judge=lambda key, params, pixels, row: judge_mcem(row),
  )


LEARNERS = {"aevb": learn_aevb, "mcem": learn_mcem}


def bound_columns(images: ImageData) -> tuple[str, ...]:
  """Of `evaluate_bound`."""
  splits = ("train", "test") if images.validation is None else ("train", "validation", "test")
  return tuple(name for split in splits for name in (f"{split}_bound", f"{split}_bound_se"))


def evaluate_bound(
  key: Key, bound: Callable[[Key, Params, Array], Array], params: Params, pixels: Pixels
) -> dict:
  """The bound over the whole of every split; the same key makes evaluations comparable."""
  columns = {}
  for split, source, draw in (
    ("train", pixels.train, pixels.train_draw),
    ("validation", pixels.validation, pixels.validation_draw),
    ("test", pixels.test, pixels.test_draw),
  ):
    if source is None:
      continue
    how = dict(preprocess=pixels.preprocess, static_key=draw, sharding=pixels.sharding)
    whole = isinstance(source, jax.Array)
    values = (evaluate if whole else evaluate_in_blocks)(bound, key, params, source, **how)
    mean = mean_and_standard_error(values)
    columns[f"{split}_bound"] = mean.value
    columns[f"{split}_bound_se"] = mean.standard_error
  return columns


def describe(row: dict) -> str:
  return (
    f"{row['examples_seen']:>12,} samples   "
    f"train bound {row['train_bound']:9.2f} ± {row['train_bound_se']:.2f}   "
    f"test bound {row['test_bound']:9.2f} ± {row['test_bound_se']:.2f}"
  )


def average_mcem(metrics: dict) -> dict:
  """What `mcem` tells of every update, in the mean; of divergent transitions, the number."""
  return dict(
    recent_log_joint=metrics["log_joint"],
    acceptance=metrics["acceptance"],
    num_divergent=round(metrics["num_divergent"] * metrics["num_steps"]),
    hmc_step_size=metrics["step_size"],
  )


def describe_mcem(row: dict) -> str:
  return (
    f"{row['examples_seen']:>12,} samples   "
    f"recent log p(x, z) {row['recent_log_joint']:9.2f}   "
    f"acceptance {row['acceptance']:.3f} at step size {row['hmc_step_size']:.3g}"
  )


def judge_bound(row: dict, log_likelihood: Mean | None, data_dim: int) -> tuple[dict, list[str]]:
  """What summary.json and the last lines say of a run of AEVB."""
  bits = None
  if FLAGS.dequantization:
    bits = bits_per_dim(row["test_bound"], data_dim)
  elif FLAGS.likelihood in table.LEVELS:
    bits = bits_of_levels(row["test_bound"], data_dim)
  lines = [f"test bound           {row['test_bound']:.2f} ± {row['test_bound_se']:.2f} nats"]
  if bits:
    lines.append(f"test bits per dim    {bits:.3f}, by the bound")
  if log_likelihood:
    value, error = log_likelihood
    samples = f"({FLAGS.num_importance_samples} importance samples)"
    lines.append(f"test log-likelihood  {value:.2f} ± {error:.2f} nats {samples}")
  results = dict(
    test_bound=row["test_bound"],
    test_bound_se=row["test_bound_se"],
    test_log_likelihood=log_likelihood and log_likelihood.value,
    test_log_likelihood_se=log_likelihood and log_likelihood.standard_error,
    num_importance_samples=FLAGS.num_importance_samples,
    test_bits_per_dim=bits,
    estimator=FLAGS.estimator,
    num_samples=FLAGS.num_samples,
  )
  return results, lines


def judge_mcem(row: dict) -> tuple[dict, list[str]]:
  """What summary.json and the last lines say of a run of Monte Carlo EM."""
  results = {name: row[name] for name in MCEM_COLUMNS}
  results |= dict(num_leapfrogs=FLAGS.num_leapfrogs, num_updates=FLAGS.num_updates)
  return results, [
    f"recent log p(x, z)   {row['recent_log_joint']:.2f} nats, at the z of HMC",
    f"log-likelihood       python -m experiments.evaluate --method=ais --workdir={FLAGS.workdir}",
  ]


def estimate_log_likelihood(key: Key, model: Model, params: Params, pixels: Pixels) -> Mean | None:
  """The mean of log p(x) over the test points, by --num_importance_samples each."""
  if not FLAGS.num_importance_samples:
    return None
  num_samples = FLAGS.num_importance_samples
  values = log_likelihoods(key, model, params, pixels, num_samples=num_samples)
  return mean_and_standard_error(values)


def log_likelihoods(
  key: Key, model: Model, params: Params, pixels: Pixels, *, num_samples: int
) -> np.ndarray:
  """log p(x) of every test point, by K importance samples each; the same noise for every model."""

  def log_likelihood(key: Key, params: Params, x: Array) -> Array:
    return importance_sampling(key, model, params, x, num_samples=num_samples).value

  with tqdm(total=len(pixels.test), unit=" points", desc="log-likelihood", disable=None) as bar:
    return evaluate_in_blocks(
      log_likelihood,
      key,
      params,
      pixels.test,
      block_size=BLOCK,
      batch_size=20,  # by 50 samples at a time: activations that stay in a CPU's cache
      progress=bar.update,
      preprocess=pixels.preprocess,
      static_key=pixels.test_draw,
      sharding=pixels.sharding,
    )
