"""Table 1 of Burda et al.: the run of each row, and the columns of the table."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from aevb_jax.errors import ConfigError
from aevb_jax.models.own import layers_of
from aevb_jax.runs.config import GROWS
from aevb_jax.training.evaluation import Mean
from experiments.flags.presets import PRESETS
from experiments.studies import jobs
from experiments.studies.iwae_table.judging import Result
from experiments.studies.iwae_table.stages import StageEnd, extrapolate, stage_ends, with_error
from experiments.studies.kept import RUN

STAGES = [3**i for i in range(8)]  # epochs
EVALS_PER_DECADE = 10  # so that the first four stages end with a row: 1, 4, 13 and 40 epochs
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
           "over_one_layer_se", "later_gain", "later_gain_se", "extrapolated", "active",
           "paper_nll", "paper_gain", "paper_over_one_layer", "paper_active", "train_bound",
           "test_bound", "seed_sd", "seconds", RUN)  # fmt: skip
NUMBERS = ("layers", "k", "nll", "train_bound", "test_bound", "seconds")


@dataclasses.dataclass(frozen=True)
class IwaeTableConfig:
  """The rows of the table, and the length of their training."""

  dataset: str = "mnist:60k"
  samples: tuple[int, ...] = dataclasses.field(default=(1, 5, 50), metadata=GROWS)
  stages: int = len(STAGES)
  # Numbers of stochastic layers.
  layers: tuple[int, ...] = dataclasses.field(default=(1,), metadata=GROWS)
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
    f"--evals_per_decade={EVALS_PER_DECADE}",
    *(["--keep_history"] if len(config.seeds) == 1 else []),
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


def make_rows(
  config: IwaeTableConfig, entries: Sequence[Entry], results: Sequence[Result]
) -> list[dict]:
  """Returns the table, averaged over seeds.

  A gain is over the first row with as many layers, and `over_one_layer` is over the row with one
  layer of the same model and k, both image by image. `later_gain` is what the stages that did not
  run are extrapolated to gain, and `extrapolated` what `nll` would then be.
  """
  nll = {entry[:3]: -one.log_p for entry, one in zip(entries, results, strict=True)}
  first = {entry.layers: entry[:3] for entry in reversed(entries)}
  rows = []
  for entry, result in zip(entries, results, strict=True):
    place, one_layer = entry[:3], (1, entry.model, entry.k)
    row = dict(layers=entry.layers, model=entry.model, k=entry.k)
    row |= with_error("nll", nll[place])
    row |= with_error("gain", nll[first[entry.layers]] - nll[place])
    if entry.layers > 1 and one_layer in nll:
      row |= with_error("over_one_layer", nll[one_layer] - nll[place])
    if later := later_gain(config, result):
      row |= dict(later_gain=later.value, later_gain_se=later.standard_error)
      row |= dict(extrapolated=row["nll"] - later.value)
    row |= published_numbers(config.dataset, place, first[entry.layers])
    rows.append(row | result.about | {RUN: entry.job.name})
  return rows


def ends_of(config: IwaeTableConfig, num_train: int) -> list[StageEnd]:
  """Returns the ends of stages at which runs keep their parameters; none for several seeds."""
  if len(config.seeds) > 1:  # a sweep has no history
    return []
  batch_size = PRESETS[PRESET_OF[1]]["batch_size"]  # as with two layers
  return stage_ends(STAGES[: config.stages], num_train // batch_size, EVALS_PER_DECADE)


def stage_rows(entries: Sequence[Entry], results: Sequence[Result]) -> list[dict]:
  """Returns a row for each end of a stage of each row of the table."""
  return [
    dict(layers=entry.layers, model=entry.model, k=entry.k) | stage | {RUN: entry.job.name}
    for entry, result in zip(entries, results, strict=True)
    for stage in result.stages
  ]


def later_gain(config: IwaeTableConfig, result: Result) -> Mean | None:
  """Extrapolates what later stages gain; None if there are none, or too few are known."""
  num_later = len(STAGES) - config.stages
  if not num_later or len(result.stages) < config.stages:
    return None
  return extrapolate([stage["gain"] for stage in result.stages[1:]], num_later)


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
