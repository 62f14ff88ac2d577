"""Estimates the log-likelihood of a trained run, by any of the estimators of log p(x).

  python -m experiments.evaluate --workdir=runs/mnist
  python -m experiments.evaluate --workdir=runs/mnist --method=ais --num_points=100
  python -m experiments.evaluate --workdir=runs/mnist --method=bdmc --num_points=100

importance uses the encoder; K samples for each point. reciprocal is appendix D's, for few
latents; ais anneals from the prior to the posterior; bdmc anneals both ways, on data drawn
from the model itself, and so brackets its log-likelihood. The data, and the draw that
binarizes them, are those of the run.

Writes points.csv (a row for each point, as soon as it is known), latents.csv and
summary.json into WORKDIR/METHOD-SPLIT, for --parameters=best into METHOD-SPLIT-best.
Interrupted, the same command goes on where it was.
"""

import contextlib
import csv
import json
import pathlib
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from aevb_jax.data.minibatches import read_rows
from aevb_jax.errors import UnsupportedError
from aevb_jax.families.kl import kl_divergence, kl_per_latent
from aevb_jax.inference import reciprocal
from aevb_jax.inference.annealing import annealed_importance_sampling, bidirectional_monte_carlo
from aevb_jax.inference.diagnostics import active_units
from aevb_jax.inference.marginal import LogLikelihood, importance_sampling
from aevb_jax.inference.reciprocal import reciprocal_importance_sampling
from aevb_jax.models.joint import simulate
from aevb_jax.training.evaluation import evaluate, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Array, Distribution, Key, Model, Params
from experiments.flags import data, training
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.runs import directory as rundir
from experiments.runs import loading
from experiments.runs.loading import Trained
from experiments.studies import reports

FLAGS = flags.FLAGS

FITS = {
  "diagonal_gaussian": reciprocal.fit_diagonal_gaussian,
  "gaussian": reciprocal.fit_gaussian,
  "kernel_density": reciprocal.fit_kernel_density,
}
METHODS = ("importance", "reciprocal", "ais", "bdmc")

flags.DEFINE_string("workdir", None, "Directory of a run of experiments.train.")
flags.DEFINE_enum(
  "parameters",
  "last",
  ["last", "best"],
  "Those that training ended with, or those of its highest validation bound.",
)
flags.DEFINE_enum("method", "importance", METHODS, "How log p(x) is estimated.")
flags.DEFINE_enum("split", "test", ["test", "train"], "The points; bdmc draws its own.")
flags.DEFINE_integer(
  "num_points", None, "The first so many points; 0 for all. Default: 1000, or all.", lower_bound=0
)
flags.DEFINE_integer("importance_samples", 5000, "importance: K for each point.", lower_bound=2)
flags.DEFINE_integer(
  "temperatures",
  None,
  "ais, bdmc, reciprocal: T, distributions between the start and the posterior. Default: 500, "
  "of reciprocal 100.",
  lower_bound=1,
)
flags.DEFINE_integer(
  "leapfrogs",
  None,
  "ais, bdmc, reciprocal: leapfrog steps in a transition of HMC. Default: 10, of reciprocal the "
  "paper's 4.",
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
  "reciprocal: draws of each chain to estimate from; as many chains are fitted to.",
  lower_bound=4,
)
flags.DEFINE_integer(
  "warmup", 100, "reciprocal: transitions in which the step size is tuned.", lower_bound=1
)

ANNEALING = ("temperatures", "leapfrogs", "chains", "start")
FLAGS_OF = {
  "importance": ("split", "importance_samples"),
  "reciprocal": ("split", "fit", "posterior_samples", "warmup", *ANNEALING),
  "ais": ("split", *ANNEALING),
  "bdmc": ANNEALING,
}
DEFAULTS = {"reciprocal": dict(temperatures=100, leapfrogs=4)}
OTHER_DEFAULTS = dict(temperatures=500, leapfrogs=10)
# Of the flags of the run, those that say where things are and not what was trained.
NOT_SETTLED = (*rundir.NOT_WRITTEN, *rundir.NOT_COMPARED, "seed")
AT_ONCE = {"importance": 20, "reciprocal": 20, "ais": 10, "bdmc": 10}  # points in memory


# (key, params, x) -> what is known of one point; bdmc has a lower and an upper estimate.
PointEstimator = Callable[[Key, Params, Array], dict[str, LogLikelihood]]


def main() -> None:
  check_flags()
  if FLAGS.workdir is None:
    raise UsageError("workdir", "names the directory of a trained run")
  workdir = pathlib.Path(FLAGS.workdir).expanduser()
  run = loading.load(workdir, sys.argv[1:], best=FLAGS.parameters == "best")
  estimate = make_estimator(run.model)
  source = run.images.train if FLAGS.split == "train" else run.images.test
  num_points = min(1000, len(source)) if FLAGS.num_points is None else FLAGS.num_points
  num_points = num_points or len(source)
  if FLAGS.method != "bdmc" and num_points > len(source):
    raise UsageError("num_points", f"takes at most the {len(source)} {FLAGS.split} points")
  check_estimator(estimate, run)
  kind = "simulated" if FLAGS.method == "bdmc" else FLAGS.split
  of_best = "-best" if FLAGS.parameters == "best" else ""
  directory = open_directory(run.workdir / f"{FLAGS.method}-{kind}{of_best}", run.params)
  if not (run.workdir / "summary.json").exists():
    print(f"warning: the run in {run.workdir} is not finished", file=sys.stderr)
  print(f"{data.describe_pixels()}: {num_points} {kind} points by {describe_method()}")
  rows = estimate_points(directory / "points.csv", estimate, run, source, num_points)
  summary, lines = reports.summarize(rows, run.images.train.shape[1])
  lines += compare(directory, f"{kind}{of_best}", rows)
  if has_encoder(run.params) and kind != "simulated":
    latents, line = describe_latents(run, source)
    rundir.write_csv(directory / "latents.csv", list(latents[0]), latents)
    lines.append(line)
  how = dict(method=FLAGS.method, parameters=FLAGS.parameters, points=kind) | settings_of_method()
  if note := training.density_note():
    lines.append(f"{'note':22}{note}; do not compare with others")
  rundir.write_summary(directory / "summary.json", summary | how | about_run(run, note))
  print("\n".join(lines))


def check_flags() -> None:
  """Refuses flags that would be ignored, before those of the run are read.

  Raises:
    UsageError: if there is one.
  """
  for name in {name for names in FLAGS_OF.values() for name in names} - set(FLAGS_OF[FLAGS.method]):
    if FLAGS[name].present:
      raise UsageError(name, f"has no meaning for --method={FLAGS.method}")
  for flag in FLAGS.get_key_flags_for_module("experiments.runs.learning"):
    if flag.present and flag.name not in NOT_SETTLED:
      raise UsageError(flag.name, "is settled by the run in --workdir")


def about_run(run: Trained, note: str | None) -> dict:
  """What summary.json says of the data and of the program."""
  return dict(
    note=note,
    **data.describe(run.images),
    device=jax.devices()[0].device_kind,
    jax_version=jax.__version__,
    git_commit=rundir.git_commit(),
    seed=FLAGS.seed,
  )


def has_encoder(params: Params) -> bool:
  return bool(jax.tree.leaves(params.phi))


def make_estimator(model: Model) -> PointEstimator:
  """What --method and its flags stand for."""
  given = settings_of_method()
  annealing = dict(
    num_temperatures=given.get("temperatures"),
    num_leapfrogs=given.get("leapfrogs"),
    num_chains=given.get("chains"),
  )

  def start(params: Params, x: Array) -> Distribution | None:
    return model.encoder.given(params.phi, x) if FLAGS.start == "encoder" else None

  def importance(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    num_samples = FLAGS.importance_samples
    return {"log_p": importance_sampling(key, model, params, x, num_samples=num_samples)}

  def by_reciprocal(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    how = dict(num_samples=FLAGS.posterior_samples, num_warmup=FLAGS.warmup, fit=FITS[FLAGS.fit])
    how |= annealing | dict(start=start(params, x))
    return {"log_p": reciprocal_importance_sampling(key, model, params, x, **how)}

  def ais(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    how = annealing | dict(start=start(params, x))
    return {"log_p": annealed_importance_sampling(key, model, params, x, **how)}

  def bdmc(key: Key, params: Params, x: Array) -> dict[str, LogLikelihood]:
    # Another x, from the model, takes the place of this one.
    simulate_key, key = jax.random.split(key)
    z, x = simulate(simulate_key, model, params)
    how = annealing | dict(start=start(params, x))
    return bidirectional_monte_carlo(key, model, params, x, z, **how)._asdict()

  return dict(importance=importance, reciprocal=by_reciprocal, ais=ais, bdmc=bdmc)[FLAGS.method]


def settings_of_method() -> dict:
  """The flags that the method has a use for, with its own defaults."""
  defaults = DEFAULTS.get(FLAGS.method, OTHER_DEFAULTS)
  given = {name: FLAGS[name].value for name in FLAGS_OF[FLAGS.method]}
  return {n: defaults.get(n) if value is None else value for n, value in given.items()}


def check_estimator(estimate: PointEstimator, run: Trained) -> None:
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
  given = settings_of_method()
  given.pop("split", None)
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
    method=FLAGS.method,
    how=describe_method(),
    seed=FLAGS.seed,
    binarization=FLAGS.binarization,
    parameters=checksum,
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
    (directory / "points.csv").unlink(missing_ok=True)  # of nobody knows what settings
    rundir.write_text(file, json.dumps(settings, indent=2) + "\n")
  except OSError as error:
    raise UsageError("workdir", f"cannot be used ({error.strerror}: {error.filename})") from error
  return directory


def read_settings(directory: pathlib.Path) -> dict:
  file = directory / "settings.json"
  with reading(file):
    return dict(json.loads(file.read_text())) if file.exists() else {}


@contextlib.contextmanager
def reading(file: pathlib.Path) -> Iterator[None]:
  """Of an earlier evaluation; what it holds may be anything.

  Raises:
    UsageError: if it cannot be read.
  """
  try:
    yield
  except (OSError, KeyError, TypeError, ValueError) as error:
    what = f"has a damaged {file.name}; move or delete {file.parent}"
    raise UsageError("workdir", what) from error


def estimate_points(
  path: pathlib.Path, estimate: PointEstimator, run: Trained, source, num_points: int
) -> list[dict]:
  """The first points' rows: those already in `path`, and the rest, each added to it in turn."""
  rows = read_points(path)
  write_points(path, rows, "w")
  rows = rows[:num_points]
  at_once = AT_ONCE[FLAGS.method]
  drawn = run.pixels.train_draw if FLAGS.split == "train" else run.pixels.test_draw
  how = dict(preprocess=run.pixels.preprocess, static_key=drawn, batch_size=at_once)
  key = jax.random.fold_in(jax.random.key(FLAGS.seed), 2**20)  # away from what training splits
  try:
    with (
      tqdm(total=num_points, initial=len(rows), unit=" points", disable=None) as bar,
      warnings.catch_warnings(),
    ):
      warnings.simplefilter("ignore", UserWarning)  # told already, by check_estimator
      for first in range(len(rows), num_points, at_once):
        index = np.arange(first, min(first + at_once, num_points))
        block = read_rows(source, index % len(source))  # bdmc draws more than there are
        estimates = evaluate(estimate, key, run.params, block, first=first, **how)
        new = list(to_rows(jax.device_get(estimates), first))
        write_points(path, new, "a")
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
  with reading(path), open(path, newline="") as file:
    lines = file.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [
      {name: int(v) if name == "point" else float(v) for name, v in row.items()}
      for row in csv.DictReader(whole)
    ]


def write_points(path: pathlib.Path, rows: list[dict], mode: str) -> None:
  """Writes points.csv ("w"), or adds rows to it ("a"), with a header where it has none."""
  with open(path, mode) as file:
    if rows and file.tell() == 0:
      file.write(",".join(rows[0]) + "\n")
    file.writelines(",".join(f"{value:.9g}" for value in row.values()) + "\n" for row in rows)


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
    left_out = f" ({(~finite).sum()} not finite are left out)" if not finite.all() else ""
    values, errors = values[finite], errors[finite]
    mean = mean_and_standard_error(values[:, 0] - values[:, 1])
    sampling = reports.monte_carlo_error(np.hypot(*errors.T))
    name = f"minus {other.name.removesuffix(f'-{kind}')}"
    line = (
      f"{name:22}{mean.value:+.2f} ± {mean.standard_error:.2f} nats, {len(values)} points{left_out}"
    )
    if abs(mean.value) > 3 * sampling:
      line += f"; sampling explains ± {sampling:.2f}. {explain(FLAGS.method, theirs['method'])}"
    lines.append(line)
  return lines


def explain(method: str, other: str) -> str:
  """Why estimates may differ by more than their errors, which few heavy weights make too small."""
  if "reciprocal" not in (method, other):
    return "Both err downwards, the more the fewer samples carry the weight: the higher is nearer"
  rest = next(name for name in (method, other) if name != "reciprocal")
  return f"{rest} errs downwards, and reciprocal upwards as far as its chains found the posterior"


def describe_latents(run: Trained, source) -> tuple[list[dict], str]:
  """How much of its information about x each latent holds, over the whole split."""

  def of_point(key: Key, params: Params, x: Array) -> dict[str, Array]:
    q = run.model.encoder.given(params.phi, x)
    return dict(mean=q.mean) | divergence(key, q, run.model.prior(params))

  drawn = run.pixels.train_draw if FLAGS.split == "train" else run.pixels.test_draw
  values = evaluate_in_blocks(
    of_point,
    jax.random.key(0),
    run.params,
    source,
    preprocess=run.pixels.preprocess,
    static_key=drawn,
  )
  variance, active = values["mean"].var(axis=0), active_units(values["mean"])
  known = bool(np.isfinite(variance).all())  # not of a q without a mean
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
  return rows, f"{'active latents':22}{line}, over all {len(source)} {FLAGS.split} points"


def divergence(key: Key, q: Distribution, p: Distribution) -> dict[str, Array]:
  """KL(q ‖ p), as exactly as it is known: latent by latent, in one, or of one draw."""
  try:
    return dict(kl_per_latent=kl_per_latent(q, p))
  except UnsupportedError:
    pass
  try:
    return dict(kl=kl_divergence(q, p))
  except UnsupportedError:
    z, log_q = q.sample_with_log_prob(key)
    return dict(kl_of_a_draw=log_q - p.log_prob(z))


if __name__ == "__main__":
  command.run(main)
