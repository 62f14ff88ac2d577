"""Estimates the log-likelihood of a trained run, by any of the estimators of log p(x).

  python -m experiments.evaluate --workdir=runs/mnist
  python -m experiments.evaluate --workdir=runs/mnist --method=ais --num_points=100
  python -m experiments.evaluate --workdir=runs/mnist --method=bdmc --num_points=100

importance draws K samples of the encoder for each point. reciprocal is the estimator of
appendix D, for few latents. ais anneals from the prior to the posterior. bdmc anneals both
ways, on data drawn from the model itself, and so brackets its log-likelihood. The data, and
the draw that binarizes them, are the ones of the run.

Writes points.csv (a row for each point, as soon as it is known), latents.csv and
summary.json into WORKDIR/METHOD-SPLIT, for --parameters=best into METHOD-SPLIT-best.
After an interruption the same command resumes where it was.
"""

from absl import flags

from aevb_jax.runs import load
from aevb_jax.runs.config import replace
from experiments.flags import data, learning, training
from experiments.flags.reading import given_flags, read
from experiments.launch import command
from experiments.launch.command import UsageError
from experiments.studies.evaluation import (
  FIELDS_OF,
  FITS,
  METHODS,
  EvaluateConfig,
  evaluate_run,
  resolve,
)

flags.DEFINE_string("workdir", None, "Directory of a run of experiments.train.")
flags.DEFINE_enum(
  "parameters",
  "last",
  ["last", "best"],
  "Which parameters to evaluate: the last ones, or those of the highest validation bound.",
)
flags.DEFINE_enum("method", "importance", METHODS, "Method that estimates log p(x).")
flags.DEFINE_enum(
  "split", "test", ["test", "train"], "Split whose points are evaluated; bdmc simulates its own."
)
flags.DEFINE_integer(
  "num_points", None, "Number of points, from the first; 0 for all. Default: 1000.", lower_bound=0
)
flags.DEFINE_integer("importance_samples", 5000, "importance: K, samples per point.", lower_bound=2)
flags.DEFINE_integer(
  "temperatures",
  None,
  "ais, bdmc, reciprocal: T, number of distributions between the start and the posterior. "
  "Default: 500, or 100 for reciprocal.",
  lower_bound=1,
)
flags.DEFINE_integer(
  "leapfrogs",
  None,
  "ais, bdmc, reciprocal: leapfrog steps in a transition of HMC. Default: 10, or the paper's 4 "
  "for reciprocal.",
  lower_bound=1,
)
flags.DEFINE_integer("chains", 32, "ais, bdmc, reciprocal: chains per point.", lower_bound=2)
flags.DEFINE_enum(
  "start",
  "prior",
  ["prior", "encoder"],
  "ais, bdmc, reciprocal: the distribution that chains start from. The encoder needs fewer "
  "temperatures, but modes that it misses may stay missed.",
)
flags.DEFINE_enum("fit", "gaussian", list(FITS), "reciprocal: the density that is fitted.")
flags.DEFINE_integer(
  "posterior_samples",
  100,
  "reciprocal: draws of each chain for the estimate; the density is fitted to another such set.",
  lower_bound=4,
)
flags.DEFINE_integer(
  "warmup", 100, "reciprocal: transitions in which the step size is tuned.", lower_bound=1
)

# These flags of training say where things are; the other flags say what was trained.
GIVEN_HERE = {*data.PLACES, "max_resident_mb", "seed"}


def main() -> None:
  learning.refuse_given(but_for=GIVEN_HERE)
  training.keep_programs()
  config = read_config()
  if flags.FLAGS.workdir is None:
    raise UsageError("workdir", "names the directory of a trained run")
  places = dict(array_cache_dir=data.array_cache_dir(), **data.given_places())
  run = load(flags.FLAGS.workdir, parameters=config.parameters, **places)
  if config.seed is None:
    config = replace(config, seed=run.config.seed)
  print("\n".join(evaluate_run(run, config)))


def read_config() -> EvaluateConfig:
  """Reads the configuration of the estimate of log p(x) from the flags.

  Raises:
    UsageError: for flags that the method does not use.
  """
  config, given = read(EvaluateConfig), given_flags()
  of_method = FIELDS_OF[config.method]
  for name in {name for names in FIELDS_OF.values() for name in names} - set(of_method):
    if name in given:
      raise UsageError(name, f"has no meaning for --method={config.method}")
  return resolve(replace(config, seed=config.seed if "seed" in given else None))


if __name__ == "__main__":
  command.run(main)
