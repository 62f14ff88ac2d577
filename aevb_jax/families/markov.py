"""Markov chains z = (z_1, …, z_T), whose steps are drawn one after the other, as one distribution.

log q(z) = Σ_t log q(z_t|z_{t−1}). All steps are drawn from one conditional distribution. Each step
has inputs of its own: what a network finds in the data for it, or a mark of the first step. A draw
takes a loop over t. The density takes none, because it is given all of z: its terms are computed
side by side, and so are the KL divergences of the steps of two chains. Independent steps, such as
those of a mean-field q(z|x) or the frames of x given z, are drawn side by side, too.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from aevb_jax.errors import UnsupportedError
from aevb_jax.families.base import distribution, holding
from aevb_jax.ops.keys import as_words
from aevb_jax.types import Array, Distribution, Eta, Family, Key, PyTree, Support

Transition = Callable[[Array | None, PyTree], Distribution]
Out = TypeVar("Out")


class Markov(NamedTuple):
  """Parameters of a Markov chain of T steps of J numbers."""

  given: Transition  # (z_{t−1}, inputs of t) -> q(z_t|z_{t−1}), by `holding`
  inputs: PyTree  # arrays whose first axis is the step, (T, ...)
  start: Array | None  # z_0 (J,), or None if the steps are independent and `given` gets no z


def markov(eta: Markov) -> Distribution:
  """Makes the distribution of all steps of a Markov chain as one vector.

  Args:
    eta: the conditional of the steps, their inputs, and z_0.

  Returns:
    The distribution of z, shape (T·J,), z_1 first. Its `mean` is, for every step, the mean given
    the mean of the step before; it is E[z] only where means are linear. Its `log_prob` raises
    ValueError if z has another length.

  Raises:
    ValueError: if there are no steps, or inputs for different numbers of steps.
  """
  num_steps = _num_steps(eta)

  def sample_with_log_prob(key: Key) -> tuple[Array, Array]:
    words, with_keys = as_words(jax.random.split(key, num_steps))
    z, log_probs = _draw(eta, words, lambda q, word: q.sample_with_log_prob(with_keys(word)))
    return z, jnp.sum(log_probs)

  def sample(key: Key) -> Array:
    words, with_keys = as_words(jax.random.split(key, num_steps))
    return _draw(eta, words, lambda q, word: (q.sample(with_keys(word)), ()))[0]

  mean, _ = _draw(eta, (), lambda q, _: (q.mean, ()))

  def log_prob(z: Array) -> Array:
    if z.shape != mean.shape:
      raise ValueError(
        f"a sequence has shape {z.shape}, expected ({mean.size},): {num_steps} steps of "
        f"{mean.size // num_steps} numbers, one after the other"
      )
    return jnp.sum(_each(lambda z_t, q: q.log_prob(z_t), z, eta))

  first = eta.given(eta.start, jax.tree.map(lambda inputs: inputs[0], eta.inputs))
  end = lambda name: _each(
    lambda z_t, q: jnp.broadcast_to(getattr(q.support, name), z_t.shape), mean, eta
  ).reshape(-1)
  return Distribution(
    sample=sample,
    sample_with_log_prob=sample_with_log_prob,
    log_prob=log_prob,
    mean=mean,
    eta=eta,
    reparameterized=first.reparameterized,
    support=Support(end("low"), end("high"), first.support.kind),
    at=markov,
  )


def independent_steps(family: Family, etas: Eta) -> Distribution:
  """Makes the distribution of T independent members of one family as one vector.

  Args:
    family: the family of every step, over J numbers.
    etas: the parameters of the T members; the first axis of every array is the step.

  Returns:
    The distribution of z, shape (T·J,), as `markov` makes it.
  """
  given = holding(lambda before, eta: distribution(family, eta))
  return markov(Markov(given, etas, start=None))


def kl_of_steps(
  q: Markov, p: Markov, z: Array, *, kl: Callable[[Distribution, Distribution], Array]
) -> Array:
  """Computes Σ_t KL(q(z_t|z_{t−1}) ‖ p(z_t|z_{t−1})) at one z, the terms side by side.

  Its mean over z ~ q is KL(q ‖ p), because the terms are E[log q(z_t|z_{t−1}) − log p(z_t|z_{t−1})]
  given z_{t−1}.

  Source: Krishnan, Shalit & Sontag (2017), equation 6.

  Args:
    q: the chain that z was drawn from.
    p: another one of the same steps.
    z: one draw of q, shape (T·J,).
    kl: (q_t, p_t) -> KL(q_t ‖ p_t) in nats, exact.

  Returns:
    The sum in nats, shape ().

  Raises:
    UnsupportedError: if `kl` has no closed form for the steps, or the chains have not as many.
  """
  if _num_steps(q) != _num_steps(p):
    raise UnsupportedError(f"q(z|x) has {_num_steps(q)} steps, and p(z) {_num_steps(p)}")
  return jnp.sum(_each(lambda z_t, q_t, p_t: kl(q_t, p_t), z, q, p))


def _draw(
  eta: Markov, extra: PyTree, visit: Callable[[Distribution, PyTree], tuple[Array, Out]]
) -> tuple[Array, Out]:
  """Takes z_t and something else of every step by `visit`, given the z_{t−1} that it took before.

  `visit` gets q(z_t|z_{t−1}) and the step's part of `extra`. The results are (T·J,) and (T, ...).
  """

  def step(before: Array | None, at: tuple[PyTree, PyTree]) -> tuple[Array, tuple[Array, Out]]:
    z_t, out = visit(eta.given(before, at[0]), at[1])
    return z_t, (z_t, out)

  if eta.start is None:
    z, out = jax.vmap(lambda *at: step(None, at)[1])(eta.inputs, extra)
  else:
    _, (z, out) = jax.lax.scan(step, eta.start, (eta.inputs, extra))
  return z.reshape(-1), out


def _each(f: Callable[..., Array], z: Array, *chains: Markov) -> Array:
  """Computes f(z_t, the conditional of z_t in each chain) for all t side by side, (T, ...)."""
  steps = z.reshape(_num_steps(chains[0]), -1)

  def before(eta: Markov) -> Array | None:
    return None if eta.start is None else jnp.concatenate([eta.start[None], steps[:-1]])

  def at(z_t: Array, given: list[tuple[Array | None, PyTree]]) -> Array:
    return f(z_t, *(eta.given(*arguments) for eta, arguments in zip(chains, given)))

  return jax.vmap(at)(steps, [(before(eta), eta.inputs) for eta in chains])


def _num_steps(eta: Markov) -> int:
  """Returns T."""
  lengths = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(eta.inputs)}
  if len(lengths) != 1 or 0 in lengths:
    found = ", ".join(map(str, sorted(lengths))) or "no"
    raise ValueError(f"a Markov chain has inputs for {found} steps, expected one number from 1 on")
  return lengths.pop()
