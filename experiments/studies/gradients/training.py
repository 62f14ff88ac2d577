"""The run of experiments.gradients: trains to every stage, and measures gradients there."""

import pathlib
from collections.abc import Callable
from functools import partial

import jax

from aevb_jax.runs import build, files
from aevb_jax.runs.job import train_single
from aevb_jax.runs.learning import Estimation, Learning
from aevb_jax.runs.loop import Stopped
from aevb_jax.runs.state import Keys, Plan, Run, Training
from aevb_jax.training import program
from aevb_jax.training.program import Pixels
from aevb_jax.types import Key, Model, Params
from experiments.studies.gradients import measuring
from experiments.studies.gradients import rows as gradient_rows
from experiments.studies.gradients.measuring import GradientsConfig, Measured


def train(
  workdir: pathlib.Path,
  config: GradientsConfig,
  model: Model,
  estimation: Estimation,
  pixels: Pixels,
  *,
  chosen: list[Measured],
  asked_to_stop: Callable[[], int],
) -> Training:
  """Trains to every stage of `at` that has no rows yet, and measures there.

  gradients.csv has all rows at any time.

  Raises:
    FloatingPointError, Stopped, OSError, SaveError: as in `train_single`.
  """
  named, batch_size = config.train, config.train.optimizer.batch_size
  init_key, fit_key, noise_key, baseline_key = jax.random.split(jax.random.key(named.seed), 4)
  steps = stages(config)
  num_data = pixels.train.shape[0]
  algorithm = build.make_aevb(named, model, estimation.objective, estimation.baseline, num_data)
  params = jax.eval_shape(algorithm.init, jax.random.clone(init_key)).params
  instrument = measuring.make_instrument(config, model, chosen, pixels, params)

  def drawn() -> None:
    if number := asked_to_stop():
      raise Stopped(number)

  def evaluate_stage(key: Key, params: Params, pixels: Pixels, means: dict) -> list[dict]:
    return measuring.measure(instrument, params, noise_key, baseline_key, drawn)

  def write_rows(run: Run, new: list[dict]) -> None:
    rows = [
      {name: row[name] for name in gradient_rows.COLUMNS if name in row}
      | dict(at=row["examples_seen"])
      for row in (*run.rows, *new)
    ]
    files.write_csv(workdir / "gradients.csv", gradient_rows.COLUMNS, rows)

  learning = Learning(
    algorithm=algorithm,
    evaluations=named.objective.num_samples,
    objective="bound",
    columns=gradient_rows.COLUMNS,
    evaluate=evaluate_stage,
    row_in_words=partial(gradient_rows.row_in_words, reference=config.reference),
  )
  plan = Plan(batch_size, lambda step, end: step in steps, chunks_to(steps))
  run = Run(config, "", workdir, Keys(init_key, fit_key, noise_key))
  how = dict(write_rows=write_rows, asked_to_stop=asked_to_stop)
  return train_single(run, learning, pixels, plan, max(steps), **how)


def stages(config: GradientsConfig) -> list[int]:
  """Returns the training steps after which gradients are measured, in increasing order."""
  return sorted({round(at / config.train.optimizer.batch_size) for at in config.at})


def chunks_to(steps: list[int]) -> Callable[[int, int, int], list[int]]:
  """Returns a function that cuts training into chunks that end at these steps."""

  def chunks(start: int, end: int, most: int) -> list[int]:
    lengths = []
    for step in (step for step in steps if step > start):
      lengths += program.chunk_lengths(start, step, most, max(step, 1))
      start = step
    return lengths

  return chunks
