"""Distributions over vectors by their formulas, in numbers of 60 digits."""

from conformances.exact import MPF
from mpmath import matrix, mp, mpf


def dirichlet_log_density(z: MPF, a: MPF) -> mpf:
  terms = [(aj - 1) * mp.log(zj) - mp.loggamma(aj) for aj, zj in zip(a, z, strict=True)]
  return mp.fsum(terms) + mp.loggamma(mp.fsum(a))


def dirichlet_moments(a: MPF) -> tuple[MPF, MPF, mpf]:
  """Returns the means, the variances and the entropy of a Dirichlet."""
  total = mp.fsum(a)
  means = [aj / total for aj in a]
  surprise = (total - len(a)) * mp.digamma(total) - mp.fsum((aj - 1) * mp.digamma(aj) for aj in a)
  log_constant = mp.fsum(map(mp.loggamma, a)) - mp.loggamma(total)
  return means, [m * (1 - m) / (total + 1) for m in means], log_constant + surprise


def covariance(family: str, eta: dict) -> matrix:
  """Returns the covariance of a Gaussian, or the scale matrix of an elliptical distribution."""
  if "scale_tril" in eta:
    tril = matrix(eta["scale_tril"])
    return tril * tril.T
  diagonal = mp.diag([mp.exp(v) for v in eta["log_var"]])
  if family == "gaussian":
    return diagonal
  factor = matrix(eta["factor"])
  return diagonal + factor * factor.T


def log_det(square: matrix) -> mpf:
  tril = mp.cholesky(square)
  return 2 * mp.fsum(mp.log(tril[j, j]) for j in range(tril.rows))


def gaussian_log_density(family: str, z: MPF, eta: dict) -> mpf:
  sigma = covariance(family, eta)
  d = matrix(z) - matrix(eta["mean"])
  distance = (d.T * mp.lu_solve(sigma, d))[0]
  return -(len(z) * mp.log(2 * mp.pi) + log_det(sigma) + distance) / 2


def low_rank_gradients(z: MPF, eta: dict) -> dict[str, list]:
  """Returns the derivatives of a low-rank Gaussian's log-density by their closed forms."""
  sigma = covariance("low_rank_gaussian", eta)
  alpha = mp.lu_solve(sigma, matrix(z) - matrix(eta["mean"]))
  inverse = sigma**-1
  curvature = alpha * alpha.T - inverse  # twice the derivative with respect to the covariance
  size = len(z)
  of_factor = curvature * matrix(eta["factor"])
  variances = [mp.exp(v) for v in eta["log_var"]]
  return {
    "z": [-alpha[j] for j in range(size)],
    "mean": [alpha[j] for j in range(size)],
    "log_var": [curvature[j, j] * variances[j] / 2 for j in range(size)],
    "factor": of_factor.tolist(),
  }


def elliptical_log_density(z: MPF, eta: dict) -> mpf:
  """Computes the log-density of the multivariate t with 5 degrees of freedom."""
  nu, size = mpf(5), len(z)
  sigma = covariance("elliptical", eta)
  d = matrix(z) - matrix(eta["location"])
  constant = mp.loggamma((nu + size) / 2) - mp.loggamma(nu / 2) - size * mp.log(nu * mp.pi) / 2
  distance = (d.T * mp.lu_solve(sigma, d))[0]
  return constant - (nu + size) / 2 * mp.log1p(distance / nu) - log_det(sigma) / 2


def log_density(family: str, z: MPF, eta: dict) -> mpf:
  """Computes log p(z) of a distribution over vectors."""
  if family == "dirichlet":
    return dirichlet_log_density(z, eta["concentration"])
  if family == "elliptical":
    return elliptical_log_density(z, eta)
  return gaussian_log_density(family, z, eta)


def moments(family: str, eta: dict) -> tuple[MPF, MPF, mpf | None]:
  """Returns the means, the variances and the entropy; None if no entropy is asked for."""
  if family == "dirichlet":
    return dirichlet_moments(eta["concentration"])
  sigma = covariance(family, eta)
  variances = [sigma[j, j] for j in range(sigma.rows)]
  if family == "elliptical":  # its entropy has no case
    return eta["location"], [v * 5 / 3 for v in variances], None
  return eta["mean"], variances, (sigma.rows * (1 + mp.log(2 * mp.pi)) + log_det(sigma)) / 2
