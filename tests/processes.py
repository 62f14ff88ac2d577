"""Mains as a user starts them, each a process of its own."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]


def command(main, *arguments):
  return [sys.executable, "-m", f"experiments.{main}", *map(str, arguments)]


def run(main, *arguments, num_devices=1):
  return subprocess.run(
    command(main, *arguments),
    cwd=ROOT,
    env=os.environ | {"JAX_NUM_CPU_DEVICES": str(num_devices)},
    capture_output=True,
    text=True,
    timeout=300,
  )


def start(main, *arguments):
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  # Where the tests run in the background, what they start would ignore interrupts.
  hear = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
  hear += "os.execv(sys.argv[1], sys.argv[1:])"
  hearing = [sys.executable, "-c", hear, *command(main, *arguments)]
  return subprocess.Popen(hearing, cwd=ROOT, **pipes)


def wait_until(process, condition):
  deadline = time.time() + 200
  while time.time() < deadline and process.poll() is None:
    if condition():
      return
    time.sleep(0.002)
  raise AssertionError(process.communicate(timeout=60))


def stop_when(process, condition, number):
  """Sends a signal once a condition holds; the status, and what was said on standard error."""
  wait_until(process, condition)
  process.send_signal(number)
  _, errors = process.communicate(timeout=60)
  return process.returncode, errors.splitlines()


@contextlib.contextmanager
def forks(main, directory, environment=None):
  """What `run` does, of one process that has imported the main and forks for each command.

  Yields:
    A function (arguments, cwd=ROOT, num_devices=1) -> CompletedProcess, and the definitions
    of the main's flags as scripts/bad_inputs.py writes them.
  """
  with subprocess.Popen(
    [sys.executable, "-m", "tests.refusals", main],
    cwd=ROOT,
    env=environment,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as server:
    output = pathlib.Path(directory) / "output"

    def run(*arguments, cwd=ROOT, num_devices=1):
      arguments = list(map(str, arguments))
      asked = dict(arguments=arguments, num_devices=num_devices, cwd=str(cwd), output=str(output))
      server.stdin.write(json.dumps(asked) + "\n")
      server.stdin.flush()
      status = json.loads(server.stdout.readline())
      written = [output.with_suffix(name).read_text(errors="replace") for name in (".out", ".err")]
      return subprocess.CompletedProcess(arguments, status, *written)

    yield run, json.loads(server.stdout.readline())
    server.stdin.close()
