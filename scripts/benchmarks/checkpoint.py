"""The cost of surviving: checking the numbers of a run, and writing its checkpoints."""

import atexit
import contextlib
import itertools
import pathlib
import tempfile
from collections.abc import Callable

import jax
from benchmarks.timing import Timed
from benchmarks.workloads import PAPER, compiled, make_algorithm, random_pixels

from aevb_jax.algorithms.optimizers import adam
from aevb_jax.runs import faults
from aevb_jax.training import checkpoint, program
from aevb_jax.training.fitting import fit
from aevb_jax.training.sharding import make_shardings

NUM_CHUNKS = 4  # chunks of a timed call
OPEN = contextlib.ExitStack()  # directories that last until the process ends
NUM_WRITTEN = 5  # checkpoints of a timed call
ROW = dict(step=1000, train_bound=-100.123456789, test_bound=-100.123456789, seconds=123.456)


def checkpointing() -> tuple[dict[str, Timed], int]:
  """Times the paper's model with Adam, in chunks of as many steps as a run makes at once.

  `step` is only training. `looked` keeps the state before every chunk and checks whether the
  state after it is finite, as a run does. `saved` also writes one checkpoint, with a thousand rows,
  and waits until it is on disk.
  """
  workload = PAPER._replace(optimizer=adam(1e-3), num_steps=program.MAX_CHUNK_STEPS)
  algorithm = make_algorithm(workload)
  shardings = make_shardings(jax.devices()[:1])
  pixels = jax.device_put(random_pixels(workload.num_data, workload.data_dim), shardings.replicated)
  key = jax.random.key(1)
  start = jax.jit(algorithm.init, out_shardings=shardings.replicated)(jax.random.key(0))
  how = dict(batch_size=workload.batch_size, num_steps=workload.num_steps)
  how |= dict(preprocess=workload.preprocess, sharding=shardings.minibatch)
  train, seconds, memory = compiled(fit.lower(algorithm, start, key, pixels, **how))

  def timed(look: bool, save: bool) -> Timed:
    state = faults.copy(start)

    def run() -> None:
      nonlocal state
      with contextlib.ExitStack() as stack:
        if save:
          directory = stack.enter_context(tempfile.TemporaryDirectory())
          write = stack.enter_context(checkpoint.saver(pathlib.Path(directory)))
        for number in range(NUM_CHUNKS):
          if look:
            made = train(faults.copy(state), key, pixels)
            state = faults.chunk_of(*made, "bound", shardings).states
          else:
            state, metrics = train(state, key, pixels)
            jax.block_until_ready(metrics)
          if save and number == 0:
            write(1, state, {"rows": 1000 * [ROW]})

    return Timed(run, NUM_CHUNKS * workload.num_steps, seconds, memory)

  return dict(
    step=timed(False, False), looked=timed(True, False), saved=timed(True, True)
  ), workload.batch_size


def writing() -> dict[str, Timed]:
  """Times only checkpoints, of the paper's model with Adam and a thousand rows.

  `another` writes one after another, each of which waits for the one before; `replaced` writes
  the same step with other records; `first` opens a directory and writes the first, which is read
  back.
  """
  state = jax.jit(make_algorithm(PAPER._replace(optimizer=adam(1e-3))).init)(jax.random.key(0))
  record, numbers = {"rows": 1000 * [ROW]}, itertools.count(1)
  atexit.register(OPEN.close)

  def opened() -> Callable:
    directory = OPEN.enter_context(tempfile.TemporaryDirectory())
    write = OPEN.enter_context(checkpoint.saver(pathlib.Path(directory)))
    write(0, state, record)
    return write

  writers = opened(), opened()

  def another() -> None:
    for number in itertools.islice(numbers, NUM_WRITTEN):
      writers[0](number, state, record)

  def replaced() -> None:
    for number in itertools.islice(numbers, NUM_WRITTEN):
      writers[1](0, state, record | dict(number=number))

  def first() -> None:
    with tempfile.TemporaryDirectory() as directory:
      with checkpoint.saver(pathlib.Path(directory)) as write:
        write(1, state, record)

  return dict(
    another=Timed(another, NUM_WRITTEN), replaced=Timed(replaced, NUM_WRITTEN), first=Timed(first)
  )
