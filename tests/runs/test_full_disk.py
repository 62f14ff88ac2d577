"""A run whose files cannot be written ends in one line, and resumes once they can."""

import csv
import os
import pathlib
import subprocess
import sys

import pytest

from aevb_jax import disk
from aevb_jax.runs import files
from aevb_jax.training import checkpoint

ROOT = pathlib.Path(__file__).parents[2]
LIMIT = (
  "import os, resource, sys; size = int(sys.argv[1]);"
  "resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY));"
  "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


OBEY_MODES = (  # drops root's capability to ignore the modes of files
  "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0);"
  "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
SAVE = """
import pathlib, sys
import jax.numpy as jnp
from aevb_jax.training import checkpoint
directory = pathlib.Path(sys.argv[1])
with checkpoint.saver(directory) as save:
  save(1, {"w": jnp.ones(3)})
  while not checkpoint.steps(directory):
    pass
  directory.chmod(0o555)
  for step in (2, 3):
    save(step, {"w": jnp.ones(3)})
"""
METRICS = """
import pathlib, sys
from aevb_jax import trackers
from aevb_jax.runs import files
place, columns = pathlib.Path(sys.argv[1]), ("examples_seen", "bound")
tracking = trackers.tracking(trackers.find("tensorboard" * (sys.argv[2] == "events")))
with tracking as follow, files.metrics_writer(place, columns) as write:
  follow.begin(place, "run", {}, [])
  for step in range(1000):
    row = dict(examples_seen=step, bound=0.5)
    write(row)
    follow.log(place, [row])
"""


def limited(size, *arguments):
  """Runs Python in a process whose files cannot exceed `size` bytes; -1 sets no limit."""
  command = [sys.executable, "-c", LIMIT, str(size), *arguments]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def train(workdir, *, limit):
  short = ["--hidden_dim=20", "--num_examples=2000", "--eval_every=500", "--checkpoint_every=0"]
  flags = [*short, "--num_importance_samples=0", f"--workdir={workdir}"]
  return limited(limit, "-m", "experiments.train", *flags)


def test_no_flags_file(tmp_path):
  workdir = tmp_path / "run"
  workdir.mkdir()
  (workdir / "flags.txt.partial").write_text("of a start that was killed")
  result = train(workdir, limit=200)
  assert result.returncode == 2, result.stderr
  (line,) = result.stderr.splitlines()
  assert f"File too large: {workdir / 'flags.txt'}" in line
  assert [path.name for path in workdir.iterdir()] == ["lock"]


@pytest.mark.long
def test_no_checkpoint_then_room(tmp_path):
  workdir = tmp_path / "run"
  result = train(workdir, limit=4000)
  assert result.returncode == os.EX_IOERR, result.stderr
  (line,) = result.stderr.splitlines()
  assert line.startswith(f"error: {workdir}/checkpoints/")
  assert line.endswith(f"(File too large); nothing is saved in {workdir} yet")
  result = train(workdir, limit=-1)
  assert result.returncode == 0 and not result.stderr
  with open(workdir / "metrics.csv") as file:
    assert [int(row["step"]) for row in csv.DictReader(file)] == [5, 10, 15, 20]


def test_the_commit_is_found_without_a_lock(tmp_path, monkeypatch):
  """Git is killed where it writes more than a file may hold, and would leave its lock."""
  module = tmp_path / "aevb_jax" / "runs" / "files.py"
  module.parent.mkdir(parents=True)
  module.write_text("first")
  git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
  assert files.git_commit() is None or len(files.git_commit().removesuffix("-dirty")) == 40
  monkeypatch.setattr(files, "__file__", str(module))
  assert files.git_commit() is None
  for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
    subprocess.run([*git, *command], check=True)
  commit = files.git_commit()
  assert len(commit) == 40 and int(commit, 16)
  os.utime(module, (1, 1))  # the index is out of date, and Git would write it again
  named = f"from aevb_jax.runs import files; files.__file__ = {str(module)!r}; "
  found = limited(10, "-c", named + "print(files.git_commit())")
  assert found.stdout == f"{commit}\n", found.stderr
  assert not (tmp_path / ".git" / "index.lock").exists()
  module.write_text("second")
  assert files.git_commit() == f"{commit}-dirty"
  # An installed package below the repository of something else has no commit.
  inside = tmp_path / "venv" / "aevb_jax" / "runs" / "files.py"
  monkeypatch.setattr(files, "__file__", str(inside))
  assert files.git_commit() is None


@pytest.mark.parametrize("size", [40, 1000])
@pytest.mark.parametrize("which", ["events", "rows"])
def test_events_and_rows_that_cannot_be_written(tmp_path, size, which):
  result = limited(size, "-c", METRICS, str(tmp_path), which)
  assert result.returncode == 1
  assert result.stderr.count("Traceback") == 1  # none from another thread, none at exit
  assert f"File too large: '{tmp_path}/" in result.stderr.splitlines()[-1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities of Linux")
def test_checkpoints_that_may_be_written_no_longer(tmp_path):
  command = [sys.executable, "-c", OBEY_MODES, "-c", SAVE, str(tmp_path / "checkpoints")]
  # The limit is below the five minutes that orbax waits for a directory made in the background.
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
  assert result.returncode == 1
  last = result.stderr.splitlines()[-1]
  assert last.startswith("aevb_jax.errors.SaveError: ") and "(Permission denied)" in last
  assert checkpoint.steps(tmp_path / "checkpoints") == [1]


def test_what_fails_is_named_and_nothing_half_is_left(tmp_path):
  def fail(*args, **kwargs):
    raise OSError(28, os.strerror(28))  # like write(), whose error has no file name

  class Figure:
    savefig = fail

  with pytest.raises(OSError, match="No space.*bound.png"):
    files.save_figure(tmp_path / "bound.png", Figure())
  assert not list(tmp_path.iterdir())
  with pytest.raises(OSError, match="No space.*file"), disk.naming(tmp_path / "file"):
    fail()
