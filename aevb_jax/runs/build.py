"""The model, the optimizer and the algorithm that a configuration names."""

import functools
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import logit

from aevb_jax import names
from aevb_jax.algorithms import optimizers
from aevb_jax.algorithms.auto_encoding import aevb, gaussian_weight_prior
from aevb_jax.algorithms.monte_carlo_em import mcem
from aevb_jax.algorithms.own import make_own_algorithm, make_own_optimizer
from aevb_jax.data.datasets import ImageData
from aevb_jax.errors import ConfigError, UnsupportedError, blaming
from aevb_jax.estimators.score_functions import (
  Baseline,
  constant_baseline,
  leave_one_out,
  no_baseline,
  with_baseline,
)
from aevb_jax.families import pixels as likelihoods
from aevb_jax.families import table
from aevb_jax.families.binary import bernoulli
from aevb_jax.families.gaussians import gaussian
from aevb_jax.families.support import check_support, in_words
from aevb_jax.models import own
from aevb_jax.models.conditions import conditional_vae
from aevb_jax.models.hierarchical import hierarchical_vae
from aevb_jax.models.own import TAKEN_BY_MODEL, layers_of
from aevb_jax.models.priors import standard_normal, with_mixture_prior, with_vamp_prior
from aevb_jax.models.vae import (
  conv_vae,
  init_params,
  mlp_vae,
  with_output_bias,
  with_precision,
)
from aevb_jax.runs.checks import HIDDEN_DIMS
from aevb_jax.runs.config import Config, ModelConfig, OptimizerConfig, leaves
from aevb_jax.runs.pixels import condition_dim, mean_of_x, pixel_range, pixel_scale
from aevb_jax.types import (
  Algorithm,
  Array,
  Distribution,
  Estimator,
  Family,
  Model,
  Params,
  Scheduled,
)

DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}  # None: nothing is rounded
INITIALIZERS = {"flax": nn.initializers.lecun_normal, "glorot": nn.initializers.glorot_uniform}
OPTIMIZERS = {"adagrad": optimizers.adagrad, "adam": optimizers.adam, "sgd": optimizers.sgd}
MEANS = 0.001, 0.999  # pixel means are clipped to this range before the logit, as by Burda et al.
LEAST_LOG_PROB = -200  # for two pixels; a lower log-density counts as zero density


def own_sources(config: Config) -> list[str]:
  """Returns the files of the user's functions that a configuration names."""
  texts = [value for value in leaves(config).values() if isinstance(value, str)]
  return [file for text in texts if (file := names.source_of(text))]


def make_model(config: Config, images: ImageData) -> Model:
  """Makes the model that a configuration names, for x of the size of the images.

  Raises:
    ConfigError: if no such model exists for these images, or its parameters exceed the memory.
  """
  named = config.model
  _warn_where_emulated(named)
  posterior, prior = make_latents(named)
  if named.init in INITIALIZERS:
    kernel_init, bias_init = INITIALIZERS[named.init](), nn.initializers.zeros_init()
  else:
    kernel_init = bias_init = nn.initializers.normal(float(named.init))
  layers = dict(
    posterior=lambda size: posterior,
    prior=prior,
    kernel_init=kernel_init,
    bias_init=bias_init,
    dtype=DTYPES[named.compute_dtype],
  )
  if named.condition:
    layers |= dict(condition_dim=condition_dim(images, config))
  model = _make_networks(named, images, make_likelihood(config, images), layers)
  check_memory(model, named)
  if named.output_bias == "data_mean":
    model = with_output_bias(model, logit(np.clip(mean_of_x(images, config.data), *MEANS)))
  model = with_precision(model, named.matmul_precision)
  return with_learned_prior(model, config, images)


def _make_networks(
  named: ModelConfig, images: ImageData, likelihood: Family, layers: dict[str, Any]
) -> Model:
  """Makes the model with the networks that a configuration names."""
  data_dim, image_shape, widths = images.train.shape[1], images.image_shape, named.hidden_dim or ()
  layers = layers | dict(latent_dim=named.latent_dim)
  if named.network:
    return own.with_networks(
      named.network, likelihood, image_shape=image_shape, hidden_dim=widths or None, **layers
    )
  if found := layers_of(named.model):
    found |= {name: layers[name] for name in ("kernel_init", "bias_init", "dtype")}
    return hierarchical_vae(likelihood, data_dim=data_dim, **found)
  if named.model not in HIDDEN_DIMS:
    usual = ModelConfig(prior=table.default_prior(named.posterior, named.latent_dim))
    given = {
      field: getattr(named, field)
      for field in TAKEN_BY_MODEL
      if getattr(named, field) != getattr(usual, field)
    }
    more = dict(image_shape=image_shape, hidden_dim=widths or None)
    sizes = dict(data_dim=data_dim, latent_dim=layers.pop("latent_dim"))
    return own.make_model(named.model, likelihood, **sizes, given=given, offered=layers | more)
  with blaming("hidden_dim", widths):
    if named.model == "mlp":
      make = conditional_vae if named.condition else mlp_vae
      return make(likelihood, data_dim=data_dim, hidden_dim=widths, **layers)
    return conv_vae(likelihood, image_shape=image_shape, widths=widths, **layers)


def _warn_where_emulated(named: ModelConfig) -> None:
  """Prints a warning if the device only emulates the type that the networks compute in."""
  device = jax.devices()[0]
  # CPUs, and NVIDIA GPUs before Ampere, emulate bfloat16.
  emulated = device.platform == "cpu" or float(getattr(device, "compute_capability", 8)) < 8
  if named.compute_dtype != "float32" and emulated:
    print(
      f"warning: --compute_dtype={named.compute_dtype}: emulated on this device, "
      f"{device.device_kind}: it rounds as others do, and is slower than float32",
      file=sys.stderr,
    )


def make_latents(named: ModelConfig) -> tuple[Family, Callable[[int], Distribution]]:
  """Makes q(z|x) and a function J -> p(z), which returns N(0, I) if the prior is learned.

  Raises:
    ConfigError: if q(z|x) or p(z) does not exist, or p(z) has no density where q(z|x) has one.
  """
  with blaming("posterior", named.posterior):
    posterior = table.make_family(named.posterior, table.POSTERIORS, named.latent_dim)
  few = min(named.latent_dim, 2)
  try:
    prior = standard_normal
    of_model = table.is_made_from_model(named.prior)
    if named.prior != "gaussian" and not of_model and not table.learned_prior(named.prior):
      prior = functools.partial(table.make_prior, named.prior)
      table.try_prior(named.prior, few)
    # A VampPrior has the support of q(z|x); a user's own that is made from the model is not known.
    if named.prior.split(":")[0] != "vamp" and not of_model:
      check_support(posterior, prior(few))
  except (ValueError, UnsupportedError) as error:
    raise ConfigError("prior", named.prior, str(error)) from error
  return posterior, prior


def with_learned_prior(model: Model, config: Config, images: ImageData) -> Model:
  """Returns the model with the learned prior of the configuration, unchanged if there is none."""
  text, learned = config.model.prior, table.learned_prior(config.model.prior)
  if table.is_made_from_model(text):
    sizes = dict(data_dim=images.train.shape[1], latent_dim=config.model.latent_dim)
    return own.with_prior(text, model, **sizes)
  if learned is None:
    return model
  name, components = learned
  if name == "mixture":
    return with_mixture_prior(model, config.model.latent_dim, components)
  if components > len(images.train):
    message = f"takes at most the {len(images.train)} training images as components"
    raise ConfigError("prior", config.model.prior, message)
  # Pseudo-inputs start from training images, clipped to a range in which the logit is finite.
  start = np.asarray(images.train[:components], np.float64)
  if images.train.dtype == np.uint8:
    x = np.clip(start / pixel_scale(images, config.data), *MEANS)
    return with_vamp_prior(model, logit(x), link=jax.nn.sigmoid)
  return with_vamp_prior(model, start)


def check_memory(model: Model, named: ModelConfig) -> None:
  """Refuses a model whose parameters are larger than the memory that would hold them.

  Raises:
    ConfigError: for such a model.
  """
  params = jax.eval_shape(lambda: init_params(jax.random.key(0), model))
  needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
  stats = jax.local_devices()[0].memory_stats() or {}  # CPUs have none
  there = stats.get("bytes_limit", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
  if needed > there:
    wide = max(named.hidden_dim or (0,)) > named.latent_dim
    name = "network" if named.network else "hidden_dim" if wide else "latent_dim"
    gib = f"{needed / 2**30:,.0f} GiB of parameters, and the device has {there / 2**30:,.0f}"
    raise ConfigError(name, getattr(named, name), f"makes {gib}")


def make_likelihood(config: Config, images: ImageData) -> Family:
  """Makes p(x|z), for x of the size of the images.

  Raises:
    ConfigError: if the family does not take the arguments in its name, or has no density at pixels.
  """
  data_dim, name = images.train.shape[1], config.model.likelihood
  mean_link = jax.nn.sigmoid if config.model.sigmoid_mean else lambda head: head
  if name == "bernoulli":
    return bernoulli(data_dim)
  if name == "gaussian":
    return gaussian(data_dim, mean_link=mean_link, min_std=config.model.min_std)
  if name == "continuous_bernoulli":
    return likelihoods.continuous_bernoulli(data_dim)
  if name in table.LEVELS:
    if images.train.dtype != np.uint8:
      message = f"{name} takes 8-bit pixels, and {config.data.dataset} has others"
      raise ConfigError("likelihood", name, message)
    step = 1 / pixel_scale(images, config.data)
    if name == "categorical":
      return likelihoods.categorical(data_dim, step=step)
    return table.PIXELS[name](data_dim, step=step, mean_link=mean_link)  # type: ignore[call-arg]
  offered = {}
  if images.train.dtype == np.uint8:
    offered = dict(step=1 / pixel_scale(images, config.data))
  with blaming("likelihood", name):
    family = table.make_family(name, table.REPARAMETERIZABLE, data_dim, **offered)
  if images.train.dtype == np.uint8:
    ends = (0.0, 0.5) if config.data.dequantization else (0.0, 1.0)
  else:
    ends = pixel_range(images.train)
  check_pixels(name, family, data_dim, ends)
  return family


def check_pixels(name: str, family: Family, data_dim: int, pixels: tuple[float, float]) -> None:
  """Refuses a likelihood whose density is zero or infinite at values that pixels have.

  Raises:
    ConfigError: for such a likelihood.
  """
  eta = family.from_heads(*(jnp.zeros(width) for width in family.sizes))
  for pixel in pixels:
    log_p = float(family.log_prob(eta, jnp.full(data_dim, pixel))) * 2 / data_dim
    if not LEAST_LOG_PROB < log_p < math.inf:
      where, density = in_words(family.widest), math.exp(log_p / 2)
      message = f"{name}, on {where}, has the density {density:g} at pixels of {pixel:g}"
      raise ConfigError("likelihood", name, message)


def make_optimizer(
  named: OptimizerConfig, num_data: int, *, updates_per_step: int = 1
) -> optax.GradientTransformation:
  """Makes the optimizer that a configuration names.

  Args:
    named: the name, step size and schedule of the optimizer.
    num_data: N, training images.
    updates_per_step: updates for every minibatch, for algorithms that make more than one.

  Returns:
    The optimizer.
  """
  arguments: dict[str, Any] = dict(eps=named.adam_eps) if named.adam_eps is not None else {}
  if named.stage_epochs:
    per_epoch = num_data // named.batch_size * updates_per_step  # as `minibatch_indices` cuts it
    arguments |= dict(schedule=optimizers.stages([n * per_epoch for n in named.stage_epochs]))
  if named.optimizer in OPTIMIZERS:
    return OPTIMIZERS[named.optimizer](named.step_size, **arguments)
  return make_own_optimizer(named.optimizer, named.step_size, **arguments)


def for_baseline(
  optimizer: optax.GradientTransformation, baseline: Baseline
) -> optax.GradientTransformation:
  """Returns `optimizer` for θ and φ, with another for ψ that fits the baseline to the signal."""
  if baseline is constant_baseline:
    return optimizers.moving_average(optimizer)
  if baseline in (no_baseline, leave_one_out):
    return optimizer
  return optimizers.with_psi(optimizer, optimizers.adam(1e-3))


def make_aevb(
  config: Config,
  model: Model,
  objective: Estimator | Scheduled,
  baseline: Baseline,
  num_data: int,
) -> Algorithm:
  """Makes algorithm 1, or a user's own, with the optimizer and weight prior of a configuration.

  Raises:
    ConfigError: if the optimizer or the algorithm is not available.
  """
  named, optimizer = config.objective, make_optimizer(config.optimizer, num_data)
  optimizer = for_baseline(optimizer, baseline)
  offered: dict[str, Any] = dict(
    log_prior=make_log_prior(config.optimizer),
    init=with_baseline(baseline),
    examples_at_once=named.examples_at_once or _examples_in_cache(config),
  )
  if named.algorithm == "aevb":
    return aevb(model, objective, optimizer, num_data=num_data, **offered)
  return make_own_algorithm(
    named.algorithm,
    model,
    objective,
    optimizer,
    num_data=num_data,
    offered=offered,
  )


def _examples_in_cache(config: Config) -> int | None:
  """Returns how many examples' convolutions fit into a CPU's cache; None for no such limit."""
  on_cpu, batch_size = jax.default_backend() == "cpu", config.optimizer.batch_size
  return 32 if on_cpu and config.model.model == "conv" and batch_size % 32 == 0 else None


def make_mcem(config: Config, model: Model, num_data: int) -> Algorithm:
  """Makes Monte Carlo EM with the optimizer and the prior on the weights of a configuration.

  Raises:
    ConfigError: if HMC cannot move the latents of the model.
  """
  named = config.objective
  steps = dict(num_leapfrogs=named.num_leapfrogs, num_updates=named.num_updates)
  optimizer = make_optimizer(config.optimizer, num_data, updates_per_step=named.num_updates)
  log_prior = make_log_prior(config.optimizer)
  try:
    return mcem(model, optimizer, num_data=num_data, log_prior=log_prior, **steps)
  except UnsupportedError as error:
    raise ConfigError("posterior", config.model.posterior, str(error)) from error


def make_log_prior(named: OptimizerConfig) -> Callable[[Params], Array] | None:
  """Makes the prior on the weights that a configuration names; None if it names none."""
  return gaussian_weight_prior(named.weight_prior) if named.weight_prior else None
