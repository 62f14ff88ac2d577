"""What a trained model is of use for, in numbers: the table of experiments.uses."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from aevb_jax.data.datasets import ImageData
from aevb_jax.estimators.sgvb import elbo_b
from aevb_jax.inference.marginal import importance_sampling
from aevb_jax.runs import LoadedRun
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import Mean, evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Array, Key, Params
from experiments.studies import completion, representation
from experiments.studies.completion import Completed, Sampling, Task
from experiments.studies.representation import Features
from experiments.studies.tables import Table

METHODS = ("hmc", "gibbs", "pseudo_gibbs")
COLUMNS = ("use", "method", "labels", "features", "measure", "value", "standard_error",
           "num_points")  # fmt: skip
REQUIRED = ("use", "method", "measure", "value")


@dataclasses.dataclass(frozen=True)
class UsesConfig:
  """Which models are trained, and what is asked of them."""

  dataset: str = "mnist"
  num_examples: int = 10**7
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


def make_tasks(config: UsesConfig, shape: tuple[int, int, int]) -> list[Task]:
  """Returns what test images are completed from."""
  return [
    completion.inpainting(shape),
    completion.super_resolution(shape, config.block),
    completion.denoising(shape, config.flip_probability),
  ]


def recognize(table: Table, key: Key, run: LoadedRun, num_points: int) -> None:
  """Adds the bound, log p(x), and what is between them: KL(q(z|x) ‖ p(z|x))."""
  if table.has(use="recognition"):
    return

  def both(key: Key, params: Params, x: Array) -> tuple[Array, Array]:
    bound_key, key = jax.random.split(key)
    bound = elbo_b(bound_key, run.model, params, x, num_samples=100)
    return bound, importance_sampling(key, run.model, params, x, num_samples=1000).value

  few, reading = points(run.pixels, "test", num_points)
  bound, log_p = evaluate_in_blocks(both, key, run.params, few, batch_size=20, **reading)
  about = dict(use="recognition", method="encoder", num_points=num_points)
  values = {"bound": bound, "log_p": log_p, "gap": log_p - bound}
  table.add(_row(about, name, mean_and_standard_error(v)) for name, v in values.items())


def classify(
  table: Table,
  use: str,
  features: dict[str, Features],
  images: ImageData,
  *,
  label_counts: Sequence[int],
  methods: Sequence[str] = ("nearest neighbours",),
) -> None:
  """Adds accuracies of classifiers on each representation, for each number of labels."""
  classifiers = {
    "linear probe": representation.linear_probe,
    "nearest neighbours": representation.nearest_neighbours,
  }
  for method in methods:
    for n in label_counts:
      for kind, feature in features.items():
        about = dict(use=use, method=method, labels=n)
        about |= dict(features=f"{feature.train.shape[1]} {kind}")
        if not table.has(**about):
          found = classifiers[method](feature, images.train_labels[:n], images.test_labels)
          table.add([_row(about | dict(num_points=len(images.test)), "accuracy", found)])


def complete(table: Table, key: Key, task: Task, run: LoadedRun, config: UsesConfig) -> Completed:
  """Adds how well test images are completed, and returns what the first method made of a few.

  Where the table had it, that is made again for the images of which there are pictures: every
  image draws from a key of its own.
  """
  x, y = binary_test(run, config.num_points), None
  sampling = Sampling(config.chains, config.burn_in, config.draws, config.leapfrogs)
  drawn = {}
  for method in config.methods:
    if not table.has(use=task.name, method=method):
      how = dict(num_points=config.num_points, sampling=sampling)
      drawn[method] = completion.complete(key, task, method, run, **how)
      table.add(score_model(task, method, drawn[method], x))
  if not table.has(use=task.name, method="pixel means"):
    y = completion.observe(key, task, run, config.num_points)
    table.add(score_simple(task, y, x, run.data))
  first = config.methods[0]
  if first not in drawn:
    how = dict(num_points=completion.SHOWN, sampling=sampling)
    drawn[first] = completion.complete(key, task, first, run, **how)
  return drawn[first]


def binary_test(run: LoadedRun, num_points: int) -> np.ndarray:
  """Returns the test images that models and simple methods are both compared with."""
  few, reading = points(run.pixels, "test", num_points)
  return np.asarray(evaluate(lambda key, params, x: x, jax.random.key(0), (), few, **reading))


def score_model(task: Task, method: str, drawn: Completed, x: np.ndarray) -> Iterator[dict]:
  """Yields the rows of a method of completion that uses the model."""
  about = dict(use=task.name, method=method, num_points=len(x))
  for measure, mean in completion.scores(drawn.mean, x, task.scored).items():
    yield _row(about, measure, mean)
  yield dict(about, measure="acceptance", value=drawn.acceptance)
  yield dict(about, measure="seconds", value=drawn.seconds)


def score_simple(task: Task, y: np.ndarray, x: np.ndarray, images: ImageData) -> Iterator[dict]:
  """Yields the rows of all methods that use no model."""
  train = np.asarray(images.train, np.float32) / images.levels
  for method, mean in completion.baselines(task, y, train).items():
    about = dict(use=task.name, method=method, num_points=len(x))
    for measure, score in completion.scores(mean, x, task.scored).items():
      yield _row(about, measure, score)


def _row(about: dict, measure: str, mean: Mean) -> dict:
  return dict(about, measure=measure, value=mean.value, standard_error=mean.standard_error)


def row_in_words(row: dict) -> str:
  """Writes a row in one line."""
  of = " ".join(f"{row[n]}" for n in ("use", "method", "features") if n in row)
  of += f" {row['labels']} labels" if "labels" in row else ""
  error = f" ± {row['standard_error']:.4f}" if "standard_error" in row else ""
  return f"{of:60} {row['measure']:14} {row['value']:10.4f}{error}"


def as_table(rows: list[dict], tasks: list[Task]) -> str:
  """Writes for each use what it is measured by, with standard errors over test images."""
  encoder = dict(use="recognition")
  lines = [
    f"recognition: bound {_cell(rows, 'bound', encoder)}, log p(x) "
    f"{_cell(rows, 'log_p', encoder)}, KL(q(z|x) ‖ p(z|x)) {_cell(rows, 'gap', encoder)} nats"
  ]
  for use in ("representation", "visualization"):
    mine = [row for row in rows if row["use"] == use]
    counts = list(dict.fromkeys(row["labels"] for row in mine))
    head = "".join(f"{f'{n} labels':>20}" for n in counts)
    lines += ["", f"{f'{use}: test accuracy, %':44}{head}"]
    for method, features in dict.fromkeys((row["method"], row["features"]) for row in mine):
      of = dict(use=use, method=method, features=features)
      cells = [_cell(rows, "accuracy", of | dict(labels=n), 100) for n in counts]
      lines.append(f"  {f'{method} on {features}':42}" + "".join(f"{cell:>20}" for cell in cells))
  for task in tasks:
    head = f"{'nats per pixel':>20}{'wrong pixels, %':>20}{'squared error':>20}"
    lines += ["", f"{f'{task.name}: {task.words}':44}{head}"]
    for method in dict.fromkeys(row["method"] for row in rows if row["use"] == task.name):
      of = dict(use=task.name, method=method)
      cells = (
        _cell(rows, "log_prob", of, digits=4),
        _cell(rows, "wrong", of, 100),
        _cell(rows, "squared_error", of, digits=4),
      )
      lines.append(f"  {method:42}" + "".join(f"{cell:>20}" for cell in cells))
  return "\n".join(lines)


def _cell(rows: list[dict], measure: str, of: dict, scale: float = 1.0, digits: int = 2) -> str:
  """Writes a number with its error; nothing where no row has it."""
  for row in rows:
    if row["measure"] == measure and of.items() <= row.items():
      value, error = scale * row["value"], scale * row["standard_error"]
      return f"{value:.{digits}f} ± {error:.{digits}f}"
  return ""
