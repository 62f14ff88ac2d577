"""The output of a finished run: its pictures, its summary, and the table of a sweep."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aevb_jax import figures
from aevb_jax.data.datasets import ImageData
from aevb_jax.models.conditions import num_classes
from aevb_jax.runs import files
from aevb_jax.runs.config import Config
from aevb_jax.runs.directory import SUMMARY
from aevb_jax.runs.pixels import about_images, density_note, of_points, pixels_in_words, points
from aevb_jax.runs.state import Run, Timing
from aevb_jax.training.evaluation import evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.training.program import Pixels
from aevb_jax.types import Model, Params

NUM_PAIRS = 30  # test images that are drawn beside their reconstructions
MOST_CLASSES = 10  # columns of samples, given a condition
JUDGED = ("test_log_likelihood", "test_log_likelihood_se")
OVER_SEEDS = {
  "train_bound": "train bound",
  "validation_bound": "validation bound",
  "test_bound": "test bound",
  "test_log_likelihood": "test log-likelihood",
}


def draw_pictures(
  run: Run, model: Model, params: Params, images: ImageData, pixels: Pixels
) -> None:
  """Draws all pictures of a run into its directory."""
  config = run.config
  draw_model(run, model, params, images)
  if config.objective.algorithm != "mcem":
    title = f"{pixels_in_words(config.data)}\n{latents_in_words(config)}"
    bounds = figures.draw_bounds(run.rows, f"{title}, {config.objective.estimator}")
    files.save_figure(run.directory / "bound.png", bounds)
    draw_posterior(run, model, params, images, pixels)


def latents_in_words(config: Config) -> str:
  """Returns the number of latents in words, such as "2 latents"."""
  return f"{config.model.latent_dim} latent{'s' if config.model.latent_dim > 1 else ''}"


def has_plane(config: Config) -> bool:
  """Reports whether the latents form a plane, which can be drawn."""
  return config.model.latent_dim == 2 and config.model.prior == "gaussian"


def draw_model(run: Run, model: Model, params: Params, images: ImageData) -> None:
  """Draws the pictures that need no encoder: samples, and for two latents the manifold.

  Given a condition, samples have a column for each class, and each class has a manifold.
  """
  config, directory, shape = run.config, run.directory, images.image_shape
  about = f"{config.data.dataset}, {latents_in_words(config)}"
  classes = some_classes(images) if config.model.condition else None
  z = figures.sample_prior(run.keys.picture, model, params, 100)
  if classes is None:
    picture = figures.tile(figures.decode(model, params, z), shape, columns=10)
    title = f"{about}: E[x|z] for z ~ p(z)"
  else:
    x = figures.decode_each(model, params, z[:10], classes)
    picture = figures.tile(x, shape, columns=len(classes))
    title = f"{about}: E[x|z, c], a column for each c, a row for each z ~ p(z)"
  files.save_figure(directory / "samples.png", figures.draw_images(picture, title))
  if has_plane(config):
    picture = draw_plane(model, params, shape, classes)
    figure = figures.draw_images(picture, f"{config.data.dataset}: the learned manifold")
    files.save_figure(directory / "manifold.png", figure)


def some_classes(images: ImageData) -> np.ndarray:
  """Returns the one-hot vectors of the first classes, those that pictures have room for."""
  return np.eye(num_classes(images), dtype=np.float32)[:MOST_CLASSES]


def draw_plane(
  model: Model, params: Params, shape: tuple[int, int, int], classes: np.ndarray | None
) -> np.ndarray:
  """Tiles E[x|z] for a grid of two latents; given classes, a smaller grid for each of them."""
  if classes is None:
    x = figures.decode(model, params, figures.manifold_latents(20))
    return figures.tile(x, shape, columns=20, background=0.0)
  x = figures.decode_each(model, params, figures.manifold_latents(10), classes)
  planes = [figures.tile(x[:, k], shape, columns=10, background=0.0) for k in range(len(classes))]
  return figures.tile(np.stack(planes), planes[0].shape, columns=5)


def draw_posterior(
  run: Run, model: Model, params: Params, images: ImageData, pixels: Pixels
) -> None:
  """Draws the pictures that need an encoder: reconstructions, and two latents of test points.

  Given a condition, test images are encoded and decoded with their own label.
  """
  config, dataset, key = run.config, run.config.data.dataset, jax.random.key(0)
  few, reading = points(pixels, "test", NUM_PAIRS)
  test = evaluate(lambda key, params, x: x, key, params, few, **reading)
  if config.model.condition:
    test, c = np.split(test, [images.train.shape[1]], axis=1)
    z = figures.encode(model, params, (test, c))
    reconstructions = figures.decode(model, params, (z, c))
  else:
    reconstructions = figures.decode(model, params, figures.encode(model, params, test))
  title = f"{dataset}, {latents_in_words(config)}: test images and their reconstructions"
  figure = figures.draw_pairs(test, reconstructions, images.image_shape, title)
  files.save_figure(run.directory / "reconstructions.png", figure)
  if has_plane(config):
    of_x = lambda key, model, params, x: model.encoder.given(params.phi, x).mean
    mean_of = of_points(of_x, config, images)
    mean_of_z = lambda key, params, x: mean_of(key, model, params, x)
    source, reading = points(pixels, "test")
    means = evaluate_in_blocks(mean_of_z, key, params, source, **reading)
    of = "x, c" if config.model.condition else "x"
    title = f"{dataset}: test points, mean of q(z|{of})"
    figure = figures.draw_latents(means, images.test_labels, title)
    files.save_figure(run.directory / "latents.png", figure)


def summarize(run: Run, images: ImageData, results: dict, timing: Timing, about: dict) -> list[str]:
  """Writes summary.json, the last file of a run, and returns the last lines to print.

  Args:
    run: the run at its end.
    images: the data set.
    results: the entries from the algorithm.
    timing: the times of this process.
    about: the total time, and the entries about the program.

  Returns:
    The lines that name the pictures, and a note if log-likelihoods are not log-densities.
  """
  config, row, note = run.config, run.rows[-1], density_note(run.config)
  summary = dict(
    **results,
    note=note,
    algorithm=config.objective.algorithm,
    **about_images(images, config.data),
    examples_seen=row["examples_seen"],
    evaluations=row["evaluations"],
    skipped_steps=run.faults.skipped,
    steps_per_second=timing.num_steps / timing.train_seconds if timing.num_steps else None,
    compile_seconds=timing.compile_seconds,
    **about,
    seed=config.seed,
    step_size=config.optimizer.step_size,
  )
  files.write_summary(run.directory / SUMMARY, summary)
  lines = [f"note                 {note}; do not compare with others"] if note else []
  names = " ".join(sorted(path.name for path in run.directory.glob("*.png")))
  return [*lines, f"pictures             {run.directory.resolve()}: {names}"]


def over_seeds(rows: Sequence[dict]) -> list[dict]:
  """Averages over the seeds of each step size with several seeds, with standard errors."""
  means = []
  for step_size in dict.fromkeys(row["step_size"] for row in rows):
    seeds = [row for row in rows if row["step_size"] == step_size]
    if len(seeds) > 1:
      mean = dict(step_size=step_size, num_seeds=len(seeds))
      for name in OVER_SEEDS:
        if name in seeds[0]:
          values = np.array([row[name] for row in seeds])
          mean[name], mean[f"{name}_se"] = mean_and_standard_error(values)
      means.append(mean)
  return means


def seeds_in_words(mean: dict) -> str:
  """Formats a row of `over_seeds` in one line."""
  values = {label: (mean[n], mean[f"{n}_se"]) for n, label in OVER_SEEDS.items() if n in mean}
  return ", ".join(f"{label} {value:.2f} ± {error:.2f}" for label, (value, error) in values.items())


def write_sweep(
  workdir: pathlib.Path, config: Config, runs: Sequence[Run], finished: set[str]
) -> None:
  """Writes sweep.csv, a row for each member, sweep.png if there are bounds, and summary.json.

  Args:
    workdir: the directory of the sweep.
    config: the configuration of the sweep.
    runs: all members.
    finished: the names of the members that trained to the end and have a summary.json.
  """
  rows = [_sweep_row(run, run.name in finished) for run in runs]
  columns = list(max(rows, key=len))
  files.write_csv(workdir / "sweep.csv", columns, rows)
  results: dict[str, Any] = dict(num_members=len(runs), finished=sorted(finished))
  if "test_bound" in columns:
    curves = [(f"step size {run.config.optimizer.step_size:g}", run.rows) for run in runs]
    title = f"{pixels_in_words(config.data)}, {len(runs)} members"
    files.save_figure(workdir / "sweep.png", figures.draw_sweep(curves, title))
    of_numbers = [row for row in rows if math.isfinite(row["test_bound"]) and row["finished"]]
    if of_numbers:
      best = max(of_numbers, key=lambda row: row["test_bound"])
      results |= {f"best_{name}": best[name] for name in ("name", "test_bound", "test_bound_se")}
      value = f"{best['test_bound']:.2f} ± {best['test_bound_se']:.2f} nats"
      print(f"\nbest test bound      {value}, {best['name']}")
    results["over_seeds"] = over_seeds(of_numbers)
    for row in results["over_seeds"]:
      print(f"step size {row['step_size']:<10g} {row['num_seeds']} seeds: {seeds_in_words(row)}")
  files.write_summary(workdir / SUMMARY, results)
  print(f"sweep                {workdir.resolve()}: sweep.csv, and a directory for each member")


def _sweep_row(run: Run, finished: bool) -> dict:
  seed, step_size = run.config.seed, run.config.optimizer.step_size
  row = dict(name=run.name, seed=seed, step_size=step_size, finished=finished) | run.rows[-1]
  if finished:
    summary = files.read_json(run.directory / SUMMARY)
    row |= {name: summary[name] for name in JUDGED if summary.get(name) is not None}
  return row
