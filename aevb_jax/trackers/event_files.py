"""TensorBoard's event files, which a run that is resumed extends."""

import contextlib
import os
import pathlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

from aevb_jax import disk
from aevb_jax.trackers.tracker import Tracker

EVENTS = "events.out.tfevents"  # the beginning of the names of the files


def tensorboard(
  workdir: pathlib.Path, name: str, config: dict[str, Any], *, step: int = 0
) -> Tracker:
  """Follows a run with TensorBoard's event files, by its training samples.

  The file of an earlier process keeps growing, so that a TensorBoard that has it open shows the new
  rows. An event that marks a restart tells TensorBoard to forget the points after the rows so far.
  If the file ends in a record that is cut off, nothing can be read after that record, so a later
  file is begun. tensorboardX's own SummaryWriter is not used: it passes events to a thread, which
  dies on a full disk, and the next call then waits forever.

  Args:
    workdir: the directory of the run.
    name: not used; TensorBoard shows the name of the directory.
    config: not used; it is in config.json.
    step: the step of the last row so far, after which TensorBoard forgets; 0 for none.

  Raises:
    OSError: if the events cannot be written or read.
  """
  from tensorboardX.proto.event_pb2 import Event, SessionLog
  from tensorboardX.proto.summary_pb2 import Summary
  from tensorboardX.summary import scalar

  del name, config
  earlier = _event_files(workdir)
  shown, may_grow = _shown(earlier)
  path = earlier[-1] if may_grow else workdir / _later_than(earlier)
  last = max((at for at in shown if at <= step), default=-1)
  file = disk.extend(path, "ab")

  def write(*events: Event) -> None:
    with disk.naming(path):
      file.write(b"".join(_framed(event.SerializeToString()) for event in events))
      file.flush()
      os.fsync(file.fileno())

  def log(step: int, row: dict[str, float]) -> None:
    values = [value for key in row for value in scalar(key, row[key]).value]
    # One record for the whole row, so that a row is never cut in two.
    write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

  def finish(summary: dict | None) -> None:
    # After an error of writing, closing would raise another one; every row is on disk already.
    with disk.naming(path) if summary else contextlib.suppress(OSError):
      file.close()

  try:
    if not may_grow:
      write(Event(wall_time=time.time(), file_version="brain.Event:2"))
    if earlier:
      restart = SessionLog(status=SessionLog.START)
      event = Event(wall_time=time.time(), step=last + 1, session_log=restart)
      write(event, event)  # TensorBoard takes the first one of a run for the start of the run
  except OSError:
    finish(None)
    raise
  return Tracker(log, finish, last)


def _event_files(workdir: pathlib.Path) -> list[pathlib.Path]:
  """Returns the event files of a run in the order in which TensorBoard reads them.

  Links and pipes in their place are removed.
  """
  found = sorted(workdir.glob(f"{EVENTS}.*"))
  for path in found:
    if path.is_symlink() or not path.is_file():
      path.unlink()
  return [path for path in found if path.is_file()]


def _later_than(earlier: Sequence[pathlib.Path]) -> str:
  """Returns the name of an event file that TensorBoard reads after the earlier ones."""
  seconds = [int(found) for path in earlier if (found := path.name.split(".")[3]).isdecimal()]
  return f"{EVENTS}.{max(int(time.time()), max(seconds, default=0) + 1)}.{socket.gethostname()}"


def _shown(paths: Sequence[pathlib.Path]) -> tuple[set[int], bool]:
  """Reads event files as TensorBoard does.

  Args:
    paths: the files in their order.

  Returns:
    The steps of the rows that TensorBoard shows, and whether the last file may grow: it ends in a
    whole record, can be written, and has no other name, which a copy by hard links would be.
  """
  from tensorboardX.proto.event_pb2 import Event, SessionLog

  steps: set[int] = set()
  may_grow = False
  for path in paths:
    contents, whole = disk.read_bytes(path), False
    for data, end in _records(contents):
      whole = end == len(contents)
      event = Event.FromString(data)
      if event.session_log.status == SessionLog.START:
        steps = {step for step in steps if step < event.step}
      elif event.summary.value:
        steps.add(event.step)
    may_grow = whole and os.access(path, os.W_OK) and path.stat().st_nlink == 1
  return steps, may_grow


def _records(contents: bytes) -> Iterator[tuple[bytes, int]]:
  """Yields the records of an event file and their ends, up to one that is cut off or damaged."""
  start = 0
  while start < len(contents):
    length = int.from_bytes(contents[start : start + 8], "little")
    data = contents[start + 12 : start + 12 + length]
    framed = _framed(data)
    end = start + len(framed)
    if contents[start:end] != framed:
      return
    yield data, end
    start = end


def _framed(data: bytes) -> bytes:
  """Returns a record as event files hold it: with its length, and checksums of both."""
  from tensorboardX.record_writer import masked_crc32c

  length = struct.pack("<Q", len(data))
  checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
  return length + checksums[0] + data + checksums[1]
