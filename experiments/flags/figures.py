"""The flags of mains that draw a figure from runs of experiments.train."""

import dataclasses
import pathlib
import sys
from typing import Any, NamedTuple

from absl import app, flags

from aevb_jax.runs import directory
from aevb_jax.runs.config import NOT_COMPARED
from experiments.flags import budgets, data, resuming  # noqa: F401 (defines --overwrite)
from experiments.flags.reading import read
from experiments.launch.command import UsageError

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # flags defined here belong to the module that defines them


@dataclasses.dataclass(frozen=True)
class Budget:
  """The amount of computation, and the places of the data."""

  budget: str = "cpu"
  data_dir: str | None = dataclasses.field(default=None, metadata=NOT_COMPARED)
  manual_dir: str | None = dataclasses.field(default=None, metadata=NOT_COMPARED)
  mirror: str | None = dataclasses.field(default=None, metadata=NOT_COMPARED)


class Figure(NamedTuple):
  """The directories of a figure and of the runs that it is made of."""

  workdir: pathlib.Path
  runs: pathlib.Path
  budget: str
  places: list[str]  # flags that say where data and caches are
  overwrite: bool = False  # whether runs and figures with other flags are set aside


def define(name: str, made_of: budgets.Budgets) -> None:
  """Defines the flags of a main that draws the figure of this name from runs."""
  budgets.define(made_of)
  flags.DEFINE_string(
    "workdir", f"runs/{name}", "Directory for the figure, its numbers and how it was made."
  )
  flags.DEFINE_string(
    "runs", None, "Directory of the training runs, which figures may share. Default: WORKDIR/runs."
  )
  for name in (*data.PLACES, "overwrite"):
    flags.declare_key_flag(name)


def settings(kind: type, made_of: budgets.Budgets) -> tuple[Figure, Any]:
  """Reads where a figure goes, and the dataclass that says what it is made of.

  Raises:
    UsageError: for flags of experiments.train that the main sets itself.
  """
  budgets.resolve(made_of)
  main = sys.modules["__main__"]
  own = {flag.name for flag in FLAGS.get_key_flags_for_module(main)}
  own |= {flag.name for flag in FLAGS.get_key_flags_for_module(app)}
  for name in FLAGS:
    module = FLAGS.find_module_defining_flag(name)
    if FLAGS[name].present and name not in own and module.startswith("experiments."):
      raise UsageError(name, "is set by this main itself; --help lists the flags that it takes")
  workdir = pathlib.Path(FLAGS.workdir).expanduser()
  runs = pathlib.Path(FLAGS.runs).expanduser() if FLAGS.runs else workdir / "runs"
  figure = Figure(workdir, runs, FLAGS.budget, data.place_flags(), FLAGS.overwrite)
  return figure, read(kind)


def may_continue(figure: Figure, *configs: Any) -> bool:
  """Reports whether what the directory of a figure holds, if anything, has these flags.

  Raises:
    ConfigError: if it holds a figure with other flags, unless --overwrite sets that one aside.
  """
  configs = [*configs, read(Budget)]
  return not directory.refuse_others(figure.workdir, configs, figure.overwrite)


def open_workdir(figure: Figure, *configs: Any) -> pathlib.Path:
  """Makes and locks the directory of the figure, after `jobs.check` found no mistake.

  Files of the same figure that are there already stay.
  """
  configs = [*configs, read(Budget)]
  return directory.open_figure(figure.workdir, configs, overwrite=figure.overwrite)
