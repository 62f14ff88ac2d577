"""Importing the package is cheap."""

import subprocess
import sys


def test_import_is_light():
  # What only some runs need is imported where it is used.
  program = """
import sys
import jax, flax.linen, optax
before = set(sys.modules)
import aevb_jax
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*new - sys.stdlib_module_names)
"""
  result = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  )
  assert set(result.stdout.split()) == {"aevb_jax"}
