"""One program on many hosts: the flags, how the processes meet, and how they part.

  python -m experiments.train --coordinator_address=10.0.0.1:1234 --num_processes=2 \
      --process_id=0 --workdir=/shared/runs/mnist     # and --process_id=1 on the other host
  srun python -m experiments.train --coordinator_address=auto --workdir=/shared/runs/mnist

Every process runs the same program on its own devices. Only the first process
prints and writes, into a directory that all of them see.
"""

import os
import socket
import sys
import traceback
from collections.abc import Callable

import jax
from absl import flags

from aevb_jax.training.processes import is_first
from experiments.launch import command, supervise
from experiments.launch.command import UsageError

FLAGS = flags.FLAGS

flags.DEFINE_string(
  "coordinator_address",
  None,
  "HOST:PORT at which process 0 listens for the others; or auto, with which JAX finds address, "
  "number and id on SLURM, Open MPI, Kubernetes and TPU pods. Default: one process.",
)
flags.DEFINE_integer(
  "num_processes", None, "Number of processes, with --coordinator_address.", lower_bound=1
)
flags.DEFINE_integer(
  "process_id", None, "Number of this process, from 0, with --coordinator_address.", lower_bound=0
)
flags.DEFINE_integer(
  "init_timeout", 300, "Seconds to wait for all processes to arrive.", lower_bound=1
)
flags.DEFINE_integer(
  "host_timeout",
  20,
  "Seconds of silence after which a process is taken for dead and the others stop.",
  lower_bound=2,
)

WEEK = 7 * 24 * 3600  # seconds


def run(body: Callable[[], None]) -> None:
  """Runs `body` in this process, or in one of several if --coordinator_address is given.

  With several processes, `body` runs in a child of this process, which must not have used a
  device before. Only the first process prints to standard output. When another
  process dies or stops with an error, this one ends with one line and the status
  EX_TEMPFAIL (75): at once if it waits for a result of the other, otherwise
  when the other has been silent for --host_timeout.

  Raises:
    UsageError: if the flags are incomplete or contradict each other.
    SystemExit: at the end, if there are several processes.
  """
  check_flags()
  if FLAGS.coordinator_address is None:
    return body()
  met = supervise.FORK.Event()
  ending = supervise.run_watched(lambda: _take_part(body, met))
  if ending.alone:
    command.fail(_describe_loss() if met.is_set() else _describe_wait(), ending.status)
  raise command.Exit(ending.status)


def check_flags() -> None:
  """Refuses flags that are incomplete or contradict each other.

  Raises:
    UsageError: if there is one.
  """
  address, needed = FLAGS.coordinator_address, ("num_processes", "process_id")
  if address is None:
    for name in (*needed, "init_timeout", "host_timeout"):
      if FLAGS[name].present:
        raise UsageError(name, "has no meaning without --coordinator_address")
    return
  for name in needed:
    if address == "auto" and FLAGS[name].value is not None:
      raise UsageError(name, "is found by --coordinator_address=auto; leave it out")
    if address != "auto" and FLAGS[name].value is None:
      raise UsageError("coordinator_address", f"also needs --{name}")
  if address == "auto":
    return
  host, _, port = address.rpartition(":")
  if not (host and port.isdecimal() and 0 < int(port) < 2**16):
    raise UsageError("coordinator_address", "takes HOST:PORT, such as 10.0.0.1:1234, or auto")
  if FLAGS.process_id >= FLAGS.num_processes:
    raise UsageError("process_id", f"is not below --num_processes={FLAGS.num_processes}")


def _take_part(body: Callable[[], None], met) -> int:
  """Meets the other processes, runs `body`, parts from them, and returns the exit status."""

  def in_step() -> None:
    _meet()
    met.set()
    if not is_first():
      sys.stdout = open(os.devnull, "w")
    body()
    jax.distributed.shutdown()  # waits for the others

  try:
    return command.status_of(in_step)
  except Exception as error:
    if supervise.is_lost(error):
      return supervise.LEFT_ALONE
    traceback.print_exc()
    return 1


def _meet() -> None:
  """Calls `jax.distributed.initialize`; ends the process if the others do not come in time."""
  # Otherwise it would swallow the SIGTERM that should end the process.
  jax.config.update("jax_enable_preemption_service", False)
  given = dict(num_processes=FLAGS.num_processes, process_id=FLAGS.process_id)
  if FLAGS.coordinator_address != "auto":
    given |= dict(coordinator_address=FLAGS.coordinator_address)
    if FLAGS.process_id == 0:
      _check_port(int(FLAGS.coordinator_address.rpartition(":")[2]))
  try:
    jax.distributed.initialize(
      **given,
      initialization_timeout=FLAGS.init_timeout,
      heartbeat_timeout_seconds=FLAGS.host_timeout,
      shutdown_timeout_seconds=WEEK,  # the first process may take long for work that only it does
    )
  except ValueError as error:
    raise UsageError(
      "coordinator_address",
      "finds no cluster here (SLURM, Open MPI, Kubernetes, TPU pod); give HOST:PORT",
    ) from error


def _check_port(port: int) -> None:
  """Refuses a port that cannot be listened at, which would make JAX's service crash."""
  both = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if both else socket.AF_INET
  try:
    socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
  except OSError as error:
    reason = os.strerror(error.errno)
    raise UsageError(
      "coordinator_address", f"cannot be opened for listening here ({reason})"
    ) from error


def _describe_wait() -> str:
  who = "" if FLAGS.coordinator_address == "auto" else f" {FLAGS.num_processes}"
  return (
    f"--coordinator_address={FLAGS.coordinator_address}: not all{who} processes came there "
    f"within {FLAGS.init_timeout} s (--init_timeout), each with an id of its own"
  )


def _describe_loss() -> str:
  return (
    f"--coordinator_address={FLAGS.coordinator_address}: lost another of the processes that met "
    f"there; it stopped, or was silent for {FLAGS.host_timeout} s (--host_timeout)"
  )
