"""Exact worlds of conditional models: linear, Gaussian, with a condition that moves everything."""

import jax
import jax.numpy as jnp

from aevb_jax import Params
from tests.support.oracles import affine_bound, affine_log_marginal, affine_params

D, J, C = 4, 2, 3
X = jnp.array([0.3, -1.2, 0.8, 0.1])
SHAPES = {
  "w": (J, D), "w_c": (C, D), "b": (D,),  # the mean of x given z and c
  "s_c": (C, D), "s": (D,),  # its log-variance, which does not depend on z
  "v": (D + C, J), "a": (J,),  # the mean of z given (x, c)
  "t": (D + C, J), "u": (J,),  # its log-variance
}  # fmt: skip


def draw_free(seed=0, scale=0.3):
  """Draws arbitrary numbers of the shapes above."""
  keys = jax.random.split(jax.random.key(seed), len(SHAPES))
  return {n: scale * jax.random.normal(k, s) for k, (n, s) in zip(keys, SHAPES.items())}


def params_of(free):
  """Returns θ and φ of `conditional_vae(gaussian(D), ..., hidden_dim=())`."""
  flat = jnp.zeros_like(free["w"])
  theta = heads((free["w"], free["w_c"], free["b"]), (flat, free["s_c"], free["s"]))
  mean, log_var = ((*jnp.split(free[n], [D]), free[bias]) for n, bias in ("va", "tu"))
  return Params(theta, heads(mean, log_var))


def heads(*layers):
  """Names the kernel of x, the kernel of c and the bias of each head."""
  found = {}
  for i, (kernel, of_condition, bias) in enumerate(layers):
    found |= {f"head_{i}": {"kernel": kernel, "bias": bias}, f"head_{i}_condition": of_condition}
  return found


def given(free, x, c):
  """Returns the affine model of x given c, as `oracles` takes it."""
  size = len(x)
  return affine_params(
    w=free["w"],
    b=free["b"] + c @ free["w_c"],
    x_log_var=free["s"] + c @ free["s_c"],
    v=free["v"][:size],
    c=free["a"] + c @ free["v"][size:],
    z_log_var=free["u"] + jnp.concatenate([x, c]) @ free["t"],
  )


def exact_bound(free, x, c):
  """Computes the bound on log p(x|c) in closed form; it is differentiable."""
  return affine_bound(given(free, x, c), x)


def exact_log_p(free, x, c):
  """Computes log p(x|c) with scipy."""
  return affine_log_marginal(given(free, x, c), x)
