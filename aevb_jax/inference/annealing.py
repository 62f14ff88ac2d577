"""Estimates of log p(x) by annealing from a simple distribution to the posterior, and back."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.inference import hmc
from aevb_jax.inference.checks import check_continuous, check_positive
from aevb_jax.inference.marginal import LogLikelihood, from_log_weights
from aevb_jax.models.joint import log_joint
from aevb_jax.types import Array, Distribution, Key, Model, Params

TUNING_RATE = 0.2  # change of the log step size per unit of missed acceptance
DECORRELATION = 20  # transitions between the exact posterior sample and a reverse chain


class Sandwich(NamedTuple):
  """Two estimates of log p(x): in expectation `lower` is below log p(x), and `upper` is above."""

  lower: LogLikelihood
  upper: LogLikelihood


class Path(NamedTuple):
  """Unnormalized densities f_β = f_0^(1−β) p(x, z)^β from a distribution f_0 to the posterior."""

  start: Distribution  # f_0
  log_w: Callable[[Array], Array]  # z -> log p(x, z) - log f_0(z), in nats

  def at(self, beta: Array | float) -> Callable[[Array], Array]:
    return lambda z: self.start.log_prob(z) + beta * self.log_w(z)


class Annealed(NamedTuple):
  """C chains that have visited all temperatures."""

  z: Array  # (C, J), the last z of each chain
  log_w: Array  # (C,)
  step_sizes: Array  # (T,), at β_1 … β_T
  acceptance: Array  # (), mean probability
  num_divergent: Array  # (), of the transitions


def sigmoid_temperatures(num_temperatures: int, steepness: float = 4.0) -> np.ndarray:
  """Computes 0 = β_0 < β_1 < ... < β_T = 1, closest at both ends; shape (T + 1,).

  They are a sigmoid over [−steepness, steepness], moved and scaled to end at 0 and 1 (Grosse,
  Ghahramani & Adams 2015). T = 1 takes one leap, which is importance sampling from f_0.
  """
  sigmoid = 1 / (1 + np.exp(-np.linspace(-steepness, steepness, num_temperatures + 1)))
  return (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])


def annealed_importance_sampling(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  *,
  num_temperatures: int = 500,
  num_leapfrogs: int = 10,
  num_chains: int = 32,
  start: Distribution | None = None,
) -> LogLikelihood:
  """Estimates log p(x) by annealed importance sampling with HMC transitions.

  Each of C chains starts at z ~ f_0. For t = 1 … T it multiplies its weight by f_{β_t}(z) /
  f_{β_{t−1}}(z), then moves z by one HMC transition that leaves f_{β_t} unchanged. The mean of the
  weights is unbiased for p(x). Its logarithm is in expectation a lower bound on log p(x), which
  tightens with T and C. Other chains, a quarter as many, take the same path first, tune one step
  size for each temperature towards 90 % acceptance, and are discarded. The step sizes keep up with
  a posterior that narrows by no more than a sixth from one temperature to the next.

  Source: Neal (2001).

  Args:
    key: consumed.
    model: p(z) and p(x|z), with continuous z. Its encoder is not used.
    params: θ.
    x: one data point, shape (D,).
    num_temperatures: T; `sigmoid_temperatures` computes them.
    num_leapfrogs: leapfrog steps in a transition.
    num_chains: C.
    start: f_0; the prior by default. From q(z|x) fewer temperatures are enough, but modes of the
      posterior that q misses may stay missed.

  Returns:
    The estimate in nats, shape (), and its standard error by the delta method, as
    `from_log_weights` computes it, NaN for one chain. Diagnostics: `ess` of the weights,
    `acceptance`, `num_divergent` transitions. Costs 1.25 C T (num_leapfrogs + 1) gradients of log
    p(x, z) and 1.25 C T of its values.

  Raises:
    UnsupportedError: if z is not continuous.
    ValueError: if a number is not positive.
  """
  check_positive(
    num_temperatures=num_temperatures, num_leapfrogs=num_leapfrogs, num_chains=num_chains
  )
  path = make_path(model, params, x, start, "annealed importance sampling")
  tune_key, key = jax.random.split(key)
  betas = sigmoid_temperatures(num_temperatures)
  step_sizes = _tuned_steps(tune_key, path, betas, num_leapfrogs, num_chains)
  return _estimate(
    anneal_from_start(key, path, betas, num_leapfrogs, num_chains, step_sizes=step_sizes)
  )


def bidirectional_monte_carlo(
  key: Key,
  model: Model,
  params: Params,
  x: Array,
  z: Array,
  *,
  num_temperatures: int = 500,
  num_leapfrogs: int = 10,
  num_chains: int = 32,
  start: Distribution | None = None,
) -> Sandwich:
  """Estimates log p(x) from both sides, for an x drawn from the model together with its z.

  That z is an exact sample of p(z|x). Annealing from it back to f_0 gives weights whose mean is
  unbiased for 1 / p(x), and so an estimate above log p(x) in expectation.
  `annealed_importance_sampling` of the same x gives the estimate below. The reverse chains start
  from z after 20 HMC transitions of their own, which leave the posterior unchanged.

  Source: Grosse, Ghahramani & Adams (2015).

  Args:
    key: consumed.
    model: p(z) and p(x|z), with continuous z. Its encoder is not used.
    params: θ.
    x: one data point, shape (D,), from `simulate`.
    z: the latents that it was drawn from, shape (J,).
    num_temperatures: T, in both directions.
    num_leapfrogs: leapfrog steps in a transition.
    num_chains: C, chains in each direction.
    start: f_0; the prior by default.

  Returns:
    The lower and the upper estimate in nats, each with the error and the diagnostics of
    `annealed_importance_sampling`. The reverse chains of one x all start from one z. If HMC does
    not move between modes of the posterior, the upper error is therefore too small; the spread of
    upper minus lower over many x shows it. Costs 2.25 C T (num_leapfrogs + 1) gradients of log
    p(x, z).

  Raises:
    UnsupportedError: if z is not continuous.
    ValueError: if a number is not positive.
  """
  check_positive(
    num_temperatures=num_temperatures, num_leapfrogs=num_leapfrogs, num_chains=num_chains
  )
  path = make_path(model, params, x, start, "bidirectional Monte Carlo")
  tune_key, forward_key, move_key, reverse_key = jax.random.split(key, 4)
  betas = sigmoid_temperatures(num_temperatures)
  step_sizes = _tuned_steps(tune_key, path, betas, num_leapfrogs, num_chains)
  forward = anneal_from_start(
    forward_key, path, betas, num_leapfrogs, num_chains, step_sizes=step_sizes
  )

  posterior = path.at(1.0)
  chains = hmc.init(posterior, jnp.broadcast_to(z, (num_chains, z.size)))
  chains, _ = hmc.sample(
    move_key,
    posterior,
    chains,
    step_sizes[-1],
    num_samples=DECORRELATION,
    num_leapfrogs=num_leapfrogs,
  )
  # The way back uses the step sizes of β_{T−1} … β_1; the move at β_0 changes no weight.
  back = jnp.concatenate([step_sizes[-2::-1], step_sizes[:1]])
  reverse = anneal(reverse_key, path, chains.position, betas[::-1], num_leapfrogs, step_sizes=back)
  inverse = _estimate(reverse)  # an estimate of 1 / p(x)
  return Sandwich(_estimate(forward), inverse._replace(value=-inverse.value))


def sandwich_in_words(lower: tuple[float, float], upper: tuple[float, float]) -> str:
  """Describes two values and their errors, such as "−97.31 ± 0.04 ≤ log p ≤ −97.18 ± 0.05"."""
  low, high = (f"{value:.2f} ± {error:.2f}".replace("-", "−") for value, error in (lower, upper))
  return f"{low} ≤ log p ≤ {high}"


def make_path(
  model: Model, params: Params, x: Array, start: Distribution | None, what: str
) -> Path:
  """Makes the path from `start`, or the prior, to p(z|x), for the method that errors call `what`.

  Raises:
    UnsupportedError: if z is not continuous.
  """
  prior = model.prior(params)
  check_continuous(what, prior)
  start = prior if start is None else start
  return Path(start, lambda z: log_joint(model, params, x, z) - start.log_prob(z))


def anneal(
  key: Key,
  path: Path,
  z: Array,
  betas: np.ndarray,
  num_leapfrogs: int,
  *,
  step_sizes: Array | None = None,
) -> Annealed:
  """Moves chains z (C, J) through the temperatures in the order of `betas`, (T + 1,).

  Args:
    key: consumed; the move at betas[t] draws from `fold_in(key, t)`.
    path: the densities between the start and the posterior.
    z: samples of the distribution at betas[0].
    betas: from 0 to 1, or from 1 to 0.
    num_leapfrogs: leapfrog steps in a transition.
    step_sizes: at betas[1:], shape (T,). None lets them follow the chains' own acceptance. The
      weights are then only nearly those of annealed importance sampling, which is enough to find
      step sizes and the modes of the posterior.
  """
  betas = jnp.asarray(betas, z.dtype)

  def step(carry: tuple[Array, Array, Array], t: Array):
    z, log_w, log_step_size = carry
    log_w += (betas[t] - betas[t - 1]) * jax.vmap(path.log_w)(z)
    target = path.at(betas[t])
    step_size = jnp.exp(log_step_size) if step_sizes is None else step_sizes[t - 1]
    states, info = hmc.transitions(
      jax.random.fold_in(key, t),
      hmc.init(target, z),
      target,
      step_size,
      num_leapfrogs=num_leapfrogs,
    )
    acceptance = jnp.mean(info.acceptance_rate)
    log_step_size += TUNING_RATE * (acceptance - hmc.TARGET_ACCEPTANCE)
    report = step_size, acceptance, jnp.sum(info.is_divergent)
    return (states.position, log_w, log_step_size), report

  carry = z, jnp.zeros(len(z), z.dtype), jnp.log(hmc.first_step_size(z))
  (z, log_w, _), reports = jax.lax.scan(step, carry, jnp.arange(1, len(betas)))
  step_sizes, acceptance, num_divergent = reports
  return Annealed(z, log_w, step_sizes, jnp.mean(acceptance), jnp.sum(num_divergent))


def anneal_from_start(
  key: Key,
  path: Path,
  betas: np.ndarray,
  num_leapfrogs: int,
  num_chains: int,
  *,
  step_sizes: Array | None = None,
) -> Annealed:
  """Moves C chains that start at z ~ f_0 through the temperatures, as `anneal` does."""
  start_key, key = jax.random.split(key)
  z = jax.vmap(path.start.sample)(jax.random.split(start_key, num_chains))
  return anneal(key, path, z, betas, num_leapfrogs, step_sizes=step_sizes)


def _tuned_steps(
  key: Key, path: Path, betas: np.ndarray, num_leapfrogs: int, num_chains: int
) -> Array:
  """Tunes a step size for each of β_1 … β_T with C/4 other chains, rounded up; shape (T,)."""
  return anneal_from_start(key, path, betas, num_leapfrogs, -(-num_chains // 4)).step_sizes


def _estimate(annealed: Annealed) -> LogLikelihood:
  estimate = from_log_weights(annealed.log_w)
  fared = dict(acceptance=annealed.acceptance, num_divergent=annealed.num_divergent)
  return estimate._replace(diagnostics=estimate.diagnostics | fared)
