"""The flags that say which model is trained, and the model they stand for."""

import math
import os
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from scipy.special import logit

from aevb_jax.data import ImageData
from aevb_jax.families import bernoulli, diagonal_gaussian
from aevb_jax.model import (
  conv_vae,
  fair_coins,
  init_params,
  mlp_vae,
  standard_normal,
  with_output_bias,
)
from aevb_jax.types import Family, Model
from experiments import data_options
from experiments.command import UsageError, is_count

FLAGS = flags.FLAGS

LATENTS = {
  "gaussian": dict(posterior=diagonal_gaussian, prior=standard_normal),
  "bernoulli": dict(posterior=bernoulli, prior=fair_coins),
}
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
flags.DEFINE_enum(
  "likelihood", "bernoulli", ["bernoulli", "gaussian"], "p(x|z): appendix C.1 or C.2."
)
flags.DEFINE_boolean(
  "sigmoid_mean", True, "Gaussian likelihood: put its mean through a sigmoid, as for Frey Face."
)
flags.DEFINE_float(
  "min_std",
  0.01,
  "Gaussian likelihood: floor on its standard deviation, in units of x. Without one (0, the "
  "paper's choice) the density of constant pixels is unbounded.",
  lower_bound=0.0,
)
flags.DEFINE_integer("latent_dim", 2, "J, dimensions of z.", lower_bound=1)
flags.DEFINE_enum(
  "latents",
  "gaussian",
  list(LATENTS),
  "q(z|x) and p(z): N(0, I), or fair coins for binary latents.",
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
  if FLAGS.output_bias != "init" and (FLAGS.likelihood != "bernoulli" or FLAGS.model != "mlp"):
    raise UsageError("output_bias", "takes --likelihood=bernoulli and --model=mlp")
  jax.config.update("jax_default_matmul_precision", FLAGS.matmul_precision)


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
  how = dict(
    latent_dim=FLAGS.latent_dim,
    **LATENTS[FLAGS.latents],
    kernel_init=kernel_init,
    bias_init=bias_init,
    dtype=DTYPES[FLAGS.compute_dtype],
  )
  likelihood, widths = _likelihood(data_dim), [int(units) for units in FLAGS.hidden_dim]
  try:
    if FLAGS.model == "mlp":
      model = mlp_vae(likelihood, data_dim=data_dim, hidden_dim=widths, **how)
    else:
      model = conv_vae(likelihood, image_shape=images.image_shape, widths=widths, **how)
  except ValueError as error:
    raise UsageError("hidden_dim", str(error)) from error
  check_memory(model)
  if FLAGS.output_bias == "data_mean":
    model = with_output_bias(model, logit(np.clip(data_options.mean_of_x(images), *MEANS)))
  return model


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


def _likelihood(data_dim: int) -> Family:
  if FLAGS.likelihood == "bernoulli":
    return bernoulli(data_dim)
  mean_link = jax.nn.sigmoid if FLAGS.sigmoid_mean else lambda head: head
  return diagonal_gaussian(data_dim, mean_link=mean_link, min_std=FLAGS.min_std)


def _emulated(device: jax.Device) -> bool:
  """Whether bfloat16 is emulated: by CPUs, and by NVIDIA GPUs before Ampere."""
  return device.platform == "cpu" or float(getattr(device, "compute_capability", 8)) < 8
