"""Processes meet on this machine; however one ends, the others soon report it in one line."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.launch import cluster
from experiments.launch.command import UsageError
from tests.support.processes import hearing

ROOT = pathlib.Path(__file__).parents[2]
HOST_TIMEOUT = 6  # seconds
LOST = "error: --coordinator_address={}: lost another of the processes that met there; it stopped, "


def free_address():
  with socket.socket() as any_port:
    any_port.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{any_port.getsockname()[1]}"


def start(address, process_id, *arguments, num_processes=2):
  command = [sys.executable, "-m", "tests.support.member", f"--coordinator_address={address}"]
  command += [f"--num_processes={num_processes}", f"--process_id={process_id}"]
  command += [f"--host_timeout={HOST_TIMEOUT}", *arguments]
  environment = os.environ | dict(JAX_NUM_CPU_DEVICES="1")
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  return subprocess.Popen(hearing(command), cwd=ROOT, env=environment, **pipes)


@pytest.fixture
def meet():
  """Yields a function: (arguments of 0, arguments of 1) -> address, two processes, children."""
  started, children = [], []

  def meet(*arguments):
    address = free_address()
    started.extend(start(address, i, *given) for i, given in enumerate(arguments))
    for process in started:
      line = process.stderr.readline()
      assert line.startswith("met "), line
      children.append(int(line.split()[1]))
    return address, started, children

  yield meet
  for process in started:
    process.kill()
    process.communicate()
  for child in children:
    assert not alive(child)


def alive(pid, patience=5):
  """Returns whether the process is still there after `patience` seconds."""
  deadline = time.monotonic() + patience
  while time.monotonic() < deadline:
    try:
      os.kill(pid, 0)
    except ProcessLookupError:
      return False
    time.sleep(0.05)
  return True


def assert_left_alone(process, address, within):
  began = time.monotonic()
  _, errors = process.communicate(timeout=60)
  assert time.monotonic() - began < within
  assert process.returncode == os.EX_TEMPFAIL
  assert errors.startswith(LOST.format(address)) and errors.count("\n") == 1, errors


def test_processes_meet_and_part(meet):
  _, processes, _ = meet(["--work=end"], ["--work=end"])
  outputs = [process.communicate(timeout=60) for process in processes]
  assert [process.returncode for process in processes] == [0, 0]
  assert outputs == [("first True\n", ""), ("", "")]


@pytest.mark.parametrize("work", ["together", "alone"])
@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.long)])
def test_the_others_stop_when_one_is_killed(meet, victim, work):
  address, processes, children = meet([f"--work={work}"], [f"--work={work}"])
  time.sleep(0.5)
  # A user kills the parent; a lack of memory kills the child that computes.
  os.kill(processes[victim].pid if victim else children[victim], signal.SIGKILL)
  assert_left_alone(processes[1 - victim], address, within=3 * HOST_TIMEOUT)
  _, errors = processes[victim].communicate(timeout=60)
  if victim == 0:
    assert (processes[0].returncode, errors) == (128 + 9, "error: ended by SIGKILL\n")


@pytest.mark.long
def test_the_others_stop_when_one_is_silent(meet):
  address, processes, children = meet([], [])
  os.kill(children[1], signal.SIGSTOP)
  try:
    assert_left_alone(processes[0], address, within=4 * HOST_TIMEOUT)
  finally:
    os.kill(children[1], signal.SIGKILL)


@pytest.mark.parametrize("work, status", [("refuse", 2), ("fail", 1)])
def test_the_others_stop_when_one_gives_up(meet, work, status):
  address, processes, _ = meet([f"--work={work}"], [])
  assert_left_alone(processes[1], address, within=3 * HOST_TIMEOUT)
  _, errors = processes[0].communicate(timeout=60)
  assert processes[0].returncode == status
  last = "error: --work=refuse: is refused" if work == "refuse" else "ZeroDivisionError"
  assert errors.splitlines()[-1] == last


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 128 + 15)])
def test_signals_reach_the_one_that_computes(meet, number, status):
  address, processes, _ = meet(["--work=alone"], ["--work=alone"])
  processes[0].send_signal(number)
  _, errors = processes[0].communicate(timeout=60)
  assert processes[0].returncode == status
  assert errors == f"error: {'interrupted' if status == 130 else 'terminated'}\n"
  assert_left_alone(processes[1], address, within=3 * HOST_TIMEOUT)


def test_one_that_never_comes():
  addresses = [free_address(), free_address()]  # one lacks process 0, the other 1
  processes = [start(a, 1 - i, "--init_timeout=1") for i, a in enumerate(addresses)]
  for address, process in zip(addresses, processes):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == os.EX_TEMPFAIL
    assert errors == (
      f"error: --coordinator_address={address}: not all 2 processes came there within 1 s "
      "(--init_timeout), each with an id of its own\n"
    )


def test_an_address_that_is_taken():
  with socket.socket(socket.AF_INET6) as listener:
    listener.bind(("::", 0))
    listener.listen()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    process = start(address, 0, "--init_timeout=1")
    _, errors = process.communicate(timeout=60)
  assert process.returncode == 2
  assert errors.startswith(
    f"error: --coordinator_address={address}: cannot be opened for listening here"
  )
  assert errors.count("\n") == 1


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--num_processes=2"], "--num_processes=2: has no meaning without --coordinator_address"),
    (["--init_timeout=5"], "--init_timeout=5: has no meaning without"),
    (["--coordinator_address=a:1", "--process_id=0"], "also needs --num_processes"),
    (["--coordinator_address=a:1", "--num_processes=2"], "also needs --process_id"),
    (["--coordinator_address=auto", "--process_id=0"], "is found by --coordinator_address=auto"),
    *(
      (
        [f"--coordinator_address={address}", "--num_processes=2", "--process_id=0"],
        "takes HOST:PORT",
      )
      for address in ("a", ":1", "a:", "a:b", "a:0", "a:65536")
    ),
    (
      ["--coordinator_address=a:1", "--num_processes=2", "--process_id=2"],
      "--process_id=2: is not below --num_processes=2",
    ),
  ],
)
@flagsaver.flagsaver
def test_flags_that_do_not_make_sense(arguments, message):
  flags.FLAGS(["test", *arguments])
  with pytest.raises(UsageError, match=message):
    cluster.check_flags()


def test_no_cluster_to_be_found():
  command = [sys.executable, "-m", "tests.support.member", "--coordinator_address=auto"]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert result.returncode == 2
  assert result.stderr.startswith("error: --coordinator_address=auto: finds no cluster here")
  assert result.stderr.count("\n") == 1
