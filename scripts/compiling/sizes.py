"""The sizes at which the members of the table are compiled."""

from typing import NamedTuple


class Sizes(NamedTuple):
  """The sizes of a model, of its data and of its training, in the paper's letters."""

  image_shape: tuple[int, int, int] = (28, 28, 1)  # (H, W, C); D = H·W·C
  latent_dim: int = 20  # J
  hidden_dim: int = 500
  num_data: int = 50_000  # N
  batch_size: int = 128  # M
  num_samples: int = 50  # K of importance-weighted estimators
  num_steps: int = 250  # training steps of a compiled loop
  num_members: int = 16  # S of a sweep
  num_points: int = 1000  # data points of an evaluation
  importance_samples: int = 5000  # K of an estimate of log p(x)
  num_temperatures: int = 500
  num_leapfrogs: int = 10
  num_chains: int = 32
  context: int = 64  # of flows, and the units of their networks

  @property
  def data_dim(self) -> int:
    height, width, channels = self.image_shape
    return height * width * channels


SMALL = Sizes(
  image_shape=(7, 7, 1),
  latent_dim=3,
  hidden_dim=6,
  num_data=32,
  batch_size=8,
  num_samples=4,
  num_steps=5,
  num_members=2,
  num_points=8,
  importance_samples=6,
  num_temperatures=4,
  num_leapfrogs=2,
  num_chains=4,
  context=4,
)
