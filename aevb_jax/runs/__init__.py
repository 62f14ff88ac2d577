"""Runs in Python: train a configuration, resume it, open what was trained.

`Config` and its parts say what is computed. `train` trains it in a directory, `load` opens a
directory, `save` writes one; `encode`, `decode` and `log_likelihood` ask a run about images.
"""

from aevb_jax.runs.config import (
  AevbConfig,
  BudgetConfig,
  Config,
  DataConfig,
  Machine,
  McemConfig,
  ModelConfig,
  OptimizerConfig,
  members,
  replace,
)
from aevb_jax.runs.loading import (
  LoadedRun,
  decode,
  encode,
  load,
  log_likelihood,
  save,
  train,
)
