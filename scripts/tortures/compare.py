"""The comparison of two runs: every array, row and file, except what the clock decides."""

import contextlib
import csv
import json
import pathlib
import threading
import warnings
from collections.abc import Iterator

import jax
import numpy as np
from tortures.runs import checkpoint_names, steps

from aevb_jax.training.arrays_on_disk import held

OF_THE_CLOCK = ("seconds", "steps_per_second", "compile_seconds", "wall_seconds")
READING = threading.Lock()


def rows(file: pathlib.Path) -> list[dict[str, str]]:
  """Reads the rows of a table, without the columns of time."""
  with open(file, newline="") as text:
    table = list(csv.DictReader(text))
  return [{name: v for name, v in row.items() if name not in OF_THE_CLOCK} for row in table]


def record(workdir: pathlib.Path, step: int) -> dict:
  return json.loads((workdir / "checkpoints" / str(step) / "record" / "record.json").read_text())


def arrays(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
  """Reads the arrays of a checkpoint by their names, using only orbax."""
  import orbax.checkpoint as ocp

  path = (workdir / "checkpoints" / str(step) / "state").absolute()
  with READING, warnings.catch_warnings(), held(path) as path:
    warnings.simplefilter("ignore")  # orbax warns that it takes the placement from the file
    tree = ocp.PyTreeCheckpointer().restore(path)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return {
      jax.tree_util.keystr(path): np.asarray(jax.random.key_data(a) if is_key(a) else a)
      for path, a in leaves
    }


def left(workdir: pathlib.Path, *, pictures: bool = True) -> dict[str, object]:
  """Returns everything that a run has left, by name, except times."""
  found = dict(_left(workdir, pictures))
  for member in sorted(path.parent for path in workdir.glob("*/flags.txt")):
    found |= {f"{member.name}/{name}": value for name, value in _left(member, pictures)}
  return found


def _left(workdir: pathlib.Path, pictures: bool) -> Iterator[tuple[str, object]]:
  names = {p.name for p in workdir.iterdir() if "tfevents" not in p.name}
  yield "the names of its files", sorted(names - {"lock", "checkpoints-damaged"})
  yield "the number of event files", len(list(workdir.glob("*tfevents*")))
  yield "a checkpoint left half", [n for n in checkpoint_names(workdir) if not n.isdecimal()]
  for file in ("metrics.csv", "sweep.csv"):
    if (workdir / file).exists():
      yield file, rows(workdir / file)
  if (workdir / "summary.json").exists():
    summary = json.loads((workdir / "summary.json").read_text())
    yield (
      "summary.json",
      {k: v for k, v in summary.items() if k not in (*OF_THE_CLOCK, "git_commit")},
    )
  if saved := steps(workdir):
    yield "the last step", saved[-1]
    said = record(workdir, saved[-1])["record"]
    of_runs = {
      name: dict(
        run, rows=[{k: v for k, v in row.items() if k != "seconds"} for row in run["rows"]]
      )
      for name, run in said["runs"].items()
    }
    yield "the record", dict(runs=of_runs, sums=said["sums"], flags=said["flags"])
    try:
      yield from ((f"array {name}", a) for name, a in arrays(workdir, saved[-1]).items())
    except Exception as error:  # its kind depends on what is broken in which file
      reason = " ".join(str(error).split())[:120]
      yield "the arrays, which cannot be read", f"{type(error).__name__} {reason} in {workdir}"
  for picture in sorted(workdir.glob("*.png")) if pictures else ():
    yield picture.name, picture.read_bytes()


def differences(workdir: pathlib.Path, expected: pathlib.Path, *, rtol: float = 0.0) -> list[str]:
  """Lists how a run differs from another: bit by bit, or by more than a relative error."""
  if not workdir.exists():
    return ["nothing is there"]
  there, wanted = (left(path, pictures=not rtol) for path in (workdir, expected))
  different = [
    name
    for name in sorted(there.keys() | wanted.keys())
    if name not in there or name not in wanted or not _same(there[name], wanted[name], rtol)
  ]
  if not different:
    return []
  more = f" and {len(different) - 4} more" if len(different) > 4 else ""
  return [f"{workdir} differs from {expected} in {', '.join(different[:4])}{more}"]


def _same(value: object, other: object, rtol: float) -> bool:
  if isinstance(value, dict) and isinstance(other, dict):
    return value.keys() == other.keys() and all(_same(value[k], other[k], rtol) for k in value)
  if isinstance(value, list) and isinstance(other, list):
    return len(value) == len(other) and all(_same(*pair, rtol) for pair in zip(value, other))
  if isinstance(value, np.ndarray):
    if not rtol or not np.issubdtype(value.dtype, np.floating):
      return value.dtype == other.dtype and value.tobytes() == other.tobytes()
    return np.allclose(value, other, rtol=rtol, atol=rtol * np.abs(other).max(initial=0))
  if rtol and value != other:
    with contextlib.suppress(TypeError, ValueError):
      return bool(np.isclose(float(value), float(other), rtol=rtol, atol=0))
  return value == other or (value != value and other != other)
