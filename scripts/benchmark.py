"""Times the package, and compares it with only its matrix products and with other libraries.

  python scripts/benchmark.py                   # prints a table
  python scripts/benchmark.py --csv=bench.csv   # and writes it
  python scripts/benchmark.py --only=iwae       # workloads with this in their names
  python scripts/benchmark.py --peers           # and the same work in other libraries
  python scripts/benchmark.py --scaling         # time and memory against M, L, J, ..., instead

All parts of a workload are timed in turn in one run, so that a noisy machine slows them
alike; quote the ratios. A row has milliseconds per step, the median (least-most) of the
repeats; `ratio`, its time over the floor's, the median over the repeats; and `speed`, how many
times as fast as this row our `step` is. `least` is the same for the least times, which other work
on the machine disturbs least. The floor is only the matrix products of the step
(benchmarks/floor.py). MB is the memory that the compiled program holds at its peak in addition to
its arguments and results.

  likelihood    log p(x) by K = 5000 importance samples; a sample is a data point
  sweep         a step of 8 or 16 states in one program; `in turn` is one state after another
  checkpoint    `looked` is training that checks every 250 steps that its numbers are finite;
                `saved` also writes a checkpoint in 1000 steps, so that their difference is a
                thousandth of the cost of a checkpoint
  start         the main job on digits, from the command to its first row of metrics: one
                step and its evaluation, compiled before (`step`) and for the first time (`cold`)

benchmark.md has the necessary cost of the steps, the attempts to reach it, and the numbers.
"""

import csv
from collections.abc import Callable, Iterator

import jax
from absl import flags, logging
from benchmarks import checkpoint, scaling, workloads
from benchmarks.floor import UncountableError, make_floor
from benchmarks.timing import Timed, header, in_own_process, line, rows_of, time_in_turn
from benchmarks.workloads import Workload

from experiments.launch import command

FLAGS = flags.FLAGS
flags.DEFINE_integer("repeats", 11, "Timed calls of each, in turn.", lower_bound=1)
flags.DEFINE_string("csv", None, "File to write the table to.")
flags.DEFINE_string("only", "", "Measures what has this in its name.")
flags.DEFINE_boolean("peers", False, "Times other libraries that are installed, too.")
flags.DEFINE_boolean("scaling", False, "Prints growth instead of the table.")


def main() -> None:
  logging.set_verbosity(logging.WARNING)
  print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; milliseconds per step")
  if FLAGS.scaling:
    rows = list(scaling.table(FLAGS.only, FLAGS.repeats))
  else:
    rows = table()
  if FLAGS.csv and rows:
    with open(FLAGS.csv, "w", newline="") as file:
      columns = list(dict.fromkeys(name for row in rows for name in row))
      writer = csv.DictWriter(file, columns)
      writer.writeheader()
      writer.writerows(rows)


def table() -> list[dict]:
  print(header())
  rows = []
  for name, measure in measures():
    if FLAGS.only in name:
      for row in measure():
        print(line(row), flush=True)
        rows.append(row)
  return rows


def measures() -> Iterator[tuple[str, Callable[[], list[dict]]]]:
  """Yields the name of each workload, and a function that measures it."""
  for workload in workloads.WORKLOADS:
    yield workload.name, lambda workload=workload: measure_training(workload)
  yield "likelihood K=5000", lambda: measure_others("likelihood K=5000", *workloads.likelihood())
  for size in (8, 16):
    name = f"sweep of {size}"
    yield name, lambda name=name, size=size: measure_others(name, *workloads.sweep(size))
  yield "checkpoint", lambda: measure_others("checkpoint", *checkpoint.checkpointing())
  yield "writing checkpoints", lambda: measure_others("writing", checkpoint.writing(), None)
  yield "start", lambda: measure_others("start", workloads.start_up(), None, max_repeats=3)


def measure_others(
  name: str, timed: dict[str, Timed], samples_per_step: int | None, max_repeats: int | None = None
) -> list[dict]:
  times = time_in_turn(timed, min(FLAGS.repeats, max_repeats or FLAGS.repeats))
  ours = "step" if "step" in timed else next(iter(timed))
  return rows_of(name, timed, times, samples_per_step=samples_per_step, ours=ours)


def measure_training(workload: Workload) -> list[dict]:
  algorithm = workloads.make_algorithm(workload)
  sizes = workload.num_data, workload.data_dim, workload.num_classes
  pixels = workloads.random_pixels(*sizes)
  timed = {"step": workloads.make_step(workload, algorithm, pixels)}
  try:
    products = workloads.matrix_products(workload, algorithm)
    timed["floor"] = Timed(make_floor(products, workload.num_steps), workload.num_steps)
  except UncountableError as error:
    print(f"{workload.name}: no floor, since {error}")
  if workload.streamed:
    timed["streamed"] = workloads.make_streamed_step(workload, algorithm, pixels, FLAGS.repeats)
  if FLAGS.peers:
    timed |= workload_peers(workload.name)
  times = time_in_turn(timed, FLAGS.repeats)
  return rows_of(workload.name, timed, times, samples_per_step=workload.batch_size)


def workload_peers(name: str) -> dict[str, Timed]:
  """Makes the peers that are installed, each in a process of its own."""
  from benchmarks import peers as benchmark_peers  # only --peers needs its requirements

  peers = {}
  for peer in benchmark_peers.PEERS.get(name, {}):
    try:
      peers[peer] = in_own_process(benchmark_peers.checked, name, peer)
    except ImportError as error:
      print(f"{peer}: left out, {error}")
  return peers


if __name__ == "__main__":
  command.run(main)
