"""Table 1 of Burda et al.: the run of each row, and how the runs are judged."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from aevb_jax.errors import ConfigError, RunError
from aevb_jax.inference.diagnostics import active_units
from aevb_jax.models.own import layers_of
from aevb_jax.runs import LoadedRun, files
from aevb_jax.runs.learning import log_likelihoods
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Array, Key, Params
from experiments.flags.figures import Figure
from experiments.flags.presets import PRESETS
from experiments.studies import jobs

STAGES = [3**i for i in range(8)]  # epochs
ESTIMATORS = {"vae": "elbo_a", "iwae": "iwae"}
PRESET_OF = {1: "iwae", 2: "iwae_2"}  # by the number of stochastic layers
# (negative log-likelihood, active latents) of tables 1 and 3 by data set and layers, model and k.
PUBLISHED = {
  ("mnist:60k", 1): {
    ("vae", 1): (86.76, "19"),
    ("vae", 5): (86.47, "20"),
    ("vae", 50): (86.35, "20"),
    ("iwae", 5): (85.54, "22"),
    ("iwae", 50): (84.78, "25"),
  },
  ("mnist:60k", 2): {
    ("vae", 1): (85.33, "16+5"),
    ("vae", 5): (85.01, "17+5"),
    ("vae", 50): (84.78, "17+5"),
    ("iwae", 5): (83.89, "21+5"),
    ("iwae", 50): (82.90, "26+7"),
  },
  ("binarized_mnist", 1): {
    ("vae", 1): (88.71, None),
    ("vae", 5): (88.83, None),
    ("vae", 50): (89.05, None),
    ("iwae", 5): (87.63, None),
    ("iwae", 50): (87.10, None),
  },
}
Place = tuple[int, str, int]  # layers, model and k: what makes a row
COLUMNS = ("layers", "model", "k", "nll", "nll_se", "gain", "gain_se", "over_one_layer",
           "over_one_layer_se", "active", "paper_nll", "paper_gain", "paper_over_one_layer",
           "paper_active", "train_bound", "test_bound", "seed_sd", "seconds")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class IwaeTableConfig:
  """The rows of the table, and the length of their training."""

  dataset: str = "mnist:60k"
  samples: tuple[int, ...] = (1, 5, 50)
  stages: int = len(STAGES)
  layers: tuple[int, ...] = (1,)  # stochastic layers
  seed: int | tuple[int, ...] = 0
  num_importance_samples: int = 5000

  @property
  def seeds(self) -> tuple[int, ...]:
    """Returns the seeds that every row averages over."""
    return self.seed if isinstance(self.seed, tuple) else (self.seed,)


class Entry(NamedTuple):
  """A row of the table: a model, a number of samples, and the run that trains it."""

  layers: int
  model: str
  k: int
  job: jobs.Job


class Judged(NamedTuple):
  """The results of a trained model on the test images."""

  log_p: np.ndarray  # of each image, in nats
  num_active: tuple[int, ...]  # in each layer


def schedule_in_words(config: IwaeTableConfig) -> str:
  """Describes how many epochs training takes."""
  epochs = sum(STAGES[: config.stages])
  if config.stages == len(STAGES):
    return f"all {epochs} epochs"
  return f"{epochs} of {sum(STAGES)} epochs: stages 1 to {config.stages} of {len(STAGES)}"


def make_entries(config: IwaeTableConfig, num_train: int) -> list[Entry]:
  """Returns the rows of the table, and for each a run of experiments.train.

  Raises:
    ConfigError: if there are too few training images.
  """
  entries = []
  for layers in sorted(config.layers):
    for k in sorted(config.samples):
      for model in ("vae", "iwae") if k > 1 else ("vae",):
        entries.append(make_entry(config, layers, model, k, num_train))
  return entries


def latents_of(layers: int) -> tuple[int, ...]:
  """Returns the number of latents in each stochastic layer."""
  preset = PRESETS[PRESET_OF[layers]]
  if found := layers_of(preset.get("model", "")):
    return tuple(found["latent_dims"])
  return (preset["latent_dim"],)


def make_entry(config: IwaeTableConfig, layers: int, model: str, k: int, num_train: int) -> Entry:
  """Returns the row of a model and a number of samples, with its run."""
  preset = PRESET_OF[layers]
  batch_size = PRESETS[preset]["batch_size"]
  if num_train < batch_size:
    message = f"takes at least {batch_size} training images"
    raise ConfigError("dataset", config.dataset, message)
  stages = STAGES[: config.stages]
  epoch = num_train // batch_size * batch_size  # images of an epoch, in whole minibatches
  arguments = (
    f"--preset={preset}",
    f"--dataset={config.dataset}",
    f"--estimator={ESTIMATORS[model]}",
    f"--num_samples={k}",
    f"--stage_epochs={','.join(map(str, stages))}",
    f"--num_examples={epoch * sum(stages)}",
    f"--eval_every={epoch}",
    "--evals_per_decade=4",
    f"--seed={','.join(map(str, config.seeds))}",
    "--num_importance_samples=0",
  )
  name = (
    f"{config.dataset}-{model}-{k}-stages-{config.stages}-seed-{'-'.join(map(str, config.seeds))}"
  )
  name += f"-{layers}-layers" if layers > 1 else ""
  name = name.replace(":", "-").replace("/", "-")
  # A sample takes a third of the time of the rest of a step, measured on a CPU, and a second layer
  # as long again.
  work = len(config.seeds) * layers * (3 + k)
  return Entry(layers, model, k, jobs.Job(name, arguments, work))


def judge(
  member: pathlib.Path, num_samples: int, num_points: int, sizes: tuple[int, ...] = latents_of(1)
) -> Judged:
  """Estimates log p(x) of the test images and counts active latents, unless that was done before.

  Args:
    member: the directory of a run.
    num_samples: importance samples for each image.
    num_points: the number of test images; tables with another number are made again.
    sizes: the latents of each layer.
  """
  path = member / f"importance-{num_samples}.csv"
  if not (judged := _judged_before(member, path, num_points, sizes)):
    run = jobs.load_member(member)
    print(f"log p(x) by {num_samples} samples: {member.name}", flush=True)
    write_latents(member / "latents.csv", posterior_means(run))
    log_p = log_likelihoods(
      jax.random.key(0), run.model, run.params, run.pixels, num_samples=num_samples
    )
    rows = [dict(point=i, log_p=float(value)) for i, value in enumerate(log_p)]
    files.write_csv(path, ("point", "log_p"), rows)
    judged = _judged_before(member, path, num_points, sizes)
  return judged


def _judged_before(
  member: pathlib.Path, path: pathlib.Path, num_points: int, sizes: tuple[int, ...] = latents_of(1)
) -> Judged | None:
  """Reads earlier estimates; None if one of their tables is missing or was edited."""
  try:
    log_p = _read_column(path, ("point", "log_p"), num_points)
    latents = ("latent", "active", "variance_of_mean")
    active = _read_column(member / "latents.csv", latents, sum(sizes))
  except (OSError, ValueError, RunError):
    return None
  of_layers = np.split(active, np.cumsum(sizes)[:-1])
  return Judged(log_p, tuple(int(layer.sum()) for layer in of_layers))


def _read_column(path: pathlib.Path, names: Sequence[str], size: int) -> np.ndarray:
  """Reads the second of some columns from a table whose first column numbers its rows.

  Raises:
    ValueError: if the table has another number of rows or another order, or a cell is not a number.
    RunError, OSError: if it cannot be read.
  """
  rows = files.read_cells(path, names)
  if [row[names[0]] for row in rows] != [str(i) for i in range(size)]:
    raise ValueError(f"{path} does not have the rows 0 to {size - 1}")
  return np.array([float(row[names[1]]) for row in rows])


def posterior_means(run: LoadedRun) -> np.ndarray:
  """Returns E_q[z|x] of the test images, shape (N, J)."""

  def mean_of(key: Key, params: Params, x: Array) -> Array:
    return run.model.encoder.given(params.phi, x).mean

  source, reading = points(run.pixels, "test")
  return evaluate_in_blocks(mean_of, jax.random.key(0), run.params, source, **reading)


def write_latents(path: pathlib.Path, means: np.ndarray) -> None:
  """Writes the statistics of every latent."""
  columns = zip(means.var(axis=0), active_units(means), strict=True)
  rows = [
    dict(latent=j, variance_of_mean=float(variance), active=int(active))
    for j, (variance, active) in enumerate(columns)
  ]
  files.write_csv(path, ("latent", "variance_of_mean", "active"), rows)


def make_rows(
  config: IwaeTableConfig,
  figure: Figure,
  entries: Sequence[Entry],
  judged: Sequence[Sequence[Judged]],
) -> list[dict]:
  """Returns the table, averaged over seeds.

  A gain is over the first row with as many layers, and `over_one_layer` is over the row with one
  layer of the same model and k, both image by image.
  """
  nll = {
    entry[:3]: -np.mean([one.log_p for one in members], axis=0)
    for entry, members in zip(entries, judged, strict=True)
  }
  first = {entry.layers: entry[:3] for entry in reversed(entries)}
  rows = []
  for entry, members in zip(entries, judged, strict=True):
    place, one_layer = entry[:3], (1, entry.model, entry.k)
    row = dict(layers=entry.layers, model=entry.model, k=entry.k)
    row |= _with_error("nll", nll[place]) | _with_error(
      "gain", nll[first[entry.layers]] - nll[place]
    )
    if entry.layers > 1 and one_layer in nll:
      row |= _with_error("over_one_layer", nll[one_layer] - nll[place])
    of_layers = np.mean([one.num_active for one in members], axis=0)
    row |= dict(active="+".join(f"{number:g}" for number in of_layers))
    row |= published_numbers(config.dataset, place, first[entry.layers])
    if len(members) > 1:
      row |= dict(seed_sd=float(np.std([one.log_p.mean() for one in members], ddof=1)))
    rows.append(row | of_training(entry.job, figure))
  return rows


def _with_error(name: str, values: np.ndarray) -> dict[str, float]:
  """Returns the mean of a column over images, and its standard error."""
  mean = mean_and_standard_error(values)
  return {name: mean.value, f"{name}_se": mean.standard_error}


def published_numbers(dataset: str, place: Place, first: Place) -> dict:
  """Returns the published columns of a row; empty if its row is not published.

  Args:
    dataset: the data set.
    place: layers, model and k of the row.
    first: those of the row that gains are over.
  """
  find = lambda place: PUBLISHED.get((dataset, place[0]), {}).get(place[1:])
  if not (theirs := find(place)):
    return {}
  columns = dict(paper_nll=theirs[0], paper_active=theirs[1])
  others = {"paper_gain": find(first), "paper_over_one_layer": find((1, *place[1:]))}
  if place[0] == 1:
    del others["paper_over_one_layer"]
  return columns | {name: round(o[0] - theirs[0], 2) for name, o in others.items() if o}


def of_training(job: jobs.Job, figure: Figure) -> dict:
  """Returns the bounds of k samples at the end of training, averaged over seeds."""
  last = [jobs.last_row(member) for member in jobs.member_directories(job, figure)]
  means = {name: float(np.mean([r[name] for r in last])) for name in ("train_bound", "test_bound")}
  return means | dict(seconds=max(row["seconds"] for row in last))


def as_table(rows: Sequence[dict]) -> str:
  """Formats a row for each run, in nats; a gain is relative to the first row of as many layers."""
  several = len({row["layers"] for row in rows}) > 1
  title = (
    f"{'layers ' if several else ''}{'':6}{'k':>3} {'ours':>14} {'paper':>7} {'ours - paper':>13}"
  )
  title += f" {'gain':>14} {'paper':>7} {'active':>8} {'paper':>6}"
  title += f" {'over one layer':>15} {'paper':>7}" if several else ""
  lines, seen = [title], set()
  for row in rows:
    known, is_first = "paper_nll" in row, row["layers"] not in seen
    seen.add(row["layers"])
    ours = f"{row['nll']:.2f} ± {row['nll_se']:.2f}"
    gain = "" if is_first else f"{row['gain']:.2f} ± {row['gain_se']:.2f}"
    line = f"{row['layers']:<7}" if several else ""
    line += f"{row['model']:6}{row['k']:>3} {ours:>14}"
    if known:
      line += f" {row['paper_nll']:>7.2f} {row['nll'] - row['paper_nll']:>+13.2f}"
    else:
      line += 22 * " "
    line += f" {gain:>14} "
    line += f"{row['paper_gain']:>7.2f}" if known and gain else 7 * " "
    line += f" {row['active']:>8} {row.get('paper_active') or '':>6}"
    if "over_one_layer" in row:
      line += f" {row['over_one_layer']:>8.2f} ± {row['over_one_layer_se']:.2f}"
      line += f" {row['paper_over_one_layer']:>7.2f}" if "paper_over_one_layer" in row else ""
    lines.append(line.rstrip())
  return "\n".join(lines)
