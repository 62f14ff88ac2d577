"""The workloads that are timed: training steps, estimates of log p(x), a sweep, a start.

`step` is `fit` with the data set on the device; `streamed` is `fit_streamed` on minibatches of
the same size, read from a memory-mapped file through Grain as the main job does. The data are
random pixels: the time of a step does not depend on their values.
"""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from benchmarks.floor import flop, make_floor, products_of
from benchmarks.timing import Timed

from aevb_jax import (
  bernoulli,
  elbo_a,
  elbo_b,
  evaluate,
  fit,
  fit_streamed,
  gaussian,
  importance_sampling,
  init_params,
  mlp_vae,
)
from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.algorithms.optimizers import adagrad, adam
from aevb_jax.data.minibatches import stream
from aevb_jax.data.preprocess import beside, binarize, scale, threshold
from aevb_jax.estimators import sgvb
from aevb_jax.estimators.importance import dreg, iwae
from aevb_jax.estimators.semi_supervised import conditioned, semi_supervised_bound
from aevb_jax.inference.marginal import LogLikelihood
from aevb_jax.models.conditions import conditional_vae
from aevb_jax.models.hierarchical import hierarchical_vae
from aevb_jax.models.semi_supervised import m2_vae
from aevb_jax.models.state_space import state_space_vae
from aevb_jax.models.vae import conv_vae
from aevb_jax.training.sharding import make_shardings
from aevb_jax.training.sweep import fit_sweep, init_sweep
from aevb_jax.types import Algorithm, Estimator, Model, Params, Preprocess

ROOT = pathlib.Path(__file__).parents[2]


class Workload(NamedTuple):
  """A training step, and how many of them are timed at once."""

  name: str
  model: Callable[[], Model]
  estimator: Estimator
  data_dim: int = 784
  num_classes: int = 0  # of the one-hot labels beside the pixels; 0 for none
  num_samples: int = 1
  optimizer: optax.GradientTransformation = adagrad(0.01)
  preprocess: Preprocess = binarize
  num_data: int = 50_000
  batch_size: int = 100
  num_steps: int = 50
  streamed: bool = False
  mlp: bool = True
  examples_at_once: int | None = None


def mlp(data_dim: int = 784, latent_dim: int = 20, hidden_dim: int | tuple[int, ...] = 500):
  """Returns a function that makes the paper's model of binary pixels."""
  return functools.partial(
    mlp_vae,
    bernoulli(data_dim),
    data_dim=data_dim,
    latent_dim=latent_dim,
    hidden_dim=hidden_dim,
  )


def frey_face() -> Model:
  likelihood = gaussian(560, mean_link=jax.nn.sigmoid)
  return mlp_vae(likelihood, data_dim=560, latent_dim=20, hidden_dim=200)


def importance_weighted(name: str, estimator: Estimator) -> Workload:
  """Makes the workload of Burda et al. (2015) on MNIST, with K = 50."""
  model = mlp(latent_dim=50, hidden_dim=(200, 200))
  return Workload(name, model, estimator, num_samples=50, optimizer=adam(1e-3), num_steps=5)


def article(batch_size: int) -> Workload:
  """Makes the convolutional VAE of TensorFlow's tutorial: SGVB A, Adam, thresholded pixels."""
  return Workload(
    f"article conv M={batch_size}",
    lambda: conv_vae(bernoulli(784), image_shape=(28, 28, 1), latent_dim=2),
    elbo_a,
    optimizer=adam(1e-4),
    preprocess=threshold,
    batch_size=batch_size,
    num_steps=max(2, 256 // batch_size),
    mlp=False,
    examples_at_once=32,
  )


def two_layers(name: str, estimator: Estimator, num_samples: int, num_steps: int) -> Workload:
  """Makes the workload of the two layers of Burda et al. (2015), as --preset=iwae_2."""
  model = functools.partial(
    hierarchical_vae,
    bernoulli(784),
    data_dim=784,
    latent_dims=(100, 50),
    hidden_dims=((200, 200), (100, 100)),
  )
  how = dict(num_samples=num_samples, num_steps=num_steps)
  return Workload(name, model, estimator, optimizer=adam(1e-3), mlp=False, **how)


def labelled(name: str, model: Callable[[], Model], estimator: Estimator) -> Workload:
  """Makes a workload whose data points are digits with their labels."""
  how = dict(optimizer=adam(1e-3), preprocess=beside(binarize, 784), num_classes=10, mlp=False)
  return Workload(name, model, estimator, **how)


def conditional() -> Model:
  sizes = dict(data_dim=784, condition_dim=10, latent_dim=20, hidden_dim=500)
  return conditional_vae(bernoulli(784), **sizes)


M2, CLASSIFIER = m2_vae(bernoulli(784), data_dim=784, num_classes=10, latent_dim=50, hidden_dim=500)


def video(inference: str) -> Workload:
  """Makes the state-space model of Frey Face: windows of 20 frames, of which a step has 20."""
  model = functools.partial(
    state_space_vae,
    gaussian(560, mean_link=jax.nn.sigmoid, min_std=0.01),
    num_steps=20,
    data_dim=560,
    latent_dim=10,
    hidden_dim=200,
    inference=inference,
  )
  how = dict(preprocess=scale, num_data=1546, batch_size=20, num_steps=10, mlp=False)
  name = f"state space {inference}"
  return Workload(name, model, elbo_b, data_dim=20 * 560, optimizer=adam(1e-3), **how)


PAPER = Workload("mnist elbo_b", mlp(), elbo_b, streamed=True)
WORKLOADS = [
  PAPER,
  Workload("mnist elbo_b adam", mlp(), elbo_b, optimizer=adam(1e-3)),
  Workload("mnist elbo_a", mlp(), elbo_a),
  Workload("mnist elbo_b L=10", mlp(), elbo_b, num_samples=10, num_steps=10),
  Workload("frey face elbo_b", frey_face, elbo_b, data_dim=560, preprocess=scale, num_data=1765),
  Workload("digits elbo_b", mlp(64, 2), elbo_b, data_dim=64, num_data=1437, streamed=True),
  article(32),
  article(128),
  importance_weighted("mnist iwae K=50", iwae),
  importance_weighted("mnist dreg K=50", dreg),
  two_layers("two layers elbo_b", elbo_b, num_samples=1, num_steps=50),
  two_layers("two layers iwae K=50", iwae, num_samples=50, num_steps=5),
  labelled("conditional elbo_b", conditional, conditioned(elbo_b, data_dim=784)),
  labelled("m2 elbo_b", lambda: M2, semi_supervised_bound(elbo_b, CLASSIFIER, data_dim=784)),
  video("backward"),
  video("mean_field"),
]


def make_algorithm(workload: Workload) -> Algorithm:
  estimator = functools.partial(workload.estimator, num_samples=workload.num_samples)
  how = dict(num_data=workload.num_data, examples_at_once=workload.examples_at_once)
  return aevb(workload.model(), estimator, workload.optimizer, **how)


def matrix_products(workload: Workload, algorithm: Algorithm) -> list:
  """Returns the dot_general equations of one update with its gradient.

  Products that are computed again to save memory are left out, because a floor is the least work.
  """
  state = jax.eval_shape(algorithm.init, jax.random.key(0))
  row = workload.data_dim + workload.num_classes
  batch = jax.ShapeDtypeStruct((workload.batch_size, row), jnp.result_type(float))
  with mock.patch.object(sgvb, "SAMPLES_AT_ONCE", workload.num_samples):
    products = products_of(algorithm.update, state, batch)
  if workload.mlp:
    check_work(products, workload, state.params)
  return products


def check_work(products: list, workload: Workload, params: Params) -> None:
  """Checks that only the necessary products are made, such as one pass of x through the encoder.

  A weight multiplies once forward and twice backward, a decoder's weight for every sample. Only
  weights of the first layer, whose input needs no gradient, multiply once backward.
  """
  matrices = lambda tree: [w for w in jax.tree.leaves(tree) if w.ndim == 2]
  encoder, decoder = (sum(w.size for w in matrices(t)) for t in (params.phi, params.theta))
  (first,) = (w.size for w in matrices(params.phi) if w.shape[0] == workload.data_dim)
  each = 3 * encoder - first + 3 * workload.num_samples * decoder
  done, expected = sum(map(flop, products)), 2 * workload.batch_size * each
  if done != expected:
    raise AssertionError(f"{workload.name}: a step does {done} FLOP, expected {expected}")


def random_pixels(num_data: int, data_dim: int, num_classes: int = 0) -> np.ndarray:
  """Draws pixels; beside them, one-hot labels or, for half of the rows, none."""
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, size=(num_data, data_dim), dtype=np.uint8)
  if not num_classes:
    return pixels
  labels = rng.integers(0, 2 * num_classes, size=(num_data, 1)) == np.arange(num_classes)
  return np.concatenate([pixels, labels.astype(np.uint8)], axis=1)


def compiled(lowered) -> tuple[Callable, float, float]:
  """Returns the program, the seconds to compile it, and the megabytes of its temporary arrays."""
  start = time.perf_counter()
  program = lowered.compile()
  seconds = time.perf_counter() - start
  return program, seconds, program.memory_analysis().temp_size_in_bytes / 1e6


def make_step(workload: Workload, algorithm: Algorithm, pixels: np.ndarray) -> Timed:
  """Trains with the data set on the device."""
  resident = jax.device_put(pixels)
  state, key = algorithm.init(jax.random.key(0)), jax.random.key(1)
  how = dict(batch_size=workload.batch_size, num_steps=workload.num_steps)
  how |= dict(preprocess=workload.preprocess)
  program, seconds, memory = compiled(fit.lower(algorithm, state, key, resident, **how))

  def run() -> None:
    nonlocal state
    state, metrics = program(state, key, resident)
    jax.block_until_ready(metrics)

  return Timed(run, workload.num_steps, seconds, memory)


def make_streamed_step(
  workload: Workload, algorithm: Algorithm, pixels: np.ndarray, repeats: int
) -> Timed:
  """Trains from a memory-mapped file; a call reads the minibatches of the next call."""
  directory = tempfile.TemporaryDirectory()
  path = pathlib.Path(directory.name, "pixels.npy")
  np.save(path, pixels)
  mapped, key = np.load(path, mmap_mode="r"), jax.random.key(1)
  chunks = [workload.num_steps] * (repeats + 2)
  data = map(jax.device_put, stream(mapped, key, chunks, batch_size=workload.batch_size))
  state, upcoming = algorithm.init(jax.random.key(0)), next(data)

  def run() -> None:
    nonlocal state, upcoming, directory  # keeps the directory while it is read
    state, metrics = fit_streamed(algorithm, state, key, upcoming, preprocess=workload.preprocess)
    upcoming = next(data)
    jax.block_until_ready(metrics)

  return Timed(run, workload.num_steps)


def sweep(size: int, num_steps: int = 250) -> tuple[dict[str, Timed], int]:
  """Trains `size` states of the paper's model in one program, and one after the other.

  The program uses all devices, which JAX_NUM_CPU_DEVICES can make of the cores of a CPU; one state
  after the other uses one device.
  """
  algorithm, pixels = make_algorithm(PAPER), random_pixels(PAPER.num_data, PAPER.data_dim)
  shardings = make_shardings(jax.devices(), size)
  resident, everywhere = jax.device_put(pixels), jax.device_put(pixels, shardings.replicated)
  how = dict(batch_size=PAPER.batch_size, num_steps=num_steps, preprocess=PAPER.preprocess)
  keys = jax.random.split(jax.random.key(1), size)
  stacked = init_sweep(algorithm, keys)
  states = [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(size)]
  single = fit.lower(algorithm, states[0], keys[0], resident, **how)
  one, one_seconds, one_memory = compiled(single)
  stacked, of_members = jax.device_put((stacked, keys), shardings.members)
  how |= dict(sharding=shardings.minibatch)
  many, many_seconds, many_memory = compiled(
    fit_sweep.lower(algorithm, stacked, of_members, everywhere, **how)
  )

  def together() -> None:
    nonlocal stacked
    stacked, metrics = many(stacked, of_members, everywhere)
    jax.block_until_ready(metrics)

  def in_turn() -> None:
    for i in range(size):
      states[i], metrics = one(states[i], keys[i], resident)
      jax.block_until_ready(metrics)

  timed = {
    "step": Timed(together, num_steps, many_seconds, many_memory),
    "in turn": Timed(in_turn, num_steps, one_seconds, one_memory),
    "floor": Timed(make_floor(matrix_products(PAPER, algorithm), num_steps * size), num_steps),
  }
  return timed, size * PAPER.batch_size


def likelihood(num_samples: int = 5000) -> tuple[dict[str, Timed], int]:
  """Estimates log p(x) of 20 points by importance sampling, as experiments.evaluate does.

  All 20 are estimated at once, by 50 samples at a time. The floor is the products of the decoder.
  """
  num_points, chunk_size, data_dim, latent_dim = 20, 50, 784, 20
  model = mlp(data_dim, latent_dim)()
  params = init_params(jax.random.key(0), model)
  pixels = jnp.asarray(random_pixels(num_points, data_dim))

  def log_p(key: jax.Array, params: Params, x: jax.Array) -> LogLikelihood:
    how = dict(num_samples=num_samples, chunk_size=chunk_size)
    return importance_sampling(key, model, params, x, **how)

  def log_likelihoods(x: jax.Array, z: jax.Array) -> jax.Array:  # for one chunk of samples
    of_one = lambda x, z: model.decoder.given(params.theta, z).log_prob(x)
    return jax.vmap(jax.vmap(of_one, (None, 0)))(x, z)

  how = dict(batch_size=num_points, preprocess=binarize)
  lowered = evaluate.lower(log_p, jax.random.key(0), params, pixels, **how)
  program, seconds, memory = compiled(lowered)
  x, z = jnp.zeros((num_points, data_dim)), jnp.zeros((num_points, chunk_size, latent_dim))
  floor = make_floor(products_of(log_likelihoods, x, z), num_samples // chunk_size)
  run = lambda: jax.block_until_ready(program(jax.random.key(0), params, pixels))
  return {"step": Timed(run, 1, seconds, memory), "floor": Timed(floor)}, num_points


def start_up() -> dict[str, Timed]:
  """Times the start on digits, from the command to the first row: one step and its evaluation."""
  cold, warm = tempfile.TemporaryDirectory(), tempfile.TemporaryDirectory()

  def start(cache: str) -> None:
    with tempfile.TemporaryDirectory() as runs:
      workdir = pathlib.Path(runs, "run")
      command = [sys.executable, "-m", "experiments.train", f"--workdir={workdir}"]
      command += ["--num_examples=100", "--num_importance_samples=0"]
      command += [f"--compilation_cache_dir={cache}", "--num_devices=1"]
      environment = os.environ | {"PYTHONPATH": str(ROOT)}
      quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
      with subprocess.Popen(command, cwd=runs, env=environment, **quiet) as process:
        while process.poll() is None and rows_in(workdir / "metrics.csv") < 1:
          time.sleep(0.01)
        if process.poll():
          raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
        process.kill()

  def start_cold() -> None:
    nonlocal cold
    cold.cleanup()
    cold = tempfile.TemporaryDirectory()
    start(cold.name)

  return {"step": Timed(lambda: start(warm.name)), "cold": Timed(start_cold)}


def rows_in(path: pathlib.Path) -> int:
  return len(path.read_text().splitlines()) - 1 if path.exists() else 0
