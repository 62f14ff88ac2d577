"""Runs mains as a user starts them, each in a process of its own."""

import atexit
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]


def run(main, *arguments, **how):
  """Runs experiments.MAIN as the shell would; `how` are arguments of `python`."""
  return python(f"experiments.{main}", *arguments, **how)


def python(program, *arguments, num_devices=1, cwd=ROOT, environment=None):
  """Runs `python -m PROGRAM`, or `python PROGRAM` for a file.

  It runs in a fork of a process that has imported the libraries, because the imports take most of
  the time.
  """
  server, output = _server()
  asked = dict(
    program=str(program),
    arguments=list(map(str, arguments)),
    environment=dict(environment or os.environ) | {"JAX_NUM_CPU_DEVICES": str(num_devices)},
    cwd=str(cwd),
    output=str(output),
  )
  server.stdin.write(json.dumps(asked) + "\n")
  server.stdin.flush()
  status = json.loads(server.stdout.readline())
  written = [output.with_suffix(name).read_text(errors="replace") for name in (".out", ".err")]
  return subprocess.CompletedProcess(arguments, status, *written)


def definitions(main):
  """Returns the flags of experiments.MAIN, as scripts/refusals/definitions.py prints them."""
  asked = python(ROOT / "scripts" / "refusals" / "definitions.py", main)
  assert asked.returncode == 0, asked.stderr
  return json.loads(asked.stdout)


@functools.cache
def _server():
  """Starts `tests.support.forking` until this process ends; returns it and its output path."""
  directory = tempfile.TemporaryDirectory()
  pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
  server = subprocess.Popen([sys.executable, "-m", "tests.support.forking"], cwd=ROOT, **pipes)

  def end():
    server.stdin.close()
    server.wait()
    directory.cleanup()

  atexit.register(end)
  return server, pathlib.Path(directory.name) / "output"


def start(main, *arguments):
  """Starts experiments.MAIN in a process of its own, and does not wait for it."""
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  command = [sys.executable, "-m", f"experiments.{main}", *map(str, arguments)]
  return subprocess.Popen(hearing(command), cwd=ROOT, **pipes)


def hearing(command, number=signal.SIGINT, handler=signal.SIG_DFL):
  """Returns a command that first sets a signal's handler, since background jobs ignore SIGINT."""
  before = f"import os, signal, sys; signal.signal({int(number)}, signal.{handler.name}); "
  return [sys.executable, "-c", f"{before}os.execv(sys.argv[1], sys.argv[1:])", *command]


def wait_until(process, condition):
  deadline = time.time() + 200
  while time.time() < deadline and process.poll() is None:
    if condition():
      return
    time.sleep(0.002)
  raise AssertionError(process.communicate(timeout=60))


def stop_when(process, condition, number):
  """Sends a signal once a condition holds; returns the status and the lines of standard error."""
  wait_until(process, condition)
  process.send_signal(number)
  _, errors = process.communicate(timeout=60)
  return process.returncode, errors.splitlines()
