"""Rows of the table: a member compiled for a target, measured, and written to a CSV file."""

import csv
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
from compiling.instructions import Counts, Reader
from compiling.sizes import Sizes
from compiling.steps import Make
from compiling.targets import Target, in_few_words
from compiling.tracing import as_on

from aevb_jax.training.program import compile_for_devices
from aevb_jax.training.sharding import make_shardings


class Row(NamedTuple):
  """A member compiled for a target, as text; what is not known is empty."""

  platform: str
  topology: str
  card: str
  jax: str
  member: str
  batch_size: str
  seconds: str = ""
  kernels: str = ""
  open_loops: str = ""
  collectives: str = ""  # such as "all-reduce:1:3263300 all-gather:2:400": number, bytes
  argument_bytes: str = ""
  temporary_bytes: str = ""
  flops: str = ""
  error: str = ""


def compile_row(name: str, make: Make, sizes: Sizes, devices: Sequence, target: Target) -> Row:
  """Compiles a member for devices, and measures its program; an error of the compiler is a row."""
  row = Row(*target, jax.__version__, name, str(sizes.batch_size))
  members = sizes.num_members if name.startswith("sweep") else 1
  start = time.perf_counter()
  try:
    with as_on(target.platform):
      shardings = make_shardings(devices, members)
      lowered = make(sizes, shardings).lower()
    start = time.perf_counter()
    # A run compiles its training so, and leaves its evaluation to `jax.jit`.
    of_training = not name.startswith("evaluation")
    compiled = (
      compile_for_devices(lowered, shardings.minibatch) if of_training else lowered.compile()
    )
  except Exception as error:  # of the compiler, of many types
    return row._replace(seconds=since(start), error=in_few_words(error))
  reader = Reader(compiled.as_text())
  counts = reader.step() if of_training else reader.whole()
  return measured(row._replace(seconds=since(start)), compiled, counts)


def measured(row: Row, compiled: jax.stages.Compiled, counts: Counts) -> Row:
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
  return row._replace(
    kernels=str(counts.kernels),
    open_loops=str(counts.open_loops),
    collectives=" ".join(f"{kind}:{n}:{size}" for kind, (n, size) in counts.collectives.items()),
    argument_bytes=str(memory.argument_size_in_bytes) if memory else "",
    temporary_bytes=str(memory.temp_size_in_bytes) if memory else "",
    flops=f"{cost['flops']:.0f}" if cost.get("flops", 0) > 0 else "",
  )


def since(start: float) -> str:
  return f"{time.perf_counter() - start:.1f}"


def collectives_of(row: Row) -> dict[str, tuple[int, int]]:
  """Returns the number and the bytes of each kind of collective."""
  parts = [part.split(":") for part in row.collectives.split()]
  return {kind: (int(number), int(size)) for kind, number, size in parts}


def read_rows(path: pathlib.Path) -> list[Row]:
  """Reads the rows of a CSV file; there are none if there is no file."""
  if not path.exists():
    return []
  with path.open(newline="") as file:
    return [Row(**row) for row in csv.DictReader(file)]


def append(path: pathlib.Path, row: Row) -> None:
  """Adds a row to a CSV file, which gets a header if it is new."""
  is_new = not path.exists()
  with path.open("a", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([Row._fields, row] if is_new else [row])
