"""Priors p(z): fixed, or learned as a part of θ (a mixture of Gaussians or of posteriors)."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.families.base import distribution
from aevb_jax.families.binary import Bernoulli, bernoulli
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.families.mixtures import gaussian_mixture
from aevb_jax.ops.weights import log_sum_exp
from aevb_jax.types import Array, Conditional, Distribution, Key, Model, Params, PyTree


def standard_normal(size: int) -> Distribution:
  """Makes N(0, I), the paper's prior over z.

  Args:
    size: J.

  Returns:
    The distribution over z of shape (J,).
  """
  zeros = jnp.zeros(size)
  return distribution(gaussian(size), DiagonalGaussian(zeros, zeros))


def fair_coins(size: int) -> Distribution:
  """Makes independent Bernoulli(1/2) variables, a prior over binary z.

  Args:
    size: J.

  Returns:
    The distribution over z of shape (J,), with entries 0 and 1.
  """
  return distribution(bernoulli(size), Bernoulli(jnp.zeros(size)))


def with_prior(
  model: Model, init: Callable[[Key], PyTree], prior: Callable[[Params, PyTree], Distribution]
) -> Model:
  """Returns the same model with a prior whose parameters are learned, as a part of θ.

  Args:
    model: any model.
    init: key -> parameters of the prior.
    prior: (params, parameters of the prior) -> p(z); params have the φ that a VampPrior needs.

  Returns:
    A model whose θ is {"decoder": θ of `model`, "prior": `init(key)`}.
  """

  def init_both(key: Key) -> PyTree:
    decoder_key, prior_key = jax.random.split(key)
    return {"decoder": model.decoder.init(decoder_key), "prior": init(prior_key)}

  return model._replace(
    prior=lambda params: prior(params, params.theta["prior"]),
    decoder=Conditional(init_both, lambda theta, z: model.decoder.given(theta["decoder"], z)),
  )


def with_mixture_prior(model: Model, latent_dim: int, num_components: int) -> Model:
  """Returns the same model with a learned mixture of K Gaussians as p(z).

  The mixture starts with equal weights, unit variances and means drawn from N(0, I).

  Args:
    model: any model.
    latent_dim: J.
    num_components: K.

  Returns:
    A model whose θ is {"decoder": θ of `model`, "prior": the logits (K,), and mean and log_var,
    both (K·J,)}.

  Raises:
    ValueError: if num_components is not positive.
  """
  family = gaussian_mixture(latent_dim, num_components)

  def init(key: Key) -> PyTree:
    mean = jax.random.normal(key, (num_components * latent_dim,))
    return {
      "logits": jnp.zeros(num_components), "mean": mean, "log_var": jnp.zeros_like(mean)
    }  # fmt: skip

  def prior(params: Params, own: PyTree) -> Distribution:
    del params
    return distribution(family, family.from_heads(own["logits"], own["mean"], own["log_var"]))

  return with_prior(model, init, prior)


class Vamp(NamedTuple):
  """Parameters of a VampPrior: pseudo-inputs (K, D), and φ of q(z|x)."""

  pseudo_inputs: Array
  phi: PyTree


def with_vamp_prior(
  model: Model,
  pseudo_inputs: Array,
  *,
  link: Callable[[Array], Array] = lambda raw: raw,
) -> Model:
  """Returns the same model with p(z) = (1/K) Σ_k q(z|u_k), whose pseudo-inputs u_k are learned.

  Evaluating p(z) costs K passes through the encoder for a minibatch, and K log-densities for each
  z.

  Source: Tomczak & Welling (2018).

  Args:
    model: its q(z|x) may be of any family that has a density.
    pseudo_inputs: the initial u, before `link`, such as K data points; shape (K, D).
    link: keeps u in the range of the data, such as `jax.nn.sigmoid`.

  Returns:
    A model whose θ is {"decoder": θ of `model`, "prior": {"pseudo_inputs": u, shape (K·D,)}}. Its
    p(z) is not reparameterized.

  Raises:
    ValueError: if pseudo_inputs are not K inputs.
  """
  if jnp.ndim(pseudo_inputs) != 2 or not len(pseudo_inputs):
    raise ValueError(f"pseudo_inputs have shape {jnp.shape(pseudo_inputs)}, expected (K, D)")
  start = jnp.asarray(pseudo_inputs, jnp.result_type(float))

  def mixed(eta: Vamp) -> Distribution:
    given = functools.partial(model.encoder.given, eta.phi)
    k = len(eta.pseudo_inputs)

    def sample(key: Key) -> Array:
      which_key, z_key = jax.random.split(key)
      u = eta.pseudo_inputs[jax.random.randint(which_key, (), 0, k)]
      return given(link(u)).sample(z_key)

    def log_prob(z: Array) -> Array:
      log_probs = jax.vmap(lambda u: given(link(u)).log_prob(z))(eta.pseudo_inputs)
      return log_sum_exp(log_probs) - math.log(k)

    def sample_with_log_prob(key: Key) -> tuple[Array, Array]:
      z = sample(key)
      return z, log_prob(z)

    means = jax.vmap(lambda u: given(link(u)).mean)(eta.pseudo_inputs)
    return Distribution(
      sample=sample,
      sample_with_log_prob=sample_with_log_prob,
      log_prob=log_prob,
      mean=jnp.mean(means, axis=0),
      eta=eta,
      reparameterized=False,
      support=given(link(eta.pseudo_inputs[0])).support,
      at=mixed,
    )

  return with_prior(
    model,
    # The array is flat, because a prior on the weights would hold a matrix near zero.
    lambda key: {"pseudo_inputs": start.ravel()},
    lambda params, own: mixed(Vamp(own["pseudo_inputs"].reshape(start.shape), params.phi)),
  )
