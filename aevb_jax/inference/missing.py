"""The missing parts of x, by approximate inference under the model (section 2.1).

y is the knowledge of one x: some of its pixels, all its pixels with errors, or the sums of blocks
of pixels. An `Evidence` defines how y comes from x. Together with the model it defines

  p(x, z | y) ∝ p(z) p(x|z) p(y|x).

The functions below draw from this posterior. `complete_by_gibbs` uses Gibbs sampling with the
encoder, whose error a Metropolis step removes. `complete_by_hmc` uses Hamiltonian Monte Carlo on z,
with x summed out. The encoder never receives y, only a whole x.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aevb_jax.inference import hmc
from aevb_jax.inference.checks import check_continuous, check_positive
from aevb_jax.inference.evidence import Evidence
from aevb_jax.models.joint import log_weight
from aevb_jax.types import Array, Key, Model, Params


class Completions(NamedTuple):
  """Draws from p(x, z|y) by C chains, S of each."""

  mean: Array  # (D,), of E[x|y, z] over all draws: it estimates E[x|y]
  x: Array  # (C, D), x ~ p(x|y, z) at the last z of every chain
  z: Array  # (C, S, J)
  acceptance: Array  # (), mean probability


def gibbs_transition(
  key: Key, model: Model, params: Params, evidence: Evidence, z: Array, *, corrected: bool = True
) -> tuple[Array, Array]:
  """Takes one transition of z: x ~ p(x|y, z), then z' ~ q(z|x).

  If q is not the posterior, such a chain does not converge to p(z|y) (pseudo-Gibbs sampling). If
  `corrected`, z' is accepted only with probability min(1, w(z') / w(z)), where w(z) = p(x, z) /
  q(z|x). x and z then follow p(x, z|y), for any q with the prior's support (Metropolis within
  Gibbs).

  Source: Rezende, Mohamed & Wierstra (2014), appendix F, for pseudo-Gibbs sampling; Mattei &
  Frellsen (2018), section 3.3, for Metropolis within Gibbs.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x).
    params: θ and φ.
    evidence: the evidence of one y.
    z: the latents before the transition, shape (J,).
    corrected: False for pseudo-Gibbs sampling.

  Returns:
    z after the transition, shape (J,), and the probability of acceptance, shape (). Costs two
    passes through the decoder and one through the encoder.
  """
  x_key, z_key, accept_key = jax.random.split(key, 3)
  x = evidence.sample(x_key, model.decoder.given(params.theta, z))
  q = model.encoder.given(params.phi, x)
  proposal = q.sample(z_key)
  if not corrected:
    return proposal, jnp.ones((), proposal.dtype)
  log_w = functools.partial(log_weight, model, params, q, x)
  ratio = jnp.exp(jnp.minimum(log_w(proposal) - log_w(z), 0))
  accepted = jax.random.uniform(accept_key, (), ratio.dtype) < ratio
  return jnp.where(accepted, proposal, z), ratio


def complete_by_gibbs(
  key: Key,
  model: Model,
  params: Params,
  evidence: Evidence,
  *,
  num_chains: int,
  num_burn_in: int,
  num_samples: int,
  corrected: bool = True,
) -> Completions:
  """Draws completions of one y by Gibbs sampling with the encoder, see `gibbs_transition`.

  Chains start from the prior. The first half of the burn-in is never corrected, because far from
  p(z|y) a corrected chain rejects most of the moves towards it.

  Args:
    key: consumed.
    model: p(z), p(x|z) and q(z|x).
    params: θ and φ.
    evidence: the evidence of one y.
    num_chains: C.
    num_burn_in: transitions of every chain that are discarded.
    num_samples: S, transitions that are kept.
    corrected: False for pseudo-Gibbs sampling.

  Returns:
    `Completions`: the mean of x (D,), one x of every chain (C, D), the draws of z (C, S, J), and
    the mean probability of acceptance ().

  Raises:
    ValueError: if a number is not positive.
  """
  check_positive(num_chains=num_chains, num_burn_in=num_burn_in, num_samples=num_samples)
  start_key, chain_key, key = jax.random.split(key, 3)
  z = _draw_prior(start_key, model, params, num_chains)
  num_free = num_burn_in // 2

  def chain(key: Key, z: Array) -> tuple[Array, Array]:
    def step(z: Array, t: Array, corrected: bool) -> Any:
      now = jax.random.fold_in(key, t)
      z, ratio = gibbs_transition(now, model, params, evidence, z, corrected=corrected)
      return z, (z, ratio)

    z, _ = jax.lax.scan(functools.partial(step, corrected=False), z, jnp.arange(num_free))
    rest = num_free + jnp.arange(num_burn_in - num_free + num_samples)
    _, (drawn, ratios) = jax.lax.scan(functools.partial(step, corrected=corrected), z, rest)
    return drawn[-num_samples:], ratios[-num_samples:]

  drawn, ratios = jax.vmap(chain)(jax.random.split(chain_key, num_chains), z)
  return complete(key, model, params, evidence, drawn, acceptance=jnp.mean(ratios))


def complete_by_hmc(
  key: Key,
  model: Model,
  params: Params,
  evidence: Evidence,
  *,
  num_chains: int,
  num_burn_in: int,
  num_samples: int,
  num_leapfrogs: int,
) -> Completions:
  """Draws completions of one y by Hamiltonian Monte Carlo on p(z) p(y|z), with x summed out.

  Chains start from the prior. The step size is tuned in the burn-in and then fixed. No encoder is
  used, and no chain leaves the mode that it reaches first.

  Args:
    key: consumed.
    model: p(z) and p(x|z), with continuous z. Its encoder is not used.
    params: θ.
    evidence: the evidence of one y.
    num_chains: C.
    num_burn_in: transitions of every chain that are discarded.
    num_samples: S, transitions that are kept.
    num_leapfrogs: leapfrog steps in a transition, each a gradient of log p(z) p(y|z).

  Returns:
    `Completions`: the mean of x (D,), one x of every chain (C, D), the draws of z (C, S, J), and
    the mean probability of acceptance ().

  Raises:
    UnsupportedError: if z is not continuous.
    ValueError: if num_chains, num_burn_in or num_samples is not positive.
  """
  check_positive(num_chains=num_chains, num_burn_in=num_burn_in, num_samples=num_samples)
  prior = model.prior(params)
  check_continuous("complete_by_hmc", prior)
  start_key, burn_in_key, chain_key, key = jax.random.split(key, 4)

  def log_density(z: Array) -> Array:
    return prior.log_prob(z) + evidence.log_prob(model.decoder.given(params.theta, z))

  z = _draw_prior(start_key, model, params, num_chains)
  leapfrogs: dict[str, Any] = dict(num_leapfrogs=num_leapfrogs)
  states, step_size = hmc.warm_up(burn_in_key, log_density, z, num_steps=num_burn_in, **leapfrogs)
  _, draws = hmc.sample(
    chain_key, log_density, states, step_size, num_samples=num_samples, **leapfrogs
  )
  return complete(key, model, params, evidence, draws.z, acceptance=draws.acceptance)


def complete(
  key: Key, model: Model, params: Params, evidence: Evidence, z: Array, *, acceptance: Array
) -> Completions:
  """Completes x from draws of z, shape (C, S, J)."""

  def add(total: Array, z: Array) -> tuple[Array, None]:  # sums over all chains at once
    given = lambda z: evidence.mean(model.decoder.given(params.theta, z))
    return total + jnp.sum(jax.vmap(given)(z), axis=0), None

  last = lambda key, z: evidence.sample(key, model.decoder.given(params.theta, z))
  x = jax.vmap(last)(jax.random.split(key, len(z)), z[:, -1])
  total, _ = jax.lax.scan(add, jnp.zeros_like(x[0]), jnp.swapaxes(z, 0, 1))
  return Completions(total / (z.shape[0] * z.shape[1]), x, z, acceptance)


def _draw_prior(key: Key, model: Model, params: Params, n: int) -> Array:
  return jax.vmap(model.prior(params).sample)(jax.random.split(key, n))
