"""The table of published numbers beside ours."""

import math

from pages.results import bound_of, conv_row, curve_rows, number, summary, table, with_error

INDEPENDENT = "an independent program in numpy"
# The authors, the task, their number, ours, and how our run differs; its protocol is like theirs.
ROWS = [
  (
    INDEPENDENT,
    "MNIST, J = 20, figure 2 after 10⁶ samples",
    "−115.3",
    lambda: curve("mnist", 20, 10**6),
    "",
  ),
  (INDEPENDENT, "MNIST, J = 3, after 3·10⁵", "−163.7", lambda: curve("mnist", 3, 3 * 10**5), ""),
  (
    INDEPENDENT,
    "Frey Face, J = 20, after 10⁶",
    "1,128",
    lambda: curve("frey_face:random", 20, 10**6),
    "the step size: 0.01 by the rule, theirs 0.02",
  ),
  (
    INDEPENDENT,
    "Frey Face, J = 2, after 10⁶",
    "806",
    lambda: curve("frey_face:random", 2, 10**6),
    "the same",
  ),
  (
    "another, with Flax's initialization",
    "MNIST, J = 20, pixels drawn at each use, Adam 0.001, after 1.02·10⁶",
    "−102.2",
    lambda: of_summary("mnist_adam", "test_bound"),
    "50000 training images, theirs 60000",
  ),
  (
    "Flax, `examples/vae`",
    "MNIST, J = 20, pixels drawn once, Adam 0.001, 10 epochs; 21 epochs",
    "−104; −101.5",
    lambda: of_summary("mnist_adam", "test_bound"),
    "20 epochs; pixels drawn at each use; tanh, theirs ReLU",
  ),
  (
    "TensorFlow, CVAE tutorial",
    "MNIST, thresholded, convolutions, J = 2, 10 epochs",
    "−155.9",
    lambda: conv_loss(10),
    "estimator B, theirs A; 10.5 epochs",
  ),
  (
    "Grathwohl et al. (2019), table 3, no flow",
    "Frey Face, bits per dimension",
    "4.53 ± 0.02",
    lambda: bits_per_dim(end_of_curve("frey_face:random", 20)),
    "one layer of 200; a density of p/256 and not of 256 levels; another split",
  ),
  (
    "Burda et al. (2015), table 1, k = 1",
    "MNIST, J = 50, log p(x) by 5000 samples",
    "−86.76",
    lambda: of_summary("mnist_vae", "test_log_likelihood"),
    "50000 images in minibatches of 100, theirs 60000 and 20; 40 epochs at one step size, theirs "
    "3280 of falling ones; see the table above",
  ),
]


def published() -> list[str]:
  """Makes the table of published test bounds, in nats, beside our bounds."""
  header = ["who", "what", "theirs", "ours", "where ours differs"]
  return table(header, [[who, what, theirs, ours(), why] for who, what, theirs, ours, why in ROWS])


def curve(dataset: str, latent_dim: int, examples: int) -> str:
  """Returns the test bound of AEVB in figure 2, at the row nearest to this number of samples."""
  rows = curve_rows(dataset, latent_dim)
  return bound_of(min(rows, key=lambda row: abs(row["examples_seen"] - examples)))


def end_of_curve(dataset: str, latent_dim: int) -> float:
  return curve_rows(dataset, latent_dim)[-1]["test_bound"]


def bits_per_dim(nats: float) -> str:
  """Converts a log-density of 28×20 pixels p/256 to bits per pixel."""
  return number(math.log2(256) - nats / 560 / math.log(2), 2)


def of_summary(name: str, value: str) -> str:
  found = summary(name)
  return with_error(found[value], found[f"{value}_se"])


def conv_loss(epochs: float) -> str:
  """Returns the test loss of the convolutional VAE, which is minus its bound."""
  row = conv_row(epochs)
  return with_error(-float(row["test_loss"]), float(row["test_loss_se"]))
