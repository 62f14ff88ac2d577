"""The processes of a cluster: the process that writes, and values that all processes agree on."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_first() -> bool:
  """Reports whether this is the process that writes; a single process always is."""
  return jax.process_index() == 0


def wait_for_all(name: str) -> None:
  """Returns when all processes have reached the point of this name."""
  multihost_utils.sync_global_devices(name)


def of_first(value: np.ndarray) -> np.ndarray:
  """Returns the first process's array to all processes; each passes an array of the same shape."""
  return np.asarray(multihost_utils.broadcast_one_to_all(value))


def highest(*values: int) -> list[int]:
  """Returns for each argument the highest of the values that the processes pass."""
  if jax.process_count() == 1:
    return list(values)
  return multihost_utils.process_allgather(np.asarray(values)).max(axis=0).tolist()
