"""Trackers: TensorBoard, Weights & Biases, MLflow, or your own, which follow the rows of a run.

`find` finds trackers by their names, and `tracking` passes runs to them. A tracker is a function
that starts to follow one run, (workdir, name, config) -> `Tracker`. `tensorboard`, `wandb` and
`mlflow` are such functions; package.module:function names one of yours, which may keep what it has
to remember by `note`.
"""

from aevb_jax.trackers.event_files import tensorboard
from aevb_jax.trackers.following import Start, Tracking, find, tracking
from aevb_jax.trackers.libraries import mlflow, wandb
from aevb_jax.trackers.tracker import Tracker, note
