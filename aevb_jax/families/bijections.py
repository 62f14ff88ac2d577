"""Bijections for flows: autoregressive maps and couplings, with their own networks."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.families.flows import Bijection
from aevb_jax.ops.products import product
from aevb_jax.types import Array, Key, PyTree


class MADE(nn.Module):
  """An autoregressive network: entry i of every output depends on x_1 … x_{i−1} and the context.

  Maps x (J,) and a context to `num_outputs` arrays of shape (J,), which start near zero.

  Source: Germain et al. (2015); here the degrees are given to the hidden units in turn.
  """

  size: int
  hidden: Sequence[int]
  num_outputs: int

  @nn.compact
  def __call__(self, x: Array, context: Array) -> tuple[Array, ...]:
    degrees, h = np.arange(1, self.size + 1), x
    for i, width in enumerate(self.hidden):
      # With a context, some units depend only on it: the first entry of each output needs them.
      least = 0 if context.size else 1
      of_hidden = least + np.arange(width) % max(self.size - least, 1)
      h = _masked(self, f"hidden_{i}", h, of_hidden[None] >= degrees[:, None])
      if context.size:
        everywhere = np.ones((context.size, width), bool)
        h += _masked(self, f"context_{i}", context, everywhere, bias=False)
      h, degrees = nn.tanh(h), of_hidden
    last = np.arange(1, self.size + 1)[None] > degrees[:, None]
    return tuple(_masked(self, f"head_{i}", h, last, small=True) for i in range(self.num_outputs))


def _masked(
  module: nn.Module,
  name: str,
  x: Array,
  mask: np.ndarray,
  *,
  bias: bool = True,
  small: bool = False,
) -> Array:
  """Applies a linear layer whose weights are zero where the mask is."""
  dtype = jnp.result_type(float)
  init = _SMALL if small else nn.initializers.lecun_normal()
  kernel = module.param(f"{name}_kernel", init, mask.shape, dtype)
  y = product(x[None], kernel * mask.astype(dtype))[0]
  if bias:
    y += module.param(f"{name}_bias", nn.initializers.zeros_init(), mask.shape[1:], dtype)
  return y


_SMALL = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")


def inverse_autoregressive(size: int, hidden: Sequence[int], *, context_size: int = 0) -> Bijection:
  """Makes the map y = σ x + (1 − σ) m, σ = sigmoid(s + 2), of an inverse autoregressive flow.

  A MADE computes m and s from x and the context. `forward` takes one pass through it; `inverse`
  takes J passes, because each number needs the numbers before it. The map starts near y = 0.88 x.

  Source: Kingma et al. (2016), algorithm 1, whose s starts from 1 or 2.

  Args:
    size: J.
    hidden: units of each hidden layer of the MADE: at least J − 1, or J with a context.
    context_size: length of the context; 0 for none.

  Returns:
    A bijection of J numbers.

  Raises:
    ValueError: if the MADE cannot use every input, because a hidden layer is too narrow, or
      because there is a context and no hidden layer that takes it.
  """
  _check_widths(size, hidden, context_size)
  module = MADE(size, tuple(hidden), 2)

  def init(key: Key) -> PyTree:
    return module.init(key, jnp.zeros(size), jnp.zeros(context_size))["params"]

  def gate(params: PyTree, context: Array, x: Array) -> tuple[Array, Array, Array]:
    outputs: Any = module.apply({"params": params}, x, context)
    m, s = outputs
    return m, jax.nn.sigmoid(s + 2), -jnp.sum(jax.nn.softplus(-s - 2))

  def forward(params: PyTree, context: Array, x: Array) -> tuple[Array, Array]:
    m, sigma, log_det = gate(params, context, x)
    return sigma * x + (1 - sigma) * m, log_det

  def inverse(params: PyTree, context: Array, y: Array) -> tuple[Array, Array]:
    def closer(x: Array, _) -> tuple[Array, None]:  # after i rounds the first i numbers are right
      m, sigma, _ = gate(params, context, x)
      return (y - (1 - sigma) * m) / sigma, None

    x, _ = jax.lax.scan(closer, jnp.zeros_like(y), length=size)
    return x, gate(params, context, x)[2]

  return Bijection(init, forward, inverse)


def _check_widths(size: int, hidden: Sequence[int], context_size: int) -> None:
  """Raises ValueError if a MADE of these widths has no path from some input to a later output.

  The path from input i to output i + 1 leads through a unit of degree i in every hidden layer, so
  each layer holds all of the degrees 1 … J − 1; with a context it holds the degree 0 too.
  """
  least = max(size if context_size else size - 1, 1)
  for width in hidden:
    if width < least:
      raise ValueError(
        f"hidden is {width}, expected at least {least} for {size} latents: "
        "a narrower network cannot use every input"
      )
  if context_size and not hidden:
    raise ValueError(
      "hidden is (), expected at least one layer: only hidden layers use the context"
    )


class _Conditioner(nn.Module):
  """An MLP that takes the first part of a coupling and the context; its outputs start near zero."""

  hidden: Sequence[int]
  size: int

  @nn.compact
  def __call__(self, x: Array, context: Array) -> Array:
    h = jnp.concatenate([x, context])
    for i, width in enumerate(self.hidden):
      h = nn.tanh(_masked(self, f"hidden_{i}", h, np.ones((h.size, width), bool)))
    return _masked(self, "head", h, np.ones((h.size, self.size), bool), small=True)


def _coupling(
  size: int,
  hidden: Sequence[int],
  context_size: int,
  num_parameters: int,
  *,
  forward: Callable[[Array, Array], tuple[Array, Array]],
  inverse: Callable[[Array, Array], tuple[Array, Array]],
) -> Bijection:
  """Makes a bijection that keeps the first half and maps each number of the second half.

  An MLP of the first half and the context sets the parameters of these maps, P for each number.
  forward and inverse: (numbers (n,), parameters (n, P)) -> (numbers, log-derivatives).
  """
  if size < 2:
    raise ValueError(f"size is {size}, expected at least 2: a coupling needs two parts")
  kept = size // 2
  module = _Conditioner(tuple(hidden), (size - kept) * num_parameters)

  def init(key: Key) -> PyTree:
    return module.init(key, jnp.zeros(kept), jnp.zeros(context_size))["params"]

  def couple(moved: Callable) -> Callable:
    def through(params: PyTree, context: Array, x: Array) -> tuple[Array, Array]:
      first, second = x[:kept], x[kept:]
      raw: Any = module.apply({"params": params}, first, context)
      second, log_slopes = moved(second, raw.reshape(size - kept, num_parameters))
      return jnp.concatenate([first, second]), jnp.sum(log_slopes)

    return through

  return Bijection(init, couple(forward), couple(inverse))


def affine_coupling(size: int, hidden: Sequence[int], *, context_size: int = 0) -> Bijection:
  """Makes the coupling y₂ = exp(s) x₂ + t, where an MLP in x₁ and the context gives s and t.

  x₁ is the first half of x and does not change. |s| < 2.

  Source: Dinh, Sohl-Dickstein & Bengio (2017), section 3.2.

  Args:
    size: J.
    hidden: units of each hidden layer of the MLP.
    context_size: length of the context; 0 for none.

  Returns:
    A bijection of J numbers.

  Raises:
    ValueError: if size is below 2.
  """

  def of(raw: Array) -> tuple[Array, Array]:
    return 2 * jnp.tanh(0.5 * raw[:, 0]), raw[:, 1]

  def forward(x: Array, raw: Array) -> tuple[Array, Array]:
    s, t = of(raw)
    return jnp.exp(s) * x + t, s

  def inverse(y: Array, raw: Array) -> tuple[Array, Array]:
    s, t = of(raw)
    return (y - t) * jnp.exp(-s), s

  return _coupling(size, hidden, context_size, 2, forward=forward, inverse=inverse)


MIN_BIN, MIN_SLOPE = 1e-3, 1e-3  # least size of a bin relative to the mean; least slope at a knot


def spline_coupling(
  size: int,
  hidden: Sequence[int],
  *,
  context_size: int = 0,
  num_bins: int = 8,
  bound: float = 5.0,
) -> Bijection:
  """Makes a coupling whose y₂ is a monotonic rational-quadratic spline of x₂ on [−bound, bound].

  Outside that interval y₂ = x₂. x₁, the first half of x, does not change. An MLP in x₁ and the
  context gives each number K widths and heights of bins and the slopes at the K − 1 knots between
  them. The map starts near the identity.

  Source: Durkan et al. (2019), section 3.1.

  Args:
    size: J.
    hidden: units of each hidden layer of the MLP.
    context_size: length of the context; 0 for none.
    num_bins: K.
    bound: the end of the spline's interval, in units of x.

  Returns:
    A bijection of J numbers.

  Raises:
    ValueError: if size or num_bins is below 2, or bound is not positive.
  """
  if num_bins < 2 or not bound > 0:
    raise ValueError(f"num_bins is {num_bins}, bound is {bound}, expected at least 2, and positive")

  def through(of_knots: Callable) -> Callable:
    def moved(x: Array, raw: Array) -> tuple[Array, Array]:
      return jax.vmap(lambda x, raw: of_knots(x, _knots(raw, num_bins, bound)))(x, raw)

    return moved

  forward, inverse = through(_spline), through(_inverse_spline)
  num_parameters = 3 * num_bins - 1
  return _coupling(size, hidden, context_size, num_parameters, forward=forward, inverse=inverse)


def _knots(raw: Array, num_bins: int, bound: float) -> tuple[Array, Array, Array]:
  """Computes x, y and slope at each of K + 1 knots from 3K − 1 unconstrained numbers."""

  def ends(logits: Array) -> Array:
    shares = MIN_BIN / num_bins + (1 - MIN_BIN) * jax.nn.softmax(logits)
    inner = jnp.cumsum(shares[:-1])
    fixed = jnp.ones(1, raw.dtype)
    return bound * (2 * jnp.concatenate([0 * fixed, inner, fixed]) - 1)

  # A raw number of zero gives a slope of one.
  inner = MIN_SLOPE + (1 - MIN_SLOPE) * jax.nn.softplus(raw[2 * num_bins :] + math.log(math.e - 1))
  one = jnp.ones(1, raw.dtype)
  slopes = jnp.concatenate([one, inner, one])
  return ends(raw[:num_bins]), ends(raw[num_bins : 2 * num_bins]), slopes


def _bin(at: Array, ends: Array, knots: tuple[Array, ...]) -> tuple[Array, ...]:
  """Finds the bin that holds `at`: its left end, width, lower end, height and two slopes."""
  x, y, slopes = knots
  i = jnp.clip(jnp.searchsorted(ends, at, side="right") - 1, 0, len(x) - 2)
  return x[i], x[i + 1] - x[i], y[i], y[i + 1] - y[i], slopes[i], slopes[i + 1]


def _log_slope(t: Array, slope: Array, left: Array, right: Array) -> Array:
  """Computes log dy/dx at the fraction t of the width of a bin with the mean slope `slope`."""
  u = t * (1 - t)
  above = right * t**2 + 2 * slope * u + left * (1 - t) ** 2
  below = slope + (right + left - 2 * slope) * u
  return 2 * jnp.log(slope) + jnp.log(above) - 2 * jnp.log(below)


def _at_most(value: Array, end: Array) -> Array:
  """Removes what rounding adds beyond the end of the spline; leaves the derivative as it is."""
  return value - jax.lax.stop_gradient(jnp.maximum(value - end, 0))


def _spline(x: Array, knots: tuple[Array, Array, Array]) -> tuple[Array, Array]:
  """Computes the spline and its log-derivative at one number."""
  inside = jnp.abs(x) < -knots[0][0]
  at = jnp.where(inside, x, 0)
  x_0, width, y_0, height, left, right = _bin(at, knots[0], knots)
  t, slope = (at - x_0) / width, height / width
  u = t * (1 - t)
  y = y_0 + height * (slope * t**2 + left * u) / (slope + (right + left - 2 * slope) * u)
  y = _at_most(y, knots[1][-1])
  return jnp.where(inside, y, x), jnp.where(inside, _log_slope(t, slope, left, right), 0)


def _inverse_spline(y: Array, knots: tuple[Array, Array, Array]) -> tuple[Array, Array]:
  """Computes the inverse x and log dy/dx at x."""
  inside = jnp.abs(y) < -knots[0][0]
  at = jnp.where(inside, y, 0)
  x_0, width, y_0, height, left, right = _bin(at, knots[1], knots)
  slope = height / width
  t = _fraction((at - y_0) / height, slope, left, right)
  x = _at_most(x_0 + width * t, knots[0][-1])
  return jnp.where(inside, x, y), jnp.where(inside, _log_slope(t, slope, left, right), 0)


def _fraction(v: Array, slope: Array, left: Array, right: Array) -> Array:
  """Computes the fraction t of a bin's width where the spline is at the fraction v of its height.

  t is the root in [0, 1] of (s (1 − 2v) − q) t² + (q + 2 s v) t − s v, with q = left (1 − v) −
  right v and s the mean slope. The discriminant q² + 4 s² v (1 − v) is a sum of positive terms, and
  each sign of q has a form of the root that only adds positive terms. So rounding cannot move t out
  of [0, 1], and no divisor is 0.
  """
  q = left * (1 - v) - right * v
  early = q >= 0
  size = jnp.where(early, q, -q)
  both = size + jnp.sqrt(q**2 + 4 * slope**2 * v * (1 - v))
  other = 2 * slope * jnp.where(early, v, 1 - v)
  return jnp.where(early, other, both) / (other + both)
