"""Inpainting, super-resolution and denoising of binary images, and how well each method does.

Every method, simple or not, gives P(x = 1) for every pixel that y leaves open. These probabilities
are compared with pixels of x that no method has seen.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from tqdm import tqdm

from aevb_jax.families.base import distribution
from aevb_jax.families.binary import Bernoulli, bernoulli
from aevb_jax.inference import missing
from aevb_jax.inference.evidence import (
  Evidence,
  block_sums,
  flipped,
  observed,
  spread_blocks,
  sum_blocks,
)
from aevb_jax.runs import LoadedRun
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import Mean, evaluate_in_blocks, mean_and_standard_error
from aevb_jax.types import Array, Key, Params

# No method may be more certain than this, or a single pixel would outweigh all the others.
FLOOR = 1e-4
NEIGHBOURS = (1, 10)  # training images that are averaged
SHOWN = 8  # test images that are drawn


class Task(NamedTuple):
  """A way to corrupt x, and the information that is used to restore it."""

  name: str
  words: str
  corrupt: Callable[[Key, Array], Array]  # (key, x) -> y
  evidence: Callable[[Array], Evidence]  # y -> its information about x
  known: Callable[[np.ndarray], np.ndarray]  # images (n, D) -> the part that can be compared with y
  scored: np.ndarray  # (D,), the pixels that y leaves open
  picture: Callable[[np.ndarray], np.ndarray]  # ys (n, ...) -> images (n, D)
  simple: Callable[[np.ndarray], dict[str, np.ndarray]]  # ys -> P(x = 1) by this task's own methods


class Sampling(NamedTuple):
  """The amount of sampling: transitions of HMC, and of Gibbs for the same work."""

  num_chains: int
  num_burn_in: int
  num_samples: int
  num_leapfrogs: int


class Completed(NamedTuple):
  """The completions of n test images."""

  mean: np.ndarray  # (n, D), P(x = 1 | y)
  few: np.ndarray  # (n, C, D), P(x = 1 | y, z) for a z ~ p(z|y) of every chain
  y: np.ndarray
  acceptance: float
  seconds: float


def inpainting(image_shape: tuple[int, int, int]) -> Task:
  """Makes the task in which the lower half is missing."""
  height, width, channels = image_shape
  is_known = np.zeros(image_shape, bool)
  is_known[: height // 2] = True
  is_known = is_known.ravel()
  (index,) = np.nonzero(is_known)
  whole = lambda y: jnp.zeros(is_known.size, y.dtype).at[index].set(y)

  def picture(y: np.ndarray) -> np.ndarray:
    images = np.full((len(y), is_known.size), 0.5)
    images[:, is_known] = y
    return images

  return Task(
    "inpainting",
    "lower half missing",
    corrupt=lambda key, x: x[index],
    evidence=lambda y: observed(whole(y), jnp.asarray(is_known)),
    known=lambda x: x[:, is_known],
    scored=~is_known,
    picture=picture,
    simple=lambda y: {},
  )


def super_resolution(image_shape: tuple[int, int, int], block: int) -> Task:
  """Makes the task in which only the sum of every square of pixels is known."""
  height, width, channels = image_shape
  how = dict(image_shape=image_shape, block=block)
  spread = jax.vmap(functools.partial(spread_blocks, **how))

  def interpolated(y: np.ndarray) -> np.ndarray:
    squares = (height // block, width // block, channels)
    means = jnp.asarray(y).reshape(-1, *squares) / block**2
    fine = jax.image.resize(means, (len(y), *image_shape), "linear")
    return np.asarray(fine.reshape(len(y), -1))

  return Task(
    "super-resolution",
    f"sums of {block}×{block} pixels known",
    corrupt=lambda key, x: sum_blocks(x, **how),
    evidence=lambda y: block_sums(y, **how),
    known=lambda x: np.asarray(jax.vmap(functools.partial(sum_blocks, **how))(x)),
    scored=np.ones(height * width * channels, bool),
    picture=lambda y: np.asarray(spread(y)) / block**2,
    simple=lambda y: {"linear interpolation": interpolated(y)},
  )


def denoising(image_shape: tuple[int, int, int], probability: float) -> Task:
  """Makes the task in which every pixel was flipped with a known probability."""

  def median(y: np.ndarray) -> np.ndarray:
    size = (1, 3, 3, 1)
    return scipy.ndimage.median_filter(y.reshape(-1, *image_shape), size).reshape(len(y), -1)

  return Task(
    "denoising",
    f"{probability:.0%} of pixels flipped",
    corrupt=lambda key, x: jnp.where(jax.random.bernoulli(key, probability, x.shape), 1 - x, x),
    evidence=lambda y: flipped(y, probability),
    known=lambda x: x,
    scored=np.ones(np.prod(image_shape), bool),
    picture=lambda y: y,
    simple=lambda y: {"3×3 median": median(y)},
  )


def complete(
  key: Key, task: Task, method: str, run: LoadedRun, *, num_points: int, sampling: Sampling
) -> Completed:
  """Completes the first test images by a model; the same key gives the same ys."""
  began, model, complete_one = time.perf_counter(), run.model, method_of(method, sampling)

  def one(key: Key, params: Params, x: Array) -> tuple[Array, ...]:
    corrupt_key, key = jax.random.split(key)
    y = task.corrupt(corrupt_key, x)
    evidence = task.evidence(y)
    drawn = complete_one(key, model, params, evidence)
    given = lambda z: evidence.mean(model.decoder.given(params.theta, z))
    return drawn.mean, jax.vmap(given)(drawn.z[:, -1]), y, drawn.acceptance

  block = -(-num_points // -(-num_points // 250))  # so that the parts have equal sizes
  few, reading = points(run.pixels, "test", num_points)
  with tqdm(total=num_points, unit=" images", desc=f"{task.name}, {method}", disable=None) as bar:
    blocks = dict(block_size=block, batch_size=50, progress=bar.update)
    mean, few, y, acceptance = evaluate_in_blocks(one, key, run.params, few, **blocks, **reading)
  return Completed(mean, few, y, float(acceptance.mean()), time.perf_counter() - began)


def method_of(name: str, sampling: Sampling) -> Callable:
  """Returns a function (key, model, params, evidence) -> the draws for one image."""
  gibbs = functools.partial(missing.complete_by_gibbs, **in_gibbs(sampling))
  return {
    "hmc": functools.partial(missing.complete_by_hmc, **sampling._asdict()),
    "gibbs": gibbs,
    "pseudo_gibbs": functools.partial(gibbs, corrected=False),
  }[name]


def in_gibbs(sampling: Sampling) -> dict[str, int]:
  """Returns the numbers of transitions of Gibbs sampling for about the same work as HMC.

  A transition is three passes through a network, about as much as a leapfrog step.
  """
  return dict(
    num_chains=sampling.num_chains,
    num_burn_in=sampling.num_burn_in * sampling.num_leapfrogs,
    num_samples=sampling.num_samples * sampling.num_leapfrogs,
  )


def baselines(task: Task, y: np.ndarray, train: np.ndarray) -> dict[str, np.ndarray]:
  """Computes P(x = 1|y) by methods without a model, shape (n, D) each.

  The pixels are independent, with probabilities from the training images `train` (N, D) in [0, 1].
  They use the same information about x in y as the models do.
  """

  @jax.jit
  def posterior(y: Array, prior: Array) -> Array:
    def one(y: Array, prior: Array) -> Array:
      logits = _logit(jnp.clip(prior, FLOOR, 1 - FLOOR))
      return task.evidence(y).mean(distribution(bernoulli(logits.size), Bernoulli(logits)))

    return jax.vmap(one)(y, prior)

  of_pixels = np.broadcast_to(train.mean(axis=0, dtype=np.float64), (len(y), train.shape[1]))
  priors = {"pixel means": of_pixels.astype(train.dtype)}
  nearest = neighbours(task.known(train), y, max(NEIGHBOURS))
  for k in NEIGHBOURS:
    total = sum(train[nearest[:, i]] for i in range(k)) + priors["pixel means"]
    name = "nearest training image" if k == 1 else f"{k} nearest training images"
    priors[name] = total / (k + 1)  # the means count as one more image, so that no pixel is certain
  if not task.scored.all():
    return {name: np.asarray(posterior(y, prior)) for name, prior in priors.items()}
  priors = {"y alone": np.full_like(priors["pixel means"], 0.5)} | priors
  return {name: np.asarray(posterior(y, prior)) for name, prior in priors.items()} | task.simple(y)


def _logit(p: Array) -> Array:
  return jnp.log(p) - jnp.log1p(-p)


def neighbours(known: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
  """Returns the indices (n, k) of the k rows of known (N, K) nearest to every row of y (n, K)."""
  squares = np.sum(known**2, axis=1)
  found = []
  for part in np.array_split(y, max(1, len(y) // 100)):
    distance = squares - 2 * part @ known.T
    some = np.argpartition(distance, k, axis=1)[:, :k]
    order = np.argsort(np.take_along_axis(distance, some, axis=1), axis=1)
    found.append(np.take_along_axis(some, order, axis=1))
  return np.concatenate(found)


def scores(mean: np.ndarray, x: np.ndarray, scored: np.ndarray) -> dict[str, Mean]:
  """Averages scores over the scored pixels of an image, and then over images, with standard errors.

  log_prob is log P(x_d|y) in nats a pixel, for methods that give probabilities; wrong is the share
  of pixels whose more probable value is wrong; squared_error is the error of P(x_d = 1|y), squared.
  """
  p, x = np.asarray(mean, np.float64)[:, scored], np.asarray(x)[:, scored] > 0.5
  scores = dict(wrong=(p > 0.5) != x, squared_error=(p - x) ** 2)
  if np.any((p > 0) & (p < 1)):
    held = np.clip(p, FLOOR, 1 - FLOOR)
    scores = dict(log_prob=np.log(np.where(x, held, 1 - held))) | scores
  return {name: mean_and_standard_error(values.mean(axis=1)) for name, values in scores.items()}
