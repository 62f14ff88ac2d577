"""Variational auto-encoders with several layers of latents, z = (z_1, …, z_S).

p(z) = p(z_S) Π p(z_s|z_{s+1}) and p(x|z) = p(x|z_1), with a network for each conditional. There are
two directions of inference. From the bottom up it is q(z|x) = q(z_1|x) Π q(z_s|z_{s−1}) (Burda,
Grosse & Salakhutdinov 2015). From the top down it is q(z|x) = q(z_S|x) Π q(z_s|z_{s+1}, x), where a
deterministic pass from x upwards gives each layer a Gaussian, whose precision is added to that of
p(z_s|z_{s+1}) (Sønderby et al. 2016).
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aevb_jax.families.base import distribution, holding
from aevb_jax.families.chains import Chain, Drawn, Given, Parts, chain
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.models.adapters import as_network
from aevb_jax.models.networks import MLP, Initializer, conditional, linear
from aevb_jax.models.priors import standard_normal, with_prior
from aevb_jax.types import Array, Conditional, Distribution, Family, Key, Model, PyTree

DIRECTIONS = "bottom_up", "top_down"


def hierarchical_vae(
  likelihood: Family,
  *,
  data_dim: int,
  latent_dims: Sequence[int],
  hidden_dims: Sequence[Sequence[int]],
  inference: str = "bottom_up",
  kernel_init: Initializer = nn.initializers.lecun_normal(),
  bias_init: Initializer = nn.initializers.zeros_init(),
  dtype: jnp.dtype | None = None,
) -> Model:
  """Makes a model with S layers of Gaussian latents.

  `elbo_b` takes the KL of every layer in closed form if inference is from the top down, and of the
  top layer if it is from the bottom up.

  Source: Burda, Grosse & Salakhutdinov (2015), section 2.1; Sønderby et al. (2016), section 2.2.

  Args:
    likelihood: family of x, such as `bernoulli(D)`.
    data_dim: D.
    latent_dims: dimensions of z_1, …, z_S, from the layer next to x upwards.
    hidden_dims: for each layer, the units of the deterministic layers between it and the one below
      it, upwards; the networks downwards reverse them.
    inference: "bottom_up" or "top_down".
    kernel_init: initializer of the weight matrices.
    bias_init: initializer of the biases.
    dtype: the dtype that operands of matrix products are rounded to; None for no rounding.

  Returns:
    A model of x (D,) and z (Σ J_s,), the layers one after the other, z_1 first. Inference from the
    top down shares p(z_s|z_{s+1}) with p(z), which then depends on φ, as a VampPrior does.

  Raises:
    ValueError: if there are not as many groups of hidden layers as layers of latents, a layer has
      no dimensions, or `inference` has another value.
  """
  check_layers(latent_dims, hidden_dims, inference)
  sizes, top = tuple(latent_dims), len(latent_dims) - 1
  layers: dict[str, Any] = dict(kernel_init=kernel_init, bias_init=bias_init, dtype=dtype)

  def network(hidden: Sequence[int], family: Family, input_size: int) -> Conditional:
    return conditional(MLP(hidden, family.sizes, **layers), family, input_size)

  def from_above(params: Sequence[PyTree]) -> list[Given]:
    """The conditionals p(z_s|z_{s+1})."""
    return [_of_parent(below[s], s + 1, params[s]) for s in range(top)]

  def prior(params: Sequence[PyTree]) -> Distribution:
    root = holding(_fixed, standard_normal(sizes[top]).eta)
    return chain(Chain((*from_above(params), root), Parts(sizes, tuple(range(top, -1, -1)))))

  below = [network(hidden_dims[s + 1][::-1], gaussian(sizes[s]), sizes[s + 1]) for s in range(top)]
  of_first = network(hidden_dims[0][::-1], likelihood, sizes[0])
  decoder = Conditional(of_first.init, lambda theta, z: of_first.given(theta, z[: sizes[0]]))

  if inference == "bottom_up":
    above = [
      network(hidden, gaussian(size), input_size)
      for hidden, size, input_size in zip(hidden_dims, sizes, (data_dim, *sizes))
    ]

    def q_bottom_up(phi: Sequence[PyTree], x: Array) -> Distribution:
      first = holding(_fixed, above[0].given(phi[0], x).eta)
      given = [_of_parent(above[s], s - 1, phi[s]) for s in range(1, top + 1)]
      return chain(Chain((first, *given), Parts(sizes, tuple(range(top + 1)))))

    model = Model(lambda params: prior(()), decoder, Conditional(_init_all(above), q_bottom_up))
    return with_prior(model, _init_all(below), lambda params, own: prior(own))

  upwards = as_network(UpwardPass(hidden_dims, sizes, **layers), (data_dim,))

  def init_phi(key: Key) -> PyTree:
    up_key, down_key = jax.random.split(key)
    return {"upwards": upwards.init(up_key), "prior": _init_all(below)(down_key)}

  def q_top_down(phi: PyTree, x: Array) -> Distribution:
    found = [DiagonalGaussian(*heads) for heads in upwards.apply(phi["upwards"], x)]
    given = [holding(_product, p, eta) for p, eta in zip(from_above(phi["prior"]), found)]
    order = tuple(range(top, -1, -1))
    return chain(Chain((*given, holding(_fixed, found[top])), Parts(sizes, order)))

  encoder = Conditional(init_phi, q_top_down)
  return Model(lambda params: prior(params.phi["prior"]), decoder, encoder)


class UpwardPass(nn.Module):
  """Deterministic layers from x upwards, and the mean and log-variance of each layer of latents."""

  hidden: Sequence[Sequence[int]]
  sizes: Sequence[int]
  kernel_init: Initializer = nn.initializers.lecun_normal()
  bias_init: Initializer = nn.initializers.zeros_init()
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: Array) -> tuple[tuple[Array, ...], ...]:
    h, found = x, []
    for s, (widths, size) in enumerate(zip(self.hidden, self.sizes)):
      for i, width in enumerate(widths):
        h = nn.tanh(*linear(self, h, {f"hidden_{s}_{i}": width}))
      found.append(tuple(linear(self, h, {f"mean_{s}": size, f"log_var_{s}": size})))
    return tuple(found)


def _fixed(eta: DiagonalGaussian, drawn: Drawn) -> Distribution:
  """A part that depends on no other part."""
  return distribution(gaussian(len(eta.mean)), eta)


def _of_parent(network: Conditional, parent: int, params: PyTree) -> Given:
  """A part that depends on the part at the place `parent`."""
  return holding(lambda params, drawn: network.given(params, drawn[parent]), params)


def _product(p: Given, eta: DiagonalGaussian, drawn: Drawn) -> Distribution:
  """The normalized product of p(z_s|z_{s+1}) and of a Gaussian from x: precisions add."""
  above = p(drawn).eta
  log_var = -jnp.logaddexp(-above.log_var, -eta.log_var)
  weight = jnp.exp(log_var - eta.log_var)  # of the mean from x, from 0 to 1
  mean = above.mean + weight * (eta.mean - above.mean)
  return distribution(gaussian(len(mean)), DiagonalGaussian(mean, log_var))


def _init_all(networks: Sequence[Conditional]) -> Callable[[Key], list[PyTree]]:
  def init(key: Key) -> list[PyTree]:
    return [net.init(k) for net, k in zip(networks, jax.random.split(key, len(networks)))]

  return init


def check_layers(latent_dims: Sequence[int], hidden_dims: Sequence, inference: str) -> None:
  if not latent_dims or min(latent_dims) < 1:
    raise ValueError(f"latent_dims are {tuple(latent_dims)}, expected at least 1 for every layer")
  if len(hidden_dims) != len(latent_dims):
    raise ValueError(
      f"{len(latent_dims)} layers of latents take as many groups of hidden layers, one below each; "
      f"hidden_dims has {len(hidden_dims)}"
    )
  if inference not in DIRECTIONS:
    raise ValueError(f"inference is {inference!r}, expected one of {', '.join(DIRECTIONS)}")
