"""How long a training step takes, against its matrix products alone and when streamed.

  python scripts/benchmark.py                  # prints a table
  python scripts/benchmark.py --csv=bench.csv  # and writes it
  python scripts/benchmark.py --only=iwae --scaling_k=1,10,100  # time and memory against K
  python scripts/benchmark.py --only=likelihood  # estimating log p(x), see below

The floor of a workload is found by tracing its update and keeping nothing but
the matrix products, with their shapes and layouts. A product that is traced twice
of the same operands, as `dreg` traces its pass through the decoder, is computed
once by the compiler and counts once. `step` is `fit` with the data
set on the device; `streamed` is `fit_streamed` of the same minibatches, read
from a memory-mapped file through Grain as the main job does. All are timed in
turn in one run, so that a noisy machine slows them alike; quote the ratios:
`ratio` is step / floor, and `kept` the speed that streaming keeps, step /
streamed. The data are random pixels: the time of a step does not depend on
their values.

The paper's MNIST step (784-500-20, M = 100, L = 1) multiplies 814,000 weights
per example forward, twice that backward, less the 392,000 of the first layer,
whose input needs no gradient: 2.05 million multiply-adds, 0.41 GFLOP a step. That
of the importance weighted bound (784-200-200-50, K = 50) multiplies 216,800 weights
of the encoder and 50 times 206,800 of the decoder forward, and again twice that
backward, less 156,800: 31.5 million, 6.30 GFLOP a step, in 20 products for any K.

The last row is no training step but log p(x) of 100 data points by K = 5000 importance
samples each, as experiments.evaluate has it; its milliseconds are per data point, and its
floor is the products of the decoder.

With --scaling_k, `MB` is what the compiled step holds at its peak beside its
arguments and results, and `array` is one float32 array of K x M x D numbers, such as
the logits of all samples: MB / array is how many of them are held at once.
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
import optax
from absl import app, flags, logging
from jax.extend.core import Literal

from aevb_jax import (
  aevb,
  bernoulli,
  elbo_a,
  elbo_b,
  evaluate,
  fit,
  fit_streamed,
  importance_sampling,
  init_params,
  mlp_vae,
)
from aevb_jax.importance import dreg, iwae
from aevb_jax.marginal import LogLikelihood
from aevb_jax.minibatches import stream
from aevb_jax.optimizers import adagrad, adam
from aevb_jax.preprocess import binarize
from aevb_jax.types import Algorithm, Estimator, Params

FLAGS = flags.FLAGS
flags.DEFINE_integer(
  "steps",
  250,
  "Steps in one timed call, as in the main job; 1/L as many, but not below 10, with L samples.",
  lower_bound=1,
)
flags.DEFINE_integer("repeats", 11, "Timed calls of step and of floor, in turn.", lower_bound=1)
flags.DEFINE_string("csv", None, "File to write the table to.")
flags.DEFINE_string("only", "", "Measures the workloads that have this in their name.")
flags.DEFINE_list(
  "scaling_k",
  [],
  "Numbers of samples, such as 1,2,5,10,20,50,100: instead of the table, prints time and "
  "memory of a step against K, for the workloads of the importance weighted bound.",
)


class Workload(NamedTuple):
  name: str
  estimator: Estimator
  num_samples: int = 1
  data_dim: int = 784
  latent_dim: int = 20
  hidden_dim: int | tuple[int, ...] = 500
  optimizer: optax.GradientTransformation = adagrad(0.01)
  num_data: int = 50_000
  batch_size: int = 100

  @property
  def num_steps(self) -> int:
    """Steps in one timed call."""
    return min(FLAGS.steps, max(10, FLAGS.steps // self.num_samples))


def importance_weighted(name: str, estimator: Estimator) -> Workload:
  """Burda et al. (2015) on MNIST, with K = 50."""
  return Workload(
    name, estimator, num_samples=50, latent_dim=50, hidden_dim=(200, 200), optimizer=adam(1e-3)
  )


WORKLOADS = [
  Workload("mnist elbo_b", elbo_b),
  Workload("mnist elbo_a", elbo_a),
  Workload("mnist elbo_b L=10", elbo_b, num_samples=10),
  Workload("digits elbo_b", elbo_b, data_dim=64, latent_dim=2, num_data=1437),
]
IMPORTANCE_WEIGHTED = [
  importance_weighted("mnist iwae K=50", iwae),
  importance_weighted("mnist dreg K=50", dreg),
]


def main(argv: list[str]) -> None:
  del argv
  logging.set_verbosity(logging.WARNING)
  device = jax.devices()[0].device_kind
  print(f"{device}, jax {jax.__version__}; milliseconds per step: median (min-max)")
  rows = scaling_table() if FLAGS.scaling_k else table() + likelihood_table()
  if FLAGS.csv and rows:
    with open(FLAGS.csv, "w", newline="") as file:
      writer = csv.DictWriter(file, list(rows[0] | rows[-1]))
      writer.writeheader()
      writer.writerows(rows)


def table() -> list[dict]:
  print(
    f"{'workload':18}{'step':>23}{'floor':>23}{'ratio':>7}{'streamed':>23}{'kept':>7}"
    f"{'products':>10}{'GFLOP':>7}{'samples/s':>11}"
  )
  rows = []
  for workload in WORKLOADS + IMPORTANCE_WEIGHTED:
    if FLAGS.only not in workload.name:
      continue
    row = measure(workload)
    rows.append(row)
    print(
      f"{workload.name:18}{spread(row, 'step'):>23}{spread(row, 'floor'):>23}{row['ratio']:>7.2f}"
      f"{spread(row, 'streamed'):>23}{row['kept']:>7.0%}"
      f"{row['products']:>10}{row['gflop']:>7.3f}{row['samples_per_second']:>11,.0f}",
      flush=True,
    )
  return rows


def likelihood_table() -> list[dict]:
  """Importance sampling of log p(x) by the paper's model of MNIST, against the decoder's products.

  As experiments.evaluate does it: 20 points at once, by 50 samples at a time.
  """
  num_points, at_once, chunk_size, num_samples, data_dim, latent_dim = 100, 20, 50, 5000, 784, 20
  name = f"likelihood K={num_samples}"
  if FLAGS.only not in name:
    return []
  model = mlp_vae(bernoulli(data_dim), data_dim=data_dim, latent_dim=latent_dim, hidden_dim=500)
  params = init_params(jax.random.key(0), model)
  pixels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (num_points, data_dim)), jnp.uint8)

  def log_p(key: jax.Array, params: Params, x: jax.Array) -> LogLikelihood:
    how = dict(num_samples=num_samples, chunk_size=chunk_size)
    return importance_sampling(key, model, params, x, **how)

  def log_likelihoods(x: jax.Array, z: jax.Array) -> jax.Array:  # of a chunk of samples each
    of_one = lambda x, z: model.decoder.given(params.theta, z).log_prob(x)
    return jax.vmap(jax.vmap(of_one, (None, 0)))(x, z)

  how = dict(batch_size=at_once, preprocess=binarize)
  program = evaluate.lower(log_p, jax.random.key(0), params, pixels, **how).compile()
  x, z = jnp.zeros((at_once, data_dim)), jnp.zeros((at_once, chunk_size, latent_dim))
  products = products_of(jax.make_jaxpr(log_likelihoods)(x, z))
  repetitions = num_points // at_once * (num_samples // chunk_size)
  timed = {
    "step": lambda: jax.block_until_ready(program(jax.random.key(0), params, pixels)),
    "floor": make_floor(products, repetitions),
  }
  row = time_in_turn(name, timed, num_points)
  row["memory_mb"] = program.memory_analysis().temp_size_in_bytes / 1e6
  row["products"] = repetitions * len(products)
  row["gflop"] = repetitions * sum(map(flop, products)) / num_points / 1e9
  print(
    f"{name:18}{spread(row, 'step'):>23}{spread(row, 'floor'):>23}{row['ratio']:>7.2f}"
    f"   {row['gflop']:.2f} GFLOP a point, {row['memory_mb']:.0f} MB"
  )
  return [row]


def scaling_table() -> list[dict]:
  print(
    f"{'workload':18}{'step':>23}{'floor':>23}{'ratio':>7}{'step / K':>10}"
    f"{'MB':>8}{'MB / K':>8}{'array':>8}{'arrays':>8}"
  )
  rows = []
  for workload in IMPORTANCE_WEIGHTED:
    if FLAGS.only not in workload.name:
      continue
    for k in map(int, FLAGS.scaling_k):
      name = workload.name.replace(f"K={workload.num_samples}", f"K={k}")
      row = measure(workload._replace(name=name, num_samples=k), streamed=False)
      row["array_mb"] = 4 * k * workload.batch_size * workload.data_dim / 1e6
      rows.append(row)
      print(
        f"{name:18}{spread(row, 'step'):>23}{spread(row, 'floor'):>23}{row['ratio']:>7.2f}"
        f"{row['step_ms_median'] / k:>10.2f}{row['memory_mb']:>8.1f}{row['memory_mb'] / k:>8.2f}"
        f"{row['array_mb']:>8.2f}{row['memory_mb'] / row['array_mb']:>8.2f}",
        flush=True,
      )
  return rows


def spread(row: dict, name: str) -> str:
  return "{median:.2f} ({min:.2f}-{max:.2f})".format(**{s: row[f"{name}_ms_{s}"] for s in STATS})


STATS = {"median": statistics.median, "min": min, "max": max}


def measure(workload: Workload, *, streamed: bool = True) -> dict:
  """Times step, streamed step and floor in turn."""
  model = mlp_vae(
    bernoulli(workload.data_dim),
    data_dim=workload.data_dim,
    latent_dim=workload.latent_dim,
    hidden_dim=workload.hidden_dim,
  )
  estimator = functools.partial(workload.estimator, num_samples=workload.num_samples)
  algorithm = aevb(model, estimator, workload.optimizer, num_data=workload.num_data)
  products = matrix_products(algorithm, jnp.zeros((workload.batch_size, workload.data_dim)))
  check_encoder(products, workload)
  with tempfile.TemporaryDirectory() as directory:
    pixels = random_pixels(workload, directory)
    step, memory = make_step(workload, algorithm, pixels)
    timed = {"step": step, "floor": make_floor(products, workload.num_steps)}
    if streamed:
      timed["streamed"] = make_streamed_step(workload, algorithm, pixels)
    row = time_in_turn(workload.name, timed, workload.num_steps)
  row["memory_mb"] = memory / 1e6
  row["products"] = len(products)
  row["gflop"] = sum(map(flop, products)) / 1e9
  row["samples_per_second"] = workload.batch_size / (row["step_ms_median"] / 1e3)
  return row


def time_in_turn(name: str, timed: dict[str, Callable[[], object]], num_steps: int) -> dict:
  """Milliseconds per step of what is timed, and its ratios: medians over the repetitions."""
  times = {name: [] for name in timed}
  for run in timed.values():
    run()  # the first call is slower, and some compile in it
  for _ in range(FLAGS.repeats):
    for what, run in timed.items():
      start = time.perf_counter()
      run()
      times[what].append((time.perf_counter() - start) / num_steps)
  row = {"workload": name}
  for what, seconds in times.items():
    row |= {f"{what}_ms_{stat}": 1e3 * function(seconds) for stat, function in STATS.items()}
  row["ratio"] = statistics.median(s / f for s, f in zip(times["step"], times["floor"]))
  if "streamed" in timed:
    row["kept"] = statistics.median(s / t for s, t in zip(times["step"], times["streamed"]))
  return row


def random_pixels(workload: Workload, directory: str) -> np.ndarray:
  """A data set in a memory-mapped file, as the array cache has it."""
  path, size = pathlib.Path(directory, "pixels.npy"), (workload.num_data, workload.data_dim)
  np.save(path, np.random.default_rng(0).integers(0, 256, size=size, dtype=np.uint8))
  return np.load(path, mmap_mode="r")


def make_step(
  workload: Workload, algorithm: Algorithm, pixels: np.ndarray
) -> tuple[Callable[[], None], int]:
  """Trains with the data set on the device, and waits for it; and the bytes this takes.

  The bytes are those of the compiled program's temporary arrays, at their peak.
  """
  resident = jax.device_put(np.asarray(pixels))
  state, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
  program = fit.lower(
    algorithm,
    state,
    key,
    resident,
    batch_size=workload.batch_size,
    num_steps=workload.num_steps,
    preprocess=binarize,
  ).compile()

  def run() -> None:
    nonlocal state
    state, metrics = program(state, key, resident)
    jax.block_until_ready(metrics)

  return run, program.memory_analysis().temp_size_in_bytes


def make_streamed_step(
  workload: Workload, algorithm: Algorithm, pixels: np.ndarray
) -> Callable[[], None]:
  """The same from the file; a call reads what the next call trains on, as the main job does."""
  calls = FLAGS.repeats + 2
  key = jax.random.key(1)
  data = map(
    jax.device_put,
    stream(pixels, key, [workload.num_steps] * calls, batch_size=workload.batch_size),
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
  return products_of(jax.make_jaxpr(algorithm.update)(state, batch))


def products_of(program) -> list:
  return [
    equation for equation in equations(program.jaxpr) if equation.primitive.name == "dot_general"
  ]


def check_encoder(products: list, workload: Workload) -> None:
  """That the encoder sees an example once, however many samples are drawn of its z.

  Its first layer multiplies x (M, D) by the weights, and backward by the cotangent;
  what there is for every sample has another axis.
  """
  x = workload.batch_size, workload.data_dim
  count = sum(x in [v.aval.shape for v in product.invars] for product in products)
  if count != 2:
    raise AssertionError(f"{workload.name}: x is in {count} products, expected 2")


def equations(jaxpr) -> Iterator:
  """Those of the program and of the calls in it, without those that repeat an earlier one.

  An equation repeats another if it applies the same primitive, with the same
  parameters, to operands that are the same or repeated: the compiler merges the
  two. The random numbers are no exception: they are functions of their keys.
  """
  first = {}  # for a repeated variable, the variable that it repeats
  seen = {}
  for equation in jaxpr.eqns:
    if equation.primitive.name in ("scan", "while", "cond"):
      raise NotImplementedError(f"counting the products inside a {equation.primitive.name}")
    operands = [str(v) if isinstance(v, Literal) else first.get(v, v) for v in equation.invars]
    # The parameters of a call are its program, which prints alike if it is alike.
    key = equation.primitive, str(equation.params), *operands
    if key in seen:
      first.update(zip(equation.outvars, seen[key], strict=True))
      continue
    seen[key] = equation.outvars
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
