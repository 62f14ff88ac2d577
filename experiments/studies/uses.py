"""The uses of a trained model: recognition, representation, completion, and their numbers."""

import dataclasses
import functools
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from aevb_jax import disk, figures
from aevb_jax.data.datasets import ImageData
from aevb_jax.errors import RunError
from aevb_jax.estimators.sgvb import elbo_b
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.runs import LoadedRun, files
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import (
  Mean,
  evaluate,
  evaluate_in_blocks,
  mean_and_standard_error,
)
from aevb_jax.types import Array, Key, Params
from experiments.plots import records
from experiments.plots.uses import Panel
from experiments.studies import completion, representation
from experiments.studies.completion import Completed, Sampling, Task
from experiments.studies.jobs import Job

METHODS = ("hmc", "gibbs", "pseudo_gibbs")
COLUMNS = ("use", "method", "labels", "features", "measure", "value", "standard_error",
           "num_points")  # fmt: skip
CLASSIFIED = ("representation", "visualization")  # uses that classifiers judge
STAGES = "stages"  # the directory of completions


@dataclasses.dataclass(frozen=True)
class UsesConfig:
  """The models that are trained, and the size of each evaluation."""

  dataset: str = "mnist"
  num_examples: int = 10_000_000
  seed: int = 0
  num_points: int = 500
  num_labels: tuple[int, ...] = (1000, 0)
  methods: tuple[str, ...] = METHODS
  chains: int = 4
  burn_in: int = 50
  draws: int = 30
  leapfrogs: int = 5
  block: int = 4
  flip_probability: float = 0.1

  @property
  def sampling(self) -> Sampling:
    """Returns the amount of sampling for each y."""
    return Sampling(self.chains, self.burn_in, self.draws, self.leapfrogs)


class Report:
  """The rows so far, written to uses.csv at once; rows of an earlier start are kept."""

  def __init__(self, path: pathlib.Path):
    self.path, self.rows = path, _rows_there(path)

  def add(self, about: dict, make: Callable[[], Iterator[dict]]) -> None:
    """Makes and adds the rows with these values, unless they are there already."""
    if any(about.items() <= row.items() for row in self.rows):
      return
    new = list(make())
    self.rows += new
    files.write_csv(self.path, COLUMNS, self.rows)
    print("\n".join(map(row_in_words, new)), flush=True)


def _rows_there(path: pathlib.Path) -> list[dict]:
  """Reads the rows of an earlier start; none if one of them was edited."""
  try:
    rows = records.read_rows(path)
  except (OSError, ValueError, RunError):
    return []
  return rows if all(map(_is_whole, rows)) else []


def _is_whole(row: dict) -> bool:
  needed = {"use", "method", "measure"}
  needed |= {"labels", "features"} if row.get("use") in CLASSIFIED else set()
  values = (row.get("value"), row.get("standard_error", 0.0))
  return needed <= row.keys() and all(map(records.is_number, values))


def make_job(config: UsesConfig, latent_dim: int) -> Job:
  """Returns the run of a model with this number of latents."""
  arguments = (
    f"--dataset={config.dataset}",
    f"--latent_dim={latent_dim}",
    "--binarization=dynamic",
    f"--num_examples={config.num_examples}",
    f"--seed={config.seed}",
    "--num_importance_samples=0",
  )
  name = f"{config.dataset}-{latent_dim}-adam-seed-{config.seed}".replace(":", "-")
  return Job(name, arguments, float(config.num_examples))


def make_tasks(config: UsesConfig, shape: tuple[int, int, int]) -> list[Task]:
  """Returns the tasks of corrupting test images and restoring them."""
  return [
    completion.inpainting(shape),
    completion.super_resolution(shape, config.block),
    completion.denoising(shape, config.flip_probability),
  ]


def complete(
  key: Key, task: Task, method: str, run: LoadedRun, config: UsesConfig, *, workdir: pathlib.Path
) -> Completed:
  """Completes the first test images, or reads the completions of an earlier start."""
  path = workdir / STAGES / f"{task.name}-{method}.npz"
  if before := _completed_before(path):
    return before
  drawn = completion.complete(
    jax.random.clone(key), task, method, run, num_points=config.num_points, sampling=config.sampling
  )
  path.parent.mkdir(exist_ok=True)
  with files.whole(path) as file:
    np.savez(file, **drawn._asdict())
  return drawn


def _completed_before(path: pathlib.Path) -> Completed | None:
  """Reads the completions of an earlier start; None if they are missing or damaged."""
  try:
    with disk.read(path, "rb") as file, np.load(file) as arrays:
      mean, few, y = (arrays[name] for name in ("mean", "few", "y"))
      return Completed(mean, few, y, *map(float, (arrays["acceptance"], arrays["seconds"])))
  except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
    return None


def finish_tasks(
  key: Key,
  tasks: Sequence[Task],
  run: LoadedRun,
  config: UsesConfig,
  *,
  workdir: pathlib.Path,
  report: Report,
) -> list[Panel]:
  """Completes test images by every task and method, and draws what the first method completes."""
  panels, x = [], binary_test(run, config.num_points)
  for task in tasks:
    drawn = {
      method: complete(key, task, method, run, config, workdir=workdir) for method in config.methods
    }
    for method, completed in drawn.items():
      make = functools.partial(score_model, task, method, completed, x)
      report.add(dict(use=task.name, method=method), make)
    first = drawn[config.methods[0]]
    make = functools.partial(score_simple, task, first.y, x, run.data)
    report.add(dict(use=task.name, method="pixel means"), make)
    panels.append(picture(task, first, x, run.data.image_shape))
  return panels


def recognize(key: Key, run: LoadedRun, num_points: int) -> Iterator[dict]:
  """Yields the bound, log p(x), and the gap between them: KL(q(z|x) ‖ p(z|x))."""

  def both(key: Key, params: Params, x: Array) -> tuple[Array, Array]:
    bound_key, key = jax.random.split(key)
    bound = elbo_b(bound_key, run.model, params, x, num_samples=100)
    return bound, importance_sampling(key, run.model, params, x, num_samples=1000).value

  few, reading = points(run.pixels, "test", num_points)
  bound, log_p = evaluate_in_blocks(
    both, jax.random.clone(key), run.params, few, batch_size=20, **reading
  )
  about = dict(use="recognition", method="encoder", num_points=num_points)
  for measure, values in {"bound": bound, "log_p": log_p, "gap": log_p - bound}.items():
    yield number(about, measure, mean_and_standard_error(values))


def classify(
  use: str,
  features: dict[str, representation.Features],
  images: ImageData,
  label_counts: list[int],
  *,
  probes: bool,
) -> Iterator[dict]:
  """Yields accuracies of classifiers on every representation, for every number of labels."""
  classifiers = {"nearest neighbours": representation.nearest_neighbours}
  if probes:
    classifiers = {"linear probe": representation.linear_probe} | classifiers
  for name, classifier in classifiers.items():
    for n in label_counts:
      for kind, feature in features.items():
        if kind == "pixels" and not probes:
          continue
        found = classifier(feature, images.train_labels[:n], images.test_labels)
        size = f"{feature.train.shape[1]} {kind}"
        about = dict(use=use, method=name, labels=n, features=size, num_points=len(images.test))
        yield number(about, "accuracy", found)


def binary_test(run: LoadedRun, num_points: int) -> np.ndarray:
  """Returns the test images that models and simple methods are both compared with."""
  few, reading = points(run.pixels, "test", num_points)
  identity = lambda key, params, x: x
  return np.asarray(evaluate(identity, jax.random.key(0), (), few, **reading))


def score_model(task: Task, method: str, drawn: Completed, x: np.ndarray) -> Iterator[dict]:
  """Yields the scores of completions by a model."""
  about = dict(use=task.name, method=method, num_points=len(x))
  for measure, mean in completion.scores(drawn.mean, x, task.scored).items():
    yield number(about, measure, mean)
  yield dict(about, measure="acceptance", value=drawn.acceptance)
  yield dict(about, measure="seconds", value=drawn.seconds)


def score_simple(task: Task, y: np.ndarray, x: np.ndarray, images: ImageData) -> Iterator[dict]:
  """Yields the scores of simple methods, which use the same y."""
  train = np.asarray(images.train, np.float32) / images.levels
  for method, mean in completion.baselines(task, y, train).items():
    about = dict(use=task.name, method=method, num_points=len(x))
    for measure, score in completion.scores(mean, x, task.scored).items():
      yield number(about, measure, score)


def number(about: dict, measure: str, mean: Mean) -> dict:
  """Makes the row of one number."""
  return dict(about, measure=measure, value=mean.value, standard_error=mean.standard_error)


def picture(task: Task, drawn: Completed, x: np.ndarray, shape: tuple[int, int, int]) -> Panel:
  """Returns rows of images: x, y, the mean of the completions, and some of them."""
  n = completion.SHOWN
  some = min(3, drawn.few.shape[1])
  lines = [x[:n], task.picture(drawn.y[:n]), drawn.mean[:n]]
  lines += [drawn.few[:n, i] for i in range(some)]
  labels = ["x", "y", "E[x|y]", *["E[x|y,z]"] * some]
  tiled = figures.tile(np.concatenate(lines), shape, n)
  return Panel(f"{task.name}: {task.words}", tiled, labels)


def row_in_words(row: dict) -> str:
  """Formats a row in one line."""
  of = " ".join(f"{row[n]}" for n in ("use", "method", "features") if n in row)
  of += f" {row['labels']} labels" if "labels" in row else ""
  error = f" ± {row['standard_error']:.4f}" if "standard_error" in row else ""
  return f"{of:60} {row['measure']:14} {row['value']:10.4f}{error}"


def as_table(rows: list[dict], tasks: list[Task]) -> str:
  """Formats the measure of each use, with standard errors over test images."""

  def text(measure: str, of: dict, scale: float = 1.0, digits: int = 2) -> str:
    for row in rows:
      if row["measure"] == measure and of.items() <= row.items():
        value, error = scale * row["value"], scale * row.get("standard_error", np.nan)
        return f"{value:.{digits}f} ± {error:.{digits}f}"
    return ""

  encoder = dict(use="recognition")
  lines = [
    f"recognition: bound {text('bound', encoder)}, log p(x) {text('log_p', encoder)}, "
    f"KL(q(z|x) ‖ p(z|x)) {text('gap', encoder)} nats"
  ]
  for use in CLASSIFIED:
    mine = [row for row in rows if row["use"] == use]
    counts = list(dict.fromkeys(row["labels"] for row in mine))
    head = "".join(f"{f'{n} labels':>20}" for n in counts)
    lines += ["", f"{f'{use}: test accuracy, %':44}{head}"]
    for method, features in dict.fromkeys((row["method"], row["features"]) for row in mine):
      of = dict(use=use, method=method, features=features)
      cells = "".join(f"{text('accuracy', of | dict(labels=n), 100):>20}" for n in counts)
      lines.append(f"  {f'{method} on {features}':42}{cells}")
  for task in tasks:
    head = f"{'nats per pixel':>20}{'wrong pixels, %':>20}{'squared error':>20}"
    lines += ["", f"{f'{task.name}: {task.words}':44}{head}"]
    for method in dict.fromkeys(row["method"] for row in rows if row["use"] == task.name):
      of = dict(use=task.name, method=method)
      cells = (
        text("log_prob", of, digits=4),
        text("wrong", of, 100),
        text("squared_error", of, 1, 4),
      )
      lines.append(f"  {method:42}" + "".join(f"{cell:>20}" for cell in cells))
  return "\n".join(lines)
