"""A process of a cluster that computes nothing: python -m tests.support.member FLAGS.

It writes the number of the process that takes part, and runs until it is stopped.
"""

import os
import sys
import time

from absl import flags

from aevb_jax.training import processes
from experiments.launch import cluster, command

FLAGS = flags.FLAGS
flags.DEFINE_enum(
  "work", "together", ["together", "alone", "refuse", "fail", "end"], "What it does."
)


def body():
  print(f"met {os.getpid()}", file=sys.stderr)
  print(f"first {processes.is_first()}")
  processes.wait_for_all("start")
  if FLAGS.work == "refuse":
    raise command.UsageError("work", "is refused")
  if FLAGS.work == "fail":
    raise ZeroDivisionError
  while FLAGS.work != "end":
    processes.wait_for_all("step") if FLAGS.work == "together" else time.sleep(0.05)


if __name__ == "__main__":
  command.run(lambda: cluster.run(body))
