"""Importing the package is cheap."""

import subprocess
import sys

# What only some runs need is imported where it is used.
HEAVY = {
  "PIL",
  "grain",
  "matplotlib",
  "orbax",
  "requests",
  "sklearn",
  "tensorboardX",
  "tensorflow",
  "tensorflow_datasets",
  "tqdm",
}


def test_import_is_light():
  program = """
import sys
import jax, flax.linen, optax
before = set(sys.modules)
import aevb_jax
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
  result = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  )
  imported = set(result.stdout.split())
  assert "aevb_jax" in imported and not imported & HEAVY
