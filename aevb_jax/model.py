"""The generative model, its recognition model, and the densities they define."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from aevb_jax.families import (
  Bernoulli,
  DiagonalGaussian,
  bernoulli,
  diagonal_gaussian,
  distribution,
)
from aevb_jax.networks import MLP, Initializer, conditional
from aevb_jax.types import Array, Conditional, Distribution, Family, Key, Model, Params, PyTree


def standard_normal(size: int) -> Distribution:
  """N(0, I) in `size` dimensions: the paper's prior over z."""
  zeros = jnp.zeros(size)
  return distribution(diagonal_gaussian(size), DiagonalGaussian(zeros, zeros))


def fair_coins(size: int) -> Distribution:
  """Bernoulli(1/2) in `size` dimensions: a prior over binary z."""
  return distribution(bernoulli(size), Bernoulli(jnp.zeros(size)))


def mlp_vae(
  likelihood: Family,
  *,
  data_dim: int,
  latent_dim: int,
  hidden_dim: int | Sequence[int],
  posterior: Callable[[int], Family] = diagonal_gaussian,
  prior: Callable[[int], Distribution] = standard_normal,
  kernel_init: Initializer = nn.initializers.lecun_normal(),
  bias_init: Initializer = nn.initializers.zeros_init(),
) -> Model:
  """The variational auto-encoder of section 3 and appendix C.

  p(x|z) is `likelihood` with parameters from an MLP with a hidden layer of tanh
  units; q(z|x) is `posterior` with parameters from another. The defaults are the
  paper's: a diagonal Gaussian, and p(z) = N(0, I). Binary latents take
  `posterior=bernoulli, prior=fair_coins`. To start from the paper's N(0, σ²),
  give `nn.initializers.normal(σ)` as both initializers.

  Args:
    likelihood: family of x, such as `bernoulli(D)`.
    data_dim: D.
    latent_dim: J.
    hidden_dim: hidden units of each network; for several layers, the units of
      each in the order of the encoder, which the decoder reverses.
    posterior: J -> family of z given x.
    prior: J -> p(z).
    kernel_init: initializer of the weight matrices.
    bias_init: initializer of the biases.
  """

  layers = (hidden_dim,) if isinstance(hidden_dim, int) else tuple(hidden_dim)

  def network(layers: Sequence[int], family: Family, input_size: int) -> Conditional:
    module = MLP(layers, family.sizes, kernel_init=kernel_init, bias_init=bias_init)
    return conditional(module, family, input_size)

  return Model(
    prior=lambda theta: prior(latent_dim),
    decoder=network(layers[::-1], likelihood, latent_dim),
    encoder=network(layers, posterior(latent_dim), data_dim),
  )


def init_params(key: Key, model: Model) -> Params:
  """Fresh θ and φ."""
  theta_key, phi_key = jax.random.split(key)
  return Params(theta=model.decoder.init(theta_key), phi=model.encoder.init(phi_key))


def log_joint(model: Model, theta: PyTree, x: Array, z: Array) -> Array:
  """log p(x, z; θ) = log p(z) + log p(x|z) in nats, for one x (D,) and z (J,)."""
  return model.prior(theta).log_prob(z) + model.decoder.given(theta, z).log_prob(x)


def log_weight(model: Model, theta: PyTree, q: Distribution, x: Array, z: Array) -> Array:
  """log w = log p(x, z; θ) − log q(z) in nats, shape (), for one x (D,) and z (J,).

  With z ~ q = q(z|x) its expectation is the bound of equation 3, and that of w is
  p(x).
  """
  return log_joint(model, theta, x, z) - q.log_prob(z)


def simulate(key: Key, model: Model, theta: PyTree) -> tuple[Array, Array]:
  """A draw (z, x) of the model itself, shapes (J,) and (D,): z is an exact sample of p(z|x)."""
  z_key, x_key = jax.random.split(key)
  z = model.prior(theta).sample(z_key)
  return z, model.decoder.given(theta, z).sample(x_key)
