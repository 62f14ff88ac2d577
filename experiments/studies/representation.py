"""Simple classifiers of latents, of pixels, and of principal components."""

import math
import warnings
from typing import NamedTuple

import numpy as np

from aevb_jax.runs import LoadedRun
from aevb_jax.training.evaluation import Mean, evaluate_in_blocks
from aevb_jax.types import Array, Key, Params

NEAREST = 5  # neighbours that vote
PENALTIES = (0.01, 0.1, 1.0, 10.0)  # C of the logistic regression, chosen on labels held out
HELD_OUT = 5000  # C is chosen on at most this many labelled images, a fifth of them held out


class Features(NamedTuple):
  """A representation of the training and of the test images."""

  train: np.ndarray  # (N, number of features)
  test: np.ndarray


def represent(key: Key, run: LoadedRun) -> dict[str, Features]:
  """Returns pixels, as many principal components as there are latents, and the means of q(z|x).

  All representations are of the same x, one draw if the images are binarized.
  """
  pixels = run.pixels

  def both(key: Key, params: Params, x: Array) -> tuple[Array, Array]:
    return x, run.model.encoder.given(params.phi, x).mean

  of = {}
  for split, source, draw in (
    ("train", np.asarray(pixels.train), pixels.train_draw),
    ("test", pixels.test, pixels.test_draw),
  ):
    how = dict(preprocess=pixels.preprocess, static_key=draw)
    of[split] = evaluate_in_blocks(both, key, run.params, source, **how)
  x, z = (Features(of["train"][i], of["test"][i]) for i in range(2))
  return {"pixels": x, "pca": pca(x, z.train.shape[1]), "latents": z}


def pca(x: Features, num_components: int) -> Features:
  """Projects images on the first principal components of the training images."""
  mean = x.train.mean(axis=0, dtype=np.float64)
  covariance = np.cov(x.train, rowvar=False, dtype=np.float64)
  axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :num_components]
  return Features(*(((values - mean) @ axes).astype(np.float32) for values in x))


def standardized(features: Features) -> Features:
  """Scales features to a variance of 1, averaged over features.

  A penalty on the weights of a classifier then means the same for each representation.
  """
  mean = features.train.mean(axis=0, dtype=np.float64)
  std = math.sqrt(features.train.var(axis=0, dtype=np.float64).mean())
  return Features(*(((values - mean) / std).astype(np.float32) for values in features))


def linear_probe(features: Features, labels: np.ndarray, test_labels: np.ndarray) -> Mean:
  """Returns the test accuracy of logistic regression on the first len(labels) training images."""
  train, test = standardized(features)
  train, n = train[: len(labels)], min(len(labels), HELD_OUT)
  fit = n - n // 5
  tried = {
    C: accuracy(_logistic(C, train[:fit], labels[:fit]).predict(train[fit:n]), labels[fit:n]).value
    for C in PENALTIES
  }
  # C is scaled so that the penalty weighs the same against all labels as against those tried.
  C = max(tried, key=tried.get) * fit / len(labels)
  return accuracy(_logistic(C, train, labels).predict(test), test_labels)


def _logistic(C: float, x: np.ndarray, labels: np.ndarray):
  from sklearn.exceptions import ConvergenceWarning
  from sklearn.linear_model import LogisticRegression

  with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # close enough
    return LogisticRegression(C=C, max_iter=100).fit(x, labels)


def nearest_neighbours(features: Features, labels: np.ndarray, test_labels: np.ndarray) -> Mean:
  """Returns the test accuracy of a vote of the nearest among the first len(labels) images."""
  from sklearn.neighbors import KNeighborsClassifier

  classifier = KNeighborsClassifier(NEAREST, algorithm="brute")
  classifier.fit(features.train[: len(labels)], labels)
  return accuracy(classifier.predict(features.test), test_labels)


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> Mean:
  """Returns the share that is right, and its binomial standard error."""
  share = float(np.mean(predicted == labels))
  return Mean(share, math.sqrt(share * (1 - share) / len(labels)))
