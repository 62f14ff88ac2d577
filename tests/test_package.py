"""Importing the package is cheap, and its public names are documented and hide no module."""

import ast
import importlib
import inspect
import pathlib
import pickle
import pkgutil
import pydoc
import subprocess
import sys

import jax
import pytest

import aevb_jax
from aevb_jax import types

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


def test_all_is_what_the_package_imports():
  """Rooms that the package itself does not import, such as `runs`, are not in `import *`."""
  tree = ast.parse(pathlib.Path(aevb_jax.__file__).read_text())
  imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
  imported = [alias.asname or alias.name for node in imports for alias in node.names]
  assert sorted(aevb_jax.__all__) == sorted([*imported, "__version__"])
  assert aevb_jax.__version__[0].isdigit()


TYPES = [kind for kind in vars(types).values() if hasattr(kind, "_fields")]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_help_tells_of_each_field_and_not_of_tuples(kind):
  text = pydoc.plain(pydoc.render_doc(kind))
  assert len(text.splitlines()) < 110 and "builtins.tuple:" not in text
  for field in kind._fields:
    about = getattr(kind, field).__doc__
    assert about and not about.startswith("Alias for"), field
    assert f"    {field}: {about[:40]}" in text and f"{field}\n |      {about}" in text


def test_types_are_still_tuples():
  params = types.Params({"w": 1.0}, phi=2.0)
  assert pickle.loads(pickle.dumps(params)) == params == ({"w": 1.0}, 2.0, ())
  assert jax.tree.map(lambda leaf: -leaf, params)._replace(phi=3) == ({"w": -1.0}, 3, ())
  assert type(jax.tree.map(lambda leaf: leaf, params)) is types.Params
  assert repr(params) == "Params(theta={'w': 1.0}, phi=2.0, psi=())"
