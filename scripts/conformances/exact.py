"""Log-densities, moments and entropies by their formulas, in numbers of 60 digits.

Every function takes the options of a family and its parameters by name, as lists of mpmath numbers.
"""

from collections.abc import Callable

from mpmath import mp, mpf

mp.dps = 60
MPF = list[mpf]
LEVELS = 256


def _softplus(x: mpf) -> mpf:
  return max(x, mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def _log_beta(a: mpf, b: mpf) -> mpf:
  return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def _gamma(a: mpf, r: mpf, z: mpf) -> mpf:
  return a * mp.log(r) + (a - 1) * mp.log(z) - r * z - mp.loggamma(a)


def _logistic(t: mpf, s: mpf) -> mpf:
  return -abs(t) - 2 * mp.log1p(mp.exp(-abs(t))) - mp.log(s)


def _student(t: mpf, s: mpf, nu: mpf) -> mpf:
  constant = mp.loggamma((nu + 1) / 2) - mp.loggamma(nu / 2) - mp.log(nu * mp.pi) / 2
  return constant - (nu + 1) / 2 * mp.log1p(t**2 / nu) - mp.log(s)


def _triangular(low: mpf, w: mpf, z: mpf) -> mpf:
  t = (z - low) / w
  return mp.log(4 * min(t, 1 - t) / w)


def _f(d1: mpf, d2: mpf, z: mpf) -> mpf:
  a, b, r = d1 / 2, d2 / 2, d1 / d2
  return a * mp.log(r) + (a - 1) * mp.log(z) - (a + b) * mp.log1p(r * z) - _log_beta(a, b)


def _continuous_bernoulli(l: mpf, x: mpf) -> mpf:
  normalizer = mp.log(l / mp.tanh(l / 2)) if l else mp.log(2)
  return x * l - _softplus(l) + normalizer


# (options, z, *parameters) -> log p(z) of one dimension.
LOG_DENSITY: dict[str, Callable] = {
  "exponential": lambda o, z, r: mp.log(r) - r * z,
  "cauchy": lambda o, z, m, s: -mp.log(mp.pi * s) - mp.log1p(((z - m) / s) ** 2),
  "logistic": lambda o, z, m, s: _logistic((z - m) / s, s),
  "rayleigh": lambda o, z, s: mp.log(z) - 2 * mp.log(s) - (z / s) ** 2 / 2,
  "pareto": lambda o, z, s, a: mp.log(a) + a * mp.log(s) - (a + 1) * mp.log(z),
  "weibull": lambda o, z, s, k: mp.log(k / s) + (k - 1) * mp.log(z / s) - (z / s) ** k,
  "reciprocal": lambda o, z, a, b: -mp.log(z) - mp.log(mp.log(b / a)),
  "gompertz": lambda o, z, c, b: mp.log(c * b) + b * z - c * mp.expm1(b * z),
  "gumbel": lambda o, z, m, s: -(z - m) / s - mp.exp(-(z - m) / s) - mp.log(s),
  "erlang": lambda o, z, r: _gamma(mpf(o["count"]), r, z),
  "laplace": lambda o, z, m, s: -abs(z - m) / s - mp.log(2 * s),
  "student_t": lambda o, z, m, s: _student((z - m) / s, s, mpf(o["degrees_of_freedom"])),
  "uniform": lambda o, z, a, b: -mp.log(b - a),
  "triangular": lambda o, z, a, w: _triangular(a, w, z),
  "gaussian": lambda o, z, m, v: -(mp.log(2 * mp.pi) + v + (z - m) ** 2 * mp.exp(-v)) / 2,
  "log_normal": lambda o, z, m, s: (
    -(mp.log(2 * mp.pi) + ((mp.log(z) - m) / s) ** 2) / 2 - mp.log(s) - mp.log(z)
  ),
  "gamma": lambda o, z, a, r: _gamma(a, r, z),
  "chi_squared": lambda o, z, n: _gamma(n / 2, mpf(1) / 2, z),
  "f": lambda o, z, d1, d2: _f(d1, d2, z),
  "beta": lambda o, z, a, b: (a - 1) * mp.log(z) + (b - 1) * mp.log1p(-z) - _log_beta(a, b),
  "bernoulli": lambda o, x, l: x * l - _softplus(l),
  "continuous_bernoulli": lambda o, x, l: _continuous_bernoulli(l, x),
  "discretized_logistic": lambda o, x, m, s: _log_mass(o, _logistic_cdf, x, m, mp.exp(s)),
  "discretized_gaussian": lambda o, x, m, v: _log_mass(o, _gaussian_cdf, x, m, mp.exp(v / 2)),
}


def _logistic_cdf(t: mpf) -> mpf:
  return 1 / (1 + mp.exp(-t))


def _gaussian_cdf(t: mpf) -> mpf:
  return mp.erfc(-t / mp.sqrt(2)) / 2


def _log_mass(options: dict, cdf: Callable, x: mpf, mean: mpf, scale: mpf) -> mpf:
  """Computes log P of the level nearest to x, whose bin reaches half a step to both sides."""
  step, half = 1 / mpf(options["levels_per_unit"]), mpf(1) / 2
  level = int(mp.nint(x / step))
  low = -mp.inf if level == 0 else ((level - half) * step - mean) / scale
  high = mp.inf if level == LEVELS - 1 else ((level + half) * step - mean) / scale
  if low <= 0 <= high:  # both tails are taken away
    return mp.log1p(-cdf(low) - cdf(-high))
  if low > 0:  # by symmetry the lower tail, in which no digits cancel
    low, high = -high, -low
  return mp.log(cdf(high) - cdf(low))


def _euler_entropy(s: mpf, k: mpf) -> mpf:
  return mp.euler * (1 - 1 / k) + mp.log(s / k) + 1


def _gamma_entropy(a: mpf, r: mpf) -> mpf:
  return a - mp.log(r) + mp.loggamma(a) + (1 - a) * mp.digamma(a)


def _beta_entropy(a: mpf, b: mpf) -> mpf:
  spread = (a - 1) * mp.digamma(a) + (b - 1) * mp.digamma(b) - (a + b - 2) * mp.digamma(a + b)
  return _log_beta(a, b) - spread


def _f_entropy(d1: mpf, d2: mpf) -> mpf:
  a, b = d1 / 2, d2 / 2
  value = _log_beta(a, b) + (1 - a) * mp.digamma(a) - (1 + b) * mp.digamma(b)
  return value + (a + b) * mp.digamma(a + b) + mp.log(d2 / d1)


def _student_entropy(nu: mpf, s: mpf) -> mpf:
  half = (nu + 1) / 2
  value = half * (mp.digamma(half) - mp.digamma(nu / 2)) + mp.log(nu) / 2
  return value + _log_beta(nu / 2, mpf(1) / 2) + mp.log(s)


def _gompertz_mean(c: mpf, b: mpf) -> mpf:
  return mp.exp(c) * mp.e1(c) / b


def _gompertz_variance(c: mpf, b: mpf) -> mpf:
  # c (exp(b z) - 1) is exponential with rate 1.
  ends = sorted([mpf(0), c, c / 100, mpf(1), mpf(10), mpf(50), mpf(200)])
  square = mp.quad(lambda y: mp.exp(-y) * mp.log1p(y / c) ** 2, ends)
  return square / b**2 - _gompertz_mean(c, b) ** 2


def continuous_bernoulli_mean(l: mpf) -> mpf:
  return -1 / mp.expm1(-l) - 1 / l if l else mpf(1) / 2


def _continuous_bernoulli_variance(l: mpf) -> mpf:
  return 1 / l**2 - 1 / (4 * mp.sinh(l / 2) ** 2) if l else mpf(1) / 12


def _sigmoid_entropy(l: mpf) -> mpf:
  return _softplus(l) - l / (1 + mp.exp(-l))


# (options, *parameters) -> the mean, the variance and the entropy of one dimension; None for a
# moment that does not exist, where libraries differ by convention; inf for one that is infinite.
MOMENTS: dict[str, Callable] = {
  "exponential": lambda o, r: (1 / r, r**-2, 1 - mp.log(r)),
  "cauchy": lambda o, m, s: (None, None, mp.log(4 * mp.pi * s)),
  "logistic": lambda o, m, s: (m, (mp.pi * s) ** 2 / 3, mp.log(s) + 2),
  "rayleigh": lambda o, s: (
    s * mp.sqrt(mp.pi / 2),
    (2 - mp.pi / 2) * s**2,
    1 + mp.log(s / mp.sqrt(2)) + mp.euler / 2,
  ),
  "pareto": lambda o, s, a: (
    a * s / (a - 1) if a > 1 else mp.inf,
    (s**2 * a / ((a - 1) ** 2 * (a - 2)) if a > 2 else mp.inf) if a > 1 else None,
    mp.log(s / a) + 1 / a + 1,
  ),
  "weibull": lambda o, s, k: (
    s * mp.gamma(1 + 1 / k),
    s**2 * (mp.gamma(1 + 2 / k) - mp.gamma(1 + 1 / k) ** 2),
    _euler_entropy(s, k),
  ),
  "reciprocal": lambda o, a, b: (
    (b - a) / mp.log(b / a),
    (b**2 - a**2) / (2 * mp.log(b / a)) - ((b - a) / mp.log(b / a)) ** 2,
    mp.log(a * b) / 2 + mp.log(mp.log(b / a)),
  ),
  "gompertz": lambda o, c, b: (
    _gompertz_mean(c, b),
    _gompertz_variance(c, b),
    1 - mp.log(c * b) - b * _gompertz_mean(c, b),
  ),
  "gumbel": lambda o, m, s: (
    m + mp.euler * s,
    (mp.pi * s) ** 2 / 6,
    mp.log(s) + mp.euler + 1,
  ),
  "erlang": lambda o, r: (o["count"] / r, o["count"] / r**2, _gamma_entropy(mpf(o["count"]), r)),
  "laplace": lambda o, m, s: (m, 2 * s**2, 1 + mp.log(2 * s)),
  "student_t": lambda o, m, s: _student_moments(mpf(o["degrees_of_freedom"]), m, s),
  "uniform": lambda o, a, b: ((a + b) / 2, (b - a) ** 2 / 12, mp.log(b - a)),
  "triangular": lambda o, a, w: (a + w / 2, w**2 / 24, mpf(1) / 2 + mp.log(w / 2)),
  "gaussian": lambda o, m, v: (m, mp.exp(v), (1 + mp.log(2 * mp.pi) + v) / 2),
  "log_normal": lambda o, m, s: (
    mp.exp(m + s**2 / 2),
    mp.expm1(s**2) * mp.exp(2 * m + s**2),
    m + (1 + mp.log(2 * mp.pi)) / 2 + mp.log(s),
  ),
  "gamma": lambda o, a, r: (a / r, a / r**2, _gamma_entropy(a, r)),
  "chi_squared": lambda o, n: (n, 2 * n, _gamma_entropy(n / 2, mpf(1) / 2)),
  "f": lambda o, d1, d2: (
    d2 / (d2 - 2) if d2 > 2 else mp.inf,
    (2 * d2**2 * (d1 + d2 - 2) / (d1 * (d2 - 2) ** 2 * (d2 - 4)) if d2 > 4 else mp.inf)
    if d2 > 2
    else None,
    _f_entropy(d1, d2),
  ),
  "beta": lambda o, a, b: (
    a / (a + b),
    a * b / ((a + b) ** 2 * (a + b + 1)),
    _beta_entropy(a, b),
  ),
  "bernoulli": lambda o, l: (
    _logistic_cdf(l),
    _logistic_cdf(l) * _logistic_cdf(-l),
    _sigmoid_entropy(l),
  ),
  "continuous_bernoulli": lambda o, l: (
    continuous_bernoulli_mean(l),
    _continuous_bernoulli_variance(l),
    -_continuous_bernoulli(l, continuous_bernoulli_mean(l)),
  ),
}


def _student_moments(nu: mpf, m: mpf, s: mpf) -> tuple:
  variance = (s**2 * nu / (nu - 2) if nu > 2 else mp.inf) if nu > 1 else None
  return m if nu > 1 else None, variance, _student_entropy(nu, s)
