"""Estimates of log p(x) for sequences, by a particle filter.

An importance weight of a whole sequence is a product over its steps, and its variance grows
exponentially with their number. A particle filter chooses among its draws after every step, so that
the variance of its estimate grows about linearly.
"""

import jax
import jax.numpy as jnp

from aevb_jax.errors import UnsupportedError
from aevb_jax.estimators.bounds import log_mean_exp
from aevb_jax.families.markov import Markov
from aevb_jax.inference.checks import check_positive
from aevb_jax.inference.marginal import LogLikelihood, from_log_weights
from aevb_jax.ops.keys import as_words
from aevb_jax.ops.weights import normalized_weights
from aevb_jax.types import Array, Key, Model, Params, PyTree


def particle_filter(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_particles: int,
  num_repeats: int = 10,
) -> LogLikelihood:
  """Estimates log p(x) of a sequence, p(x) ≈ Π_t (1/K) Σ_k w_tk, by K particles.

  At each step, K particles are chosen from those of the step before by their weights, each draws
  z_t ~ q(z_t|z_{t−1}, x), and gets the weight w_t = p(z_t|z_{t−1}) p(x_t|z_t) / q(z_t|z_{t−1}, x).
  The estimate of p(x) is unbiased. The result is the logarithm of the mean of R such estimates, and
  its expectation is a lower bound on log p(x).

  Source: Gordon, Salmond & Smith (1993); Naesseth, Linderman, Ranganath & Blei (2018) for a q that
    is learned; Kitagawa (1996) for the choice by one uniform number.

  Args:
    key: consumed.
    model: a state-space model, such as of `state_space_vae`, whose decoder takes any number of
      steps.
    params: θ and φ.
    x: one sequence, shape (T·D,).
    num_particles: K.
    num_repeats: R.

  Returns:
    The estimate in nats, shape (), and its standard error, from the R filters; it is NaN for R = 1.
    Diagnostics: `ess`, the effective sample size of the weights w_t at the worst step, between 1
    and K, a mean over the filters. Costs R·K passes of z_t through the decoder for every step, of
    which K are held in memory.

  Raises:
    ValueError: if num_particles or num_repeats is not positive.
    UnsupportedError: if p(z) or q(z|x) is not a Markov chain.
  """
  check_positive(num_particles=num_particles, num_repeats=num_repeats)
  q, p = model.encoder.given(params.phi, x).eta, model.prior(params).eta
  if not (isinstance(q, Markov) and isinstance(p, Markov)) or p.start is None:
    raise UnsupportedError(
      "a particle filter takes a model whose p(z) and q(z|x) are Markov chains"
    )
  num_steps = len(jax.tree.leaves(p.inputs)[0])
  frames, start = x.reshape(num_steps, -1), p.start

  def of_filter(key: Key) -> tuple[Array, Array]:
    words, with_keys = as_words(jax.random.split(key, num_steps))

    def step(particles: Array, at: tuple[Array, Array, PyTree, PyTree]) -> tuple[Array, Array]:
      word, x_t, q_inputs, p_inputs = at
      key, choice_key = jax.random.split(with_keys(word))

      def move(key: Key, before: Array) -> tuple[Array, Array]:
        q_t = q.given(None if q.start is None else before, q_inputs)
        z_t, log_q = q_t.sample_with_log_prob(key)
        log_p = p.given(before, p_inputs).log_prob(z_t)
        return z_t, log_p + model.decoder.given(params.theta, z_t).log_prob(x_t) - log_q

      z, log_w = jax.vmap(move)(jax.random.split(key, num_particles), particles)
      of_step = jnp.stack([log_mean_exp(log_w), from_log_weights(log_w).diagnostics["ess"]])
      return z[choose(choice_key, normalized_weights(log_w))], of_step

    particles = jnp.tile(start, (num_particles, 1))
    _, of_steps = jax.lax.scan(step, particles, (words, frames, q.inputs, p.inputs))
    return jnp.sum(of_steps[:, 0]), jnp.min(of_steps[:, 1])

  words, with_keys = as_words(jax.random.split(key, num_repeats))
  log_p, ess = jax.lax.map(lambda word: of_filter(with_keys(word)), words)
  return from_log_weights(log_p)._replace(diagnostics={"ess": jnp.mean(ess)})


def choose(key: Key, weights: Array) -> Array:
  """Draws K indices, each in expectation K times its share of the weights, by one uniform number.

  Source: Kitagawa (1996), systematic resampling.

  Args:
    key: consumed.
    weights: of at least 0, shape (K,).

  Returns:
    The indices in rising order, int32 (K,); an index is there K times its share, rounded up or
    down.
  """
  number, ends = len(weights), jnp.cumsum(weights)
  places = (jnp.arange(number) + jax.random.uniform(key)) / number * ends[-1]
  return jnp.clip(jnp.searchsorted(ends, places, side="right"), 0, number - 1)
