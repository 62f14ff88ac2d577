"""Importing the package is cheap, and what it exposes is what its names say."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import aevb_jax

# Modules that only some runs need are imported where they are used.
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


def packages():
  yield aevb_jax
  for found in pkgutil.walk_packages(aevb_jax.__path__, "aevb_jax."):
    if found.ispkg:
      yield importlib.import_module(found.name)


@pytest.mark.parametrize("package", list(packages()), ids=lambda package: package.__name__)
def test_no_function_hides_the_module_of_its_name(package):
  for found in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"{package.__name__}.{found.name}")
    assert inspect.ismodule(getattr(package, found.name)), found.name


@pytest.mark.parametrize("package", list(packages()), ids=lambda package: package.__name__)
def test_a_room_says_what_is_in_it(package):
  modules = {found.name for found in pkgutil.iter_modules(package.__path__)}
  public = [name for name in vars(package) if not name.startswith("_") and name not in modules]
  assert package.__doc__ and public
