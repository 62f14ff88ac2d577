"""The models of semi-supervised learning: M2, and its data points (x, y) with or without a label.

M2 is p(y) = 1/K, p(z) = N(0, I) and p(x|y, z), with q(y|x) and q(z|x, y); its classifier is q(y|x).
M1 is an ordinary VAE, and draws of its q(z|x) are the features of another classifier. M1+M2 is M2
with draws of M1's q(z|x) as its x (`encoded`).

Source: Kingma, Rezende, Mohamed & Welling (2014), section 2.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.data.preprocess import scale
from aevb_jax.families.classes import one_hot
from aevb_jax.models.conditions import conditional_vae, one_hot_labels
from aevb_jax.models.networks import MLP, conditional
from aevb_jax.types import (
  Array,
  Conditional,
  Family,
  Key,
  Model,
  Params,
  Preprocess,
  PyTree,
)


def m2_vae(
  likelihood: Family,
  *,
  data_dim: int,
  num_classes: int,
  latent_dim: int,
  hidden_dim: int | Sequence[int],
  **options: Any,
) -> tuple[Model, Conditional]:
  """Makes M2: the conditional model of x given its class y, and the classifier q(y|x).

  Source: Kingma, Rezende, Mohamed & Welling (2014), equations 2 and 4.

  Args:
    likelihood: family of x, such as `bernoulli(D)`.
    data_dim: D.
    num_classes: K.
    latent_dim: J.
    hidden_dim: hidden units of each network, as `conditional_vae` takes them.
    **options: passed to `conditional_vae`; the classifier takes `activation`, `kernel_init`,
      `bias_init` and `dtype` of them, too. The source has `activation=nn.softplus`, and weights
      that start near 0, `kernel_init=nn.initializers.normal(0.001)`: the labels decide first which
      class is which; larger weights may start from wrong classes and stay there.

  Returns:
    The conditional model, whose condition is y (K,), and q(y|x). Both read their part of one φ, so
    that `init_params` of the model makes all parameters.
  """
  shape: dict[str, Any] = dict(data_dim=data_dim, latent_dim=latent_dim, hidden_dim=hidden_dim)
  model = conditional_vae(likelihood, condition_dim=num_classes, **shape, **options)
  layers = (hidden_dim,) if isinstance(hidden_dim, int) else tuple(hidden_dim)
  of_network = {k: v for k, v in options.items() if k not in ("posterior", "prior")}
  family = one_hot(num_classes)
  return with_classifier(
    model, conditional(MLP(layers, family.sizes, **of_network), family, data_dim)
  )


def with_classifier(model: Model, classifier: Conditional) -> tuple[Model, Conditional]:
  """Returns a model and q(y|x) whose parameters are both in φ.

  Args:
    model: any model, such as a conditional one.
    classifier: q(y|x), such as a network and the family `one_hot(K)`.

  Returns:
    The same model and the same classifier for φ = {"encoder": φ of `model`, "classifier": the
    parameters of `classifier`}.
  """

  def init(key: Key) -> PyTree:
    encoder_key, classifier_key = jax.random.split(key)
    return {
      "encoder": model.encoder.init(encoder_key), "classifier": classifier.init(classifier_key)
    }  # fmt: skip

  encoder = Conditional(init, lambda phi, x: model.encoder.given(phi["encoder"], x))
  own = classifier._replace(given=lambda phi, x: classifier.given(phi["classifier"], x))
  return model._replace(encoder=encoder), own


def labelled_rows(x: Any, labels: Any, *, num_classes: int, copies: int = 1) -> np.ndarray:
  """Makes the rows (x, y) that `semi_supervised_bound` is trained on, on the host.

  Minibatches are drawn from all rows alike. Few labels among many images would be rare in them, and
  their gradient noisy, so that each labelled row may be there several times. The estimator divides
  its terms by that number, which keeps the objective the same.

  Args:
    x: the data set, shape (N, D): uint8 pixels, or floats.
    labels: N whole numbers from 0 to K − 1, and −1 for an example without a label.
    num_classes: K.
    copies: how many times each labelled row is there.

  Returns:
    Rows of the type of x, the unlabelled ones first, shape (N', D + K), N' = N_u + copies · N_l. y
    is one-hot, and 0 for an example without a label.

  Raises:
    ValueError: if there are no labels, a label is out of range, there are not as many labels as
      examples, or copies is not positive.
  """
  y = one_hot_labels(labels, num_classes, missing=True)
  if len(y) != len(x):
    raise ValueError(f"{len(y)} labels for {len(x)} examples; an example without a label takes -1")
  if copies < 1:
    raise ValueError(f"copies is {copies}, expected at least 1")
  known = np.any(y, axis=1)
  if not np.any(known):
    raise ValueError("all labels are -1, for none; semi-supervised learning takes a few labels")
  rows = np.concatenate([x, y.astype(np.asarray(x).dtype)], axis=1)
  return np.concatenate([rows[~known], *[rows[known]] * copies])


def keep_few_labels(labels: Any, num_labels: int, *, num_classes: int, seed: int) -> np.ndarray:
  """Keeps the same number of labels of each class, chosen at random, and removes the others.

  Source: Kingma, Rezende, Mohamed & Welling (2014), section 4.1.

  Args:
    labels: N whole numbers from 0 to K − 1.
    num_labels: how many labels to keep, a multiple of K.
    num_classes: K.
    seed: of the choice.

  Returns:
    The labels, shape (N,), −1 where removed.

  Raises:
    ValueError: if there are no labels, a label is out of range, num_labels is no positive multiple
      of K, or a class has not as many.
  """
  y = one_hot_labels(labels, num_classes)
  of_class, rest = divmod(num_labels, num_classes)
  if num_labels < 1 or rest or of_class > y.sum(axis=0, dtype=int).min():
    raise ValueError(
      f"num_labels is {num_labels}, expected a positive multiple of {num_classes} classes, of "
      f"which the smallest has {y.sum(axis=0, dtype=int).min()} examples"
    )
  rng, kept = np.random.default_rng(seed), np.full(len(y), -1)
  for k in range(num_classes):
    kept[rng.choice(np.flatnonzero(y[:, k]), of_class, replace=False)] = k
  return kept


def encoded(
  model: Model,
  params: Params,
  preprocess: Preprocess = scale,
  *,
  sample: bool = True,
  latents: Sequence[int] | None = None,
) -> Preprocess:
  """Makes a function from pixels to draws of q(z|x): the features of M1, and the x of M1+M2.

  Args:
    model: M1, any model of x.
    params: its parameters, which are not trained any further.
    preprocess: (key, pixels of one image) -> x of M1.
    sample: whether z is drawn, as M2 is trained; if not, z is the mean of q(z|x), as for a test.
    latents: which numbers of z are returned, such as those that `active_units` finds; None for all.

  Returns:
    A function (key, pixels) -> z, shape (J,) or that of `latents`, for `fit` and `evaluate`.
  """

  def features(key: Key, pixels: Array) -> Array:
    x_key, z_key = jax.random.split(key)
    q = model.encoder.given(params.phi, preprocess(x_key, pixels))
    z = q.sample(z_key) if sample else q.mean
    return z if latents is None else z[jnp.array(latents)]

  return features
