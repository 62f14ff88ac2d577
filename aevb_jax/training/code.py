"""The version of the code as checkpoints record it: its text, libraries and random generator."""

import hashlib
import importlib.metadata
import pathlib
from collections.abc import Collection, Sequence

import jax

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "blackjax")
PACKAGE = pathlib.Path(__file__).parents[1]


def about_code(sources: Collection[str] = ()) -> dict:
  """Returns the code, libraries and generator that a run's numbers depend on, as JSON holds them.

  Args:
    sources: files outside this package, such as the file of a user's estimator.
  """
  return dict(
    code=_digest(sorted(PACKAGE.rglob("*.py")) + sorted(map(pathlib.Path, sources))),
    versions={name: importlib.metadata.version(name) for name in LIBRARIES},
    generator=generator(),
  )


def generator() -> str:
  """Names JAX's random generator and the settings that change what is drawn."""
  settings = ("jax_threefry_partitionable", "jax_enable_x64")
  chosen = [name for name in settings if getattr(jax.config, name)]
  return " ".join([str(jax.config.jax_default_prng_impl), *chosen])  # type: ignore[attr-defined]


def changes(before: dict, now: dict) -> list[str]:
  """Describes in words what has changed among the entries that both records have."""
  differ = lambda old, new: [name for name in new if old.get(name, new[name]) != new[name]]
  different = differ(before, now)
  said = ["its code was edited"] * ("code" in different)
  if "versions" in different:
    old, new = before["versions"], now["versions"]
    said += [f"{name} was {old[name]} and is {new[name]}" for name in differ(old, new)]
  if "generator" in different:
    said.append(f"the random generator was {before['generator']} and is {now['generator']}")
  if "data" in different:
    said.append(f"its data set was of version {before['data']} and is of {now['data']}")
  return said


def _digest(files: Sequence[pathlib.Path]) -> str:
  digest = hashlib.sha256()
  for file in files:
    digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
  return digest.hexdigest()[:16]
