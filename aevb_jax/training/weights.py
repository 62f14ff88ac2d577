"""Trained parameters as one small file of arrays by name, without pickle."""

import os
import zipfile

import jax
import numpy as np

from aevb_jax import disk
from aevb_jax.errors import CheckpointError
from aevb_jax.types import PyTree


def named(params: PyTree) -> dict[str, jax.Array]:
  """Returns the arrays of parameters by their names, such as theta/hidden_0/kernel.

  Args:
    params: a tree of arrays.

  Raises:
    ValueError: if two arrays have the same name.
  """
  leaves = jax.tree_util.tree_leaves_with_path(params)
  found = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
  if len(found) < len(leaves):
    raise ValueError("two arrays of the parameters have the same name")
  return found


def write(path: str | os.PathLike, params: PyTree, *, half: bool = False) -> None:
  """Writes parameters as a compressed .npz file, from which `read` reads them.

  Args:
    path: the file; a file of this name is replaced.
    params: a tree of arrays.
    half: True to round to float16, which halves the file and has three significant digits.

  Raises:
    ValueError: if an array has a number that is not finite in the file's precision.
    OSError: if the file cannot be written.
  """
  arrays = {name: np.asarray(leaf) for name, leaf in named(params).items()}
  if half:
    floats = lambda array: np.issubdtype(array.dtype, np.floating)
    with np.errstate(over="ignore"):
      arrays = {k: v.astype(np.float16) if floats(v) else v for k, v in arrays.items()}
  for name, array in arrays.items():
    if not np.isfinite(array).all():
      raise ValueError(f"{name} has numbers that are not finite in {array.dtype}")
  with disk.create(path, "wb") as file:
    np.savez_compressed(file, **arrays)


def read(path: str | os.PathLike, like: PyTree) -> PyTree:
  """Reads parameters that `write` wrote.

  Args:
    path: the file.
    like: a tree with the structure, shapes and types of the parameters, such as `jax.eval_shape`
      gives.

  Returns:
    The parameters, in the types of `like`.

  Raises:
    CheckpointError: if the file cannot be read, or is of other parameters; the message names the
      first array that differs.
  """
  try:
    with disk.read(path, "rb") as file, np.load(file, allow_pickle=False) as there:
      arrays = {name: there[name] for name in there.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
    what = " ".join(str(error).split())
    raise CheckpointError(f"{path} cannot be read ({what})") from error
  shapes = named(like)
  for name in sorted(shapes.keys() ^ arrays.keys()):
    where = "is not in the model" if name in arrays else "is missing"
    raise CheckpointError(f"{path} holds other parameters: {name} {where}")
  for name, leaf in shapes.items():
    if arrays[name].shape != leaf.shape:
      raise CheckpointError(
        f"{path} holds other parameters: {name} has shape {arrays[name].shape} there, and "
        f"{leaf.shape} in the model"
      )
  leaves = [np.asarray(arrays[name], leaf.dtype) for name, leaf in shapes.items()]
  return jax.tree.unflatten(jax.tree.structure(like), map(jax.numpy.asarray, leaves))
