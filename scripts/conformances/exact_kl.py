"""Divergences KL(q ‖ p) by their closed forms, in numbers of 60 digits."""

from conformances.exact import _log_beta, _softplus
from conformances.exact_vectors import covariance, log_det
from mpmath import matrix, mp, mpf

VECTORS = ("full_gaussian", "low_rank_gaussian")
GAMMAS = ("gamma", "exponential", "chi_squared")


def kl(q: str, q_eta: dict, p: str, p_eta: dict) -> mpf:
  """Computes KL(q ‖ p) in nats.

  Args:
    q: the name of the family of q.
    q_eta: its parameters by name, each a list of mpmath numbers.
    p, p_eta: those of p.
  """
  if q in VECTORS or p in VECTORS or len(q_eta.get("mean", ())) > 1:
    return gaussians(q, q_eta, p, p_eta)
  if q == "dirichlet":
    return dirichlets(q_eta["concentration"], p_eta["concentration"])
  of_q, of_p = ([value for (value,) in eta.values()] for eta in (q_eta, p_eta))
  if q in GAMMAS and p in GAMMAS:
    return gammas(*as_gamma(q, of_q), *as_gamma(p, of_p))
  if q == "weibull" and p in GAMMAS:
    return weibull_and_gamma(*of_q, *as_gamma(p, of_p))
  assert q == p
  return SAME[q](*of_q, *of_p)


def as_gamma(family: str, eta: list) -> tuple[mpf, mpf]:
  if family == "exponential":
    return mpf(1), eta[0]
  return (eta[0] / 2, mpf(1) / 2) if family == "chi_squared" else tuple(eta)


def gammas(a: mpf, r: mpf, b: mpf, s: mpf) -> mpf:
  ratio = s / r
  value = (a - b) * mp.digamma(a) - mp.loggamma(a) + mp.loggamma(b)
  return value - b * mp.log(ratio) + a * (ratio - 1)


def weibull_and_gamma(s: mpf, k: mpf, a: mpf, r: mpf) -> mpf:
  mean_log, mean = mp.log(s) - mp.euler / k, s * mp.gamma(1 + 1 / k)
  entropy = mp.euler * (1 - 1 / k) + mp.log(s / k) + 1
  return -entropy - (a * mp.log(r) - mp.loggamma(a) + (a - 1) * mean_log - r * mean)


def weibulls(s: mpf, k: mpf, t: mpf, l: mpf) -> mpf:
  power = (s / t) ** l * mp.gamma(1 + l / k)
  value = mp.log(k / l) + l * mp.log(t) - k * mp.log(s)
  return value + (k - l) * (mp.log(s) - mp.euler / k) + power - 1


def betas(a: mpf, b: mpf, c: mpf, d: mpf) -> mpf:
  value = _log_beta(c, d) - _log_beta(a, b) + (a - c) * mp.digamma(a) + (b - d) * mp.digamma(b)
  return value + (c - a + d - b) * mp.digamma(a + b)


def laplaces(m: mpf, s: mpf, n: mpf, t: mpf) -> mpf:
  d = abs(m - n)
  return d / t + s / t * mp.exp(-d / s) - mp.log(s / t) - 1


def normals(m: mpf, v: mpf, n: mpf, w: mpf) -> mpf:
  return (mp.exp(v - w) + (m - n) ** 2 * mp.exp(-w) - 1 + w - v) / 2


def log_normals(m: mpf, s: mpf, n: mpf, t: mpf) -> mpf:
  return normals(m, 2 * mp.log(s), n, 2 * mp.log(t))


def bernoullis(l: mpf, m: mpf) -> mpf:
  on, off = _softplus(-m) - _softplus(-l), _softplus(m) - _softplus(l)
  return on / (1 + mp.exp(-l)) + off / (1 + mp.exp(l))


def uniforms(a: mpf, b: mpf, c: mpf, d: mpf) -> mpf:
  return mp.log((d - c) / (b - a)) if c <= a and b <= d else mp.inf


SAME = dict(
  weibull=weibulls,
  beta=betas,
  laplace=laplaces,
  gaussian=normals,
  log_normal=log_normals,
  bernoulli=bernoullis,
  uniform=uniforms,
)


def dirichlets(a: list, b: list) -> mpf:
  log_constant = lambda c: mp.loggamma(mp.fsum(c)) - mp.fsum(map(mp.loggamma, c))
  mean_log = [mp.digamma(aj) - mp.digamma(mp.fsum(a)) for aj in a]
  terms = [(aj - bj) * m for aj, bj, m in zip(a, b, mean_log, strict=True)]
  return log_constant(a) - log_constant(b) + mp.fsum(terms)


def gaussians(q: str, q_eta: dict, p: str, p_eta: dict) -> mpf:
  of_q, of_p = covariance(q, q_eta), covariance(p, p_eta)
  d = matrix(q_eta["mean"]) - matrix(p_eta["mean"])
  ratio = mp.lu_solve(of_p, d)
  inverse = of_p**-1
  trace = mp.fsum((inverse * of_q)[j, j] for j in range(of_q.rows))
  value = trace + (d.T * ratio)[0] - of_q.rows + log_det(of_p) - log_det(of_q)
  return value / 2
