"""Runs command lines of one main, each in a fork of a process that has imported it.

  python -m tests.refusals MAIN

A line of JSON goes out with the definitions of the flags; then for every line of JSON that
comes in, with what `become` takes, a line with the status goes out, and what the fork wrote is
in the files OUTPUT.out and OUTPUT.err.
"""

import importlib
import json
import os
import pathlib
import signal
import sys
import traceback

import jax

sys.path.append(str(pathlib.Path(__file__).parents[1] / "scripts"))

from bad_inputs import definitions

from experiments import command

LIMIT = 60  # seconds, after which SIGALRM ends a fork; scripts/bad_commands.py times them


def serve(name: str) -> None:
  main = importlib.import_module(f"experiments.{name}")
  print(json.dumps(definitions(main)), flush=True)
  for line in sys.stdin:
    child = os.fork()  # before JAX has a backend, and with it threads
    if child == 0:
      become(name, main, **json.loads(line))
    _, status = os.waitpid(child, 0)
    print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def become(name: str, main, arguments: list[str], num_devices: int, cwd: str, output: str) -> None:
  """Does what `python -m experiments.NAME ARGUMENTS` does, and ends the process."""
  os.chdir(cwd)
  for number, file in ((1, "out"), (2, "err")):
    os.dup2(os.open(f"{output}.{file}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
  jax.config.update("jax_num_cpu_devices", num_devices)
  sys.modules["__main__"] = main
  signal.alarm(LIMIT)
  sys.argv = [f"experiments/{name}.py", *arguments]
  status = 1
  try:
    command.run(main.main)
  except SystemExit as stop:
    status = stop.code or 0
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
  serve(sys.argv[1])
