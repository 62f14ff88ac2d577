"""The evaluation of a trained run: log p(x) of its points, and the information in its latents."""

import dataclasses
import pathlib
import sys
import warnings
import zlib
from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

from aevb_jax.data.minibatches import Source, read_rows
from aevb_jax.errors import ConfigError, UnsupportedError
from aevb_jax.families.kl import kl_divergence, kl_per_latent
from aevb_jax.inference import reciprocal
from aevb_jax.inference.annealing import annealed_importance_sampling, bidirectional_monte_carlo
from aevb_jax.inference.diagnostics import active_units
from aevb_jax.inference.marginal import LogLikelihood, importance_sampling
from aevb_jax.inference.reciprocal import reciprocal_importance_sampling
from aevb_jax.models.conditions import with_labels
from aevb_jax.models.joint import simulate
from aevb_jax.runs import LoadedRun, directory, files
from aevb_jax.runs.pixels import (
  Points,
  about_images,
  condition_dim,
  density_note,
  of_points,
  pixels_in_words,
  points,
)
from aevb_jax.training.evaluation import evaluate, evaluate_in_blocks
from aevb_jax.types import Array, Distribution, Key, Model, Params
from experiments.launch import command
from experiments.studies import reports
from experiments.studies.point_files import (
  POINTS,
  add_points,
  begin_points,
  columns_of,
  compare,
  open_directory,
  others_of,
  to_rows,
)

FITS = {
  "diagonal_gaussian": reciprocal.fit_diagonal_gaussian,
  "gaussian": reciprocal.fit_gaussian,
  "kernel_density": reciprocal.fit_kernel_density,
}
METHODS = reports.METHODS
ANNEALING = ("temperatures", "leapfrogs", "chains", "start")
FIELDS_OF = {
  "importance": ("split", "importance_samples"),
  "reciprocal": ("split", "fit", "posterior_samples", "warmup", *ANNEALING),
  "ais": ("split", *ANNEALING),
  "bdmc": ANNEALING,
}
DEFAULTS = {"reciprocal": dict(temperatures=100, leapfrogs=4)}
OTHER_DEFAULTS = dict(temperatures=500, leapfrogs=10)
AT_ONCE = {"importance": 20, "reciprocal": 20, "ais": 10, "bdmc": 10}  # points in memory

# (key, params, x) -> the estimate for one point; bdmc has a lower and an upper estimate.
PointEstimator = Callable[[Key, Params, Array], dict[str, LogLikelihood]]


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
  """The estimator of log p(x), and the points that it is evaluated at."""

  method: str = "importance"
  parameters: str = "last"
  split: str = "test"
  num_points: int | None = None  # the first of the split; 0 for all, None for at most 1000
  importance_samples: int = 5000
  temperatures: int | None = None
  leapfrogs: int | None = None
  chains: int = 32
  start: str = "prior"
  fit: str = "gaussian"
  posterior_samples: int = 100
  warmup: int = 100
  seed: int | None = None  # None for the seed of the run


def resolve(config: EvaluateConfig) -> EvaluateConfig:
  """Fills in the numbers that a method has by default."""
  defaults = DEFAULTS.get(config.method, OTHER_DEFAULTS)
  missing = {name: value for name, value in defaults.items() if getattr(config, name) is None}
  return dataclasses.replace(config, **missing)


def settings_of(config: EvaluateConfig) -> dict:
  """Returns the fields that the method uses."""
  return {name: getattr(config, name) for name in FIELDS_OF[config.method]}


def method_in_words(config: EvaluateConfig) -> str:
  """Describes a method and its numbers."""
  settings = {name: value for name, value in settings_of(config).items() if name != "split"}
  return f"{config.method} ({', '.join(f'{name} {value}' for name, value in settings.items())})"


def evaluate_run(run: LoadedRun, config: EvaluateConfig) -> list[str]:
  """Estimates log p(x) of the points of a run, and writes the estimates.

  Returns:
    The lines to print.

  Raises:
    ConfigError: if the model does not allow the method, or has too few points.
    RunError: if the directory of the run has an evaluation with other settings, or one that
      cannot be read.
  """
  estimate = make_estimator(run, config)
  source, reading = points_of(run, config.split)
  num_points = min(1000, len(source)) if config.num_points is None else config.num_points
  num_points = num_points or len(source)
  if config.method != "bdmc" and num_points > len(source):
    message = f"takes at most the {len(source)} {config.split} points"
    raise ConfigError("num_points", num_points, message)
  columns = check_estimator(estimate, run, config)
  kind = "simulated" if config.method == "bdmc" else config.split
  of_best = "-best" if config.parameters == "best" else ""
  settings = settings_of_points(run, config)
  place = open_directory(run.directory, f"{config.method}-{kind}{of_best}", settings)
  others_of(place, f"{kind}{of_best}")  # fails now, not after hours of estimates, if one is damaged
  if not (run.directory / directory.SUMMARY).exists():
    print(f"warning: the run in {run.directory} is not finished", file=sys.stderr)
  words = f"{num_points} {kind} points by {method_in_words(config)}"
  print(f"{pixels_in_words(run.config.data)}: {words}")
  begun = begin_points(place / POINTS, columns)
  rows = estimate_points(place / POINTS, estimate, run, config, num_points, rows=begun)
  summary, lines = reports.summarize(rows, run.data.train.shape[1], run.config)
  lines += compare(place, f"{kind}{of_best}", rows, config.method)
  if has_encoder(run.params) and kind != "simulated":
    latents, line = latents_of(run, source, reading, config.split)
    files.write_csv(place / "latents.csv", list(latents[0]), latents)
    lines.append(line)
  if note := density_note(run.config):
    lines.append(f"{'note':22}{note}; do not compare with others")
  about = dict(method=config.method, parameters=config.parameters, points=kind)
  about |= settings_of(config) | dict(note=note) | about_images(run.data, run.config.data)
  about |= files.provenance(files.git_commit()) | dict(seed=config.seed)
  files.write_summary(place / directory.SUMMARY, summary | about)
  return lines


def has_encoder(params: Params) -> bool:
  """Reports whether there is a q(z|x)."""
  return bool(jax.tree.leaves(params.phi))


def points_of(run: LoadedRun, split: str) -> Points:
  """Returns the points of a split; those of train are read in blocks, from the host."""
  images = with_labels(run.data) if run.config.model.condition else run.data
  return points(run.pixels._replace(train=images.train), split)


def make_estimator(run: LoadedRun, config: EvaluateConfig) -> PointEstimator:
  """Makes the estimator that a configuration names, for the points x or (x, c) of a run."""
  of_x = lambda key, model, params, x: of_model(model, config)(key, params, x)
  estimate = of_points(of_x, run.config, run.data)
  return lambda key, params, x: estimate(key, run.model, params, x)


def of_model(model: Model, config: EvaluateConfig) -> PointEstimator:
  """Makes the estimator of log p(x) that a configuration names."""
  annealing = dict(
    num_temperatures=config.temperatures,
    num_leapfrogs=config.leapfrogs,
    num_chains=config.chains,
  )

  def start(params: Params, x: Array) -> Distribution | None:
    return model.encoder.given(params.phi, x) if config.start == "encoder" else None

  def importance(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    num_samples = config.importance_samples
    return {"log_p": importance_sampling(key, model, params, x, num_samples=num_samples)}

  def by_reciprocal(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    chains = annealing | dict(start=start(params, x), num_warmup=config.warmup)
    fitted = dict(num_samples=config.posterior_samples, fit=FITS[config.fit])
    return {"log_p": reciprocal_importance_sampling(key, model, params, x, **chains, **fitted)}

  def ais(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    chains = annealing | dict(start=start(params, x))
    return {"log_p": annealed_importance_sampling(key, model, params, x, **chains)}

  def bdmc(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    # An x drawn from the model replaces this one.
    simulate_key, key = jax.random.split(key)
    z, x = simulate(simulate_key, model, params)
    chains = annealing | dict(start=start(params, x))
    return bidirectional_monte_carlo(key, model, params, x, z, **chains)._asdict()

  return dict(importance=importance, reciprocal=by_reciprocal, ais=ais, bdmc=bdmc)[config.method]


def check_estimator(
  estimate: PointEstimator, run: LoadedRun, config: EvaluateConfig
) -> tuple[str, ...]:
  """Traces the estimator once, without computing anything, to see whether the model allows it.

  Returns:
    The columns that points.csv will have.

  Raises:
    ConfigError: if the model or the flags do not allow the estimator.
  """
  if not has_encoder(run.params):
    message = f"takes an encoder, and --algorithm={run.config.objective.algorithm} has none"
    if config.method == "importance":
      raise ConfigError("method", config.method, message)
    if config.start == "encoder":
      raise ConfigError("start", config.start, message)
  size = run.data.train.shape[1] + condition_dim(run.data, run.config)
  x = jax.ShapeDtypeStruct((size,), np.float32)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", UserWarning)
    try:
      estimates = jax.eval_shape(estimate, jax.random.key(0), run.params, x)
    except (UnsupportedError, ValueError) as error:
      raise ConfigError("method", config.method, str(error)) from error
  for warning in caught:
    if warning.category is UserWarning:
      print(f"warning: {warning.message}", file=sys.stderr)
  return "point", *columns_of(estimates)


def settings_of_points(run: LoadedRun, config: EvaluateConfig) -> dict:
  """Returns the settings that the estimates depend on."""
  checksum = 0
  for leaf in jax.tree.leaves(run.params):
    checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
  return dict(
    method=config.method,
    how=method_in_words(config),
    seed=config.seed,
    binarization=run.config.data.binarization,
    parameters=checksum,
  )


def estimate_points(
  path: pathlib.Path,
  estimate: PointEstimator,
  run: LoadedRun,
  config: EvaluateConfig,
  num_points: int,
  *,
  rows: list[dict],
) -> list[dict]:
  """Returns the rows of the first points; estimates the rows that `path` lacks, and adds them."""
  rows, at_once = rows[:num_points], AT_ONCE[config.method]
  source, reading = points_of(run, config.split)
  key = jax.random.fold_in(jax.random.key(config.seed), 2**20)  # not a key of training
  try:
    with (
      tqdm(total=num_points, initial=len(rows), unit=" points", disable=None) as bar,
      warnings.catch_warnings(),
    ):
      warnings.simplefilter("ignore", UserWarning)  # printed already, by check_estimator
      for first in range(len(rows), num_points, at_once):
        index = np.arange(first, min(first + at_once, num_points))
        block = read_rows(source, index % len(source))  # bdmc may draw more than the split has
        batches = dict(first=first, batch_size=at_once)
        # Every block gets the same key, from which each point has a key of its own.
        drawn = jax.random.clone(key)
        estimates = evaluate(estimate, drawn, run.params, block, **batches, **reading)
        new = list(to_rows(jax.device_get(estimates), first))
        add_points(path, new)
        rows += new
        bar.update(len(new))
  except KeyboardInterrupt:
    command.fail(f"interrupted; the same command resumes from {path}", 130)
  return rows


def latents_of(run: LoadedRun, source: Source, reading: dict, split: str) -> tuple[list[dict], str]:
  """Measures how much information about x each latent holds, over the whole split."""

  def of_x(key: Key, model: Model, params: Params, x: Array) -> dict[str, Array]:
    q = model.encoder.given(params.phi, x)
    return dict(mean=q.mean) | divergence(key, q, model.prior(params))

  of_run = of_points(of_x, run.config, run.data)
  of_point = lambda key, params, x: of_run(key, run.model, params, x)
  values = evaluate_in_blocks(of_point, jax.random.key(0), run.params, source, **reading)
  variance, active = values["mean"].var(axis=0), active_units(values["mean"])
  known = bool(np.isfinite(variance).all())  # False for a q without a mean
  kl = next(values[name].mean(axis=0) for name in values if name != "mean")
  kls = kl.tolist() if "kl_per_latent" in values else [None] * len(active)
  rows = [
    dict(latent=j, kl=kls[j], variance_of_mean=float(variance[j]))
    | dict(active=int(active[j]) if known else None)
    for j in range(len(active))
  ]
  line = f"{active.sum()} of {len(active)}" if known else "not known, as q has no mean"
  line += f"; KL(q ‖ p) {kl.sum():.2f} nats"
  if "kl_per_latent" in values:
    line += f", from {kl.min():.2f} to {kl.max():.2f} a latent"
  if "kl_of_a_draw" in values:
    line += " by one draw a point"
  return rows, f"{'active latents':22}{line}, over all {len(source)} {split} points"


def divergence(key: Key, q: Distribution, p: Distribution) -> dict[str, Array]:
  """Returns KL(q ‖ p) as exactly as possible: for each latent, as one number, or from one draw."""
  try:
    return dict(kl_per_latent=kl_per_latent(q, p))
  except UnsupportedError:
    pass
  try:
    return dict(kl=kl_divergence(q, p))
  except UnsupportedError:
    z, log_q = q.sample_with_log_prob(key)
    return dict(kl_of_a_draw=log_q - p.log_prob(z))
