"""Estimates the log-likelihood of a trained run, by any of the estimators of log p(x).

  python -m experiments.evaluate --workdir=runs/mnist
  python -m experiments.evaluate --workdir=runs/mnist --method=ais --num_points=100
  python -m experiments.evaluate --workdir=runs/mnist --method=bdmc --num_points=100

importance uses the encoder; K samples for each point. reciprocal is appendix D's, for few
latents; ais anneals from the prior to the posterior; bdmc anneals both ways, on data drawn
from the model itself, and so brackets its log-likelihood. The data, and the draw that
binarizes them, are those of the run.

Writes points.csv (a row for each point, as soon as it is known), latents.csv and
summary.json into WORKDIR/METHOD-SPLIT. Interrupted, the same command goes on where it was.
"""

import csv
import json
import math
import pathlib
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from aevb_jax import annealing, checkpoint, reciprocal
from aevb_jax.annealing import annealed_importance_sampling, bidirectional_monte_carlo
from aevb_jax.data import ImageData
from aevb_jax.families import kl_per_latent
from aevb_jax.latents import active_units
from aevb_jax.marginal import LogLikelihood, importance_sampling
from aevb_jax.minibatches import read_rows
from aevb_jax.model import simulate
from aevb_jax.preprocess import bits_per_dim
from aevb_jax.reciprocal import reciprocal_importance_sampling
from aevb_jax.train import Mean, evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Array, Key, Model, Params, UnsupportedError
from experiments import command, data_options, learners, options, rundir
from experiments.command import UsageError
from experiments.data_options import Pixels

FLAGS = flags.FLAGS

FITS = {
  "diagonal_gaussian": reciprocal.fit_diagonal_gaussian,
  "gaussian": reciprocal.fit_gaussian,
  "kernel_density": reciprocal.fit_kernel_density,
}
METHODS = ("importance", "reciprocal", "ais", "bdmc")

flags.DEFINE_string("workdir", None, "Directory of a run of experiments.train.")
flags.DEFINE_enum("method", "importance", METHODS, "How log p(x) is estimated.")
flags.DEFINE_enum("split", "test", ["test", "train"], "The points; bdmc draws its own.")
flags.DEFINE_integer(
  "num_points", None, "The first so many points; 0 for all. Default: 1000, or all.", lower_bound=0
)
flags.DEFINE_integer("importance_samples", 5000, "importance: K for each point.", lower_bound=1)
flags.DEFINE_integer(
  "temperatures",
  500,
  "ais, bdmc: T, distributions between the start and the posterior.",
  lower_bound=1,
)
flags.DEFINE_integer(
  "leapfrogs",
  None,
  "Leapfrog steps in a transition of HMC. Default: 10, of reciprocal the paper's 4.",
  lower_bound=1,
)
flags.DEFINE_integer("chains", 32, "ais, bdmc, reciprocal: chains for each point.", lower_bound=2)
flags.DEFINE_enum(
  "start",
  "prior",
  ["prior", "encoder"],
  "ais, bdmc, reciprocal: where chains start. From the encoder less work is enough, and what "
  "it misses may stay missed.",
)
flags.DEFINE_enum("fit", "gaussian", list(FITS), "reciprocal: the density that is fitted.")
flags.DEFINE_integer(
  "posterior_samples",
  100,
  "reciprocal: draws of each chain to fit to, and as many to estimate from.",
  lower_bound=4,
)
flags.DEFINE_integer(
  "warmup",
  100,
  "reciprocal: transitions of each chain to find the posterior and the step size.",
  lower_bound=1,
)

FLAGS_OF = {
  "importance": ("importance_samples",),
  "reciprocal": ("fit", "posterior_samples", "chains", "leapfrogs", "warmup", "start"),
  "ais": ("temperatures", "leapfrogs", "chains", "start"),
  "bdmc": ("temperatures", "leapfrogs", "chains", "start"),
}
AT_ONCE = {"importance": 20, "reciprocal": 20, "ais": 10, "bdmc": 10}  # points in memory
BLOCK = 20  # points between two looks from the host
MAX_PARETO_K, MAX_R_HAT = 0.7, 1.1  # beyond which an estimate is not to be trusted

SIDES = {"log_p": "", "lower": ", from below", "upper": ", from above"}

# (key, params, x) -> what is known of one point; bdmc has a lower and an upper estimate.
PointEstimator = Callable[[Key, Params, Array], dict[str, LogLikelihood]]


class Run(NamedTuple):
  """A run that has been trained."""

  workdir: pathlib.Path
  model: Model
  params: Params
  images: ImageData
  pixels: Pixels


def main() -> None:
  run = load_run()
  estimate = make_estimator(run.model)
  source = run.images.train if FLAGS.split == "train" else run.images.test
  num_points = min(1000, len(source)) if FLAGS.num_points is None else FLAGS.num_points
  num_points = num_points or len(source)
  if FLAGS.method != "bdmc" and num_points > len(source):
    raise UsageError("num_points", f"takes at most the {len(source)} {FLAGS.split} points")
  check_estimator(estimate, run)
  kind = "simulated" if FLAGS.method == "bdmc" else FLAGS.split
  directory = open_directory(run.workdir / f"{FLAGS.method}-{kind}", run.params)
  print(f"{data_options.describe_pixels()}: {num_points} {kind} points by {describe_method()}")
  rows = estimate_points(directory / "points.csv", estimate, run, source, num_points)
  summary, lines = summarize(rows, run.images.train.shape[1])
  lines += compare(directory, kind, rows)
  if has_encoder(run.params):
    latents, line = describe_latents(run, source)
    rundir.write_csv(directory / "latents.csv", list(latents[0]), latents)
    lines.append(line)
  how = {name: FLAGS[name].value for name in ("method", *FLAGS_OF[FLAGS.method])}
  rundir.write_summary(directory / "summary.json", summary | how | dict(points=kind))
  print("\n".join(lines))


def load_run() -> Run:
  """The run in --workdir: its flags, its data, its model and the parameters it ended with.

  Raises:
    UsageError: if there is none.
  """
  if FLAGS.workdir is None:
    raise UsageError("workdir", "names the directory of a trained run")
  workdir = pathlib.Path(FLAGS.workdir).expanduser()
  checkpoints = workdir / rundir.CHECKPOINTS
  if not (workdir / "flags.txt").exists():
    raise UsageError("workdir", "holds no run of experiments.train (there is no flags.txt)")
  rundir.load_flags(workdir)
  learners.settle()
  images = options.load_images()
  model = options.make_model(images)
  algorithm = learners.LEARNERS[FLAGS.algorithm](model, images).algorithm
  like = jax.eval_shape(algorithm.init, jax.random.key(0))
  try:
    state = checkpoint.restore(checkpoints, like)
  except checkpoint.CheckpointError as error:
    raise UsageError("workdir", f"has no parameters to evaluate: {error}") from error
  return Run(workdir, model, state.params, images, data_options.make_pixels(images))


def has_encoder(params: Params) -> bool:
  return bool(jax.tree.leaves(params.phi))


def make_estimator(model: Model) -> PointEstimator:
  """What --method and its flags stand for."""
  chains = dict(num_chains=FLAGS.chains, num_leapfrogs=FLAGS.leapfrogs or default_leapfrogs())

  def start(params: Params, x: Array):
    encoder = FLAGS.start == "encoder"
    return model.encoder.given(params.phi, x) if encoder else model.prior(params.theta)

  def importance(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    num_samples = FLAGS.importance_samples
    return {"log_p": importance_sampling(key, model, params, x, num_samples=num_samples)}

  def by_reciprocal(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    how = dict(num_samples=FLAGS.posterior_samples, num_warmup=FLAGS.warmup, fit=FITS[FLAGS.fit])
    how |= chains | dict(start=start(params, x))
    return {"log_p": reciprocal_importance_sampling(key, model, params, x, **how)}

  def ais(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    how = chains | dict(num_temperatures=FLAGS.temperatures, start=start(params, x))
    return {"log_p": annealed_importance_sampling(key, model, params, x, **how)}

  def bdmc(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    # Another x, from the model, takes the place of this one.
    simulate_key, key = jax.random.split(key)
    z, x = simulate(simulate_key, model, params.theta)
    how = chains | dict(num_temperatures=FLAGS.temperatures, start=start(params, x))
    return bidirectional_monte_carlo(key, model, params, x, z, **how)._asdict()

  return dict(importance=importance, reciprocal=by_reciprocal, ais=ais, bdmc=bdmc)[FLAGS.method]


def default_leapfrogs() -> int:
  return 4 if FLAGS.method == "reciprocal" else 10


def check_estimator(estimate: PointEstimator, run: Run) -> None:
  """Runs through the estimator once without computing anything.

  Raises:
    UsageError: if the model does not allow it, or its flags do not.
  """
  if not has_encoder(run.params):
    if FLAGS.method == "importance":
      raise UsageError("method", f"takes an encoder, which --algorithm={FLAGS.algorithm} has not")
    if FLAGS.start == "encoder":
      raise UsageError("start", f"takes an encoder, which --algorithm={FLAGS.algorithm} has not")
  x = jax.ShapeDtypeStruct((run.images.train.shape[1],), np.float32)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", UserWarning)
    try:
      jax.eval_shape(estimate, jax.random.key(0), run.params, x)
    except (UnsupportedError, ValueError) as error:
      raise UsageError("method", str(error)) from error
  for warning in caught:
    if warning.category is UserWarning:
      print(f"warning: {warning.message}", file=sys.stderr)


def describe_method() -> str:
  given = {name: FLAGS[name].value for name in FLAGS_OF[FLAGS.method]}
  if "leapfrogs" in given:
    given["leapfrogs"] = FLAGS.leapfrogs or default_leapfrogs()
  return f"{FLAGS.method} ({', '.join(f'{name} {value}' for name, value in given.items())})"


def open_directory(directory: pathlib.Path, params: Params) -> pathlib.Path:
  """Makes the directory, or checks that what it holds was estimated in the same way.

  Raises:
    UsageError: if it was not.
  """
  checksum = 0
  for leaf in jax.tree.leaves(params):
    checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
  settings = dict(
    how=describe_method(), seed=FLAGS.seed, binarization=FLAGS.binarization, parameters=checksum
  )
  file = directory / "settings.json"
  if file.exists():
    there = read_settings(directory)
    differences = [
      f"{name} is {there.get(name)} there and {value} here"
      for name, value in settings.items()
      if there.get(name) != value
    ]
    if differences:
      raise UsageError(
        "workdir",
        f"has an evaluation with other settings ({'; '.join(differences)}); "
        f"move or delete {directory}",
      )
    return directory
  try:
    directory.mkdir(exist_ok=True)
    rundir.write_text(file, json.dumps(settings, indent=2) + "\n")
  except OSError as error:
    raise UsageError("workdir", f"cannot be used ({error.strerror}: {error.filename})") from error
  return directory


def read_settings(directory: pathlib.Path) -> dict:
  file = directory / "settings.json"
  return json.loads(file.read_text()) if file.exists() else {}


def estimate_points(
  path: pathlib.Path, estimate: PointEstimator, run: Run, source, num_points: int
) -> list[dict]:
  """The first points' rows: those already in `path`, and the rest, each added to it in turn."""
  rows = read_points(path)[:num_points]
  drawn = run.pixels.train_draw if FLAGS.split == "train" else run.pixels.test_draw
  how = dict(preprocess=run.pixels.preprocess, static_key=drawn, batch_size=AT_ONCE[FLAGS.method])
  key = jax.random.fold_in(jax.random.key(FLAGS.seed), 1)
  simulated = FLAGS.method == "bdmc"
  try:
    with tqdm(total=num_points, initial=len(rows), unit=" points", disable=None) as bar:
      for first in range(len(rows), num_points, BLOCK):
        index = np.arange(first, min(first + BLOCK, num_points))
        block = read_rows(source, index % len(source) if simulated else index)
        estimates = evaluate(estimate, key, run.params, block, first=first, **how)
        new = list(to_rows(jax.device_get(estimates), first))
        append_points(path, new, first)
        rows += new
        bar.update(len(new))
  except KeyboardInterrupt:
    command.fail(f"interrupted; the same command goes on from {path}", 130)
  return rows


def to_rows(estimates: dict[str, LogLikelihood], first: int) -> Iterator[dict]:
  """Flat rows of numbers, a row for each point."""
  columns = {}
  for name, (value, standard_error, diagnostics) in estimates.items():
    prefix = "" if name == "log_p" else f"{name}_"
    columns |= {name: value, f"{name}_se": standard_error}
    columns |= {f"{prefix}{key}": diagnostic for key, diagnostic in diagnostics.items()}
  num_points = len(next(iter(columns.values())))
  for i in range(num_points):
    yield {"point": first + i} | {name: float(values[i]) for name, values in columns.items()}


def read_points(path: pathlib.Path) -> list[dict]:
  """The whole rows of points.csv, which may end in a part of one."""
  if not path.exists():
    return []
  with open(path, newline="") as file:
    lines = file.read().splitlines(keepends=True)
  whole = [line for line in lines if line.endswith("\n")]
  return [
    {name: int(v) if name == "point" else float(v) for name, v in row.items()}
    for row in csv.DictReader(whole)
  ]


def append_points(path: pathlib.Path, rows: list[dict], first: int) -> None:
  """Puts rows behind the first `first` ones of points.csv, on disk before it returns."""
  kept = path.read_text().splitlines(keepends=True)[: first + 1] if first else []
  header = [] if first else [",".join(rows[0]) + "\n"]
  lines = [",".join(f"{value:.9g}" for value in row.values()) + "\n" for row in rows]
  rundir.write_text(path, "".join(kept + header + lines))


def summarize(rows: list[dict], data_dim: int) -> tuple[dict, list[str]]:
  """summary.json, and the lines that a user looks for."""
  columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
  summary, lines = dict(num_points=len(rows)), []
  sides = [name for name in ("log_p", "lower", "upper") if name in columns]
  means = {}
  for side in sides:
    means[side], counted, line = average(side, columns[side], columns[f"{side}_se"])
    summary |= counted
    lines.append(line)
  if "lower" in means:
    lines.append(annealing.describe_sandwich(*(monte_carlo(columns, side) for side in sides)))
  for side in sides:
    if (bits := to_bits(means[side].value, data_dim)) is not None:
      summary[f"{side}_bits_per_dim"] = bits
      lines.append(f"{'bits per dimension':22}{bits:.4f}{SIDES[side]}")
  diagnosed, more = diagnose(columns)
  return summary | diagnosed, lines + more


def average(side: str, values: np.ndarray, errors: np.ndarray) -> tuple[Mean, dict, str]:
  """The mean over points; of values that are not finite the number, and no mean at all."""
  name = f"log p(x){SIDES[side]}"
  finite = np.isfinite(values)
  mean = mean_and_standard_error(values)
  error = monte_carlo_error(errors)
  summary = {
    side: mean.value,
    f"{side}_se": mean.standard_error,
    f"{side}_monte_carlo_se": error,
    f"{side}_num_not_finite": int((~finite).sum()),
  }
  line = f"{name:22}{mean.value:.2f} ± {mean.standard_error:.2f} nats over {len(values)} "
  line += f"points, of it ± {error:.3f} from sampling"
  if not finite.all():
    where = ", ".join(map(str, np.flatnonzero(~finite)[:5]))
    more = ", …" if (~finite).sum() > 5 else ""
    line = f"{name:22}not finite at {(~finite).sum()} of {len(values)} points ({where}{more}), "
    line += "so there is no mean"
    if finite.any():
      rest = mean_and_standard_error(values[finite])
      line += f"; that of the others alone is {rest.value:.2f} ± {rest.standard_error:.2f}"
  return mean, summary, line


def monte_carlo_error(errors: np.ndarray) -> float:
  """The standard error, from sampling alone, of a mean over independently estimated points."""
  return float(np.sqrt(np.sum(errors**2)) / len(errors))


def monte_carlo(columns: dict[str, np.ndarray], side: str) -> tuple[float, float]:
  return float(columns[side].mean()), monte_carlo_error(columns[f"{side}_se"])


def to_bits(log_p: float, data_dim: int) -> float | None:
  """Bits per dimension of a probability of discrete data; None of a density or of neither."""
  if FLAGS.dequantization:
    return bits_per_dim(log_p, data_dim)
  if FLAGS.binarization != "none" or FLAGS.dataset == "binarized_mnist":
    return -log_p / (data_dim * math.log(2))
  return None


def diagnose(columns: dict[str, np.ndarray]) -> tuple[dict, list[str]]:
  """The diagnostics over all points, and a warning for each that makes estimates doubtful."""
  summary, lines = {}, []
  for name, values in columns.items():
    kind = name.removeprefix("lower_").removeprefix("upper_")
    side = SIDES.get(name.removesuffix(f"_{kind}"), "")
    if kind == "ess":
      summary[f"median_{name}"] = float(np.median(values))
      lines.append(f"{'effective samples':22}{np.median(values):.1f} at the median point{side}")
    elif kind == "acceptance":
      summary[name] = float(values.mean())
      lines.append(f"{'HMC acceptance':22}{values.mean():.3f}{side}")
    elif kind == "num_divergent" and (total := int(values.sum())):
      summary[name] = total
      points = (values > 0).sum()
      lines.append(f"warning: {total} transitions diverged, at {points} points")
    elif kind == "pareto_k":
      summary[f"share_{name}_above_{MAX_PARETO_K}"] = float((values > MAX_PARETO_K).mean())
      if doubtful := int((values > MAX_PARETO_K).sum()):
        lines.append(
          f"warning: Pareto k̂ is above {MAX_PARETO_K} at {doubtful} of {len(values)} points: "
          "few samples carry their weight, and their errors are too small"
        )
    elif kind == "r_hat":
      summary[f"share_{name}_above_{MAX_R_HAT}"] = float((values > MAX_R_HAT).mean())
      if doubtful := int((values > MAX_R_HAT).sum()):
        lines.append(
          f"warning: R̂ is above {MAX_R_HAT} at {doubtful} of {len(values)} points: "
          "their chains disagree about the posterior; a longer --warmup may help"
        )
  return summary, lines


def compare(directory: pathlib.Path, kind: str, rows: list[dict]) -> list[str]:
  """Against what other methods said of the same points of the same run."""
  mine, lines = read_settings(directory), []
  for other in sorted(directory.parent.glob(f"*-{kind}")):
    theirs = read_settings(other)
    same = all(mine[name] == theirs.get(name) for name in ("parameters", "binarization"))
    pairs = list(zip(rows, read_points(other / "points.csv")))
    if other == directory or not same or not pairs:
      continue
    values, errors = (
      np.array([[row[name] for row in pair] for pair in pairs]) for name in ("log_p", "log_p_se")
    )
    finite = np.isfinite(values).all(axis=1)
    if finite.sum() < 2:
      continue
    values, errors = values[finite], errors[finite]
    mean = mean_and_standard_error(values[:, 0] - values[:, 1])
    sampling = monte_carlo_error(np.hypot(*errors.T))
    name = f"minus {other.name.removesuffix(f'-{kind}')}"
    line = f"{name:22}{mean.value:+.2f} ± {mean.standard_error:.2f} nats, {len(values)} points"
    if abs(mean.value) > 3 * sampling:
      line += (
        f"; sampling explains ± {sampling:.2f}. importance and ais err downwards and reciprocal "
        "upwards, the more the fewer samples carry the weight"
      )
    lines.append(line)
  return lines


def describe_latents(run: Run, source) -> tuple[list[dict], str]:
  """How much of its information about x each latent holds, over the whole split."""

  def of_point(key: Key, params: Params, x: Array) -> dict[str, Array]:
    q = run.model.encoder.given(params.phi, x)
    return dict(mean=q.mean, kl=kl_per_latent(q, run.model.prior(params.theta)))

  drawn = run.pixels.train_draw if FLAGS.split == "train" else run.pixels.test_draw
  values = evaluate_in_blocks(
    of_point,
    jax.random.key(0),
    run.params,
    source,
    preprocess=run.pixels.preprocess,
    static_key=drawn,
  )
  active, variance = active_units(values["mean"]), values["mean"].var(axis=0)
  kl = values["kl"].mean(axis=0)
  rows = [
    dict(latent=j, kl=float(kl[j]), variance_of_mean=float(variance[j]), active=int(active[j]))
    for j in range(len(kl))
  ]
  total = f"KL(q ‖ p) {kl.sum():.2f} nats, from {kl.min():.2f} to {kl.max():.2f} a latent"
  return rows, f"{'active latents':22}{active.sum()} of {len(kl)}; {total}"


if __name__ == "__main__":
  command.run(main)
