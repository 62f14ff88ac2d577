"""Distributions of a vector whose parts are drawn one after the other, each given earlier ones.

z = (z_1, …, z_S) is one vector. Its density is the product of the densities of its parts, each
given the parts that are drawn before it: the layers of a hierarchical model, from the top down as
in p(z), or from the bottom up as in q(z|x).

The KL divergence of two chains has no closed form, but that of a part often does, given the parts
before it. `kl_given` takes these, for z that is drawn.
"""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.errors import UnsupportedError
from aevb_jax.families.kl import kl_divergence
from aevb_jax.families.markov import Markov, kl_of_steps
from aevb_jax.types import Array, Distribution, Key, Support

# The parts z_1 … z_S, of which those that are not drawn yet are None.
Drawn = tuple[Array | None, ...]
Given = Callable[[Drawn], Distribution]
KL = Callable[[Distribution, Distribution], Array]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Parts:
  """The sizes of the parts of a vector, and the order in which they are drawn.

  Attributes:
    sizes: dimensions of each part, in the order of the vector.
    order: places of the parts, in the order of drawing.
  """

  sizes: tuple[int, ...]
  order: tuple[int, ...]

  def split(self, z: Array) -> list[Array]:
    """Cuts z (Σ sizes,) into its parts."""
    return jnp.split(z, list(accumulate(self.sizes))[:-1])

  def drawn(self, z: Array, place: int) -> Drawn:
    """Returns the parts of z that are drawn before the one at `place`."""
    earlier = self.order[: self.order.index(place)]
    return tuple(part if i in earlier else None for i, part in enumerate(self.split(z)))


class Chain(NamedTuple):
  """Parameters of a chain: the conditional of each part, in the order of the vector."""

  given: tuple[Given, ...]  # parts drawn before -> the part; made by `holding`
  parts: Parts


def chain(eta: Chain) -> Distribution:
  """Makes the distribution of a vector of parts.

  Args:
    eta: the conditional of each part.

  Returns:
    The distribution of z, shape (Σ sizes,). Its `mean` is that of the first part drawn and, for
    every later one, its mean given the means before it; it is E[z] only where means are linear.

  Raises:
    UnsupportedError: if the supports of two parts are of different kinds.
  """
  sizes, order = eta.parts.sizes, eta.parts.order

  def draw(of_part: Callable[[Distribution, int], tuple[Array, Array]]) -> tuple[Array, Array]:
    parts: list[Any] = [None] * len(sizes)
    total = jnp.zeros(())
    for i in order:
      parts[i], log_prob = of_part(eta.given[i](tuple(parts)), i)
      total += log_prob
    return jnp.concatenate(parts), total

  def sample_with_log_prob(key: Key) -> tuple[Array, Array]:
    keys = jax.random.split(key, len(sizes))
    return draw(lambda p, i: p.sample_with_log_prob(keys[i]))

  def sample(key: Key) -> Array:
    keys = jax.random.split(key, len(sizes))
    return draw(lambda p, i: (p.sample(keys[i]), jnp.zeros(())))[0]

  def log_prob(z: Array) -> Array:
    terms = [p.log_prob(z_i) for p, z_i in zip(conditionals(eta, z), eta.parts.split(z))]
    return jnp.sum(jnp.stack(terms))

  mean, _ = draw(lambda p, i: (p.mean, jnp.zeros(())))
  members = conditionals(eta, mean)
  return Distribution(
    sample=sample,
    sample_with_log_prob=sample_with_log_prob,
    log_prob=log_prob,
    mean=mean,
    eta=eta,
    reparameterized=all(p.reparameterized for p in members),
    support=_support(members, sizes),
    at=chain,
  )


def conditionals(eta: Chain, z: Array) -> list[Distribution]:
  """Returns the distribution of each part given the parts of z that are drawn before it."""
  return [given(eta.parts.drawn(z, i)) for i, given in enumerate(eta.given)]


def _support(members: Sequence[Distribution], sizes: Sequence[int]) -> Support:
  kinds = {p.support.kind for p in members}
  if len(kinds) > 1:
    raise UnsupportedError(f"the parts of z are on sets of different kinds: {', '.join(kinds)}")
  low, high = ([getattr(p.support, end) for p in members] for end in ("low", "high"))
  if all(isinstance(end, float | int) for end in (*low, *high)) and len({*zip(low, high)}) == 1:
    return members[0].support
  whole = lambda ends: jnp.concatenate([jnp.full(n, end) for end, n in zip(ends, sizes)])
  return Support(whole(low), whole(high), kinds.pop())


def kl_given(
  q: Distribution, p: Distribution, z: Array, *, kl: KL = kl_divergence, draws: bool = True
) -> Array:
  """Estimates KL(q ‖ p) from one z ~ q, with the closed forms that there are.

  For two chains of the same parts, it is the sum over the parts of KL(q(z_i) ‖ p(z_i)), both given
  the parts of z before them, for every part for which p conditions on no more than q has drawn. The
  other parts add log q(z_i) − log p(z_i), as in equation 6. For two Markov chains of as many
  steps, it is the sum over the steps of KL(q(z_t|z_{t−1}) ‖ p(z_t|z_{t−1})). For other
  distributions it is their KL, whatever z is.

  Source: the rule that is used is E[f] = E[E[f | the parts before]] (Rao & Blackwell), as in
    Sønderby et al. (2016) for inference from the top down.

  Args:
    q: any distribution that z was drawn from.
    p: another one over the same dimensions.
    z: one draw of q, through which gradients may flow.
    kl: (q, p) -> KL(q ‖ p) in nats, exact, of two parts or steps, or of two distributions that have
      none.
    draws: whether parts without a closed form may use log q(z_i) − log p(z_i).

  Returns:
    An unbiased estimate in nats, shape (), whose gradient through z is unbiased, too.

  Raises:
    UnsupportedError: if `kl` has no closed form for a pair, or the chains have other parts, or a
      part has no closed form and may not use its draw.
  """
  if isinstance(q.eta, Markov) and isinstance(p.eta, Markov):
    return kl_of_steps(q.eta, p.eta, z, kl=kl)
  if not isinstance(q.eta, Chain) or not isinstance(p.eta, Chain):
    return kl(q, p)
  mine, theirs = q.eta.parts, p.eta.parts
  if mine.sizes != theirs.sizes:
    raise UnsupportedError(f"q(z|x) has parts of {mine.sizes} dimensions, and p(z) {theirs.sizes}")
  total = jnp.zeros(())
  pairs = zip(conditionals(q.eta, z), conditionals(p.eta, z), mine.split(z))
  for i, (q_i, p_i, z_i) in enumerate(pairs):
    if has_closed_form(mine, theirs, i):
      total += kl(q_i, p_i)
    elif not draws:
      raise UnsupportedError(
        f"layer {i + 1} has no closed-form KL: q(z|x) draws it before a layer that p(z) conditions "
        "on; infer from the top down"
      )
    else:
      total += q_i.log_prob(z_i) - p_i.log_prob(z_i)
  return total


def has_closed_form(mine: Parts, theirs: Parts, place: int) -> bool:
  """Tests that p draws no part before the one at `place` that q draws after it."""
  before = lambda parts: set(parts.order[: parts.order.index(place)])
  return before(theirs) <= before(mine)
