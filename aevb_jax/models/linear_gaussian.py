"""The linear-Gaussian VAE, whose quantities all have closed forms, and its connection to PCA.

Section 4 of the paper makes that connection. p(z) = N(0, I) and p(x|z) = N(zW + b, Ψ) with a
diagonal Ψ is factor analysis. With Ψ = σ²I it is probabilistic PCA, and PCA is its limit σ → 0
(Roweis 1998). The posterior is N((x − b)V, Σ) with Σ⁻¹ = I + WΨ⁻¹Wᵀ and V = Ψ⁻¹WᵀΣ. An affine
encoder can represent the posterior except for the correlations in Σ. Every number that training
only estimates has a closed form.

θ is {"mean": {"kernel": W (J, D), "bias": b (D,)}, "log_var": log of Ψ's diagonal (D,), or of
σ² ()}; φ is {"mean": {"kernel": (D, J), "bias": (J,)}, "log_var": (J,)}.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.families.base import distribution
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.families.kl import kl_divergence
from aevb_jax.models.networks import conditional
from aevb_jax.models.priors import standard_normal
from aevb_jax.types import Array, Model, Params, PyTree


class AffineHeads(nn.Module):
  """A mean that is affine in the input, and a log-variance that does not depend on the input.

  They start from Flax's LeCun normal kernel, zero bias and variance 1.
  """

  size: int
  isotropic: bool = False  # one log-variance for all dimensions

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    dtype = jnp.result_type(float)
    mean = nn.Dense(self.size, param_dtype=dtype, name="mean")(x)
    shape = () if self.isotropic else (self.size,)
    log_var = self.param("log_var", nn.initializers.zeros_init(), shape, dtype)
    return mean, jnp.broadcast_to(log_var, (self.size,))


def linear_gaussian_vae(data_dim: int, latent_dim: int, *, isotropic: bool = False) -> Model:
  """Makes the model p(z) = N(0, I), p(x|z) = N(zW + b, Ψ) with an affine-Gaussian q(z|x).

  Args:
    data_dim: D.
    latent_dim: J.
    isotropic: True for Ψ = σ²I (probabilistic PCA), False for any diagonal Ψ (factor analysis). The
      variances of q(z|x) are J numbers in either case.

  Returns:
    A model whose θ and φ have the structure that this module's docstring gives.

  Source: section 4; Roweis (1998).
  """
  decoder, encoder = AffineHeads(data_dim, isotropic), AffineHeads(latent_dim)
  return Model(
    prior=lambda theta: standard_normal(latent_dim),
    decoder=conditional(decoder, gaussian(data_dim), latent_dim),
    encoder=conditional(encoder, gaussian(latent_dim), data_dim),
  )


def log_marginal(theta: PyTree, x: Array) -> Array:
  """Computes log p(x) = log N(x; b, WᵀW + Ψ) in nats, shape (), for one x (D,).

  It is computed as log p(x, z) − log p(z|x) at the posterior mean z, where an error in z has no
  first-order effect. No large numbers cancel, however small the noise. No array is larger than D×J.

  Raises:
    ValueError: unless x is one data point.
  """
  gain, root = _gain_and_root(theta)
  z = _centred(theta, x) @ gain
  return _log_likelihood(theta, x, z) - 0.5 * jnp.vdot(z, z) - _half_log_det_precision(root)


def posterior(theta: PyTree, x: Array) -> tuple[Array, Array]:
  """Computes the mean (J,) and the covariance Σ (J, J) of p(z|x), for one x (D,), in units of z.

  Raises:
    ValueError: unless x is one data point.
  """
  gain, root = _gain_and_root(theta)
  inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(len(root), dtype=root.dtype))
  return _centred(theta, x) @ gain, inverse @ inverse.T


def bound(params: Params, x: Array) -> Array:
  """Computes the bound of equation 3 in nats, shape (), for one x (D,) and any θ and φ.

  Nothing is sampled. log p(x|z) is quadratic in z, so its mean over q is its value at the mean of
  q, minus half the sum of q's variances times the curvatures (WΨ⁻¹Wᵀ)_jj. The KL divergence is that
  of appendix B.

  Raises:
    ValueError: unless x is one data point.
  """
  theta, phi = params.theta, params.phi
  _check_one(theta, x)
  eta = DiagonalGaussian(x @ phi["mean"]["kernel"] + phi["mean"]["bias"], phi["log_var"])
  curvatures = jnp.sum(_standardized_kernel(theta) ** 2, axis=1)
  spread = 0.5 * jnp.vdot(jnp.exp(eta.log_var), curvatures)
  latent_dim = eta.mean.size
  q = distribution(gaussian(latent_dim), eta)
  kl = kl_divergence(q, standard_normal(latent_dim))
  return _log_likelihood(theta, x, eta.mean) - spread - kl


def optimal_bound(theta: PyTree, x: Array) -> Array:
  """Computes the largest bound of any diagonal-Gaussian q(z) at one x (D,), in nats, shape ().

  It is log p(x) − ½ [Σ_j log (Σ⁻¹)_jj − log det Σ⁻¹]. The gap to log p(x) is the same for every x,
  and zero if the rows of WΨ^(−1/2) are orthogonal. A rotation of W's rows changes the gap but not
  p(x). The bound therefore prefers, of all maxima of the likelihood, one with orthogonal rows, and
  the maximum of the bound is the maximum likelihood: a linear-Gaussian VAE has no amortization gap.

  Source: Lucas, Tucker, Grosse & Norouzi (2019).

  Raises:
    ValueError: unless x is one data point.
  """
  _, root = _gain_and_root(theta)
  gap = 0.5 * jnp.sum(jnp.log(jnp.sum(root**2, axis=0))) - _half_log_det_precision(root)
  return log_marginal(theta, x) - gap


def optimal_phi(theta: PyTree) -> PyTree:
  """Computes the φ whose bound is `optimal_bound` at every x.

  The mean of q(z|x) is the posterior mean. The variances are 1/(Σ⁻¹)_jj; the posterior's own
  variances Σ_jj are larger.
  """
  gain, root = _gain_and_root(theta)
  return {
    "mean": {"kernel": gain, "bias": -theta["mean"]["bias"] @ gain},
    "log_var": -jnp.log(jnp.sum(root**2, axis=0)),
  }


def ml_theta(x: Array, latent_dim: int) -> PyTree:
  """Computes the θ of maximum likelihood under isotropic noise: PCA in closed form.

  Let λ_1 ≥ λ_2 ≥ … be the eigenvalues and u_j the eigenvectors of the data's covariance (divided by
  N). b is the mean, σ² is the mean of λ_j over the D − J directions that are left out, and row j of
  W is (λ_j − σ²)^(1/2) u_j. All rotations of W are equally likely; this W has orthogonal rows.
  NumPy computes it in double precision, whatever the precision of JAX.

  Source: Tipping & Bishop (1999), equations 7 and 8.

  Args:
    x: the data set, shape (N, D).
    latent_dim: J.

  Returns:
    θ of `linear_gaussian_vae(D, J, isotropic=True)`.

  Raises:
    ValueError: unless 1 ≤ J < the number of dimensions that the centred data span, which is at most
      min(N − 1, D). For a larger J there is no noise, and the likelihood is unbounded.
  """
  x = np.asarray(x, np.float64)
  mean = x.mean(axis=0)
  variances, axes = np.linalg.eigh(np.cov(x, rowvar=False, bias=True))
  variances, axes = variances[::-1], axes[:, ::-1].T  # largest first, one axis a row
  rank = np.count_nonzero(variances > variances[0] * variances.size * np.finfo(np.float64).eps)
  if not 1 <= latent_dim < rank:
    raise ValueError(
      f"{latent_dim} latents for {len(x)} data points that span {rank} dimensions: at least one "
      "latent, and at least one dimension left over for the noise"
    )
  noise_var = variances[latent_dim:].sum() / (variances.size - latent_dim)
  kernel = np.sqrt(variances[:latent_dim, None] - noise_var) * axes[:latent_dim]
  theta = {"mean": {"kernel": kernel, "bias": mean}, "log_var": np.log(noise_var)}
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), theta)


def principal_angles(a: Array, b: Array) -> np.ndarray:
  """Computes the J angles between the row spaces of two matrices (J, D), in radians.

  The largest angle comes first. All are 0 if the rows span the same space, in any basis. The angles
  come from both sines and cosines, since neither is accurate at 0 and at 90 degrees. NumPy computes
  them in double precision.

  Source: Björck & Golub (1973).

  Raises:
    ValueError: unless both have J linearly independent rows of the same length.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.shape != b.shape or not np.linalg.matrix_rank(a) == np.linalg.matrix_rank(b) == len(a):
    raise ValueError(
      f"{a.shape} and {b.shape} are not two bases of one size with a vector in each row"
    )
  a, b = np.linalg.qr(a.T)[0], np.linalg.qr(b.T)[0]
  cosines = np.linalg.svd(a.T @ b, compute_uv=False)
  sines = np.linalg.svd(b - a @ (a.T @ b), compute_uv=False)
  return np.arctan2(sines, cosines[::-1])  # the largest sine goes with the smallest cosine


def _gain_and_root(theta: PyTree) -> tuple[Array, Array]:
  """Computes V (D, J) such that (x − b)V is the posterior mean, and R (J, J) with Σ⁻¹ = RᵀR.

  R is the triangular factor of [Ψ^(−1/2)Wᵀ; I]. Σ⁻¹ is never formed, because its condition number
  is the square of this matrix's. In float32 this allows for a noise of 1e-4 standard deviations of
  the data.
  """
  latent_dim = len(theta["mean"]["kernel"])
  tall = jnp.concatenate([_standardized_kernel(theta).T, jnp.eye(latent_dim)])
  q, root = jnp.linalg.qr(tall)
  whitened_gain = jax.scipy.linalg.solve_triangular(root, q[:-latent_dim].T)
  return (whitened_gain * jnp.exp(-0.5 * _log_var(theta))[None, :]).T, root


def _half_log_det_precision(root: Array) -> Array:
  return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(root))))


def _standardized_kernel(theta: PyTree) -> Array:
  """Computes WΨ^(−1/2), shape (J, D)."""
  return theta["mean"]["kernel"] * jnp.exp(-0.5 * _log_var(theta))[None, :]


def _log_likelihood(theta: PyTree, x: Array, z: Array) -> Array:
  """Computes log p(x|z) in nats, shape ()."""
  mean = z @ theta["mean"]["kernel"] + theta["mean"]["bias"]
  return gaussian(mean.size).log_prob(DiagonalGaussian(mean, _log_var(theta)), x)


def _log_var(theta: PyTree) -> Array:
  """Returns the logarithm of Ψ's diagonal, shape (D,), for either kind of noise."""
  return jnp.broadcast_to(theta["log_var"], theta["mean"]["bias"].shape)


def _centred(theta: PyTree, x: Array) -> Array:
  _check_one(theta, x)
  return x - theta["mean"]["bias"]


def _check_one(theta: PyTree, x: Array) -> None:
  # Without this check a batch would broadcast against b, and the result would be one number.
  if jnp.shape(x) != (expected := theta["mean"]["bias"].shape):
    raise ValueError(f"x has shape {jnp.shape(x)}, expected {expected}: use jax.vmap over many")
