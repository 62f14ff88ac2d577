"""Output that nobody reads ends no program, and a signal ends a program during its imports."""

import os
import signal
import subprocess
import sys

import pytest

from experiments.launch import streams
from tests.support.processes import hearing

IMPORTING = """
import sys, time
sys.argv = ["-m"]  # as `python -m` has it while it looks for a main
import experiments
print("importing", flush=True)
time.sleep(60)
"""


def test_a_reader_that_has_gone_is_no_error():
  reading, writing = os.pipe()
  os.close(reading)
  stream = streams.lasting(writing)
  print("nobody reads this", file=stream)
  assert stream.lost is None
  os.close(writing)
  print("nor this", file=stream)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_what_could_not_be_written_is_known_at_the_end(monkeypatch):
  descriptor = os.open("/dev/full", os.O_WRONLY)
  monkeypatch.setattr(sys, "stdout", streams.lasting(descriptor))
  assert streams.error_of_output() is None
  print("a row")
  assert streams.error_of_output().strerror == "No space left on device"
  os.close(descriptor)


def test_ascii_takes_every_letter(tmp_path):
  with open(tmp_path / "out", "wb") as file:
    stream = streams.lasting(file.fileno(), "ascii")
    print("−130.40 ± 0.17", file=stream)
    stream.flush()
  assert (tmp_path / "out").read_text() == "\\u2212130.40 \\xb1 0.17\n"


def test_a_run_prints_its_rows_in_ascii(tmp_path):
  short = ["--hidden_dim=8", "--num_examples=1000", "--num_importance_samples=0"]
  command = [sys.executable, "-m", "experiments.train", *short, f"--workdir={tmp_path / 'run'}"]
  environment = os.environ | dict(PYTHONIOENCODING="ascii")
  ended = subprocess.run(command, env=environment, capture_output=True, timeout=300)
  assert ended.returncode == 0 and ended.stderr == b""
  assert ended.stdout.count(b" \\xb1 ") >= 3 and ended.stdout.isascii()


def test_a_pipe_that_is_full_is_waited_for():
  """Output is not lost when its reader is slow."""
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  program = "import sys; from experiments.launch import streams; "
  program += "print(2**20 * 'x', file=streams.lasting(int(sys.argv[1])), flush=True)"
  command = [sys.executable, "-c", program, str(writing)]
  with subprocess.Popen(command, pass_fds=[writing]) as process:
    os.close(writing)
    with open(reading) as pipe:
      assert pipe.read() == 2**20 * "x" + "\n"
  assert process.returncode == 0


def test_closed_streams_are_nowhere_and_not_the_next_file():
  program = "from experiments.launch import streams, starting; starting.begin(); "
  program += "import os; print('lost'); print(os.open('/dev/null', os.O_RDONLY))"
  command = [sys.executable, "-c", f"{program}; os._exit(os.open('/dev/null', os.O_RDONLY))"]
  closed = ["bash", "-c", 'exec "$0" "$@" <&- >&- 2>&-', *command]
  assert subprocess.run(closed, timeout=60).returncode > 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_signal_during_the_imports(number, ignored):
  handler = signal.SIG_IGN if ignored else signal.SIG_DFL
  command = hearing([sys.executable, "-c", IMPORTING], number, handler)
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  process = subprocess.Popen(command, **pipes)
  assert process.stdout.readline() == "importing\n"
  process.send_signal(number)
  if ignored:  # as under nohup and in the background of a shell
    with pytest.raises(subprocess.TimeoutExpired):
      process.wait(0.5)
    process.kill()
    process.communicate()
    return
  words = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
  assert process.communicate(timeout=60)[1] == f"error: {words[number]}\n"
  assert process.returncode == 128 + number
