"""Trains a variational auto-encoder by AEVB, evaluates it and draws what it learned.

  python -m experiments.train --workdir=runs/digits
  python -m experiments.train --dataset=mnist --latent_dim=20 --optimizer=adagrad \
      --step_size=0.02 --workdir=runs/mnist

Writes into --workdir: flags.txt, metrics.csv, TensorBoard events, summary.json
and pictures.
"""

import contextlib
import functools
import itertools
import math
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from aevb_jax import figures
from aevb_jax.data import ImageData
from aevb_jax.marginal import importance_sampling
from aevb_jax.minibatches import Minibatch, read_rows, stream
from aevb_jax.preprocess import bits_per_dim
from aevb_jax.train import (
  Mean,
  evaluate,
  evaluate_in_blocks,
  fit,
  fit_streamed,
  mean_and_standard_error,
)
from aevb_jax.types import Algorithm, Array, Key, Model, Params, TrainState
from experiments import command, data_options, estimator_options, options, rundir
from experiments.data_options import Pixels

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(options)

flags.DEFINE_integer(
  "eval_every", 100_000, "Training samples between evaluations of the bound.", lower_bound=1
)
flags.DEFINE_integer(
  "num_importance_samples",
  500,
  "K, samples per test point for the log-likelihood at the end; 0 leaves it out.",
  lower_bound=0,
)
flags.DEFINE_string(
  "workdir", None, "Directory for what this run writes. Default: runs/DATASET-TIME."
)

COLUMNS = (
  "step",
  "examples_seen",
  "train_bound",
  "train_bound_se",
  "test_bound",
  "test_bound_se",
  "seconds",
)
MAX_CHUNK_STEPS = 250  # training steps between two looks from the host
MAX_CHUNK_BYTES = 32 * 2**20  # of pixels, where they are streamed; two chunks are read ahead
BLOCK = 500  # test points between two looks from the host


class Timing(NamedTuple):
  compile_seconds: float
  steps_per_second: float  # of training alone, without compilation and evaluation


def main() -> None:
  start = time.perf_counter()
  commit = rundir.git_commit()  # of the code that runs, whatever becomes of it meanwhile
  options.settle()
  images = options.load_images()
  model = options.make_model(images)
  estimation = estimator_options.make_estimation(model, images.train.shape[1], FLAGS.batch_size)
  algorithm = options.make_algorithm(model, estimation, num_data=len(images.train))
  if FLAGS.workdir is None:
    FLAGS.workdir = f"runs/{data_options.file_name()}-{time.strftime('%Y%m%d-%H%M%S')}"
  workdir = rundir.open_workdir(FLAGS.get_key_flags_for_module(sys.modules[__name__]))
  print(
    f"{describe_data()}: {len(images.train)} training and {len(images.test)} test images, "
    f"on {jax.devices()[0].device_kind}"
  )
  pixels = data_options.make_pixels(images)
  train_key, likelihood_key, picture_key = jax.random.split(jax.random.key(FLAGS.seed), 3)

  def bound(key: Key, params: Params, x: Array) -> Array:
    return estimation.bound(key, model, params, x)

  with rundir.metrics_writer(workdir, COLUMNS) as write_row:
    try:
      params, rows, timing = train(train_key, algorithm, bound, pixels, write_row)
    except (KeyboardInterrupt, FloatingPointError) as stop:
      what, status = (stop, 1) if isinstance(stop, FloatingPointError) else ("interrupted", 130)
      command.fail(f"{what}; the evaluations up to here are in {workdir / 'metrics.csv'}", status)
  draw_pictures(workdir, picture_key, model, params, images, pixels, rows)
  log_likelihood = estimate_log_likelihood(likelihood_key, model, params, pixels)
  wall_seconds = time.perf_counter() - start
  summarize(workdir, images, rows[-1], timing, log_likelihood, wall_seconds, commit)


def train(
  key: Key,
  algorithm: Algorithm,
  bound: Callable[[Key, Params, Array], Array],
  pixels: Pixels,
  write_row: Callable[[dict], None],
) -> tuple[Params, list[dict], Timing]:
  """Trains for --num_examples; every --eval_every, evaluates the bound and writes a row.

  Raises:
    FloatingPointError: when the bound is no longer a finite number.
  """
  init_key, fit_key, evaluation_key = jax.random.split(key, 3)
  state = algorithm.init(init_key)
  num_steps = math.ceil(FLAGS.num_examples / FLAGS.batch_size)
  eval_steps = max(1, round(FLAGS.eval_every / FLAGS.batch_size))
  chunks = chunk_lengths(num_steps, eval_steps, max_chunk_steps(pixels))
  start = time.perf_counter()
  fit_chunk = compile_fit(set(chunks), algorithm, state, fit_key, pixels)
  compile_seconds = time.perf_counter() - start

  seconds, step, rows = 0.0, 0, []
  samples = num_steps * FLAGS.batch_size
  with (
    tqdm(total=samples, unit=" samples", unit_scale=True, disable=None) as bar,
    contextlib.closing(feed(pixels, fit_key, chunks)) as data,
  ):
    upcoming = next(data)
    for chunk in chunks:
      start = time.perf_counter()
      state, metrics = fit_chunk[chunk](state, fit_key, upcoming, static_key=pixels.static_key)
      upcoming = next(data, None)  # read while the device trains
      chunk_bound = float(metrics["bound"].mean())  # the host waits here, once per chunk
      seconds += time.perf_counter() - start
      step += chunk
      bar.set_postfix(bound=f"{chunk_bound:.2f}", refresh=False)
      bar.update(chunk * FLAGS.batch_size)
      check_finite(chunk_bound, step)
      if step % eval_steps == 0 or step == num_steps:
        row = evaluate_bound(evaluation_key, bound, state.params, pixels)
        row |= dict(step=step, examples_seen=step * FLAGS.batch_size, seconds=round(seconds, 3))
        rows.append(row)
        write_row(row)
        tqdm.write(describe(row))
        check_finite(row["test_bound"], step)
  return state.params, rows, Timing(compile_seconds, num_steps / seconds)


def max_chunk_steps(pixels: Pixels) -> int:
  if not pixels.streamed:
    return MAX_CHUNK_STEPS
  minibatch_bytes = FLAGS.batch_size * pixels.train.shape[1] * pixels.train.dtype.itemsize
  return min(MAX_CHUNK_STEPS, max(1, MAX_CHUNK_BYTES // minibatch_bytes))


def chunk_lengths(num_steps: int, eval_steps: int, max_steps: int) -> list[int]:
  """Cuts the run into chunks of at most `max_steps` that end where evaluations are due."""
  chunks, step = [], 0
  while step < num_steps:
    chunks.append(min(max_steps, eval_steps - step % eval_steps, num_steps - step))
    step += chunks[-1]
  return chunks


def compile_fit(
  lengths: set[int], algorithm: Algorithm, state: TrainState, key: Key, pixels: Pixels
) -> dict[int, Callable]:
  """(state, key, data, static_key) -> (state, metrics) for every length of chunk."""
  how = dict(preprocess=pixels.preprocess, static_key=pixels.static_key)
  if not pixels.streamed:
    how |= dict(batch_size=FLAGS.batch_size)
    return {
      length: fit.lower(algorithm, state, key, pixels.train, num_steps=length, **how).compile()
      for length in lengths
    }
  index = {n: jax.ShapeDtypeStruct((n, FLAGS.batch_size), np.int32) for n in lengths}
  rows = {
    n: jax.ShapeDtypeStruct((*index[n].shape, pixels.train.shape[1]), pixels.train.dtype)
    for n in lengths
  }
  return {
    n: fit_streamed.lower(algorithm, state, key, Minibatch(index[n], rows[n]), **how).compile()
    for n in lengths
  }


def feed(pixels: Pixels, key: Key, chunks: list[int]) -> Iterator[Array | Minibatch]:
  """What each chunk trains on: the data set on the device, or the chunk's minibatches."""
  if not pixels.streamed:
    yield from itertools.repeat(pixels.train, len(chunks))
    return
  minibatches = stream(pixels.train, key, chunks, batch_size=FLAGS.batch_size)
  with contextlib.closing(minibatches):
    yield from map(jax.device_put, minibatches)


def check_finite(bound: float, step: int) -> None:
  if not math.isfinite(bound):
    raise FloatingPointError(
      f"the bound became {bound} by step {step}; a smaller --step_size may help"
    )


def evaluate_bound(
  key: Key, bound: Callable[[Key, Params, Array], Array], params: Params, pixels: Pixels
) -> dict:
  """The bound over the whole of both splits; the same key makes evaluations comparable."""
  columns = {}
  for split, source, draw in (
    ("train", pixels.train, pixels.train_draw),
    ("test", pixels.test, pixels.test_draw),
  ):
    how = dict(preprocess=pixels.preprocess, static_key=draw)
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


def estimate_log_likelihood(key: Key, model: Model, params: Params, pixels: Pixels) -> Mean | None:
  """The mean of log p(x) over the test points, by K importance samples each."""
  if not FLAGS.num_importance_samples:
    return None

  def log_likelihood(key: Key, params: Params, x: Array) -> Array:
    num_samples = FLAGS.num_importance_samples
    return importance_sampling(key, model, params, x, num_samples=num_samples).value

  with tqdm(total=len(pixels.test), unit=" points", desc="log-likelihood", disable=None) as bar:
    values = evaluate_in_blocks(
      log_likelihood,
      key,
      params,
      pixels.test,
      block_size=BLOCK,
      batch_size=20,  # by 50 samples at a time: activations that stay in a CPU's cache
      progress=bar.update,
      preprocess=pixels.preprocess,
      static_key=pixels.test_draw,
    )
  return mean_and_standard_error(values)


def describe_data() -> str:
  """The data set and how its pixels became x, for whoever compares numbers."""
  kinds = {
    "none": "dequantized pixels" if FLAGS.dequantization else "real-valued pixels",
    "binarized_mnist": "binary pixels",
  }
  name = FLAGS.dataset if FLAGS.dataset in kinds else FLAGS.binarization
  return f"{FLAGS.dataset}, {kinds.get(name, f'{name} binarization')}"


def draw_pictures(
  workdir: pathlib.Path,
  key: Key,
  model: Model,
  params: Params,
  images: ImageData,
  pixels: Pixels,
  rows: list[dict],
) -> None:
  shape = images.image_shape
  latents = f"{FLAGS.latent_dim} latent{'s' if FLAGS.latent_dim > 1 else ''}"

  save = functools.partial(rundir.write_figure, workdir)
  title = f"{describe_data()}\n{latents}, {FLAGS.estimator}"
  save("bound", figures.draw_bounds(rows, title))

  z = figures.sample_prior(key, model, params, 100)
  picture = figures.tile(figures.decode(model, params, z), shape, columns=10)
  save("samples", figures.draw_images(picture, f"{FLAGS.dataset}, {latents}: E[x|z] for z ~ p(z)"))

  how = dict(preprocess=pixels.preprocess, static_key=pixels.test_draw)
  few = read_rows(pixels.test, np.arange(min(30, len(pixels.test))))
  test = evaluate(lambda key, params, x: x, key, params, few, **how)
  title = f"{FLAGS.dataset}, {latents}: test images and their reconstructions"
  reconstructions = figures.decode(model, params, figures.encode(model, params, test))
  save("reconstructions", figures.draw_pairs(test, reconstructions, shape, title))

  if FLAGS.latent_dim == 2 and FLAGS.latents == "gaussian":
    z = figures.manifold_latents(20)
    picture = figures.tile(figures.decode(model, params, z), shape, columns=20, background=0.0)
    save("manifold", figures.draw_images(picture, f"{FLAGS.dataset}: the learned manifold"))
    posterior_means = evaluate_in_blocks(
      lambda key, params, x: model.encoder.given(params.phi, x).mean,
      key,
      params,
      pixels.test,
      **how,
    )
    title = f"{FLAGS.dataset}: test points, mean of q(z|x)"
    save("latents", figures.draw_latents(posterior_means, images.test_labels, title))


def summarize(
  workdir: pathlib.Path,
  images: ImageData,
  row: dict,
  timing: Timing,
  log_likelihood: Mean | None,
  wall_seconds: float,
  commit: str | None,
) -> None:
  """Writes summary.json, last of all, and prints what a user looks for first."""
  real = FLAGS.binarization == "none" and FLAGS.dataset != "binarized_mnist"
  no_density = FLAGS.likelihood == "bernoulli" and real
  note = "Bernoulli likelihood of real-valued pixels: not a log-density" if no_density else None
  bits = None
  if FLAGS.dequantization:
    bits = bits_per_dim(row["test_bound"], images.train.shape[1])
  summary = dict(
    test_bound=row["test_bound"],
    test_bound_se=row["test_bound_se"],
    test_log_likelihood=log_likelihood and log_likelihood.value,
    test_log_likelihood_se=log_likelihood and log_likelihood.standard_error,
    num_importance_samples=FLAGS.num_importance_samples,
    test_bits_per_dim=bits,
    note=note,
    estimator=FLAGS.estimator,
    num_samples=FLAGS.num_samples,
    **data_options.describe(images),
    examples_seen=row["examples_seen"],
    steps_per_second=timing.steps_per_second,
    compile_seconds=timing.compile_seconds,
    wall_seconds=wall_seconds,
    device=jax.devices()[0].device_kind,
    jax_version=jax.__version__,
    git_commit=commit,
    seed=FLAGS.seed,
  )
  rundir.write_summary(workdir / "summary.json", summary)
  if note:
    print(f"note                 {note}; do not compare with others")
  names = " ".join(sorted(path.name for path in workdir.glob("*.png")))
  print(f"pictures             {workdir.resolve()}: {names}")
  print(f"test bound           {row['test_bound']:.2f} ± {row['test_bound_se']:.2f} nats")
  if bits:
    print(f"test bits per dim    {bits:.3f}, by the bound")
  if log_likelihood:
    value, error = log_likelihood
    samples = f"({FLAGS.num_importance_samples} importance samples)"
    print(f"test log-likelihood  {value:.2f} ± {error:.2f} nats {samples}")


if __name__ == "__main__":
  command.run(main)
