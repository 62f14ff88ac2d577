"""State-space models of sequences x = (x_1, …, x_T), with a latent z_t for every frame x_t.

p(z) = p(z_1) Π p(z_t|z_{t−1}) and p(x|z) = Π p(x_t|z_t), with one network for each of the two. One
data point is a whole sequence, x of shape (T·D,), and its z is of shape (T·J,).

Given x_t … x_T and z_{t−1}, z_t does not depend on earlier frames. So structured inference is
q(z|x) = Π q(z_t|z_{t−1}, h_t), where a recurrent network sums up x_t … x_T in h_t, from the last
frame to the first (Krishnan, Shalit & Sontag 2017). Mean-field inference is q(z|x) = Π q(z_t|h_t),
where h_t sums up the frames before and after t, or is of the frame x_t only.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aevb_jax.families.base import distribution, holding
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.families.markov import Markov, independent_steps, markov
from aevb_jax.models.adapters import as_network
from aevb_jax.models.networks import MLP, Initializer, conditional, heads, linear
from aevb_jax.models.priors import with_prior
from aevb_jax.ops.products import product
from aevb_jax.types import Array, Conditional, Distribution, Family, Key, Model, PyTree

INFERENCE = "backward", "mean_field", "frame"


def state_space_vae(
  likelihood: Family,
  *,
  num_steps: int,
  data_dim: int,
  latent_dim: int,
  hidden_dim: int,
  inference: str = "backward",
  activation: Callable[[Array], Array] = nn.tanh,
  kernel_init: Initializer = nn.initializers.lecun_normal(),
  bias_init: Initializer = nn.initializers.zeros_init(),
  dtype: jnp.dtype | None = None,
) -> Model:
  """Makes a state-space model of sequences of T frames, with Gaussian latents.

  p(z_1) = N(0, I), p(z_t|z_{t−1}) = N(z_{t−1} + f(z_{t−1}), diag(σ²(z_{t−1}))), and p(x_t|z_t) is a
  member of `likelihood`. `elbo_b` takes the KL of every step in closed form, given the step before.

  Source: Krishnan, Shalit & Sontag (2017): inference as their ST-R, or MF-LR if it is mean-field;
    (2015) for q-INDEP, that of single frames.

  Args:
    likelihood: family of one frame x_t, such as `bernoulli(D)`.
    num_steps: T, the frames of every sequence.
    data_dim: D, numbers in a frame.
    latent_dim: J, numbers in z_t.
    hidden_dim: hidden units of each network, and the size of h_t.
    inference: "backward" for q(z_t|z_{t−1}, h_t), "mean_field" for q(z_t|h_t), or "frame" for
      q(z_t|x_t), the encoder of `mlp_vae` for every frame, which costs least.
    activation: of the hidden units between z_{t−1} and z_t, in p and in q, and between z_t and x_t.
    kernel_init: initializer of the weight matrices; that from h_{t+1} to h_t starts orthogonal.
    bias_init: initializer of the biases.
    dtype: the dtype that operands of matrix products are rounded to; None for no rounding.

  Returns:
    A model of x (T·D,) and z (T·J,), the steps one after the other. Its q(z|x) and its p(x|z) raise
    ValueError if they are given an x of another length.

  Raises:
    ValueError: if a size is below 1, or `inference` has another value.
  """
  sizes = dict(num_steps=num_steps, latent_dim=latent_dim)
  check_positive(data_dim=data_dim, hidden_dim=hidden_dim, **sizes)
  if inference not in INFERENCE:
    raise ValueError(f"inference is {inference!r}, expected one of {', '.join(INFERENCE)}")
  layers: dict[str, Any] = dict(kernel_init=kernel_init, bias_init=bias_init, dtype=dtype)

  def network(family: Family) -> Conditional:
    module = MLP((hidden_dim,), family.sizes, activation, **layers)
    return conditional(module, family, latent_dim)

  of_latent = gaussian(latent_dim)
  if inference == "backward":
    summary = as_network(Backward(hidden_dim, **layers), (num_steps, data_dim))
    module = Combined((hidden_dim,), of_latent.sizes, activation, **layers)
    given = conditional(module, of_latent, latent_dim + hidden_dim)

    def infer(phi: PyTree, h: Array) -> Distribution:
      of_step = lambda phi, z, h_t: given.given(phi, jnp.concatenate([z, h_t]))
      return markov(Markov(holding(of_step, phi), h, start=jnp.zeros(latent_dim)))

  else:
    network_of = BothWays if inference == "mean_field" else Single
    summary = as_network(network_of(hidden_dim, **layers), (num_steps, data_dim))
    given = conditional(MLP((), of_latent.sizes, **layers), of_latent, hidden_dim)

    def infer(phi: PyTree, h: Array) -> Distribution:
      etas = jax.vmap(lambda h_t: given.given(phi, h_t).eta)(h)
      return independent_steps(of_latent, etas)

  def init(key: Key) -> PyTree:
    summary_key, given_key = jax.random.split(key)
    return {"summary": summary.init(summary_key), "given": given.init(given_key)}

  def q(phi: PyTree, x: Array) -> Distribution:
    frames = as_frames(x, num_steps, data_dim)
    return infer(phi["given"], summary.apply(phi["summary"], frames))

  change, frame = network(of_latent), network(likelihood)
  return state_space(likelihood, frame, change, Conditional(init, q), **sizes)


def state_space(
  likelihood: Family,
  frame: Conditional,
  change: Conditional,
  encoder: Conditional,
  *,
  num_steps: int,
  latent_dim: int,
) -> Model:
  """Makes a state-space model of its three conditional distributions and q(z|x).

  Args:
    likelihood: family of one frame, of D numbers.
    frame: p(x_t|z_t), of that family.
    change: the diagonal Gaussian p(z_t − z_{t−1}|z_{t−1}) for t > 1; p(z_1) = N(0, I).
    encoder: q(z|x), such as a Markov chain of T steps.
    num_steps: T.
    latent_dim: J, numbers in z_t.

  Returns:
    A model of x (T·D,) and z (T·J,). Its θ is {"decoder": θ of `frame`, "prior": θ of `change`}.
    Its decoder takes any number of steps, also a single z_t.

  Raises:
    ValueError: if num_steps or latent_dim is below 1.
  """
  check_positive(num_steps=num_steps, latent_dim=latent_dim)

  def prior(params: PyTree) -> Distribution:
    follows = jnp.ones(num_steps).at[0].set(0)  # 0 for the first step, which follows no other
    return markov(Markov(holding(p_of_step, params), follows, start=jnp.zeros(latent_dim)))

  def p_of_step(params: PyTree, z: Array, follows: Array) -> Distribution:
    by = change.given(params, z).eta
    eta = DiagonalGaussian(follows * (z + by.mean), follows * by.log_var)
    return distribution(gaussian(latent_dim), eta)

  def decode(theta: PyTree, z: Array) -> Distribution:
    etas = jax.vmap(lambda z_t: frame.given(theta, z_t).eta)(z.reshape(-1, latent_dim))
    return independent_steps(likelihood, etas)

  model = Model(prior, Conditional(frame.init, decode), encoder)
  return with_prior(model, change.init, lambda params, own: prior(own))


class Backward(nn.Module):
  """A gated recurrent unit that reads the frames (T, D) from the last to the first: h_t (T, H).

  The products of all frames are one product; only those of h_{t+1} are made one after the other.

  Source: Cho et al. (2014), with the reset gate after the product.
  """

  size: int
  kernel_init: Initializer = nn.initializers.lecun_normal()
  bias_init: Initializer = nn.initializers.zeros_init()
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, frames: Array) -> Array:
    size, float_type = self.size, jnp.result_type(float)
    of_frames = linear(self, frames, {"reset": size, "update": size, "proposal": size})
    kernel = self.param("recurrent", nn.initializers.orthogonal(), (size, 3 * size), float_type)

    def step(h: Array, of_frame: list[Array]) -> tuple[Array, Array]:
      of_h = jnp.split(product(h[None], kernel, dtype=self.dtype)[0], 3)
      reset, update = (nn.sigmoid(a + b) for a, b in zip(of_frame[:2], of_h[:2]))
      proposal = nn.tanh(of_frame[2] + reset * of_h[2])
      h = update * h + (1 - update) * proposal
      return h, h

    return jax.lax.scan(step, jnp.zeros(size), of_frames, reverse=True)[1]


class BothWays(Backward):
  """The mean of what two recurrent units find, which read the frames in the two directions."""

  @nn.compact
  def __call__(self, frames: Array) -> Array:
    layers = self.kernel_init, self.bias_init, self.dtype
    make = lambda name: Backward(self.size, *layers, name=name)
    return 0.5 * (make("later")(frames) + make("earlier")(frames[::-1])[::-1])


class Single(Backward):
  """A layer of hidden units of every frame by itself."""

  @nn.compact
  def __call__(self, frames: Array) -> Array:
    return nn.tanh(*linear(self, frames, {"hidden": self.size}))


class Combined(MLP):
  """Linear heads of (tanh(W z_{t−1} + b) + h_t) / 2, of one input (z_{t−1}, h_t).

  Source: Krishnan, Shalit & Sontag (2017), the combiner function.
  """

  @nn.compact
  def __call__(self, z_and_h: Array) -> tuple[Array, ...]:
    (width,) = self.hidden
    z, h = jnp.split(z_and_h, [len(z_and_h) - width])
    of_z = self.activation(*linear(self, z, {"hidden_0": width}))
    return tuple(linear(self, 0.5 * (of_z + h), heads(self.sizes)))


def as_frames(x: Array, num_steps: int, data_dim: int) -> Array:
  """Returns a sequence x (T·D,) as its frames (T, D).

  Raises:
    ValueError: if x has another length.
  """
  if jnp.shape(x) != (num_steps * data_dim,):
    raise ValueError(
      f"x has shape {jnp.shape(x)}, expected ({num_steps * data_dim},): "
      f"{num_steps} frames of {data_dim} numbers, one after the other"
    )
  return x.reshape(num_steps, data_dim)


def check_positive(**sizes: int) -> None:
  """Raises ValueError if one of the named sizes is below 1."""
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f"{name} is {size}, expected at least 1")
