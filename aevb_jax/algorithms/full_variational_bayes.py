"""Full variational Bayes (appendix F): a posterior over θ as well as over z.

q(θ) = N(μ_θ, diag(σ_θ²)) takes the place of θ in `Params`. It is a `DiagonalGaussian` over the
vector of all P parameters of the decoder. The prior is N(0, I).
"""

import functools
import math
import operator
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from aevb_jax.errors import UnsupportedError
from aevb_jax.families.base import distribution
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.families.kl import kl_divergence
from aevb_jax.models import priors
from aevb_jax.models import vae as models
from aevb_jax.models.networks import Linear
from aevb_jax.types import Array, Conditional, Distribution, Estimator, Key, Model, Params, PyTree


def init_params(key: Key, model: Model, *, std: float = 0.01) -> Params:
  """Draws initial φ, and a q(θ) around initial θ; for `aevb(..., init=...)`.

  Args:
    key: consumed.
    model: all of its θ belong to its decoder.
    std: standard deviation of q(θ), for every parameter.

  Returns:
    Params whose theta is a `DiagonalGaussian` with mean and log_var of shape (P,).

  Raises:
    ValueError: if std is not positive.
  """
  if not std > 0:
    raise ValueError(f"std is {std}, expected a positive number")
  params = models.init_params(key, model)
  mean, _ = ravel_pytree(params.theta)
  return params._replace(theta=DiagonalGaussian(mean, jnp.full_like(mean, 2 * math.log(std))))


def weight_posterior(params: Params) -> Distribution:
  """Returns q(θ), over vectors of shape (P,)."""
  return distribution(gaussian(params.theta.mean.size), params.theta)


def unravel(model: Model, theta: Array) -> PyTree:
  """Makes the parameters of the decoder from a vector of shape (P,)."""
  shapes = jax.eval_shape(model.decoder.init, jax.random.key(0))
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  return ravel_pytree(zeros)[1](theta)


def mean_params(model: Model, params: Params) -> Params:
  """Returns Params with θ at the mean of q(θ), for code that takes a point estimate."""
  return params._replace(theta=unravel(model, params.theta.mean))


def full_vb(
  estimator: Estimator,
  *,
  num_data: int,
  closed_form: bool = True,
  local: bool = False,
) -> Estimator:
  """Makes the estimator of algorithm 2: any estimator of the bound, with θ drawn from q(θ).

  It is equation 21 divided by N, so that `aevb`'s mean over a minibatch is the whole bound on
  log p(x_1 … x_N) per data point:

    L̃(θ, φ; x) + (log p(θ) − log q(θ)) / N,  θ = h(ζ) ~ q(θ).

  Every data point has its own ζ, as in the algorithm. With `closed_form`, log p(θ) − log q(θ) is
  replaced by its expectation −KL(q(θ) ‖ p(θ)). For `elbo_b` that is the Gaussian case F.1, equation
  24.

  Source: appendix F, algorithm 2, equations 21 and 24.

  Args:
    estimator: an estimator of the bound at one θ.
    num_data: N.
    closed_form: True for the exact KL of θ, False to sample it as in equation 21.
    local: draw the pre-activations of the decoder's dense layers instead of θ, from the Gaussian
      that they have under q(θ): y ~ N(hM + m, h²V + v) for weights N(M, V) and biases N(m, v). The
      expectation is the same for an estimator whose value is a mean over samples of z, such as
      `elbo_a` and `elbo_b`, but not for bounds like `iwae`, which compare samples under one θ. It
      costs two products per layer instead of a weight matrix per data point. Source: Kingma,
      Salimans & Welling (2015), equation 6.

  Returns:
    An estimator for Params from `init_params` of this module. If `estimator` is unbiased, the
    result is unbiased for the bound of equation 15 over N, and so is its gradient. Without `local`
    it keeps P numbers for every data point of a minibatch.

  Raises:
    ValueError: if num_data is not positive, or `local` is given without `closed_form`, since no θ
      is drawn then.
    UnsupportedError: from the estimator, if `local` meets a parameter of the decoder that is not
      the kernel or the bias of a dense layer, or a layer that is used twice.
  """
  if num_data < 1:
    raise ValueError(f"num_data is {num_data}, expected at least 1")
  if local and not closed_form:
    raise ValueError("local reparameterization draws no θ, so it takes closed_form=True")

  average = averaged_over_theta(estimator, local=local)

  def estimate(key: Key, model: Model, params: Params, x: Array, **kwargs) -> Array:
    q = weight_posterior(params)
    p = priors.standard_normal(params.theta.mean.size)
    if closed_form:
      return average(key, model, params, x, **kwargs) - kl_divergence(q, p) / num_data
    zeta_key, key = jax.random.split(key)
    theta = q.sample(zeta_key)
    bound = estimator(key, model, params._replace(theta=unravel(model, theta)), x, **kwargs)
    return bound + (p.log_prob(theta) - q.log_prob(theta)) / num_data

  return estimate


def averaged_over_theta(estimator: Estimator, *, local: bool = False) -> Estimator:
  """Makes an estimator of the bound of x with θ ~ q(θ), without the KL of θ.

  It estimates the expected bound under q(θ) for an x that q(θ) was not fitted to.

  Args:
    estimator: an estimator of the bound at one θ.
    local: draw the pre-activations of the decoder's dense layers instead of θ, as in `full_vb`.

  Returns:
    An estimator for Params from `init_params` of this module. Without `local` it keeps P numbers
    for every data point of a minibatch.

  Raises:
    UnsupportedError: from the estimator, if `local` meets a parameter of the decoder that is not
      the kernel or the bias of a dense layer, or a layer that is used twice.
  """

  def estimate(key: Key, model: Model, params: Params, x: Array, **kwargs) -> Array:
    zeta_key, key = jax.random.split(key)
    if local:
      var = unravel(model, jnp.exp(params.theta.log_var))
      noisy = model._replace(decoder=with_local_noise(zeta_key, model.decoder, var))
      return estimator(key, noisy, mean_params(model, params), x, **kwargs)
    theta = unravel(model, weight_posterior(params).sample(zeta_key))
    return estimator(key, model, params._replace(theta=theta), x, **kwargs)

  return estimate


def with_local_noise(key: Key, conditional: Conditional, var: PyTree) -> Conditional:
  """Returns a network whose dense layers have Gaussian weights around its parameters.

  Args:
    key: the key of the noise; one draw per layer, for any input.
    conditional: a network of dense layers only.
    var: the variances of its parameters, in the same structure.

  Raises:
    UnsupportedError: from the network, if it uses a layer twice or has parameters of other layers.
  """

  def given(params: PyTree, z: Array) -> Distribution:
    seen: set[str] = set()

    def add_noise(layer: Callable, args: tuple, kwargs: dict, context) -> PyTree:
      module = context.module
      if not isinstance(module, nn.Dense | Linear) or context.method_name != "__call__":
        return layer(*args, **kwargs)
      name = "/".join(module.path)
      if name in seen:  # the weights make its two pre-activations dependent
        raise UnsupportedError(
          f"local reparameterization takes each layer once, and {name} is used again; "
          "use local=False"
        )
      own = functools.reduce(operator.getitem, module.path, var)
      (h,) = args
      variance = h**2 @ own["kernel"] + own.get("bias", 0.0)
      noise = jax.random.normal(jax.random.fold_in(key, len(seen)), variance.shape)
      seen.add(name)
      # The square root has no derivative at 0, which is the variance without biases for h = 0.
      std = jnp.sqrt(variance + jnp.finfo(variance.dtype).tiny)
      if isinstance(module, Linear):
        kernel, bias = layer(h)
        return kernel, bias + std * noise
      return layer(h) + std * noise

    with nn.intercept_methods(add_noise):
      p = conditional.given(params, z)
    paths, _ = jax.tree.flatten_with_path(var)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    if others := [name for name in names if name.rpartition("/")[0] not in seen]:
      raise UnsupportedError(
        f"local reparameterization knows only dense layers, and {', '.join(others)} "
        "belongs to none; use local=False"
      )
    return p

  return conditional._replace(given=given)
