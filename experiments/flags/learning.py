"""The flags of an algorithm, and the flags of everything that is trained."""

from absl import flags

from aevb_jax.runs.checks import LEAST
from aevb_jax.runs.config import OBJECTIVES, Config, leaves, objective_of
from experiments.flags import training
from experiments.flags.validators import validate
from experiments.launch.command import UsageError

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(training)

flags.DEFINE_string(
  "algorithm",
  "aevb",
  "aevb: algorithm 1, with --estimator; mcem: Monte Carlo EM (appendix E), without an encoder; or "
  "package.module:function for your own, called with (model, estimator, optimizer, num_data=N) and "
  "returning an Algorithm.",
)
validate("algorithm")
flags.DEFINE_integer(
  "num_leapfrogs",
  10,
  "mcem: leapfrog steps of HMC in each minibatch.",
  lower_bound=LEAST["num_leapfrogs"],
)
flags.DEFINE_integer(
  "num_updates",
  5,
  "mcem: updates of the weights in each minibatch.",
  lower_bound=LEAST["num_updates"],
)
flags.DEFINE_integer(
  "num_importance_samples",
  500,
  "K, samples per test point for the test log-likelihood at the end; 0 skips it.",
  lower_bound=LEAST["num_importance_samples"],
)


def config(**values) -> Config:
  """Makes the configuration of an algorithm from the flags; `values` are fields that a main sets.

  Raises:
    UsageError: if a flag has no meaning for the algorithm.
    ConfigError: for a field that cannot be used.
  """
  fields = [set(leaves(kind())) for kind in OBJECTIVES.values()]
  of_others = set().union(*fields) - set(leaves(objective_of(FLAGS.algorithm)()))
  for name in sorted(of_others):
    if FLAGS[name].present:
      raise UsageError(name, f"has no meaning for --algorithm={FLAGS.algorithm}")
  return training.config(FLAGS.algorithm, **values)


def refuse_given(but_for: set[str]) -> None:
  """Refuses flags of training in a main that reads a trained run.

  Raises:
    UsageError: if one is given.
  """
  for flag in FLAGS.get_key_flags_for_module(__name__):
    if flag.present and flag.name not in but_for:
      raise UsageError(flag.name, "comes from the run in --workdir; leave it out")
