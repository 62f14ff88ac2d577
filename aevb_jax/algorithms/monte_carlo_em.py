"""Monte Carlo EM (appendix E): no encoder; Hamiltonian Monte Carlo draws z from the posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from aevb_jax.inference import hmc
from aevb_jax.inference.checks import check_continuous, check_positive
from aevb_jax.inference.hmc import blackjax
from aevb_jax.models.joint import log_joint
from aevb_jax.models.vae import init_params
from aevb_jax.training.nonfinite import Terms, terms_of_update, terms_of_z
from aevb_jax.training.sharding import mean_over_devices, on_each_device
from aevb_jax.types import Algorithm, Array, Conditional, Key, Model, Params, PyTree

ADAPTATION_RATE = 0.5  # change of the log step size per unit of acceptance above its target


NO_ENCODER = Conditional(init=lambda key: (), given=None)  # type: ignore[arg-type]  # its φ is ()


class MCEMState(NamedTuple):
  """The state of Monte Carlo EM, with all that resuming needs."""

  step: Array  # int32, minibatches seen so far
  params: Params  # phi is ()
  opt_state: PyTree
  key: Key  # never changes; step t draws from fold_in(key, t)
  z: Array  # (N, J), the current z of the chain of every data point
  log_step_size: Array  # (), of the leapfrogs, shared by all chains


class Moved(NamedTuple):
  """The chains of M examples after a transition."""

  z: Array  # (M, J)
  log_joint: Array  # (M,), log p(x, z; θ)
  acceptance_rate: Array  # (M,)
  is_divergent: Array  # (M,), 1 or 0, as a float so that devices can add it to their gradients


def mcem(
  model: Model,
  optimizer: optax.GradientTransformation,
  *,
  num_data: int,
  num_leapfrogs: int = 10,
  num_updates: int = 5,
  target_acceptance: float = hmc.TARGET_ACCEPTANCE,
  log_prior: Callable[[Params], Array] | None = None,
) -> Algorithm:
  """Makes Monte Carlo EM as in appendix E, one minibatch at a time.

  E-step: the chain of every data point of the minibatch continues by one HMC transition under
  p(z|x; θ) at the current θ. The chain starts where it stopped at the last use of its data point.
  M-step: some updates of θ along ∇θ of the mean of log p(x, z; θ), all with that z. By Fisher's
  identity, E[∇θ log p(x, z; θ)] over p(z|x; θ) is ∇θ log p(x; θ).

  Appendix E tunes the step size automatically, for an acceptance of 90 %. Here log ε moves by
  `ADAPTATION_RATE` times (mean acceptance over the minibatch − target) after every transition
  (Robbins & Monro 1951). The rate never falls, because θ changes: as the model learns, p(z|x)
  narrows, and no ε stays right. Over a long run the mean acceptance is the target. The ε of a
  transition depends only on the transitions before it, never on its own proposal. Given the past,
  each transition therefore leaves p(z|x; θ) invariant. In a larger minibatch, ε depends less on any
  one chain. For very small M this dependence biases draws a little.

  Source: appendix E.

  Args:
    model: p(z) and p(x|z); its encoder is not used.
    optimizer: the optimizer of θ, from optax; the paper's is `aevb_jax.algorithms.adagrad`. Its
      steps are updates, `num_updates` of them for each minibatch.
    num_data: N, the number of examples that `fit` will be given. They must be the same x at each
      use, because a chain belongs to one x. N also weights the prior against the data.
    num_leapfrogs: leapfrog steps in a transition.
    num_updates: updates of θ with the z of one transition.
    target_acceptance: mean probability of acceptance to tune for.
    log_prior: Params -> log p(θ), such as `gaussian_weight_prior(1.0)`; Params have phi=().

  Returns:
    `init(key)` makes an `MCEMState`, with chains that start at draws from p(z) and the θ that
    `aevb` starts from for the same key. `update(state, batch, index)` takes a minibatch (M, D) and
    the positions of its examples in the data set, (M,), each at most once. It returns the next
    state and, for that minibatch,
      "log_joint": the mean of log p(x, z; θ) at the new z in nats per data point, before the
        updates and without the prior;
      "acceptance": the mean probability of acceptance;
      "num_divergent": transitions whose energy grew by more than 1000, or became NaN; in all of
        them z stays where it was;
      "step_size": ε of the transition.
    An update costs `evaluations_per_example` per data point.

  Raises:
    ValueError: if a number is out of its range.
    UnsupportedError: if z is not continuous.
  """
  check_positive(num_data=num_data, num_leapfrogs=num_leapfrogs, num_updates=num_updates)
  if not 0 < target_acceptance < 1:
    raise ValueError(f"target_acceptance is {target_acceptance}, expected between 0 and 1")
  jax.eval_shape(lambda key: _check_latents(key, model), jax.random.key(0))

  def init(key: Key) -> MCEMState:
    return _init_state(key, model, optimizer, num_data)

  def update(state: MCEMState, batch: Array, index: Array) -> tuple[MCEMState, dict]:
    step_size = jnp.exp(state.log_step_size)
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), len(batch))

    def move(common: tuple[Params, Array], examples: tuple[Key, Array, Array]) -> Moved:
      params, step_size = common
      return e_step(model, params, *examples, step_size=step_size, num_leapfrogs=num_leapfrogs)

    chains = keys, batch, chains_of(state, index)
    moved = on_each_device(move, (state.params, step_size), chains)

    def loss(params: Params, batch: Array, z: Array) -> Array:
      objective = jnp.mean(jax.vmap(lambda x, z: log_joint(model, params, x, z))(batch, z))
      if log_prior is not None:
        objective += log_prior(params) / num_data
      return -objective  # optimizers minimise: the only minus sign

    params, opt_state, moved = _descend(
      loss, optimizer, (state.params, state.opt_state), (batch, moved), num_updates
    )
    acceptance = jnp.mean(moved.acceptance_rate)
    following = state._replace(
      step=state.step + 1,
      params=params,
      opt_state=opt_state,
      z=state.z.at[index].set(moved.z),
      log_step_size=state.log_step_size + ADAPTATION_RATE * (acceptance - target_acceptance),
    )
    metrics = dict(
      log_joint=jnp.mean(moved.log_joint),
      acceptance=acceptance,
      num_divergent=jnp.sum(moved.is_divergent != 0),
      step_size=step_size,
    )
    return following, metrics

  return Algorithm(init, update)


def _init_params(key: Key, model: Model) -> Params:
  return init_params(key, model._replace(encoder=NO_ENCODER))


def _check_latents(key: Key, model: Model) -> None:
  check_continuous("mcem", model.prior(_init_params(key, model)))


def _init_state(
  key: Key, model: Model, optimizer: optax.GradientTransformation, num_data: int
) -> MCEMState:
  params_key, z_key, key = jax.random.split(key, 3)  # params_key is the same as in aevb
  params = _init_params(params_key, model)
  z = jax.vmap(model.prior(params).sample)(jax.random.split(z_key, num_data))
  log_step_size = jnp.log(hmc.first_step_size(z))
  zero = jnp.zeros((), jnp.int32)
  return MCEMState(zero, params, optimizer.init(params), key, z, log_step_size)


def _descend(
  loss: Callable[[Params, Array, Array], Array],
  optimizer: optax.GradientTransformation,
  start: tuple[Params, PyTree],
  examples: tuple[Array, Moved],
  num_updates: int,
) -> tuple[Params, PyTree, Moved]:
  """Takes the M-step: updates of the parameters, all with the same examples.

  Every device keeps the chains of all N examples, since each epoch trains an example on another
  device. The moved chains travel with the gradient, which the devices exchange anyway.
  """

  def gradient(params: Params, examples: tuple[Array, Moved]) -> tuple[Params, Moved]:
    batch, moved = examples
    return jax.grad(loss)(params, batch, moved.z), moved

  def step(carry: tuple[Params, PyTree], _) -> tuple[tuple[Params, PyTree], Moved]:
    params, opt_state = carry
    grads, moved = mean_over_devices(gradient, params, examples)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), moved

  last, moved = jax.lax.scan(step, start, length=num_updates)
  return *last, jax.tree.map(lambda rows: rows[0], moved)  # the same in every update


def chains_of(state: MCEMState, index: Array) -> Array:
  """Returns the z of the chains of some examples, (M, J); NaN for an index without a chain."""
  return state.z.at[index].get(mode="fill")  # NaN shows that num_data is too small


def e_step(
  model: Model,
  params: Params,
  keys: Key,
  batch: Array,
  z: Array,
  *,
  step_size: Array,
  num_leapfrogs: int,
) -> Moved:
  """Moves the chain of every data point by one HMC transition, each under its own p(z|x; θ).

  Args:
    model: p(z) and p(x|z).
    params: the parameters of the model; φ is not used.
    keys: consumed, shape (M,); data point i draws from keys[i].
    batch: M data points, shape (M, D).
    z: the current z of their chains, shape (M, J).
    step_size: the step size of the leapfrogs, shape ().
    num_leapfrogs: leapfrog steps in the transition.

  Returns:
    The results of the transitions.
  """

  def move(key: Key, x: Array, z: Array) -> Moved:
    def log_density(z: Array) -> Array:  # log p(z|x; θ) plus a constant in z
      return log_joint(model, params, x, z)

    chain = blackjax().hmc.init(z, log_density)  # again, because θ has changed
    chain, info = hmc.transition(key, chain, log_density, step_size, num_leapfrogs=num_leapfrogs)
    is_divergent = info.is_divergent.astype(z.dtype)
    return Moved(chain.position, chain.logdensity, info.acceptance_rate, is_divergent)

  return jax.vmap(move)(keys, batch, z)


def evaluations_per_example(*, num_leapfrogs: int = 10, num_updates: int = 5) -> int:
  """Counts the likelihood evaluations that an update of `mcem` spends on one of its data points.

  By this measure of cost, figure 3 can compare its three algorithms. One evaluation is one
  log p(x|z; θ) of one training data point x at one z, with or without its gradient:

    AEVB, wake-sleep: L, the samples of z (`num_samples` of the estimator). Passes through the
      encoder, and wake-sleep's dreams, evaluate no training data and are not counted.
    MCEM: 1 + num_leapfrogs + num_updates. HMC takes the gradient at the chain's z, because θ has
      changed since the chain stopped there, and after each leapfrog; then come the updates.
  """
  return 1 + num_leapfrogs + num_updates


def explain_mcem(
  algorithm: Algorithm, model: Model, *, log_prior: Callable[[Params], Array] | None = None
) -> Algorithm:
  """Makes an algorithm that finds the non-finite numbers of the next update of `mcem`.

  It is an algorithm so that `fit` can run it. z of each example is the z of its chain before the
  update.

  Args:
    algorithm: made by `mcem`, without `skip_nonfinite` around it.
    model: the model of the algorithm.
    log_prior: the prior of the algorithm.

  Returns:
    An algorithm whose `update` returns the state unchanged, and `Terms` as its metrics, to which
    `fit` adds a leading axis. `first_offence` puts the terms of one update into words.
  """

  def of_example(params: Params, x: Array, z: Array) -> dict:
    return dict(
      x=jnp.isfinite(x).all(), q={}, kl=None, log_q=None, **terms_of_z(model, params, x, z)
    )

  def update(state: PyTree, batch: Array, index: Array) -> tuple[PyTree, Terms]:
    z = chains_of(state, index)
    of_examples = jax.vmap(of_example, (None, 0, 0))(state.params, batch, z)
    whole = terms_of_update(algorithm, state, batch, index, log_prior)
    return state, Terms(index=index, **whole, **of_examples)

  return Algorithm(algorithm.init, update)
