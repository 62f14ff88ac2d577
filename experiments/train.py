"""Trains a variational auto-encoder by AEVB, evaluates it and draws what it learned.

  python -m experiments.train --workdir=runs/digits
  python -m experiments.train --dataset=mnist --latent_dim=20 --optimizer=adagrad \
      --step_size=0.02 --workdir=runs/mnist
  python -m experiments.train --seed=0,1,2 --step_size=0.01,0.02,0.1 --optimizer=adagrad \
      --workdir=runs/sweep
  python -m experiments.train --algorithm=mcem --binarization=static --workdir=runs/mcem

The third command trains nine runs at once. The last is Monte Carlo EM, which has no encoder and so
no bound: its rows report the log joint density and the acceptance of HMC, and experiments.evaluate
estimates the likelihood afterwards.

Writes into --workdir: flags.txt, metrics.csv, TensorBoard events, summary.json, pictures, and
checkpoints. A sweep writes these for each member into a directory of its own, and sweep.csv. After
an interruption the same command, if it names its --workdir, resumes from the last checkpoint and
ends as if it had not been interrupted. experiments.status reports what there is.
"""

import functools

from absl import flags

from aevb_jax.runs.checks import CHOICES, LEAST
from aevb_jax.runs.config import Config, Machine
from aevb_jax.runs.job import run_job
from experiments.flags import learning, schedule
from experiments.flags import machine as machine_flags
from experiments.launch import cluster, command, stopping
from experiments.launch.command import UsageError

flags.adopt_module_key_flags(learning)
flags.adopt_module_key_flags(machine_flags)
flags.adopt_module_key_flags(cluster)
flags.adopt_module_key_flags(schedule)

flags.DEFINE_integer(
  "select_step_size",
  0,
  "Number of training samples after which, of several step sizes, only the one with the highest "
  "training bound is trained on, the paper's rule; 0 trains all to the end.",
  lower_bound=LEAST["select_step_size"],
)
flags.DEFINE_enum(
  "on_nonfinite",
  "stop",
  list(CHOICES["on_nonfinite"]),
  "If a bound or a gradient is not finite: stop before that step, or skip it, up to 100 times in "
  "a row. In a sweep the other members continue.",
)
flags.DEFINE_string(
  "workdir", None, "Directory for what this run writes. Default: runs/DATASET-TIME."
)
flags.DEFINE_boolean(
  "keep_history",
  False,
  "Keeps the parameters of every row of metrics.csv in WORKDIR/history.",
)


def main() -> None:
  config = learning.config()
  machine = machine_flags.machine(config.data)
  if flags.FLAGS.coordinator_address and flags.FLAGS.workdir is None:
    raise UsageError("workdir", "names a directory that all processes see")
  cluster.run(functools.partial(train, config, machine, flags.FLAGS.workdir is not None))


def train(config: Config, machine: Machine, is_named: bool) -> None:
  """Trains in each of the processes that share the job."""
  skip = ", or --on_nonfinite=skip," * (config.budget.on_nonfinite == "stop")
  guard = functools.partial(
    stopping.telling_what_is_safe,
    batch_size=config.optimizer.batch_size,
    is_named=is_named,
    remedy=f"a smaller --step_size{skip} may help",
  )
  run_job(config, machine, hearing=stopping.heard, guard=guard)


if __name__ == "__main__":
  command.run(main)
