"""The comparison of the models of a video on held-out windows, and their frames."""

import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from aevb_jax.figures import decode, encode, sample_prior
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.inference.particles import particle_filter
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import evaluate, mean_and_standard_error
from aevb_jax.types import Array, Key, Params
from experiments.studies.frey_face_video.training import (
  STATIC,
  FreyFaceVideoConfig,
  Method,
  Trained,
  bound_of,
  evaluate_frames,
  seed_keys,
)

CLIPS = 3  # generated clips in the picture
BLOCK = 2  # neighbouring windows that the second standard error takes as one
NUMBERS = ("bound", "log_p", "log_p_mc", "ess")
FILTERS = 4  # particle filters, which share the K draws of every frame
WINDOW_COLUMNS = ("method", "window", "first_frame", *NUMBERS)


def evaluate_test(
  key: Key, method: Method, params: Params, config: FreyFaceVideoConfig
) -> dict[str, np.ndarray]:
  """Evaluates the windows of the test frames.

  Returns:
    (W,) each, in nats per frame: `bound`; `log_p`, by importance sampling of the frames of a window
    for the static VAE, and by a particle filter for a dynamic model, with its Monte Carlo error
    `log_p_mc`. `ess` is the effective sample size, for a filter that of the worst frame, averaged
    over the data points of a window.
  """
  bound_key, key = jax.random.split(key)
  number = config.num_importance_samples
  of_frame = functools.partial(importance_sampling, num_samples=number)
  of_window = functools.partial(
    particle_filter, num_particles=number // FILTERS, num_repeats=FILTERS
  )

  def estimate(key: Key, params: Params, x: Array) -> dict[str, Array]:
    found = (of_frame if method.name == STATIC else of_window)(key, method.model, params, x)
    ess = found.diagnostics["ess"]
    return dict(log_p=found.value, log_p_mc=found.standard_error, ess=ess)

  of_split = lambda function, key: evaluate_frames(
    function, key, params, method, "test", num_frames=config.num_frames
  )
  bound, found = of_split(bound_of(method.model), bound_key), of_split(estimate, key)
  return {
    "bound": bound.sum(axis=1) / config.num_frames,
    "log_p": found["log_p"].sum(axis=1) / config.num_frames,
    "log_p_mc": np.sqrt((found["log_p_mc"] ** 2).sum(axis=1)) / config.num_frames,
    "ess": found["ess"].mean(axis=1),
  }


class Paired(NamedTuple):
  """The mean of differences between two models, window by window, and two errors of it."""

  value: float
  standard_error: float  # the windows taken as independent
  block_error: float  # BLOCK neighbouring windows taken as one, because windows are correlated


def paired(found: dict, others: dict, name: str) -> Paired:
  """Computes the mean of the differences of a number of the windows, and its errors.

  The blocks leave out the windows at the end that fill none.

  Args:
    found: by name, (W,) each, in the order of the video.
    others: the same windows of another model.
    name: the number.
  """
  differences = np.asarray(found[name], np.float64) - np.asarray(others[name], np.float64)
  blocks = differences[: len(differences) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=1)
  of_blocks = mean_and_standard_error(blocks).standard_error if len(blocks) else math.nan
  return Paired(*mean_and_standard_error(differences), of_blocks)


def compare(
  config: FreyFaceVideoConfig, methods: list[Method], trained: list[Trained]
) -> tuple[list[dict], list[dict]]:
  """Evaluates all methods on the test windows.

  Returns:
    The rows of windows.csv, and the results of `summarize`.
  """
  key, tests, rows = seed_keys(config)[1], {}, []
  for method, best in zip(methods, trained):
    found = evaluate_test(jax.random.clone(key), method, best.params, config)
    tests[method.name] = found
    for i in range(len(found["bound"])):
      row = dict(method=method.name, window=i, first_frame=i * config.num_frames)
      rows.append(row | {name: float(found[name][i]) for name in NUMBERS})
  return rows, summarize(tests, {m.name: best for m, best in zip(methods, trained)})


def summarize(tests: dict[str, dict[str, np.ndarray]], trained: dict[str, Trained]) -> list[dict]:
  """Returns a row for every method: its best validation bound, and means over the test windows.

  The gains are the differences from the static VAE, window by window.
  """
  results = []
  for name, found in tests.items():
    best = trained[name]
    row: dict[str, Any] = dict(method=name, frames_seen=best.frames_seen)
    row["validation_bound"] = best.validation_bound
    for number in ("bound", "log_p"):
      mean, gain = mean_and_standard_error(found[number]), paired(found, tests[STATIC], number)
      row |= {f"test_{number}": mean.value, f"test_{number}_se": mean.standard_error}
      row |= {f"gain_{number}": gain.value, f"gain_{number}_se": gain.standard_error}
      row |= {f"gain_{number}_block_se": gain.block_error}
    row |= {number: float(np.mean(found[number])) for number in ("log_p_mc", "ess")}
    results.append(row)
  return results


def make_frames(
  config: FreyFaceVideoConfig, methods: list[Method], trained: list[Trained]
) -> list[tuple[str, np.ndarray]]:
  """Makes the rows of the picture: T frames each, in [0, 1], with their names.

  Generated frames are the means of p(x|z) at z ~ p(z). The dynamic model is the one with the best
  validation bound.
  """
  static, of_static = methods[0], trained[0].params
  dynamic, best = max(zip(methods[1:], trained[1:]), key=lambda pair: pair[1].validation_bound)
  of_dynamic = best.params
  as_frames = lambda a: np.asarray(a).reshape(-1, config.num_frames, static.pixels.test.shape[1])
  source, reading = points(dynamic.pixels, "test")
  x = evaluate(lambda key, params, x: x, jax.random.key(0), (), source[:1], **reading)
  again = decode(dynamic.model, of_dynamic, encode(dynamic.model, of_dynamic, x))
  clip_key, draw_key = jax.random.split(seed_keys(config)[2])
  clips = decode(
    dynamic.model, of_dynamic, sample_prior(clip_key, dynamic.model, of_dynamic, CLIPS)
  )
  draws = decode(
    static.model, of_static, sample_prior(draw_key, static.model, of_static, config.num_frames)
  )
  rows = [("held out", as_frames(x)[0]), ("reconstructed", as_frames(again)[0])]
  rows += [(f"generated {i + 1}", clip) for i, clip in enumerate(as_frames(clips))]
  return [*rows, ("static draws", as_frames(draws)[0])]


def as_table(results: list[dict]) -> str:
  """Formats the results in nats per frame; gains are in log p(x) over the static VAE."""
  lines = [
    f"{'model':10} {'frames':>9} {'validation':>10} {'test bound':>16} {'test log p(x)':>16} "
    f"{'gain':>8} {'error':>7} {'blocks':>7} {'ESS':>7}"
  ]
  for row in results:
    bound, log_p = (
      f"{row[f'test_{name}']:.2f} ± {row[f'test_{name}_se']:.2f}" for name in ("bound", "log_p")
    )
    gain = f"{row['gain_log_p']:8.2f} {row['gain_log_p_se']:7.2f} {row['gain_log_p_block_se']:7.2f}"
    lines.append(
      f"{row['method']:10} {row['frames_seen']:9,} {row['validation_bound']:10.2f} {bound:>16} "
      f"{log_p:>16} {gain if row['method'] != STATIC else '':24} {row['ess']:7.1f}"
    )
  return "\n".join(lines)
