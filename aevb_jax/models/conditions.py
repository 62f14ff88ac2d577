"""Conditional models: p(x|z, c) and q(z|x, c), where c is a label or any other vector.

A conditional model is a `Model` whose decoder is given the pair (z, c) and whose encoder is given
the pair (x, c). `given_condition(model, c)` is the model of x given that c, in which the condition
is no longer seen. Every estimator of log p(x) is therefore one of log p(x|c):
`elbo_b(key, given_condition(model, c), params, x)`. The parameters do not depend on c.

Training takes (x, c) as one data point, a vector; see `estimators.conditioned`. `with_labels` makes
such rows of a data set, where c is the label.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.data.image_data import SPLITS, ImageData
from aevb_jax.data.minibatches import Joined
from aevb_jax.families.gaussians import gaussian
from aevb_jax.models.networks import MLP, Initializer, conditional, linear
from aevb_jax.models.priors import standard_normal
from aevb_jax.ops.products import product
from aevb_jax.types import Array, Conditional, Distribution, Family, Model


class ConditionedMLP(MLP, kw_only=True):
  """The network `MLP` of a pair (x, c), in which c is added to the units of the first layer.

  This is the MLP of the vector (x, c), with the kernel of its first layer in two parts. If one x is
  given many c, as in a sum over classes, the product of x and its kernel is computed once.
  """

  size: int  # D, the length of x

  def first(self, x: Any, sizes: dict[str, int]) -> list[Array]:
    """Applies linear layers to (x, c), each with a kernel of its own for c."""
    x, c = jnp.split(x, [self.size]) if isinstance(x, jax.Array) else x
    float_ = jnp.result_type(float)
    kernels = [
      self.param(f"{name}_condition", self.kernel_init, (len(c), size), float_)
      for name, size in sizes.items()
    ]
    from_c = [product(c[None].astype(float_), k, dtype=self.dtype)[0] for k in kernels]
    return [a + b for a, b in zip(linear(self, x, sizes), from_c)]


def conditional_vae(
  likelihood: Family,
  *,
  data_dim: int,
  condition_dim: int,
  latent_dim: int,
  hidden_dim: int | Sequence[int],
  posterior: Callable[[int], Family] = gaussian,
  prior: Callable[[int], Distribution] = standard_normal,
  activation: Callable[[Array], Array] = nn.tanh,
  kernel_init: Initializer = nn.initializers.lecun_normal(),
  bias_init: Initializer = nn.initializers.zeros_init(),
  dtype: jnp.dtype | None = None,
) -> Model:
  """Makes p(x|z, c), q(z|x, c) and p(z), whose networks are MLPs that see the condition c.

  A classifier with latents, p(y|x, z), is the same function with the label as data and x as the
  condition: `conditional_vae(one_hot(K), data_dim=K, condition_dim=D, ...)`.

  Source: Kingma, Rezende, Mohamed & Welling (2014), equation 2; Sohn, Lee & Yan (2015), with a
    prior that does not depend on the condition.

  Args:
    likelihood: family of x, such as `bernoulli(D)`.
    data_dim: D.
    condition_dim: C, the length of c.
    latent_dim: J.
    hidden_dim: hidden units of each network; for several layers, the units of each layer in the
      order of the encoder, which the decoder reverses.
    posterior: J -> family of z given x and c.
    prior: J -> p(z).
    activation: of the hidden units.
    kernel_init: initializer of the weight matrices.
    bias_init: initializer of the biases.
    dtype: the dtype that operands of matrix products are rounded to; None for no rounding.

  Returns:
    A model of x (D,) and z (J,), whose decoder is given a pair (z, c), and whose encoder is given
    a pair (x, c). `given_condition` makes an ordinary model of it.
  """
  layers = (hidden_dim,) if isinstance(hidden_dim, int) else tuple(hidden_dim)
  options: dict[str, Any] = dict(
    activation=activation, kernel_init=kernel_init, bias_init=bias_init, dtype=dtype
  )

  def network(layers: Sequence[int], family: Family, size: int) -> Conditional:
    module = ConditionedMLP(layers, family.sizes, size=size, **options)
    return conditional(module, family, size + condition_dim)

  return Model(
    prior=lambda params: prior(latent_dim),
    decoder=network(layers[::-1], likelihood, latent_dim),
    encoder=network(layers, posterior(latent_dim), data_dim),
  )


def given_condition(model: Model, c: Array) -> Model:
  """Makes the model of x given c: p(z), p(x|z, c) and q(z|x, c) with that c.

  Args:
    model: a conditional model, whose decoder is given pairs (z, c) and its encoder pairs (x, c).
    c: the condition, shape (C,).

  Returns:
    A model of x (D,) and z (J,), with the same parameters for every c. It is closed over c, so it
    must stay inside the trace that made c.
  """

  def at(conditional: Conditional) -> Conditional:
    of_pair: Callable[[Any, Any], Distribution] = conditional.given
    return conditional._replace(given=lambda params, x: of_pair(params, (x, c)))

  return model._replace(decoder=at(model.decoder), encoder=at(model.encoder))


def of_pairs(conditional: Conditional) -> Conditional:
  """Makes a conditional that is given pairs (x, c), from one that is given the vector (x, c).

  It lets networks of one's own be those of a conditional model:
  `of_pairs(models.conditional(network, family, D + C))`.

  Args:
    conditional: its input is a vector of shape (D + C,).

  Returns:
    The conditional with the same parameters, whose input is a pair of shapes (D,) and (C,).
  """
  joined: Callable[[Any, Any], Array] = lambda x, c: jnp.concatenate([x, c])
  return conditional._replace(
    given=lambda params, pair: conditional.given(params, joined(*pair)),
  )


def one_hot_labels(labels: Any, num_classes: int, *, missing: bool = False) -> np.ndarray:
  """Makes one-hot vectors of labels, on the host.

  Args:
    labels: N whole numbers from 0 to K − 1. None if a data set has none, which is refused.
    num_classes: K.
    missing: whether a label may be −1, which stands for one that is not known; its row is 0.

  Returns:
    uint8 rows, shape (N, K), to stand beside the rows of pixels (N, D).

  Raises:
    ValueError: if there are no labels, or a label is not one of the classes.
  """
  if labels is None:
    raise ValueError("the data set has no labels; a condition on the label takes one that has")
  classes, lowest = np.asarray(labels), -1 if missing else 0
  if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer):
    is_now = f"of shape {classes.shape} and type {classes.dtype}"
    raise ValueError(f"labels are {is_now}, expected whole numbers of shape (N,)")
  if (bad := np.flatnonzero((classes < lowest) | (classes >= num_classes))).size:
    what = "-1 for none, or " if missing else ""
    raise ValueError(
      f"label {classes[bad[0]]} of example {bad[0]} is out of range: "
      f"{num_classes} classes take {what}0 to {num_classes - 1}"
    )
  return (classes[:, None] == np.arange(num_classes)[None]).astype(np.uint8)


def num_classes(images: ImageData) -> int:
  """Returns K, the highest label of the training images plus one.

  Raises:
    ValueError: if the training images have no labels, or these do not number classes from 0.
  """
  if images.train_labels is None:
    if images.test_labels is None:
      raise ValueError("takes a data set with labels, and this one has none")
    raise ValueError(
      "takes the labels of the training images, which are not there, or not read of a prepared set "
      "that is streamed; name an --array_cache_dir, or a larger --max_resident_mb"
    )
  highest = int(np.max(images.train_labels))
  if highest >= len(images.train):
    raise ValueError(
      f"takes classes that are numbered from 0, and the highest label of {len(images.train)} "
      f"training images is {highest}"
    )
  return highest + 1


def with_labels(images: ImageData) -> ImageData:
  """Returns the data set with rows (pixels, c), where c is the one-hot label of the image.

  Args:
    images: rows of pixels (N, D), whose splits all have labels.

  Returns:
    Rows (N, D + K) for the K classes of `num_classes`, read as those of `images`: `image_shape` and
    the labels stay.

  Raises:
    ValueError: if a split has no labels, or a label that is not one of the classes.
  """
  size = num_classes(images)
  rows: dict[str, Any] = {}
  for split in SPLITS:
    source, labels = getattr(images, split), getattr(images, f"{split}_labels")
    if source is None:
      continue
    if labels is None:
      raise ValueError(f"takes labels of all splits, and {split} has none")
    try:
      rows[split] = Joined(source, one_hot_labels(labels, size))
    except ValueError as error:
      raise ValueError(
        f"takes labels that the training images have; in {split}, {error}"
      ) from error
  return images._replace(**rows)
