"""Mixtures of Gaussians, as posteriors that stay reparameterized and as priors that are learned;
and the VampPrior, a mixture of posteriors.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import ndtr

from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.sgvb import draw
from aevb_jax.families.base import (
  LOG_2PI,
  DiagonalGaussian,
  check_shape,
  diagonal_gaussian,
  distribution,
)
from aevb_jax.models.vae import log_joint
from aevb_jax.types import Array, Conditional, Distribution, Family, Key, Model, Params, PyTree


class GaussianMixture(NamedTuple):
  """Parameters of Σ_k π_k N(mean_k, diag(exp(log_var_k))): shapes (K,), (K, J) and (K, J)."""

  log_weights: Array  # log π, normalized
  mean: Array
  log_var: Array


class MixtureNoise(NamedTuple):
  gumbel: Array  # (K,), which chooses the component
  normal: Array  # (J,)


def gaussian_mixture(size: int, num_components: int) -> Family:
  """Σ_k π_k N(mean_k, diag(exp(log_var_k))): three heads, of K, K·J and K·J numbers.

  Which component z is drawn from jumps with π, but z's distribution does not. `transform` has
  the implicit derivative, by which dz/dη = −(∂F/∂z)⁻¹ ∂F/∂η of F, the CDF of each z_j given
  those before it, J of them: any estimator may differentiate through z. It costs J² K beside
  a draw. `stratified_elbo` needs it not, and takes every component into account.

  Source: Graves (2016); Figurnov, Mohamed & Mnih (2018).

  Raises:
    ValueError: if num_components is not positive.
  """
  if num_components < 1:
    raise ValueError(f"num_components is {num_components}, expected at least 1")
  shape = num_components, size

  def from_heads(logits: Array, mean: Array, log_var: Array) -> GaussianMixture:
    check_shape("the head for the logits", logits, num_components)
    check_shape("the head for the means", mean, num_components * size)
    check_shape("the head for the log-variances", log_var, num_components * size)
    log_weights = jax.nn.log_softmax(logits)
    return GaussianMixture(log_weights, mean.reshape(shape), log_var.reshape(shape))

  def log_prob(eta: GaussianMixture, z: Array) -> Array:
    check_shape("z", z, size)
    return jax.nn.logsumexp(eta.log_weights + jnp.sum(_log_probs(eta, z), axis=1))

  def noise(key: Key) -> MixtureNoise:
    gumbel_key, normal_key = jax.random.split(key)
    gumbel = jax.random.gumbel(gumbel_key, (num_components,))
    return MixtureNoise(gumbel, jax.random.normal(normal_key, (size,)))

  def transform(eta: GaussianMixture, noise: MixtureNoise) -> Array:
    fixed = jax.lax.stop_gradient(eta)
    k = jnp.argmax(fixed.log_weights + noise.gumbel)
    z = fixed.mean[k] + jnp.exp(0.5 * fixed.log_var[k]) * noise.normal
    slopes = jax.jacfwd(functools.partial(_conditional_cdfs, fixed))(z)
    moved = _conditional_cdfs(eta, z)
    # Zero in value.
    change = moved - jax.lax.stop_gradient(moved)
    return z - solve_triangular(slopes, change, lower=True)

  def mean(eta: GaussianMixture) -> Array:
    return jnp.exp(eta.log_weights) @ eta.mean

  def variance(eta: GaussianMixture) -> Array:
    squares = jnp.exp(eta.log_var) + (eta.mean - mean(eta)[None]) ** 2
    return jnp.exp(eta.log_weights) @ squares

  return Family(
    sizes=(num_components, num_components * size, num_components * size),
    from_heads=from_heads,
    noise=noise,
    transform=transform,
    log_prob=log_prob,
    mean=mean,
    variance=variance,
  )


def _log_probs(eta: GaussianMixture, z: Array) -> Array:
  """log N(z_j; mean_kj, var_kj), shape (K, J)."""
  t = (z[None] - eta.mean) * jnp.exp(-0.5 * eta.log_var)
  return -0.5 * (LOG_2PI + eta.log_var + t**2)


def _conditional_cdfs(eta: GaussianMixture, z: Array) -> Array:
  """F(z_j | z_1 … z_{j−1}) of each j; shape (J,)."""
  log_probs = _log_probs(eta, z)
  before = jnp.cumsum(log_probs, axis=1) - log_probs
  weights = jax.nn.softmax(eta.log_weights[:, None] + before, axis=0)
  t = (z[None] - eta.mean) * jnp.exp(-0.5 * eta.log_var)
  return jnp.sum(weights * ndtr(t), axis=0)


def stratified_elbo(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int = 1
) -> Array:
  """SGVB estimator A with L samples of every component: Σ_k π_k (1/L) Σ_l log p(x, z_kl) − log q.

  The bound of equation 3 for a q(z|x) that is a `gaussian_mixture`. Each component is
  reparameterized by itself and π is differentiated as a weight, so that nothing is drawn of
  which component: that part of the noise is gone, at K times the cost of `elbo_a`.

  Source: Morningstar et al. (2021), who stratify the importance weighted bound so.

  Args:
    key: consumed.
    model: whose q(z|x) is a `gaussian_mixture`.
    params: θ and φ.
    x: one data point, shape (D,).
    num_samples: L, of each component.

  Returns:
    An unbiased estimate of the bound in nats, shape (), with an unbiased gradient.

  Raises:
    UnsupportedError: if q(z|x) is another family.
    ValueError: if num_samples is not positive.
  """
  log_pi, log_w = _stratified_log_weights(key, model, params, x, num_samples)
  return jnp.exp(log_pi) @ jnp.mean(log_w, axis=1)


def stratified_iwae(
  key: Key, model: Model, params: Params, x: Array, *, num_samples: int = 1
) -> Array:
  """log (1/L) Σ_l Σ_k π_k w_kl: at least as tight as `iwae` of L samples of the mixture.

  Source: Morningstar et al. (2021).

  Args, returns and raises: those of `stratified_elbo`, of this bound.
  """
  log_pi, log_w = _stratified_log_weights(key, model, params, x, num_samples)
  return jax.nn.logsumexp(log_pi[:, None] + log_w) - math.log(num_samples)


def _stratified_log_weights(
  key: Key, model: Model, params: Params, x: Array, num_samples: int
) -> tuple[Array, Array]:
  """log π, (K,), and log w of L samples of each component, (K, L)."""
  q = model.encoder.given(params.phi, x)
  if not isinstance(q.eta, GaussianMixture):
    raise UnsupportedError(
      f"the estimator takes a q(z|x) that is a GaussianMixture, not a {type(q.eta).__name__}"
    )
  gaussian = diagonal_gaussian(q.eta.mean.shape[1])

  def of_component(key: Key, mean: Array, log_var: Array) -> Array:
    z = draw(key, distribution(gaussian, DiagonalGaussian(mean, log_var)), num_samples)
    return jax.vmap(lambda z: log_joint(model, params, x, z) - q.log_prob(z))(z)

  keys = jax.random.split(key, len(q.eta.mean))
  return q.eta.log_weights, jax.vmap(of_component)(keys, q.eta.mean, q.eta.log_var)


def with_prior(
  model: Model, init: Callable[[Key], PyTree], prior: Callable[[Params, PyTree], Distribution]
) -> Model:
  """The same model with a prior whose parameters are learned, as a part of θ.

  θ becomes {"decoder": what it was, "prior": `init(key)`}.

  Args:
    model: any.
    init: key -> parameters of the prior.
    prior: (params, those parameters) -> p(z); params have the φ that a VampPrior needs.
  """

  def init_both(key: Key) -> PyTree:
    decoder_key, prior_key = jax.random.split(key)
    return {"decoder": model.decoder.init(decoder_key), "prior": init(prior_key)}

  return model._replace(
    prior=lambda params: prior(params, params.theta["prior"]),
    decoder=Conditional(init_both, lambda theta, z: model.decoder.given(theta["decoder"], z)),
  )


def with_mixture_prior(model: Model, latent_dim: int, num_components: int) -> Model:
  """The same model with a learned mixture of Gaussians as p(z).

  It starts from components of unit variance whose means are drawn from N(0, I), equally weighed.

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
  """The same model with p(z) = (1/K) Σ_k q(z|u_k), of pseudo-inputs u_k that are learned.

  Evaluating it costs K passes through the encoder for a minibatch, and K log-densities for a z.

  Source: Tomczak & Welling (2018).

  Args:
    model: whose q(z|x) is of any family that has a density.
    pseudo_inputs: where u starts, before `link`, such as K data points; shape (K, D).
    link: keeps u where data are, such as `jax.nn.sigmoid`.

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
      of_each = jax.vmap(lambda u: given(link(u)).log_prob(z))(eta.pseudo_inputs)
      return jax.nn.logsumexp(of_each) - math.log(k)

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
    # Flat, since it is no weight matrix, which a prior on the weights would hold near zero.
    lambda key: {"pseudo_inputs": start.ravel()},
    lambda params, own: mixed(Vamp(own["pseudo_inputs"].reshape(start.shape), params.phi)),
  )
