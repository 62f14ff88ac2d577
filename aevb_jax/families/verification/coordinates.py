"""Coordinates y in which a support has no borders: z = low + exp(y) above a lower end, and so on.

`verification` compares densities, draws and derivatives in these coordinates, because a density
may be infinite at a border of z, and a border may move with η.
"""

import jax
import jax.numpy as jnp

from aevb_jax.types import Array, Support


def to_line(z: Array, support: Support) -> Array:
  """Maps z to coordinates without borders.

  Args:
    z: a point of the support, shape (J,).
    support: the support of one member.

  Returns:
    y, shape (J,); (J − 1,) for a simplex. An entry is infinite if z is on a border.
  """
  if support.kind == "simplex":
    return jnp.log(z[:-1]) - jnp.log(z[-1])
  if support.kind != "box":
    return z
  has_low, has_high, low, high = _ends(z, support)
  above = jnp.log(jnp.where(has_low, z - low, 1.0))
  below = jnp.log(jnp.where(has_high, high - z, 1.0))
  return jnp.where(has_low | has_high, above - below, z)


def from_line(y: Array, z: Array, fixed: Array, support: Support) -> tuple[Array, Array]:
  """Maps coordinates back to z.

  Args:
    y: coordinates, as `to_line` returns them.
    z: the point that y came from.
    fixed: True for entries of z that are returned as they are, because they are point masses or on
      a border; shape of y.
    support: the support of one member.

  Returns:
    z, shape (J,), and log |∂z/∂y| for each coordinate, 0 where it is fixed. A simplex has its
    whole log-determinant in the first.
  """
  if support.kind == "simplex":
    log_z = jax.nn.log_softmax(jnp.append(y, 0.0))
    log_det = jnp.zeros_like(y).at[0].set(jnp.sum(log_z))
    return jnp.exp(log_z), log_det
  if support.kind != "box":
    return jnp.where(fixed, z, y), jnp.zeros_like(y)
  has_low, has_high, low, high = _ends(z, support)
  both, one = has_low & has_high, has_low ^ has_high
  y = jnp.where(fixed, 0.0, y)
  step = jnp.exp(jnp.where(one, jnp.where(has_low, y, -y), 0.0))
  length = jnp.where(both, high - low, 1.0)
  half_open = jnp.where(has_low, low + step, high - step)
  inside = jnp.where(both, low + length * jax.nn.sigmoid(y), jnp.where(one, half_open, y))
  of_both = jnp.log(length) + jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y)
  log_det = jnp.where(both, of_both, jnp.where(one, jnp.log(step), 0.0))
  return jnp.where(fixed, z, inside), jnp.where(fixed, 0.0, log_det)


def _ends(z: Array, support: Support) -> tuple[Array, Array, Array, Array]:
  """Returns which entries have a lower and an upper end, and these ends, 0 where there is none."""
  low, high = (jnp.broadcast_to(jnp.asarray(e, z.dtype), z.shape) for e in support[:2])
  has_low, has_high = jnp.isfinite(low), jnp.isfinite(high)
  return has_low, has_high, jnp.where(has_low, low, 0.0), jnp.where(has_high, high, 0.0)
