"""The generative model, its recognition model, and the densities they define."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from aevb_jax.families import DiagonalGaussian, diagonal_gaussian, distribution
from aevb_jax.networks import MLP, Initializer, conditional
from aevb_jax.types import Array, Distribution, Family, Key, Model, Params, PyTree


def standard_normal(size: int) -> Distribution:
  """N(0, I) in `size` dimensions: the paper's prior over z."""
  zeros = jnp.zeros(size)
  return distribution(diagonal_gaussian(size), DiagonalGaussian(zeros, zeros))


def mlp_vae(
  likelihood: Family,
  *,
  data_dim: int,
  latent_dim: int,
  hidden_dim: int,
  kernel_init: Initializer = nn.initializers.lecun_normal(),
  bias_init: Initializer = nn.initializers.zeros_init(),
) -> Model:
  """The variational auto-encoder of section 3 and appendix C.

  p(z) = N(0, I); p(x|z) is `likelihood` with parameters from an MLP with one
  hidden layer of tanh units; q(z|x) is a diagonal Gaussian with parameters from
  another. To start from the paper's N(0, σ²), give `nn.initializers.normal(σ)`
  as both initializers.

  Args:
    likelihood: family of x, such as `bernoulli(D)`.
    data_dim: D.
    latent_dim: J.
    hidden_dim: hidden units of each network.
    kernel_init: initializer of the weight matrices.
    bias_init: initializer of the biases.
  """

  def network(family: Family, input_size: int):
    module = MLP((hidden_dim,), family.sizes, kernel_init=kernel_init, bias_init=bias_init)
    return conditional(module, family, input_size)

  return Model(
    prior=lambda theta: standard_normal(latent_dim),
    decoder=network(likelihood, latent_dim),
    encoder=network(diagonal_gaussian(latent_dim), data_dim),
  )


def init_params(key: Key, model: Model) -> Params:
  """Fresh θ and φ."""
  theta_key, phi_key = jax.random.split(key)
  return Params(theta=model.decoder.init(theta_key), phi=model.encoder.init(phi_key))


def log_joint(model: Model, theta: PyTree, x: Array, z: Array) -> Array:
  """log p(x, z; θ) = log p(z) + log p(x|z) in nats, for one x (D,) and z (J,)."""
  return model.prior(theta).log_prob(z) + model.decoder.given(theta, z).log_prob(x)
