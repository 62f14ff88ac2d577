"""Weights & Biases and MLflow: local, unless the environment of the user names a server."""

import contextlib
import importlib
import logging
import numbers
import os
import pathlib
import time
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any

from aevb_jax import names
from aevb_jax.trackers.tracker import Tracker, note

PROJECT = "aevb_jax"


def wandb(
  workdir: pathlib.Path, name: str, config: dict[str, Any], *, project: str | None = None
) -> Tracker:
  """Follows a run with Weights & Biases, offline unless the environment sets WANDB_MODE.

  A run that is resumed has the same id. `wandb sync RUN/wandb/offline-run-*` uploads what was
  written offline. If the process was killed, some of its last rows may not be on disk: its
  directory is renamed to killed-*, and its rows are written again into the next directory.

  Args:
    workdir: the directory of the run, which gets a directory `wandb`.
    name: the name of the run.
    config: its configuration.
    project: its project; by default that of WANDB_PROJECT, or aevb_jax.
  """
  library = _wandb()
  known = note(workdir, "wandb")
  killed = pathlib.Path(known.get("open") or "none").name
  if killed.startswith("offline-run-"):
    with contextlib.suppress(OSError):
      (workdir / "wandb" / killed).rename(workdir / "wandb" / f"killed-{killed}")
  run = library.init(
    id=known.get("id") or note(workdir, "wandb", id=uuid.uuid4().hex[:8])["id"],
    resume="allow",
    name=name,
    config=config,
    project=project or os.environ.get("WANDB_PROJECT") or PROJECT,
    dir=str(workdir),
    mode=os.environ.get("WANDB_MODE") or "offline",
    reinit="create_new",  # the members of a sweep are followed at once
    # Otherwise it would replace sys.stdout, and print lines of its own.
    settings=library.Settings(console="off", silent=True),
  )

  note(workdir, "wandb", open=pathlib.Path(run.dir).parent.name)
  # A server says itself how far the run came.
  steps = [run.starting_step - 1 if run.resumed else known.get("step", -1)]

  def log(step: int, row: dict[str, float]) -> None:
    run.log(row, step=step, commit=True)  # otherwise it would be written only with the next row
    steps.append(step)

  def finish(summary: dict | None) -> None:
    run.summary.update(summary or {})
    run.finish(exit_code=int(summary is None))
    note(workdir, "wandb", step=steps[-1], open=None)

  return Tracker(log, finish, last=steps[0])


def _wandb() -> ModuleType:
  """Imports Weights & Biases; it reports no errors to its makers where it is offline."""
  if not os.environ.get("WANDB_MODE"):
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
  return _library("wandb", "init", install="wandb")


def mlflow(
  workdir: pathlib.Path, name: str, config: dict[str, Any], *, experiment: str = PROJECT
) -> Tracker:
  """Follows a run with MLflow, in a database of the run unless MLFLOW_TRACKING_URI is set.

  `mlflow ui --backend-store-uri=sqlite:///RUN/mlflow.db` shows the database.

  Args:
    workdir: the directory of the run, which gets the file mlflow.db.
    name: the name of the run.
    config: its configuration, which is tracked as parameters.
    experiment: the name of the experiment.
  """
  library, place, given = _mlflow(), workdir.resolve(), os.environ.get("MLFLOW_TRACKING_URI")
  client = library.MlflowClient(tracking_uri=given or f"sqlite:///{place / 'mlflow.db'}")
  entities, last = library.entities, -1
  run_id = note(workdir, "mlflow").get("id")
  try:
    client.update_run(run_id or "", "RUNNING")
    steps = [metric.step for metric in client.get_metric_history(run_id, "examples_seen")]
    last = max(steps, default=-1)
  except library.exceptions.MlflowException:  # the run is new, at least in this store
    found = client.get_experiment_by_name(experiment)
    artifacts = None if given else (place / "mlartifacts").as_uri()
    of = found.experiment_id if found else client.create_experiment(experiment, artifacts)
    run_id = client.create_run(of, run_name=name).info.run_id
    params = [entities.Param(key, str(value)) for key, value in config.items()]
    client.log_batch(run_id, params=params)
    note(workdir, "mlflow", id=run_id)

  def log(step: int, row: dict[str, float]) -> None:
    now = int(1000 * time.time())
    metrics = [entities.Metric(key, float(value), now, step) for key, value in row.items()]
    client.log_batch(run_id, metrics=metrics)

  def finish(summary: dict | None) -> None:
    if summary is None:
      return client.set_terminated(run_id, "KILLED")
    now = int(1000 * time.time())
    items = [(f"summary/{key}", value) for key, value in summary.items()]
    numeric = [(key, value) for key, value in items if isinstance(value, numbers.Real)]
    metrics = [entities.Metric(key, float(value), now, 0) for key, value in numeric]
    tags = [entities.RunTag(key, value) for key, value in items if isinstance(value, str)]
    client.log_batch(run_id, metrics=metrics, tags=tags)
    client.set_terminated(run_id, "FINISHED")

  return Tracker(log, finish, last)


def _mlflow() -> ModuleType:
  """Imports MLflow; it sends no statistics of its use where its store is local."""
  library_of = lambda *of: _library(*of, install="mlflow")
  if not os.environ.get("MLFLOW_TRACKING_URI"):
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    library_of("sqlalchemy", "create_engine")  # mlflow-skinny leaves out what databases take
    library_of("alembic", "op")
  library = library_of("mlflow", "MlflowClient")
  logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports every table that it makes
  return library


def _library(module: str, attribute: str, *, install: str) -> ModuleType:
  """Imports a library.

  Raises:
    ValueError: if it is not installed, which is also true if Python finds only a directory of its
      name: Weights & Biases leaves such directories.
  """
  how = f"pip install {install}"
  try:
    found = importlib.import_module(module)
  except ImportError as error:
    if isinstance(error, ModuleNotFoundError) and error.name == module:
      raise ValueError(f"needs {module}, which is not installed: {how}") from error
    raise ValueError(f"cannot import {module} ({names.one_line(error)}): {how}") from error
  if not hasattr(found, attribute):
    raise ValueError(f"needs {module}, which is not installed: {how}")
  return found


# The functions that import a library, by its name.
LIBRARIES: dict[str, Callable[[], ModuleType]] = dict(wandb=_wandb, mlflow=_mlflow)
