"""The types of the package: tuples of functions, and tuples of arrays.

Tuples of functions are closed over and never pass through `jit`. Tuples of arrays pass through
`jit`, `vmap` and checkpoints. The two kinds never mix, except in `Distribution`, which stays
inside one trace.

Everything is written for one data point x and one noise draw. M data points and L samples
appear only as `jax.vmap` over `jax.random.split(key, n)`. Shapes use the paper's letters: D
dimensions of x, J of the latent z, L samples per data point, M data points in a minibatch, N in
the data set.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed key, from jax.random.key
PyTree = Any
Eta = Any  # a NamedTuple of arrays; its type says which family it belongs to


class Support(NamedTuple):
  """The set where a density is positive: the box between low and high, or a part of that box.

  low and high are numbers, or arrays of the shape of z.
  """

  low: Array | float = -math.inf
  high: Array | float = math.inf
  kind: str = "box"  # or "simplex", "integers" from low to high, or "levels" of a pixel


class Family(NamedTuple):
  """A family of distributions in reparameterized form (section 2.4).

  z = transform(eta, noise) with noise ~ p(noise) follows the member of the family that has the
  parameters eta. A field is None if the family has no closed form for it.
  """

  sizes: tuple[int, ...]  # widths of the unconstrained heads that a network must give
  from_heads: Callable[..., Eta]  # (*heads) -> eta; with `init_shared`, (*heads, shared) -> eta
  noise: Callable[[Key], Array]  # key -> noise, whose distribution has no parameters
  transform: Callable[[Eta, Array], Array]  # (eta, noise) -> z
  log_prob: Callable[[Eta, Array], Array]  # (eta, z) -> (), in nats
  mean: Callable[[Eta], Array]  # eta -> E[z]; inf or NaN if it does not exist
  reparameterized: bool = True  # whether dz/d eta through `transform` is valid
  support: Callable[[Eta], Support] = lambda eta: Support()  # of one member
  widest: Support = Support()  # contains the supports of all members that heads can give
  variance: Callable[[Eta], Array] | None = None  # eta -> the variance of each dimension
  entropy: Callable[[Eta], Array] | None = None  # eta -> (), in nats
  # Parameters that are the same for every x, such as the networks of a flow: key -> shared.
  init_shared: Callable[[Key], PyTree] | None = None
  # (eta, noise) -> (z, log_prob of z), if that is cheaper than one after the other.
  transform_with_log_prob: Callable[[Eta, Array], tuple[Array, Array]] | None = None


class Distribution(NamedTuple):
  """One member of a family, closed over its eta; it stays inside one trace."""

  sample: Callable[[Key], Array]  # key -> z
  sample_with_log_prob: Callable[[Key], tuple[Array, Array]]  # key -> (z, its log_prob)
  log_prob: Callable[[Array], Array]  # z -> (), in nats
  mean: Array  # E[z]
  eta: Eta  # for closed-form divergences
  reparameterized: bool  # whether gradients may flow through `sample`
  support: Support
  at: Callable[[Eta], "Distribution"]  # the member of the same family with another eta


class Conditional(NamedTuple):
  """A network and a family; q(z|x; φ) and p(x|z; θ) are both of this type."""

  init: Callable[[Key], PyTree]  # key -> params
  given: Callable[[PyTree, Array], Distribution]  # (params, x); runs the network once


class Model(NamedTuple):
  """The model and its encoder: p(z; θ), p(x|z; θ) and q(z|x; φ).

  The prior is given all parameters, because a VampPrior is made of q(z|x; φ).
  """

  prior: Callable[["Params"], Distribution]  # params -> p(z)
  decoder: Conditional  # p(x|z; theta)
  encoder: Conditional  # q(z|x; phi)


class Params(NamedTuple):
  """The parameters: theta of the model, phi of the encoder, psi of learned baselines."""

  theta: PyTree
  phi: PyTree
  psi: PyTree = ()


# (key, model, params, x) -> (): its value estimates a bound on log p(x) in nats, and its gradient
# with respect to params is the gradient estimator. Bounds are maximised. The number of samples L
# is a keyword argument, bound by functools.partial.
Estimator = Callable[[Key, Model, Params, Array], Array]


class Scheduled(NamedTuple):
  """An estimator that changes in the course of training, such as `kl_warmup` makes."""

  at: Callable[[Array], Estimator]  # updates made so far -> the estimator of the next update


# (key, pixels of one image) -> x, a data point of shape (D,).
Preprocess = Callable[[Key, Array], Array]


class TrainState(NamedTuple):
  """The state of training, with all that resuming needs."""

  step: Array  # int32, updates made so far
  params: Params
  opt_state: PyTree
  key: Key  # never changes; step t draws from fold_in(key, t)


class Algorithm(NamedTuple):
  """A way of learning; every curve of the paper is one of these under `fit`.

  `index` (M,), int32, gives the positions in the data set of the examples of the minibatch. An
  algorithm that keeps something for every example needs it, as `mcem` does; `aevb` ignores it.
  """

  init: Callable[[Key], PyTree]  # key -> state, which has a field `step`
  update: Callable[..., tuple[PyTree, dict]]  # (state, batch, index) -> (state, metrics)
