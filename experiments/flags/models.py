"""The flags that choose the model that is trained."""

from absl import flags

from aevb_jax.families import table
from aevb_jax.runs.checks import CHOICES, LEAST
from aevb_jax.runs.config import ModelConfig
from experiments.flags.reading import read
from experiments.flags.validators import validate, validate_counts

flags.DEFINE_string(
  "model",
  "mlp",
  "mlp: tanh layers on each side (appendix C); conv: 3x3 convolutions of stride 2 and ReLUs, "
  "transposed ones in the decoder; hierarchical:layers=100,50 for layers of latents, from the one "
  "next to x upwards, with :hidden=200,200/100,100 for the hidden layers below each, twice as wide "
  "as its latents if not given, and :inference=top_down in place of bottom_up; or "
  "package.module:function for your own, called with (likelihood, data_dim=D, latent_dim=J) and "
  "returning a Model.",
)
flags.DEFINE_string(
  "network",
  None,
  "package.module:function for networks of your own in the default model, returning (encoder, "
  "decoder): the encoder maps an image (H, W, C) to features, the decoder z (J,); linear heads "
  "follow each.",
)
flags.DEFINE_string(
  "likelihood",
  "bernoulli",
  f"p(x|z), one of {', '.join(table.LIKELIHOODS)}. bernoulli and gaussian are in appendix C; "
  f"{', '.join(table.LEVELS)} are probabilities of 8-bit pixels; the others are densities, for "
  "pixels where they are finite. Arguments are written as for --posterior. package.module:function "
  "for your own is called with D and returns a Family.",
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
  lower_bound=LEAST["min_std"],
)
flags.DEFINE_enum(
  "condition",
  None,
  list(CHOICES["condition"]),
  "label: p(x|z, c) and q(z|x, c) are given c, the one-hot label of x, and bounds and likelihoods "
  "are of log p(x|c). The data set needs labels, numbered from 0; its classes are those up to the "
  "highest label of the training images. Takes --model=mlp, or a function of your own that takes "
  "condition_dim=C. Default: no condition.",
)
flags.DEFINE_integer("latent_dim", 2, "J, dimensions of z.", lower_bound=LEAST["latent_dim"])
flags.DEFINE_string(
  "posterior",
  "gaussian",
  f"q(z|x), one of {', '.join(table.POSTERIORS)}, with arguments after colons: "
  "student_t:degrees_of_freedom=3, low_rank_gaussian:rank=2, mixture:components=5, "
  "iaf:steps=2:hidden=64:context=64, spline_flow:bins=8. bernoulli is for binary latents. "
  "package.module:function for your own, such as my.families:kumaraswamy:a=2, is called with J and "
  "returns a Family.",
)
flags.DEFINE_string(
  "prior",
  None,
  f"p(z), one of {', '.join(table.PRIORS)}, with arguments or parameters after colons, such as "
  "gamma:shape=2:rate=0.5. mixture and vamp are learned and take components=10. "
  "package.module:function for your own is called with J and returns a Distribution; if its first "
  "parameter is named model, it is called with the Model and returns one with another prior. "
  "Default: "
  "gaussian, N(0, I), if q(z|x) is on all numbers; otherwise a standard member of a family with "
  "the support of q(z|x).",
)
flags.DEFINE_list(
  "hidden_dim",
  None,
  "mlp: hidden units of encoder and decoder, such as 200,200 for two layers each; default: 500. "
  "conv: channels of the encoder's convolutions; default: 32,64. The decoder reverses them.",
)
flags.DEFINE_enum(
  "compute_dtype",
  "float32",
  list(CHOICES["compute_dtype"]),
  "What the operands of the networks' products are rounded to. Parameters, sums, log-densities "
  "and the optimizer stay in single precision.",
)
flags.DEFINE_enum(
  "matmul_precision",
  "default",
  list(CHOICES["matmul_precision"]),
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
  list(CHOICES["output_bias"]),
  "The decoder's output starts with the biases of --init, or with the logits of the training "
  "data's mean.",
)


validate("min_std", "posterior", "prior", "likelihood", "init", "model", "network")
validate_counts("hidden_dim")


def config() -> ModelConfig:
  """Reads the choice of the model from the flags."""
  return read(ModelConfig)
