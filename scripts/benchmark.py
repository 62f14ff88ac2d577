"""How long a training step takes, against its matrix products alone and when streamed.

  python scripts/benchmark.py                  # prints a table
  python scripts/benchmark.py --csv=bench.csv  # and writes it

The floor of a workload is found by tracing its update and keeping nothing but
the matrix products, with their shapes and layouts. `step` is `fit` with the data
set on the device; `streamed` is `fit_streamed` of the same minibatches, read
from a memory-mapped file through Grain as the main job does. All are timed in
turn in one run, so that a noisy machine slows them alike; quote the ratios:
`ratio` is step / floor, and `kept` the speed that streaming keeps, step /
streamed. The data are random pixels: the time of a step does not depend on
their values.

The paper's MNIST step (784-500-20, M = 100, L = 1) multiplies 814,000 weights
per example forward, twice that backward, less the 392,000 of the first layer,
whose input needs no gradient: 2.05 million multiply-adds, 0.41 GFLOP a step.
"""

import csv
import functools
import math
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from aevb_jax import aevb, bernoulli, elbo_a, elbo_b, fit, fit_streamed, mlp_vae
from aevb_jax.minibatches import stream
from aevb_jax.optimizers import adagrad
from aevb_jax.preprocess import binarize
from aevb_jax.types import Algorithm, Estimator

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 250, "Steps in one timed call, as in the main job.", lower_bound=1)
flags.DEFINE_integer("repeats", 11, "Timed calls of step and of floor, in turn.", lower_bound=1)
flags.DEFINE_string("csv", None, "File to write the table to.")


class Workload(NamedTuple):
  name: str
  estimator: Estimator
  data_dim: int = 784
  latent_dim: int = 20
  hidden_dim: int = 500
  num_data: int = 50_000
  batch_size: int = 100


WORKLOADS = [
  Workload("mnist elbo_b", elbo_b),
  Workload("mnist elbo_a", elbo_a),
  Workload("mnist elbo_b L=10", functools.partial(elbo_b, num_samples=10)),
  Workload("digits elbo_b", elbo_b, data_dim=64, latent_dim=2, num_data=1437),
]


def main(argv: list[str]) -> None:
  del argv
  logging.set_verbosity(logging.WARNING)
  device = jax.devices()[0].device_kind
  print(f"{device}, jax {jax.__version__}; milliseconds per step: median (min-max)")
  print(
    f"{'workload':18}{'step':>19}{'floor':>19}{'ratio':>7}{'streamed':>19}{'kept':>7}"
    f"{'products':>10}{'GFLOP':>7}{'samples/s':>11}"
  )
  rows = []
  for workload in WORKLOADS:
    row = measure(workload)
    rows.append(row)
    print(
      f"{workload.name:18}{spread(row, 'step'):>19}{spread(row, 'floor'):>19}{row['ratio']:>7.2f}"
      f"{spread(row, 'streamed'):>19}{row['kept']:>7.0%}"
      f"{row['products']:>10}{row['gflop']:>7.3f}{row['samples_per_second']:>11,.0f}",
      flush=True,
    )
  if FLAGS.csv:
    with open(FLAGS.csv, "w", newline="") as file:
      table = csv.DictWriter(file, list(rows[0]))
      table.writeheader()
      table.writerows(rows)


def spread(row: dict, name: str) -> str:
  return "{median:.2f} ({min:.2f}-{max:.2f})".format(**{s: row[f"{name}_ms_{s}"] for s in STATS})


STATS = {"median": statistics.median, "min": min, "max": max}


def measure(workload: Workload) -> dict:
  """Times step, streamed step and floor in turn."""
  model = mlp_vae(
    bernoulli(workload.data_dim),
    data_dim=workload.data_dim,
    latent_dim=workload.latent_dim,
    hidden_dim=workload.hidden_dim,
  )
  algorithm = aevb(model, workload.estimator, adagrad(0.01), num_data=workload.num_data)
  products = matrix_products(algorithm, jnp.zeros((workload.batch_size, workload.data_dim)))
  with tempfile.TemporaryDirectory() as directory:
    pixels = random_pixels(workload, directory)
    timed = {
      "step": make_step(workload, algorithm, pixels),
      "streamed": make_streamed_step(workload, algorithm, pixels),
      "floor": make_floor(products, FLAGS.steps),
    }
    times = {name: [] for name in timed}
    for run in timed.values():
      run()  # compiles
    for _ in range(FLAGS.repeats):
      for name, run in timed.items():
        start = time.perf_counter()
        run()
        times[name].append((time.perf_counter() - start) / FLAGS.steps)
  row = {"workload": workload.name}
  for name, seconds in times.items():
    row |= {f"{name}_ms_{stat}": 1e3 * function(seconds) for stat, function in STATS.items()}
  row["ratio"] = statistics.median(s / f for s, f in zip(times["step"], times["floor"]))
  row["kept"] = statistics.median(s / t for s, t in zip(times["step"], times["streamed"]))
  row["products"] = len(products)
  row["gflop"] = sum(map(flop, products)) / 1e9
  row["samples_per_second"] = workload.batch_size / statistics.median(times["step"])
  return row


def random_pixels(workload: Workload, directory: str) -> np.ndarray:
  """A data set in a memory-mapped file, as the array cache has it."""
  path, size = pathlib.Path(directory, "pixels.npy"), (workload.num_data, workload.data_dim)
  np.save(path, np.random.default_rng(0).integers(0, 256, size=size, dtype=np.uint8))
  return np.load(path, mmap_mode="r")


def make_step(workload: Workload, algorithm: Algorithm, pixels: np.ndarray) -> Callable[[], None]:
  """Trains for --steps steps with the data set on the device, and waits for them."""
  resident = jax.device_put(np.asarray(pixels))
  state = algorithm.init(jax.random.key(0))

  def run() -> None:
    nonlocal state
    state, metrics = fit(
      algorithm,
      state,
      jax.random.key(1),
      resident,
      batch_size=workload.batch_size,
      num_steps=FLAGS.steps,
      preprocess=binarize,
    )
    jax.block_until_ready(metrics)

  return run


def make_streamed_step(
  workload: Workload, algorithm: Algorithm, pixels: np.ndarray
) -> Callable[[], None]:
  """The same from the file; a call reads what the next call trains on, as the main job does."""
  calls = FLAGS.repeats + 2
  key = jax.random.key(1)
  data = map(
    jax.device_put, stream(pixels, key, [FLAGS.steps] * calls, batch_size=workload.batch_size)
  )
  state, upcoming = algorithm.init(jax.random.key(0)), next(data)

  def run() -> None:
    nonlocal state, upcoming
    state, metrics = fit_streamed(algorithm, state, key, upcoming, preprocess=binarize)
    upcoming = next(data)
    jax.block_until_ready(metrics)

  return run


def matrix_products(algorithm: Algorithm, batch: jax.Array) -> list:
  """The dot_general equations of one update, as the gradient leaves them."""
  state = jax.eval_shape(algorithm.init, jax.random.key(0))
  jaxpr = jax.make_jaxpr(algorithm.update)(state, batch)
  return [
    equation for equation in equations(jaxpr.jaxpr) if equation.primitive.name == "dot_general"
  ]


def equations(jaxpr) -> Iterator:
  for equation in jaxpr.eqns:
    if equation.primitive.name in ("scan", "while", "cond"):
      raise NotImplementedError(f"counting the products inside a {equation.primitive.name}")
    yield equation
    for value in equation.params.values():
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        yield from equations(inner)


def flop(product) -> int:
  (contracted, _), _ = product.params["dimension_numbers"]
  lengths = [product.invars[0].aval.shape[axis] for axis in contracted]
  return 2 * math.prod(lengths) * math.prod(product.outvars[0].aval.shape)


def make_floor(products: list, num_steps: int) -> Callable[[], None]:
  """Does the products `num_steps` times and nothing else, and waits for them."""
  rng = np.random.default_rng(0)
  operands = [
    [jnp.asarray(rng.normal(size=v.aval.shape), v.aval.dtype) for v in product.invars]
    for product in products
  ]

  @jax.jit
  def program(operands: list) -> jax.Array:
    def step(_, total: jax.Array) -> jax.Array:
      # The barriers keep the compiler from lifting the products out of the loop
      # and from computing only the entries that are summed.
      fresh, total = jax.lax.optimization_barrier((operands, total))
      results = [
        jax.lax.dot_general(*pair, product.params["dimension_numbers"])
        for product, pair in zip(products, fresh, strict=True)
      ]
      results = jax.lax.optimization_barrier(results)
      return total + sum(result.ravel()[0] for result in results)

    return jax.lax.fori_loop(0, num_steps, step, jnp.zeros(()))

  return lambda: jax.block_until_ready(program(operands))


if __name__ == "__main__":
  app.run(main)
