"""Trains a variational auto-encoder by AEVB, evaluates it and draws what it learned.

  python -m experiments.train --workdir=runs/digits
  python -m experiments.train --dataset=mnist --latent_dim=20 --optimizer=adagrad \
      --step_size=0.02 --workdir=runs/mnist
  python -m experiments.train --algorithm=mcem --binarization=static --workdir=runs/mcem

The last is Monte Carlo EM, which has no encoder and so no bound: its rows tell the log joint
density and how HMC fares, and experiments.evaluate estimates the likelihood afterwards.

Writes into --workdir: flags.txt, metrics.csv, TensorBoard events, summary.json,
pictures, and the state at the last evaluation, for experiments.evaluate.
"""

import contextlib
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

from aevb_jax import checkpoint
from aevb_jax.data import ImageData
from aevb_jax.minibatches import Minibatch, stream
from aevb_jax.train import fit, fit_streamed
from aevb_jax.types import Algorithm, Array, Key, PyTree
from experiments import command, data_options, learners, options, pictures, rundir
from experiments.data_options import Pixels

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(learners)

flags.DEFINE_integer(
  "eval_every", 100_000, "Training samples between two rows of metrics.csv.", lower_bound=1
)
flags.DEFINE_string(
  "workdir", None, "Directory for what this run writes. Default: runs/DATASET-TIME."
)

MAX_CHUNK_STEPS = 250  # training steps between two looks from the host
MAX_CHUNK_BYTES = 32 * 2**20  # of pixels, where they are streamed; two chunks are read ahead


class Timing(NamedTuple):
  compile_seconds: float
  steps_per_second: float  # of training alone, without compilation and evaluation


def main() -> None:
  start = time.perf_counter()
  commit = rundir.git_commit()  # of the code that runs, whatever becomes of it meanwhile
  learners.settle()
  images = options.load_images()
  model = options.make_model(images)
  learning = learners.LEARNERS[FLAGS.algorithm](model, images)
  if FLAGS.workdir is None:
    FLAGS.workdir = f"runs/{data_options.file_name()}-{time.strftime('%Y%m%d-%H%M%S')}"
  workdir = rundir.open_workdir(flags_of_run())
  print(
    f"{data_options.describe_pixels()}: {len(images.train)} training and {len(images.test)} test "
    f"images, on {jax.devices()[0].device_kind}"
  )
  pixels = data_options.make_pixels(images)
  train_key, likelihood_key, picture_key = jax.random.split(jax.random.key(FLAGS.seed), 3)

  columns = ("step", "examples_seen", "evaluations", *learning.columns, "seconds")
  with (
    rundir.metrics_writer(workdir, columns) as write_row,
    checkpoint.saver(workdir / rundir.CHECKPOINTS) as save,
  ):
    try:
      state, rows, timing = train(train_key, learning, pixels, write_row, save)
    except (KeyboardInterrupt, FloatingPointError) as stop:
      what, status = (stop, 1) if isinstance(stop, FloatingPointError) else ("interrupted", 130)
      command.fail(f"{what}; the evaluations up to here are in {workdir / 'metrics.csv'}", status)
  pictures.draw_pictures(workdir, picture_key, model, state.params, images, pixels, rows)
  results, lines = learning.judge(likelihood_key, state.params, pixels, rows[-1])
  wall_seconds = time.perf_counter() - start
  summarize(workdir, images, rows[-1], timing, results, wall_seconds, commit)
  print("\n".join(lines))


def flags_of_run() -> list[flags.Flag]:
  """What flags.txt repeats: the flags of this main that the algorithm has a use for."""
  key_flags = FLAGS.get_key_flags_for_module(sys.modules[__name__])
  return [flag for flag in key_flags if flag.name not in learners.FOREIGN_FLAGS[FLAGS.algorithm]]


def train(
  key: Key,
  learning: learners.Learning,
  pixels: Pixels,
  write_row: Callable[[dict], None],
  save: Callable[[int, PyTree], None],
) -> tuple[PyTree, list[dict], Timing]:
  """Trains for --num_examples; every --eval_every, evaluates, writes a row and saves the state.

  Returns:
    The state of the algorithm, the rows, and how long it took.

  Raises:
    FloatingPointError: when what training climbs is no longer a finite number.
  """
  init_key, fit_key, evaluation_key = jax.random.split(key, 3)
  state = learning.algorithm.init(init_key)
  num_steps = math.ceil(FLAGS.num_examples / FLAGS.batch_size)
  eval_steps = max(1, round(FLAGS.eval_every / FLAGS.batch_size))
  chunks = chunk_lengths(num_steps, eval_steps, max_chunk_steps(pixels))
  start = time.perf_counter()
  fit_chunk = compile_fit(set(chunks), learning.algorithm, state, fit_key, pixels)
  compile_seconds = time.perf_counter() - start

  seconds, step, rows, recent = 0.0, 0, [], []
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
      climbed = float(metrics[learning.objective].mean())  # the host waits here, once per chunk
      seconds += time.perf_counter() - start
      step += chunk
      recent.append(metrics)
      bar.set_postfix({learning.objective: f"{climbed:.2f}"}, refresh=False)
      bar.update(chunk * FLAGS.batch_size)
      check_finite(climbed, step, learning.objective)
      if step % eval_steps == 0 or step == num_steps:
        metrics = jax.tree.map(lambda *parts: np.concatenate(parts), *recent)
        row = learning.evaluate(evaluation_key, state.params, pixels, metrics)
        row |= counts(step, learning.evaluations) | dict(seconds=round(seconds, 3))
        rows.append(row)
        write_row(row)
        tqdm.write(learning.describe(row))
        check_finite(row.get("test_bound", climbed), step, learning.objective)
        save(step, state)
        recent = []
  return state, rows, Timing(compile_seconds, num_steps / seconds)


def counts(step: int, evaluations_per_example: int) -> dict:
  """How far training has come: the columns that every row begins with."""
  examples = step * FLAGS.batch_size
  return dict(step=step, examples_seen=examples, evaluations=examples * evaluations_per_example)


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
  lengths: set[int], algorithm: Algorithm, state: PyTree, key: Key, pixels: Pixels
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


def check_finite(value: float, step: int, name: str = "bound") -> None:
  if not math.isfinite(value):
    raise FloatingPointError(
      f"the {name} became {value} by step {step}; a smaller --step_size may help"
    )


def summarize(
  workdir: pathlib.Path,
  images: ImageData,
  row: dict,
  timing: Timing,
  results: dict,
  wall_seconds: float,
  commit: str | None,
) -> None:
  """Writes summary.json, last of all, and prints what there is to look at."""
  note = options.density_note()
  summary = dict(
    **results,
    note=note,
    algorithm=FLAGS.algorithm,
    **data_options.describe(images),
    examples_seen=row["examples_seen"],
    evaluations=row["evaluations"],
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


if __name__ == "__main__":
  command.run(main)
