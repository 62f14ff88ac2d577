"""The measurement of gradient estimators: the estimators, the instrument and the rows."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aevb_jax.algorithms.auto_encoding import aevb
from aevb_jax.errors import ConfigError
from aevb_jax.estimators.score_functions import Baseline, no_baseline, with_baseline
from aevb_jax.estimators.table import parse_estimator, try_on_shapes
from aevb_jax.inference.diagnostics import (
  GradientBatch,
  blocks,
  gradient_batch,
  inner_products,
  relative_bias,
  signal_to_noise,
  variance,
)
from aevb_jax.inference.exact import exact_elbo
from aevb_jax.runs import build
from aevb_jax.runs.config import Config
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import evaluate
from aevb_jax.training.fitting import fit
from aevb_jax.training.program import Pixels
from aevb_jax.types import Array, Estimator, Key, Model, Params
from experiments.studies.gradients.rows import columns

BASELINE_STEPS = 2000  # on the training set, for a ψ at fixed θ and φ

# Unbiased estimators of the same gradient; the reference is the first that the model allows.
OF_THE_ELBO = ("exact", "elbo_b", "score_function:baseline=leave_one_out")
OF_IWAE = ("iwae", "vimco")
REFERENCES = {
  "elbo_a": OF_THE_ELBO,
  "elbo_b": OF_THE_ELBO,
  "sticking_the_landing": OF_THE_ELBO,
  "score_function": OF_THE_ELBO,
  "score_function_optimal_scale": OF_THE_ELBO,
  "iwae": OF_IWAE,
  "dreg": OF_IWAE,
  "vimco": OF_IWAE,
  "dreg_wake": ("reweighted_wake_sleep",),
}


@dataclasses.dataclass(frozen=True)
class GradientsConfig:
  """The gradients that are measured, and the run that they are measured in."""

  estimators: tuple[str, ...] = (
    "elbo_a",
    "elbo_b",
    "score_function",
    "score_function:baseline=leave_one_out",
  )
  samples: tuple[int, ...] = (2,)
  at: tuple[int, ...] = (0,)  # training samples
  num_points: int = 10
  num_repeats: int = 2000
  num_batches: int = 20
  reference: str | None = None
  budget: str | None = None
  train: Config = Config()


class Measured(NamedTuple):
  """An estimator in the form in which it is measured."""

  name: str
  num_samples: int
  estimator: Estimator
  baseline: Baseline
  reference: str  # another estimator's name; its own name if none is suitable


class Batches(NamedTuple):
  """The statistics of an estimator's batches, and the seconds that one of its gradients took."""

  drawn: list[GradientBatch]
  seconds: list[float]


class Instrument(NamedTuple):
  """The instrument that measures the gradients of a model."""

  config: GradientsConfig
  model: Model
  chosen: list[Measured]
  measured: dict[tuple[str, int], Measured]  # the chosen and their references
  minibatch: Array  # the data points, shape (M, D)
  pixels: Pixels  # baselines are fitted on it
  programs: dict[tuple[str, int], Callable]  # (key, params, minibatch) -> GradientBatch


def make_instrument(
  config: GradientsConfig, model: Model, chosen: list[Measured], pixels: Pixels, params: Params
) -> Instrument:
  """Makes the instrument for a model; `params` are its parameters, or their shapes."""
  minibatch, data_dim = test_points(pixels, config.num_points), pixels.train.shape[1]
  measured = with_references(chosen, data_dim)
  programs = {
    name: compile_batch(one, config, model, params, minibatch) for name, one in measured.items()
  }
  return Instrument(config, model, chosen, measured, minibatch, pixels, programs)


def choose_all(config: GradientsConfig, model: Model, data_dim: int) -> list[Measured]:
  """Returns the estimators that a configuration measures, after a trial on shapes.

  Raises:
    ConfigError: for an estimator that the model does not allow.
  """
  return [
    choose(name, num_samples, config, model, data_dim)
    for num_samples in sorted(set(config.samples))
    for name in config.estimators
  ]


def choose(
  name: str, num_samples: int, config: GradientsConfig, model: Model, data_dim: int
) -> Measured:
  """Returns the estimator that a name stands for, and its reference."""
  try:
    estimator, baseline = parse_estimator(name, data_dim, num_samples)
    try_on_shapes(estimator, baseline, model, data_dim)
  except ValueError as error:
    message = f"{name} at {num_samples} samples: {error}"
    raise ConfigError("estimators", config.estimators, message) from error
  candidates = REFERENCES.get(name.split(":")[0], (name,))
  if config.reference:
    candidates = (config.reference,)
  for reference in candidates:
    try:
      try_on_shapes(*make_reference(reference, data_dim, num_samples), model, data_dim)
      break
    except ValueError as error:
      if config.reference:
        raise ConfigError("reference", config.reference, str(error)) from error
  else:
    reference = name
  return Measured(name, num_samples, estimator, baseline, reference)


def unknown(config: GradientsConfig) -> list[str]:
  """Returns the estimators without a reference: none is given, and none is known for them."""
  if config.reference:
    return []
  return [name for name in config.estimators if name.split(":")[0] not in REFERENCES]


def make_reference(name: str, data_dim: int, num_samples: int) -> tuple[Estimator, Baseline]:
  """Makes the estimator that biases are computed with."""
  if name == "exact":
    exact = lambda key, model, params, x: exact_elbo(model, params, x)
    return exact, no_baseline
  return parse_estimator(name, data_dim, num_samples)


def test_points(pixels: Pixels, num_points: int) -> Array:
  """Returns the first test images as data points, shape (M, D)."""
  few, reading = points(pixels, "test", num_points)
  return evaluate(lambda key, params, x: x, jax.random.key(0), (), few, **reading)


def with_references(chosen: list[Measured], data_dim: int) -> dict[tuple[str, int], Measured]:
  """Returns the chosen estimators and their references, by name and number of samples."""
  everything = {(one.name, one.num_samples): one for one in chosen}
  for one in chosen:
    estimator, baseline = make_reference(one.reference, data_dim, one.num_samples)
    reference = Measured(one.reference, one.num_samples, estimator, baseline, one.reference)
    everything.setdefault((one.reference, one.num_samples), reference)
  return everything


def repeats_of(one: Measured, config: GradientsConfig) -> int:
  """Returns the number of gradients in a batch."""
  return 2 if one.name == "exact" else config.num_repeats // config.num_batches


def compile_batch(
  one: Measured, config: GradientsConfig, model: Model, params: Params, minibatch: Array
) -> Callable:
  """Compiles (key, params, minibatch) -> GradientBatch."""
  init_key, key = jax.random.key(0), jax.random.key(0)

  def batch(key: Key, params: Params, minibatch: Array) -> GradientBatch:
    num_repeats = repeats_of(one, config)
    return gradient_batch(key, one.estimator, model, params, minibatch, num_repeats=num_repeats)

  params = params._replace(psi=one.baseline.init(init_key))
  return jax.jit(batch).lower(key, params, minibatch).compile()


def measure(
  instrument: Instrument,
  params: Params,
  noise_key: Key,
  baseline_key: Key,
  drawn: Callable[[], None],
) -> list[dict]:
  """Draws all batches of all estimators in turn, so that a noisy machine slows them alike.

  Args:
    instrument: the estimators and the data points.
    params: the parameters of the model.
    noise_key: the key of the gradients' noise.
    baseline_key: the key of the order in which baselines see the training set.
    drawn: called after each batch of all estimators.
  """
  config, model, chosen, measured, minibatch, pixels, programs = instrument
  fitted = {
    name: fit_baseline(baseline_key, one, instrument, params) for name, one in measured.items()
  }
  batches = {name: Batches([], []) for name in measured}
  for b in range(config.num_batches):
    for name, one in measured.items():
      start = time.perf_counter()
      batch = programs[name](jax.random.fold_in(noise_key, b), fitted[name], minibatch)
      batch = jax.tree.map(np.asarray, batch)
      batches[name].seconds.append((time.perf_counter() - start) / repeats_of(one, config))
      batches[name].drawn.append(batch)
    drawn()
  return [
    row
    for one in chosen
    for row in rows_of(
      one, batches[one.name, one.num_samples], batches[one.reference, one.num_samples]
    )
  ]


def fit_baseline(key: Key, one: Measured, instrument: Instrument, params: Params) -> Params:
  """Returns `params` with a ψ that follows the estimator's signal on the training set."""
  config, model, pixels = instrument.config.train, instrument.model, instrument.pixels
  psi = with_baseline(one.baseline)(jax.random.clone(key), model).psi
  params = params._replace(psi=psi)
  if not jax.tree.leaves(psi):
    return params
  start = jax.tree.map(jnp.copy, params)  # `fit` donates its argument
  optimizer = build.for_baseline(optax.set_to_zero(), one.baseline)
  algorithm = aevb(
    model, one.estimator, optimizer, num_data=len(pixels.train), init=lambda key, model: start
  )
  state, _ = fit(
    algorithm,
    algorithm.init(jax.random.clone(key)),
    jax.random.clone(key),
    pixels.train,
    batch_size=config.optimizer.batch_size,
    num_steps=BASELINE_STEPS,
    preprocess=pixels.preprocess,
    static_key=pixels.static_key,
  )
  return params._replace(psi=state.params.psi)


def rows_of(one: Measured, own: Batches, others: Batches) -> list[dict]:
  """Returns the statistics of every block of parameters."""
  means = [batch.mean for batch in own.drawn]
  references = [batch.mean for batch in others.drawn]
  differences = [
    jax.tree.map(np.subtract, mean, reference)
    for mean, reference in zip(means, references, strict=True)
  ]
  milliseconds = 1e3 * statistics.median(own.seconds)
  rows = []
  for block, leaves in blocks(means[0]).items():
    variances = np.array(
      [sum(jax.tree.leaves(batch.variance)[i] for i in leaves) for batch in own.drawn]
    )
    spread = variance(variances)
    row = {"estimator": one.name, "num_samples": one.num_samples, "block": block}
    row |= columns("variance", spread)
    row |= columns("snr", signal_to_noise(inner_products(means, means, leaves), variances))
    if one.reference != one.name:
      bias = relative_bias(
        inner_products(differences, differences, leaves),
        inner_products(references, references, leaves),
      )
      row |= columns("bias", bias) | {"reference": one.reference}
    cost = {"milliseconds": milliseconds, "variance_x_milliseconds": spread.value * milliseconds}
    rows.append(row | cost)
  return rows
