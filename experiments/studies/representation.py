"""What simple classifiers make of latents, of pixels, and of principal components."""

import math
import warnings
from typing import NamedTuple

import numpy as np

from aevb_jax.runs import LoadedRun
from aevb_jax.runs.pixels import points
from aevb_jax.training.evaluation import Mean, evaluate_in_blocks
from aevb_jax.types import Array, Key, Params

NEAREST = 5  # of the nearest neighbours' vote
PENALTIES = (0.01, 0.1, 1.0, 10.0)  # C of the logistic regression, chosen on labels held out
HELD_OUT = 5000  # labelled images at most that it is chosen on, a fifth of them held out


class Features(NamedTuple):
  """A representation of the training and of the test images."""

  train: np.ndarray  # (N, number of features)
  test: np.ndarray


def represent(key: Key, run: LoadedRun) -> dict[str, Features]:
  """Returns pixels, as many principal components as there are latents, and the means of q(z|x).

  All are of the same x, one draw where they are binarized.
  """

  def both(key: Key, params: Params, x: Array) -> tuple[Array, Array]:
    return x, run.model.encoder.given(params.phi, x).mean

  of = {}
  for split in ("train", "test"):
    source, reading = points(run.pixels, split)
    of[split] = evaluate_in_blocks(both, key, run.params, np.asarray(source), **reading)
  x, z = (Features(of["train"][i], of["test"][i]) for i in range(2))
  return {"pixels": x, "pca": pca(x, z.train.shape[1]), "latents": z}


def pca(x: Features, num_components: int) -> Features:
  """The first principal components of the training images."""
  mean = x.train.mean(axis=0, dtype=np.float64)
  covariance = np.cov(x.train, rowvar=False, dtype=np.float64)
  axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :num_components]
  return Features(*(((values - mean) @ axes).astype(np.float32) for values in x))


def standardized(features: Features) -> Features:
  """Scaled to a variance of 1 in the mean over features, so that a penalty on the weights of a
  classifier means the same for each representation."""
  mean = features.train.mean(axis=0, dtype=np.float64)
  std = math.sqrt(features.train.var(axis=0, dtype=np.float64).mean())
  return Features(*(((values - mean) / std).astype(np.float32) for values in features))


def linear_probe(features: Features, labels: np.ndarray, test_labels: np.ndarray) -> Mean:
  """Test accuracy of logistic regression on the first len(labels) training images."""
  train, test = standardized(features)
  train, n = train[: len(labels)], min(len(labels), HELD_OUT)
  fit = n - n // 5
  tried = {
    C: accuracy(_logistic(C, train[:fit], labels[:fit]).predict(train[fit:n]), labels[fit:n]).value
    for C in PENALTIES
  }
  # As many labels as are learned from weigh in the same way against the penalty.
  C = max(tried, key=tried.get) * fit / len(labels)
  return accuracy(_logistic(C, train, labels).predict(test), test_labels)


def _logistic(C: float, x: np.ndarray, labels: np.ndarray):
  from sklearn.exceptions import ConvergenceWarning
  from sklearn.linear_model import LogisticRegression

  with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # close enough
    return LogisticRegression(C=C, max_iter=100).fit(x, labels)


def nearest_neighbours(features: Features, labels: np.ndarray, test_labels: np.ndarray) -> Mean:
  """Test accuracy of the vote of the nearest among the first len(labels) training images."""
  from sklearn.neighbors import KNeighborsClassifier

  classifier = KNeighborsClassifier(NEAREST, algorithm="brute")
  classifier.fit(features.train[: len(labels)], labels)
  return accuracy(classifier.predict(features.test), test_labels)


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> Mean:
  """The share that is right, and the binomial standard error of it."""
  share = float(np.mean(predicted == labels))
  return Mean(share, math.sqrt(share * (1 - share) / len(labels)))
