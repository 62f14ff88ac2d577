"""TensorBoard shows the rows of a run, also if it was open while the run was killed and resumed."""

import os
import socket

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
  EventAccumulator as ServedAccumulator,
)
from tensorboard.util.tensor_util import make_ndarray

from aevb_jax import trackers


def row(step, bound=0.5):
  return dict(examples_seen=step, bound=bound)


def write(workdir, rows, new):
  """Writes as a process does that resumes with some rows and adds others."""
  with trackers.tracking(trackers.find("tensorboard")) as tracking:
    tracking.begin(workdir, "run", {}, rows)
    tracking.log(workdir, new)


def shown(accumulator):
  accumulator.Reload()
  return [(event.step, event.value) for event in accumulator.Scalars("bound")]


def fresh(workdir):
  return shown(EventAccumulator(str(workdir)))


def event_files(workdir):
  return sorted(workdir.glob("*tfevents*"))


def test_an_open_tensorboard_follows_a_run_that_is_resumed(tmp_path):
  """Rows after the last checkpoint are made again, and those before it are not repeated."""
  write(tmp_path, [], [row(100, 1.5), row(200, 2.5), row(300, 3.5)])
  opened = EventAccumulator(str(tmp_path))
  assert shown(opened) == [(100, 1.5), (200, 2.5), (300, 3.5)]
  (file,) = event_files(tmp_path)
  before = file.read_bytes()
  write(tmp_path, [row(100, 1.5), row(200, 2.5)], [])
  assert shown(opened) == [(100, 1.5), (200, 2.5)]
  write(tmp_path, [row(100, 1.5), row(200, 2.5)], [row(300, -3.5), row(400, 4.5)])
  assert shown(opened) == [(100, 1.5), (200, 2.5), (300, -3.5), (400, 4.5)] == fresh(tmp_path)
  assert event_files(tmp_path) == [file] and file.read_bytes().startswith(before)
  write(tmp_path, [], [row(100, 9.5)])  # as after a start without a checkpoint
  assert shown(opened) == [(100, 9.5)] == fresh(tmp_path)


def test_rows_that_the_events_lack_are_added(tmp_path):
  rows = [row(100, 1.5), row(200, 2.5), row(300, 3.5)]
  write(tmp_path, [], rows[:1])
  write(tmp_path, rows, [row(400, 4.5)])
  assert fresh(tmp_path) == [(100, 1.5), (200, 2.5), (300, 3.5), (400, 4.5)]
  for file in event_files(tmp_path):
    file.unlink()
  write(tmp_path, rows, [])
  assert fresh(tmp_path) == [(100, 1.5), (200, 2.5), (300, 3.5)]


def test_the_accumulator_of_the_server_shows_the_same(tmp_path):
  """The server of TensorBoard has an accumulator of its own, which ignores the first restart."""

  def served(accumulator):
    accumulator.Reload()
    return [(e.step, make_ndarray(e.tensor_proto).item()) for e in accumulator.Tensors("bound")]

  write(tmp_path, [], [row(100, 1.5), row(200, 2.5)])
  opened = ServedAccumulator(str(tmp_path))
  assert served(opened) == [(100, 1.5), (200, 2.5)]
  for value in (-2.5, -3.5):
    write(tmp_path, [row(100, 1.5)], [row(200, value), row(300, value)])
    assert served(opened) == [(100, 1.5), (200, value), (300, value)]
    assert served(ServedAccumulator(str(tmp_path))) == served(opened)


@pytest.mark.parametrize("cut", [1, 4, 5, 20, 40])
def test_after_a_record_that_is_cut_off_a_later_file_is_begun(tmp_path, cut):
  """TensorBoard keeps the part of a record that it has read, so the file must stay as it is."""
  write(tmp_path, [], [row(100, 1.5), row(200, 2.5)])
  (file,) = event_files(tmp_path)
  future = file.with_name(f"events.out.tfevents.{2**31}.zzz")  # as with another clock
  file.rename(future)
  os.truncate(future, future.stat().st_size - cut)
  opened, before = EventAccumulator(str(tmp_path)), future.read_bytes()
  assert shown(opened) == [(100, 1.5)]
  write(tmp_path, [row(100, 1.5), row(200, 2.5)], [row(300, 3.5)])
  assert shown(opened) == [(100, 1.5), (200, 2.5), (300, 3.5)] == fresh(tmp_path)
  assert future.read_bytes() == before
  later = future.with_name(f"events.out.tfevents.{2**31 + 1}.{socket.gethostname()}")
  assert event_files(tmp_path) == [future, later]
  write(tmp_path, [row(100, 1.5), row(200, 2.5)], [row(300, -3.5)])
  assert shown(opened) == [(100, 1.5), (200, 2.5), (300, -3.5)] == fresh(tmp_path)
  assert event_files(tmp_path) == [future, later]


def test_nothing_is_written_through_a_link(tmp_path):
  workdir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
  workdir.mkdir()
  elsewhere.write_text("mine")
  (workdir / "events.out.tfevents.1.link").symlink_to(elsewhere)
  os.mkfifo(workdir / "events.out.tfevents.2.pipe")
  write(workdir, [], [row(100, 1.5)])
  (file,) = event_files(workdir)
  os.link(file, tmp_path / "copy")
  before = (tmp_path / "copy").read_bytes()
  write(workdir, [row(100, 1.5)], [row(200, 2.5)])
  assert fresh(workdir) == [(100, 1.5), (200, 2.5)]
  assert elsewhere.read_text() == "mine" and (tmp_path / "copy").read_bytes() == before
