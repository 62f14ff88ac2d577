"""Variational auto-encoders: a generative model and its recognition model, both networks."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aevb_jax.families.gaussians import gaussian
from aevb_jax.models.networks import (
  MLP,
  ConvDecoder,
  ConvEncoder,
  Initializer,
  check_room,
  conditional,
)
from aevb_jax.models.priors import standard_normal
from aevb_jax.types import Array, Conditional, Distribution, Family, Key, Model, Params, PyTree


def mlp_vae(
  likelihood: Family,
  *,
  data_dim: int,
  latent_dim: int,
  hidden_dim: int | Sequence[int],
  posterior: Callable[[int], Family] = gaussian,
  prior: Callable[[int], Distribution] = standard_normal,
  activation: Callable[[Array], Array] = nn.tanh,
  kernel_init: Initializer = nn.initializers.lecun_normal(),
  bias_init: Initializer = nn.initializers.zeros_init(),
  dtype: jnp.dtype | None = None,
) -> Model:
  """Makes the variational auto-encoder of section 3 and appendix C.

  p(x|z) is `likelihood` with parameters from an MLP with a hidden layer of tanh units; q(z|x) is
  `posterior` with parameters from another MLP. The defaults are the paper's: a diagonal Gaussian
  q(z|x), and p(z) = N(0, I). Binary latents take `posterior=bernoulli, prior=fair_coins`. Training
  starts from the paper's N(0, σ²) if both initializers are `nn.initializers.normal(σ)`.

  Source: section 3 and appendix C.

  Args:
    likelihood: family of x, such as `bernoulli(D)`.
    data_dim: D.
    latent_dim: J.
    hidden_dim: hidden units of each network; for several layers, the units of each layer in the
      order of the encoder, which the decoder reverses.
    posterior: J -> family of z given x.
    prior: J -> p(z).
    activation: of the hidden units.
    kernel_init: initializer of the weight matrices.
    bias_init: initializer of the biases.
    dtype: the dtype that operands of matrix products are rounded to, such as `jnp.bfloat16`; None
      for no rounding.

  Returns:
    A model of x (D,) and z (J,).
  """

  layers = (hidden_dim,) if isinstance(hidden_dim, int) else tuple(hidden_dim)
  options: dict[str, Any] = dict(
    activation=activation, kernel_init=kernel_init, bias_init=bias_init, dtype=dtype
  )

  def network(layers: Sequence[int], family: Family, input_size: int) -> Conditional:
    module = MLP(layers, family.sizes, **options)
    return conditional(module, family, input_size)

  return Model(
    prior=lambda params: prior(latent_dim),
    decoder=network(layers[::-1], likelihood, latent_dim),
    encoder=network(layers, posterior(latent_dim), data_dim),
  )


def conv_vae(
  likelihood: Family,
  *,
  image_shape: tuple[int, int, int],
  latent_dim: int,
  widths: Sequence[int] = (32, 64),
  posterior: Callable[[int], Family] = gaussian,
  prior: Callable[[int], Distribution] = standard_normal,
  kernel_init: Initializer = nn.initializers.lecun_normal(),
  bias_init: Initializer = nn.initializers.zeros_init(),
  dtype: jnp.dtype | None = None,
) -> Model:
  """Makes the convolutional variational auto-encoder of TensorFlow's tutorial, for any images.

  It differs from `mlp_vae` only in its networks, `ConvEncoder` and `ConvDecoder`. x is one
  flattened image, shape (H·W·C,).

  Args:
    likelihood: family of x, with heads as large as x, such as `bernoulli(D)`.
    image_shape: (H, W, C), with H·W·C = D.
    latent_dim: J.
    widths: channels after each convolution of stride 2, in the order of the encoder, which the
      decoder reverses.
    posterior: J -> family of z given x.
    prior: J -> p(z).
    kernel_init: initializer of the kernels and weight matrices.
    bias_init: initializer of the biases.
    dtype: the dtype that operands of products are rounded to; None for no rounding.

  Returns:
    A model of x (D,) and z (J,).

  Raises:
    ValueError: if the heads of the likelihood are not as large as the image, or the image is too
      small for so many layers.
  """
  data_dim, family = math.prod(image_shape), posterior(latent_dim)
  if set(likelihood.sizes) != {data_dim}:
    raise ValueError(
      f"the likelihood takes heads of {likelihood.sizes} numbers; an image {image_shape} "
      f"has {data_dim}"
    )
  layers: dict[str, Any] = dict(kernel_init=kernel_init, bias_init=bias_init, dtype=dtype)
  decoder = ConvDecoder(image_shape, len(likelihood.sizes), tuple(widths[::-1]), **layers)
  encoder = ConvEncoder(image_shape, family.sizes, tuple(widths), **layers)
  check_room(image_shape, len(widths))
  return Model(
    prior=lambda params: prior(latent_dim),
    decoder=conditional(decoder, likelihood, latent_dim),
    encoder=conditional(encoder, family, data_dim),
  )


def with_output_bias(model: Model, bias: Array) -> Model:
  """Returns the same model with another initial bias in the decoder's first head.

  With the logits of the data's mean, p(x|z) starts near the best distribution that ignores z.

  Source: the code of Burda, Grosse & Salakhutdinov (2015).

  Args:
    model: a model whose decoder of x is an MLP, as in `mlp_vae` and `hierarchical_vae`.
    bias: the initial bias, shape (D,).

  Returns:
    The model with another `init` of the decoder.

  Raises:
    ValueError: on `init`, if the head has another shape.
  """

  def init(key: Key) -> PyTree:
    return biased(model.decoder.init(key))

  def biased(theta: PyTree) -> PyTree:
    if "decoder" in theta:  # beside the parameters of a prior
      return theta | {"decoder": biased(theta["decoder"])}
    head = theta["head_0"]
    start = jnp.array(bias, head["bias"].dtype)
    if start.shape != head["bias"].shape:
      raise ValueError(f"a bias of shape {start.shape} for a head of {head['bias'].shape}")
    return theta | {"head_0": head | {"bias": start}}

  return model._replace(decoder=model.decoder._replace(init=init))


def with_precision(model: Model, precision: str) -> Model:
  """Returns the same model with networks that multiply at the given matmul precision of JAX.

  The precision belongs to the model and not to the process, so one process may have two runs open.
  """
  if precision == "default":
    return model

  def precise(conditional: Conditional) -> Conditional:
    def given(params: Params, x: Array) -> Distribution:
      with jax.default_matmul_precision(precision):
        return conditional.given(params, x)

    return conditional._replace(given=given)

  return model._replace(decoder=precise(model.decoder), encoder=precise(model.encoder))


def init_params(key: Key, model: Model) -> Params:
  """Draws initial θ and φ.

  Args:
    key: consumed.
    model: its decoder makes θ, and its encoder φ.

  Returns:
    Params with θ and φ, and ψ = ().
  """
  theta_key, phi_key = jax.random.split(key)
  return Params(theta=model.decoder.init(theta_key), phi=model.encoder.init(phi_key))
