"""A Python that has imported the libraries and forks for every command line that it reads.

  python -m tests.support.forking

It reads a line of JSON for each command line, with the arguments of `become`. When the fork has
ended, it prints a line with the status of the fork; the output of the fork is in the files
OUTPUT.out and OUTPUT.err.
"""

import atexit
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from typing import NoReturn

import jax

LIBRARIES = ["flax.linen", "matplotlib.pyplot", "optax", "orbax.checkpoint", "scipy.stats"]
LIBRARIES += ["sklearn.datasets", "tensorflow_datasets", "aevb_jax"]
LIMIT = 300  # seconds, after which SIGALRM ends a fork


def serve() -> None:
  for name in LIBRARIES:
    importlib.import_module(name)
  for line in sys.stdin:
    child = os.fork()  # before JAX has a backend, which starts threads
    if child == 0:
      leave(become, **json.loads(line))
    _, status = os.waitpid(child, 0)
    print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def leave(run, **how) -> NoReturn:
  """Runs a function and exits without unloading the libraries, which would take a second."""
  status = 0
  try:
    run(**how)
  except SystemExit as stop:
    status = stop.code or 0
  except BaseException:
    traceback.print_exc()
    status = 1
  atexit._run_exitfuncs()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def become(
  program: str, arguments: list[str], environment: dict[str, str], cwd: str, output: str
) -> None:
  """Does what `python -m PROGRAM ARGUMENTS` does, or for a file `python PROGRAM ARGUMENTS`."""
  os.environ.clear()
  os.environ.update(environment)
  os.chdir(cwd)
  for number, file in ((1, "out"), (2, "err")):
    os.dup2(os.open(f"{output}.{file}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
  # JAX read this variable when it was imported, so it has to be set again.
  jax.config.update("jax_num_cpu_devices", int(environment["JAX_NUM_CPU_DEVICES"]))
  signal.alarm(LIMIT)
  sys.argv = [program, *arguments]
  if program.endswith(".py"):
    runpy.run_path(program, run_name="__main__")
  else:
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  serve()
