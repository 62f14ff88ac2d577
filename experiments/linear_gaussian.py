"""A linear VAE, trained by AEVB, arrives at PCA: its subspace, its likelihood, its noise.

  python -m experiments.linear_gaussian --workdir=runs/linear_gaussian
  python -m experiments.linear_gaussian --budget=paper --workdir=runs/linear_gaussian_mnist

Section 4 of the paper: PCA is the limit of a linear-Gaussian model as its noise vanishes. With
p(x|z) = N(zW + b, σ²I), probabilistic PCA, the maximum of the likelihood is known in closed form
(Tipping & Bishop 1999) and spans PCA's subspace, and the best affine q(z|x) is its exact
posterior. So this holds Algorithm 1 against the truth: the bound, log p(x) and their maximum are
exact at every evaluation, and nothing but the training is sampled. x are the real-valued pixels,
of which constant ones do no harm.

Writes metrics.csv, linear_gaussian.png and summary.json into --workdir. Angles, in degrees, are
the principal ones between the rows of W and PCA's subspace. Interrupted, the same command goes on
from its last checkpoint.

The command above took 20 to 35 seconds on two CPU cores shared with other work, and printed, in
nats per image of the digits (standard errors over the 360 test images; that of the difference
is of the difference image by image):

              train bound  train log p(x)      test log p(x)   noise std
  pca             17.7096         17.7096   16.3665 ± 0.6604     0.15016
  trained         17.6997         17.7052   16.3596 ± 0.6604     0.15019
  difference      -0.0099         -0.0044   -0.0069 ± 0.0053     0.00003
  angle to PCA's subspace: 0.51° at most, 0.16° on average of 10

On MNIST, with --dataset=mnist --latent_dim=20 and 45 seconds, the bound ended 0.16 nats below
PCA's 299.88 and the subspace at most 0.29° from PCA's. Each is a single run.
"""

import math
import pathlib
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import optax
from absl import flags
from tqdm import tqdm

from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.estimators.sgvb import elbo_a, elbo_b, sticking_the_landing
from aevb_jax.models.linear_gaussian import (
  bound,
  linear_gaussian_vae,
  log_marginal,
  ml_theta,
  optimal_phi,
  principal_angles,
)
from aevb_jax.training.evaluation import evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.training.fitting import fit
from aevb_jax.types import Algorithm, Array, Key, Params
from experiments.flags import budgets, data
from experiments.flags.data import Pixels
from experiments.launch import command
from experiments.launch.command import MAX_COUNT, UsageError
from experiments.plots.linear_gaussian import draw_linear_gaussian, title_of
from experiments.runs import directory, resume
from experiments.runs.resume import Progress

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(data)
flags.adopt_module_key_flags(resume)

BUDGETS = {
  "smoke": dict(dataset="mnist", latent_dim=2, num_examples=20_000),
  "cpu": {},
  "paper": dict(dataset="mnist", latent_dim=20, num_examples=10_000_000),
}
budgets.define(BUDGETS, default=None)

ESTIMATORS = {f.__name__: f for f in (elbo_a, elbo_b, sticking_the_landing)}
STEP_SIZE_DECAY = 1e-3  # over the run: without it the minibatches' noise keeps θ off the optimum
NUM_EVALUATIONS = 40  # about as many, evenly spaced on a log axis
COLUMNS = (
  "step",
  "examples_seen",
  "train_bound",
  "train_log_likelihood",
  "test_log_likelihood",
  "test_log_likelihood_se",
  "noise_std",
  "max_angle",
  "mean_angle",
)

flags.DEFINE_integer("latent_dim", 10, "J, dimensions of z and of PCA's subspace.", lower_bound=1)
flags.DEFINE_enum("estimator", "elbo_b", list(ESTIMATORS), "Of the bound, with one sample.")
flags.DEFINE_integer("batch_size", 100, "M, data points per minibatch.", lower_bound=1)
flags.DEFINE_float("step_size", 0.03, "Of Adam at the start; it falls exponentially by 1000.")
flags.DEFINE_integer(
  "num_examples",
  2_000_000,
  "Training samples to evaluate; steps are this / M.",
  lower_bound=1,
  upper_bound=10**12,
)
flags.DEFINE_integer(
  "seed", 0, "Seed of initialization, data order and noise.", lower_bound=0, upper_bound=2**32 - 1
)
flags.DEFINE_string(
  "workdir",
  None,
  "Directory for what this writes. Default: runs/linear_gaussian-DATASET-TIME.",
)


@flags.validator("step_size", "takes a positive number")
def _check_step_size(value: float) -> bool:
  return 0 < value < math.inf


def main() -> None:
  started = time.perf_counter()
  commit = directory.git_commit()
  budgets.settle(BUDGETS)
  settle()
  images = data.load_images()
  num_data, data_dim = images.train.shape
  if FLAGS.batch_size > num_data:
    raise UsageError(
      "batch_size", f"takes at most the {num_data} training images of {FLAGS.dataset}"
    )
  pixels = data.make_pixels(images)
  if pixels.streamed:
    raise UsageError("max_resident_mb", f"must hold the training images of {FLAGS.dataset}")
  pca = find_pca(pixels)
  key_flags = FLAGS.get_key_flags_for_module(sys.modules[__name__])
  name = f"linear_gaussian-{data.file_name()}"
  if not (workdir := resume.open_workdir(key_flags, name)):
    return

  num_steps = math.ceil(FLAGS.num_examples / FLAGS.batch_size)
  algorithm = aevb(
    linear_gaussian_vae(data_dim, FLAGS.latent_dim, isotropic=True),
    ESTIMATORS[FLAGS.estimator],
    optax.adam(optax.exponential_decay(FLAGS.step_size, num_steps, STEP_SIZE_DECAY)),
    num_data=num_data,
  )
  init_key, fit_key = jax.random.split(jax.random.key(FLAGS.seed))
  with resume.going_on(workdir, algorithm, init_key, started) as (progress, look):
    progress = train(workdir, progress, look, algorithm, fit_key, pixels, pca, num_steps)
    about = dict(**data.describe(images), git_commit=commit)
    finish(workdir, progress, pixels, pca, about)


def finish(
  workdir: pathlib.Path, progress: Progress, pixels: Pixels, pca: Params, about: dict
) -> None:
  """Holds what was learned against PCA, draws the way to it and writes the summary."""
  started, rows = time.perf_counter(), progress.rows
  optimum, trained = evaluate_params(pca, pixels), evaluate_params(progress.saved.params, pixels)
  title = title_of(FLAGS.dataset, FLAGS.latent_dim)
  maximum = float(optimum["train_log_likelihood"].mean())
  figure = draw_linear_gaussian(rows, maximum, title, budget=FLAGS.budget)
  directory.write_figure(workdir, "linear_gaussian", figure)
  results = {
    "pca": means(optimum),
    "trained": means(trained),
    "difference": means(jax.tree.map(np.subtract, trained, optimum)),  # image by image
  }
  angles = {name: rows[-1][name] for name in ("max_angle", "mean_angle")}
  summary = dict(
    **{f"{who}_{name}": value for who, row in results.items() for name, value in row.items()},
    **angles,
    latent_dim=FLAGS.latent_dim,
    estimator=FLAGS.estimator,
    examples_seen=rows[-1]["examples_seen"],
    **about,
    wall_seconds=progress.seconds + time.perf_counter() - started,
    device=jax.devices()[0].device_kind,
    jax_version=jax.__version__,
    seed=FLAGS.seed,
  )
  directory.write_summary(workdir / "summary.json", summary)
  print(as_table(results))
  print(
    f"angle to PCA's subspace: {angles['max_angle']:.2f}° at most, {angles['mean_angle']:.2f}° on "
    f"average of {FLAGS.latent_dim}"
  )
  print(f"written to {workdir.resolve()}: metrics.csv linear_gaussian.png")


def settle() -> None:
  """Refuses flags that do not go together, before any data are read."""
  if not FLAGS["binarization"].present:
    FLAGS.binarization = "none"
  if FLAGS.binarization != "none":
    raise UsageError("binarization", "takes none here, where p(x|z) is Gaussian")
  if FLAGS.dequantization:
    raise UsageError("dequantization", "is not for this main: PCA is of the pixels as they are")
  data.settle()
  if FLAGS.num_examples < FLAGS.batch_size:
    raise UsageError("num_examples", f"takes at least one step, at --batch_size={FLAGS.batch_size}")
  if FLAGS.num_examples > MAX_COUNT * FLAGS.batch_size:
    raise UsageError("num_examples", f"takes at most {MAX_COUNT} steps of {FLAGS.batch_size}")


def find_pca(pixels: Pixels) -> Params:
  """The maximum of the likelihood in closed form, with its exact posterior as the encoder."""
  x = evaluate(
    lambda key, params, x: x, jax.random.key(0), (), pixels.train, preprocess=pixels.preprocess
  )
  try:
    theta = ml_theta(x, FLAGS.latent_dim)
  except ValueError as error:
    raise UsageError("latent_dim", str(error)) from error
  return Params(theta, optimal_phi(theta))


def train(
  workdir: pathlib.Path,
  progress: Progress,
  look: Callable[..., Progress],
  algorithm: Algorithm,
  key: Key,
  pixels: Pixels,
  pca: Params,
  num_steps: int,
) -> Progress:
  """Trains to `num_steps`, with about NUM_EVALUATIONS evaluations; `look` is called on the way.

  Raises:
    FloatingPointError: when the bound is no longer a finite number.
  """
  step, due = int(progress.saved.step), evaluation_steps(num_steps)
  how = dict(batch_size=FLAGS.batch_size, preprocess=pixels.preprocess)
  samples = dict(total=num_steps * FLAGS.batch_size, initial=step * FLAGS.batch_size)
  with tqdm(**samples, unit=" samples", unit_scale=True, disable=None) as bar:
    for end in (end for end in chunk_ends(num_steps) if end > step):
      state, _ = fit(algorithm, progress.saved, key, pixels.train, num_steps=end - step, **how)
      bar.update((end - step) * FLAGS.batch_size)
      step = end
      progress = progress._replace(saved=state)
      if step in due:
        seen = dict(step=step, examples_seen=step * FLAGS.batch_size)
        row = seen | measure(state.params, pixels, pca)
        progress = progress._replace(rows=[*progress.rows, row])
        directory.write_csv(workdir / "metrics.csv", COLUMNS, progress.rows)
        tqdm.write(describe(row))
      progress = look(progress, save=step == num_steps)
  return progress


def evaluation_steps(num_steps: int) -> list[int]:
  """The steps to evaluate at: 1, ..., num_steps, evenly on a log axis where they can be."""
  return np.unique(np.geomspace(1, num_steps, NUM_EVALUATIONS).round().astype(int)).tolist()


def chunk_ends(num_steps: int) -> list[int]:
  """The steps after which the host looks: those to evaluate at, and some between them.

  They are powers of ten apart, of at most 1000 steps: each such length is a program of its own.
  """
  ends = [0]
  for step in evaluation_steps(num_steps):
    while (rest := step - ends[-1]) > 0:
      ends.append(ends[-1] + 10 ** min(3, len(str(rest)) - 1))
  return ends[1:]


def exact_numbers(key: Key, params: Params, x: Array) -> dict[str, Array]:
  """The bound and log p(x) of one data point."""
  del key  # nothing is sampled
  return {"bound": bound(params, x), "log_likelihood": log_marginal(params.theta, x)}


def evaluate_params(params: Params, pixels: Pixels) -> dict[str, np.ndarray]:
  """The bound and log p(x) of every data point, and the noise's standard deviation."""
  key, how = jax.random.key(0), dict(preprocess=pixels.preprocess)
  train = evaluate(exact_numbers, key, params, pixels.train, **how)
  test = evaluate_in_blocks(exact_numbers, key, params, pixels.test, **how)
  return {
    "train_bound": np.asarray(train["bound"], np.float64),
    "train_log_likelihood": np.asarray(train["log_likelihood"], np.float64),
    "test_log_likelihood": np.asarray(test["log_likelihood"], np.float64),
    "noise_std": np.exp(0.5 * np.asarray(params.theta["log_var"], np.float64)),
  }


def means(numbers: dict[str, np.ndarray]) -> dict[str, float]:
  """Over the data points; the standard error is for a mean over others like the test points."""
  test = mean_and_standard_error(numbers["test_log_likelihood"])
  return {name: float(values.mean()) for name, values in numbers.items()} | {
    "test_log_likelihood_se": test.standard_error
  }


def measure(params: Params, pixels: Pixels, pca: Params) -> dict[str, float]:
  """What a row says of the parameters.

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
  """In nats per data point; the noise in units of x."""
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


def describe(row: dict) -> str:
  return (
    f"{row['examples_seen']:>12,} samples   train bound {row['train_bound']:10.3f}   "
    f"train log p(x) {row['train_log_likelihood']:10.3f}   "
    f"test log p(x) {row['test_log_likelihood']:10.3f} ± {row['test_log_likelihood_se']:.2f}   "
    f"angle {row['max_angle']:6.2f}°"
  )


if __name__ == "__main__":
  command.run(main)
