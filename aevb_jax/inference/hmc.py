"""Hamiltonian Monte Carlo over the latents of one data point, with BlackJAX.

The step size is tuned first and then fixed: all draws after `warm_up` come from one fixed kernel.
Chains are the leading axis C of arrays; they share a step size.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.types import Array, Key

if TYPE_CHECKING:
  from blackjax.mcmc.hmc import HMCInfo, HMCState

LogDensity = Callable[[Array], Array]  # z (J,) -> (), in nats, up to a constant

TARGET_ACCEPTANCE = 0.9  # appendix E
JITTER = 0.2  # largest relative change of the step size


def blackjax() -> ModuleType:
  """Imports BlackJAX outside of any trace, because the import computes constants.

  Inside a trace, the constants would become part of the trace. The import initializes the devices,
  so the processes of a cluster must have called `jax.distributed.initialize` before.
  """
  with jax.ensure_compile_time_eval():
    import blackjax
  return blackjax


class Draws(NamedTuple):
  """The draws of C chains in S transitions each, and statistics of the transitions."""

  z: Array  # (C, S, J)
  acceptance: Array  # (), mean probability of acceptance
  num_divergent: Array  # (), transitions whose energy grew by more than 1000


def init(log_density: LogDensity, z: Array) -> HMCState:
  """Makes the states of C chains at z, shape (C, J)."""
  return jax.vmap(lambda z: blackjax().hmc.init(z, log_density))(z)


def transition(
  key: Key, state: HMCState, log_density: LogDensity, step_size: Array, *, num_leapfrogs: int
) -> tuple[HMCState, HMCInfo]:
  """Takes one transition of one chain: a momentum from N(0, I), leapfrogs, accept or stay.

  A proposal whose density is not a finite number is rejected and counts as divergent. Costs
  `num_leapfrogs` gradients of `log_density`. The gradient at the start is a part of `state`;
  `blackjax.hmc.init(z, log_density)` makes the first state.
  """

  def proper(z: Array) -> Array:  # blackjax rejects NaN and -inf, but would accept +inf
    value = log_density(z)
    return jnp.where(value == jnp.inf, jnp.nan, value)

  unit_mass = jnp.ones_like(state.position)
  kernel = blackjax().hmc.build_kernel()
  return kernel(key, state, proper, step_size, unit_mass, num_leapfrogs)


def transitions(
  key: Key, states: HMCState, log_density: LogDensity, step_size: Array, *, num_leapfrogs: int
) -> tuple[HMCState, HMCInfo]:
  """Takes a `transition` of each of C chains, all of the same target.

  Each chain has its own step size, up to a fifth smaller or larger. With one fixed trajectory
  length, trajectories in a Gaussian target might end near their starts.
  """
  jitter_key, key = jax.random.split(key)
  num_chains = len(states.position)
  jitter = jax.random.uniform(jitter_key, (num_chains,), step_size.dtype, 1 - JITTER, 1 + JITTER)

  def one(key: Key, state: HMCState, jitter: Array) -> tuple[HMCState, HMCInfo]:
    return transition(key, state, log_density, jitter * step_size, num_leapfrogs=num_leapfrogs)

  return jax.vmap(one)(jax.random.split(key, num_chains), states, jitter)


def warm_up(
  key: Key,
  log_density: LogDensity,
  z: Array,
  *,
  num_steps: int,
  num_leapfrogs: int,
  step_size: Array | None = None,
  target_acceptance: float = TARGET_ACCEPTANCE,
) -> tuple[HMCState, Array]:
  """Moves C chains towards their target and tunes the step size to `target_acceptance`.

  It uses dual averaging (Hoffman & Gelman 2014, section 3.2) of the mean acceptance over the
  chains.

  Args:
    key: consumed.
    log_density: the log-density of the target, in nats.
    z: the starts of the chains, shape (C, J).
    num_steps: transitions of every chain, all of them discarded.
    num_leapfrogs: leapfrog steps in a transition.
    step_size: the first step size; `first_step_size` by default.
    target_acceptance: mean probability of acceptance to tune for.

  Returns:
    The states of the chains with a leading axis C, and the step size, shape ().
  """
  tuner = blackjax().adaptation.step_size.dual_averaging_adaptation
  initial, update, final = tuner(target_acceptance)

  def step(carry, t: Array):
    states, tuning = carry
    now = jnp.exp(tuning.log_step_size)
    states, info = transitions(
      jax.random.fold_in(key, t), states, log_density, now, num_leapfrogs=num_leapfrogs
    )
    return (states, update(tuning, jnp.mean(info.acceptance_rate))), None

  states = init(log_density, z)
  tuning = initial(first_step_size(z) if step_size is None else step_size)
  (states, tuning), _ = jax.lax.scan(step, (states, tuning), jnp.arange(num_steps))
  return states, final(tuning)


def first_step_size(z: Array) -> Array:
  """Computes 0.5 / J^¼ for chains z (C, J), shape (): too small for N(0, I), before tuning."""
  return jnp.asarray(0.5 * z.shape[-1] ** -0.25, z.dtype)


def sample(
  key: Key,
  log_density: LogDensity,
  states: HMCState,
  step_size: Array,
  *,
  num_samples: int,
  num_leapfrogs: int,
) -> tuple[HMCState, Draws]:
  """Takes S transitions of each of C chains at a fixed step size, and keeps every one of them.

  Args:
    key: consumed.
    log_density: the log-density of the target, in nats.
    states: the states of the chains, with a leading axis C.
    step_size: the step size that `warm_up` found.
    num_samples: S.
    num_leapfrogs: leapfrog steps in a transition.

  Returns:
    The states of the chains after the last transition, and the draws.
  """

  def step(states: HMCState, t: Array):
    states, info = transitions(
      jax.random.fold_in(key, t), states, log_density, step_size, num_leapfrogs=num_leapfrogs
    )
    return states, (states.position, info.acceptance_rate, info.is_divergent)

  states, (z, acceptance, divergent) = jax.lax.scan(step, states, jnp.arange(num_samples))
  return states, Draws(jnp.swapaxes(z, 0, 1), jnp.mean(acceptance), jnp.sum(divergent))
