"""Evidence on one x: some of its pixels, all its pixels with errors, or sums of blocks of pixels.

An `Evidence` defines how the known y comes from x; `missing` draws the rest of x.
"""

import functools
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.errors import UnsupportedError
from aevb_jax.families.binary import Bernoulli, bernoulli
from aevb_jax.families.gaussians import DiagonalGaussian, gaussian
from aevb_jax.families.markov import Markov
from aevb_jax.types import Array, Distribution, Key


class Evidence(NamedTuple):
  """The information that y gives on one x, given p(x|z).

  Its functions are closed over y, so it must stay inside the trace that made it.
  """

  log_prob: Callable[[Distribution], Array]  # p(x|z) -> log p(y|z) in nats, ()
  sample: Callable[[Key, Distribution], Array]  # p(x|z) -> x ~ p(x|y, z), (D,)
  mean: Callable[[Distribution], Array]  # p(x|z) -> E[x|y, z], (D,)


def observed(x: Array, mask: Array) -> Evidence:
  """Makes the evidence of the pixels of x where `mask` is true.

  The decoder's pixels must be independent given z. Which pixels are missing must not depend on
  their values.

  Args:
    x: one data point, shape (D,); its values where `mask` is false do not matter.
    mask: booleans, shape (D,).

  Returns:
    The evidence. Its `log_prob` raises UnsupportedError for a decoder that is neither Bernoulli nor
    diagonal Gaussian, nor a sequence of independent frames of these.
  """
  known = jnp.where(mask, x, 0)

  def log_prob(p: Distribution) -> Array:
    return jnp.sum(jnp.where(mask, log_prob_per_dimension(p, known), 0))

  return Evidence(
    log_prob,
    sample=lambda key, p: jnp.where(mask, known, p.sample(key)),
    mean=lambda p: jnp.where(mask, known, p.mean),
  )


def flipped(y: Array, probability: float) -> Evidence:
  """Makes the evidence of binary pixels y, each of which differs from x with a fixed probability.

  Given y and z, pixel d of x is 1 with logit l_d ± log((1 − ρ)/ρ). l_d is the decoder's logit, and
  the sign is + for y_d = 1 and − for y_d = 0.

  Args:
    y: the pixels with errors, shape (D,).
    probability: ρ, the probability of an error.

  Returns:
    The evidence. It raises UnsupportedError when it is used with a decoder that is not Bernoulli.

  Raises:
    ValueError: unless 0 < probability < 1.
  """
  if not 0 < probability < 1:
    raise ValueError(f"a probability of errors of {probability}, expected one between 0 and 1")
  right, wrong = math.log1p(-probability), math.log(probability)
  logit_of_y = (2 * y - 1) * (right - wrong)

  def log_prob(p: Distribution) -> Array:
    logits = _logits(p, "flipped pixels")
    of_one, of_zero = jnp.where(y > 0.5, right, wrong), jnp.where(y > 0.5, wrong, right)
    on, off = jax.nn.log_sigmoid(logits) + of_one, jax.nn.log_sigmoid(-logits) + of_zero
    return jnp.sum(jnp.logaddexp(on, off))

  posterior = lambda p: p.at(Bernoulli(_logits(p, "flipped pixels") + logit_of_y))
  return Evidence(
    log_prob,
    sample=lambda key, p: posterior(p).sample(key),
    mean=lambda p: posterior(p).mean,
  )


def block_sums(sums: Array, image_shape: tuple[int, int, int], block: int) -> Evidence:
  """Makes the evidence of the number of ones in every block × block square of a binary image.

  The evidence is exact. The sum of n = block² independent pixels is Poisson-binomial. A table of n
  by n + 1 probabilities computes it, and x given its sums is drawn backwards through the table.
  Adding λ to all logits l of a square does not change p(x|y, z), and multiplies P(sum = c) by
  exp(λc) Π (1 + e^l) / (1 + e^(l+λ)). `_tilt` finds a λ for which P(sum = c) does not underflow.

  Args:
    sums: shape (B,), in the order of `sum_blocks`.
    image_shape: (H, W, C), with H·W·C = D.
    block: the side of a square; it divides H and W.

  Returns:
    The evidence. It raises UnsupportedError when it is used with a decoder that is not Bernoulli.

  Raises:
    ValueError: if `block` does not divide H and W.
  """
  counts = sums.astype(jnp.int32)
  split = functools.partial(_split, image_shape=image_shape, block=block)
  split(jnp.zeros(math.prod(image_shape)))  # raises at once if block does not divide

  def log_prob_of(logits: Array) -> Array:
    logits = split(logits)
    tilt = _tilt(logits, counts)
    table, _ = _sum_table(jax.nn.sigmoid(logits + tilt))
    larger = jax.nn.softplus(logits) - jax.nn.softplus(logits + tilt)
    return jnp.sum(jnp.log(_at(table, counts))) - jnp.sum(larger) - jnp.sum(tilt[0] * counts)

  def sample(key: Key, p: Distribution) -> Array:
    logits = split(_logits(p, "sums of blocks"))
    probabilities = jax.nn.sigmoid(logits + _tilt(logits, counts))
    _, tables = _sum_table(probabilities)

    def step(left: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
      noise, probability, table = now  # one pixel of every square; the table of the pixels before
      if_zero, if_one = _at(table, left) * (1 - probability), _at(table, left - 1) * probability
      x = noise * (if_zero + if_one) < if_one
      return left - x, x.astype(noise.dtype)

    noise = jax.random.uniform(key, probabilities.shape, probabilities.dtype)
    _, x = jax.lax.scan(step, counts, (noise, probabilities, tables), reverse=True)
    return _join(x, image_shape, block)

  def mean(p: Distribution) -> Array:
    # log p(y|z) is the log of a sum over x of exp(x · logits), minus Σ softplus(logits). Its
    # derivative is E[x|y, z] − E[x|z].
    return p.mean + jax.grad(log_prob_of)(_logits(p, "sums of blocks"))

  return Evidence(lambda p: log_prob_of(_logits(p, "sums of blocks")), sample, mean)


def sum_blocks(x: Array, image_shape: tuple[int, int, int], block: int) -> Array:
  """Sums x (D,) over its block × block squares, row by row; shape (H·W·C / block²,)."""
  return _split(x, image_shape, block).sum(axis=0)


def spread_blocks(values: Array, image_shape: tuple[int, int, int], block: int) -> Array:
  """Copies a value (B,) for every square into each of its pixels; shape (D,)."""
  return _join(jnp.broadcast_to(values, (block**2, len(values))), image_shape, block)


def _logits(p: Distribution, what: str) -> Array:
  if not isinstance(p.eta, Bernoulli):
    raise UnsupportedError(f"{what} take a Bernoulli decoder, not a {type(p.eta).__name__}")
  return p.eta.logits


def _split(x: Array, image_shape: tuple[int, int, int], block: int) -> Array:
  """Splits x into the n = block² pixels of every square, shape (n, B)."""
  height, width, channels = image_shape
  if height % block or width % block:
    raise ValueError(f"squares of {block} pixels do not fill an image of {height} by {width}")
  squares = x.reshape(height // block, block, width // block, block, channels)
  return squares.transpose(1, 3, 0, 2, 4).reshape(block**2, -1)


def _join(squares: Array, image_shape: tuple[int, int, int], block: int) -> Array:
  """Inverts `_split`."""
  height, width, channels = image_shape
  squares = squares.reshape(block, block, height // block, width // block, channels)
  return squares.transpose(2, 0, 3, 1, 4).reshape(-1)


def _tilt(logits: Array, counts: Array) -> Array:
  """Finds λ for every square, (1, B), from logits (n, B) and counts (B,).

  −λ is half way between the c-th largest logit and the next one. With λ added, each of the c
  likeliest pixels is on with probability at least ½, and each other pixel is off with at least the
  same probability, so P(sum = c) is at least 2^−n. No gradient flows through λ.
  """
  logits = jax.lax.stop_gradient(logits)
  i = jnp.arange(len(logits))
  a, b = logits[:, None], logits[None, :]
  before = (b > a) | (b == a) & (i[None, :, None] < i[:, None, None])  # b comes before a
  is_on = jnp.sum(before, axis=1) < counts[None]
  above = jnp.min(jnp.where(is_on, logits, jnp.inf), axis=0, keepdims=True)
  below = jnp.max(jnp.where(is_on, -jnp.inf, logits), axis=0, keepdims=True)
  above = jnp.where(above == jnp.inf, below + 8, above)  # if none is on
  below = jnp.where(below == -jnp.inf, above - 8, below)  # if all are on
  return -(above + below) / 2


def _sum_table(probabilities: Array) -> tuple[Array, Array]:
  """Computes P(sum = c) for the n pixels of B squares, (n, B); shape (n + 1, B).

  The second result is the same for the first 0, …, n − 1 pixels, shape (n, n + 1, B).
  """
  n, num_blocks = probabilities.shape
  nothing = jnp.zeros((n + 1, num_blocks), probabilities.dtype).at[0].set(1)

  def step(table: Array, probability: Array) -> tuple[Array, Array]:
    one_more = jnp.pad(table[:-1], ((1, 0), (0, 0)))
    return one_more * probability[None] + table * (1 - probability[None]), table

  return jax.lax.scan(step, nothing, probabilities)


def _at(table: Array, counts: Array) -> Array:
  """Takes the entry of every column of (n + 1, B) at a count of (B,), shape (B,); 0 at -1."""
  # This is a sum and not a gather, because the derivative of a gather is slow on CPUs.
  return jnp.sum(jnp.where(jnp.arange(len(table))[:, None] == counts[None], table, 0), axis=0)


_OF_ONE_DIMENSION = MappingProxyType({Bernoulli: bernoulli(1), DiagonalGaussian: gaussian(1)})


def log_prob_per_dimension(p: Distribution, x: Array) -> Array:
  """Computes the terms of `p.log_prob(x)`, one for each of D independent dimensions; shape (D,).

  A sequence of independent steps, such as the frames of a state-space model given z, is taken step
  by step.

  Raises:
    UnsupportedError: if the dimensions of the family are not known to be independent.
  """
  if isinstance(p.eta, Markov) and p.eta.start is None:
    given, inputs = p.eta.given, p.eta.inputs
    of_step = lambda inputs, x_t: log_prob_per_dimension(given(None, inputs), x_t)
    num_steps = len(jax.tree.leaves(inputs)[0])
    return jax.vmap(of_step)(inputs, x.reshape(num_steps, -1)).reshape(-1)
  if type(p.eta) not in _OF_ONE_DIMENSION:
    raise UnsupportedError(f"the dimensions of a {type(p.eta).__name__} are not known to be apart")
  family = _OF_ONE_DIMENSION[type(p.eta)]
  one = lambda tree: jax.tree.map(lambda leaf: leaf[None], tree)
  return jax.vmap(lambda eta, x: family.log_prob(one(eta), one(x)))(p.eta, x)
