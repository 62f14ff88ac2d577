"""The libraries that the suite runs on."""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import NamedTuple


class Library(NamedTuple):
  """A library, and how to find it.

  Attributes:
    title: its name in the table.
    packages: the names that pip may know it by; the first that is installed gives the version.
    needs: a module without which it does not run.
    module: the part of this folder that runs it.
    evaluate: the function there.
    precisions: those in which it computes.
  """

  title: str
  packages: tuple[str, ...]
  needs: str
  module: str
  evaluate: str = "evaluate"
  precisions: tuple[str, ...] = ("float64", "float32")

  def version(self) -> str:
    for package in self.packages:
      try:
        return importlib.metadata.version(package)
      except importlib.metadata.PackageNotFoundError:
        continue
    return ""

  def is_there(self) -> bool:
    try:
      importlib.import_module(self.needs)
    except (ImportError, AttributeError):  # AttributeError: made for another version of JAX
      return False
    return True

  def run(self) -> Callable[[list[dict], str], list[dict]]:
    return getattr(importlib.import_module(f"conformances.{self.module}"), self.evaluate)


LIBRARIES = {
  "aevb_jax": Library("aevb_jax", ("aevb_jax",), "aevb_jax", "ours"),
  "scipy": Library("SciPy", ("scipy",), "scipy.stats", "scipy_peer", precisions=("float64",)),
  "numpyro": Library(
    "NumPyro", ("numpyro",), "numpyro.distributions", "jax_peers", "evaluate_numpyro"
  ),
  "tfp": Library(
    "TensorFlow Probability (JAX)",
    ("tensorflow-probability", "tfp-nightly"),
    "tensorflow_probability.substrates.jax",
    "jax_peers",
    "evaluate_tfp",
  ),
  "distrax": Library("distrax", ("distrax",), "distrax", "jax_peers", "evaluate_distrax"),
  "torch": Library("PyTorch", ("torch",), "torch.distributions", "torch_peer"),
}
