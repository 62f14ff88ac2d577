"""A directory belongs to one run at a time, and nothing that was there before is lost."""

import dataclasses
import fcntl
import os

import pytest

from aevb_jax import disk, locks
from aevb_jax.errors import ConfigError, GoneError, Held
from aevb_jax.runs import directory
from aevb_jax.runs.config import GROWS, Config, replace


@pytest.fixture(autouse=True)
def let_go():
  with directory.locked():
    yield


def test_a_lock_is_of_the_file_that_has_its_name(tmp_path, monkeypatch):
  """Another start sets the directory aside after the lock is opened and before it is taken."""
  workdir, flock, moved = tmp_path / "run", fcntl.flock, []

  def flock_after_a_move(file, how):
    if not moved:
      moved.append(workdir.rename(tmp_path / "run.1"))
      workdir.mkdir()
    flock(file, how)

  workdir.mkdir()
  monkeypatch.setattr(fcntl, "flock", flock_after_a_move)
  with locks.hold(workdir / "lock") as file:
    assert moved and os.path.samestat(os.fstat(file.fileno()), os.stat(workdir / "lock"))
    with pytest.raises(Held, match=f"process {os.getpid()} on"):
      locks.hold(workdir / "lock")


def test_a_run_is_set_aside_whole_and_one_at_a_time(tmp_path):
  workdir, config = tmp_path / "run", Config()
  for number in range(3):
    with directory.locked():
      opened = directory.open_run(workdir, [replace(config, seed=number)], overwrite=True)
      assert not opened.finished
      (workdir / "result").write_text(str(number))
      with pytest.raises(ConfigError, match="is in use by"):
        directory.open_run(workdir, [config], resume=False, overwrite=True)
  kept = [tmp_path / name / "result" for name in ("run.1", "run.2", "run")]
  assert [file.read_text() for file in kept] == ["0", "1", "2"]


def test_flags_are_written_whole_and_left_alone_once_something_is_saved(tmp_path):
  """A start that ended between its two files is completed, unless a checkpoint exists.

  The checkpoint itself may still refuse another configuration.
  """
  with directory.locked():
    directory.open_run(tmp_path, [replace(Config(), seed=3)])
  (tmp_path / "config.json").unlink()
  with directory.locked():
    directory.open_run(tmp_path, [replace(Config(), seed=3)])
  assert '"seed": 3' in (tmp_path / "config.json").read_text()
  (tmp_path / "checkpoints").mkdir()
  text = (tmp_path / "flags.txt").read_text().replace("--seed=3\n", "")
  (tmp_path / "flags.txt").write_text(text)
  with directory.locked():
    directory.open_run(tmp_path, [Config()])
  assert (tmp_path / "flags.txt").read_text() == text


def test_a_directory_that_was_moved_or_removed_is_not_made_again(tmp_path):
  for name in ("moved", "removed"):
    directory.lock(tmp_path / name)
    directory.refuse_if_gone(tmp_path / name)
  (tmp_path / "moved").rename(tmp_path / "elsewhere")
  (tmp_path / "moved").mkdir()  # a new directory of the same name is not the old one
  with pytest.raises(GoneError, match=f"it is now {tmp_path}/elsewhere, where the run can be"):
    directory.refuse_if_gone(tmp_path / "moved")
  (tmp_path / "removed" / "lock").unlink()
  directory.refuse_if_gone(tmp_path / "removed")  # the directory still exists, without its lock
  (tmp_path / "removed").rmdir()
  with pytest.raises(GoneError, match="was moved or removed during its run, with all"):
    directory.refuse_if_gone(tmp_path / "removed")


def test_of_a_figure_that_is_set_aside_the_runs_stay(tmp_path):
  workdir = tmp_path / "figure"
  for seed in (0, 1):
    with directory.locked():
      directory.open_figure(workdir, [replace(Config(), seed=seed)], overwrite=True)
    (workdir / "runs").mkdir(exist_ok=True)
    (workdir / "runs" / str(seed)).touch()
    (workdir / "figure.png").write_text(str(seed))
  assert sorted(path.name for path in (workdir / "runs").iterdir()) == ["0", "1"]
  assert (tmp_path / "figure.1" / "figure.png").read_text() == "0"
  assert not (tmp_path / "figure.1" / "runs").exists()
  with pytest.raises(ConfigError, match="--overwrite set that run aside"):
    directory.open_figure(workdir, [Config()])


def test_a_figure_may_gain_members_of_a_list_and_lose_none(tmp_path):
  @dataclasses.dataclass(frozen=True)
  class Drawn:
    seeds: tuple[int, ...] = dataclasses.field(default=(0,), metadata=GROWS)
    sizes: tuple[int, ...] = (10,)

  def make(**values):
    with directory.locked():
      directory.open_figure(tmp_path / "figure", [Drawn(**values)])
    return (tmp_path / "figure" / "flags.txt").read_text()

  assert make() == "--seeds=0\n--sizes=10\n"
  assert make(seeds=(2, 0, 10)) == "--seeds=2,0,10\n--sizes=10\n"
  assert make(seeds=(0, 2, 10)) == "--seeds=0,2,10\n--sizes=10\n"
  with pytest.raises(ConfigError, match="there: --seeds=0,2,10; here: --seeds=0,10"):
    make(seeds=(0, 10))  # 2 is lost
  with pytest.raises(ConfigError, match="there: --seeds=0,2,10; here: --seeds=0,1"):
    make(seeds=(0, 1))
  with pytest.raises(ConfigError, match="there: --sizes=10; here: --sizes=10,20"):
    make(seeds=(0, 2, 10), sizes=(10, 20))


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["flags.txt.partial", "config.json.partial", "lock"])
def test_nothing_is_written_through_a_link(tmp_path, link, name):
  precious, workdir = tmp_path / "precious", tmp_path / "run"
  precious.write_text("precious")
  with directory.locked():
    directory.open_run(workdir, [Config()])
  (workdir / name).unlink(missing_ok=True)
  link(precious, workdir / name)
  if name == "lock":  # it is never replaced, as another start may have it open
    with pytest.raises(ConfigError, match="cannot be used"):
      directory.open_run(workdir, [Config()])
  else:
    directory.open_run(workdir, [Config()])
    assert (workdir / "flags.txt").read_text().startswith("--")
  assert precious.read_text() == "precious"


def test_a_pipe_in_the_place_of_a_file_is_an_error_and_no_wait(tmp_path):
  os.mkfifo(tmp_path / "flags.txt")
  with pytest.raises(ConfigError, match="not a regular file"):
    directory.open_run(tmp_path, [Config()])
  for use in (disk.read, disk.extend):
    with pytest.raises(OSError, match="not a regular file"):
      use(tmp_path / "flags.txt")
  with disk.create(tmp_path / "flags.txt") as file:
    file.write("--seed=0")
  assert disk.read_text(tmp_path / "flags.txt") == "--seed=0"
