"""The flags that say which model is trained, and the model they stand for."""

import functools
import math
import os
import sys
from collections.abc import Callable, Collection

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from scipy.special import logit

from aevb_jax.data.datasets import ImageData
from aevb_jax.errors import UnsupportedError
from aevb_jax.families import pixels, table
from aevb_jax.families.binary import bernoulli
from aevb_jax.families.gaussians import gaussian
from aevb_jax.families.support import check_support, in_words
from aevb_jax.models.priors import standard_normal, with_mixture_prior, with_vamp_prior
from aevb_jax.models.vae import conv_vae, init_params, mlp_vae, with_output_bias
from aevb_jax.types import Distribution, Family, Model
from experiments.flags import data
from experiments.launch.command import UsageError, is_count

FLAGS = flags.FLAGS

DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}  # None: nothing is rounded
HIDDEN_DIMS = {"mlp": ["500"], "conv": ["32", "64"]}  # by --model
INITIALIZERS = {"flax": nn.initializers.lecun_normal, "glorot": nn.initializers.glorot_uniform}
MEANS = 0.001, 0.999  # where the logit of a pixel's mean is cut off, as by Burda et al.

flags.DEFINE_enum(
  "model",
  "mlp",
  list(HIDDEN_DIMS),
  "mlp: tanh layers on each side (appendix C); conv: 3x3 convolutions of stride 2 and ReLUs, "
  "transposed ones in the decoder.",
)
flags.DEFINE_string(
  "likelihood",
  "bernoulli",
  f"p(x|z), one of {', '.join(table.LIKELIHOODS)}. bernoulli and gaussian are those of "
  f"appendix C; {', '.join(table.LEVELS)} are probabilities of 8-bit pixels; the others "
  "densities, of pixels where they are finite, with arguments as of --posterior.",
)
flags.DEFINE_boolean(
  "sigmoid_mean",
  True,
  "Gaussian and discretized likelihoods: put the mean through a sigmoid, as for Frey Face.",
)
flags.DEFINE_float(
  "min_std",
  0.01,
  "Gaussian likelihood: floor on its standard deviation, in units of x. Without one (0, the "
  "paper's choice) the density of constant pixels is unbounded.",
  lower_bound=0.0,
)
flags.DEFINE_integer("latent_dim", 2, "J, dimensions of z.", lower_bound=1)
flags.DEFINE_string(
  "posterior",
  "gaussian",
  f"q(z|x), one of {', '.join(table.POSTERIORS)}, with arguments after colons: "
  "student_t:degrees_of_freedom=3, low_rank_gaussian:rank=2, mixture:components=5, "
  "iaf:steps=2:hidden=64:context=64, spline_flow:bins=8. bernoulli is for binary latents.",
)
flags.DEFINE_string(
  "prior",
  None,
  f"p(z), one of {', '.join(table.PRIORS)}, with arguments after colons, which may be "
  "parameters: gamma:shape=2:rate=0.5. mixture and vamp are learned and take components=10. "
  "Default: gaussian, N(0, I), where q(z|x) is on all numbers; otherwise a standard member of "
  "a family that is where q(z|x) is.",
)
flags.DEFINE_list(
  "hidden_dim",
  HIDDEN_DIMS["mlp"],
  "Hidden units of encoder and decoder, 200,200 for two layers of each; of --model=conv the "
  "channels of each convolution of the encoder, by default 32,64. The decoder reverses them.",
)
flags.DEFINE_enum(
  "compute_dtype",
  "float32",
  list(DTYPES),
  "What the operands of the networks' products are rounded to. Parameters, sums, log-densities "
  "and the optimizer stay in single precision.",
)
flags.DEFINE_enum(
  "matmul_precision",
  "default",
  ["default", "high", "highest"],
  "How exact products of single-precision numbers are, where the hardware leaves a choice: on "
  "NVIDIA GPUs default may be TF32, highest is float32.",
)
flags.DEFINE_string(
  "init",
  "flax",
  "flax (LeCun normal weights, zero biases), glorot (uniform weights of Glorot & Bengio, zero "
  "biases), or a standard deviation for normally distributed weights and biases; the paper's "
  "N(0, 0.01) is 0.1.",
)
flags.DEFINE_enum(
  "output_bias",
  "init",
  ["init", "data_mean"],
  "The decoder's output starts with the biases of --init, or with the logits of the training "
  "data's mean.",
)


@flags.validator("min_std", "takes a finite number of at least 0")
def _check_min_std(value: float) -> bool:
  return math.isfinite(value)


@flags.validator("posterior")
def _check_posterior(value: str) -> bool:
  return _is_known(value, table.POSTERIORS)


@flags.validator("prior")
def _check_prior(value: str | None) -> bool:
  return value is None or _is_known(value, table.PRIORS)


@flags.validator("likelihood")
def _check_likelihood(value: str) -> bool:
  return _is_known(value, table.LIKELIHOODS)


def _is_known(text: str, names: Collection[str]) -> bool:
  try:
    table.parse(text, names)
  except ValueError as error:
    raise flags.ValidationError(str(error)) from error
  return True


@flags.validator("hidden_dim", "takes positive whole numbers, separated by commas")
def _check_hidden_dim(value: list[str]) -> bool:
  return bool(value) and all(map(is_count, value))


@flags.validator("init", "takes flax, glorot or a positive standard deviation")
def _check_init(value: str) -> bool:
  try:
    return value in INITIALIZERS or 0 < float(value) < math.inf
  except ValueError:
    return False


def settle() -> None:
  """Flags take the values that others imply; called by `options.settle`."""
  if FLAGS.model == "conv" and not FLAGS["hidden_dim"].present:
    FLAGS["hidden_dim"].value = HIDDEN_DIMS["conv"]
  FLAGS.prior = prior_name()
  if FLAGS.output_bias != "init" and (FLAGS.likelihood != "bernoulli" or FLAGS.model != "mlp"):
    raise UsageError("output_bias", "takes --likelihood=bernoulli and --model=mlp")
  jax.config.update("jax_default_matmul_precision", FLAGS.matmul_precision)


def prior_name() -> str:
  """p(z), or what goes with q(z|x) unless another is asked for."""
  return FLAGS.prior or table.POSTERIORS[FLAGS.posterior.split(":")[0]].prior


def make_model(images: ImageData) -> Model:
  """The model that the flags name, of x as large as the images.

  Raises:
    UsageError: if there is no such model of such images, or none that memory holds.
  """
  if FLAGS.compute_dtype != "float32" and _emulated(jax.devices()[0]):
    print(
      f"warning: --compute_dtype={FLAGS.compute_dtype}: emulated on this device, "
      f"{jax.devices()[0].device_kind}: it rounds as others do, and is slower than float32",
      file=sys.stderr,
    )
  data_dim = images.train.shape[1]
  if FLAGS.init in INITIALIZERS:
    kernel_init, bias_init = INITIALIZERS[FLAGS.init](), nn.initializers.zeros_init()
  else:
    kernel_init = bias_init = nn.initializers.normal(float(FLAGS.init))
  posterior, prior = make_latents()
  how = dict(
    latent_dim=FLAGS.latent_dim,
    posterior=lambda size: posterior,
    prior=prior,
    kernel_init=kernel_init,
    bias_init=bias_init,
    dtype=DTYPES[FLAGS.compute_dtype],
  )
  likelihood, widths = make_likelihood(images), [int(units) for units in FLAGS.hidden_dim]
  try:
    if FLAGS.model == "mlp":
      model = mlp_vae(likelihood, data_dim=data_dim, hidden_dim=widths, **how)
    else:
      model = conv_vae(likelihood, image_shape=images.image_shape, widths=widths, **how)
  except ValueError as error:
    raise UsageError("hidden_dim", str(error)) from error
  check_memory(model)
  if FLAGS.output_bias == "data_mean":
    model = with_output_bias(model, logit(np.clip(data.mean_of_x(images), *MEANS)))
  return with_learned_prior(model, images)


def make_latents() -> tuple[Family, Callable[[int], Distribution]]:
  """q(z|x), and J -> p(z), that the flags name; N(0, I) in the place of one that is learned.

  Raises:
    UsageError: if there is none such, or p(z) has no density where q(z|x) is.
  """
  try:
    posterior = table.make_family(FLAGS.posterior, table.POSTERIORS, FLAGS.latent_dim)
  except ValueError as error:
    raise UsageError("posterior", str(error)) from error
  name = prior_name()
  try:
    prior = standard_normal
    if name != "gaussian" and not table.learned_prior(name):
      prior = functools.partial(table.make_prior, name)
      table.try_prior(name, min(FLAGS.latent_dim, 2))
    if name.split(":")[0] != "vamp":  # which is where q(z|x) is
      check_support(posterior, prior(min(FLAGS.latent_dim, 2)))
  except (ValueError, UnsupportedError) as error:
    raise UsageError("prior", str(error)) from error
  return posterior, prior


def with_learned_prior(model: Model, images: ImageData) -> Model:
  """The same model with the learned prior that the flags name, if they do."""
  learned = table.learned_prior(prior_name())
  if learned is None:
    return model
  name, components = learned
  if name == "mixture":
    return with_mixture_prior(model, FLAGS.latent_dim, components)
  if components > len(images.train):
    raise UsageError(
      "prior", f"takes at most the {len(images.train)} training images as components"
    )
  # Pseudo-inputs start from training images, as far as the logit of a pixel goes.
  start = np.asarray(images.train[:components], np.float64)
  if images.train.dtype == np.uint8:
    return with_vamp_prior(
      model, logit(np.clip(start / data.pixel_scale(images), *MEANS)), link=jax.nn.sigmoid
    )
  return with_vamp_prior(model, start)


def check_memory(model: Model) -> None:
  """Refuses a model whose parameters alone are larger than the memory they would be in."""
  params = jax.eval_shape(lambda: init_params(jax.random.key(0), model))
  needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
  stats = jax.local_devices()[0].memory_stats() or {}  # of a CPU there are none
  there = stats.get("bytes_limit", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
  if needed > there:
    flag = "hidden_dim" if max(map(int, FLAGS.hidden_dim)) > FLAGS.latent_dim else "latent_dim"
    gib = f"{needed / 2**30:,.0f} GiB of parameters, and the device has {there / 2**30:,.0f}"
    raise UsageError(flag, f"makes {gib}")


def make_likelihood(images: ImageData) -> Family:
  """p(x|z) that the flags name, of x as large as the images.

  Raises:
    UsageError: if it has arguments that it does not take, or no density at pixels.
  """
  data_dim, name = images.train.shape[1], FLAGS.likelihood
  mean_link = jax.nn.sigmoid if FLAGS.sigmoid_mean else lambda head: head
  if name == "bernoulli":
    return bernoulli(data_dim)
  if name == "gaussian":
    return gaussian(data_dim, mean_link=mean_link, min_std=FLAGS.min_std)
  if name == "continuous_bernoulli":
    return pixels.continuous_bernoulli(data_dim)
  if name in table.LEVELS:
    if images.train.dtype != np.uint8:
      raise UsageError("likelihood", f"{name} is of 8-bit pixels, and {FLAGS.dataset} has others")
    step = 1 / data.pixel_scale(images)
    if name == "categorical":
      return pixels.categorical(data_dim, step=step)
    return table.PIXELS[name](data_dim, step=step, mean_link=mean_link)
  try:
    family = table.make_family(name, table.REPARAMETERIZABLE, data_dim)
    alone = table.make_family(name, table.REPARAMETERIZABLE, 2)
  except ValueError as error:
    raise UsageError("likelihood", str(error)) from error
  check_pixels(name, alone)
  return family


LEAST_LOG_PROB = -200  # of two pixels, below which a density is as good as none


def check_pixels(name: str, family: Family) -> None:
  """Refuses a likelihood of two pixels that is zero or infinite where pixels are."""
  eta = family.from_heads(*(jnp.zeros(width) for width in family.sizes))
  for pixel in (0.0, 0.5) if FLAGS.dequantization else (0.0, 1.0):
    log_p = float(family.log_prob(eta, jnp.full(2, pixel)))
    if not LEAST_LOG_PROB < log_p < math.inf:
      where = in_words(family.widest)
      raise UsageError(
        "likelihood",
        f"{name}, on {where}, has the density {math.exp(log_p):g} at pixels of {pixel:g}",
      )


def _emulated(device: jax.Device) -> bool:
  """Whether bfloat16 is emulated: by CPUs, and by NVIDIA GPUs before Ampere."""
  return device.platform == "cpu" or float(getattr(device, "compute_capability", 8)) < 8
