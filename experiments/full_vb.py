"""Full variational Bayes (appendix F) against point estimates of θ, on few images.

  python -m experiments.full_vb --dataset=mnist --num_data=1000 --latent_dim=10 \
      --hidden_dim=100 --step_size=0.003 --weight_std=0.05 --num_examples=1000000 \
      --eval_every=100000 --num_importance_samples=200 --workdir=runs/full_vb

The first --num_data training images are kept. ml has no prior; map has the paper's N(0, I)
on the weight matrices of both networks; full_vb has a posterior q(θ) under N(0, I) for all
of the decoder, biases too, and for the encoder the point estimate and the prior of map.
They share the initial weights, the order of the data, the optimizer and its step size. The
other flags are those of experiments.train.

Writes metrics.csv, full_vb.png and summary.json into --workdir. A row is one evaluation
with θ a point estimate (point), the mean of q(θ) (mean), or drawn from q(θ) for each data
point (drawn). Bounds are of x given θ: the bound on the evidence of the training set, which
full_vb climbs, is the train bound of drawn minus KL(θ)/N. log p(x) is at the mean of q(θ).

The command above took 4 minutes on two CPU cores shared with other work, and printed, in
nats per image (standard errors 0.4 to 0.5 on the test images, 0.8 to 1.1 on the training
images; best is the highest of ten evaluations, chosen on the test images):

  method   theta      train   KL(θ)/N      test  best test    test log p(x)
  ml       point    -103.40             -139.63    -131.67   -128.22 ± 0.46
  map      point    -104.99             -133.94    -130.97   -124.13 ± 0.41
  full_vb  mean     -117.90     36.12   -130.50    -130.43   -124.18 ± 0.39
  full_vb  drawn    -128.35     36.12   -140.25    -140.25

Training long, the bounds of ml and map overfit and that at the mean of q(θ) does not; but
log p(x) is that of map within its error, so the two differ in the gap between them. As a
posterior q(θ) is poor: its KL takes 36 of 164 nats, and a drawn θ is 10 nats worse on the
test images than their mean. With --step_size=0.001 and otherwise the same, ml ended at
-130.49 (best -128.98), map at -128.82 (-128.30), and the mean of q(θ) at -129.53: map,
stopped early at the smaller step, has the best bound of all. Each is a single run.
"""

import functools
import math
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from aevb_jax.algorithms.auto_encoding import aevb, gaussian_weight_prior
from aevb_jax.algorithms.full_variational_bayes import (
  averaged_over_theta,
  full_vb,
  init_params,
  mean_params,
  weight_posterior,
)
from aevb_jax.data.minibatches import read_rows
from aevb_jax.families.kl import kl_divergence
from aevb_jax.models.priors import standard_normal
from aevb_jax.training.evaluation import Mean
from aevb_jax.types import Algorithm, Array, Estimator, Key, Model, Params, Scheduled
from experiments.flags import data, estimators, models, training
from experiments.flags.data import Pixels
from experiments.flags.estimators import Estimation
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.plots.full_vb import draw_full_vb, title_of
from experiments.runs import directory, learning, program

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(learning)
flags.adopt_module_key_flags(program)

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

flags.DEFINE_string(
  "workdir", None, "Directory for what this writes. Default: runs/full_vb-DATASET-TIME."
)
flags.DEFINE_list("methods", list(METHODS), f"What to compare, of {', '.join(METHODS)}.")
flags.DEFINE_integer("num_data", 1000, "N, training images that are kept.", lower_bound=1)
flags.DEFINE_float("weight_std", 0.05, "Standard deviation of q(θ) to start from.")


@flags.validator("weight_std", "takes a positive number")
def _check_weight_std(value: float) -> bool:
  return 0 < value < math.inf


class Method(NamedTuple):
  """A way of learning θ, and the ways of judging it."""

  algorithm: Algorithm
  bounds: dict[str, Callable]  # of a data point, by what is done about θ: point, mean or drawn
  point: Callable[[Params], Params]  # θ as one estimate
  kl_theta: Callable[[Params], float | None]  # KL(q(θ) ‖ p(θ)) / N in nats, where there is one


def main() -> None:
  start = time.perf_counter()
  commit = directory.git_commit()
  learning.settle()
  check_flags()
  images = training.load_images()
  if not FLAGS.batch_size <= FLAGS.num_data <= len(images.train):
    raise UsageError(
      "num_data",
      f"takes from --batch_size={FLAGS.batch_size} to the {len(images.train)} training images of "
      f"{FLAGS.dataset}",
    )
  kept = read_rows(images.train, np.arange(FLAGS.num_data))
  images = images._replace(train=kept, train_labels=None)
  model = models.make_model(images)
  estimation = estimators.make_estimation(model, images.train.shape[1], FLAGS.batch_size)
  methods = {name: make_method(name, model, estimation) for name in FLAGS.methods}
  # No choice is made here that would need a third split.
  pixels = data.make_pixels(images)._replace(validation=None)
  if pixels.streamed:
    raise UsageError("max_resident_mb", f"must hold {FLAGS.num_data} images of {FLAGS.dataset}")
  if FLAGS.workdir is None:
    FLAGS.workdir = f"runs/full_vb-{data.file_name()}-{time.strftime('%Y%m%d-%H%M%S')}"
  workdir = directory.open_workdir(FLAGS.get_key_flags_for_module(sys.modules[__name__]))

  rows, likelihoods = [], {}
  for name, method in methods.items():
    # All methods start from the same numbers and see the same minibatches.
    train_key, likelihood_key = jax.random.split(jax.random.key(FLAGS.seed))

    def report(new: list[dict], name: str = name) -> None:
      rows.extend({"method": name} | row for row in new)
      directory.write_csv(workdir / "metrics.csv", COLUMNS, rows)
      for row in rows[-len(new) :]:
        print(describe(row), flush=True)

    try:
      params = learn(train_key, method, pixels, report)
    except FloatingPointError as stop:
      command.fail(
        f"{name}: {stop}; a smaller --step_size may help; the evaluations are in {workdir}", 1
      )
    likelihoods[name] = learning.estimate_log_likelihood(
      likelihood_key, model, method.point(params), pixels
    )
  title = title_of(FLAGS.dataset, FLAGS.num_data, FLAGS.latent_dim)
  directory.write_figure(workdir, "full_vb", draw_full_vb(rows, title))
  results = summarize(rows, likelihoods)
  summary = dict(
    results=results,
    num_importance_samples=FLAGS.num_importance_samples,
    **data.describe(images),
    wall_seconds=time.perf_counter() - start,
    device=jax.devices()[0].device_kind,
    jax_version=jax.__version__,
    git_commit=commit,
    seed=FLAGS.seed,
  )
  directory.write_summary(workdir / "summary.json", summary)
  print(as_table(results))
  print(f"written to {workdir.resolve()}: metrics.csv full_vb.png")


def check_flags() -> None:
  if FLAGS.algorithm != "aevb":
    raise UsageError("algorithm", "is not for this main; it compares --methods")
  if not FLAGS.methods or len(set(FLAGS.methods)) < len(FLAGS.methods):
    raise UsageError("methods", f"takes some of {', '.join(METHODS)}, each once")
  if unknown := [name for name in FLAGS.methods if name not in METHODS]:
    raise UsageError("methods", f"takes {', '.join(METHODS)}, not {unknown[0]!r}")
  if FLAGS.weight_prior not in (0, 1):
    raise UsageError(
      "weight_prior", "is not for this main: N(0, I) for map and full_vb, none for ml"
    )
  if FLAGS.estimator not in ESTIMATORS:
    raise UsageError("estimator", f"takes {', '.join(ESTIMATORS)} here")


def make_method(name: str, model: Model, estimation: Estimation) -> Method:
  """One of METHODS, with the optimizer that the flags name."""
  optimizer = training.make_optimizer(FLAGS.num_data)
  learner = functools.partial(aevb, model, optimizer=optimizer, num_data=FLAGS.num_data)
  log_prior = gaussian_weight_prior(1.0)
  if name == "full_vb":
    return Method(
      algorithm=learner(
        with_weights(estimation.objective),
        # φ remains a point estimate under the prior that it has in map.
        log_prior=lambda params: log_prior(params._replace(theta=())),
        init=functools.partial(init_params, std=FLAGS.weight_std),
      ),
      bounds={
        "mean": lambda key, params, x: estimation.bound(key, model, mean_params(model, params), x),
        "drawn": bind(averaged_over_theta(estimation.bound, local=True), model),
      },
      point=functools.partial(mean_params, model),
      kl_theta=kl_per_data_point,
    )
  return Method(
    algorithm=learner(estimation.objective, log_prior=log_prior if name == "map" else None),
    bounds={"point": bind(estimation.bound, model)},
    point=lambda params: params,
    kl_theta=lambda params: None,
  )


def with_weights(objective: Estimator | Scheduled) -> Estimator | Scheduled:
  """`full_vb` of what training climbs, which may change from step to step."""
  bayes = functools.partial(full_vb, num_data=FLAGS.num_data, local=True)
  if isinstance(objective, Scheduled):
    return Scheduled(lambda step: bayes(objective.at(step)))
  return bayes(objective)


def bind(bound: Estimator, model: Model) -> Callable[[Key, Params, Array], Array]:
  return lambda key, params, x: bound(key, model, params, x)


def kl_per_data_point(params: Params) -> float:
  prior = standard_normal(params.theta.mean.size)
  return float(kl_divergence(weight_posterior(params), prior)) / FLAGS.num_data


def learn(key: Key, method: Method, pixels: Pixels, report: Callable[[list[dict]], None]) -> Params:
  """Trains for --num_examples, with an evaluation every --eval_every.

  Raises:
    FloatingPointError: when the bound is no longer a finite number.
  """
  init_key, fit_key, evaluation_key = jax.random.split(key, 3)
  state = method.algorithm.init(init_key)
  num_steps = math.ceil(FLAGS.num_examples / FLAGS.batch_size)
  chunks = program.chunk_lengths(0, num_steps, program.MAX_CHUNK_STEPS)
  fit_chunk = program.compile_fit(set(chunks), method.algorithm, state, fit_key, pixels)
  seconds, step = 0.0, 0
  for chunk in chunks:
    start = time.perf_counter()
    state, metrics = fit_chunk[chunk](state, fit_key, pixels.train, static_key=pixels.static_key)
    chunk_bound = float(metrics["bound"].mean())  # the host waits here, once per chunk
    seconds += time.perf_counter() - start
    step += chunk
    program.check_finite([chunk_bound], step)
    if program.is_evaluated(step, num_steps):
      seen = dict(step=step, examples_seen=step * FLAGS.batch_size, seconds=round(seconds, 3))
      kl_theta = method.kl_theta(state.params)
      report(
        [
          {"theta": theta}
          | learning.evaluate_bound(evaluation_key, bound, state.params, pixels)
          | dict(kl_theta=kl_theta, **seen)
          for theta, bound in method.bounds.items()
        ]
      )
  return state.params


def summarize(rows: list[dict], likelihoods: dict[str, Mean | None]) -> list[dict]:
  """The last row of every method and treatment of θ, with its best test bound."""
  results = {}
  for row in rows:
    last = results.setdefault((row["method"], row["theta"]), {"best_test_bound": -math.inf})
    last |= row | {"best_test_bound": max(last["best_test_bound"], row["test_bound"])}
    if row["theta"] != "drawn" and (likelihood := likelihoods[row["method"]]):
      last["test_log_likelihood"], last["test_log_likelihood_se"] = likelihood
  return list(results.values())


def as_table(results: list[dict]) -> str:
  """In nats per data point; the log-likelihood is that of θ as one estimate."""
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


def describe(row: dict) -> str:
  kl = "" if row["kl_theta"] is None else f"   KL(θ)/N {row['kl_theta']:8.2f}"
  return f"{row['method']:8} {row['theta']:6} {learning.describe(row)}{kl}"


if __name__ == "__main__":
  command.run(main)
