"""The growth of time and memory with M, L, J, hidden units, N, K and devices.

Along each axis everything else is as in the paper's model of MNIST (for K: in the model of the
importance-weighted bound). The exponent is the slope of log time, or log memory, on log size over
the upper half of the sizes; the small sizes show the fixed part. It is computed from the least
times, which other work on the machine disturbs least. Memory is the memory of the compiled
program's temporary arrays.

Virtual devices of one CPU share its cores: that axis shows what dividing the work costs, not
what it gains, and checks that the results equal one device's. It runs in a process of
its own, because the number of devices is fixed once.
"""

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from benchmarks import workloads
from benchmarks.timing import Timed, time_in_turn
from benchmarks.workloads import PAPER, Workload
from jax.sharding import AxisType, NamedSharding, PartitionSpec


class Axis(NamedTuple):
  name: str
  sizes: tuple[int, ...]
  workload: Callable[[int], Workload]


IWAE = next(w for w in workloads.WORKLOADS if w.name == "mnist iwae K=50")
AXES = (
  Axis("M", (25, 50, 100, 200, 400, 800), lambda n: PAPER._replace(batch_size=n, num_steps=10)),
  Axis("L", (1, 2, 5, 10, 20, 40), lambda n: PAPER._replace(num_samples=n, num_steps=4)),
  Axis("J", (5, 10, 20, 50, 100, 200), lambda n: _paper_with(latent_dim=n)),
  Axis("hidden", (100, 200, 500, 1000, 2000), lambda n: _paper_with(hidden_dim=n)),
  Axis("N", (10**3, 10**4, 10**5, 4 * 10**5), lambda n: PAPER._replace(num_data=n, num_steps=20)),
  Axis("K", (1, 5, 10, 25, 50, 100), lambda n: IWAE._replace(num_samples=n, num_steps=2)),
)
DEVICES = (1, 2, 4, 8)


def _paper_with(**sizes: int) -> Workload:
  return PAPER._replace(model=workloads.mlp(**sizes), num_steps=10)


def table(only: str, repeats: int) -> Iterator[dict]:
  """Measures the axes that have `only` in their names; prints and yields the rows."""
  print(f"{'axis':>8}{'size':>8}{'ms':>25}{'ms / size':>12}{'MB':>9}{'differs by':>12}")
  for axis in AXES:
    if only in axis.name:
      yield from _printed([row | dict(difference=None) for row in _measure(axis, repeats)])
  if only in "devices":
    os.environ["JAX_NUM_CPU_DEVICES"] = str(max(DEVICES))  # read by the new process
    with multiprocessing.get_context("spawn").Pool(1) as pool:
      yield from _printed(pool.apply(_measure_devices, (repeats,)))


def _measure(axis: Axis, repeats: int) -> list[dict]:
  timed = {}
  for size in axis.sizes:
    workload = axis.workload(size)
    pixels = workloads.random_pixels(workload.num_data, workload.data_dim)
    timed[size] = workloads.make_step(workload, workloads.make_algorithm(workload), pixels)
  return _rows(axis.name, timed, repeats)


def _rows(axis: str, timed: dict[int, Timed], repeats: int) -> list[dict]:
  times = time_in_turn(timed, repeats)
  columns = lambda size: dict(ms=sorted(times[size]), memory_mb=timed[size].memory_mb)
  return [dict(axis=axis, size=size) | columns(size) for size in timed]


def _measure_devices(repeats: int) -> list[dict]:
  algorithm = workloads.make_algorithm(PAPER)
  batch = workloads.random_pixels(8 * PAPER.batch_size, PAPER.data_dim) / np.float32(255)
  timed, bounds = {}, {}
  for count in DEVICES:
    devices = jax.devices()[:count]
    if len(devices) == count:
      timed[count], bounds[count] = _divided(algorithm, batch, devices)
  rows = _rows("devices", timed, repeats)
  return [row | dict(difference=abs(bounds[row["size"]] - bounds[1])) for row in rows]


def _divided(algorithm, batch: np.ndarray, devices: list) -> tuple[Timed, float]:
  """Times a step on a minibatch divided among devices; also gives the bound after five steps."""
  mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
  whole, divided = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
  state = jax.device_put(algorithm.init(jax.random.key(0)), whole)
  batch = jax.device_put(batch, divided)
  update = jax.jit(algorithm.update, out_shardings=whole, donate_argnums=0)
  program, seconds, memory = workloads.compiled(update.lower(state, batch))

  def run(num_steps: int = 5) -> jax.Array:
    nonlocal state
    for _ in range(num_steps):
      state, metrics = program(state, batch)
    return metrics["bound"].block_until_ready()

  return Timed(run, 5, seconds, memory), float(run())


def _printed(rows: list[dict]) -> Iterator[dict]:
  for row in rows:
    ms = row.pop("ms")
    row |= dict(ms_median=float(np.median(ms)), ms_min=ms[0], ms_max=ms[-1])
    span = f"{row['ms_median']:.2f} ({row['ms_min']:.2f}-{row['ms_max']:.2f})"
    difference = "" if row["difference"] is None else f"{row['difference']:.1e}"
    print(
      f"{row['axis']:>8}{row['size']:>8}{span:>25}{row['ms_median'] / row['size']:>12.4f}"
      f"{row['memory_mb']:>9.1f}{difference:>12}",
      flush=True,
    )
  sizes = [row["size"] for row in rows]
  exponents = {
    what: exponent(sizes, [row[column] for row in rows])
    for what, column in (("time", "ms_min"), ("memory", "memory_mb"))
  }
  print(f"{rows[0]['axis']:>8}  " + ", ".join(f"{w} ~ size^{e:.2f}" for w, e in exponents.items()))
  for row in rows:
    yield row | {f"{what}_exponent": e for what, e in exponents.items()}


def exponent(sizes: list[float], values: list[float]) -> float:
  """Fits the slope of log value on log size, by least squares over the upper half of the sizes."""
  upper = len(sizes) // 2
  if min(values[upper:]) <= 0:
    return math.nan
  return float(np.polyfit(np.log(sizes[upper:]), np.log(values[upper:]), 1)[0])
