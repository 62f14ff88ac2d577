"""TensorBoard's events, written by the thread that has them.

tensorboardX's own SummaryWriter hands them to another, which dies of a full disk with a
traceback, and whoever hands it more waits for ever.
"""

import contextlib
import pathlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from experiments.runs import directory


@contextlib.contextmanager
def event_writer(workdir: pathlib.Path, columns: Sequence[str]) -> Iterator[Callable[[dict], None]]:
  """A function that appends a row to the events, by its examples_seen; others are removed.

  Raises:
    OSError: on entering, or by the function, if they cannot be written.
  """
  from tensorboardX.proto.event_pb2 import Event
  from tensorboardX.record_writer import RecordWriter
  from tensorboardX.summary import scalar

  for old in workdir.glob("events.out.tfevents.*"):
    old.unlink()
  path = workdir / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
  with directory.naming(path):
    writer = RecordWriter(str(path))

  def write(*events: Event) -> None:
    with directory.naming(path):
      for event in events:
        writer.write(event.SerializeToString())
      writer.flush()

  def show(row: dict) -> None:
    at = dict(wall_time=time.time(), step=row["examples_seen"])
    write(*(Event(summary=scalar(name, row[name]), **at) for name in columns))

  with directory.closing(writer):
    write(Event(wall_time=time.time(), file_version="brain.Event:2"))
    yield show
