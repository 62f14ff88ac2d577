"""Optimizers whose step size is part of their state, so that it can be swept.

It is `opt_state.hyperparams["step_size"]`, or for `with_psi` and `moving_average`, whose
state is a pair, `opt_state[0].hyperparams["step_size"]`. Like everything in
optax they descend; `aevb` hands them the gradient of minus the bound.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate

import jax.numpy as jnp
import optax

from aevb_jax.types import Array, Params

ADAGRAD_WARMUP_STEPS = 100  # the author's code; a shorter run moves nothing
LAST_STEP = 2**31 - 1  # that optax counts to

Schedule = Callable[[Array], Array]  # updates made so far, () -> the factor of the step size, ()


def stages(lengths: Sequence[int], decay: float = 10 ** (-1 / 7)) -> Schedule:
  """A step size that falls in stages: that of stage i is the first one times decay^i.

  Source: Burda, Grosse & Salakhutdinov (2015), section 5: 0.001·10^(−i/7) for 3^i epochs,
  i = 0…7.

  Args:
    lengths: updates in every stage; what follows the last goes on at its step size.
    decay: from each stage to the next.

  Raises:
    ValueError: if there is no stage, or one of no updates.
  """
  if not lengths or min(lengths) < 1:
    raise ValueError(f"stages of {list(lengths)} updates; takes at least one, of at least 1 each")
  ends = [min(end, LAST_STEP) for end in accumulate(lengths)][:-1]
  factors = [decay**i for i in range(len(lengths))]

  def factor(step: Array) -> Array:
    stage = jnp.sum(step >= jnp.asarray(ends, jnp.int32), dtype=jnp.int32)
    return jnp.asarray(factors)[stage]

  return factor


def adagrad(
  step_size: float,
  *,
  warmup_steps: int = ADAGRAD_WARMUP_STEPS,
  eps: float = 1e-8,
  schedule: Schedule | None = None,
) -> optax.GradientTransformation:
  """Adagrad as the paper's experiments used it.

  Two things differ from `optax.adagrad` as it comes. The accumulator starts at
  0 and not at 0.1, which would swamp gradients per data point and make the
  paper's step sizes {0.01, 0.02, 0.1} mean something else. And the first
  `warmup_steps` steps only accumulate and move nothing, since the very first
  step would otherwise move every parameter by the whole step size.

  Source: Duchi, Hazan & Singer (2011); the starting value and the warm-up follow
  the code of the paper's first author.
  """

  def make(step_size: float) -> optax.GradientTransformation:
    return optax.chain(
      optax.scale_by_rss(initial_accumulator_value=0.0, eps=eps),
      optax.scale_by_schedule(lambda step: jnp.where(step < warmup_steps, 0.0, 1.0)),
      optax.scale_by_learning_rate(step_size),
    )

  return _with_step_size(make, step_size, schedule)


def adam(
  step_size: float, *, eps: float = 1e-8, schedule: Schedule | None = None
) -> optax.GradientTransformation:
  """Adam (Kingma & Ba 2015), with the defaults of that paper."""
  make = lambda step_size: optax.adam(step_size, eps=eps)
  return _with_step_size(make, step_size, schedule)


def sgd(step_size: float, *, schedule: Schedule | None = None) -> optax.GradientTransformation:
  """Stochastic gradient steps."""
  return _with_step_size(lambda step_size: optax.sgd(step_size), step_size, schedule)


def _with_step_size(
  make: Callable[[float], optax.GradientTransformation],
  step_size: float,
  schedule: Schedule | None,
) -> optax.GradientTransformation:
  """`make` of a step size that is in the state, and so can be another for each of a sweep."""

  def scheduled(step_size: float) -> optax.GradientTransformation:
    if schedule is None:
      return make(step_size)
    return optax.chain(make(step_size), optax.scale_by_schedule(schedule))

  return optax.inject_hyperparams(scheduled)(step_size)


def with_psi(
  optimizer: optax.GradientTransformation, psi_optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
  """`optimizer` for θ and φ, another one for ψ; the state is the pair of theirs."""

  def init(params: Params) -> tuple:
    return optimizer.init(params._replace(psi=())), psi_optimizer.init(params.psi)

  def update(grads: Params, state: tuple, params: Params) -> tuple[Params, tuple]:
    model_state, psi_state = state
    updates, model_state = optimizer.update(
      grads._replace(psi=()), model_state, params._replace(psi=())
    )
    psi_updates, psi_state = psi_optimizer.update(grads.psi, psi_state, params.psi)
    return updates._replace(psi=psi_updates), (model_state, psi_state)

  return optax.GradientTransformation(init, update)


def moving_average(
  optimizer: optax.GradientTransformation, *, decay: float = 0.9
) -> optax.GradientTransformation:
  """`optimizer` for θ and φ; ψ becomes the exponential moving average of the signal.

  `score_function` gives ψ the gradient f − ψ, averaged over the minibatch, so that
  steps of 1 − decay along it are ψ ← decay ψ + (1 − decay) mean f.
  """
  return with_psi(optimizer, sgd(1 - decay))
