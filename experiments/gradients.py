"""Measures gradient estimators: bias, variance, signal-to-noise ratio and cost.

  python -m experiments.gradients --dataset=mnist --latent_dim=20 \
      --estimators=elbo_a,elbo_b,score_function --samples=1,10 --at=0,100000 \
      --workdir=runs/gradients

The other flags are those of experiments.train and say which model is trained, by
which --estimator and on what; the gradients of --estimators are measured on the first
--num_points test images, at initialization (--at=0) or after so many training samples.
Writes gradients.csv, with a row for each estimator, number of samples and block of
parameters, gradients.png and summary.json into --workdir. Interrupted, the same command
goes on with the first of --at that is not measured yet.

variance is the sum over the block's coordinates of the variance of the gradient of the
mean over the points (the block value is the estimate itself); snr is ‖E g‖ over its root;
bias is ‖E g − E r‖ / ‖E r‖ for a reference r on the same keys; milliseconds is the time of
one gradient. All but the last come with 95 % intervals.
"""

import math
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from tqdm import tqdm

from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.data.minibatches import read_rows
from aevb_jax.estimators.score_functions import Baseline, no_baseline, with_baseline
from aevb_jax.inference.diagnostics import (
  GradientBatch,
  Interval,
  blocks,
  gradient_batch,
  inner_products,
  relative_bias,
  signal_to_noise,
  variance,
)
from aevb_jax.inference.exact import exact_elbo
from aevb_jax.training.evaluation import evaluate
from aevb_jax.training.fitting import fit
from aevb_jax.types import Algorithm, Array, Estimator, Key, Model, Params
from experiments.flags import budgets, data, estimators, models, training
from experiments.flags.data import Pixels
from experiments.flags.estimators import parse_estimator, try_on_shapes
from experiments.launch import command
from experiments.launch.command import MAX_COUNT, UsageError
from experiments.plots.gradients import draw_gradient_noise, title_of
from experiments.runs import directory, resume
from experiments.runs.resume import Progress

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(training)
flags.adopt_module_key_flags(resume)

SECTION_2_2 = dict(
  dataset="mnist",
  latent_dim=20,
  estimators=[
    "elbo_a",
    "elbo_b",
    "sticking_the_landing",
    "score_function",
    "score_function:baseline=moving_average",
    "score_function:baseline=learned",
    "score_function:baseline=leave_one_out",
    "score_function_optimal_scale",
  ],
  samples=["2", "10"],
)
BUDGETS = {
  "smoke": dict(
    dataset="mnist", hidden_dim=["20"], at=["0", "1000"], num_repeats=50, num_batches=5
  ),
  "cpu": SECTION_2_2 | dict(at=["0", "1000000"], num_repeats=500),
  "paper": SECTION_2_2 | dict(at=["0", "100000", "1000000", "10000000"], num_repeats=2000),
}
budgets.define(BUDGETS, default=None)

flags.DEFINE_list(
  "estimators",
  ["elbo_a", "elbo_b", "score_function", "score_function:baseline=leave_one_out"],
  "Estimators to measure, written as for --estimator and separated by commas.",
)
flags.DEFINE_list("samples", ["2"], "Numbers of samples L or K to measure them at.")
flags.DEFINE_list("at", ["0"], "Training samples after which to measure.")
flags.DEFINE_integer(
  "num_points", 10, "Test images whose mean gradient is measured.", lower_bound=1
)
flags.DEFINE_integer("num_repeats", 2000, "Gradients drawn of each estimator.", lower_bound=40)
flags.DEFINE_integer(
  "num_batches", 20, "Batches they are drawn in, from which the intervals come.", lower_bound=5
)
flags.DEFINE_string(
  "reference",
  None,
  "What biases are measured against: an estimator, or exact (one Gaussian latent or at most 12 "
  "binary ones). Default: what each is known to be unbiased for.",
)
flags.DEFINE_string(
  "workdir", None, "Directory for what this writes. Default: runs/gradients-DATASET-TIME."
)

BASELINE_STEPS = 2000  # on the training set, for a ψ at fixed θ and φ
CHUNK_STEPS = 250  # training steps between two looks from the host

# What each is unbiased for, by the first name of its own that the model allows.
OF_THE_ELBO = ("exact", "elbo_b", "score_function:baseline=leave_one_out")
OF_IWAE = ("iwae", "vimco")
REFERENCES = {
  "elbo_a": OF_THE_ELBO,
  "elbo_b": OF_THE_ELBO,
  "sticking_the_landing": OF_THE_ELBO,
  "score_function": OF_THE_ELBO,
  "score_function_optimal_scale": OF_THE_ELBO,
  "iwae": OF_IWAE,
  "dreg": OF_IWAE,
  "vimco": OF_IWAE,
  "dreg_wake": ("reweighted_wake_sleep",),
}


class Measured(NamedTuple):
  """An estimator as it is measured."""

  name: str
  num_samples: int
  estimator: Estimator
  baseline: Baseline
  reference: str  # the name of another, or its own where it has nothing to be held against


class Batches(NamedTuple):
  """What an estimator's batches left, and the seconds that one of its gradients took."""

  drawn: list[GradientBatch]
  seconds: list[float]


class Instrument(NamedTuple):
  """What measures the gradients of a model."""

  model: Model
  chosen: list[Measured]
  measured: dict[tuple[str, int], Measured]  # the chosen and their references
  minibatch: Array  # the data points, shape (M, D)
  pixels: Pixels  # on which baselines are fitted
  programs: dict[tuple[str, int], Callable]  # (key, params, minibatch) -> GradientBatch


class Keys(NamedTuple):
  """What a run draws from."""

  init: Key
  fit: Key
  noise: Key
  baseline: Key


def main() -> None:
  started = time.perf_counter()
  commit = directory.git_commit()
  budgets.settle(BUDGETS)
  training.settle()
  stages, sample_numbers = check_flags()
  images = training.load_images()
  data_dim = images.train.shape[1]
  model = models.make_model(images)
  estimation = estimators.make_estimation(model, data_dim, FLAGS.batch_size)
  algorithm = training.make_algorithm(model, estimation, num_data=len(images.train))
  chosen = [
    choose(name, num_samples, model, data_dim)
    for num_samples in sample_numbers
    for name in FLAGS.estimators
  ]
  pixels = data.make_pixels(images)
  if pixels.streamed:
    raise UsageError("max_resident_mb", f"must hold the training images of {FLAGS.dataset}")
  key_flags = FLAGS.get_key_flags_for_module(sys.modules[__name__])
  workdir = resume.open_workdir(key_flags, f"gradients-{data.file_name()}")
  if not workdir:
    return

  keys = Keys(*jax.random.split(jax.random.key(FLAGS.seed), 4))
  with resume.going_on(workdir, algorithm, keys.init, started) as (progress, look):
    instrument = make_instrument(model, chosen, pixels, progress.saved.params)
    print(HEADER)
    progress = measure_stages(workdir, progress, look, stages, algorithm, instrument, keys)
    about = dict(**data.describe(images), git_commit=commit)
    finish(workdir, progress, len(instrument.minibatch), about)


def check_flags() -> tuple[list[int], list[int]]:
  """The steps of --at and the numbers of --samples, in increasing order.

  Raises:
    UsageError: for what cannot be measured.
  """
  stages = sorted({round(at / FLAGS.batch_size) for at in whole_numbers("at", 0)})
  sample_numbers = whole_numbers("samples", 1)
  if not FLAGS.estimators:
    raise UsageError("estimators", "takes at least one")
  if FLAGS.num_repeats < 2 * FLAGS.num_batches:
    raise UsageError("num_repeats", f"takes at least two for each of {FLAGS.num_batches} batches")
  return stages, sample_numbers


def make_instrument(
  model: Model, chosen: list[Measured], pixels: Pixels, params: Params
) -> Instrument:
  """`params` are of the model, at any step."""
  minibatch = test_points(pixels)
  measured = with_references(chosen, minibatch.shape[1])
  programs = {name: compile_batch(one, model, params, minibatch) for name, one in measured.items()}
  return Instrument(model, chosen, measured, minibatch, pixels, programs)


def measure_stages(
  workdir: pathlib.Path,
  progress: Progress,
  look: Callable[..., Progress],
  stages: list[int],
  algorithm: Algorithm,
  instrument: Instrument,
  keys: Keys,
) -> Progress:
  """Trains to every stage that has no rows yet and measures there; `look` is called on the way.

  Raises:
    FloatingPointError: when the bound is no longer a finite number.
  """
  whole = {row["at"] for row in progress.rows}
  batches = dict(total=len(stages) * FLAGS.num_batches, initial=len(whole) * FLAGS.num_batches)
  with tqdm(**batches, desc="measuring", unit=" batches", disable=None) as bar:

    def drawn() -> None:
      bar.update()
      look(progress)

    for stage in stages:
      at = stage * FLAGS.batch_size
      if at in whole:
        continue
      progress = train(progress, look, stage, algorithm, instrument.pixels, keys.fit)
      rows = [{"at": at} | row for row in measure(instrument, progress.saved.params, keys, drawn)]
      for row in rows:
        if row["block"] in ("theta", "phi", "value"):
          tqdm.write(describe(row))
      progress = progress._replace(rows=progress.rows + rows)
      directory.write_csv(workdir / "gradients.csv", COLUMNS, progress.rows)
      progress = look(progress, save=True)
  return progress


def train(
  progress: Progress,
  look: Callable[..., Progress],
  num_steps: int,
  algorithm: Algorithm,
  pixels: Pixels,
  key: Key,
) -> Progress:
  """Trains from where it is to `num_steps`.

  Raises:
    FloatingPointError: when the bound is no longer a finite number.
  """
  how = dict(preprocess=pixels.preprocess, static_key=pixels.static_key)
  how |= dict(batch_size=FLAGS.batch_size)
  step = int(progress.saved.step)
  samples = dict(total=num_steps * FLAGS.batch_size, initial=step * FLAGS.batch_size)
  shown = dict(desc="training", unit=" samples", unit_scale=True, leave=False, disable=None)
  with tqdm(**samples, **shown) as bar:
    while step < num_steps:
      length = min(CHUNK_STEPS, num_steps - step)
      state, metrics = fit(algorithm, progress.saved, key, pixels.train, num_steps=length, **how)
      step += length
      if not math.isfinite(bound := float(metrics["bound"][-1])):
        raise FloatingPointError(f"the bound became {bound} by step {step}")
      bar.update(length * FLAGS.batch_size)
      progress = look(progress._replace(saved=state), save=step == num_steps)
  return progress


def finish(workdir: pathlib.Path, progress: Progress, num_points: int, about: dict) -> None:
  """Draws what was measured and writes the summary."""
  started = time.perf_counter()
  title = title_of(FLAGS.dataset, FLAGS.latent_dim, num_points)
  figure = draw_gradient_noise(progress.rows, title, budget=FLAGS.budget)
  directory.write_figure(workdir, "gradients", figure)
  summary = dict(
    **about,
    num_points=num_points,
    num_repeats=FLAGS.num_repeats,
    num_batches=FLAGS.num_batches,
    seed=FLAGS.seed,
    wall_seconds=progress.seconds + time.perf_counter() - started,
    device=jax.devices()[0].device_kind,
    jax_version=jax.__version__,
  )
  directory.write_summary(workdir / "summary.json", summary)
  print(f"written to {workdir.resolve()}: gradients.csv gradients.png")


def whole_numbers(flag: str, least: int) -> list[int]:
  """A list of flags in increasing order."""
  values = FLAGS[flag].value
  if not values or not all(command.is_count(text, least) for text in values):
    raise UsageError(
      flag, f"takes whole numbers of at least {least}, at most {MAX_COUNT}, separated by commas"
    )
  return sorted({int(text) for text in values})


def choose(name: str, num_samples: int, model: Model, data_dim: int) -> Measured:
  """The estimator that a name stands for, and its reference."""
  try:
    estimator, baseline = parse_estimator(name, data_dim, num_samples)
    try_on_shapes(estimator, baseline, model, data_dim)
  except ValueError as error:
    raise UsageError("estimators", f"{name} at {num_samples} samples: {error}") from error
  candidates = REFERENCES.get(name.split(":")[0], (name,))
  if FLAGS.reference:
    candidates = (FLAGS.reference,)
  for reference in candidates:
    try:
      try_on_shapes(*make_reference(reference, data_dim, num_samples), model, data_dim)
      break
    except ValueError as error:
      if FLAGS.reference:
        raise UsageError("reference", str(error)) from error
  else:
    reference = name
  return Measured(name, num_samples, estimator, baseline, reference)


def make_reference(name: str, data_dim: int, num_samples: int) -> tuple[Estimator, Baseline]:
  if name == "exact":
    exact = lambda key, model, params, x: exact_elbo(model, params, x)
    return exact, no_baseline
  return parse_estimator(name, data_dim, num_samples)


def test_points(pixels: Pixels) -> Array:
  """The first --num_points test images as data points, shape (M, D)."""
  few = read_rows(pixels.test, np.arange(min(FLAGS.num_points, len(pixels.test))))
  how = dict(preprocess=pixels.preprocess, static_key=pixels.test_draw)
  return evaluate(lambda key, params, x: x, jax.random.key(0), (), few, **how)


def with_references(chosen: list[Measured], data_dim: int) -> dict[tuple[str, int], Measured]:
  """All that has to be drawn, by name and number of samples: the chosen and their references."""
  everything = {(one.name, one.num_samples): one for one in chosen}
  for one in chosen:
    estimator, baseline = make_reference(one.reference, data_dim, one.num_samples)
    reference = Measured(one.reference, one.num_samples, estimator, baseline, one.reference)
    everything.setdefault((one.reference, one.num_samples), reference)
  return everything


def repeats_of(one: Measured) -> int:
  return 2 if one.name == "exact" else FLAGS.num_repeats // FLAGS.num_batches


def compile_batch(one: Measured, model: Model, params: Params, minibatch: Array) -> Callable:
  """(key, params, minibatch) -> GradientBatch."""
  key = jax.random.key(0)

  def batch(key: Key, params: Params, minibatch: Array) -> GradientBatch:
    num_repeats = repeats_of(one)
    return gradient_batch(key, one.estimator, model, params, minibatch, num_repeats=num_repeats)

  params = params._replace(psi=one.baseline.init(key))
  return jax.jit(batch).lower(key, params, minibatch).compile()


def measure(
  instrument: Instrument, params: Params, keys: Keys, drawn: Callable[[], None]
) -> list[dict]:
  """Draws all batches of all estimators in turn, so that a noisy machine slows them alike.

  `drawn` is called after each.
  """
  model, chosen, measured, minibatch, pixels, programs = instrument
  fitted = {
    name: fit_baseline(keys.baseline, one, model, params, pixels) for name, one in measured.items()
  }
  batches = {name: Batches([], []) for name in measured}
  for b in range(FLAGS.num_batches):
    for name, one in measured.items():
      start = time.perf_counter()
      batch = programs[name](jax.random.fold_in(keys.noise, b), fitted[name], minibatch)
      batch = jax.tree.map(np.asarray, batch)
      batches[name].seconds.append((time.perf_counter() - start) / repeats_of(one))
      batches[name].drawn.append(batch)
    drawn()
  return [
    row
    for one in chosen
    for row in rows_of(
      one, batches[one.name, one.num_samples], batches[one.reference, one.num_samples]
    )
  ]


def fit_baseline(key: Key, one: Measured, model: Model, params: Params, pixels: Pixels) -> Params:
  """`params` with a ψ that follows the estimator's signal on the training set."""
  psi = with_baseline(one.baseline)(key, model).psi
  params = params._replace(psi=psi)
  if not jax.tree.leaves(psi):
    return params
  start = jax.tree.map(jnp.copy, params)  # `fit` takes over what it starts from
  optimizer = training.for_baseline(optax.set_to_zero(), one.baseline)
  algorithm = aevb(
    model, one.estimator, optimizer, num_data=len(pixels.train), init=lambda key, model: start
  )
  state, _ = fit(
    algorithm,
    algorithm.init(key),
    key,
    pixels.train,
    batch_size=FLAGS.batch_size,
    num_steps=BASELINE_STEPS,
    preprocess=pixels.preprocess,
    static_key=pixels.static_key,
  )
  return params._replace(psi=state.params.psi)


def rows_of(one: Measured, own: Batches, others: Batches) -> list[dict]:
  """The statistics of every block of parameters."""
  means = [batch.mean for batch in own.drawn]
  references = [batch.mean for batch in others.drawn]
  differences = [
    jax.tree.map(np.subtract, mean, reference)
    for mean, reference in zip(means, references, strict=True)
  ]
  milliseconds = 1e3 * statistics.median(own.seconds)
  rows = []
  for block, leaves in blocks(means[0]).items():
    variances = np.array(
      [sum(jax.tree.leaves(batch.variance)[i] for i in leaves) for batch in own.drawn]
    )
    spread = variance(variances)
    row = {"estimator": one.name, "num_samples": one.num_samples, "block": block}
    row |= columns("variance", spread)
    row |= columns("snr", signal_to_noise(inner_products(means, means, leaves), variances))
    if one.reference != one.name:
      bias = relative_bias(
        inner_products(differences, differences, leaves),
        inner_products(references, references, leaves),
      )
      row |= columns("bias", bias) | {"reference": one.reference}
    cost = {"milliseconds": milliseconds, "variance_x_milliseconds": spread.value * milliseconds}
    rows.append(row | cost)
  return rows


def columns(name: str, interval: Interval) -> dict:
  return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


COLUMNS = (
  "at",
  "estimator",
  "num_samples",
  "block",
  *(f"{name}{end}" for name in ("variance", "snr", "bias") for end in ("", "_low", "_high")),
  "reference",
  "milliseconds",
  "variance_x_milliseconds",
)
HEADER = (
  f"{'at':>9} {'estimator':40} {'L':>4} {'block':6}{'variance':>11} {'snr':>9} "
  f"{'bias (95 %)':>19} {'ms':>8} {'variance x ms':>14}"
)


def describe(row: dict) -> str:
  bias = f"{row['bias_low']:.1%} to {row['bias_high']:.1%}" if "bias" in row else ""
  return (
    f"{row['at']:>9,} {row['estimator']:40} {row['num_samples']:>4} {row['block']:6}"
    f"{row['variance']:>11.3g} {row['snr']:>9.3g} {bias:>19} {row['milliseconds']:>8.2f} "
    f"{row['variance_x_milliseconds']:>14.3g}"
  )


if __name__ == "__main__":
  command.run(main)
