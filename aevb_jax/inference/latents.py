"""What the latents of a trained model are used for."""

from aevb_jax.types import Array

ACTIVE = 0.01  # variance over the data


def active_units(posterior_means: Array, threshold: float = ACTIVE) -> Array:
  """Which latents say anything about x: those whose E_q[z|x] varies over the data.

  Source: Burda, Grosse & Salakhutdinov (2015), section 5.2.

  Args:
    posterior_means: E_q[z|x] of N data points, shape (N, J).
    threshold: on the variance over them.

  Returns:
    Booleans, shape (J,).
  """
  return posterior_means.var(axis=0) > threshold
