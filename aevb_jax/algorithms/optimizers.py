"""Optimizers whose step size is part of their state, so that it can be swept.

The step size is `opt_state.hyperparams["step_size"]`. For `with_psi` and `moving_average`, whose
state is a pair, it is `opt_state[0].hyperparams["step_size"]`. These optimizers minimise, as all of
optax do; `aevb` gives them the gradient of minus the bound.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate

import jax.numpy as jnp
import optax

from aevb_jax.types import Array, Params

ADAGRAD_WARMUP_STEPS = 100  # as in the author's code; a shorter run moves no parameter
LAST_STEP = 2**31 - 1  # the largest step that optax counts to

Schedule = Callable[[Array], Array]  # updates made so far, () -> the factor of the step size, ()


def stages(lengths: Sequence[int], decay: float = 10 ** (-1 / 7)) -> Schedule:
  """Makes a schedule of the step size that falls in stages: in stage i its factor is decay^i.

  Source: Burda, Grosse & Salakhutdinov (2015), section 5: 0.001·10^(−i/7) for 3^i epochs, i = 0…7.

  Args:
    lengths: updates in every stage; the step size of the last stage stays after it.
    decay: factor from each stage to the next.

  Returns:
    A schedule: updates made so far, shape () -> the factor of the step size, shape ().

  Raises:
    ValueError: if there is no stage, or a stage has no updates.
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
  """Makes Adagrad as the paper's experiments used it.

  It differs from `optax.adagrad` in two ways. The accumulator starts at 0 and not at 0.1, which
  would swamp gradients per data point and change the meaning of the paper's step sizes {0.01, 0.02,
  0.1}. The first `warmup_steps` steps only accumulate and move no parameter. Without them, the very
  first step would move every parameter by the whole step size.

  Source: Duchi, Hazan & Singer (2011); the starting value and the warm-up follow the code of the
  paper's first author.

  Args:
    step_size: in units of the parameters.
    warmup_steps: steps that move no parameter.
    eps: added to the accumulated squares, under the root.
    schedule: updates made so far -> a factor of the step size; None for 1.

  Returns:
    An optimizer whose state has `hyperparams["step_size"]`.
  """

  def make(step_size: float) -> optax.GradientTransformation:
    return optax.chain(
      optax.scale_by_rss(initial_accumulator_value=0.0, eps=eps),
      optax.scale_by_schedule(lambda step: jnp.where(step < warmup_steps, 0.0, 1.0)),
      optax.scale_by_learning_rate(step_size),
    )

  return with_step_size(make, step_size, schedule)


def adam(
  step_size: float, *, eps: float = 1e-8, schedule: Schedule | None = None
) -> optax.GradientTransformation:
  """Makes Adam, with the defaults of its paper.

  Source: Kingma & Ba (2015).

  Args:
    step_size: in units of the parameters.
    eps: added to the root of the second moment.
    schedule: updates made so far -> a factor of the step size; None for 1.

  Returns:
    An optimizer whose state has `hyperparams["step_size"]`.
  """
  make = lambda step_size: optax.adam(step_size, eps=eps)
  return with_step_size(make, step_size, schedule)


def sgd(step_size: float, *, schedule: Schedule | None = None) -> optax.GradientTransformation:
  """Makes plain stochastic gradient descent.

  Args:
    step_size: the factor of the gradient.
    schedule: updates made so far -> a factor of the step size; None for 1.

  Returns:
    An optimizer whose state has `hyperparams["step_size"]`.
  """
  return with_step_size(lambda step_size: optax.sgd(step_size), step_size, schedule)


def with_step_size(
  make: Callable[[float], optax.GradientTransformation],
  step_size: float,
  schedule: Schedule | None = None,
) -> optax.GradientTransformation:
  """Makes an optimizer with its step size in the state, so that each run of a sweep has its own.

  Args:
    make: step size -> the optimizer.
    step_size: in units of the parameters.
    schedule: updates made so far -> a factor of the step size; None for 1.

  Returns:
    An optimizer whose state has `hyperparams["step_size"]`.
  """

  def scheduled(step_size: float) -> optax.GradientTransformation:
    if schedule is None:
      return make(step_size)
    return optax.chain(make(step_size), optax.scale_by_schedule(schedule))

  return optax.inject_hyperparams(scheduled)(step_size)


def with_psi(
  optimizer: optax.GradientTransformation, psi_optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
  """Makes an optimizer that uses `optimizer` for θ and φ, and another one for ψ.

  Args:
    optimizer: for θ and φ.
    psi_optimizer: for ψ.

  Returns:
    An optimizer of Params, whose state is the pair of the two states.
  """

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
  """Makes an optimizer that uses `optimizer` for θ and φ, and a moving average for ψ.

  ψ becomes the exponential moving average of the signal. `score_function` gives ψ the gradient f −
  ψ, averaged over the minibatch, so steps of 1 − decay along it are ψ ← decay ψ + (1 − decay) mean
  f.

  Args:
    optimizer: for θ and φ.
    decay: the factor of the old average.

  Returns:
    An optimizer of Params, whose state is the pair of the two states.
  """
  return with_psi(optimizer, sgd(1 - decay))
