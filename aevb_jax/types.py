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
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax

Array = jax.Array
Key = jax.Array  # a typed key, from jax.random.key
PyTree = Any
Eta = Any  # a NamedTuple of arrays; its type identifies the family
T = TypeVar("T")


class _OfFields(type):
  """The type of the classes below, which hides tuple's methods from their `dir` and `help`."""

  def __dir__(cls) -> list[str]:
    return [*vars(cls)["_fields"], "_asdict", "_replace"]


def _documented(cls: type[T]) -> type[T]:
  """Gives each field of a NamedTuple its text in the docstring, where `help` shows it."""
  attributes = (cls.__doc__ or "").partition("Attributes:\n")[2]
  for name, text in re.findall(r"^ +(\w+): (.*(?:\n {6}.*)*)", attributes, re.MULTILINE):
    vars(cls)[name].__doc__ = " ".join(text.split())
  made: Any = _OfFields(cls.__name__, cls.__bases__, dict(vars(cls)))
  return made


@_documented
class Support(NamedTuple):
  """The set where a density is positive: the box between low and high, or a part of that box.

  Attributes:
    low: a number, or an array of the shape of z.
    high: a number, or an array of the shape of z.
    kind: "box" for the whole box, "simplex" for the simplex in it, "integers" for the integers
      from low to high, or "levels" for the levels of a pixel.
  """

  low: Array | float = -math.inf
  high: Array | float = math.inf
  kind: str = "box"


@_documented
class Family(NamedTuple):
  """A family of distributions in reparameterized form (section 2.4).

  z = transform(eta, noise) with noise ~ p(noise) follows the member of the family that has the
  parameters eta. A field is None if the family has no closed form for it.

  Attributes:
    sizes: widths of the unconstrained heads that a network must give.
    from_heads: (*heads) -> eta; with `init_shared`, (*heads, shared) -> eta.
    noise: key -> noise, whose distribution has no parameters.
    transform: (eta, noise) -> z.
    log_prob: (eta, z) -> (), in nats.
    mean: eta -> E[z]; inf or NaN if it does not exist.
    reparameterized: whether dz/d eta through `transform` is valid.
    support: eta -> the support of that member.
    widest: contains the supports of all members that heads can give.
    variance: eta -> the variance of each dimension.
    entropy: eta -> (), in nats.
    init_shared: key -> shared, the parameters that are the same for every x, such as the networks
      of a flow.
    transform_with_log_prob: (eta, noise) -> (z, log_prob of z), if that is cheaper than two
      separate calls.
  """

  sizes: tuple[int, ...]
  from_heads: Callable[..., Eta]
  noise: Callable[[Key], PyTree]
  transform: Callable[[Eta, PyTree], Array]
  log_prob: Callable[[Eta, Array], Array]
  mean: Callable[[Eta], Array]
  reparameterized: bool = True
  support: Callable[[Eta], Support] = lambda eta: Support()
  widest: Support = Support()
  variance: Callable[[Eta], Array] | None = None
  entropy: Callable[[Eta], Array] | None = None
  init_shared: Callable[[Key], PyTree] | None = None
  transform_with_log_prob: Callable[[Eta, PyTree], tuple[Array, Array]] | None = None


@_documented
class Distribution(NamedTuple):
  """One member of a family, closed over its eta; it stays inside one trace.

  Attributes:
    sample: key -> z.
    sample_with_log_prob: key -> (z, its log_prob).
    log_prob: z -> (), in nats.
    mean: E[z].
    eta: the parameters of this member, for closed-form divergences.
    reparameterized: whether gradients may flow through `sample`.
    support: the set where the density is positive.
    at: eta -> the member of the same family with another eta.
  """

  sample: Callable[[Key], Array]
  sample_with_log_prob: Callable[[Key], tuple[Array, Array]]
  log_prob: Callable[[Array], Array]
  mean: Array
  eta: Eta
  reparameterized: bool
  support: Support
  at: Callable[[Eta], "Distribution"]


@_documented
class Network(NamedTuple):
  """A network as a pair of pure functions, of one input.

  `models.conditional` takes one that returns heads, and `models.network_vae` two that return
  features. `models.from_nnx` and `models.from_equinox` make one of a module.

  Attributes:
    init: key -> params, any tree of arrays.
    apply: (params, input) -> a tuple of heads, or one array of features.
  """

  init: Callable[[Key], PyTree]
  apply: Callable[[PyTree, Array], Any]


@_documented
class Conditional(NamedTuple):
  """A network and a family; q(z|x; φ) and p(x|z; θ) are both of this type.

  Attributes:
    init: key -> params.
    given: (params, x) -> the distribution given x; it runs the network once.
  """

  init: Callable[[Key], PyTree]
  given: Callable[[PyTree, Array], Distribution]


@_documented
class Model(NamedTuple):
  """The model and its encoder: p(z; θ), p(x|z; θ) and q(z|x; φ).

  The prior is given all parameters, because a VampPrior is made of q(z|x; φ).

  Attributes:
    prior: params -> p(z).
    decoder: p(x|z; θ).
    encoder: q(z|x; φ).
  """

  prior: Callable[["Params"], Distribution]
  decoder: Conditional
  encoder: Conditional


@_documented
class Params(NamedTuple):
  """The parameters of everything that is trained.

  Attributes:
    theta: parameters of the model.
    phi: parameters of the encoder.
    psi: parameters of learned baselines.
  """

  theta: PyTree
  phi: PyTree
  psi: PyTree = ()


# (key, model, params, x) -> (): its value estimates a bound on log p(x) in nats, and its gradient
# with respect to params is the gradient estimator. Bounds are maximised. The number of samples L
# is a keyword argument, bound by functools.partial.
Estimator = Callable[[Key, Model, Params, Array], Array]


@_documented
class Scheduled(NamedTuple):
  """An estimator that changes during training, such as the result of `kl_warmup`.

  Attributes:
    at: updates made so far -> the estimator of the next update.
  """

  at: Callable[[Array], Estimator]


# (key, pixels of one image) -> x, a data point of shape (D,).
Preprocess = Callable[[Key, Array], Array]


@_documented
class TrainState(NamedTuple):
  """The state of training, with all that resuming needs.

  Attributes:
    step: int32, updates made so far.
    params: the parameters of the model.
    opt_state: the state of the optimizer.
    key: never changes; step t draws from fold_in(key, t).
  """

  step: Array
  params: Params
  opt_state: PyTree
  key: Key


@_documented
class Algorithm(NamedTuple):
  """A learning algorithm; every curve of the paper is made by one of these under `fit`.

  `index` (M,), int32, gives the positions in the data set of the examples of the minibatch. An
  algorithm that keeps something for every example, such as `mcem`, needs it; `aevb` ignores it.

  An update is written for one device, and sees the whole minibatch. If devices share the minibatch,
  the compiler distributes the update and the result is the same. `training.mean_over_devices` is
  for an update that has a loop over examples, such as a sampler by rejection, whose rounds the
  compiler would let all devices take together.

  Attributes:
    init: key -> state, which has a field `step`.
    update: (state, batch, index) -> (state, metrics).
  """

  init: Callable[[Key], PyTree]
  update: Callable[..., tuple[PyTree, PyTree]]
